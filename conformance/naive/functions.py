"""exp, SiLU, softmax, RMSNorm, argmax (SPEC 8.17 to 8.21, 8.25).

Functions that end in _number take and give numbers; the others F32 bits, canonical (8.4).
"""

import math

from .floats import (
    UNIT,
    add32,
    canonical_bits,
    div32,
    ieee_divide,
    ieee_root,
    mul32,
    rn32,
    rounded,
    units,
    value,
)

START = 256
"""Bits of the first enclosure of e^x."""
HALVINGS = 16
"""e^x is (e^(x / 2^16)) ^ (2^16)."""


def exp(bits: int) -> int:
    """RN32(e^x), SPEC 8.17."""
    return canonical_bits(exp_number(value("F32", bits)))


def silu(bits: int) -> int:
    """SPEC 8.19."""
    return canonical_bits(silu_number(value("F32", bits)))


def softmax(xs: list[int]) -> list[int]:
    """SPEC 8.20."""
    return [canonical_bits(y) for y in softmax_numbers([value("F32", x) for x in xs])]


def rms_norm(xs: list[int], gains: list[int], eps: float) -> list[int]:
    """SPEC 8.21."""
    numbers = rms_norm_numbers(
        [value("F32", x) for x in xs], [value("F32", gain) for gain in gains], eps
    )
    return [canonical_bits(y) for y in numbers]


def argmax(xs: list[int]) -> int:
    """SPEC 8.25; a ValueError if one is NaN or there are none."""
    numbers = [value("F32", x) for x in xs]
    if any(math.isnan(x) for x in numbers):
        raise ValueError("no argmax: a value is NaN")
    return numbers.index(max(numbers))


def exp_number(x: float) -> float:
    """Round both ends of an enclosure of e^x, with more bits until they agree."""
    if math.isnan(x):
        return x
    if x > 89:  # 128 ln 2 = 88.7...
        return math.inf
    if x < -104:  # e^-104 < 2^-150, half of the smallest number
        return 0.0
    bits = START
    while True:
        low, high = enclose_exp(units(x), bits)
        if rounded(low, -bits) == rounded(high, -bits):
            return rounded(low, -bits)
        bits *= 2  # e^x is no tie unless x = 0, where both ends are 1


def enclose_exp(count: int, bits: int) -> tuple[int, int]:
    """Integers around 2^bits * e^x, x = count * 2^-149."""
    if count == 0:
        return 1 << bits, 1 << bits
    if count < 0:
        low, high = enclose_exp(-count, bits)
        return (1 << 2 * bits) // high, up(1 << 2 * bits, low)
    low = (count << bits) >> (HALVINGS - UNIT)
    high = low + 1
    low, high = exp_series(low, bits, False), exp_series(high, bits, True)
    for _ in range(HALVINGS):
        low, high = low * low >> bits, up(high * high, 1 << bits)
    return low, high


def exp_series(r: int, bits: int, upper: bool) -> int:
    """Give a bound of 2^bits * e^(r / 2^bits), r / 2^bits < 1/2: the sum of r^n / n!."""
    term = total = 1 << bits
    n = 0
    while term > 1:
        n += 1
        product, divisor = term * r, n << bits
        term = up(product, divisor) if upper else product // divisor
        total += term
    # The upper sum ends with a term of 1; those after it are halved each time, at least.
    return total + 1 if upper else total


def up(a: int, b: int) -> int:
    """Divide upward: ceil(a / b)."""
    return -(-a // b)


def silu_number(x: float) -> float:
    """RN32(x / RN32(1 + exp(-x)))."""
    return div32(x, add32(1.0, exp_number(-x)))


def softmax_numbers(xs: list[float]) -> list[float]:
    """Over all of xs, at least one."""
    largest = math.nan if any(math.isnan(x) for x in xs) else max(xs)
    exps = [exp_number(add32(x, -largest)) for x in xs]
    acc = 0.0
    for e in exps:
        acc += e  # RN64
    total = rn32(acc)
    return [div32(e, total) for e in exps]


def rms_norm_numbers(xs: list[float], gains: list[float], eps: float) -> list[float]:
    """Every Python operation here is one RN64; x * x is exact."""
    acc = 0.0
    for x in xs:
        acc += x * x
    s = rn32(ieee_divide(1.0, ieee_root(acc / len(xs) + eps)))
    return [mul32(mul32(x, s), gain) for x, gain in zip(xs, gains, strict=True)]
