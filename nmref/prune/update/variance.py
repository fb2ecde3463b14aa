"""Variance correction of the base weights (paper section 3.2, Eq. 2).

    W_rest' = W_rest * sqrt(Var(W_dense) / Var(W_rest))

W_rest are the weights that are not salient, after the N:M choice: kept values and zeros.  The
paper leaves open what the variances are over; `settings.Correction` has a switch for two points:

numerator
    "dense": all dense weights, outliers too, as Eq. 2 has it.  "rest": the dense weights that are
    not outliers.  Default: "rest".  With "dense" the base has to make up for the outliers, which
    are stored beside it and lost nothing: for Gaussian weights chosen by magnitude at 2:4 the
    factor grows from 1.07 without outliers to 1.14, 1.18 and 1.27 with 4, 8 and 16:256, and the
    last ruins SmolLM2 (docs/pruning.md).  With "rest" it stays near 1.08.  Without outliers both
    are the same.
scope
    "matrix": one factor per weight matrix (default; Eq. 2 has one variance).  "row": one per
    output channel.

Fixed here, and why:

zeros
    count, so that the factor makes up for the weights that are gone.  Over the kept values alone
    it would be about 0.75: what is kept is larger than what was there.
outliers
    are not scaled (Eq. 2 scales W_rest only) and their places are in neither variance of the
    rest.  Counted as zeros of the base they would add up to 3 % to the factor.
population variance
    in float64; against the unbiased one the factor changes by less than 1 / count.
epsilon
    only keeps the paper's division from zero, and makes the factor depend on the unit of the
    weights.  Here there is none: where one of the two variances is 0 the factor is 1.

The correction restores the spread of the weights, at the price of the outputs' error: what the
base lost is nearly orthogonal to what it kept, so with inputs that are not correlated and of equal
norm the factor of least squared error is 1.  On real inputs it is 1.01 to 1.04, where Eq. 2 gives
1.03 to 1.08 with "rest" and up to 1.6 with "dense" (docs/pruning.md).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nmref.errors import Code, NmrefError
from nmref.prune.settings import Correction

Bool = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


def factor(
    dense: F32,
    base_mask: Bool,
    salient: Bool | None,
    how: Correction,
    pruned: F32 | None = None,
) -> np.float32 | F32:
    """sqrt(Var(dense) / Var(base)): a scalar, or [R, 1] with scope "row".

    Shapes: dense [R, K], base_mask [R, K], salient [R, K] or None, pruned [R, K] or None: the
    weights after a solver, where the base is not dense * base_mask.  Only its base is looked at.
    1 where either variance is 0: the base is empty or all weights are equal.
    Raises T_ARGUMENT: shapes that differ, a position that is in the base and salient.

    >>> w = np.array([[3, 1, -1, -3]], dtype=np.float32)
    >>> round(float(factor(w, np.abs(w) > 1, None, Correction())), 4)  # sqrt(5 / 4.5)
    1.0541
    """
    _check(dense, base_mask, salient, pruned)
    rest = np.ones_like(base_mask) if salient is None else ~salient
    base = np.where(base_mask, dense if pruned is None else pruned, np.float32(0))
    counted = rest if how.numerator == "rest" else np.ones_like(rest)
    axis = 1 if how.scope == "row" else None
    before = _variance(dense, counted, axis)
    after = _variance(base, rest, axis)
    usable = (before > 0) & (after > 0)
    ratio = np.divide(before, after, out=np.ones_like(before), where=usable)
    root: F32 = np.sqrt(ratio).astype(np.float32)
    return root if how.scope == "row" else np.float32(root[0, 0])


def correct(weight: F32, base_mask: Bool, factor: np.float32 | F32) -> F32:
    """The base weights times their factor; everything else keeps its bits.

    Shapes: weight and base_mask [R, K], factor a scalar or [R, 1] -> [R, K].
    Raises T_ARGUMENT: another shape, a factor that is not finite.
    """
    times = np.asarray(factor, dtype=np.float32)
    if times.shape not in {(), (weight.shape[0], 1)}:
        got, want = f"shape {list(times.shape)}", f"a scalar or [{weight.shape[0]}, 1]"
        raise NmrefError(Code.T_ARGUMENT, "variance factor", got, want)
    for bad in times[~np.isfinite(times)][:1].tolist():
        raise NmrefError(Code.T_ARGUMENT, "variance factor", str(bad), "a finite one")
    if base_mask.shape != weight.shape:
        raise _other_shape("base mask", base_mask, weight)
    return np.where(base_mask, weight * times, weight)


def _variance(values: F32, where: Bool, axis: int | None) -> F64:
    """Population variance of the values at `where`, [1, 1] or [R, 1]; 0 where there are none.

    Exactly 0 for equal values: fewer than 2^29 equal float32 add up in float64 without rounding.
    """
    count = np.maximum(where.sum(axis=axis, keepdims=True), 1)
    mean = np.where(where, values, 0).sum(axis=axis, keepdims=True, dtype=np.float64) / count
    squares = np.where(where, values - mean, 0.0) ** 2
    variance: F64 = squares.sum(axis=axis, keepdims=True) / count
    return variance


def _check(dense: F32, base_mask: Bool, salient: Bool | None, pruned: F32 | None) -> None:
    given = {"base mask": base_mask, "salient mask": salient, "pruned weight": pruned}
    for what, array in given.items():
        if array is not None and array.shape != dense.shape:
            raise _other_shape(what, array, dense)
    if salient is not None:
        for row, column in np.argwhere(base_mask & salient)[:1].tolist():
            where = f"base mask row {row} column {column}"
            raise NmrefError(Code.T_ARGUMENT, where, "also salient", "one of the two")


def _other_shape(what: str, array: Bool | F32, weight: F32) -> NmrefError:
    return NmrefError(Code.T_ARGUMENT, what, f"shape {list(array.shape)}", f"{list(weight.shape)}")
