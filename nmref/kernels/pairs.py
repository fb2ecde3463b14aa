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
from nmref.kernels.panel import AHEAD, BLOCK, DEPTH
from nmref.kernels.prepare import PAIR_COUNT, PAIRS, STORED
from nmref.kernels.vector import broadcast, claim, fma, load, prefetch, scalar, store, zeros
from nmref.kernels.vector_x86 import dot_pairs, join, pair

ROOM = 128
"""Places of a group in the table, of which 99 are used."""

HALF = STORED // 2
LIST = PAIRS.astype(np.int64)


def table_size(lanes: int) -> int:
    """Elements of the table that a thread needs."""
    return DEPTH * ROOM * lanes


@cache
def pairs(lanes: int) -> Any:
    """The kernel for panels of `lanes` tokens."""

    @kernel(forceinline=True)
    def make_pairs(x: Array, at: int, table: Array, group: int) -> None:
        """Every pair of 16 columns of x, which lie at `at`."""
        for p in range(PAIR_COUNT):
            low = load(x, at + LIST[p, 0] * lanes, lanes)
            high = load(x, at + LIST[p, 1] * lanes, lanes)
            store(table, (group * ROOM + p) * lanes, join(low, high))

    @kernel(forceinline=True)
    def base(flat: Array, v: int, code: int, count: int, table: Array, at: int, acc: Any) -> Any:
        """One group of a row: `count` pairs of weights from flat[v] on."""
        for _ in range(count):
            of_x = load(table, at + np.intp(code & np.uint32(255)) * lanes, lanes)
            acc = dot_pairs(of_x, pair(flat, v, lanes), acc)
            code >>= np.uint32(8)
            v += 2
        return acc

    @kernel
    def run(
        values: Array,
        codes: Array,
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
        """values [R, S] BF16 bits, codes [R, G] (prepare.pairs_of), x [panels][16 G][lanes] -> y.

        S is even.  x float32 that is BF16; y [T, R]; out_values, out_index [R, O * slots]; scratch
        [tile * lanes]; table int32.  Claims one tile of rows of one panel at a time.
        """
        rows, groups, per_row = codes.shape[0], codes.shape[1], values.shape[1]
        flat, over, index = values.reshape(-1), out_values.reshape(-1), out_index.reshape(-1)
        tiles, whole = (rows + tile - 1) // tile, per_row // STORED
        rest = (per_row - whole * STORED) // 2
        while True:
            unit = claim(counter, 1)
            first, token = unit % tiles * tile, unit // tiles * lanes
            if token >= y.shape[0]:
                return
            last, start = min(first + tile, rows), token * 16 * groups
            for g0 in range(0, groups, DEPTH):
                g1 = min(g0 + DEPTH, whole)
                for g in range(g0, min(g0 + DEPTH, groups)):
                    make_pairs(x, start + g * 16 * lanes, table, g - g0)
                for r in range(first, last):
                    o = (r - first) * lanes
                    acc = load(scratch, o, lanes) if g0 else zeros(x, lanes)
                    v = r * per_row + g0 * STORED
                    prefetch(flat, v + AHEAD * per_row)
                    prefetch(codes, (r + AHEAD) * groups + g0)
                    for g in range(g0, g1):
                        at = (g - g0) * ROOM * lanes
                        acc = base(flat, v, codes[r, g], HALF, table, at, acc)
                        v += STORED
                    if rest and g0 + DEPTH > whole:
                        at = (whole - g0) * ROOM * lanes
                        acc = base(flat, v, codes[r, whole], rest, table, at, acc)
                    store(scratch, o, acc)
            for b in range((groups * 16 + BLOCK - 1) // BLOCK if slots else 0):
                for r in range(first, last):
                    o = (r - first) * lanes
                    acc = load(scratch, o, lanes)
                    v = r * out_values.shape[1] + b * slots
                    for j in range(v, v + slots):
                        at = start + (b * BLOCK + np.intp(index[j])) * lanes
                        acc = fma(broadcast(scalar(over, j, x), lanes), load(x, at, lanes), acc)
                    store(scratch, o, acc)
            unpack(scratch, lanes, y, token, first, last - first)

    return run
