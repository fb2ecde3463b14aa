"""Causal grouped-query attention and the cache of keys and values (SPEC 8.30, 8.33).

Letters as in `llama.py`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nmref.model.config import LlamaConfig
from nmref.model.taps import Tap, seen, wants
from nmref.numerics import GOLDEN, Ops, rope

F32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

QUERIES = 128
"""Positions whose attention is computed at once."""


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
    seen(tap, "q_rope", _rows(queries, q.shape))
    seen(tap, "k_rope", _rows(keys, k.shape))
    if cache is not None:
        keys, values = cache.put(layer, keys, values)  # [B, G, S, d]
    first, past = visible(config, start, length)  # [T]
    column = np.arange(keys.shape[2])
    allowed = (first[:, None] <= column) & (column < past[:, None])  # [T, S]
    scale = np.float32(1 / np.sqrt(np.float64(config.head_dim)))
    out = np.empty_like(queries)
    all_scores = _Scores.wanted(tap, len(queries), config.H, allowed)
    share = config.H // config.G
    for b, g, begin in np.ndindex(len(queries), config.G, -(-length // QUERIES)):
        group = slice(g * share, (g + 1) * share)
        rows = slice(begin * QUERIES, min((begin + 1) * QUERIES, length))
        end = past[rows.stop - 1]  # no query of these sees a position from there on
        with np.errstate(all="ignore"):
            scores = ops.scores(queries[b, group, rows], keys[b, g, :end]) * scale  # [H/G, T, S]
        probs = ops.softmax(scores, allowed[rows, :end])  # [H/G, T, S]
        out[b, group, rows] = ops.mix(probs, values[b, g, :end], first[rows], past[rows])
        if all_scores is not None:
            all_scores.put((b, group, rows, slice(end)), scores, probs)
    if all_scores is not None and tap is not None:
        all_scores.show(tap, q.shape[:-2])
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
            seen(tap, name, array.reshape(*outer, *array.shape[1:]))


def visible(config: LlamaConfig, start: int, count: int) -> tuple[Ints, Ints]:
    """Position t of start ... start + count - 1 sees first[t] <= s < past[t] (SPEC 8.30)."""
    past = np.arange(start, start + count) + 1
    window = config.sliding_window
    return (np.zeros_like(past) if window is None else np.maximum(past - window, 0)), past


def _heads(x: F32, dim: int) -> F32:
    """[(B,) T, n*d] -> [B, n, T, d]."""
    return x.reshape(-1, x.shape[-2], x.shape[-1] // dim, dim).transpose(0, 2, 1, 3)


def _rows(x: F32, shape: tuple[int, ...]) -> F32:
    """[B, n, T, d] -> [(B,) T, n*d]."""
    return x.transpose(0, 2, 1, 3).reshape(shape)
