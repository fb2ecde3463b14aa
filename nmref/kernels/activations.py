"""Activations x [T, K], repacked for the kernels that multiply, and y brought back from there.

x is float32, BF16 as uint16, F16 as int16, or int8; what is packed is float32, or int32 from int8.
Tokens and columns past the last are zeros.  Each function takes the tokens that it claims, so that
several threads may call it at once; each returns the traits of its x.
"""

from __future__ import annotations

import numpy as np

from nmref.dtypes import Array
from nmref.kernels.compile import kernel
from nmref.kernels.vector import claim, scalar, transpose

TILE = 16
ZERO = np.zeros(0, dtype=np.float32)


NOT_FINITE = 1
SUBNORMAL = 2
"""Traits: a NaN or an infinity is among the values; one that is not zero and has exponent 0."""

_SMALLEST = np.float32(2.0**-126)


@kernel(forceinline=True)
def traits(x: Array, first: int, last: int) -> int:
    """What rows first ... last - 1 have: the sum of the above."""
    flat, columns = x.reshape(-1), x.shape[1]
    high, low = np.float32(0), 0
    for i in range(first * columns, last * columns):
        value = scalar(flat, i, ZERO)
        high += value * np.float32(0)
        low |= (value != np.float32(0)) & (abs(value) < _SMALLEST)
    return (NOT_FINITE if high != np.float32(0) else 0) + SUBNORMAL * low


@kernel
def interleave(x: Array, packed: Array, tokens: int, size: int, halves: int) -> int:
    """x [T, K] -> packed [K/64][64/size][tokens][size], T <= tokens.

    `halves` = 1: of each 32 columns the 16 even ones come first (vector_x86.expand of BF16).
    """
    flat, columns = x.reshape(-1), x.shape[1]
    packed[:] = np.float32(0)
    for t in range(x.shape[0]):
        for c in range(columns):
            place = c
            if halves:
                place = (c & ~31) + ((c & 1) << 4) + ((c & 31) >> 1)
            part = place // size
            to = (part * tokens + t) * size + (place - part * size)
            packed[to] = scalar(flat, t * columns + c, packed)
    return traits(x, 0, x.shape[0])


@kernel
def widen(x: Array, out: Array) -> int:
    """x [T, K] -> the first rows and columns of out [>= T, >= K], which was zeros."""
    flat, columns = x.reshape(-1), x.shape[1]
    for t in range(x.shape[0]):
        for c in range(columns):
            out[t, c] = scalar(flat, t * columns + c, out)
    return traits(x, 0, x.shape[0])


@kernel
def panels(x: Array, packed: Array, lanes: int, height: int, counter: Array) -> int:
    """x [T, K] -> packed [ceil(T/lanes)][height][lanes]: tokens lie along the lanes.

    height >= K.  Claims 16 tokens at a time.
    """
    flat, tokens, columns = x.reshape(-1), x.shape[0], x.shape[1]
    seen = 0
    panels = (tokens + lanes - 1) // lanes
    while True:
        first = claim(counter, TILE)
        if first >= panels * lanes:
            return seen
        last = min(first + TILE, tokens)
        target = (first // lanes) * height * lanes + first % lanes
        whole = columns // TILE * TILE if last - first == TILE else 0
        for c in range(0, whole, TILE):
            transpose(flat, first * columns + c, columns, packed, target + c * lanes, lanes)
        for c in range(whole, height):
            for t in range(first, first + TILE):
                to = target + c * lanes + t - first
                inside = t < last and c < columns
                packed[to] = (
                    scalar(flat, t * columns + c, packed) if inside else packed.dtype.type(0)
                )
        seen |= traits(x, first, max(first, last))


@kernel(forceinline=True)
def unpack(scratch: Array, lanes: int, y: Array, token: int, row: int, rows: int) -> None:
    """scratch [rows][lanes] -> y[token + lane, row + i], where y has such a token."""
    flat, stride = y.reshape(-1), y.shape[1]
    for t in range(0, lanes, TILE):
        there = min(y.shape[0] - token - t, TILE)
        whole = rows // TILE * TILE if there == TILE else 0
        for r in range(0, whole, TILE):
            transpose(scratch, r * lanes + t, lanes, flat, (token + t) * stride + row + r, stride)
        for r in range(whole, rows):
            for i in range(there):
                flat[(token + t + i) * stride + row + r] = scratch[r * lanes + t + i]
