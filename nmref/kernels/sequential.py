"""Golden dots whose order is one column after the other (SPEC 8.7 to 8.10, 8.14).

The order within one output is normative, so the loops are vectorised across outputs: 32 rows of W
are turned into a tile whose 32 lanes are rows.  Every kernel has the same arguments:

weight [R, K], x [T, K], begin and end [T] (terms exist for begin[t] <= column < end[t]), y [T, R].

A zero weight makes no term: x is taken as +0 there, and adding a zero changes no accumulator, as
none is ever -0.  The same loop then does for infinite x.
"""

from __future__ import annotations

import numpy as np

from nmref.dtypes import Array
from nmref.kernels.compile import kernel

ROWS = 32
COLUMNS = 256

golden = kernel
inner = kernel(forceinline=True)


@inner
def turned(weight: Array, row: int, column: int, tile: Array) -> None:
    """tile[c, i] = weight[row + i, column + c], +0 past the last row."""
    zero = np.float32(0)
    rows = min(ROWS, weight.shape[0] - row)
    columns = min(tile.shape[0], weight.shape[1] - column)
    for i in range(rows):
        for c in range(columns):
            tile[c, i] = weight[row + i, column + c]
    for c in range(columns):
        for i in range(rows, ROWS):
            tile[c, i] = zero


@inner
def fma32(w: np.float32, x: np.float32, a: np.float32) -> np.float32:
    """RN32(w * x + a), by binary64.

    The product is exact; s + e is the exact sum (Knuth).  Where s is inexact and even, the odd
    neighbour on e's side stands for it: rounding that to binary32 is rounding the exact sum.
    """
    p = np.float64(w) * np.float64(x)
    c = np.float64(a)
    s = p + c
    b = s - p
    e = (p - (s - b)) + (c - b)
    bits = np.float64(s).view(np.int64)
    inexact = (e > 0) | (e < 0)
    outward = (e > 0) == (s > 0)
    if inexact and (bits & 1) == 0:
        bits += np.int64(1) if outward else np.int64(-1)
    return np.float32(np.int64(bits).view(np.float64))


@golden
def f64_seq(weight: Array, x: Array, begin: Array, end: Array, y: Array) -> None:
    """SPEC 8.7."""
    zero = np.float32(0)
    tokens, tile = x.shape[0], np.zeros((COLUMNS, ROWS), dtype=np.float32)
    acc = np.zeros((tokens, ROWS), dtype=np.float64)
    for row in range(0, weight.shape[0], ROWS):
        acc[:] = 0
        for column in range(0, weight.shape[1], COLUMNS):
            turned(weight, row, column, tile)
            for t in range(tokens):
                first, last = max(begin[t] - column, 0), min(end[t] - column, COLUMNS)
                for c in range(first, last):
                    value = x[t, column + c]
                    for i in range(ROWS):
                        w = tile[c, i]
                        acc[t, i] += np.float64(w) * np.float64(value if w != zero else zero)
        for t in range(tokens):
            for i in range(min(ROWS, weight.shape[0] - row)):
                y[t, row + i] = np.float32(acc[t, i])


@golden
def f32_lanes(
    weight: Array, x: Array, begin: Array, end: Array, y: Array, lanes: int, fused: bool
) -> None:
    """SPEC 8.10; one lane is SPEC 8.8 and 8.9."""
    zero = np.float32(0)
    tokens, tile = x.shape[0], np.zeros((COLUMNS, ROWS), dtype=np.float32)
    acc = np.zeros((tokens, lanes, ROWS), dtype=np.float32)
    for row in range(0, weight.shape[0], ROWS):
        acc[:] = 0
        for column in range(0, weight.shape[1], COLUMNS):
            turned(weight, row, column, tile)
            for t in range(tokens):
                first, last = max(begin[t] - column, 0), min(end[t] - column, COLUMNS)
                for c in range(first, last):
                    value, lane = x[t, column + c], (column + c) & (lanes - 1)
                    if fused:
                        for i in range(ROWS):
                            w = tile[c, i]
                            a = acc[t, lane, i]
                            acc[t, lane, i] = fma32(w, value if w != zero else zero, a)
                    else:
                        for i in range(ROWS):
                            w = tile[c, i]
                            acc[t, lane, i] += w * (value if w != zero else zero)
        _add_halves(acc, lanes)
        for t in range(tokens):
            for i in range(min(ROWS, weight.shape[0] - row)):
                y[t, row + i] = acc[t, 0, i]


@inner
def _add_halves(acc: Array, lanes: int) -> None:
    half = lanes // 2
    while half > 0:
        for t in range(acc.shape[0]):
            for lane in range(half):
                for i in range(ROWS):
                    acc[t, lane, i] += acc[t, lane + half, i]
        half //= 2


@golden
def i32(weight: Array, x: Array, y: Array) -> None:
    """SPEC 8.14: weight [R, K] and x [T, K] I8, y [T, R] I32; int32 wraps modulo 2^32."""
    for t in range(x.shape[0]):
        for r in range(weight.shape[0]):
            total = np.int32(0)
            for c in range(weight.shape[1]):
                total = np.int32(total + np.int32(weight[r, c]) * np.int32(x[t, c]))
            y[t, r] = total
