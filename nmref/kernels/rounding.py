"""Binary32 numbers as integers: taking them apart, and one rounding (SPEC 8.2, 8.13).

In a kernel a finite number is significand * 2^exponent; sums are magnitudes of more than 64 bits
as `high * 2^32 + low`.
"""

from __future__ import annotations

import numpy as np

from nmref.kernels.compile import kernel

inner = kernel(forceinline=True)

INFINITY = np.int64(0x7F800000)
QUIET_NAN = np.int64(0x7FC00000)
SIGN = np.int64(0x80000000)

# What a term can be, as bits to be gathered over a sum.
FINITE, PLUS, MINUS, NAN = 0, 1, 2, 4


@inner
def bits32(value: np.float32) -> np.int64:
    """The 32 bits of a binary32 number, not negative."""
    return np.int64(np.float32(value).view(np.uint32))


@inner
def float32_of(bits: np.int64) -> np.float32:
    """The binary32 number of these bits."""
    return np.uint32(bits).view(np.float32)


@inner
def special(w: np.float32, x: np.float32) -> int:
    """FINITE, PLUS, MINUS or NAN: what the special rule sees of the term w * x, w not zero."""
    a, b = bits32(w), bits32(x)
    big = max(a & ~SIGN, b & ~SIGN)
    if big < INFINITY:
        return FINITE
    if big > INFINITY or (b & ~SIGN) == 0:
        return NAN
    return MINUS if (a ^ b) & SIGN else PLUS


@inner
def special_result(seen: int) -> np.float32:
    """The result of the special rule over everything seen, not FINITE (SPEC 8.5)."""
    if seen == PLUS:
        return float32_of(INFINITY)
    if seen == MINUS:
        return float32_of(INFINITY | SIGN)
    return float32_of(QUIET_NAN)


@inner
def bit_length(value: np.int64) -> int:
    """Bits of a number >= 0 without leading zeros."""
    count, step = 0, 32
    while step:
        if value >> step:
            value >>= step
            count += step
        step >>= 1
    return count + (1 if value else 0)


@inner
def round_magnitude(
    magnitude: np.int64, exponent: int, negative: bool, nearest: bool
) -> np.float32:
    """magnitude * 2^exponent, 0 < magnitude < 2^63, rounded to nearest even or toward zero.

    Subnormals are kept; a result that needs an exponent above 127 is infinite.
    """
    leading = exponent + bit_length(magnitude) - 1
    quantum = max(leading, -126) - 23  # the result is a number of 2^quantum
    shift = quantum - exponent
    if leading > 127:
        bits = INFINITY
    elif shift <= 0:
        bits = (np.int64(quantum + 149) << 23) + (magnitude << -shift)
    else:
        count, rest, half = np.int64(0), np.int64(0), np.int64(1)  # shift > 63: below a half
        if shift <= 63:
            count = magnitude >> shift if shift < 63 else np.int64(0)
            rest = magnitude - (count << shift) if shift < 63 else magnitude
            half = np.int64(1) << (shift - 1)
        if nearest and (rest > half or (rest == half and count & 1)):
            count += 1
        # Normal: the hidden bit 2^23 adds one to the exponent field. Subnormal: the count alone.
        bits = min((np.int64(quantum + 149) << 23) + count, INFINITY)
    return float32_of(bits | SIGN if negative else bits)
