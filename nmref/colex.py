"""Colex rank and unrank: masks to codes and back (SPEC part 2).

code(mask) = the number of M-bit integers with N one bits that are smaller than the mask
           = sum over stored positions p_1 < ... < p_N of C(p_j, j).
"""

from __future__ import annotations

from functools import cache
from math import comb
from typing import Any

import numpy as np
import numpy.typing as npt

from nmref.dtypes import Array
from nmref.pattern import NMPattern

Bool = npt.NDArray[np.bool_]


def code_dtype(pattern: NMPattern) -> np.dtype[np.generic]:
    """uint64, or Python integers where a code is wider than 64 bits (16:256 has 84)."""
    return np.dtype(np.uint64) if pattern.width <= 64 else np.dtype(object)


@cache
def binomials(pattern: NMPattern) -> Array:
    """C(p, j) for 0 <= p < M and 0 <= j <= N, shape [M, N + 1]."""
    rows = [[comb(p, j) for j in range(pattern.stored + 1)] for p in range(pattern.block)]
    return np.array(rows, dtype=code_dtype(pattern))


def rank(stored: Bool, pattern: NMPattern) -> Array:
    """Codes of blocks: stored [..., M] with N true each -> codes [...].

    >>> mask = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]], dtype=bool)
    >>> rank(mask, NMPattern(2, 4)).tolist()
    [0, 2, 5]
    """
    position, ordinal = np.arange(pattern.block), np.cumsum(stored, axis=-1, dtype=np.int16)
    terms = np.where(stored, binomials(pattern)[position, ordinal], 0)
    codes: Array = terms.sum(axis=-1, dtype=code_dtype(pattern))
    return codes


def unrank(codes: Array, pattern: NMPattern) -> Bool:
    """Blocks of codes: codes [...], each < C(M, N) -> stored [..., M] with N true each.

    From the highest position down: p is stored when C(p, positions still to place) fits the rest.
    """
    table = binomials(pattern)
    rest = codes.astype(code_dtype(pattern))
    to_place = np.full(codes.shape, pattern.stored, dtype=np.int16)
    stored = np.zeros((*codes.shape, pattern.block), dtype=np.bool_)
    for p in reversed(range(pattern.block)):
        below = table[p, to_place]  # masks that reach their highest position before p
        take = (rest >= below).astype(np.bool_) & (to_place > 0)
        stored[..., p] = take
        rest = rest - np.where(take, below, 0).astype(rest.dtype)
        to_place -= take
    return stored


@cache
def mask_table(pattern: NMPattern) -> Array:
    """Every mask in code order, bit i = position i: the decode ROM (8:16 has 12,870 words).

    uint16 where M <= 16, so that the 8:16 table fits a first-level cache; else uint64.  Empty for
    patterns of more than 2^16 masks, which are unranked instead.
    """
    dtype: Any = np.uint16 if pattern.block <= 16 else np.uint64
    if pattern.count > 1 << 16:
        return np.zeros(0, dtype=dtype)
    stored = unrank(np.arange(pattern.count, dtype=np.uint64), pattern)
    weights = np.array([1 << i for i in range(pattern.block)], dtype=dtype)
    table: Array = stored.astype(dtype) @ weights
    return table


UNIT = 16
"""Columns that the compiled codec looks up at once, where M divides it."""

NO_CODE = 0xFFFF
"""In `code_table`: not the mask of whole blocks.  No unit has codes of 16 bits together."""


def unit_blocks(pattern: NMPattern) -> int:
    """Blocks in a unit: as many as 16 columns hold, or one."""
    return UNIT // pattern.block if UNIT % pattern.block == 0 else 1


@cache
def code_table(pattern: NMPattern) -> Array:
    """[2^16] uint16: mask of a unit -> its codes, the first block's lowest; NO_CODE for others.

    Empty where M does not divide 16.
    """
    if UNIT % pattern.block:
        return np.zeros(0, dtype=np.uint16)
    masks, codes = _units(pattern)
    table = np.full(1 << UNIT, NO_CODE, dtype=np.uint16)
    table[masks] = codes
    return table


@cache
def unit_table(pattern: NMPattern) -> Array:
    """[2^(width * blocks)] uint16: the codes of a unit -> its mask; 0 for codes out of range.

    Empty where M does not divide 16.
    """
    if UNIT % pattern.block:
        return np.zeros(0, dtype=np.uint16)
    masks, codes = _units(pattern)
    table = np.zeros(1 << (pattern.width * unit_blocks(pattern)), dtype=np.uint16)
    table[codes] = masks
    return table


def _units(pattern: NMPattern) -> tuple[Array, Array]:
    """Every mask of a unit and its codes."""
    one = mask_table(pattern).astype(np.int64)
    masks, codes = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    for block in range(unit_blocks(pattern)):
        masks = (masks[:, None] | one << block * pattern.block).reshape(-1)
        codes = (codes[:, None] | np.arange(len(one)) << block * pattern.width).reshape(-1)
    return masks, codes
