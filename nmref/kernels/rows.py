"""y = x W^T by plain loops, for activations that are not finite.

A term exists only where the weight is not zero (SPEC part 8), so an infinite activation under a
zero weight makes no NaN.  Sums are float32, columns ascending.
"""

from __future__ import annotations

import numpy as np

from nmref.dtypes import Array
from nmref.kernels.compile import kernel


@kernel
def dense_rows(weight: Array, x: Array, y: Array) -> None:
    """weight [R, K], x [K, T] float32 -> added to y [R, T]."""
    for r in range(weight.shape[0]):
        for column in range(weight.shape[1]):
            value = weight[r, column]
            if value != np.float32(0):
                for t in range(x.shape[1]):
                    y[r, t] += value * x[column, t]
