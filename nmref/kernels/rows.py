"""y = x W^T for a few tokens, straight from the packed rows.

A term exists only where the weight is not zero (SPEC part 8), so an infinite activation under a
filled slot makes no NaN.  Sums are float32, base columns ascending, then outliers.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from nmref.dtypes import Array
from nmref.kernels.bitops import lowest_bit
from nmref.kernels.masks import field, load_bytes, mask_of


@nb.njit(cache=True, forceinline=True)
def _widen(bits: np.uint32, shift: int) -> np.float32:
    """F32 bits (shift 0) or BF16 bits (shift 16) as a float32."""
    return np.uint32(np.uint32(bits) << np.uint32(shift)).view(np.float32)


@nb.njit(cache=True, forceinline=True)
def _add(weight: np.float32, x: Array, column: int, y: Array, row: int) -> None:
    if weight != np.float32(0):
        for t in range(x.shape[1]):
            y[row, t] += weight * x[column, t]


@nb.njit(cache=True)
def base_rows(
    bits: Array, codes: Array, table: Array, binomials: Array, width: int, x: Array, y: Array
) -> None:
    """Add the base's part: x [K, T] float32, y [R, T] float32.

    bits [R, B*N] are uint32 (F32) or uint16 (BF16).  The caller has checked codes and shapes.
    """
    block, stored = binomials.shape[0], binomials.shape[1] - 1
    shift = 32 - 8 * bits.itemsize
    stream = np.zeros(codes.shape[1] // 8 + 3, dtype=np.uint64)
    for r in range(bits.shape[0]):
        load_bytes(codes.reshape(-1), r * codes.shape[1], codes.shape[1], stream)
        slot = 0
        for b in range(bits.shape[1] // stored):
            code = field(stream, b * width, width)
            mask = np.uint64(table[code]) if table.size > 0 else mask_of(code, binomials)
            for _ in range(stored):
                column = b * block + np.int64(lowest_bit(mask))
                mask &= mask - np.uint64(1)
                if column < x.shape[0]:
                    _add(_widen(bits[r, slot], shift), x, column, y, r)
                slot += 1


@nb.njit(cache=True)
def outlier_rows(bits: Array, index: Array, stored: int, x: Array, y: Array) -> None:
    """Add the outliers' part: bits, index [R, B*n] -> y [R, T]."""
    shift = 32 - 8 * bits.itemsize
    for r in range(bits.shape[0]):
        for slot in range(bits.shape[1]):
            column = slot // stored * 256 + int(index[r, slot])
            if column < x.shape[0]:
                _add(_widen(bits[r, slot], shift), x, column, y, r)


@nb.njit(cache=True)
def dense_rows(weight: Array, x: Array, y: Array) -> None:
    """The same for a dense weight [R, K] float32: zeros make no term."""
    for r in range(weight.shape[0]):
        for column in range(weight.shape[1]):
            _add(weight[r, column], x, column, y, r)
