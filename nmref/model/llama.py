"""The LLaMA forward, read from top to bottom: tokens -> logits.

Letters: T tokens of this call, S positions seen so far (cache and these), D model width, F MLP
width, H query heads, G key/value heads, d = head_dim, V vocabulary.  Everything is float32; every
weight is [R, K], y = x W^T.  `tap(name, array)` is called with every intermediate; calibration
and traces are taps.  A tap must not change or keep what it gets without a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from nmref.dtypes import Array, widen
from nmref.errors import Code, NmrefError
from nmref.model.config import LlamaConfig
from nmref.numerics import matmul
from nmref.tensor import SparseWeight

F32 = npt.NDArray[np.float32]
Weights = Mapping[str, SparseWeight | Array]
Tokens = Sequence[int] | npt.NDArray[np.integer[Any]]
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


def input_tap(weight: str) -> str:
    """The tap that sees the input of a linear weight.

    >>> input_tap("model.layers.3.mlp.down_proj.weight")
    'layers.3.activation'
    """
    _, _, layer, kind = weight.removesuffix(".weight").split(".", 3)
    return f"layers.{layer}.{LINEAR_INPUT[kind]}"


class KVCache:
    """Keys (after RoPE) and values of the first `length` positions of every layer.

    `keys` and `values` are [layers, G, capacity, d] float32; nothing at or past `length` is read.
    """

    def __init__(self, config: LlamaConfig, capacity: int | None = None) -> None:
        room = config.max_position_embeddings
        self.capacity = room if capacity is None else min(capacity, room)
        shape = (config.num_hidden_layers, config.G, self.capacity, config.head_dim)
        self.keys: F32 = np.zeros(shape, dtype=np.float32)
        self.values: F32 = np.zeros(shape, dtype=np.float32)
        self.length = 0

    def put(self, layer: int, k: F32, v: F32) -> tuple[F32, F32]:
        """Store k, v [G, T, d] at `length`; returns all keys and values so far, [G, S, d]."""
        end = self.length + k.shape[1]
        self.keys[layer, :, self.length : end] = k
        self.values[layer, :, self.length : end] = v
        return self.keys[layer, :, :end], self.values[layer, :, :end]


def forward(
    weights: Weights,
    config: LlamaConfig,
    tokens: Tokens,
    cache: KVCache | None = None,
    tap: Tap | None = None,
) -> F32:
    """Tokens [T] -> logits [T, V].  With a cache they continue what it holds, and it grows by T.

    Raises T_ARGUMENT: no tokens, an id outside the vocabulary, more positions than the context.
    """
    return head(weights, config, hidden(weights, config, tokens, cache, tap), tap)


def hidden(
    weights: Weights,
    config: LlamaConfig,
    tokens: Tokens,
    cache: KVCache | None = None,
    tap: Tap | None = None,
) -> F32:
    """Tokens [T] -> output of the last block [T, D]: `forward` without the head."""
    check_tokens(config, tokens, cache)
    x = embed(weights, tokens, tap)  # [T, D]
    for layer in range(config.num_hidden_layers):
        x = block(weights, config, layer, x, cache, tap)  # [T, D]
    if cache is not None:
        cache.length += len(x)
    return x


def embed(weights: Weights, tokens: Tokens, tap: Tap | None = None) -> F32:
    """Tokens [T] -> rows of the embedding [T, D]."""
    ids = np.asarray(tokens, dtype=np.int64)
    return _seen(tap, "embed", widen(_dense(weights["model.embed_tokens.weight"])[ids]))


def block(
    weights: Weights,
    config: LlamaConfig,
    layer: int,
    x: F32,
    cache: KVCache | None = None,
    tap: Tap | None = None,
) -> F32:
    """One transformer block, x [T, D] -> [T, D].  Its positions begin at cache.length, or at 0."""
    inner = None if tap is None else lambda name, array: tap(f"layers.{layer}.{name}", array)
    eps = config.rms_norm_eps

    def weight(name: str) -> SparseWeight | Array:
        return weights[f"model.layers.{layer}.{name}.weight"]

    n = rms_norm(x, weight("input_layernorm"), eps)  # [T, D]
    _seen(inner, "attn_norm", n)
    q = _seen(inner, "q", matmul(n, weight("self_attn.q_proj")))  # [T, H*d]
    k = _seen(inner, "k", matmul(n, weight("self_attn.k_proj")))  # [T, G*d]
    v = _seen(inner, "v", matmul(n, weight("self_attn.v_proj")))  # [T, G*d]
    a = _seen(inner, "attention", attention(config, layer, q, k, v, cache, inner))  # [T, H*d]
    o = _seen(inner, "o", matmul(a, weight("self_attn.o_proj")))  # [T, D]
    x = _seen(inner, "attn_residual", x + o)  # [T, D]

    n = rms_norm(x, weight("post_attention_layernorm"), eps)  # [T, D]
    _seen(inner, "mlp_norm", n)
    gate = _seen(inner, "gate", matmul(n, weight("mlp.gate_proj")))  # [T, F]
    up = _seen(inner, "up", matmul(n, weight("mlp.up_proj")))  # [T, F]
    h = _seen(inner, "activation", silu(gate) * up)  # [T, F]
    down = _seen(inner, "down", matmul(h, weight("mlp.down_proj")))  # [T, D]
    return _seen(inner, "residual", x + down)  # [T, D]


def head(weights: Weights, config: LlamaConfig, x: F32, tap: Tap | None = None) -> F32:
    """Final norm and projection onto the vocabulary, x [T, D] -> logits [T, V]."""
    n = _seen(tap, "norm", rms_norm(x, weights["model.norm.weight"], config.rms_norm_eps))
    tied = config.tie_word_embeddings
    w = weights["model.embed_tokens.weight" if tied else "lm_head.weight"]  # [V, D]
    return _seen(tap, "logits", matmul(n, w))  # [T, V]


def attention(
    config: LlamaConfig,
    layer: int,
    q: F32,
    k: F32,
    v: F32,
    cache: KVCache | None = None,
    tap: Tap | None = None,
) -> F32:
    """Causal grouped-query attention: q [T, H*d], k and v [T, G*d] -> [T, H*d].

    Query head h looks at key/value head h // (H / G).  One group at a time: the scores of all
    heads, [H, T, S], are together in memory only when they are tapped.
    """
    start = 0 if cache is None else cache.length
    cos, sin = rope_tables(config.rope_theta, config.head_dim, start, len(q))  # [T, d/2]
    queries = rope(_heads(q, config.head_dim), cos, sin)  # [H, T, d]
    keys, values = rope(_heads(k, config.head_dim), cos, sin), _heads(v, config.head_dim)
    _seen(tap, "q_rope", _rows(queries))
    _seen(tap, "k_rope", _rows(keys))
    if cache is not None:
        keys, values = cache.put(layer, keys, values)  # [G, S, d]
    future = np.arange(keys.shape[1]) > start + np.arange(len(q))[:, None]  # [T, S]
    scale = np.float32(1 / np.sqrt(config.head_dim))
    out: list[F32] = []
    kept: list[tuple[F32, F32]] = []
    for group, key, value in zip(np.split(queries, config.G), keys, values, strict=True):
        scores = np.where(future, np.float32(-np.inf), group @ key.T * scale)  # [H/G, T, S]
        probs = softmax(scores)  # [H/G, T, S]
        out.append(probs @ value)  # [H/G, T, d]
        if tap is not None:
            kept.append((scores, probs))
    if tap is not None:
        tap("scores", np.concatenate([scores for scores, _ in kept]))  # [H, T, S]
        tap("probs", np.concatenate([probs for _, probs in kept]))  # [H, T, S]
    return _rows(np.concatenate(out))  # [T, H*d]


def rms_norm(x: F32, weight: SparseWeight | Array, eps: float) -> F32:
    """weight * (x / sqrt(mean(x^2) + eps)) over the last axis; the mean is taken in float64."""
    mean = np.mean(np.square(x, dtype=np.float64), axis=-1, keepdims=True)  # [T, 1]
    scale: F32 = (1 / np.sqrt(mean + eps)).astype(np.float32)  # [T, 1]
    y: F32 = x * scale * widen(_dense(weight))  # [T, D]
    return y


def softmax(x: F32) -> F32:
    """Over the last axis; the sum is taken in float64."""
    e: F32 = np.exp(x - x.max(axis=-1, keepdims=True))
    total: F32 = e.sum(axis=-1, keepdims=True, dtype=np.float64).astype(np.float32)
    y: F32 = e / total
    return y


def silu(x: F32) -> F32:
    """x / (1 + exp(-x))."""
    with np.errstate(over="ignore"):  # exp(-x) = inf gives the right limit, -0
        y: F32 = x / (1 + np.exp(-x))
    return y


@lru_cache(maxsize=4)  # every layer of one call asks for the same table
def rope_tables(theta: float, dim: int, start: int, count: int) -> tuple[F32, F32]:
    """Cos and sin of position * theta^(-2i/d), each [count, d/2], from float64."""
    frequency = theta ** (-np.arange(0, dim, 2) / dim)  # [d/2]
    angle = np.arange(start, start + count)[:, None] * frequency  # [T, d/2]
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def rope(x: F32, cos: F32, sin: F32) -> F32:
    """Turn the pairs (i, i + d/2) of every head (half-split form): x [n, T, d] -> [n, T, d]."""
    low, high = np.split(x, 2, axis=-1)  # [n, T, d/2]
    return np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)


def check_tokens(config: LlamaConfig, tokens: Tokens, cache: KVCache | None = None) -> None:
    """Ids in the vocabulary and room for them.  Raises T_ARGUMENT."""
    ids = np.asarray(tokens)
    if ids.ndim != 1 or not len(ids) or not np.issubdtype(ids.dtype, np.integer):
        got = f"shape {list(ids.shape)} of {ids.dtype}"
        raise NmrefError(Code.T_ARGUMENT, "tokens", got, "a list of at least one token id")
    bad = np.flatnonzero((ids < 0) | (ids >= config.V))
    if len(bad):
        where = f"tokens position {bad[0]}"
        raise NmrefError(Code.T_ARGUMENT, where, f"id {ids[bad[0]]}", f"0 to {config.V - 1}")
    held = 0 if cache is None else cache.length
    room = config.max_position_embeddings if cache is None else cache.capacity
    if held + len(ids) > room:
        got = f"{held + len(ids)} positions"
        raise NmrefError(Code.T_ARGUMENT, "context", got, f"at most {room}")


def _heads(x: F32, dim: int) -> F32:
    """[T, n*d] -> [n, T, d]."""
    return x.reshape(len(x), -1, dim).transpose(1, 0, 2)


def _rows(x: F32) -> F32:
    """[n, T, d] -> [T, n*d]."""
    return x.transpose(1, 0, 2).reshape(x.shape[1], -1)


def _dense(weight: SparseWeight | Array) -> Array:
    """The embedding and the norms are never packed."""
    if isinstance(weight, SparseWeight):
        raise NmrefError(Code.T_TENSOR, "embedding or norm", "a sparse weight", "a dense one")
    return weight


def _seen(tap: Tap | None, name: str, array: F32) -> F32:
    if tap is not None:
        tap(name, array)
    return array
