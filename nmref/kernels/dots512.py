"""Few tokens, W and x in BF16, on CPUs with AVX-512 BF16: y = W x^T row by row.

As rows512, but an instruction multiplies two columns, and x takes half the memory.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from nmref.dtypes import Array
from nmref.kernels.compile import kernel
from nmref.kernels.outliers import outlier_sum
from nmref.kernels.rows512 import AHEAD_BYTES, AHEAD_ROWS
from nmref.kernels.vector import claim, load, part, prefetch, store, tile, total, zeros
from nmref.kernels.vector_x86 import WEIGHTS, dot_pairs, expand_pairs, expand_some_pairs

ROWS = 32
"""Rows that are claimed together."""

NEAR = 192
"""Words of x of one token that fit the first-level cache beside the rest."""

LANES = 16
"""Pairs in a register."""


def scratch_size(tokens: int) -> int:
    """Elements of scratch that a thread needs."""
    return ROWS * LANES * sums(tokens)


def sums(tokens: int) -> int:
    """Registers of sums: one would wait for itself."""
    return max(2, tokens)


@cache
def dots512(tokens: int, slots: int) -> Any:
    """The kernel for so many tokens (a power of two) and outliers of a block of 256."""
    every, chunk, dot = (
        LANES * tokens,
        NEAR // tokens if tokens > 1 else 1 << 30,
        outlier_sum(slots),
    )
    wide = LANES * sums(tokens)

    @kernel(forceinline=True)
    def times(weights: Any, x: Array, word: int, acc: Any) -> Any:
        """64 columns, 32 pairs: acc has 16 lanes for each token, twice that for one token."""
        at = word * 2 * every
        if tokens == 1:
            return dot_pairs(weights, load(x, at, wide), acc)
        acc = dot_pairs(tile(part(weights, 0, LANES), tokens), load(x, at, every), acc)
        return dot_pairs(tile(part(weights, LANES, LANES), tokens), load(x, at + every, every), acc)

    @kernel
    def run(
        values: Array,
        words: Array,
        out_values: Array,
        out_index: Array,
        x: Array,
        natural: Array,
        y: Array,
        scratch: Array,
        counter: Array,
    ) -> None:
        """values [R, S] BF16 bits, words [R, W] (prepare.words_of) -> y [tokens, R].

        x int32 [W][2][tokens][16], each two columns (activations.pair_up); natural, out_values and
        out_index as for rows512; scratch as scratch_size says.
        """
        count, per_row = words.shape[1], values.shape[1]
        flat, over, index = values.reshape(-1), out_values.reshape(-1), out_index.reshape(-1)
        xs, width, tail = natural.reshape(-1), natural.shape[1], per_row - (count - 1) * WEIGHTS
        far = AHEAD_BYTES // 2 if tokens == 1 else AHEAD_ROWS * per_row
        far_word = far // WEIGHTS if tokens == 1 else AHEAD_ROWS * count
        while True:
            first = claim(counter, ROWS)
            if first >= words.shape[0]:
                return
            last = min(first + ROWS, words.shape[0])
            for begin in range(0, count, chunk):
                end = min(begin + chunk, count)
                for r in range(first, last):
                    o = (r - first) * wide
                    acc = load(scratch, o, wide) if begin else zeros(scratch, wide)
                    v = r * per_row
                    for w in range(begin, min(end, count - 1)):
                        prefetch(flat, v + w * WEIGHTS + far, 3)
                        prefetch(words, r * count + w + far_word, 3)
                        acc = times(expand_pairs(flat, v + w * WEIGHTS, words[r, w]), x, w, acc)
                    if end == count:
                        w = count - 1
                        few = expand_some_pairs(flat, v + w * WEIGHTS, words[r, w], tail)
                        acc = times(few, x, w, acc)
                    store(scratch, o, acc)
            for r in range(first, last):
                o = (r - first) * wide
                for t in range(tokens):
                    y[t, r] = total(load(scratch, o + t * LANES, LANES))
                    if tokens == 1:
                        y[t, r] += total(load(scratch, o + LANES, LANES))
                    y[t, r] += dot(over, index, r * out_values.shape[1], xs, t * width, width)

    return run
