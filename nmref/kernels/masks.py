"""Bit fields, codes and masks inside compiled loops.

A row is described by words: bit c % 64 of word c // 64 stands for column c.  Callers have checked
every code (SPEC part 6) unless a kernel says that it checks: a code out of range would read past
the table.
"""

from __future__ import annotations

import numpy as np

from nmref.dtypes import Array
from nmref.kernels.bitops import load_word, lowest_bit, nonzero_word
from nmref.kernels.compile import kernel

ZERO = np.uint64(0)
ONE = np.uint64(1)
BYTE = np.uint64(0xFF)
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)

SPARE_WORDS = 6
"""Words past the last column's: a block of 256 and one field may begin there."""


@kernel(forceinline=True)
def low_ones(count: int) -> np.uint64:
    """`count` ones, 1 <= count <= 64."""
    return ALL >> np.uint64(64 - count)


@kernel(forceinline=True)
def field(words: Array, bit: int, count: int) -> np.uint64:
    """`count` bits (1 to 64) of the words from `bit` on; reads one word more than it may need.

    Without a branch: one would keep Numba from removing the reference counts around the call.
    """
    word, offset = bit >> 6, np.uint64(bit & 63)
    above = words[word + 1] << (np.uint64(63) - offset) << ONE
    return (words[word] >> offset | above) & low_ones(count)


@kernel(forceinline=True)
def put_field(words: Array, bit: int, value: np.uint64) -> None:
    """Set the bits of `value` from `bit` on; bits from there on were 0."""
    word, offset = bit >> 6, np.uint64(bit & 63)
    words[word] |= value << offset
    words[word + 1] = value >> (np.uint64(63) - offset) >> ONE


@kernel(forceinline=True)
def add_field(words: Array, bit: int, value: np.uint64) -> None:
    """Set the bits of `value` from `bit` on; other bits stay."""
    word, offset = bit >> 6, np.uint64(bit & 63)
    words[word] |= value << offset
    words[word + 1] |= value >> (np.uint64(63) - offset) >> ONE


@kernel
def row_words(flat: Array, start: int, columns: int, words: Array) -> None:
    """Words of a row: 1 where flat[start + c] is not 0; every bit past column K - 1 is 0."""
    full = columns // 64
    for g in range(full):
        words[g] = nonzero_word(flat, np.uint64(start + g * 64))
    words[full:] = ZERO
    for c in range(full * 64, columns):
        if flat[start + c] != 0:
            words[full] |= ONE << np.uint64(c - full * 64)


@kernel
def load_bytes(flat: Array, start: int, count: int, stream: Array) -> None:
    """`count` bytes of a row's codes -> words of its bit stream, zeros behind them."""
    whole = count // 8
    for i in range(whole):
        stream[i] = load_word(flat, np.uint64(start + 8 * i))
    stream[whole:] = ZERO
    for i in range(8 * whole, count):
        stream[whole] |= np.uint64(flat[start + i]) << np.uint64(8 * (i & 7))


@kernel(forceinline=True)
def store_bytes(stream: Array, codes: Array, row: int) -> None:
    """Words of a bit stream -> the bytes of a row, the lowest byte of a word first."""
    for i in range(codes.shape[1]):
        codes[row, i] = (stream[i >> 3] >> np.uint64(8 * (i & 7))) & BYTE


@kernel(forceinline=True)
def mask_of(code: np.uint64, binomials: Array) -> np.uint64:
    """Mask of a code, from the highest position down; binomials [M, N + 1] uint64, C(p, j)."""
    mask, to_place = ZERO, binomials.shape[1] - 1
    for p in range(binomials.shape[0] - 1, -1, -1):
        below = binomials[p, to_place]
        if to_place > 0 and code >= below:
            mask |= ONE << np.uint64(p)
            code -= below
            to_place -= 1
    return mask


@kernel(forceinline=True)
def code_of(mask: np.uint64, binomials: Array) -> np.uint64:
    """Code of a mask: the sum of C(p_j, j)."""
    code = ZERO
    for j in range(1, binomials.shape[1]):
        code += binomials[lowest_bit(mask), j]
        mask &= mask - ONE
    return code
