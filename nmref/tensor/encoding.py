"""Dense matrix -> slots -> parts (SPEC part 3).  encode never prunes, truncates or casts."""

from __future__ import annotations

from types import ModuleType
from typing import get_args

import numpy as np

from nmref import pattern as patterns
from nmref.dtypes import DTYPES, OUTLIER_DTYPES, Array, bits_of, weight_dtype
from nmref.errors import Code, NmrefError
from nmref.tensor import fast
from nmref.tensor.slots import Bool
from nmref.tensor.spec import Coding
from nmref.tensor.weight import F32, NMMatrix, Outliers, SparseWeight

MAX_SIZE = 2**31 - 1
"""The largest R and K (SPEC part 5)."""

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
    twin: ModuleType = fast,
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
    twin : which implementation, nmref.tensor.fast or nmref.tensor.plain; both give the same bytes.

    Raises
    ------
    NmrefError
        X_SHAPE, X_DTYPE, E_SCALE, X_OVERLAP, X_OVERFULL, X_NEGZERO, in this order.

    >>> w = encode(np.array([[0, 1, 0, 2]], dtype=np.float32), "2:4")
    >>> w.base.codes.tolist(), w.to_dense().tolist()
    ([[4]], [[0.0, 1.0, 0.0, 2.0]])
    """
    base_nm = patterns.base_pattern(pattern)
    out_nm = patterns.outlier_pattern(outlier_pattern) if outliers is not None else None
    _check_arguments(coding, outliers, outlier_mask)
    masks = {"mask": mask, "outlier mask": outlier_mask}
    _check_shapes({"base": dense, "outliers": outliers, **masks}, scale)
    dtype = _check_dtypes(dense, outliers, masks, scale)
    check_scale(scale, dtype, dense.shape[0])
    columns, below = dense.shape[1], bits_of(np.ascontiguousarray(dense))
    over = None if outliers is None else bits_of(np.ascontiguousarray(outliers))
    if over is not None:
        _check_overlap(below, over, outlier_mask)

    values, codes = twin.pack("base", below, dtype, base_nm, mask, None, "colex")
    base = NMMatrix(base_nm, columns, values.view(dense.dtype), codes, scale)
    if outliers is None or over is None or out_nm is None:
        return SparseWeight(base)
    out_dtype = weight_dtype(outliers, "outliers", OUTLIER_DTYPES)
    values, where = twin.pack("outliers", over, out_dtype, out_nm, outlier_mask, below, coding)
    salient = Outliers(out_nm, columns, values.view(outliers.dtype), where, coding)
    return SparseWeight(base, salient)


def _check_arguments(coding: str, outliers: Array | None, outlier_mask: Bool | None) -> None:
    if coding not in get_args(Coding):
        raise NmrefError(Code.T_ARGUMENT, "coding", repr(coding), '"idx8" or "colex"')
    if outliers is None and outlier_mask is not None:
        raise NmrefError(Code.T_ARGUMENT, "outlier mask", "a mask", "none without outliers")


def _check_shapes(inputs: dict[str, Array | None], scale: F32 | None) -> None:
    base = inputs["base"]
    shape = base.shape if base is not None else ()
    for what, array in inputs.items():
        if array is None:
            continue
        if array.ndim != 2 or array.shape[1] < 1 or max(array.shape) > MAX_SIZE:
            want = "[R, K] with K >= 1"
            raise NmrefError(Code.X_SHAPE, what, f"shape {list(array.shape)}", want)
        if array.shape != shape:
            want = f"{list(shape)} as the base"
            raise NmrefError(Code.X_SHAPE, what, f"shape {list(array.shape)}", want)
    is_i8 = base is not None and base.dtype == np.int8
    if scale is not None and is_i8 and scale.shape != shape[:1]:
        raise NmrefError(Code.X_SHAPE, "scale", f"shape {list(scale.shape)}", f"[{shape[0]}]")


def _check_dtypes(
    dense: Array, outliers: Array | None, masks: dict[str, Bool | None], scale: F32 | None
) -> str:
    dtype = weight_dtype(dense, "base", DTYPES)
    if outliers is not None:
        weight_dtype(outliers, "outliers", OUTLIER_DTYPES)
    for what, mask in masks.items():
        if mask is not None and mask.dtype != np.bool_:
            raise NmrefError(Code.X_DTYPE, what, f"dtype {mask.dtype}", "bool")
    if scale is not None and dtype != "I8":
        raise NmrefError(Code.X_DTYPE, "scale", f"a scale for {dtype}", "none: only I8 has one")
    if scale is not None and scale.dtype != np.float32:
        raise NmrefError(Code.X_DTYPE, "scale", f"dtype {scale.dtype}", "float32")
    return dtype


def check_scale(scale: F32 | None, dtype: str, rows: int) -> None:
    """An I8 base has one scale a row, 0 < s <= 2^120 (SPEC part 3).  Raises E_SCALE."""
    if dtype != "I8":
        return
    if scale is None:
        raise NmrefError(Code.E_SCALE, "scale", "none", f"one F32 a row, [{rows}]")
    bad = np.flatnonzero(~((scale > 0) & (scale <= MAX_SCALE)))
    if len(bad):
        row = int(bad[0])
        raise NmrefError(Code.E_SCALE, f"row {row}", f"scale {scale[row]}", "0 < scale <= 2^120")


def _check_overlap(base: Array, outliers: Array, outlier_mask: Bool | None) -> None:
    over = outliers != 0 if outlier_mask is None else (outliers != 0) | outlier_mask
    both = np.argwhere((base != 0) & over)
    if len(both):
        row, column = (int(i) for i in both[0])
        raise NmrefError(
            Code.X_OVERLAP,
            f"row {row} column {column}",
            "an outlier over base bits that are not zero",
            "+0 in the base",
        )
