"""Many tokens, W and x in BF16, on CPUs with AVX-512 BF16: two stored weights an instruction.

The instruction multiplies pairs.  Stored weights lie pair by pair in memory as it is; what is
missing are the pairs of activations, whose columns are any two.  Two stored columns of 8:16 that
follow each other make one of only 99 pairs of a group of 16, so all 99 are made once, for 64
tokens, and serve every row of a tile of W.  Dense BF16 arithmetic needs twice as many instructions.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from nmref.dtypes import Array
from nmref.kernels.activations import unpack
from nmref.kernels.compile import kernel
from nmref.kernels.outliers import outlier_panel
from nmref.kernels.panel import AHEAD, FAR, GROUP, LINE, fold, rows_of
from nmref.kernels.prepare import PAIR_COUNT, PAIRS, STORED
from nmref.kernels.vector import (
    add,
    cat,
    claim,
    load,
    prefetch,
    store,
    zeros,
)
from nmref.kernels.vector_x86 import dot_pairs, join, pair

WIDE = 128
"""Lanes of sums: eight registers."""

NEAR = 256
"""Lanes times groups whose pairs of x stay near."""

ROOM = 128
"""Places of a group in the table, of which 99 are used."""

HALF = STORED // 2
LIST = PAIRS.astype(np.int64)


def table_size(lanes: int) -> int:
    """Elements of the table that a thread needs."""
    return NEAR // lanes * ROOM * lanes


@cache
def _weights(lanes: int, count: int) -> Any:
    """Pairs of weights flat[v], flat[v + 8], ... of `count` groups, each on `lanes` lanes."""
    if count > 1:
        half, more = _weights(lanes, count // 2), count // 2 * STORED

        @kernel(forceinline=True)
        def both(flat: Array, v: int) -> Any:
            return cat(half(flat, v), half(flat, v + more))

        return both

    @kernel(forceinline=True)
    def one(flat: Array, v: int) -> Any:
        return pair(flat, v, lanes)

    return one


@cache
def pairs(lanes: int) -> Any:
    """The kernel for panels of `lanes` tokens."""
    together, depth, stride = WIDE // lanes, NEAR // lanes, ROOM * lanes
    folded, single, outliers = fold(lanes, WIDE), _weights(lanes, 1), outlier_panel(lanes)
    weights, xs, x_of = (
        _weights(lanes, together),
        rows_of(lanes, together, 8, stride),
        rows_of(lanes, 1, 8, stride),
    )

    @kernel(forceinline=True)
    def make_pairs(x: Array, at: int, table: Array, group: int) -> None:
        """Every pair of 16 columns of x, which lie at `at`."""
        for p in range(PAIR_COUNT):
            low = load(x, at + LIST[p, 0] * lanes, lanes)
            high = load(x, at + LIST[p, 1] * lanes, lanes)
            store(table, (group * ROOM + p) * lanes, join(low, high))

    @kernel(forceinline=True)
    def base(
        flat: Array,
        v: int,
        codes: Array,
        c: int,
        groups: int,
        rest: int,
        table: Array,
        x: Array,
        acc: Any,
    ) -> Any:
        """`groups` whole groups of a row, then `rest` pairs of one more."""
        many, g = zeros(x, WIDE), 0
        while g + together <= groups:
            for j in range(HALF):
                of_x = xs(table, g * stride, codes, c + g, 8 * j)
                many = dot_pairs(weights(flat, v + g * STORED + 2 * j), of_x, many)
            g += together
        acc = add(acc, folded(many))
        for j in range(g * HALF, groups * HALF + rest):
            g = j // HALF
            of_x = x_of(table, g * stride, codes, c + g, 8 * (j & (HALF - 1)))
            acc = dot_pairs(single(flat, v + 2 * j), of_x, acc)
        return acc

    @kernel
    def run(
        values: Array,
        pair_codes: Array,
        out_values: Array,
        out_index: Array,
        slots: int,
        x: Array,
        y: Array,
        scratch: Array,
        table: Array,
        tile: int,
        counter: Array,
    ) -> None:
        """values [R, S] BF16 bits, pair_codes [R, G] (prepare.pairs_of) -> y [T, R].

        S is even.  x [panels][16 G][lanes] float32 that is BF16; out_values, out_index
        [R, O * slots]; scratch [tile * lanes]; table int32 [table_size].  Claims one tile of rows
        of one panel at a time.
        """
        rows, groups, per_row = pair_codes.shape[0], pair_codes.shape[1], values.shape[1]
        flat = values.reshape(-1)
        codes, tiles, whole = pair_codes.reshape(-1), (rows + tile - 1) // tile, per_row // STORED
        while True:
            unit = claim(counter, 1)
            first, token = unit % tiles * tile, unit // tiles * lanes
            if token >= y.shape[0]:
                return
            last, start = min(first + tile, rows), token * GROUP * groups
            for g0 in range(0, groups, depth):
                for g in range(g0, min(g0 + depth, groups)):
                    make_pairs(x, start + g * GROUP * lanes, table, g - g0)
                count = min(depth, whole - g0)
                rest = per_row // 2 - whole * HALF if g0 + depth > whole else 0
                for r in range(first, last):
                    o, v, c = (r - first) * lanes, r * per_row + g0 * STORED, r * groups + g0
                    for line in range(0, depth * STORED * 2, LINE):
                        prefetch(flat, v + FAR * per_row + line // 2, 2)
                        prefetch(flat, v + AHEAD * per_row + line // 2, 3)
                    prefetch(codes, c + FAR * groups, 2)
                    prefetch(codes, c + AHEAD * groups, 3)
                    acc = load(scratch, o, lanes) if g0 else zeros(x, lanes)
                    store(scratch, o, base(flat, v, codes, c, count, rest, table, x, acc))
            if slots:
                outliers(out_values, out_index, slots, first, last, x, start, scratch)
            unpack(scratch, lanes, y, token, first, last - first)

    return run
