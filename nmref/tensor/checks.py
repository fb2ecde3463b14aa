"""The ordered checks of a weight's parts (SPEC part 6)."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from nmref.dtypes import bits_of, container_name
from nmref.errors import Code, NmrefError
from nmref.tensor import fast
from nmref.tensor.encoding import check_scale
from nmref.tensor.weight import NMMatrix, Outliers, SparseWeight


def check(weight: SparseWeight, name: str, twin: ModuleType = fast) -> None:
    """Raise the first fault of a weight's content; `name` goes into the message.

    Order: E_SCALE; base rows ascending, in each E_PAD, then per block E_CODE_RANGE, E_TAIL;
    outlier rows likewise, with E_INDEX_ORDER for idx8; E_OVERLAP.
    """
    base, out = weight.base, weight.outliers
    _check_parts(weight, name)
    try:
        check_scale(base.scale, weight.spec.dtype, weight.shape[0])
        values = bits_of(base.values)
        twin.check("row", values, base.codes, base.pattern, base.columns, "colex")
        if out is not None:
            values = bits_of(out.values)
            twin.check("outlier row", values, out.positions, out.pattern, out.columns, out.coding)
            _check_overlap(base, out)
    except NmrefError as error:
        raise error.inside(name) from None


def _check_parts(weight: SparseWeight, name: str) -> None:
    """The arrays have the dtypes and shapes of their spec: the loops trust that."""
    parts = weight.parts()
    for suffix, (dtype, shape) in weight.spec.part_shapes().items():
        where = f"{name}.{suffix}"
        if suffix not in parts:
            raise NmrefError(Code.E_MISSING, where, "nothing", f"{dtype} {list(shape)}")
        if container_name(parts[suffix]) != dtype:
            raise NmrefError(Code.E_DTYPE, where, f"dtype {parts[suffix].dtype}", dtype)
        if parts[suffix].shape != shape:
            got = f"shape {list(parts[suffix].shape)}"
            raise NmrefError(Code.E_SHAPE, where, got, str(list(shape)))


def _check_overlap(base: NMMatrix, out: Outliers) -> None:
    """No outlier slot lies on a real column where the base has bits that are not all zero."""
    first = np.arange(out.index.shape[1]) // out.pattern.stored * out.pattern.block
    columns = out.index.astype(np.intp) + first  # [R, B*n]
    real = columns < out.columns
    under = np.take_along_axis(base.to_dense_bits(), np.where(real, columns, 0), axis=1) != 0
    for row, slot in np.argwhere(real & under)[:1].tolist():
        raise NmrefError(
            Code.E_OVERLAP,
            f"row {row} column {columns[row, slot]}",
            "an outlier slot over base bits that are not zero",
            "one of the two",
        )
