"""Causal grouped-query attention and its derivative, a few queries at a time (SPEC 8.33).

Letters: T tokens, H query heads in G groups of n = H / G, d = head_dim, C queries of a chunk, S
keys that a chunk may see.  Scores exist for one chunk of one group only, [C*n, S], so they stay in
cache and the half that causality forbids costs nothing; backward computes them again from the
logarithm of the softmax's denominator, which is all that forward keeps of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nmref.model.attention import visible
from nmref.model.config import LlamaConfig
from nmref.numerics import rope

Real = npt.NDArray[np.floating[Any]]

_ROWS = 192  # C*n, about: scores of 1,024 keys are 0.8 MB


@dataclass(frozen=True)
class Attended:
    """What backward needs; queries are multiplied by 1 / sqrt(d)."""

    queries: Real  # [G, T, n, d], after RoPE
    keys: Real  # [G, T, d], after RoPE
    values: Real  # [G, T, d]
    log_total: Real  # [G, T, n], log of the sum of exp(scores)


def attend(config: LlamaConfig, q: Real, k: Real, v: Real) -> tuple[Real, Attended]:
    """q [T, H*d], k and v [T, G*d] of positions 0 ... T - 1 -> [T, H*d] and what backward needs."""
    groups, dim = config.G, config.head_dim
    queries = _turned(config, _grouped(q, groups, dim), 1)  # [G, T, n, d]
    queries *= _scale(config)
    keys = _turned(config, _grouped(k, groups, dim), 1)[:, :, 0]  # [G, T, d]
    values = _grouped(v, groups, dim)[:, :, 0]
    out, log_total = np.empty_like(queries), np.empty_like(queries[..., 0])
    buffer = _buffer(config, q)
    for chunk, seen, hidden in _chunks(config, len(q)):
        for g in range(groups):
            scores = _scores(queries[g, chunk], keys[g, seen], hidden, buffer)  # [C*n, S]
            most = scores.max(axis=-1, keepdims=True)
            scores -= most
            np.exp(scores, out=scores)
            total = scores.sum(axis=-1, keepdims=True)  # [C*n, 1]
            mixed = scores @ values[g, seen]
            mixed /= total
            out[g, chunk] = mixed.reshape(out[g, chunk].shape)
            log_total[g, chunk] = (np.log(total) + most).reshape(log_total[g, chunk].shape)
    return _rows(out), Attended(queries, keys, values, log_total)


def attend_back(
    config: LlamaConfig, attended: Attended, y: Real, dy: Real
) -> tuple[Real, Real, Real]:
    """Output y and its derivative dy [T, H*d] -> those by q [T, H*d], k and v [T, G*d].

    With P the probabilities [C*n, S] of a chunk: dV = P^T dY, dP = dY V^T, dS = P (dP - rows' dot
    of dY and Y), dQ = dS K, dK = dS^T Q.
    """
    groups, dim = config.G, config.head_dim
    queries, keys, values = attended.queries, attended.keys, attended.values
    d_out = np.ascontiguousarray(_grouped(dy, groups, dim))  # [G, T, n, d]
    pull = np.vecdot(d_out, _grouped(y, groups, dim))[..., None]  # [G, T, n, 1]
    d_queries = np.empty_like(queries)
    d_keys, d_values = np.zeros_like(keys), np.zeros_like(keys)
    first, second = _buffer(config, y), _buffer(config, y)
    for chunk, seen, hidden in _chunks(config, len(y)):
        for g in range(groups):
            rows, d_rows = queries[g, chunk].reshape(-1, dim), d_out[g, chunk].reshape(-1, dim)
            p = _scores(queries[g, chunk], keys[g, seen], hidden, first)  # [C*n, S]
            p -= attended.log_total[g, chunk].reshape(-1, 1)
            np.exp(p, out=p)
            d_values[g, seen] += p.T @ d_rows
            d_scores = _product(d_rows, values[g, seen].T, second)
            d_scores -= pull[g, chunk].reshape(-1, 1)
            d_scores *= p
            d_queries[g, chunk] = (d_scores @ keys[g, seen]).reshape(d_queries[g, chunk].shape)
            d_keys[g, seen] += d_scores.T @ rows
    d_queries *= _scale(config)
    d_q, d_k = _turned(config, d_queries, -1), _turned(config, d_keys[:, :, None], -1)
    return _rows(d_q), _rows(d_k), _rows(d_values[:, :, None])


def _scale(config: LlamaConfig) -> float:
    return 1 / float(np.sqrt(config.head_dim))


def _grouped(x: Real, groups: int, dim: int) -> Real:
    """[T, G*n*d] -> [G, T, n, d], a view."""
    return x.reshape(len(x), groups, -1, dim).transpose(1, 0, 2, 3)


def _rows(x: Real) -> Real:
    """[G, T, n, d] -> [T, G*n*d]."""
    return x.transpose(1, 0, 2, 3).reshape(x.shape[1], -1)


def _turned(config: LlamaConfig, x: Real, sign: int) -> Real:
    """RoPE of x [G, T, n, d] (SPEC 8.24); `sign` -1 turns back, which is its derivative."""
    cos, sin = (table.astype(x.dtype)[:, None] for table in rope.tables(config.rope, 0, x.shape[1]))
    sin *= sign  # [T, 1, d/2]
    half = config.head_dim // 2
    low, high = x[..., :half], x[..., half:]
    y = np.empty(x.shape, dtype=x.dtype)
    np.subtract(low * cos, high * sin, out=y[..., :half])
    np.add(high * cos, low * sin, out=y[..., half:])
    return y


def _chunks(config: LlamaConfig, count: int) -> Iterator[tuple[slice, slice, Real]]:
    """(positions of a chunk of queries, of the keys any of them sees, [C, 1, S]).

    The third is 0 where the query sees the key and -Inf elsewhere.
    """
    first, past = visible(config, 0, count)  # [T]
    step = _step(config)
    for begin in range(0, count, step):
        end = min(begin + step, count)
        low = int(first[begin])
        key = np.arange(low, end)
        seen = (first[begin:end, None] <= key) & (key < past[begin:end, None])  # [C, S]
        hidden = np.where(seen, np.float32(0), np.float32(-np.inf))
        yield slice(begin, end), slice(low, end), hidden[:, None]


def _step(config: LlamaConfig) -> int:
    return max(_ROWS * config.G // config.H, 1)


def _buffer(config: LlamaConfig, like: Real) -> Real:
    """Room for the scores of a chunk, used over and over."""
    return np.empty(_step(config) * config.H // config.G * len(like), dtype=like.dtype)


def _product(a: Real, b: Real, buffer: Real) -> Real:
    """A b in the buffer, contiguous."""
    out = buffer[: len(a) * b.shape[1]].reshape(len(a), b.shape[1])
    return np.matmul(a, b, out=out)


def _scores(queries: Real, keys: Real, hidden: Real, buffer: Real) -> Real:
    """Queries [C, n, d], keys [S, d] -> [C*n, S], -Inf where hidden."""
    scores = _product(queries.reshape(-1, queries.shape[-1]), keys.T, buffer)
    seen_by = scores.reshape(*queries.shape[:2], len(keys))
    seen_by += hidden
    return scores
