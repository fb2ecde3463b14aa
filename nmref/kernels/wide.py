"""Outliers, M = 256: a block's mask is four words, a colex code two.  Twin of tensor/plain.py.

A code of up to 84 bits is a pair (low 64 bits, the rest); `binomials` holds C(p, j) as such pairs.
As in narrow.py, faults are only found, by their row.
"""

from __future__ import annotations

import numpy as np

from nmref.dtypes import Array
from nmref.kernels.bitops import count_bits, lowest_bit
from nmref.kernels.compile import kernel
from nmref.kernels.masks import ONE, SPARE_WORDS, ZERO, field, load_bytes, row_words, store_bytes

BLOCK = 256
WORDS = 4


@kernel
def encode_rows(
    bits: Array, mask: Array, barred: Array, columns: int, values: Array, index: Array
) -> int:
    """bits, mask (or [0]), barred [R*K] -> values, index [R, B*n], zero before.

    The fill takes no column where `barred` is not 0.  Returns the first row with a block that does
    not fit, or -1.
    """
    blocks = (columns + BLOCK - 1) // BLOCK
    stored = values.shape[1] // blocks
    present = np.zeros(columns // 64 + SPARE_WORDS, dtype=np.uint64)
    used, closed = np.zeros_like(present), np.zeros_like(present)
    for r in range(values.shape[0]):
        row_words(bits, r * columns, columns, present)
        row_words(barred, r * columns, columns, closed)
        if mask.size > 0:
            row_words(mask, r * columns, columns, used)
        else:
            for i in range(used.size):
                used[i] = present[i]
        for b in range(blocks):
            slot, first = b * stored, b * BLOCK
            if not _complete(present, used, closed, b * WORDS, stored):
                return r
            for w in range(b * WORDS, (b + 1) * WORDS):
                rest = used[w]
                while rest != ZERO:
                    column = w * 64 + np.int64(lowest_bit(rest))
                    rest &= rest - ONE
                    index[r, slot] = column - first
                    if column < columns:
                        values[r, slot] = bits[r * columns + column]
                    slot += 1
    return -1


@kernel
def _complete(present: Array, used: Array, closed: Array, start: int, stored: int) -> bool:
    """Fill the four words of a block in `used` up to `stored` ones; false where that cannot be."""
    missing = stored
    for w in range(start, start + WORDS):
        missing -= np.int64(count_bits(used[w]))
        if present[w] & ~used[w] != ZERO:
            return False
    if missing < 0:
        return False
    for w in range(start, start + WORDS):
        free = ~used[w] & ~closed[w]
        while missing > 0 and free != ZERO:
            used[w] |= free & (~free + ONE)
            free &= free - ONE
            missing -= 1
    return missing == 0


@kernel
def decode_rows(values: Array, index: Array, stored: int, columns: int, dense: Array) -> None:
    """values, checked index [R, B*n] -> written over dense [R*K]; other columns stay."""
    for r in range(values.shape[0]):
        for slot in range(values.shape[1]):
            column = slot // stored * BLOCK + np.int64(index[r, slot])
            if column < columns:
                dense[r * columns + column] = values[r, slot]


@kernel
def check_index(values: Array, index: Array, stored: int, columns: int) -> int:
    """First row with a block that does not ascend or a value in a virtual column; or -1."""
    for r in range(values.shape[0]):
        for slot in range(values.shape[1]):
            if slot % stored > 0 and index[r, slot] <= index[r, slot - 1]:
                return r
            column = slot // stored * BLOCK + np.int64(index[r, slot])
            if column >= columns and values[r, slot] != 0:
                return r
    return -1


@kernel
def pack_codes(index: Array, stored: int, width: int, binomials: Array, codes: Array) -> None:
    """index [R, B*n] -> codes [R, bytes]; binomials [256, n + 1, 2] uint64."""
    stream = np.zeros(codes.shape[1] // 8 + 4, dtype=np.uint64)
    for r in range(index.shape[0]):
        stream[:] = ZERO
        for b in range(index.shape[1] // stored):
            low, high = ZERO, ZERO
            for j in range(stored):
                p = index[r, b * stored + j]
                before = low
                low += binomials[p, j + 1, 0]
                high += binomials[p, j + 1, 1] + (ONE if low < before else ZERO)
            _put_pair(stream, b * width, low, high)
        store_bytes(stream, codes, r)


@kernel
def _put_pair(stream: Array, bit: int, low: np.uint64, high: np.uint64) -> None:
    word, offset = bit >> 6, np.uint64(bit & 63)
    over = np.uint64(63) - offset
    stream[word] |= low << offset
    stream[word + 1] = (low >> over >> ONE) | (high << offset)
    stream[word + 2] = high >> over >> ONE


@kernel
def unpack_codes(
    codes: Array, stored: int, width: int, binomials: Array, count: Array, index: Array
) -> int:
    """codes [R, bytes] -> index [R, B*n]; count [2], C(256, n).

    Returns the first row with a padding bit or a code >= count, or -1; its indices are not set.
    """
    blocks = index.shape[1] // stored
    stream = np.zeros(codes.shape[1] // 8 + 4, dtype=np.uint64)
    for r in range(codes.shape[0]):
        load_bytes(codes.reshape(-1), r * codes.shape[1], codes.shape[1], stream)
        if field(stream, blocks * width, 64) != ZERO:  # padding is less than 8 bits
            return r
        for b in range(blocks):
            low = field(stream, b * width, min(width, 64))
            high = field(stream, b * width + 64, width - 64) if width > 64 else ZERO
            if not _less(low, high, count[0], count[1]):
                return r
            _unrank(low, high, binomials, index[r, b * stored : (b + 1) * stored])
    return -1


@kernel
def _less(low: np.uint64, high: np.uint64, other_low: np.uint64, other_high: np.uint64) -> bool:
    return bool(high < other_high or (high == other_high and low < other_low))


@kernel
def _unrank(low: np.uint64, high: np.uint64, binomials: Array, positions: Array) -> None:
    """From the highest position down: p is stored where C(p, j) fits what is left."""
    p = BLOCK
    for j in range(positions.size, 0, -1):
        p -= 1
        while binomials[p, j, 1] > high or (
            binomials[p, j, 1] == high and binomials[p, j, 0] > low
        ):
            p -= 1
        borrow = ONE if binomials[p, j, 0] > low else ZERO
        low -= binomials[p, j, 0]
        high -= binomials[p, j, 1] + borrow
        positions[j - 1] = p
