"""RoPE: frequencies, tables and turning a vector (SPEC 8.22 to 8.24).

A real number is enclosed between two integer counts of 2^-bits. All arithmetic on the ends is exact
or rounded outward, and the bits are doubled until both ends give the same binary32 number.
"""

import hashlib
from fractions import Fraction
from functools import lru_cache

from .floats import canonical_bits, rn32, rounded, value
from .numbers import element_bytes

START = 128
"""Bits of the first enclosures."""
Scaling = tuple[float, float, float, int]
"""factor, low_freq_factor, high_freq_factor, original_max_position_embeddings."""
Pair = tuple[int, int]
Table = list[list[int]]


def rope_tables(
    theta: float, d: int, start: int, count: int, scaling: Scaling | None = None
) -> tuple[Table, Table]:
    """Rows of cos and of sin for the positions start ... start + count - 1 (SPEC 8.23)."""
    cos, sin = [], []
    for position in range(start, start + count):
        row = [cos_sin(theta, d, scaling, position, i) for i in range(d // 2)]
        cos.append([c for c, _ in row])
        sin.append([s for _, s in row])
    return cos, sin


def rope_digest(theta: float, d: int, count: int, scaling: Scaling | None = None) -> str:
    """SHA-256 of the tables of positions 0 ... count - 1 (SPEC 8.23)."""
    total = hashlib.sha256()
    for table in rope_tables(theta, d, 0, count, scaling):
        for row in table:
            total.update(element_bytes(row, "F32"))
    return total.hexdigest()


def rope(v: list[int], cos_row: list[int], sin_row: list[int]) -> list[int]:
    """Turn a vector (SPEC 8.24); canonical bits."""
    turned = rope_numbers(
        [value("F32", x) for x in v],
        [value("F32", c) for c in cos_row],
        [value("F32", s) for s in sin_row],
    )
    return [canonical_bits(y) for y in turned]


def rope_numbers(v: list[float], cos: list[float], sin: list[float]) -> list[float]:
    """Python floats: the products are exact, and the difference and the sum are each one RN64."""
    half = len(v) // 2
    low = [rn32(v[i] * cos[i] - v[i + half] * sin[i]) for i in range(half)]
    high = [rn32(v[i + half] * cos[i] + v[i] * sin[i]) for i in range(half)]
    return low + high


def cos_sin(theta: float, d: int, scaling: Scaling | None, position: int, i: int) -> Pair:
    """F32 bits of one entry of both tables."""
    if position == 0:
        return canonical_bits(1.0), 0
    bits = START
    while True:
        low, high = frequencies(theta, d, scaling, bits)[i]
        ends = [
            (rounded(total - slack, -bits), rounded(total + slack, -bits))
            for total, slack in circle(position * low, position * high, bits)
        ]
        if all(below == above for below, above in ends):
            cos, sin = (canonical_bits(below) for below, _ in ends)
            return cos, sin
        bits *= 2


def circle(low: int, high: int, bits: int) -> list[Pair]:
    """Cosine and sine of an angle between low and high, each with the most that it is off."""
    pi_low, pi_high = enclose_pi(bits)
    turns = (low + pi_low) // (2 * pi_low)
    low, high = low - 2 * turns * pi_high, high - 2 * turns * pi_low
    # Taylor at `low`, now within 4 of zero: terms low^n / n!, each computed from the one before.
    sums = [0, 0]
    term, n = 1 << bits, 0
    while abs(term) > 1 or n < 16:
        sums[n % 2] += term if n % 4 < 2 else -term
        n += 1
        term = (term * low >> bits) // n
    # A term is off by e[n] <= (4 e[n-1] + 1) / n + 1 units, which never exceeds 11; the terms not
    # added are together smaller than one more. The true angle is up to high - low away.
    slack = 11 * (n + 1) + high - low
    return [(total, slack) for total in sums]


@lru_cache(maxsize=64)
def frequencies(theta: float, d: int, scaling: Scaling | None, bits: int) -> list[Pair]:
    """Enclosures of f[i], or of f'[i] if scaled (SPEC 8.22)."""
    plain = [enclose_power(Fraction(theta), Fraction(2 * i, d), bits) for i in range(d // 2)]
    if scaling is None:
        return plain
    return [scale(f, scaling, bits) for f in plain]


def enclose_power(theta: Fraction, exponent: Fraction, bits: int) -> Pair:
    """Enclose theta^-(a/b): the largest F with F^b <= 2^(bits b) / theta^a, and F + 1."""
    a, b = exponent.numerator, exponent.denominator
    limit = (theta.denominator**a << bits * b) // theta.numerator**a
    root = 0
    for bit in range(limit.bit_length() // b, -1, -1):
        if (root | 1 << bit) ** b <= limit:
            root |= 1 << bit
    return root, root + 1


def scale(f: Pair, scaling: Scaling, bits: int) -> Pair:
    """Enclose f' of rope_type llama3.

    With z held inside [0, 1], (1 - z) f / factor + z f is f for t above high_freq_factor and
    f / factor for t below low_freq_factor: one formula for the three cases of SPEC 8.22.
    """
    factor, low_factor, high_factor, original = (Fraction(number) for number in scaling)
    (f_low, f_high), (pi_low, pi_high) = f, enclose_pi(bits)

    def share(t: Fraction) -> Fraction:
        return min(max((t - low_factor) / (high_factor - low_factor), Fraction(0)), Fraction(1))

    # The units of f and pi cancel in t.
    z_low = share(original * f_low / (2 * pi_high))
    z_high = share(original * f_high / (2 * pi_low))
    low = ((1 - z_high) / factor + z_low) * f_low
    high = ((1 - z_low) / factor + z_high) * f_high
    return int(low), int(high) + 1


@lru_cache(maxsize=64)
def enclose_pi(bits: int) -> Pair:
    """Machin: pi = 16 atan(1/5) - 4 atan(1/239), with 32 bits more for what the terms are off."""
    one = 1 << (bits + 32)
    pi = (16 * atan_inverse(5, one) - 4 * atan_inverse(239, one)) >> 32
    return pi - 1, pi + 2


def atan_inverse(k: int, one: int) -> int:
    """`one` times atan(1/k) = 1/k - 1/(3 k^3) + 1/(5 k^5) - ..., off by a unit or two a term."""
    power, n, total = one // k, 0, 0
    while power > 0:
        total += (power if n % 2 == 0 else -power) // (2 * n + 1)
        power //= k * k
        n += 1
    return total
