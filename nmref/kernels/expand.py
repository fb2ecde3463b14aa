"""Stored values back to their columns.  Bits move as integers."""

from __future__ import annotations

import numba as nb
import numpy as np

from nmref.dtypes import Array
from nmref.kernels.masks import lowest_bit, mask_of, read_code


@nb.njit(cache=True)
def expand_base(
    bits: Array, codes: Array, table: Array, binomials: Array, width: int, dense: Array
) -> None:
    """bits [R, B*N], codes [R, bytes] -> dense [R, K], which is all zero before.

    The caller has checked codes and shapes; virtual columns are dropped.
    """
    rows, columns = dense.shape
    block, stored = binomials.shape[0], binomials.shape[1] - 1
    for r in range(rows):
        slot = 0
        for b in range(bits.shape[1] // stored):
            mask = mask_of(read_code(codes, r, b, width), table, binomials)
            for _ in range(stored):
                column = b * block + np.int64(lowest_bit(mask))
                mask &= mask - np.uint64(1)
                if column < columns:
                    dense[r, column] = bits[r, slot]
                slot += 1


@nb.njit(cache=True)
def replace_outliers(bits: Array, index: Array, stored: int, dense: Array) -> None:
    """bits, index [R, B*n] (index within a block of 256) -> written over dense [R, K]."""
    rows, columns = dense.shape
    for r in range(rows):
        for slot in range(bits.shape[1]):
            column = slot // stored * 256 + int(index[r, slot])
            if column < columns:
                dense[r, column] = bits[r, slot]
