"""Matrix to slots and back with NumPy: the readable twin, in SPEC's own steps.

`fast` has the same functions; one test body runs over both.  A matrix is described by its
pattern, K columns, how positions are written (colex codes or idx8), and arrays:

values [R, B*N], positions (codes [R, row bytes] or index [R, B*N], U8), dense [R, K].
Values and dense are bits: unsigned integers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nmref import bits, colex
from nmref.dtypes import Array
from nmref.errors import Code, NmrefError
from nmref.pattern import NMPattern
from nmref.tensor.select import select
from nmref.tensor.slots import Bool, blocked, positions_of, unblocked
from nmref.tensor.spec import Coding

U8 = npt.NDArray[np.uint8]


def pack(
    what: str,
    dense: Array,
    dtype: str,
    pattern: NMPattern,
    mask: Bool | None,
    barred: Array | None,
    coding: Coding,
    first_row: int = 0,
) -> tuple[Array, U8]:
    """dense [R, K], mask [R, K] or None, barred [R, K] or None -> values, positions.

    The fill takes no column whose `barred` bits are not all zero (SPEC parts 3 and 4).  `first_row`
    is the number of row 0 in messages.  Raises X_OVERFULL, X_NEGZERO.
    """
    rows, columns = dense.shape
    closed = np.zeros_like(dense) if barred is None else barred
    free = blocked(closed, pattern.block) == 0
    stored = select(what, dense, dtype, pattern, mask, free, first_row)
    values = blocked(dense, pattern.block)[stored].reshape(rows, pattern.slots(columns))
    if coding == "colex":
        return values, bits.pack(colex.rank(stored, pattern), pattern.width)
    index = positions_of(stored, pattern.stored).astype(np.uint8)
    return values, index.reshape(rows, pattern.slots(columns))


def unpack(values: Array, codes: U8, pattern: NMPattern, columns: int) -> Array:
    """Checked parts of a base -> dense [R, K], +0 where nothing is stored."""
    dense = np.zeros((values.shape[0], columns), dtype=values.dtype)
    overlay(dense, values, codes, pattern, columns, "colex")
    return dense


def overlay(
    dense: Array, values: Array, positions: U8, pattern: NMPattern, columns: int, coding: Coding
) -> None:
    """Checked parts written over dense [R, K]: what is stored takes the place of what is there."""
    stored = stored_columns(positions, pattern, columns, coding)
    blocks = blocked(dense, pattern.block)
    blocks[stored] = values.reshape(-1)
    dense[:] = unblocked(blocks, columns)


def stored_columns(positions: U8, pattern: NMPattern, columns: int, coding: Coding) -> Bool:
    """[R, B, M], true where a position is stored; positions are checked."""
    rows, blocks = positions.shape[0], pattern.blocks(columns)
    if coding == "colex":
        codes = bits.unpack(positions, blocks, pattern.width, colex.code_dtype(pattern))
        return colex.unrank(codes, pattern)
    index = positions.reshape(rows, blocks, pattern.stored).astype(np.intp)
    stored = np.zeros((rows, blocks, pattern.block), dtype=np.bool_)
    np.put_along_axis(stored, index, True, axis=-1)
    return stored


def check(
    place: str,
    values: Array,
    positions: U8,
    pattern: NMPattern,
    columns: int,
    coding: Coding,
    first_row: int = 0,
) -> None:
    """The first fault of a matrix: rows ascending, E_PAD, then per block the others.

    Raises E_PAD, E_CODE_RANGE or E_INDEX_ORDER, E_TAIL (SPEC part 6).
    """
    look = _check_codes if coding == "colex" else _check_index
    look(place, values, positions, pattern, columns, first_row)


def _check_index(
    place: str, values: Array, index: U8, pattern: NMPattern, columns: int, first_row: int
) -> None:
    rows, blocks = values.shape[0], pattern.blocks(columns)
    inside = index.reshape(rows, blocks, pattern.stored)
    unordered: Bool = np.any(inside[:, :, 1:] <= inside[:, :, :-1], axis=-1)
    tail = _tail_faults(inside.astype(np.intp), values, pattern, columns)
    for row, block in np.argwhere(unordered | tail)[:1].tolist():
        where = f"{place} {first_row + row} block {block}"
        if not unordered[row, block]:
            raise _tail(where)
        got = f"index {inside[row, block].tolist()}"
        raise NmrefError(Code.E_INDEX_ORDER, where, got, "strictly ascending")


def _check_codes(
    place: str, values: Array, codes: U8, pattern: NMPattern, columns: int, first_row: int
) -> None:
    blocks = pattern.blocks(columns)
    code = bits.unpack(codes, blocks, pattern.width, colex.code_dtype(pattern))
    out_of_range = (code >= pattern.count).astype(np.bool_)
    stored = colex.unrank(np.where(out_of_range, 0, code), pattern)
    tail = _tail_faults(positions_of(stored, pattern.stored), values, pattern, columns)
    padded = bits.padded_rows(codes, blocks, pattern.width)
    bad_rows = np.flatnonzero(padded | (out_of_range | tail).any(axis=1))
    if not len(bad_rows):
        return
    row = int(bad_rows[0])
    if padded[row]:
        raise NmrefError(
            Code.E_PAD, f"{place} {first_row + row}", "padding bits that are not 0", "0"
        )
    block = int(np.flatnonzero(out_of_range[row] | tail[row])[0])
    where = f"{place} {first_row + row} block {block}"
    if out_of_range[row, block]:
        raise NmrefError(Code.E_CODE_RANGE, where, f"code {code[row, block]}", f"< {pattern.count}")
    raise _tail(where)


def _tail_faults(
    position: npt.NDArray[np.intp], values: Array, pattern: NMPattern, columns: int
) -> Bool:
    """[R, B] true where a slot in a virtual column has bits that are not all zero."""
    first_column = np.arange(position.shape[1])[:, None] * pattern.block
    virtual = first_column + position >= columns
    faults: Bool = np.any(virtual & (values.reshape(position.shape) != 0), axis=-1)
    return faults


def _tail(where: str) -> NmrefError:
    return NmrefError(Code.E_TAIL, where, "a value in a virtual column", "bits 0 past column K")
