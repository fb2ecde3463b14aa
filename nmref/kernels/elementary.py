"""exp in binary64, with an error far below half a unit of binary32 (SPEC 8.17, docs/exp.md), and
sums in binary64 (SPEC 8.20, 8.21).

Only additions, multiplications and one table: nothing here can differ between processors.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from nmref.dtypes import Array

golden = nb.njit(cache=True, nogil=True)
inner = nb.njit(cache=True, forceinline=True)

INVERSE_LN2 = 1 / 0.6931471805599453
LN2_HIGH = float.fromhex("0x1.62e42fefap-1")  # the first 37 bits: k * LN2_HIGH is exact
LN2_LOW = float.fromhex("0x1.cf79abc9e3b3ap-40")  # the next 53
SHIFTER = 1.5 * 2.0**52  # adding and taking it off rounds to an integer
LARGEST, SMALLEST = 89.0, -104.0  # beyond: +Inf and +0

COEFFICIENTS = np.array([1 / f for f in (6227020800, 479001600, 39916800, 3628800, 362880, 40320,
                                         5040, 720, 120, 24, 6, 2, 1, 1)])  # fmt: skip
"""1/13!, 1/12!, ..., 1/1!, 1/0!, each correctly rounded: the integers are exact in binary64."""

POWERS = np.array([2.0**k for k in range(-151, 130)])
"""2^k at index k + 151."""


@inner
def exp64(x: np.float64) -> np.float64:
    """e^x for SMALLEST <= x <= LARGEST with a relative error below 2^-51."""
    k = (x * INVERSE_LN2 + SHIFTER) - SHIFTER
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    p = COEFFICIENTS[0]
    for i in range(1, 14):
        p = p * r + COEFFICIENTS[i]
    return p * POWERS[int(k) + 151]


@inner
def exp32(x: np.float32) -> np.float32:
    """The correctly rounded exponential."""
    inside = min(max(np.float64(x), SMALLEST), LARGEST)  # NaN: replaced below
    y = np.float32(exp64(inside if x == x else 0.0))
    return y if x == x else x


@golden
def exp(x: Array, y: Array) -> None:
    """x, y [n] float32."""
    for i in range(x.shape[0]):
        y[i] = exp32(x[i])


@golden
def sums(x: Array, y: Array) -> None:
    """x [n, m] float32 -> y [n] float64, each row ascending."""
    for row in range(x.shape[0]):
        acc = np.float64(0)
        for i in range(x.shape[1]):
            acc += np.float64(x[row, i])
        y[row] = acc


@golden
def squares(x: Array, y: Array) -> None:
    """x [n, m] float32 -> y [n] float64: sums of x * x, exact products, each row ascending."""
    for row in range(x.shape[0]):
        acc = np.float64(0)
        for i in range(x.shape[1]):
            acc += np.float64(x[row, i]) * np.float64(x[row, i])
        y[row] = acc
