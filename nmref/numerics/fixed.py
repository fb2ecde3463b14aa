"""Real functions by integers, and certain rounding to binary32.

A real number v stands as the integer nearest v * 2^BITS, give or take.  The errors of all steps
together stay below ERROR units; where an error of that size could change the rounded result, an
exception says so.  (It never does: results that close to a rounding boundary are 2^-180 rare.)
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]

BITS = 256
ONE = 1 << BITS
ERROR = 1 << 48
_GUARD = 32


@lru_cache(maxsize=1)
def two_pi() -> int:
    """2 pi, by Machin's formula: pi/4 = 4 arctan(1/5) - arctan(1/239)."""
    one = ONE << _GUARD
    return (8 * (4 * _inverse_series(5, one, -1) - _inverse_series(239, one, -1))) >> _GUARD


@lru_cache(maxsize=1)
def ln2() -> int:
    """ln 2 = 2 artanh(1/3)."""
    return (2 * _inverse_series(3, ONE << _GUARD, 1)) >> _GUARD


def _inverse_series(n: int, one: int, sign: int) -> int:
    """1/n + s/(3 n^3) + 1/(5 n^5) + ..., times `one`: artanh(1/n) for s = 1, arctan for s = -1."""
    total, power, k = 0, one // n, 1
    while power:
        total += power // k if k % 4 == 1 or sign == 1 else -(power // k)
        power //= n * n
        k += 2
    return total


def cos_sin(angle: int) -> tuple[int, int]:
    """Cos and sin, by Taylor's series after taking off whole turns."""
    angle %= two_pi()
    if angle > two_pi() // 2:
        angle -= two_pi()
    sums = _series(angle)
    return sums[0] - sums[2], sums[1] - sums[3]


def exp(x: int) -> tuple[int, int]:
    """e^x = v * 2^k: returns (v, k) with v from 0.7 to 1.5 as a fixed-point number."""
    k = (2 * x + ln2()) // (2 * ln2())
    return sum(_series(x - k * ln2())), k


def _series(x: int) -> list[int]:
    """The terms x^j / j!, summed in four classes by j mod 4."""
    sums, term, j = [0, 0, 0, 0], ONE, 0
    while term not in (0, -1):  # >> rounds down, so a negative term ends at -1
        sums[j % 4] += term
        j += 1
        term = (term * x >> BITS) // j
    return sums


def nearest(values: list[int]) -> F32:
    """RN32 of the numbers.

    Python divides integers with one correct rounding, to binary64.  Rounding that again is right
    unless the binary64 number is within one unit of a point halfway between binary32 numbers.
    """
    doubles = np.array([value / ONE for value in values])
    near = ((doubles.view(np.int64) + 1) & 0x1FFFFFFF) - 0x10000000  # 0 to 2: close to halfway
    hard = ((near >= 0) & (near <= 2)) | (np.abs(doubles) < 2.0**-125)
    out = doubles.astype(np.float32)
    for i in np.flatnonzero(hard):
        out[i] = nearest_scaled(values[i], 0)
    return out


def nearest_scaled(value: int, power: int) -> np.float32:
    """RN32 of value / 2^BITS * 2^power, certain although the value is off by up to ERROR units."""
    low, high = (_round(value + error, power) for error in (-ERROR, ERROR))
    if low != high:
        raise ArithmeticError(f"{value}: a result that needs more than {BITS} bits")
    return low


def _round(value: int, power: int) -> np.float32:
    """The binary32 number nearest to value / 2^BITS * 2^power; halfway cases do not occur."""
    unit = max(abs(value).bit_length() - 1 - BITS + power, -126) - 23  # of the last place
    shift = unit + BITS - power
    with np.errstate(over="ignore"):  # to infinity
        return np.float32(float((value + (1 << (shift - 1))) >> shift) * 2.0**unit)
