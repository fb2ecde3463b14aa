"""The outliers of a row, times one token."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from nmref.dtypes import Array
from nmref.kernels.compile import kernel
from nmref.kernels.vector import fma, gather, total, weights, zeros

BLOCK = 256


@cache
def outlier_sum(slots: int) -> Any:
    """The function for `slots` outliers of a block of 256 columns; 0 for a weight without."""
    if slots == 0:

        @kernel(forceinline=True)
        def nothing(
            values: Array, index: Array, at: int, x: Array, start: int, columns: int
        ) -> Any:
            return np.float32(0)

        return nothing

    @kernel(forceinline=True)
    def run(values: Array, index: Array, at: int, x: Array, start: int, columns: int) -> Any:
        """Values and uint8 columns from `at` on; x[start...], `columns` of it, whole blocks."""
        acc = zeros(x, slots)
        for first in range(start, start + columns, BLOCK):
            acc = fma(weights(values, at, x, slots), gather(x, first, index, at, slots), acc)
            at += slots
        return total(acc)

    return run
