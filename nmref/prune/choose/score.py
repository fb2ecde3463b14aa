"""Importance of every weight [R, K]: larger is kept (paper section 3, stage 2).

RIA with exponent 0.5 is the paper's score and the default; magnitude, Wanda, RIA without
activations and the gradient score are what it is compared to.  One score serves both choices, the
outliers first and then N:M among the rest (`mask.split`); the paper says "the RIA method on scaled
weights" for both.  `equalize` makes the scaled weights.

Zero columns and rows have score 0, which is a rank like any other: equal scores go to the lower
column.  What is not finite has no rank; `check_finite` and `check_score` refuse it.  Scores are
float32.  The original of RIA computes its shares in the model's float16, where equal scores are
frequent: its masks differ from these in about one block of a thousand at 8:16.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nmref.errors import Code, NmrefError

F32 = npt.NDArray[np.float32]

RIA_EXPONENT = 0.5
GRADIENT_ALPHA = 100.0

# An infinity or NaN shows in the score, and check_score says where; a warning says less.
_reported_by_check_score = np.errstate(over="ignore", invalid="ignore")


def magnitude(weight: F32) -> F32:
    """S_ij = |W_ij|, [R, K].

    >>> magnitude(np.array([[1, -2]], dtype=np.float32)).tolist()
    [[1.0, 2.0]]
    """
    return np.abs(weight)


@_reported_by_check_score
def wanda(weight: F32, column_norm: F32) -> F32:
    """S_ij = |W_ij| * norm_j (Wanda, Sun et al. 2024, section 3).

    Shapes: weight [R, K], column_norm [K] = ||X_:,j|| over the calibration tokens -> [R, K].
    Raises T_ARGUMENT: not one norm per column.
    """
    check_columns(column_norm, weight, "column norms")
    return np.abs(weight) * column_norm


def relative(weight: F32) -> F32:
    """S_ij = |W_ij| / sum_r |W_rj| + |W_ij| / sum_c |W_ic|: RIA's importance alone, [R, K].

    A column or row of zeros has importance 0.  Sums are float64 and rounded once, so that the
    order of the addition cannot change a mask.
    Raises T_SCORE: a sum that float32 does not hold.
    """
    size = np.abs(weight)
    by_column, by_row = _total(size, 0, "column"), _total(size, 1, "row")  # [1, K], [R, 1]
    importance: F32 = _share(size, by_column) + _share(size, by_row)
    return importance


@_reported_by_check_score
def ria(weight: F32, column_norm: F32, exponent: float = RIA_EXPONENT) -> F32:
    """Relative importance and activations (RIA, Zhang et al. 2024, section 3).

    S_ij = (|W_ij| / sum_r |W_rj| + |W_ij| / sum_c |W_ic|) * norm_j ** exponent

    Shapes: weight [R, K], column_norm [K] = ||X_:,j|| over the calibration tokens -> [R, K].
    A common factor of all norms changes no mask; exponent 0 is `relative`.
    Raises T_ARGUMENT: not one norm per column, an exponent below 0 or past float32; T_SCORE as
    `relative`.
    """
    check_columns(column_norm, weight, "column norms")
    if not exponent >= 0:
        raise NmrefError(Code.T_ARGUMENT, "RIA exponent", str(exponent), "0 or more")
    if exponent > np.finfo(np.float32).max:  # infinite: every norm would become 0, 1 or infinite
        want = "a number that float32 holds"
        raise NmrefError(Code.T_ARGUMENT, "RIA exponent", str(exponent), want)
    score: F32 = relative(weight) * np.power(column_norm, np.float32(exponent))
    return score


@_reported_by_check_score
def gradient(
    weight: F32, column_norm: F32, gradient_norm: F32, alpha: float = GRADIENT_ALPHA
) -> F32:
    """S_ij = (|alpha * G_ij| + norm_j) * |W_ij| (GBLM-Pruner, Das et al. 2023; Wanda++, Yang 2025).

    Shapes: weight and gradient_norm [R, K], column_norm [K] -> [R, K].  G is the root mean square
    of the gradient over the samples; norm_j = sqrt(mean over samples of ||X_:,j||^2).  Neither
    may be rescaled alone: alpha weighs one against the other.  alpha 0 is `wanda`.
    Raises T_ARGUMENT: not one norm per column, not one gradient per weight.
    """
    check_columns(column_norm, weight, "column norms")
    if gradient_norm.shape != weight.shape:
        got = f"shape {list(gradient_norm.shape)}"
        raise NmrefError(Code.T_ARGUMENT, "gradient norms", got, f"{list(weight.shape)}")
    score: F32 = (np.abs(np.float32(alpha) * gradient_norm) + column_norm) * np.abs(weight)
    return score


def check_columns(vector: npt.NDArray[Any], weight: F32, what: str) -> None:
    """One number per column of the weight, else T_ARGUMENT: [R, 1] would broadcast silently."""
    if vector.shape != weight.shape[1:]:
        got, want = f"shape {list(vector.shape)}", f"[{weight.shape[1]}], one per column"
        raise NmrefError(Code.T_ARGUMENT, what, got, want)


def check_finite(weight: F32, name: str) -> None:
    """A weight that is infinite or NaN cannot be ranked (T_TENSOR)."""
    bad = np.argwhere(~np.isfinite(weight))
    for row, column in bad[:1].tolist():
        where, got = f"{name} row {row} column {column}", str(weight[row, column])
        raise NmrefError(Code.T_TENSOR, where, got, "a finite weight")


def check_score(score: F32, name: str) -> None:
    """NaN has no rank and infinities have one rank for all (T_SCORE).

    Of finite weights they come from activations that are not finite or overflow.
    """
    bad = np.argwhere(~np.isfinite(score))
    for row, column in bad[:1].tolist():
        value = score[row, column]
        got = f"a score of {'NaN' if np.isnan(value) else value}"
        where = f"{name} row {row} column {column}"
        raise NmrefError(Code.T_SCORE, where, got, "finite activations")


def _total(size: F32, axis: int, what: str) -> F32:
    """Of all columns or rows.  An infinite one would make each share 0, and all scores equal."""
    total = size.sum(axis=axis, keepdims=True, dtype=np.float64)
    for place in np.flatnonzero(np.isfinite(total) & (total > np.finfo(np.float32).max))[:1]:
        got = f"weights whose sizes add up to {total.flat[place]:.3g}"
        raise NmrefError(Code.T_SCORE, f"{what} {place}", got, "a sum that float32 holds")
    rounded: F32 = total.astype(np.float32)
    return rounded


def _share(size: F32, total: F32) -> F32:
    """Sizes as parts of their total; where that is 0 so are they, and 0 / 1 = 0."""
    divisor: F32 = np.where(total == 0, np.float32(1), total)
    return size / divisor
