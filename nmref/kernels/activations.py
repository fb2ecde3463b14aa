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

_MAGNITUDE, _INFINITY, _NORMAL = np.uint32(0x7FFFFFFF), np.uint32(0x7F800000), np.uint32(0x00800000)
_ONE, _MOST = np.uint32(1), np.uint32(0xFFFFFFFF)


@kernel(forceinline=True)
def traits(x: Array, first: int, last: int) -> int:
    """What rows first ... last - 1 have: the sum of the above."""
    flat, columns = x.reshape(-1), x.shape[1]
    highest, lowest = _ONE - _ONE, _MOST
    for i in range(first * columns, last * columns):
        bits = np.float32(scalar(flat, i, ZERO)).view(np.uint32) & _MAGNITUDE
        highest = max(highest, bits)
        lowest = min(lowest, np.uint32(bits - _ONE))  # a zero becomes the largest
    seen = NOT_FINITE if highest >= _INFINITY else 0
    return seen + (SUBNORMAL if lowest < _NORMAL - _ONE else 0)


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
def pair_up(x: Array, packed: Array, tokens: int) -> int:
    """x [T, K] BF16 bits -> packed [K/64][2][tokens][16] int32, two columns each, T <= tokens."""
    flat, columns = x.reshape(-1), x.shape[1]
    packed[:] = 0
    for t in range(x.shape[0]):
        for c in range(columns):
            part, lane = c >> 5, c >> 1 & 15
            bits = np.int32(flat[t * columns + c])
            packed[(part * tokens + t) * 16 + lane] |= bits << np.int32(16 * (c & 1))
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
