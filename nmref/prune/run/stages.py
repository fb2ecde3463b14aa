"""One weight through the stages: score, outliers, N:M choice, update, variance correction.

Each stage is a function of arrays in a module of its own; here they follow each other as a recipe
says.  What needs the whole block (permutation, fine-tuning) is in `block.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from nmref.dtypes import Array, container_name
from nmref.errors import Code, NmrefError
from nmref.pattern import NMPattern
from nmref.prune.choose import equalize, permute, score
from nmref.prune.choose import unstructured as salient
from nmref.prune.choose.mask import split, top_n
from nmref.prune.masks.maskfile import Mask
from nmref.prune.run.calibrate import Statistics
from nmref.prune.settings import Recipe, Solver
from nmref.prune.update import variance
from nmref.prune.update.alps import alps
from nmref.prune.update.sparsegpt import sparsegpt
from nmref.tensor import SparseWeight, encode

Bool = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Pruned:
    """A weight [R, K] after pruning: float32, +0 outside its mask."""

    weight: F32
    mask: Mask

    def packed(self, like: Array, name: str) -> SparseWeight:
        """As the file has it, in the dtype of `like`, rounded to nearest even.

        Raises T_ARGUMENT for a mask without patterns, which has no packed form, and T_TENSOR for
        a weight that the dtype does not hold.
        """
        mask, zero = self.mask, np.zeros((), like.dtype)
        value = rounded(self.weight, like.dtype, name)
        if mask.pattern is None or (mask.salient is not None and mask.outliers is None):
            raise NmrefError(Code.T_ARGUMENT, name, "a mask without N:M", "one to pack")
        return encode(
            np.where(mask.base, value, zero),
            str(mask.pattern),
            mask=mask.base,
            outliers=None if mask.salient is None else np.where(mask.salient, value, zero),
            outlier_pattern=str(mask.outliers),
            outlier_mask=mask.salient,
        )


def rounded(weight: F32, dtype: np.dtype[Any], name: str) -> Array:
    """A weight in the dtype that it is stored in, to nearest even; itself where it has that.

    Raises T_TENSOR where the result is not finite: the weight is too large for float16, or was not
    finite itself.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # said below, with row and column
        stored: Array = weight.astype(dtype, copy=False)
    bad = np.argwhere(~np.isfinite(stored))
    for place in bad[:1].tolist():
        axes = ("row", "column") if len(place) == 2 else ("element",)
        where = " ".join(f"{axis} {i}" for axis, i in zip(axes, place, strict=True))
        want = f"a number that {container_name(stored)} holds"
        raise NmrefError(Code.T_TENSOR, f"{name} {where}", str(weight[tuple(place)]), want)
    return stored


def importance(
    weight: F32,
    inputs: Statistics | None,
    recipe: Recipe,
    name: str,
    gradient_norm: F32 | None = None,
) -> F32:
    """The score of a weight [R, K], equalized if the recipe says so.

    Raises T_ARGUMENT where activations or gradients are needed and not given, T_SCORE for a
    score that is not finite.
    """
    try:
        found = _score(weight, inputs, recipe, gradient_norm)
    except NmrefError as error:
        raise error.inside(name) from None
    score.check_score(found, name)
    return found


def _score(
    weight: F32, inputs: Statistics | None, recipe: Recipe, gradient_norm: F32 | None
) -> F32:
    norm = None if inputs is None else inputs.norm
    if recipe.equalize is not None:
        used = _given(inputs, "equalization")
        if gradient_norm is not None:
            gradient_norm = equalize.equalized_gradient(
                *(weight, gradient_norm, used.largest, recipe.equalize)
            )
        weight, norm = equalize.equalized(weight, used.norm, used.largest, recipe.equalize)
    if recipe.score == "magnitude":
        return score.magnitude(weight)
    if recipe.score == "relative":
        return score.relative(weight)
    if recipe.score == "wanda":
        return score.wanda(weight, _given(norm, "wanda"))
    if recipe.score == "ria":
        return score.ria(weight, _given(norm, "ria"), recipe.exponent)
    norm = _given(norm, "gradient")
    return score.gradient(weight, norm, _given(gradient_norm, "gradient", "gradients"))


def choose(found: F32, recipe: Recipe, pattern: NMPattern, outliers: NMPattern | None) -> Mask:
    """Outliers first, then N of every M columns of what is left (paper section 3, stage 2).

    found [R, K] is the score; the recipe says where outliers are chosen and whether the columns
    are permuted for the choice.
    """
    structured = recipe.place == "structured"
    if structured and not recipe.permute_all:
        base, extra = split(found, pattern, outliers)
        return Mask(base, extra, pattern, outliers)
    extra, shape = _outlier_mask(found, outliers, recipe), outliers if structured else None
    if not recipe.permute_all:
        return Mask(top_n(found, pattern, excluded=extra), extra, pattern, shape)
    seen = found if extra is None else np.where(extra, np.float32(0), found)
    order = permute.find(seen, pattern, recipe.permute)
    return Mask(permute.permuted_mask(found, pattern, order, extra), extra, None, shape)


def _outlier_mask(found: F32, outliers: NMPattern | None, recipe: Recipe) -> Bool | None:
    """[R, K]: n of every 256 columns, or as many of them anywhere in the matrix or its rows."""
    if outliers is None:
        return None
    structured = top_n(found, outliers)
    if recipe.place == "structured":
        return structured
    return salient.unstructured(found, int(structured.sum()), recipe.place)


def solve(
    weight: F32,
    mask: Mask,
    inputs: Statistics | None,
    solver: Solver,
    pattern: NMPattern,
    name: str,
) -> tuple[F32, Mask]:
    """The weights that stay, changed so that the layer's outputs on its inputs change least.

    weight [R, K]; the solver chooses the base mask again unless it is to keep it.
    """
    if solver.method == "none":
        return np.where(mask.kept, weight, np.float32(0)), mask
    keep = mask.base if solver.keep_mask else None
    extra, damping = mask.salient, solver.damping
    try:
        seen = _given(inputs, solver.method)
        if solver.method == "sparsegpt":
            solved, base = sparsegpt(
                *(weight, seen.hessian, pattern),
                salient=extra,
                mask=keep,
                block=solver.block,
                damping=damping,
            )
        else:
            solved, base = alps(
                *(weight, seen.spectrum(damping), pattern),
                salient=extra,
                mask=keep,
                iterations=solver.iterations,
            )
    except NmrefError as error:
        raise error.inside(name) from None
    return solved, replace(mask, base=base)


def prune_weight(
    weight: F32,
    inputs: Statistics | None,
    recipe: Recipe,
    pattern: NMPattern,
    outliers: NMPattern | None,
    name: str,
    gradient_norm: F32 | None = None,
    given: Mask | None = None,
) -> Pruned:
    """All stages of one weight [R, K]: score, choice, update, variance correction.

    `inputs` where the recipe's score or solver needs them; a `given` mask leaves out score and
    choice, and the solver keeps it.
    """
    score.check_finite(weight, name)
    solver = recipe.solver
    if given is None:
        found = importance(weight, inputs, recipe, name, gradient_norm)
        mask = choose(found, recipe, pattern, outliers)
    else:
        if given.base.shape != weight.shape:
            got, want = f"shape {list(given.base.shape)}", f"{list(weight.shape)}"
            raise NmrefError(Code.T_ARGUMENT, f"mask {name}", got, want)
        mask, solver = given, replace(solver, keep_mask=True)
    solved, mask = solve(weight, mask, inputs, solver, pattern, name)
    if recipe.correct is not None:
        factor = variance.factor(weight, mask.base, mask.salient, recipe.correct, pruned=solved)
        solved = variance.correct(solved, mask.base, factor)
    return Pruned(solved, mask)


def _given(value: T | None, stage: str, what: str = "activations") -> T:
    if value is None:
        raise NmrefError(Code.T_ARGUMENT, stage, f"no {what}", "those of a calibration text")
    return value
