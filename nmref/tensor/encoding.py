"""Dense matrix -> slots -> parts (SPEC part 3).  encode never prunes, truncates or casts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nmref import bits, colex
from nmref import pattern as patterns
from nmref.dtypes import DTYPES, OUTLIER_DTYPES, Array, bits_of, weight_dtype
from nmref.errors import Code, NmrefError
from nmref.pattern import NMPattern
from nmref.tensor.select import select
from nmref.tensor.slots import Bool, blocked, positions
from nmref.tensor.spec import Coding
from nmref.tensor.weight import F32, NMMatrix, Outliers, SparseWeight

MAX_SCALE = np.float32(2.0**120)
"""The largest scale of an I8 row, so that 128 * scale is still a finite F32."""


def encode(
    dense: Array,
    pattern: str = "8:16",
    *,
    mask: Bool | None = None,
    scale: F32 | None = None,
    outliers: Array | None = None,
    outlier_pattern: str = "16:256",
    outlier_mask: Bool | None = None,
    coding: Coding = "idx8",
) -> SparseWeight:
    """Pack a matrix that already fits its pattern.

    Parameters
    ----------
    dense : [R, K] float32, float16, bfloat16 (ml_dtypes) or int8: the base, with at most N values
        that are not zero in every M columns.
    pattern : of the base, "N:M".
    mask : [R, K] bool, the columns to store, at most N in a block; without it those whose bits are
        not all zero.  Only encoding without masks is canonical.
    scale : [R] float32, for int8 only: the weight is scale * integer.
    outliers : [R, K], the salient weights, zero elsewhere; or None.
    outlier_pattern, outlier_mask : the same two for the outliers.
    coding : how outlier positions are written, "idx8" or "colex".

    Raises
    ------
    NmrefError
        X_SHAPE, X_DTYPE, E_SCALE, X_OVERLAP, X_OVERFULL, X_NEGZERO, in this order.

    >>> w = encode(np.array([[0, 1, 0, 2]], dtype=np.float32), "2:4")
    >>> w.base.codes.tolist(), w.to_dense().tolist()
    ([[4]], [[0.0, 1.0, 0.0, 2.0]])
    """
    base_nm = patterns.base_pattern(pattern)
    _check_shapes({"base": dense, "mask": mask, "outliers": outliers, "outlier mask": outlier_mask})
    dense = np.ascontiguousarray(dense)
    dtype = weight_dtype(dense, "base", DTYPES)
    check_scale(scale, dtype, dense.shape[0])
    if outliers is None:
        return SparseWeight(_encode_base(dense, base_nm, mask, scale))
    outliers = np.ascontiguousarray(outliers)
    weight_dtype(outliers, "outliers", OUTLIER_DTYPES)
    _check_overlap(dense, outliers, outlier_mask)
    base = _encode_base(dense, base_nm, mask, scale)
    out_nm = patterns.outlier_pattern(outlier_pattern)
    return SparseWeight(base, _encode_outliers(dense, outliers, out_nm, outlier_mask, coding))


def _encode_base(
    dense: Array, pattern: NMPattern, mask: Bool | None, scale: F32 | None
) -> NMMatrix:
    """The base fill may take any column, also one that an outlier lies on (SPEC part 3)."""
    rows, columns = dense.shape
    anywhere = np.ones((rows, pattern.blocks(columns), pattern.block), dtype=np.bool_)
    stored = select("base", dense, pattern, mask, anywhere)
    codes = bits.pack(colex.rank(stored, pattern), pattern.width)
    return NMMatrix(pattern, columns, _gather(dense, stored, pattern), codes, scale)


def _encode_outliers(
    base: Array, dense: Array, pattern: NMPattern, mask: Bool | None, coding: Coding
) -> Outliers:
    """The outlier fill takes no column whose base bits are not all zero (SPEC part 4)."""
    rows, columns = dense.shape
    free = blocked(bits_of(base), pattern.block) == 0
    stored = select("outliers", dense, pattern, mask, free)
    if coding == "idx8":
        index = positions(stored, pattern.stored).astype(np.uint8)
        where = index.reshape(rows, pattern.slots(columns))
    else:
        where = bits.pack(colex.rank(stored, pattern), pattern.width)
    return Outliers(pattern, columns, _gather(dense, stored, pattern), where, coding)


def _gather(dense: Array, stored: Bool, pattern: NMPattern) -> Array:
    """Values of the slots [R, B*N]; a slot in a virtual column gets bits 0."""
    rows, columns = dense.shape
    values = blocked(bits_of(dense), pattern.block)[stored]
    return values.reshape(rows, pattern.slots(columns)).view(dense.dtype)


def _check_shapes(inputs: dict[str, npt.NDArray[np.generic] | None]) -> None:
    shape = inputs["base"].shape if inputs["base"] is not None else ()
    for what, array in inputs.items():
        if array is None:
            continue
        if array.ndim != 2 or array.shape[1] < 1:
            raise NmrefError(Code.X_SHAPE, what, f"shape {list(array.shape)}", "[R, K] with K >= 1")
        if array.shape != shape:
            raise NmrefError(
                Code.X_SHAPE, what, f"shape {list(array.shape)}", f"{list(shape)} as the base"
            )
        if what.endswith("mask") and array.dtype != np.bool_:
            raise NmrefError(Code.X_DTYPE, what, f"dtype {array.dtype}", "bool")


def check_scale(scale: F32 | None, dtype: str, rows: int) -> None:
    """An I8 base has one scale a row, 0 < s <= 2^120; no other base has one (SPEC part 3)."""
    if dtype != "I8":
        if scale is not None:
            raise NmrefError(Code.X_DTYPE, "scale", f"a scale for {dtype}", "none: only I8 has one")
        return
    if scale is None:
        raise NmrefError(Code.E_SCALE, "scale", "none", f"one F32 a row, [{rows}]")
    if scale.dtype != np.float32:
        raise NmrefError(Code.X_DTYPE, "scale", f"dtype {scale.dtype}", "float32")
    if scale.shape != (rows,):
        raise NmrefError(Code.X_SHAPE, "scale", f"shape {list(scale.shape)}", f"[{rows}]")
    bad = np.flatnonzero(~((scale > 0) & (scale <= MAX_SCALE)))
    if len(bad):
        row = int(bad[0])
        raise NmrefError(Code.E_SCALE, f"row {row}", f"scale {scale[row]}", "0 < scale <= 2^120")


def _check_overlap(base: Array, outliers: Array, outlier_mask: Bool | None) -> None:
    over = bits_of(outliers) != 0
    if outlier_mask is not None:
        over |= outlier_mask
    both = np.argwhere((bits_of(base) != 0) & over)
    if len(both):
        row, column = (int(i) for i in both[0])
        raise NmrefError(
            Code.X_OVERLAP,
            f"row {row} column {column}",
            "an outlier over base bits that are not zero",
            "+0 in the base",
        )
