"""Base matrices, M <= 64: a block's mask is one word.  The compiled twin of tensor/plain.py.

Faults are only found here, by their row; the plain code then says which, so that no rule of a
message stands twice.
"""

from __future__ import annotations

import numpy as np

from nmref.colex import NO_CODE
from nmref.dtypes import Array
from nmref.kernels.bitops import LANES, compress, count_bits, expand
from nmref.kernels.compile import kernel
from nmref.kernels.masks import (
    ONE,
    SPARE_WORDS,
    ZERO,
    add_field,
    code_of,
    field,
    load_bytes,
    low_ones,
    mask_of,
    put_field,
    row_words,
    store_bytes,
)


@kernel
def encode_rows(
    bits: Array,
    mask: Array,
    columns: int,
    width: int,
    unit: int,
    table: Array,
    binomials: Array,
    values: Array,
    codes: Array,
) -> int:
    """bits [R*K], mask [R*K] uint8 or [0] -> values [R*B*N], codes [R, bytes], zero before.

    `unit` blocks are looked up at once in `table` (colex.code_table); where that says nothing, the
    blocks are filled and ranked one by one.  Returns the first row that does not fit, or -1.
    """
    block, stored = binomials.shape[0], binomials.shape[1] - 1
    blocks = (columns + block - 1) // block
    present = np.zeros(columns // 64 + SPARE_WORDS, dtype=np.uint64)
    used = np.zeros_like(present)
    chosen = np.zeros_like(present)
    stream = np.zeros(codes.shape[1] // 8 + 3, dtype=np.uint64)
    for r in range(codes.shape[0]):
        row_words(bits, r * columns, columns, present)
        if mask.size > 0:
            row_words(mask, r * columns, columns, used)
        for i in range(chosen.size):  # copying an array by slices takes Numba 3 s to compile
            chosen[i] = used[i] if mask.size > 0 else present[i]
        stream[:] = ZERO
        for first in range(0, blocks, unit):
            if table.size > 0 and first + unit <= blocks:
                there = field(present, first * block, unit * block)
                keep = field(used, first * block, unit * block) if mask.size > 0 else there
                code = table[keep]
                if code != NO_CODE and there & ~keep == ZERO:
                    put_field(stream, first * width, np.uint64(code))
                    continue
            for b in range(first, min(first + unit, blocks)):
                there = field(present, b * block, block)
                keep = field(used, b * block, block) if mask.size > 0 else there
                missing = stored - np.int64(count_bits(keep))
                if missing < 0 or there & ~keep != ZERO:
                    return r
                free = ~keep & low_ones(block)
                for _ in range(missing):
                    keep |= free & (~free + ONE)
                    free &= free - ONE
                add_field(chosen, b * block, keep)
                put_field(stream, b * width, code_of(keep, binomials))
        store_bytes(stream, codes, r)
        gather_row(bits, r * columns, columns, chosen, values, r * blocks * stored, blocks * block)
    return -1


@kernel(forceinline=True)
def gather_row(
    flat: Array, start: int, columns: int, chosen: Array, values: Array, slot: int, end: int
) -> None:
    """values[slot...] = the chosen columns < `end` of a row; those past column K - 1 stay 0."""
    whole = columns - columns % LANES
    for c in range(0, whole, LANES):
        lanes = field(chosen, c, LANES)
        compress(flat, np.uint64(start + c), lanes, values, np.uint64(slot))
        slot += np.int64(count_bits(lanes))
    for c in range(whole, end):
        if field(chosen, c, 1) != ZERO:
            if c < columns:
                values[slot] = flat[start + c]
            slot += 1


@kernel
def decode_rows(
    values: Array,
    codes: Array,
    columns: int,
    width: int,
    unit: int,
    table: Array,
    binomials: Array,
    dense: Array,
) -> None:
    """values [R*B*N], checked codes [R, bytes] -> every element of dense [R*K].

    `table` (colex.unit_table, or empty) gives the masks of `unit` blocks at once.  A last unit that
    is not whole reads zero bits behind the row and sets columns that nobody looks at.
    """
    block, stored = binomials.shape[0], binomials.shape[1] - 1
    blocks = (columns + block - 1) // block
    chosen = np.zeros(columns // 64 + SPARE_WORDS, dtype=np.uint64)
    stream = np.zeros(codes.shape[1] // 8 + 3, dtype=np.uint64)
    for r in range(codes.shape[0]):
        load_bytes(codes.reshape(-1), r * codes.shape[1], codes.shape[1], stream)
        chosen[:] = ZERO
        for b in range(0, blocks, unit):
            code = field(stream, b * width, unit * width)
            mask = np.uint64(table[code]) if table.size > 0 else mask_of(code, binomials)
            put_field(chosen, b * block, mask)
        scatter_row(values, r * blocks * stored, chosen, dense, r * columns, columns)


@kernel(forceinline=True)
def scatter_row(
    values: Array, slot: int, chosen: Array, flat: Array, start: int, columns: int
) -> None:
    """The other direction: every column of the row is written, 0 where none is stored."""
    whole = columns - columns % LANES
    for c in range(0, whole, LANES):
        lanes = field(chosen, c, LANES)
        expand(values, np.uint64(slot), lanes, flat, np.uint64(start + c))
        slot += np.int64(count_bits(lanes))
    for c in range(whole, columns):
        flat[start + c] = 0
        if field(chosen, c, 1) != ZERO:
            flat[start + c] = values[slot]
            slot += 1


@kernel
def check_rows(
    values: Array,
    codes: Array,
    columns: int,
    width: int,
    count: int,
    binomials: Array,
) -> int:
    """First row with a padding bit, a code >= count or a value in a virtual column; or -1.

    values [R*B*N], codes [R, bytes], neither checked before.
    """
    block, stored = binomials.shape[0], binomials.shape[1] - 1
    blocks = (columns + block - 1) // block
    last = (blocks - 1) * block
    stream = np.zeros(codes.shape[1] // 8 + 3, dtype=np.uint64)
    for r in range(codes.shape[0]):
        load_bytes(codes.reshape(-1), r * codes.shape[1], codes.shape[1], stream)
        if field(stream, blocks * width, 64) != ZERO:  # padding is less than 8 bits
            return r
        for b in range(blocks):
            if field(stream, b * width, width) >= np.uint64(count):
                return r
        mask = mask_of(field(stream, (blocks - 1) * width, width), binomials)
        real = np.int64(count_bits(mask & low_ones(columns - last)))
        for slot in range((r + 1) * blocks * stored - (stored - real), (r + 1) * blocks * stored):
            if values[slot] != 0:
                return r
    return -1
