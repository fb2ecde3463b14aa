"""The ordered checks of a weight's parts (SPEC part 6)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nmref import bits, colex
from nmref.dtypes import Array, bits_of
from nmref.errors import Code, NmrefError
from nmref.pattern import NMPattern
from nmref.tensor.encoding import check_scale
from nmref.tensor.slots import Bool, positions, unblocked
from nmref.tensor.weight import NMMatrix, Outliers, SparseWeight, scatter

U8 = npt.NDArray[np.uint8]


def check(weight: SparseWeight, name: str) -> None:
    """Raise the first fault of a weight's content; `name` goes into the message.

    Order: E_SCALE; base rows ascending, in each E_PAD, then per block E_CODE_RANGE, E_TAIL;
    outlier rows likewise, with E_INDEX_ORDER for idx8; E_OVERLAP.
    """
    try:
        check_scale(weight.base.scale, weight.spec.dtype, weight.shape[0])
        _check_base(weight.base)
        if weight.outliers is not None:
            _check_outliers(weight.outliers)
            _check_overlap(weight.base, weight.outliers)
    except NmrefError as error:
        raise error.inside(name) from None


def _check_base(base: NMMatrix) -> None:
    _check_coded("row", base.codes, base.values, base.pattern, base.columns)


def _check_outliers(out: Outliers) -> None:
    if out.coding == "colex":
        _check_coded("outlier row", out.positions, out.values, out.pattern, out.columns)
        return
    rows, blocks = out.values.shape[0], out.pattern.blocks(out.columns)
    index = out.positions.reshape(rows, blocks, out.pattern.stored)
    unordered: Bool = np.any(index[:, :, 1:] <= index[:, :, :-1], axis=-1)
    tail = _tail_faults(index.astype(np.intp), out.values, out.pattern, out.columns)
    for row, block in np.argwhere(unordered | tail)[:1].tolist():
        where = f"outlier row {row} block {block}"
        if not unordered[row, block]:
            raise _tail(where)
        got = f"index {index[row, block].tolist()}"
        raise NmrefError(Code.E_INDEX_ORDER, where, got, "strictly ascending")


def _check_coded(place: str, codes: U8, values: Array, pattern: NMPattern, columns: int) -> None:
    blocks = pattern.blocks(columns)
    code = bits.unpack(codes, blocks, pattern.width, colex.code_dtype(pattern))
    out_of_range = (code >= pattern.count).astype(np.bool_)
    stored = colex.unrank(np.where(out_of_range, 0, code), pattern)
    tail = _tail_faults(positions(stored, pattern.stored), values, pattern, columns)
    padded = bits.padded_rows(codes, blocks, pattern.width)
    bad_rows = np.flatnonzero(padded | (out_of_range | tail).any(axis=1))
    if not len(bad_rows):
        return
    row = int(bad_rows[0])
    if padded[row]:
        raise NmrefError(Code.E_PAD, f"{place} {row}", "padding bits that are not 0", "0")
    block = int(np.flatnonzero(out_of_range[row] | tail[row])[0])
    where = f"{place} {row} block {block}"
    if out_of_range[row, block]:
        raise NmrefError(Code.E_CODE_RANGE, where, f"code {code[row, block]}", f"< {pattern.count}")
    raise _tail(where)


def _tail_faults(
    position: npt.NDArray[np.intp], values: Array, pattern: NMPattern, columns: int
) -> Bool:
    """[R, B] true where a slot in a virtual column has bits that are not all zero."""
    first_column = np.arange(position.shape[1])[:, None] * pattern.block
    virtual = first_column + position >= columns
    bits_there = bits_of(values).reshape(position.shape)
    return np.any(virtual & (bits_there != 0), axis=-1)  # type: ignore[no-any-return]


def _tail(where: str) -> NmrefError:
    return NmrefError(Code.E_TAIL, where, "a value in a virtual column", "bits 0 past column K")


def _check_overlap(base: NMMatrix, out: Outliers) -> None:
    under = bits_of(scatter(base.stored(), base.values, base.columns, wide=False)) != 0
    both = np.argwhere(under & unblocked(out.stored(), out.columns))
    for row, column in both[:1].tolist():
        raise NmrefError(
            Code.E_OVERLAP,
            f"row {row} column {column}",
            "an outlier slot over base bits that are not zero",
            "one of the two",
        )
