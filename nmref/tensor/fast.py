"""The same functions as `plain`, by compiled loops: what callers get.

The loops only say in which row a fault is; `plain` then looks at that row and raises.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from nmref import colex
from nmref.dtypes import Array
from nmref.kernels import narrow, wide
from nmref.pattern import MAX_BASE_BLOCK, NMPattern
from nmref.tensor import plain
from nmref.tensor.slots import Bool
from nmref.tensor.spec import Coding

U8 = npt.NDArray[np.uint8]
NOTHING = np.zeros(0, dtype=np.uint8)


def pack(
    what: str,
    dense: Array,
    dtype: str,
    pattern: NMPattern,
    mask: Bool | None,
    barred: Array | None,
    coding: Coding,
) -> tuple[Array, U8]:
    """As `plain.pack`."""
    rows, columns = dense.shape
    values = np.zeros((rows, pattern.slots(columns)), dtype=dense.dtype)
    chosen = NOTHING if mask is None else np.ascontiguousarray(mask).view(np.uint8).reshape(-1)
    flat = np.ascontiguousarray(dense).reshape(-1)
    if pattern.block <= MAX_BASE_BLOCK:
        positions = np.zeros((rows, pattern.row_bytes(columns)), dtype=np.uint8)
        bad = pack_into(values, positions, flat, chosen, pattern, columns)
    else:
        positions = np.zeros(values.shape, dtype=np.uint8)
        closed = np.zeros_like(flat) if barred is None else np.ascontiguousarray(barred).reshape(-1)
        bad = wide.encode_rows(flat, chosen, closed, columns, values, positions)
        if bad < 0 and coding == "colex":
            positions = _codes(positions, pattern, columns)
    if bad >= 0:
        one = slice(bad, bad + 1)
        only = None if mask is None else mask[one]
        below = None if barred is None else barred[one]
        plain.pack(what, dense[one], dtype, pattern, only, below, coding, first_row=bad)
        raise AssertionError(f"the twins disagree on {what} row {bad}")
    return values, positions


def pack_into(
    values: Array, codes: U8, flat: Array, chosen: U8, pattern: NMPattern, columns: int
) -> int:
    """A base into memory that is there (zeros): flat [R*K], chosen [R*K] or [0].

    Returns the first row that does not fit, or -1.
    """
    tables = colex.code_table(pattern), colex.binomials(pattern)
    unit, out = colex.unit_blocks(pattern), values.reshape(-1)
    row: int = narrow.encode_rows(flat, chosen, columns, pattern.width, unit, *tables, out, codes)
    return row


def unpack(values: Array, codes: U8, pattern: NMPattern, columns: int) -> Array:
    """As `plain.unpack`."""
    dense = np.empty((values.shape[0], columns), dtype=values.dtype)
    unpack_into(dense, values, codes, pattern)
    return dense


def unpack_into(dense: Array, values: Array, codes: U8, pattern: NMPattern) -> None:
    """The same into memory that is there: every element of dense [R, K], contiguous, is written."""
    tables = colex.unit_table(pattern), colex.binomials(pattern)
    unit = colex.unit_blocks(pattern)
    flat, codes = np.ascontiguousarray(values).reshape(-1), np.ascontiguousarray(codes)
    narrow.decode_rows(flat, codes, dense.shape[1], pattern.width, unit, *tables, dense.reshape(-1))


def overlay(
    dense: Array, values: Array, positions: U8, pattern: NMPattern, columns: int, coding: Coding
) -> None:
    """As `plain.overlay`, for outliers; `dense` is contiguous."""
    index = index_of(positions, pattern, columns, coding)
    values = np.ascontiguousarray(values)
    wide.decode_rows(values, index, pattern.stored, columns, dense.reshape(-1))


def index_of(positions: U8, pattern: NMPattern, columns: int, coding: Coding) -> U8:
    """Outliers: [R, B*n], the column of each slot within its block, whatever the coding."""
    if coding == "idx8":
        return positions
    index = np.zeros((positions.shape[0], pattern.slots(columns)), dtype=np.uint8)
    pairs, count = _pairs(pattern)
    codes = np.ascontiguousarray(positions)
    wide.unpack_codes(codes, pattern.stored, pattern.width, pairs, count, index)
    return index


def check(
    place: str, values: Array, positions: U8, pattern: NMPattern, columns: int, coding: Coding
) -> None:
    """As `plain.check`."""
    values, positions = np.ascontiguousarray(values), np.ascontiguousarray(positions)
    if pattern.block <= MAX_BASE_BLOCK:
        width, count, binomials = pattern.width, pattern.count, colex.binomials(pattern)
        bad = narrow.check_rows(values.reshape(-1), positions, columns, width, count, binomials)
    else:
        bad, index = -1, positions
        if coding == "colex":
            index = np.zeros(values.shape, dtype=np.uint8)
            pairs, limit = _pairs(pattern)
            bad = wide.unpack_codes(positions, pattern.stored, pattern.width, pairs, limit, index)
            index = index[: bad if bad >= 0 else None]
        sooner = wide.check_index(values[: len(index)], index, pattern.stored, columns)
        bad = sooner if sooner >= 0 else bad
    if bad >= 0:
        one = slice(bad, bad + 1)
        plain.check(place, values[one], positions[one], pattern, columns, coding, first_row=bad)
        raise AssertionError(f"the twins disagree on {place} {bad}")


def _codes(index: U8, pattern: NMPattern, columns: int) -> U8:
    """index [R, B*n] -> colex codes [R, row bytes]."""
    codes = np.zeros((index.shape[0], pattern.row_bytes(columns)), dtype=np.uint8)
    wide.pack_codes(index, pattern.stored, pattern.width, _pairs(pattern)[0], codes)
    return codes


@cache
def _pairs(pattern: NMPattern) -> tuple[Array, Array]:
    """C(p, j) [256, n + 1, 2] and C(256, n) [2] as (low 64 bits, the rest)."""
    table = colex.binomials(pattern).astype(object)
    low, high = table % (1 << 64), table >> 64
    pairs = np.stack([low, high], axis=-1).astype(np.uint64)
    return pairs, np.array(divmod(pattern.count, 1 << 64)[::-1], dtype=np.uint64)
