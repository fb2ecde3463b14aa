"""vector.py, vector_x86.py and vector_avx2.py in NumPy, for NUMBA_DISABLE_JIT=1.

Vectors are NumPy arrays; a product and its sum round twice.  So kernels run, slowly, where a
debugger can follow them, and those of AVX-512 are tested where there is none.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nmref.dtypes import Array

VECTOR = ["zeros", "load", "store", "weights", "scalar", "item", "broadcast", "fma", "add", "mul"]
VECTOR += ["tile", "cat", "part", "total", "gather", "transpose", "prefetch", "claim"]
X86 = ["expand", "expand_some", "expand_pairs", "expand_some_pairs", "dot_pairs", "pair", "join"]
AVX2 = ["nibbles", "choose"]
"""The functions of the three modules."""

TILE = 16
STORED = 8
COLUMNS = 64
WEIGHTS = 32
HIGH = np.uint32(0xFFFF0000)


def _wide(found: Array, dtype: Any) -> Array:
    """Weights as an array of float32 or int32 has them, exactly."""
    if found.dtype == np.uint16:
        return (found.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if found.dtype == np.int16:
        return found.view(np.float16).astype(np.float32)
    return found.astype(dtype)


def zeros(like: Array, lanes: int) -> Array:
    """+0 of the array's element type."""
    return np.zeros(lanes, dtype=like.dtype)


def load(array: Array, index: int, lanes: int) -> Array:
    """array[index : index + lanes]."""
    assert 0 <= index <= array.size - lanes, (index, lanes, array.size)
    return array[index : index + lanes].copy()


def store(array: Array, index: int, value: Array) -> None:
    """array[index : index + lanes] = value."""
    assert 0 <= index <= array.size - value.size, (index, value.size, array.size)
    array[index : index + value.size] = value


def weights(values: Array, index: int, like: Array, lanes: int) -> Array:
    """values[index : index + lanes], widened exactly."""
    return _wide(load(values, index, lanes), like.dtype)


def scalar(values: Array, index: int, like: Array) -> Any:
    """values[index], widened exactly."""
    return weights(values, index, like, 1)[0]


def item(array: Array, index: int) -> Any:
    """array[index]."""
    return load(array, index, 1)[0]


def broadcast(value: Any, lanes: int) -> Array:
    """The same number on every lane."""
    return np.full(lanes, value, dtype=np.asarray(value).dtype)


def fma(a: Array, b: Array, c: Array) -> Array:
    """a b + c."""
    return np.asarray(a * b + c)


def add(a: Array, b: Array) -> Array:
    """a + b."""
    return np.asarray(a + b)


def mul(a: Array, b: Array) -> Array:
    """a b."""
    return np.asarray(a * b)


def tile(a: Array, times: int) -> Array:
    """The vector, again and again."""
    return np.tile(a, times)


def cat(a: Array, b: Array) -> Array:
    """The lanes of one vector behind those of the other."""
    return np.concatenate([a, b])


def part(a: Array, first: int, lanes: int) -> Array:
    """Lanes first, first + 1, ..."""
    return a[first : first + lanes]


def total(a: Array) -> Any:
    """The sum of the lanes: halves are added until one is left."""
    while a.size > 1:
        a = a[: a.size // 2] + a[a.size // 2 :]
    return a[0]


def gather(array: Array, index: int, offsets: Array, at: int, lanes: int) -> Array:
    """array[index + offsets[at + i]] in lane i."""
    return array[index + load(offsets, at, lanes).astype(np.intp)]


def transpose(source: Array, at: int, stride: int, target: Array, to: int, step: int) -> None:
    """target[to + j step + i] = source[at + i stride + j], i and j < 16."""
    rows = np.stack([weights(source, at + i * stride, target, TILE) for i in range(TILE)])
    for j in range(TILE):
        store(target, to + j * step, rows[:, j])


def prefetch(array: Array, index: int, near: int) -> None:
    """Nothing."""


def claim(counter: Array, step: int) -> int:
    """counter[0] as it was before `step` was added; for one thread only."""
    before = int(counter[0])
    counter[0] += step
    return before


def expand(values: Array, index: int, word: int) -> Array:
    """32 weights at the ones of a mask of 64 columns."""
    return expand_some(values, index, word, WEIGHTS)


def expand_some(values: Array, index: int, word: int, count: int) -> Array:
    """`count` weights there; in BF16's order of columns where it has one."""
    found = _wide(_spread(values, index, word, count), np.float32)
    if values.dtype == np.uint16:
        found = found.reshape(2, 16, 2).transpose(0, 2, 1).reshape(-1)
    return found


def expand_pairs(values: Array, index: int, word: int) -> Array:
    """BF16 at the ones of a mask, two columns a lane."""
    return expand_some_pairs(values, index, word, WEIGHTS)


def expand_some_pairs(values: Array, index: int, word: int, count: int) -> Array:
    """`count` of them."""
    return _spread(values, index, word, count).view(np.int32)


def _spread(values: Array, index: int, word: int, count: int) -> Array:
    """`count` weights as they are, at the ones of a mask; a last row's mask may have fewer."""
    ones = [c for c in range(COLUMNS) if int(word) >> c & 1][:count]
    spread = np.zeros(COLUMNS, dtype=values.dtype)
    spread[ones] = load(values, index, count)[: len(ones)]
    return spread


def _no_subnormals(a: Array) -> Array:
    return np.where(np.abs(a) < np.finfo(np.float32).tiny, np.float32(0), a)


def dot_pairs(a: Array, b: Array, c: Array) -> Array:
    """c + the products of two pairs of BF16."""
    for shift in (np.uint32(16), np.uint32(0)):  # the lower of the two, then the higher
        left, right = (
            _no_subnormals((pair.view(np.uint32) << shift & HIGH).view(np.float32))
            for pair in (a, b)
        )
        c = _no_subnormals(c + left * right)
    return c


def pair(values: Array, index: int, lanes: int) -> Array:
    """values[index] and values[index + 1], BF16, as one int32 on every lane."""
    return np.repeat(load(values, index, 2).view(np.int32), lanes)


def join(low: Array, high: Array) -> Array:
    """Two float32 vectors that are BF16 -> pairs of BF16."""
    words = low.view(np.uint32) >> np.uint32(16) | high.view(np.uint32)
    return words.view(np.int32)


def nibbles(codes: Array, index: int, groups: int) -> Array:
    """The 8 numbers of 4 bits of each of some uint32."""
    places = 4 * np.arange(STORED, dtype=np.uint32)
    return np.asarray(load(codes, index, groups)[:, None] >> places).reshape(-1).view(np.int32)


def choose(x: Array, index: int, stride: int, columns: Array, tokens: int) -> Array:
    """x[index + 16 g + t stride + columns] of groups g, token after token."""
    groups = 2 * STORED * (np.arange(columns.size) // STORED)
    return np.concatenate([x[index + t * stride + groups + (columns & 15)] for t in range(tokens)])
