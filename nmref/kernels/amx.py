"""Many tokens, W and x in BF16, on the tiles of AMX: load as sparse, compute as dense.

Stored weights are spread over their columns once, into a block of W that the second-level cache
holds, outliers put in their places; that block then meets every token of a chunk.  A tile of W is
16 rows by 32 columns, one of x 16 pairs of columns by 16 tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nmref.dtypes import Array
from nmref.kernels.activations import NOT_FINITE, SUBNORMAL, TILE, unpack
from nmref.kernels.compile import kernel
from nmref.kernels.outliers import BLOCK
from nmref.kernels.panel import AHEAD
from nmref.kernels.prepare import MAGNITUDE, NORMAL, below
from nmref.kernels.vector import claim, prefetch, transpose
from nmref.kernels.vector_amx import (
    CONFIG,
    ROW_BYTES,
    STEP,
    STORED,
    dot_tiles,
    expand_some_to,
    expand_to,
    load_config,
    load_tile,
    release,
    store_tile,
    zero_tile,
)

STRIP = 32
"""Rows of W that are multiplied together: two tiles."""

PAIR = 2 * TILE
"""Tokens that are: two tiles of x."""

SIZE = TILE * STEP
"""BF16 elements of a tile."""

SUMS = TILE * TILE

DEPTH = 16
"""Steps of 32 columns of a block: a strip of it fits the first-level cache beside x."""

HEIGHT = 128
"""Rows of a block: so often is a tile of x used once it is in the second-level cache."""

CHUNK = 32
"""Tiles of tokens that a block meets."""

SECOND = 2
"""The second-level cache: tiles fill the first."""

LINE = ROW_BYTES // 2
"""BF16 elements of a cache line."""

EXPONENT = 0x7F80
"""Bits of the BF16 infinity."""


def steps_of(columns: int) -> int:
    """Tiles of W side by side."""
    return -(-columns // STEP)


def packed_shape(tokens: int, columns: int) -> tuple[int, int, int]:
    """Shape of x as `pack` leaves it, uint16."""
    return 2 * -(-tokens // PAIR), steps_of(columns), SIZE


def height_for(rows: int, threads: int) -> int:
    """Rows of a block, a multiple of 32: fewer where the threads would run out of blocks."""
    return STRIP * min(max(rows // (4 * threads * STRIP), 1), HEIGHT // STRIP)


def block_size(height: int, depth: int = DEPTH) -> int:
    """uint16 elements of the block that a thread needs."""
    return height * depth * STEP


def sums_size(height: int, chunk: int = CHUNK) -> int:
    """float32 elements of sums that a thread needs."""
    return height * chunk * TILE


@kernel(forceinline=True)
def _stage(source: Array, target: Array) -> tuple[Any, Any]:
    """target = source; the least magnitude less 1, modulo 2^16, and the greatest."""
    least, most = np.uint16(0xFFFF), np.uint16(0)
    for i in range(source.size):
        target[i] = source[i]
        magnitude = np.uint16(source[i] & MAGNITUDE)
        least = min(least, below(magnitude))
        most = max(most, magnitude)
    return least, most


@kernel(error_model="numpy")
def pack(x: Array, packed: Array, counter: Array) -> int:
    """x [T, K] BF16 as uint16 -> packed (packed_shape) uint16: tiles of pairs of columns x tokens.

    Claims 16 tokens at a time; returns the traits of those (activations.NOT_FINITE, SUBNORMAL).
    """
    flat, tokens, columns = x.reshape(-1), x.shape[0], x.shape[1]
    pairs, stage = packed.reshape(-1).view(np.int32), np.zeros(SIZE, dtype=np.uint16)
    source, least, most = stage.view(np.int32), np.uint16(0xFFFF), np.uint16(0)
    while True:
        tile = claim(counter, 1)
        if tile >= packed.shape[0]:
            break
        there = min(tokens - tile * TILE, TILE)
        for k in range(packed.shape[1]):
            width = min(columns - k * STEP, STEP)
            if there < TILE or width < STEP:
                stage[:] = np.uint16(0)
            for t in range(there):
                at = (tile * TILE + t) * columns + k * STEP
                low, high = _stage(flat[at : at + width], stage[t * STEP : t * STEP + width])
                least, most = min(least, low), max(most, high)
            to = (tile * packed.shape[1] + k) * (SIZE // 2)
            transpose(source, 0, TILE, pairs, to, TILE)
    found = NOT_FINITE if most >= EXPONENT else 0
    return found + (SUBNORMAL if least < NORMAL - 1 else 0)


@kernel(forceinline=True, error_model="numpy")
def _overlay_row(
    over: Array, index: Array, slots: int, o: int, k0: int, k1: int, block: Array, to: int
) -> None:
    """The row's outliers, from over[o] on, in the same columns; what they cover was zero.

    A block begins and has room for whole blocks of 256; past the last column slots hold zeros.
    """
    for b in range(k0 * STEP // BLOCK, (k1 * STEP + BLOCK - 1) // BLOCK):
        for j in range(o + b * slots, o + b * slots + slots):
            c = b * BLOCK + np.intp(index[j]) - k0 * STEP
            block[to + c // STEP * 2 * SIZE + c % STEP] = over[j]


@kernel(forceinline=True, error_model="numpy")
def _times(
    block: Array,
    a: int,
    x: Array,
    b: int,
    far: int,
    count: int,
    sums: Array,
    c: int,
    wide: int,
    k0: int,
) -> None:
    """sums[c], [c + wide] += a strip at block[a] times the tokens at x[b] and x[b + far].

    Tiles: 0 to 3 sums, of them 2 and 3 the lower rows; 4, 5 of W; 6, 7 of x.
    """
    if k0 == 0:
        zero_tile(0)
        zero_tile(1)
        zero_tile(2)
        zero_tile(3)
    else:
        load_tile(0, sums, c, ROW_BYTES)
        load_tile(1, sums, c + wide, ROW_BYTES)
        load_tile(2, sums, c + SUMS, ROW_BYTES)
        load_tile(3, sums, c + wide + SUMS, ROW_BYTES)
    for k in range(count):
        load_tile(4, block, a + k * 2 * SIZE, ROW_BYTES)
        load_tile(6, x, b + k * SIZE, ROW_BYTES)
        dot_tiles(0, 4, 6)
        load_tile(7, x, b + far + k * SIZE, ROW_BYTES)
        dot_tiles(1, 4, 7)
        load_tile(5, block, a + k * 2 * SIZE + SIZE, ROW_BYTES)
        dot_tiles(2, 5, 6)
        dot_tiles(3, 5, 7)
    store_tile(0, sums, c, ROW_BYTES)
    store_tile(1, sums, c + wide, ROW_BYTES)
    store_tile(2, sums, c + SUMS, ROW_BYTES)
    store_tile(3, sums, c + wide + SUMS, ROW_BYTES)


@kernel(forceinline=True, error_model="numpy")
def _fetch(arrays: Any, sizes: Any, first: int, last: int, k: int, depth: int) -> None:
    """Ask for steps k ... k + depth - 1 of rows first ... last - 1, which may not exist."""
    (flat, line, _, _), (per_row, words, _) = arrays, sizes
    for r in range(first, last):
        v = r * per_row + k * STORED
        for i in range(v, v + depth * STORED, LINE):
            prefetch(flat, i, SECOND)
        prefetch(line, r * words + k // 2, SECOND)


@kernel(forceinline=True, error_model="numpy")
def _fill(
    arrays: Any, sizes: Any, slots: int, rows: Any, k0: int, k1: int, depth: int, block: Array
) -> None:
    """block [strips][depth][2][16][32] = those rows of W, then rows of zeros.

    arrays: values, words, outliers, their columns, flat; sizes: of a row, in that order.
    """
    (flat, line, over, index), (per_row, words, wide), (first, last) = arrays, sizes, rows
    few = per_row - (k1 - 1) * STORED
    whole = k1 if few >= STORED else k1 - 1
    for i in range((last - first + STRIP - 1) // STRIP * STRIP):
        r, to = first + i, (i // STRIP * 2 * depth + i // TILE % 2) * SIZE + i % TILE * STEP
        if r >= last:
            for k in range(k1 - k0):
                for c in range(STEP):
                    block[to + k * 2 * SIZE + c] = np.uint16(0)
            continue
        if k0 == 0:
            _fetch(arrays, sizes, r + AHEAD, r + AHEAD + 1, 0, depth)
        for k in range(k0, whole):
            mask, v = line[r * words + (k >> 1)] >> np.uint64(STEP * (k & 1)), k * STORED
            expand_to(flat, r * per_row + v, mask, block, to + (k - k0) * 2 * SIZE)
        for k in range(whole, k1):
            mask, v = line[r * words + (k >> 1)] >> np.uint64(STEP * (k & 1)), k * STORED
            expand_some_to(flat, r * per_row + v, mask, block, to + (k - k0) * 2 * SIZE, few)
        if slots:
            _overlay_row(over, index, slots, r * wide, k0, k1, block, to)


@kernel(error_model="numpy")
def amx(
    values: Array,
    words: Array,
    out_values: Array,
    out_index: Array,
    slots: int,
    x: Array,
    y: Array,
    block: Array,
    sums: Array,
    height: int,
    depth: int,
    chunk: int,
    counter: Array,
) -> None:
    """values [R, S] BF16 bits, words [R, W] (prepare.words_of), x as `pack` has it -> y [T, R].

    No weight, outlier or activation is subnormal, K > 0.  out_values BF16 bits, out_index
    [R, O * slots]; block and sums as block_size and sums_size say; height is a multiple of 32,
    depth of 8, chunk of 2; they do not change y.  Claims a block of rows for a chunk of tokens.

    While a block is multiplied the next weights of its rows come from memory: both take long.
    Nothing between load_config and release can raise.
    """
    rows, tiles, steps = words.shape[0], x.shape[0], x.shape[1]
    arrays = values.reshape(-1), words.reshape(-1), out_values.reshape(-1), out_index.reshape(-1)
    sizes = values.shape[1], words.shape[1], out_values.shape[1]
    xs, wide, below = x.reshape(-1), height * TILE, steps * SIZE
    parts = max((rows + height - 1) // height, 1)
    while True:
        unit = claim(counter, 1)
        first, t0 = unit % parts * height, unit // parts * chunk
        if t0 >= tiles:
            return
        last, t1 = min(first + height, rows), min(t0 + chunk, tiles)
        strips = (last - first + STRIP - 1) // STRIP
        share = (2 * STRIP + t1 - t0 - 1) // (t1 - t0)
        load_config(CONFIG)
        for part in range((steps + depth - 1) // depth):  # a range with a step could raise
            k0, k1, row = part * depth, min(part * depth + depth, steps), first
            _fill(arrays, sizes, slots, (first, last), k0, k1, depth, block)
            for t in range(t0, t1, 2):
                for s in range(strips):
                    a, b = s * depth * 2 * SIZE, (t * steps + k0) * SIZE
                    c = (t - t0) * wide + s * 2 * SUMS
                    _times(block, a, xs, b, below, k1 - k0, sums, c, wide, k0)
                    if k1 < steps:
                        _fetch(arrays, sizes, row, min(row + share, last), k1, depth)
                        row += share
        release()
        for t in range(t0, t1):
            unpack(sums[(t - t0) * wide :], TILE, y, t * TILE, first, last - first)
