"""Outliers times tokens: those of a row and one token, or of many rows and a panel."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from nmref.dtypes import Array
from nmref.kernels.compile import kernel
from nmref.kernels.vector import (
    broadcast,
    fma,
    gather,
    item,
    load,
    scalar,
    store,
    total,
    weights,
    zeros,
)

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


@cache
def outlier_panel(lanes: int) -> Any:
    """The function that adds outliers to the sums of a tile of rows, for `lanes` tokens."""

    @kernel
    def run(
        values: Array,
        index: Array,
        slots: int,
        first: int,
        last: int,
        x: Array,
        start: int,
        sums: Array,
    ) -> None:
        """values, index [R, O * slots]; x's column 0 is at `start`; sums [last - first][lanes].

        One block of columns after the other, so that its x stays near.
        """
        flat, columns, width = values.reshape(-1), index.reshape(-1), values.shape[1]
        for b in range(width // slots):
            for r in range(first, last):
                o, at = (r - first) * lanes, r * width + b * slots
                acc = load(sums, o, lanes)
                for j in range(at, at + slots):
                    row = start + (b * BLOCK + np.intp(item(columns, j))) * lanes
                    acc = fma(broadcast(scalar(flat, j, x), lanes), load(x, row, lanes), acc)
                store(sums, o, acc)

    return run
