"""Weight equalization: the score sees scaled columns (paper section 3.1, Eq. 1).

Only the score sees them.  The weights that are stored and the activations stay as they are (the
paper's implementation note), so nothing has to be undone and no neighbour has to be scaled.

The paper leaves four points open; `settings.Equalization` has a switch for the first three:

direction
    Eq. 1 divides, W_ec = W S^-1.  SmoothQuant multiplies its weights by s, and so does the
    authors' code for sparse activations (arXiv 2509.22166).  Default: "multiply".  It lets
    columns with large activations win more often, like a larger RIA exponent; "divide" makes
    them win less often.
power
    Eq. 1 has none, which is 1.  SmoothQuant's alpha = 0.5 is a square root.  Default: 0.5.
scale_activation
    Eq. 1 also scales the activations the other way, and the implementation note uses W_ec only.
    Default: False.  With True the products W_ij x_j are what they were: `score.wanda` is the same
    to the last roundings, and RIA changes since its exponent is not 1.
maxima
    max |x_j| is over all calibration tokens, as in SmoothQuant, and not a mean over samples.
    max |W_:,j| is of one linear alone: SmoothQuant shares it between q, k, v (and gate, up)
    because it changes their common input, and here no input changes.

RIA's share of a column, |W_ij| / sum_r |W_rj|, does not feel the scale of the column: only its
share of the row and the activation norm do.

The defaults are the reading with the smallest errors of single layers on SmolLM2-135M
(docs/pruning.md, which has perplexities too).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nmref.errors import Code, NmrefError
from nmref.prune.choose.score import check_columns
from nmref.prune.settings import Equalization

F32 = npt.NDArray[np.float32]

SMALLEST = 1e-5
"""Both maxima count as at least this: a column that is never active or has no weights gets a finite
factor above 0.  (SmoothQuant holds the weights' maximum and the factor itself above it.)"""


def scale(weight: F32, column_max: F32, power: float) -> F32:
    """s_j = (max |x_j| / max_i |W_ij|) ** power, [K] float32, computed in float64.

    Shapes: weight [R, K], column_max [K] = max |x_j| over the calibration tokens.
    Raises T_ARGUMENT: not one maximum per column; T_SCORE: a factor that is not finite or is 0,
    from activations that are not finite or a power too large.

    >>> w = np.array([[1, -4], [0, 2]], dtype=np.float32)
    >>> scale(w, np.array([9, 1], dtype=np.float32), 0.5).tolist()
    [3.0, 0.5]
    """
    check_columns(column_max, weight, "activation maxima")
    of_input = np.maximum(column_max.astype(np.float64), SMALLEST)  # [K]
    of_weight = np.maximum(np.abs(weight).max(axis=0, initial=0).astype(np.float64), SMALLEST)
    with np.errstate(over="ignore", under="ignore"):
        factor: F32 = ((of_input / of_weight) ** power).astype(np.float32)
    bad = np.flatnonzero(~(np.isfinite(factor) & (factor > 0)))
    for column in bad[:1].tolist():
        got = f"an equalization factor of {factor[column]}"
        want = "a finite one above 0, of finite activations"
        raise NmrefError(Code.T_SCORE, f"column {column}", got, want)
    return factor


def equalized_gradient(weight: F32, gradient_norm: F32, column_max: F32, how: Equalization) -> F32:
    """Gradient norms [R, K] beside what `equalized` gives: they go with the activation norms.

    The gradient is a sum of products with x, so it is scaled where and as x is; else
    `score.gradient` would weigh one against the other in two units.
    Shapes: weight and gradient_norm [R, K], column_max [K].  Raises as `scale` does.
    """
    if not how.scale_activation:
        return gradient_norm
    s = scale(weight, column_max, how.power)
    with np.errstate(over="ignore", under="ignore"):  # score.check_score reports it
        return gradient_norm / s if how.direction == "multiply" else gradient_norm * s


def equalized(weight: F32, column_norm: F32, column_max: F32, how: Equalization) -> tuple[F32, F32]:
    """What a score is fed instead of weight and norm: (weight' [R, K], column_norm' [K]).

    "multiply": W' = W s; "divide": W' = W / s.  With `scale_activation` the norm is scaled the
    other way, so that weight' * norm' = weight * norm.
    Shapes: weight [R, K], column_norm and column_max [K].  Raises as `scale` does.
    """
    check_columns(column_norm, weight, "column norms")
    s = scale(weight, column_max, how.power)  # [K]
    with np.errstate(over="ignore", invalid="ignore"):  # score.check_score reports it
        if how.direction == "multiply":
            return weight * s, column_norm / s if how.scale_activation else column_norm
        return weight / s, column_norm * s if how.scale_activation else column_norm
