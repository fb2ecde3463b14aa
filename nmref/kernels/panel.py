"""Many tokens: y = W x^T with tokens on the lanes, so that only stored weights are multiplied.

A stored weight is broadcast and multiplied into the row of x that belongs to its column.  The x of
some columns, for one panel of tokens, stays in the first-level cache while every row of a tile of W
passes.  Runs on every CPU, in float32 and, for int8, in int32.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from nmref.dtypes import Array
from nmref.kernels.activations import unpack
from nmref.kernels.compile import kernel
from nmref.kernels.outliers import outlier_panel
from nmref.kernels.prepare import STORED
from nmref.kernels.vector import (
    add,
    broadcast,
    cat,
    claim,
    fma,
    item,
    load,
    part,
    prefetch,
    scalar,
    store,
    zeros,
)

GROUP = 16
"""Columns."""

NEAR = 512
"""Lanes times groups whose x stays near: 32 KB."""

AHEAD, FAR = 4, 24
"""Rows to fetch ahead into the first and the second cache: a row's next weights lie pages away from
the last row's, where no CPU does so by itself."""

LINE = 64
"""Bytes."""


@cache
def fold(lanes: int, wide: int) -> Any:
    """A vector of `wide` lanes -> the sum of its parts of `lanes`."""
    if wide == lanes:

        @kernel(forceinline=True)
        def same(acc: Any) -> Any:
            return acc

        return same
    half, rest = wide // 2, fold(lanes, wide // 2)

    @kernel(forceinline=True)
    def run(acc: Any) -> Any:
        return rest(add(part(acc, 0, half), part(acc, half, half)))

    return run


@cache
def _weights(lanes: int, count: int) -> Any:
    """Weights flat[v], flat[v + 8], ... of `count` groups, each on `lanes` lanes."""
    if count > 1:
        half, more = _weights(lanes, count // 2), count // 2 * STORED

        @kernel(forceinline=True)
        def both(flat: Array, v: int, scale: Array | None, r: int, x: Array) -> Any:
            return cat(half(flat, v, scale, r, x), half(flat, v + more, scale, r, x))

        return both

    @kernel(forceinline=True)
    def one(flat: Array, v: int, scale: Array | None, r: int, x: Array) -> Any:
        weight = scalar(flat, v, x)
        if scale is not None:
            weight *= scale[r]
        return broadcast(weight, lanes)

    return one


@cache
def rows_of(lanes: int, count: int, bits: int, stride: int) -> Any:
    """Rows of x for `count` groups: those that the codes name at a shift of some bits.

    A group's rows begin `stride` behind the group's before.
    """
    field = np.uint32((1 << bits) - 1)
    if count > 1:
        half, more = rows_of(lanes, count // 2, bits, stride), count // 2

        @kernel(forceinline=True)
        def both(x: Array, at: int, codes: Array, c: int, shift: int) -> Any:
            first = half(x, at, codes, c, shift)
            return cat(first, half(x, at + more * stride, codes, c + more, shift))

        return both

    @kernel(forceinline=True)
    def one(x: Array, at: int, codes: Array, c: int, shift: int) -> Any:
        row = item(codes, c) >> np.uint32(shift) & field
        return load(x, at + np.intp(row) * lanes, lanes)

    return one


@cache
def panel(lanes: int, wide: int) -> Any:
    """The kernel for panels of `lanes` tokens, with `wide` lanes of sums.

    `wide` / `lanes` groups are multiplied side by side: one sum would wait for itself.
    """
    together, depth, stride = wide // lanes, NEAR // lanes, GROUP * lanes
    folded, single, outliers = fold(lanes, wide), _weights(lanes, 1), outlier_panel(lanes)
    weights, xs, x_of = (
        _weights(lanes, together),
        rows_of(lanes, together, 4, stride),
        rows_of(lanes, 1, 4, stride),
    )

    @kernel(forceinline=True)
    def base(
        flat: Array,
        v: int,
        codes: Array,
        c: int,
        groups: int,
        rest: int,
        x: Array,
        at: int,
        scale: Array | None,
        r: int,
        acc: Any,
    ) -> Any:
        """`groups` whole groups of a row, then `rest` weights of one more."""
        many, g = zeros(x, wide), 0
        while g + together <= groups:
            for j in range(STORED):
                of_x = xs(x, at + g * stride, codes, c + g, 4 * j)
                many = fma(weights(flat, v + g * STORED + j, scale, r, x), of_x, many)
            g += together
        acc = add(acc, folded(many))
        for j in range(g * STORED, groups * STORED + rest):
            g = j // STORED
            of_x = x_of(x, at + g * stride, codes, c + g, 4 * (j & (STORED - 1)))
            acc = fma(single(flat, v + j, scale, r, x), of_x, acc)
        return acc

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
        scratch: Array,
        tile: int,
        counter: Array,
    ) -> None:
        """values [R, S], columns [R, G] (prepare.columns_of), x [panels][16 G][lanes] -> y [T, R].

        scale [R] or None; out_values, out_index [R, O * slots]; scratch [tile * lanes].  Claims one
        tile of rows of one panel at a time.
        """
        rows, groups, per_row = columns.shape[0], columns.shape[1], values.shape[1]
        flat = values.reshape(-1)
        codes, tiles, whole = columns.reshape(-1), (rows + tile - 1) // tile, per_row // STORED
        while True:
            unit = claim(counter, 1)
            first, token = unit % tiles * tile, unit // tiles * lanes
            if token >= y.shape[0]:
                return
            last, start = min(first + tile, rows), token * GROUP * groups
            for g0 in range(0, groups, depth):
                near, count = start + g0 * stride, min(depth, whole - g0)
                rest = per_row - whole * STORED if g0 + depth > whole else 0
                for r in range(first, last):
                    o, v, c = (r - first) * lanes, r * per_row + g0 * STORED, r * groups + g0
                    for line in range(0, depth * STORED * values.itemsize, LINE):
                        prefetch(flat, v + FAR * per_row + line // values.itemsize, 2)
                        prefetch(flat, v + AHEAD * per_row + line // values.itemsize, 3)
                    prefetch(codes, c + FAR * groups, 2)
                    prefetch(codes, c + AHEAD * groups, 3)
                    acc = load(scratch, o, lanes) if g0 else zeros(x, lanes)
                    store(scratch, o, base(flat, v, codes, c, count, rest, x, near, scale, r, acc))
            if slots:
                outliers(out_values, out_index, slots, first, last, x, start, scratch)
            unpack(scratch, lanes, y, token, first, last - first)

    return run
