"""Many tokens: y = W x^T with tokens on the lanes, so that only stored weights are multiplied.

A stored weight is broadcast and multiplied into the row of x that belongs to its column.  64
columns of x, for one panel of tokens, stay in the first-level cache while every row of a tile of W
passes.
Runs on every CPU, in float32 and, for int8, in int32.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from nmref.dtypes import Array
from nmref.kernels.activations import unpack
from nmref.kernels.compile import kernel
from nmref.kernels.prepare import STORED
from nmref.kernels.vector import broadcast, claim, fma, load, prefetch, scalar, store, zeros

DEPTH = 4
"""Groups of 16 columns whose x stays near."""

AHEAD = 4
"""Rows: a row's next weights lie pages away from the last row's, where no CPU fetches ahead."""

LINE = 64
"""Bytes."""

BLOCK = 256
"""Columns of an outlier block."""


@cache
def panel(lanes: int) -> Any:
    """The kernel for panels of `lanes` tokens."""

    @kernel(forceinline=True)
    def times(weight: float, x: Array, at: int, acc: Any) -> Any:
        return fma(broadcast(weight, lanes), load(x, at, lanes), acc)

    @kernel(forceinline=True)
    def base(
        flat: Array,
        v: int,
        columns: Array,
        r: int,
        g0: int,
        per_row: int,
        x: Array,
        at: int,
        scale: Array | None,
        acc: Any,
    ) -> Any:
        """One row's stored weights of DEPTH groups; x's column 16 g0 is at `at`."""
        whole = per_row // STORED
        for g in range(g0, min(g0 + DEPTH, columns.shape[1])):
            code = columns[r, g]
            for _ in range(STORED if g < whole else per_row - whole * STORED):
                weight = scalar(flat, v, x)
                if scale is not None:
                    weight *= scale[r]
                acc = times(weight, x, at + np.intp(code & np.uint32(15)) * lanes, acc)
                code >>= np.uint32(4)
                v += 1
            at += 16 * lanes
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
        flat, over, index = values.reshape(-1), out_values.reshape(-1), out_index.reshape(-1)
        tiles = (rows + tile - 1) // tile
        while True:
            unit = claim(counter, 1)
            first, token = unit % tiles * tile, unit // tiles * lanes
            if token >= y.shape[0]:
                return
            last, start = min(first + tile, rows), token * 16 * groups
            for g0 in range(0, groups, DEPTH):
                near = start + g0 * 16 * lanes
                for r in range(first, last):
                    o = (r - first) * lanes
                    acc = load(scratch, o, lanes) if g0 else zeros(x, lanes)
                    v = r * per_row + g0 * STORED
                    for line in range(0, DEPTH * STORED * values.itemsize, LINE):
                        prefetch(flat, v + AHEAD * per_row + line // values.itemsize)
                    prefetch(columns, (r + AHEAD) * groups + g0)
                    acc = base(flat, v, columns, r, g0, per_row, x, near, scale, acc)
                    store(scratch, o, acc)
            for b in range((groups * 16 + BLOCK - 1) // BLOCK if slots else 0):
                for r in range(first, last):
                    o = (r - first) * lanes
                    acc = load(scratch, o, lanes)
                    v = r * out_values.shape[1] + b * slots
                    for j in range(v, v + slots):
                        at = start + (b * BLOCK + np.intp(index[j])) * lanes
                        acc = times(scalar(over, j, x), x, at, acc)
                    store(scratch, o, acc)
            unpack(scratch, lanes, y, token, first, last - first)

    return run
