"""The N largest of every M columns, without sorting, for 64 blocks side by side.

Scores become unsigned keys in the same order.  The smallest key that stays is found bit by bit from
the top: a bit of it is 1 if N keys are still as large then.  Lanes are blocks, so nothing branches
on the scores and the time does not depend on them.
"""

from __future__ import annotations

import numpy as np

from nmref.dtypes import Array
from nmref.kernels.compile import kernel

LANES = 64
"""Blocks side by side; a tile of them, 64 columns wide, fits the first-level cache."""

NEVER = np.uint32(0)
"""The key of -Inf, NaN, excluded and virtual columns, which do not stay whatever else there is."""

SIGN = np.uint32(0x80000000)
SIZE = np.uint32(0x7FFFFFFF)
INFINITY = np.uint32(0x7F800000)
ZERO = np.int32(0)
BITS = 32

STEP = 4
"""Columns that are counted together; NEVER stands for those that a block lacks."""


@kernel
def row_keys(bits: Array, excluded: Array, r: int, keys: Array) -> None:
    """Row r -> keys [B*M] in the order of its numbers, -0 as +0; NEVER past its last column."""
    columns = bits.shape[1]
    for c in range(columns):
        b = bits[r, c]
        size = b & SIZE
        key = ~b if b > SIGN else b | SIGN
        keys[c] = NEVER if size > INFINITY or (size == INFINITY and b > SIGN) else key
    if excluded.size > 0:
        for c in range(columns):
            keys[c] = NEVER if excluded[r, c] else keys[c]
    keys[columns:] = NEVER


@kernel
def thresholds(tile: Array, stored: int, floor: Array, spare: Array) -> None:
    """tile [M, LANES] -> floor [LANES]: the largest key that at least N keys of its block reach.

    spare [LANES]: how many of the keys that equal it stay.
    """
    floor[:] = NEVER
    higher = np.empty(LANES, dtype=np.uint32)
    for bit in range(BITS - 1, -1, -1):
        for i in range(LANES):
            higher[i] = floor[i] | np.uint32(1) << np.uint32(bit)
            spare[i] = ZERO
        for c in range(0, tile.shape[0], STEP):
            for i in range(LANES):
                h = higher[i]
                low = np.int32(tile[c, i] >= h) + np.int32(tile[c + 1, i] >= h)
                spare[i] += low + np.int32(tile[c + 2, i] >= h) + np.int32(tile[c + 3, i] >= h)
        for i in range(LANES):
            floor[i] = higher[i] if spare[i] >= stored else floor[i]
    spare[:] = stored
    for c in range(tile.shape[0]):
        for i in range(LANES):
            spare[i] -= np.int32(tile[c, i] > floor[i])


@kernel
def choose(tile: Array, floor: Array, spare: Array, chosen: Array) -> None:
    """tile [M, LANES] -> chosen [M, LANES], from the first column on; takes from `spare`."""
    for c in range(tile.shape[0]):
        for i in range(LANES):
            level = tile[c, i] == floor[i] and spare[i] > ZERO
            spare[i] -= np.int32(level)
            chosen[c, i] = (tile[c, i] > floor[i] or level) and tile[c, i] != NEVER


@kernel
def keep_largest(bits: Array, excluded: Array, stored: int, block: int, kept: Array) -> None:
    """kept [R, K] bool: the `stored` largest of every `block` columns, ties to the lower column.

    bits [R, K] uint32 holds float32 scores; excluded [R, K] bool or [0, 0].
    """
    rows, columns = bits.shape
    blocks = (columns + block - 1) // block
    keys = np.empty(blocks * block, dtype=np.uint32)
    tile = np.zeros(((block + STEP - 1) // STEP * STEP, LANES), dtype=np.uint32)
    chosen = np.zeros(tile.shape, dtype=np.bool_)
    floor, spare = np.empty(LANES, dtype=np.uint32), np.empty(LANES, dtype=np.int32)
    at = -1
    for first in range(0, rows * blocks, LANES):
        lanes = min(LANES, rows * blocks - first)
        for i in range(lanes):
            r, b = (first + i) // blocks, (first + i) % blocks
            if r != at:
                row_keys(bits, excluded, r, keys)
                at = r
            for c in range(block):
                tile[c, i] = keys[b * block + c]
        thresholds(tile, stored, floor, spare)
        choose(tile, floor, spare, chosen)
        for i in range(lanes):
            r, b = (first + i) // blocks, (first + i) % blocks
            for c in range(min(block, columns - b * block)):
                kept[r, b * block + c] = chosen[c, i]
