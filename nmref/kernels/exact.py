"""The exact dot (SPEC 8.6): products are added to a fixed-point number that holds them all.

A product is an integer below 2^48 times 2^(q - 298), 0 <= q <= 506.  The sum is kept in digits of
32 bits in 64-bit words, so that carries need to be taken only now and then.
"""

from __future__ import annotations

import numpy as np

from nmref.dtypes import Array
from nmref.kernels.compile import kernel
from nmref.kernels.rounding import (
    FINITE,
    SIGN,
    bits32,
    float32_of,
    round_magnitude,
    special,
    special_result,
)

golden = kernel
inner = kernel(forceinline=True)

DIGITS = 20  # 506 + 48 + 31 bits and a sign
CARRY_EVERY = 1 << 24  # terms; a digit grows by less than 2^34 with each
LOW = np.int64(0xFFFFFFFF)


@golden
def exact(weight: Array, x: Array, begin: Array, end: Array, y: Array) -> None:
    """weight [R, K], x [T, K], terms in begin[t] <= column < end[t] -> y [T, R]."""
    digits = np.zeros(DIGITS, dtype=np.int64)
    for r in range(weight.shape[0]):
        for t in range(x.shape[0]):
            digits[:] = 0
            seen, terms = FINITE, 0
            for c in range(begin[t], end[t]):
                w, value = weight[r, c], x[t, c]
                if w == 0:
                    continue
                kind = special(w, value)
                seen |= kind
                if kind == FINITE:
                    _add(digits, bits32(w), bits32(value))
                    terms += 1
                    if terms % CARRY_EVERY == 0:
                        _carry(digits)
            y[t, r] = special_result(seen) if seen else _rounded(digits)


@inner
def _add(digits: Array, w: np.int64, x: np.int64) -> None:
    """Add the product of two finite numbers, given as bits."""
    field_w, field_x = (w >> 23) & 255, (x >> 23) & 255
    product = ((w & 0x7FFFFF) | (np.int64(field_w > 0) << 23)) * (
        (x & 0x7FFFFF) | (np.int64(field_x > 0) << 23)
    )
    place = max(field_w, np.int64(1)) + max(field_x, np.int64(1)) - 2
    digit, shift = place >> 5, place & 31
    low, high = (product & LOW) << shift, (product >> 32) << shift  # below 2^63 and 2^47
    sign = np.int64(-1) if (w ^ x) & SIGN else np.int64(1)
    digits[digit] += sign * (low & LOW)
    digits[digit + 1] += sign * ((low >> 32) + (high & LOW))
    digits[digit + 2] += sign * (high >> 32)


@inner
def _carry(digits: Array) -> None:
    """All digits but the last to 0 ... 2^32 - 1; the last one has the sign."""
    for i in range(DIGITS - 1):
        digits[i + 1] += digits[i] >> 32
        digits[i] &= LOW


@inner
def _rounded(digits: Array) -> np.float32:
    """RN32 of the sum; all but the leading 63 bits matter only by being zero or not."""
    _carry(digits)
    negative = digits[DIGITS - 1] < 0
    if negative:
        for i in range(DIGITS):
            digits[i] = -digits[i]
        _carry(digits)
    top = DIGITS - 1
    while top > 0 and digits[top] == 0:
        top -= 1
    if digits[top] == 0:
        return float32_of(np.int64(0))
    magnitude, below, exponent = digits[top], np.int64(0), 32 * top - 298
    if top > 0:  # two digits are 33 to 64 bits; one bit of room for the sign
        magnitude, below = (magnitude << 31) | (digits[top - 1] >> 1), digits[top - 1] & 1
        exponent -= 31
    for i in range(top - 1):
        below |= digits[i]
    return round_magnitude(magnitude | np.int64(below != 0), exponent, negative, True)
