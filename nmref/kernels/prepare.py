"""Positions of a base matrix, repacked for the kernels that multiply.

Only patterns with exactly 8 stored columns in every whole 16 have these forms: N = M/2 where M
divides 16.  The values stay where they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nmref.dtypes import Array
from nmref.kernels.bitops import lowest_bit
from nmref.kernels.compile import kernel
from nmref.kernels.masks import ONE, ZERO, field, load_bytes, low_ones, put_field

STORED = 8
"""Stored columns of a whole group of 16."""

PAIR_COUNT = 99
"""Pairs of columns a < b of a group with b - a < 10: two stored columns that follow each other
have at most 8 others between them."""

MAGNITUDE, NORMAL = 0x7FFF, 0x0080
"""Of BF16: all bits but the sign; the smallest magnitude that is not subnormal."""


def _pairs() -> Array:
    """[99, 2] uint8, the nearest first, so that the frequent ones lie together."""
    return np.array(
        [(first, first + gap) for gap in range(1, 10) for first in range(16 - gap)], dtype=np.uint8
    )


PAIRS = _pairs()
_PAIR_OF = np.zeros((16, 16), dtype=np.uint8)
_PAIR_OF[PAIRS[:, 0], PAIRS[:, 1]] = np.arange(PAIR_COUNT)


@kernel
def words_of(codes: Array, width: int, unit: int, table: Array, real: int, words: Array) -> None:
    """codes [R, bytes] -> words [R, ceil(K/64)] uint64, bit c % 64 of word c // 64 = column c.

    `table` (colex.unit_table) has the masks of 16 columns, which are `unit` blocks.  Only the first
    `real` columns, those of whole blocks, are set.
    """
    stream = np.zeros(codes.shape[1] // 8 + 3, dtype=np.uint64)
    line = np.zeros(words.shape[1] + 2, dtype=np.uint64)
    groups = (real + 15) // 16
    for r in range(codes.shape[0]):
        load_bytes(codes.reshape(-1), r * codes.shape[1], codes.shape[1], stream)
        line[:] = ZERO
        for g in range(groups):
            mask = np.uint64(table[field(stream, g * unit * width, unit * width)])
            put_field(line, 16 * g, mask)
        if real & 63:
            line[real >> 6] &= low_ones(real & 63)
        for i in range(words.shape[1]):
            words[r, i] = line[i]


@kernel
def columns_of(words: Array, columns: Array) -> None:
    """words -> columns [R, ceil(K/16)] uint32: the stored columns of a group, 4 bits each."""
    for r in range(columns.shape[0]):
        for g in range(columns.shape[1]):
            mask = words[r, g >> 2] >> np.uint64(16 * (g & 3)) & np.uint64(0xFFFF)
            found, place = ZERO, ZERO
            while mask != ZERO:
                found |= lowest_bit(mask) << place
                mask &= mask - ONE
                place += np.uint64(4)
            columns[r, g] = np.uint32(found)


@kernel
def pairs_of(columns: Array, pair_of: Array, pairs: Array) -> None:
    """columns -> pairs [R, ceil(K/16)] uint32: the stored columns two by two, 8 bits each."""
    flat = pair_of.reshape(-1)
    for r in range(pairs.shape[0]):
        for g in range(pairs.shape[1]):
            rest, found = columns[r, g], np.uint32(0)
            for j in range(4):
                first, second = rest & np.uint32(15), rest >> np.uint32(4) & np.uint32(15)
                found |= np.uint32(flat[16 * first + second]) << np.uint32(8 * j)
                rest >>= np.uint32(8)
            pairs[r, g] = found


def pair_table() -> Array:
    """[16, 16] uint8: place of (a, b) in PAIRS; 0 for others, which only unused slots ask for."""
    return _PAIR_OF


@kernel(forceinline=True)
def below(magnitude: Any) -> Any:
    """magnitude - 1 modulo 2^16: zero becomes the greatest."""
    return np.uint16((np.intp(magnitude) - 1) & 0xFFFF)


@kernel
def _least(flat: Array) -> int:
    """The bits of the least magnitude but zero of BF16 values; 2^16 if there is none."""
    least = np.uint16(0xFFFF)
    for i in range(flat.size):
        least = min(least, below(flat[i] & MAGNITUDE))
    return np.intp(least) + 1


def has_subnormals(values: Array) -> bool:
    """Whether any of BF16 values [...], uint16, is subnormal: instructions take it for zero."""
    return bool(_least(values.reshape(-1)) < NORMAL)
