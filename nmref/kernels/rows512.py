"""Few tokens on AVX-512: y = W x^T row by row; memory sets the pace.

Stored weights are spread over their columns in registers, once for all tokens; 64 columns a step.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from numba import literal_unroll

from nmref.dtypes import Array
from nmref.kernels.compile import kernel
from nmref.kernels.outliers import outlier_sum
from nmref.kernels.vector import (
    broadcast,
    claim,
    fma,
    load,
    mul,
    part,
    prefetch,
    store,
    tile,
    total,
    zeros,
)
from nmref.kernels.vector_x86 import COLUMNS, WEIGHTS, expand, expand_some

TOKENS = (1, 2, 4, 8)
"""Numbers of tokens that have a kernel."""

ROWS = 32
"""Rows that are claimed together."""

NEAR = 96
"""Words of x of one token that fit the first-level cache beside the rest, for several tokens."""

AHEAD_BYTES = 8192
"""For one token, whose weights pass in the order of their addresses: CPUs fetch ahead themselves,
but not past the end of a page."""

AHEAD_ROWS = 4
"""For several tokens, whose parts of rows lie pages apart."""

LINE = 64
"""Bytes."""


def size(tokens: int) -> int:
    """Lanes a token: as many registers of sums as the latency of an FMA asks for, and no more."""
    return max(16, COLUMNS // tokens)


def scratch_size(tokens: int) -> int:
    """Elements of scratch that a thread needs."""
    return ROWS * size(tokens) * tokens


@cache
def rows512(tokens: int, slots: int) -> Any:
    """The kernel for so many tokens and outliers of a block of 256."""
    lanes = size(tokens)
    every, chunk = lanes * tokens, NEAR // tokens if tokens > 1 else 1 << 30
    parts, dot = tuple(range(0, COLUMNS, lanes)), outlier_sum(slots)

    @kernel(forceinline=True)
    def times(weights: Any, scale: Array | None, r: int, x: Array, word: int, acc: Any) -> Any:
        """64 columns: acc has `lanes` lanes for each token."""
        at = word * COLUMNS * tokens
        if scale is not None:
            weights = mul(weights, broadcast(scale[r], COLUMNS))
        for first in literal_unroll(parts):
            some = tile(part(weights, first, lanes), tokens)
            acc = fma(some, load(x, at + first * tokens, every), acc)
        return acc

    @kernel
    def run(
        values: Array,
        words: Array,
        scale: Array | None,
        out_values: Array,
        out_index: Array,
        x: Array,
        natural: Array,
        y: Array,
        scratch: Array,
        counter: Array,
    ) -> None:
        """values [R, S], words [R, W] (prepare.words_of) -> y [tokens, R].

        x as activations.interleave has it; natural [tokens, 256 O], for outliers, else [0, 0];
        scale [R] or None; out_values, out_index [R, O * slots]; scratch as scratch_size says.
        """
        count, per_row = words.shape[1], values.shape[1]
        flat, over, index = values.reshape(-1), out_values.reshape(-1), out_index.reshape(-1)
        xs, wide, tail = natural.reshape(-1), natural.shape[1], per_row - (count - 1) * WEIGHTS
        far = AHEAD_BYTES // values.itemsize if tokens == 1 else AHEAD_ROWS * per_row
        far_word = far // WEIGHTS if tokens == 1 else AHEAD_ROWS * count
        while True:
            first = claim(counter, ROWS)
            if first >= words.shape[0]:
                return
            last = min(first + ROWS, words.shape[0])
            for begin in range(0, count, chunk):
                end = min(begin + chunk, count)
                for r in range(first, last):
                    o = (r - first) * every
                    acc = load(scratch, o, every) if begin else zeros(x, every)
                    v = r * per_row
                    for w in range(begin, min(end, count - 1)):
                        for line in range(0, WEIGHTS * values.itemsize, LINE):
                            prefetch(flat, v + w * WEIGHTS + line // values.itemsize + far, 3)
                        prefetch(words, r * count + w + far_word, 3)
                        acc = times(expand(flat, v + w * WEIGHTS, words[r, w]), scale, r, x, w, acc)
                    if end == count:
                        w = count - 1
                        few = expand_some(flat, v + w * WEIGHTS, words[r, w], tail)
                        acc = times(few, scale, r, x, w, acc)
                    store(scratch, o, acc)
            for r in range(first, last):
                for t in range(tokens):
                    y[t, r] = total(load(scratch, (r - first) * every + t * lanes, lanes))
                    y[t, r] += dot(over, index, r * out_values.shape[1], xs, t * wide, wide)

    return run
