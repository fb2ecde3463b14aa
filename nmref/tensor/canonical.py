"""The canonical form of a weight, and the warnings about valid ones (SPEC parts 3 and 6)."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from nmref.dtypes import bits_of, container_name, nonfinite
from nmref.errors import Code
from nmref.tensor import fast
from nmref.tensor.encoding import encode
from nmref.tensor.weight import NMMatrix, Outliers, SparseWeight


def canonicalise(weight: SparseWeight, twin: ModuleType = fast) -> SparseWeight:
    """The same W with the slots that encoding without masks gives."""
    base, out = weight.base, weight.outliers
    return encode(
        base.to_dense_bits(twin).view(base.values.dtype),
        str(base.pattern),
        scale=base.scale,
        outliers=out.to_dense_bits(twin).view(out.values.dtype) if out else None,
        outlier_pattern=str(out.pattern) if out else "16:256",
        coding=out.coding if out else "idx8",
        twin=twin,
    )


def is_canonical(weight: SparseWeight) -> bool:
    """Whether encoding without masks gives the same slots."""
    mine, canon = weight.parts(), canonicalise(weight).parts()
    return all(np.array_equal(bits_of(mine[part]), bits_of(canon[part])) for part in mine)


def warnings(weight: SparseWeight, name: str) -> list[str]:
    """W_NONCANON and W_NONFINITE of a weight that passed `check`."""
    found = []
    if not is_canonical(weight):
        found.append(f"{Code.W_NONCANON} {name}: slots differ from those of encoding without masks")
    count = _nonfinite(weight.base) + (_nonfinite(weight.outliers) if weight.outliers else 0)
    if count:
        found.append(f"{Code.W_NONFINITE} {name}: {count} stored values are infinite or NaN")
    return found


def _nonfinite(matrix: NMMatrix | Outliers) -> int:
    """Infinite or NaN values on real columns."""
    return int(nonfinite(matrix.to_dense_bits(), container_name(matrix.values)).sum())
