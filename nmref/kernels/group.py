"""Dots of block-fused units (SPEC 8.11 to 8.13): align a group of products, add, round once."""

from __future__ import annotations

import numpy as np

from nmref.dtypes import Array
from nmref.kernels.compile import kernel
from nmref.kernels.rounding import (
    FINITE,
    SIGN,
    bit_length,
    bits32,
    float32_of,
    round_magnitude,
    special,
    special_result,
)

golden = kernel
inner = kernel(forceinline=True)

RZ, RD, RNE = 0, 1, 2
LOW = np.int64(0xFFFFFFFF)
NOTHING = -100000  # exponent of what takes no part


@golden
def tc(
    values: Array,
    columns: Array,
    x: Array,
    begin: Array,
    end: Array,
    y: Array,
    size: int,
    fraction: int,
    inward: int,
    nearest: bool,
) -> None:
    """Slots [R, S] of a matrix, x [T, K] -> y [T, R]: groups of `size` slots after each other.

    columns [R, S], or [1, S] if all rows have the same; a virtual slot has the value 0.  Terms
    exist for begin[t] <= column < end[t].
    """
    products = np.zeros(size, dtype=np.int64)
    exponents = np.zeros(size, dtype=np.int64)
    for r in range(values.shape[0]):
        row = r if columns.shape[0] > 1 else 0
        for t in range(x.shape[0]):
            a = np.float32(0)
            for first in range(0, values.shape[1], size):
                count, seen = 0, FINITE
                for s in range(first, min(first + size, values.shape[1])):
                    w, c = values[r, s], columns[row, s]
                    if w == 0 or c < begin[t] or c >= end[t]:
                        continue
                    seen |= special(w, x[t, c])
                    if seen == FINITE and x[t, c] != 0:
                        m, e = _parts(w)
                        n, f = _parts(x[t, c])
                        products[count], exponents[count] = m * n, e + f
                        count += 1
                seen |= special(a, np.float32(1))
                if seen != FINITE:
                    a = special_result(seen)
                elif count:
                    a = _group(products, exponents, count, a, fraction, inward, nearest)
            y[t, r] = a


@inner
def _parts(value: np.float32) -> tuple[np.int64, int]:
    """A finite number, not zero -> m, e with value = m * 2^(e - 23), 2^23 <= |m| < 2^24."""
    bits = bits32(value)
    field, m = (bits >> 23) & 255, bits & 0x7FFFFF
    if field:
        m, e = m | 0x800000, field - 127
    else:
        shift = 24 - bit_length(m)
        m, e = m << shift, np.int64(-126 - shift)
    return (-m if bits & SIGN else m), e


@inner
def _group(
    products: Array,
    exponents: Array,
    count: int,
    a: np.float32,
    fraction: int,
    inward: int,
    nearest: bool,
) -> np.float32:
    """The accumulator after one group of finite products, none of them zero."""
    m, top = np.int64(0), np.int64(NOTHING)
    if a != 0:
        m, top = _parts(a)
    e = top
    for i in range(count):
        e = max(e, exponents[i])
    aligned = _aligned(m, fraction - 23 - (e - top), inward) if m else np.int64(0)
    low, high = aligned & LOW, aligned >> 32  # the sum needs up to 69 bits
    for i in range(count):
        aligned = _aligned(products[i], fraction - 46 - (e - exponents[i]), inward)
        low += aligned & LOW
        high += aligned >> 32
    return _rounded(high + (low >> 32), low & LOW, e - fraction, nearest)


@inner
def _aligned(m: np.int64, shift: int, inward: int) -> np.int64:
    """m * 2^shift as an integer, rounded."""
    if shift >= 0:
        return m << shift
    if inward == RD:
        return m >> min(-shift, 63)
    magnitude = abs(m)  # below 2^48
    if shift < -60:
        return np.int64(0)
    whole = magnitude >> -shift
    rest, half = magnitude - (whole << -shift), np.int64(1) << (-shift - 1)
    if inward == RNE and (rest > half or (rest == half and whole & 1)):
        whole += 1
    return -whole if m < 0 else whole


@inner
def _rounded(high: np.int64, low: np.int64, exponent: int, nearest: bool) -> np.float32:
    """(high * 2^32 + low) * 2^exponent as binary32; what does not fit 63 bits becomes one bit."""
    negative = high < 0
    if negative:
        low = -low
        high = -high + (low >> 32)
        low &= LOW
    if high == 0 and low == 0:
        return float32_of(np.int64(0))
    magnitude = (high << 32) | low
    if high >> 31:
        magnitude = (high << 24) | (low >> 8) | np.int64((low & 255) != 0)
        exponent += 8
    return round_magnitude(magnitude, exponent, negative, nearest)
