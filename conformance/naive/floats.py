"""Binary floating-point numbers: bits, values, and exact results rounded once (SPEC 8.2, 8.4).

A number is a Python float, which is an IEEE binary64 number and holds every BF16, F16 and binary32
number. An exact result is an integer count of 2^exponent; `rounded` makes a number of it. Python
floats compute only where one IEEE binary64 operation is meant, or where a NaN or an infinity is
among the operands: then nothing is rounded, and IEEE 754 gives a NaN or an infinity.
"""

import math
import struct
from typing import NamedTuple

from .numbers import widen

NAN_BITS = 0x7FC00000
UNIT = -149
"""Every binary32 number is an integer count of 2^-149."""


class Format(NamedTuple):
    """A binary format: bits of a significand, exponent of its smallest number, overflow."""

    precision: int
    least: int
    top: int
    """The first power of 2 that is too large."""


BF16 = Format(8, -133, 128)
F32 = Format(24, UNIT, 128)
F64 = Format(53, -1074, 1024)


def value(dtype: str, bits: int) -> float:
    """Number of an F32, F16 or BF16 element."""
    number: float = struct.unpack("<f", struct.pack("<I", widen(dtype, bits)))[0]
    return number


def canonical_bits(number: float) -> int:
    """F32 bits of a binary32 number after the map of SPEC 8.4: one NaN, one zero."""
    if math.isnan(number):
        return NAN_BITS
    if number == 0:
        return 0
    bits: int = struct.unpack("<I", struct.pack("<f", number))[0]
    return bits


def to_integer(count: int, shift: int, mode: str) -> int:
    """Round count / 2^shift: rne to nearest, ties to even; rz toward zero; rd down."""
    if shift <= 0:
        return count << -shift
    floor = count >> shift
    rest = count - (floor << shift)
    half = 1 << (shift - 1)
    if mode == "rne":
        up = rest > half or (rest == half and floor % 2 == 1)
    elif mode == "rz":
        up = count < 0 and rest != 0
    else:
        assert mode == "rd"
        up = False
    return floor + up


def exponent_of(count: int, exponent: int) -> int:
    """floor(log2 |v|) of v = count * 2^exponent, not zero."""
    return abs(count).bit_length() - 1 + exponent


def rounded(count: int, exponent: int, form: Format = F32, mode: str = "rne") -> float:
    """Round count * 2^exponent to the format; subnormals are kept, overflow is an infinity."""
    if count == 0:
        return 0.0
    quantum = max(exponent_of(count, exponent) - form.precision + 1, form.least)
    result = abs(to_integer(count, quantum - exponent, mode))
    if result != 0 and exponent_of(result, quantum) >= form.top:
        return math.copysign(math.inf, count)
    return math.copysign(math.ldexp(result, quantum), count)  # exact: the result is in the format


def units(number: float) -> int:
    """Give the count of 2^-149 that a finite binary32 number is."""
    return int(math.ldexp(number, -UNIT))  # exact: at most 2^277


def finite(*numbers: float) -> bool:
    """Whether all are finite."""
    return all(math.isfinite(number) for number in numbers)


def rn32(number: float) -> float:
    """Round a binary64 number to binary32."""
    if not math.isfinite(number):
        return number
    fraction, exponent = math.frexp(number)
    return rounded(int(math.ldexp(fraction, 53)), exponent - 53)


def add32(a: float, b: float) -> float:
    """RN32(a + b) of binary32 numbers."""
    return rounded(units(a) + units(b), UNIT) if finite(a, b) else a + b


def mul32(a: float, b: float) -> float:
    """RN32(a * b) of binary32 numbers."""
    return rounded(units(a) * units(b), 2 * UNIT) if finite(a, b) else a * b


def fma32(a: float, b: float, addend: float) -> float:
    """RN32(addend + a * b) of binary32 numbers, rounded once."""
    if not finite(a, b, addend):
        return a * b + addend
    return rounded(units(a) * units(b) + (units(addend) << -UNIT), 2 * UNIT)


def div32(a: float, b: float) -> float:
    """RN32(a / b) of binary32 numbers (SPEC 8.18)."""
    if b == 0 or not finite(a, b):
        return ieee_divide(a, b)
    negative = (a < 0) != (b < 0)
    # 300 bits below the point, and one bit that says whether there is more: it lies far below
    # half a unit of the result and settles what is no tie.
    quotient, rest = divmod(abs(units(a)) << 300, abs(units(b)))
    count = 2 * quotient + (rest != 0)
    return rounded(-count if negative else count, -301)


def ieee_divide(a: float, b: float) -> float:
    """RN64(a / b); Python raises an exception where IEEE 754 has x / 0."""
    if b != 0:
        return a / b
    if a == 0 or math.isnan(a):
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1.0, b)


def ieee_root(a: float) -> float:
    """RN64(sqrt(a)); Python raises an exception where IEEE 754 has the root of a number < 0."""
    return math.nan if a < 0 else math.sqrt(a)
