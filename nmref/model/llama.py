"""The LLaMA forward, read from top to bottom: tokens -> logits.

SPEC 8.29 to 8.36, line by line.  Letters: T tokens of this call, S positions seen so far (cache
and these), D model width, F MLP width, H query heads, G key/value heads, d = head_dim, V
vocabulary, B sequences computed together (an outer axis, if there is one).  Everything is float32;
every weight is [R, K], y = x W^T.

`ops` is the arithmetic: GOLDEN and the like give the bits that SPEC states, linear.FAST is quick.
`tap(name, array)` is called with every intermediate; calibration and traces are taps.  A tap must
not change or keep what it gets without a copy.  One that has a set `names` gets only those.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nmref.dtypes import Array, widen
from nmref.errors import Code, NmrefError
from nmref.model.config import LlamaConfig
from nmref.numerics import GOLDEN, Ops, rope
from nmref.tensor import SparseWeight

F32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Weights = Mapping[str, SparseWeight | Array]
Tokens = Sequence[int] | Sequence[Sequence[int]] | npt.NDArray[np.integer[Any]]
Tap = Callable[[str, F32], None]

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


QUERIES = 128
"""Positions whose attention is computed at once."""


def input_tap(weight: str) -> str:
    """The tap that sees the input of a linear weight.

    >>> input_tap("model.layers.3.mlp.down_proj.weight")
    'layers.3.activation'
    """
    _, _, layer, kind = weight.removesuffix(".weight").split(".", 3)
    return f"layers.{layer}.{LINEAR_INPUT[kind]}"


class KVCache:
    """Keys (after RoPE) and values of the first `length` positions of every layer.

    `keys` and `values` are [layers, B, G, capacity, d] float32, B sequences of equal length;
    nothing at or past `length` is read.
    """

    def __init__(self, config: LlamaConfig, capacity: int | None = None, batch: int = 1) -> None:
        room = config.max_position_embeddings
        self.capacity = room if capacity is None else min(capacity, room)
        self.batch = batch
        shape = (config.num_hidden_layers, batch, config.G, self.capacity, config.head_dim)
        self.keys: F32 = np.zeros(shape, dtype=np.float32)
        self.values: F32 = np.zeros(shape, dtype=np.float32)
        self.length = 0

    def put(self, layer: int, k: F32, v: F32) -> tuple[F32, F32]:
        """Store k, v [B, G, T, d] at `length`; returns all keys and values so far, [B, G, S, d]."""
        end = self.length + k.shape[2]
        self.keys[layer, :, :, self.length : end] = k
        self.values[layer, :, :, self.length : end] = v
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


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
    return _seen(tap, "embed", widen(_dense(weights["model.embed_tokens.weight"])[ids]))


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
    inner = None if tap is None else _Inner(tap, f"layers.{layer}.")

    def norm(x: F32, name: str) -> F32:
        gain = widen(_dense(weights[f"model.layers.{layer}.{name}.weight"]))
        return ops.rms_norm(x, gain, config.rms_norm_eps)

    def linear(x: F32, name: str) -> F32:
        return _linear(ops, x, weights[f"model.layers.{layer}.{name}.weight"])

    n = _seen(inner, "attn_norm", norm(x, "input_layernorm"))  # [T, D]
    q = _seen(inner, "q", linear(n, "self_attn.q_proj"))  # [T, H*d]
    k = _seen(inner, "k", linear(n, "self_attn.k_proj"))  # [T, G*d]
    v = _seen(inner, "v", linear(n, "self_attn.v_proj"))  # [T, G*d]
    a = attention(config, layer, q, k, v, cache, inner, ops)  # [T, H*d]
    _seen(inner, "attention", a)
    o = _seen(inner, "o", linear(a, "self_attn.o_proj"))  # [T, D]
    x = _seen(inner, "attn_residual", x + o)  # [T, D]

    n = _seen(inner, "mlp_norm", norm(x, "post_attention_layernorm"))  # [T, D]
    gate = _seen(inner, "gate", linear(n, "mlp.gate_proj"))  # [T, F]
    up = _seen(inner, "up", linear(n, "mlp.up_proj"))  # [T, F]
    h = _seen(inner, "activation", ops.silu(gate) * up)  # [T, F]
    down = _seen(inner, "down", linear(h, "mlp.down_proj"))  # [T, D]
    return _seen(inner, "residual", x + down)  # [T, D]


def head(
    weights: Weights, config: LlamaConfig, x: F32, tap: Tap | None = None, ops: Ops = GOLDEN
) -> F32:
    """Final norm and projection onto the vocabulary, x [T, D] -> logits [T, V] (SPEC 8.34)."""
    gain = widen(_dense(weights["model.norm.weight"]))
    n = _seen(tap, "norm", ops.rms_norm(x, gain, config.rms_norm_eps))  # [T, D]
    tied = config.tie_word_embeddings
    w = weights["model.embed_tokens.weight" if tied else "lm_head.weight"]  # [V, D]
    return _seen(tap, "logits", _linear(ops, n, w))  # [T, V]


def attention(
    config: LlamaConfig,
    layer: int,
    q: F32,
    k: F32,
    v: F32,
    cache: KVCache | None = None,
    tap: Tap | None = None,
    ops: Ops = GOLDEN,
) -> F32:
    """Causal grouped-query attention (SPEC 8.33): q [T, H*d], k and v [T, G*d] -> [T, H*d].

    Query head h looks at key/value head h // (H / G).  The heads of a group and QUERIES positions
    at a time, so that their scores [H/G, T, S] fit a cache; all scores, [H, T, S], are together in
    memory only where a tap wants them.
    """
    start, length = 0 if cache is None else cache.length, q.shape[-2]
    cos, sin = rope.tables(config.rope, start, length)  # [T, d/2]
    queries = rope.turn(_heads(q, config.head_dim), cos, sin)  # [B, H, T, d]
    keys, values = rope.turn(_heads(k, config.head_dim), cos, sin), _heads(v, config.head_dim)
    _seen(tap, "q_rope", _rows(queries, q.shape))
    _seen(tap, "k_rope", _rows(keys, k.shape))
    if cache is not None:
        keys, values = cache.put(layer, keys, values)  # [B, G, S, d]
    first, past = visible(config, start, length)  # [T]
    column = np.arange(keys.shape[2])
    allowed = (first[:, None] <= column) & (column < past[:, None])  # [T, S]
    scale = np.float32(1 / np.sqrt(np.float64(config.head_dim)))
    out = np.empty_like(queries)
    seen = _Scores.wanted(tap, len(queries), config.H, allowed)
    share = config.H // config.G
    for b, g, begin in np.ndindex(len(queries), config.G, -(-length // QUERIES)):
        group = slice(g * share, (g + 1) * share)
        rows = slice(begin * QUERIES, min((begin + 1) * QUERIES, length))
        end = past[rows.stop - 1]  # no query of these sees a position from there on
        with np.errstate(all="ignore"):
            scores = ops.scores(queries[b, group, rows], keys[b, g, :end]) * scale  # [H/G, T, S]
        probs = ops.softmax(scores, allowed[rows, :end])  # [H/G, T, S]
        out[b, group, rows] = ops.mix(probs, values[b, g, :end], first[rows], past[rows])
        if seen is not None:
            seen.put((b, group, rows, slice(end)), scores, probs)
    if seen is not None and tap is not None:
        seen.show(tap, q.shape[:-2])
    return _rows(out, q.shape)  # [T, H*d]


class _Scores:
    """Scores and probabilities of all heads [B, H, T, S], put together for a tap."""

    def __init__(self, batch: int, heads: int, allowed: npt.NDArray[np.bool_]) -> None:
        self._allowed = allowed
        self._scores = np.full((batch, heads, *allowed.shape), -np.inf, dtype=np.float32)
        self._probs = np.zeros_like(self._scores)

    @classmethod
    def wanted(
        cls, tap: Tap | None, batch: int, heads: int, allowed: npt.NDArray[np.bool_]
    ) -> _Scores | None:
        """None where no tap looks at them."""
        return cls(batch, heads, allowed) if wants(tap, "scores", "probs") else None

    def put(self, where: tuple[int, slice, slice, slice], scores: F32, probs: F32) -> None:
        """Those of some heads [n, T, S], of their queries and positions."""
        self._scores[where] = np.where(self._allowed[where[2:]], scores, np.float32(-np.inf))
        self._probs[where] = probs

    def show(self, tap: Tap, outer: tuple[int, ...]) -> None:
        """[(B,) H, T, S] to the tap."""
        for name, array in (("scores", self._scores), ("probs", self._probs)):
            _seen(tap, name, array.reshape(*outer, *array.shape[1:]))


def visible(config: LlamaConfig, start: int, count: int) -> tuple[Ints, Ints]:
    """Position t of start ... start + count - 1 sees first[t] <= s < past[t] (SPEC 8.30)."""
    past = np.arange(start, start + count) + 1
    window = config.sliding_window
    return (np.zeros_like(past) if window is None else np.maximum(past - window, 0)), past


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


def _heads(x: F32, dim: int) -> F32:
    """[(B,) T, n*d] -> [B, n, T, d]."""
    return x.reshape(-1, x.shape[-2], x.shape[-1] // dim, dim).transpose(0, 2, 1, 3)


def _rows(x: F32, shape: tuple[int, ...]) -> F32:
    """[B, n, T, d] -> [(B,) T, n*d]."""
    return x.transpose(0, 2, 1, 3).reshape(shape)


def _dense(weight: SparseWeight | Array) -> Array:
    """The embedding and the norms are never packed."""
    if isinstance(weight, SparseWeight):
        raise NmrefError(Code.T_TENSOR, "embedding or norm", "a sparse weight", "a dense one")
    return weight


class _Inner:
    """A tap for the inside of a block: names get the block's before them."""

    def __init__(self, tap: Tap, prefix: str) -> None:
        self._tap, self._prefix = tap, prefix
        names: frozenset[str] | None = getattr(tap, "names", None)
        if names is not None:
            self.names = {n.removeprefix(prefix) for n in names if n.startswith(prefix)}

    def __call__(self, name: str, array: F32) -> None:
        self._tap(self._prefix + name, array)


def wants(tap: Tap | None, *names: str) -> bool:
    """Whether a tap looks at any of these."""
    if tap is None:
        return False
    asked: Collection[str] | None = getattr(tap, "names", None)
    return asked is None or any(name in asked for name in names)


def _seen(tap: Tap | None, name: str, array: F32) -> F32:
    if tap is not None and wants(tap, name):
        tap(name, array)
    return array
