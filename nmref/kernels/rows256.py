"""Few tokens on AVX2: y = W x^T row by row; memory sets the pace.

AVX2 cannot spread stored weights over their columns.  It brings x to the stored weights instead:
two permutations and a choice give the 8 of a group of 16.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from numba import literal_unroll

from nmref.dtypes import Array
from nmref.kernels.compile import kernel
from nmref.kernels.outliers import BLOCK, outlier_sum
from nmref.kernels.prepare import STORED
from nmref.kernels.rows_portable import short_group
from nmref.kernels.vector import (
    broadcast,
    claim,
    fma,
    mul,
    part,
    prefetch,
    tile,
    total,
    weights,
    zeros,
)
from nmref.kernels.vector_avx2 import COLUMNS, choose, nibbles

TOKENS = (1, 2, 4)
"""Numbers of tokens that have a kernel."""

ROWS = 32
"""Rows that are claimed together."""

LINE = 64
"""Bytes of a cache line; the next row is asked for while this one is multiplied."""

SUMS = 4
"""Registers of sums: as many as the latency of an FMA asks for."""


@cache
def rows256(tokens: int, slots: int) -> Any:
    """The kernel for so many tokens and outliers of a block of 256."""
    step = max(1, SUMS // tokens)
    lanes, dot = step * STORED, outlier_sum(slots)
    every, single = lanes * tokens, STORED * tokens
    firsts = tuple(range(0, every, lanes))
    lasts = tuple(range(0, single, STORED))

    @kernel(forceinline=True)
    def scaled(some: Any, scale: Array | None, r: int) -> Any:
        """Weights of `step` groups, times their scale."""
        return some if scale is None else mul(some, broadcast(scale[r], lanes))

    @kernel(forceinline=True)
    def one_scaled(some: Any, scale: Array | None, r: int) -> Any:
        """The same for one group."""
        return some if scale is None else mul(some, broadcast(scale[r], STORED))

    @kernel(forceinline=True)
    def sums(acc: Any, y: Array, r: int) -> None:
        for at in literal_unroll(firsts):
            y[at // lanes, r] = total(part(acc, at, lanes))

    @kernel(forceinline=True)
    def more(acc: Any, y: Array, r: int) -> None:
        for at in literal_unroll(lasts):
            y[at // STORED, r] += total(part(acc, at, STORED))

    @kernel
    def run(
        values: Array,
        columns: Array,
        scale: Array | None,
        out_values: Array,
        out_index: Array,
        x: Array,
        y: Array,
        counter: Array,
    ) -> None:
        """values [R, S], columns [R, G] (prepare.columns_of) -> y [tokens, R].

        x float32 [tokens, width], width >= 16 G and, with outliers, 256 O, zeros past K; scale [R]
        or None; out_values, out_index [R, O * slots].
        """
        per_row, groups, width = values.shape[1], columns.shape[1], x.shape[1]
        flat, codes, xs = values.reshape(-1), columns.reshape(-1), x.reshape(-1)
        over, index = out_values.reshape(-1), out_index.reshape(-1)
        whole = per_row // STORED
        rest, most = per_row - whole * STORED, whole // step * step
        wide = out_values.shape[1] // max(slots, 1) * BLOCK
        while True:
            first = claim(counter, ROWS)
            if first >= columns.shape[0]:
                return
            for r in range(first, min(first + ROWS, columns.shape[0])):
                v, c = r * per_row, r * groups
                acc, last = zeros(x, every), zeros(x, single)
                for g in range(0, most, step):
                    for line in range(0, lanes * values.itemsize, LINE):
                        prefetch(flat, v + per_row + line // values.itemsize, 3)
                    of_x = choose(xs, g * COLUMNS, width, nibbles(codes, c + g, step), tokens)
                    some = scaled(weights(flat, v, x, lanes), scale, r)
                    acc = fma(tile(some, tokens), of_x, acc)
                    v += lanes
                for g in range(most, whole):
                    of_x = choose(xs, g * COLUMNS, width, nibbles(codes, c + g, 1), tokens)
                    few = one_scaled(weights(flat, v, x, STORED), scale, r)
                    last = fma(tile(few, tokens), of_x, last)
                    v += STORED
                sums(acc, y, r)
                more(last, y, r)
                for t in range(tokens):
                    if rest:
                        at = t * width + whole * COLUMNS
                        y[t, r] += short_group(flat, v, codes[c + whole], rest, scale, r, xs, at)
                    y[t, r] += dot(over, index, r * out_values.shape[1], xs, t * width, wide)

    return run
