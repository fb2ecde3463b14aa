"""The canonical form of a weight, and the warnings about valid ones (SPEC parts 3 and 6)."""

from __future__ import annotations

import numpy as np

from nmref.dtypes import Array, bits_of, container_name, nonfinite
from nmref.errors import Code
from nmref.tensor.encoding import encode
from nmref.tensor.slots import Bool, blocked
from nmref.tensor.weight import NMMatrix, Outliers, SparseWeight, scatter


def canonicalise(weight: SparseWeight) -> SparseWeight:
    """The same W with the slots that encoding without masks gives."""
    out = weight.outliers
    salient = scatter(out.stored(), out.values, out.columns, wide=False) if out else None
    base = weight.base
    return encode(
        scatter(base.stored(), base.values, base.columns, wide=False),
        str(base.pattern),
        scale=base.scale,
        outliers=salient,
        outlier_pattern=str(out.pattern) if out else "16:256",
        coding=out.coding if out else "idx8",
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
    stored = matrix.stored()
    bad = nonfinite(bits_of(matrix.values), container_name(matrix.values))
    return int((bad & _on_real_columns(stored, matrix.columns, bad)).sum())


def _on_real_columns(stored: Bool, columns: int, like: Array) -> Bool:
    rows, _, block = stored.shape
    real = blocked(np.ones((rows, columns), dtype=np.bool_), block)
    return real[stored].reshape(like.shape)
