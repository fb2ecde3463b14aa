"""exp over a whole range of bit patterns: which results lie close to a rounding boundary."""

from __future__ import annotations

import numpy as np

from nmref.dtypes import Array
from nmref.kernels.compile import kernel
from nmref.kernels.elementary import LARGEST, SMALLEST, exp32, exp64
from nmref.kernels.rounding import float32_of

golden = kernel
inner = kernel(forceinline=True)

SMALLEST_NORMAL = 2.0**-126
NORMAL_FROM = -87.0  # e^x is normal from here up
BLOCK = 1024
FIELD = np.int64(0x7FF) << 52
HALF = np.int64(1) << 28  # the 29 bits that binary32 lacks, halfway between two of its numbers


@inner
def close_normal(y: np.float64, limit: np.float64) -> bool:
    """Whether y >= 2^-126 is closer than limit * y to a point halfway between binary32 numbers.

    No division, no branch, no call: the loop over this is vectorised.
    """
    bits = np.float64(y).view(np.int64)
    units = np.float64(abs((bits & (2 * HALF - 1)) - HALF))  # of the last place of binary64
    return units * (np.int64(bits & FIELD).view(np.float64) * 2.0**-52) < limit * y


@inner
def close_subnormal(y: np.float64, limit: np.float64) -> bool:
    """The same for 0 < y < 2^-126: halfway points are the odd multiples of 2^-150."""
    halves = y * 2.0**150
    return abs(halves - np.float64(np.int64(halves) | 1)) < limit * halves


@inner
def is_wrong_outside(x: np.float32) -> bool:
    """Outside of what exp64 takes: the result is not NaN, +Inf or +0, whichever it should be."""
    y, want = exp32(x), np.float32(np.inf) if x > 0 else np.float32(0)
    return ((x == x) & (y != want)) | ((x != x) & (y == y))


@inner
def _close_anywhere(x: np.float32, limit: np.float64) -> bool:
    if not (x >= SMALLEST and x <= LARGEST):
        return is_wrong_outside(x)
    y = exp64(np.float64(x))
    return close_normal(y, limit) if y >= SMALLEST_NORMAL else close_subnormal(y, limit)


@golden
def _values(start: int, y: Array) -> None:
    for i in range(BLOCK):  # a loop of its own, or LLVM does not vectorise it
        y[i] = exp64(np.float64(float32_of(np.int64(start + i))))


@golden
def _close(y: Array, limit: float, close: Array) -> None:
    for i in range(BLOCK):
        close[i] = close_normal(y[i], limit)


@golden
def _outside(start: int, close: Array) -> None:
    for i in range(BLOCK):
        close[i] = is_wrong_outside(float32_of(np.int64(start + i)))


@golden
def scan_exp(first: int, last: int, limit: float, hard: Array) -> int:
    """Bit patterns first ... last - 1: how many have results closer than `limit`; `hard` gets them.

    first and last are multiples of BLOCK.  Inputs beyond the range of exp64 are counted, too, where
    exp32 is wrong.  Nothing is written past the end of `hard`.
    """
    count = 0
    y, close = np.zeros(BLOCK), np.zeros(BLOCK, dtype=np.bool_)
    for start in range(first, last, BLOCK):
        a, b = float32_of(np.int64(start)), float32_of(np.int64(start + BLOCK - 1))
        if min(a, b) >= NORMAL_FROM and max(a, b) <= LARGEST:
            _values(start, y)
            _close(y, limit, close)
        elif a > LARGEST or a < SMALLEST or a != a:  # and so are all that follow in the block
            _outside(start, close)
        else:
            for i in range(BLOCK):
                x = float32_of(np.int64(start + i))
                close[i] = _close_anywhere(x, limit)
        if close.any():
            for i in range(BLOCK):
                if close[i]:
                    if count < hard.shape[0]:
                        hard[count] = start + i
                    count += 1
    return count
