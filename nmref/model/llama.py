"""The LLaMA forward, read from top to bottom: tokens -> logits.

SPEC 8.29 to 8.36, line by line.  Letters: T tokens of this call, S positions seen so far (cache
and these), D model width, F MLP width, H query heads, G key/value heads, d = head_dim, V
vocabulary, B sequences computed together (an outer axis, if there is one).  Everything is float32;
every weight is [R, K], y = x W^T.

`ops` is the arithmetic: GOLDEN and the like give the bits that SPEC states, linear.FAST is quick.
`tap(name, array)` is called with every intermediate (`taps.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nmref.dtypes import Array, widen
from nmref.errors import Code, NmrefError
from nmref.model.attention import KVCache, attention
from nmref.model.config import LlamaConfig
from nmref.model.taps import Inside, Tap, seen
from nmref.numerics import GOLDEN, Ops
from nmref.tensor import SparseWeight

F32 = npt.NDArray[np.float32]
Weights = Mapping[str, SparseWeight | Array]
Tokens = Sequence[int] | Sequence[Sequence[int]] | npt.NDArray[np.integer[Any]]

LINEAR_INPUT = {
    "self_attn.q_proj": "attn_norm",
    "self_attn.k_proj": "attn_norm",
    "self_attn.v_proj": "attn_norm",
    "self_attn.o_proj": "attention",
    "mlp.gate_proj": "mlp_norm",
    "mlp.up_proj": "mlp_norm",
    "mlp.down_proj": "activation",
}
"""Kind of linear layer -> the tap inside its block that is its input x [T, K]."""


def input_tap(weight: str) -> str:
    """The tap that sees the input of a linear weight.

    >>> input_tap("model.layers.3.mlp.down_proj.weight")
    'layers.3.activation'
    """
    _, _, layer, kind = weight.removesuffix(".weight").split(".", 3)
    return f"layers.{layer}.{LINEAR_INPUT[kind]}"


def forward(
    weights: Weights,
    config: LlamaConfig,
    tokens: Tokens,
    cache: KVCache | None = None,
    tap: Tap | None = None,
    ops: Ops = GOLDEN,
) -> F32:
    """Tokens [T] or [B, T] -> logits [(B,) T, V].

    With a cache they continue what it holds, and it grows by T.  With `ops` golden the logits of a
    position are the same bits however many positions and sequences are computed together
    (SPEC 8.35).

    Raises T_ARGUMENT: no tokens, an id outside the vocabulary, more positions than the context.
    """
    return head(weights, config, hidden(weights, config, tokens, cache, tap, ops), tap, ops)


def hidden(
    weights: Weights,
    config: LlamaConfig,
    tokens: Tokens,
    cache: KVCache | None = None,
    tap: Tap | None = None,
    ops: Ops = GOLDEN,
) -> F32:
    """Tokens [T] or [B, T] -> output of the last block [(B,) T, D]: `forward` without the head."""
    check_tokens(config, tokens, cache)
    x = embed(weights, tokens, tap)  # [T, D]
    for layer in range(config.num_hidden_layers):
        x = block(weights, config, layer, x, cache, tap, ops)  # [T, D]
    if cache is not None:
        cache.length += x.shape[-2]
    return x


def embed(weights: Weights, tokens: Tokens, tap: Tap | None = None) -> F32:
    """Tokens [T] -> rows of the embedding [T, D] (SPEC 8.31)."""
    ids = np.asarray(tokens, dtype=np.int64)
    return seen(tap, "embed", widen(_dense(weights["model.embed_tokens.weight"])[ids]))


def block(
    weights: Weights,
    config: LlamaConfig,
    layer: int,
    x: F32,
    cache: KVCache | None = None,
    tap: Tap | None = None,
    ops: Ops = GOLDEN,
) -> F32:
    """One transformer block, x [T, D] -> [T, D] (SPEC 8.32).

    Its positions begin at cache.length, or at 0.
    """
    inner = None if tap is None else Inside(tap, f"layers.{layer}.")

    def norm(x: F32, name: str) -> F32:
        gain = widen(_dense(weights[f"model.layers.{layer}.{name}.weight"]))
        return ops.rms_norm(x, gain, config.rms_norm_eps)

    def linear(x: F32, name: str) -> F32:
        return _linear(ops, x, weights[f"model.layers.{layer}.{name}.weight"])

    n = seen(inner, "attn_norm", norm(x, "input_layernorm"))  # [T, D]
    q = seen(inner, "q", linear(n, "self_attn.q_proj"))  # [T, H*d]
    k = seen(inner, "k", linear(n, "self_attn.k_proj"))  # [T, G*d]
    v = seen(inner, "v", linear(n, "self_attn.v_proj"))  # [T, G*d]
    a = attention(config, layer, q, k, v, cache, inner, ops)  # [T, H*d]
    seen(inner, "attention", a)
    o = seen(inner, "o", linear(a, "self_attn.o_proj"))  # [T, D]
    x = seen(inner, "attn_residual", x + o)  # [T, D]

    n = seen(inner, "mlp_norm", norm(x, "post_attention_layernorm"))  # [T, D]
    gate = seen(inner, "gate", linear(n, "mlp.gate_proj"))  # [T, F]
    up = seen(inner, "up", linear(n, "mlp.up_proj"))  # [T, F]
    h = seen(inner, "activation", ops.silu(gate) * up)  # [T, F]
    down = seen(inner, "down", linear(h, "mlp.down_proj"))  # [T, D]
    return seen(inner, "residual", x + down)  # [T, D]


def head(
    weights: Weights, config: LlamaConfig, x: F32, tap: Tap | None = None, ops: Ops = GOLDEN
) -> F32:
    """Final norm and projection onto the vocabulary, x [T, D] -> logits [T, V] (SPEC 8.34)."""
    gain = widen(_dense(weights["model.norm.weight"]))
    n = seen(tap, "norm", ops.rms_norm(x, gain, config.rms_norm_eps))  # [T, D]
    tied = config.tie_word_embeddings
    w = weights["model.embed_tokens.weight" if tied else "lm_head.weight"]  # [V, D]
    return seen(tap, "logits", _linear(ops, n, w))  # [T, V]


def check_tokens(config: LlamaConfig, tokens: Tokens, cache: KVCache | None = None) -> None:
    """Ids in the vocabulary and room for them.  Raises T_ARGUMENT."""
    ids = np.asarray(tokens)
    if ids.ndim not in (1, 2) or not ids.size or not np.issubdtype(ids.dtype, np.integer):
        got = f"shape {list(ids.shape)} of {ids.dtype}"
        raise NmrefError(Code.T_ARGUMENT, "tokens", got, "a list of at least one token id")
    bad = np.argwhere((ids < 0) | (ids >= config.V))
    if len(bad):
        where = f"tokens position {' '.join(map(str, bad[0]))}"
        raise NmrefError(Code.T_ARGUMENT, where, f"id {ids[tuple(bad[0])]}", f"0 to {config.V - 1}")
    if cache is not None and cache.batch != ids.size // ids.shape[-1]:
        got = f"{ids.size // ids.shape[-1]} sequences"
        raise NmrefError(Code.T_ARGUMENT, "tokens", got, f"the cache's {cache.batch}")
    held = 0 if cache is None else cache.length
    room = config.max_position_embeddings if cache is None else cache.capacity
    if held + ids.shape[-1] > room:
        got = f"{held + ids.shape[-1]} positions"
        raise NmrefError(Code.T_ARGUMENT, "context", got, f"at most {room}")


def _linear(ops: Ops, x: F32, weight: SparseWeight | Array) -> F32:
    """[..., K] -> [..., R]: every row of x is on its own."""
    return ops.linear(x.reshape(-1, x.shape[-1]), weight).reshape(*x.shape[:-1], -1)


def _dense(weight: SparseWeight | Array) -> Array:
    """The embedding and the norms are never packed."""
    if isinstance(weight, SparseWeight):
        raise NmrefError(Code.T_TENSOR, "embedding or norm", "a sparse weight", "a dense one")
    return weight
