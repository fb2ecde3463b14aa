"""Importance of every weight: larger is kept (paper section 3; RIA, Zhang et al. 2024)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nmref.errors import Code, NmrefError

F32 = npt.NDArray[np.float32]

RIA_EXPONENT = 0.5


def magnitude(weight: F32) -> F32:
    """|W_ij|, [R, K]."""
    return np.abs(weight)


def ria(weight: F32, column_norm: F32, exponent: float = RIA_EXPONENT) -> F32:
    """Relative importance and activations.

    S_ij = (|W_ij| / sum_r |W_rj| + |W_ij| / sum_c |W_ic|) * norm_j ** exponent

    Shapes: weight [R, K], column_norm [K] = ||X_:,j|| over the calibration tokens -> [R, K].
    A column or row of zeros has importance 0.  Sums are float64 and rounded once, so that the
    order of the addition cannot change a mask.
    """
    size = np.abs(weight)
    by_column = size.sum(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)  # [1, K]
    by_row = size.sum(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)  # [R, 1]
    importance: F32 = _share(size, by_column) + _share(size, by_row)
    return importance * np.power(column_norm, np.float32(exponent))


def check_finite(weight: F32, name: str) -> None:
    """A weight that is infinite or NaN cannot be ranked (T_TENSOR)."""
    bad = np.argwhere(~np.isfinite(weight))
    for row, column in bad[:1].tolist():
        where, got = f"{name} row {row} column {column}", str(weight[row, column])
        raise NmrefError(Code.T_TENSOR, where, got, "a finite weight")


def check_score(score: F32, name: str) -> None:
    """NaN has no rank: it comes from activations that are not finite (T_SCORE)."""
    bad = np.argwhere(np.isnan(score))
    for row, column in bad[:1].tolist():
        where = f"{name} row {row} column {column}"
        raise NmrefError(Code.T_SCORE, where, "a score of NaN", "finite activations")


def _share(size: F32, total: F32) -> F32:
    shape = np.broadcast_shapes(size.shape, total.shape)
    return np.divide(size, total, out=np.zeros(shape, dtype=np.float32), where=total != 0)
