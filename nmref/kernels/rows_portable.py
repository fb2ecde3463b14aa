"""Few tokens on any CPU: y = W x^T row by row, one stored weight at a time."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from nmref.dtypes import Array
from nmref.kernels.compile import kernel
from nmref.kernels.outliers import BLOCK
from nmref.kernels.prepare import STORED
from nmref.kernels.vector import claim, scalar

ROWS = 32
"""Rows that are claimed together."""


@kernel(forceinline=True)
def term(flat: Array, v: int, code: int, j: int, x: Array, at: int) -> float:
    """Stored weight j of a group, whose weights begin at v and whose x begins at `at`."""
    column = np.intp(code >> np.uint32(4 * j) & np.uint32(15))
    return scalar(flat, v + j, x) * x[at + column]


@kernel(forceinline=True)
def short_group(flat: Array, v: int, code: int, count: int, x: Array, at: int) -> float:
    """The first `count` stored weights of a group: a row's last group may have fewer than 8."""
    acc = np.float32(0)
    for j in range(count):
        acc += term(flat, v, code, j, x, at)
    return acc


@kernel(forceinline=True)
def row_sum(flat: Array, v: int, columns: Array, r: int, whole: int, x: Array, at: int) -> float:
    """`whole` groups of a row; four sums, since one would wait for itself."""
    a, b, c, d = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    for g in range(whole):
        code = columns[r, g]
        a += term(flat, v, code, 0, x, at)
        b += term(flat, v, code, 1, x, at)
        c += term(flat, v, code, 2, x, at)
        d += term(flat, v, code, 3, x, at)
        a += term(flat, v, code, 4, x, at)
        b += term(flat, v, code, 5, x, at)
        c += term(flat, v, code, 6, x, at)
        d += term(flat, v, code, 7, x, at)
        v += STORED
        at += 2 * STORED
    return (a + b) + (c + d)


@kernel(forceinline=True)
def few_outliers(
    over: Array, index: Array, o: int, count: int, slots: int, x: Array, at: int
) -> float:
    """`count` outliers of a row from `o` on, `slots` a block."""
    acc = np.float32(0)
    for first in range(o, o + count, slots):
        for j in range(first, first + slots):
            acc += scalar(over, j, x) * x[at + np.intp(index[j])]
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
                    acc = row_sum(flat, v, columns, r, whole, xs, t * width)
                    if rest:
                        end, at = v + whole * STORED, t * width + 16 * whole
                        acc += short_group(flat, end, columns[r, whole], rest, xs, at)
                    if scale is not None:
                        acc *= scale[r]
                    if slots:
                        acc += few_outliers(
                            over, index, o, out_values.shape[1], slots, xs, t * width
                        )
                    y[t, r] = acc

    return run
