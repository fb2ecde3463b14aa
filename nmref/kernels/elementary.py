"""exp in binary64, with an error far below half a unit of binary32 (SPEC 8.17, docs/exp.md), and
sums in binary64 (SPEC 8.20, 8.21).

Only additions, multiplications and integers: nothing here can differ between processors.
"""

from __future__ import annotations

import numpy as np

from nmref.dtypes import Array
from nmref.kernels.compile import kernel

golden = kernel
inner = kernel(forceinline=True)

INVERSE_LN2 = 1 / 0.6931471805599453
LN2_HIGH = float.fromhex("0x1.62e42fefap-1")  # the first 37 bits: k * LN2_HIGH is exact
LN2_LOW = float.fromhex("0x1.cf79abc9e3b3ap-40")  # the next 53
SHIFTER = 1.5 * 2.0**52  # adding and taking it off rounds to an integer
LARGEST, SMALLEST = 89.0, -104.0  # beyond: +Inf and +0

# 1/2!, 1/3!, ..., 1/13!, each correctly rounded: the integers are exact in binary64.
C2, C3, C4, C5, C6, C7 = 1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720, 1 / 5040
C8, C9, C10, C11 = 1 / 40320, 1 / 362880, 1 / 3628800, 1 / 39916800
C12, C13 = 1 / 479001600, 1 / 6227020800


@inner
def power_of_two(k: int) -> np.float64:
    """2^k, -1022 <= k <= 1023: an exponent field."""
    return np.int64((np.int64(k) + 1023) << 52).view(np.float64)


@inner
def exp64(x: np.float64) -> np.float64:
    """e^x for SMALLEST <= x <= LARGEST with a relative error below 2^-51."""
    k = (x * INVERSE_LN2 + SHIFTER) - SHIFTER
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    p = ((((C13 * r + C12) * r + C11) * r + C10) * r + C9) * r + C8
    p = (((((p * r + C7) * r + C6) * r + C5) * r + C4) * r + C3) * r + C2
    p = (p * r + 1) * r + 1
    return p * power_of_two(int(k))


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
