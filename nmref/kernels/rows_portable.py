"""Few tokens on any CPU: y = W x^T row by row, one stored weight at a time."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from nmref.dtypes import Array
from nmref.kernels.compile import kernel
from nmref.kernels.outliers import BLOCK
from nmref.kernels.prepare import STORED
from nmref.kernels.vector import claim, item, scalar

GROUP = 16

ROWS = 32
"""Rows that are claimed together."""


@kernel(forceinline=True)
def term(
    flat: Array, v: int, code: int, j: int, scale: Array | None, r: int, x: Array, at: int
) -> float:
    """Stored weight j of a group of row r: its weights begin at v, its x at `at`."""
    weight = scalar(flat, v + j, x)
    if scale is not None:
        weight *= scale[r]
    return weight * item(x, at + np.intp(code >> np.uint32(4 * j) & np.uint32(15)))


@kernel(forceinline=True)
def short_group(
    flat: Array, v: int, code: int, count: int, scale: Array | None, r: int, x: Array, at: int
) -> float:
    """The first `count` stored weights of a group: a row's last group may have fewer than 8."""
    acc = np.float32(0)
    for j in range(count):
        acc += term(flat, v, code, j, scale, r, x, at)
    return acc


@kernel(forceinline=True)
def row_sum(
    flat: Array, v: int, columns: Array, r: int, whole: int, scale: Array | None, x: Array, at: int
) -> float:
    """`whole` groups of row r; four sums, since one would wait for itself."""
    a, b, c, d = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    for g in range(whole):
        code = columns[r, g]
        for j in range(0, STORED, 4):
            a += term(flat, v, code, j, scale, r, x, at)
            b += term(flat, v, code, j + 1, scale, r, x, at)
            c += term(flat, v, code, j + 2, scale, r, x, at)
            d += term(flat, v, code, j + 3, scale, r, x, at)
        v += STORED
        at += GROUP
    return (a + b) + (c + d)


@kernel(forceinline=True)
def few_outliers(
    over: Array, index: Array, o: int, count: int, slots: int, x: Array, at: int
) -> float:
    """`count` outliers of a row from `o` on, `slots` a block."""
    acc = np.float32(0)
    for first in range(o, o + count, slots):
        for j in range(first, first + slots):
            acc += scalar(over, j, x) * item(x, at + np.intp(item(index, j)))
        at += BLOCK
    return acc


@cache
def rows_portable() -> Any:
    """The kernel, for any number of tokens and of outliers."""

    @kernel
    def run(
        values: Array,
        columns: Array,
        scale: Array | None,
        out_values: Array,
        out_index: Array,
        slots: int,
        x: Array,
        y: Array,
        counter: Array,
    ) -> None:
        """values [R, S], columns [R, G] (prepare.columns_of) -> y [T, R].

        x float32 [T, width], width >= 16 G and, with outliers, 256 O, zeros past K; scale [R] or
        None; out_values, out_index [R, O * slots], slots 0 without outliers.
        """
        per_row, width = values.shape[1], x.shape[1]
        flat, over, index, xs = (
            values.reshape(-1),
            out_values.reshape(-1),
            out_index.reshape(-1),
            x.reshape(-1),
        )
        whole = per_row // STORED
        rest = per_row - whole * STORED
        while True:
            first = claim(counter, ROWS)
            if first >= columns.shape[0]:
                return
            for r in range(first, min(first + ROWS, columns.shape[0])):
                v, o = r * per_row, r * out_values.shape[1]
                for t in range(y.shape[0]):
                    acc = row_sum(flat, v, columns, r, whole, scale, xs, t * width)
                    if rest:
                        end, at = v + whole * STORED, t * width + GROUP * whole
                        acc += short_group(flat, end, columns[r, whole], rest, scale, r, xs, at)
                    if slots:
                        acc += few_outliers(
                            over, index, o, out_values.shape[1], slots, xs, t * width
                        )
                    y[t, r] = acc

    return run
