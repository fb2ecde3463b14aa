"""One block through all stages: calibrate, permute, prune every linear, fine-tune.

dense block -> statistics -> masks and values of seven linears -> tuned together
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from nmref.errors import Code, NmrefError
from nmref.linear.parallel import in_order
from nmref.model import llama
from nmref.model.config import LlamaConfig
from nmref.pattern import NMPattern
from nmref.prune.choose import permute
from nmref.prune.choose.mask import top_n
from nmref.prune.choose.score import check_finite
from nmref.prune.masks.maskfile import Mask
from nmref.prune.run.calibrate import Statistics, calibrate
from nmref.prune.run.stages import Pruned, importance, prune_weight
from nmref.prune.settings import Recipe
from nmref.prune.tune import backprop, ebft

F32 = npt.NDArray[np.float32]
Assigned = Mapping[str, tuple[NMPattern | None, NMPattern | None]]
Report = Callable[[str], None]
Dense = dict[str, F32]


def needs_activations(recipe: Recipe, given: Mapping[str, Mask] = MappingProxyType({})) -> bool:
    """Whether any stage looks at the inputs of the linears; see `first_need`."""
    return first_need(recipe, given) is not None


def first_need(recipe: Recipe, given: Mapping[str, Mask] = MappingProxyType({})) -> str | None:
    """The first stage that looks at the inputs of the linears, by name; or None.

    With `given` masks nothing is scored or allocated: there is one for every weight to prune.
    """
    scored = not given
    needs = {
        recipe.score: scored and recipe.score not in {"magnitude", "relative"},
        "equalization": scored and recipe.equalize is not None,
        "OWL": scored and recipe.allocate is not None,
        recipe.solver.method: recipe.solver.method != "none",
        "fine-tuning": recipe.tune is not None,
    }
    return next((stage for stage, needed in needs.items() if needed), None)


def check_unpermuted(recipe: Recipe, given: Mapping[str, Mask]) -> None:
    """Masks are of the channels as they are; permuted weights would not be theirs.  T_ARGUMENT."""
    if given and recipe.permute != "none":
        got, want = f'"{recipe.permute}" with given masks', '"none"'
        raise NmrefError(Code.T_ARGUMENT, "permute", got, want)


def prune_block(
    dense: Dense,
    config: LlamaConfig,
    layer: int,
    recipe: Recipe,
    assigned: Assigned,
    inputs: F32,
    targets: F32 | None = None,
    given: Mapping[str, Mask] = MappingProxyType({}),
    threads: int | None = None,
    report: Report = lambda stage: None,
) -> tuple[dict[str, Pruned], Dense]:
    """The pruned linears of a block by name, and its other weights, whose gains tuning may change.

    Parameters
    ----------
    dense : all weights of the block by name, float32; not changed.
    assigned : base and outlier pattern of every linear; a base pattern of None leaves it dense.
    inputs : [S, T, D] of the pruned blocks before; S = 0 where no stage needs activations.
    targets : [S, T, D], where the recipe tunes: filled with the outputs of the dense block, or the
        dense model's own, which are there already.
    given : masks to take as they are; not together with a permutation.
    report : called with what begins.

    Raises T_TENSOR, T_SCORE (weights or activations that are not finite), T_ARGUMENT.
    """
    check_unpermuted(recipe, given)
    for name in assigned:
        check_finite(dense[name], name)
    statistics: Mapping[str, Statistics] = {}
    gradients: Mapping[str, F32] = {}
    if len(inputs):
        report("calibrate")
        gram = recipe.solver.method != "none"
        learns = recipe.tune is not None and recipe.tune.teacher == "pruned"
        put = targets.__setitem__ if learns and targets is not None else None
        statistics = calibrate(dense, config, layer, inputs, gram=gram, put=put, threads=threads)
    free = [name for name, (pattern, _) in assigned.items() if pattern and name not in given]
    if recipe.score == "gradient" and free:
        report("gradients")
        gradients = backprop.gradient_norms(dense, config, layer, inputs, threads)
    if recipe.permute != "none" and not recipe.permute_all:
        report("permute")
        dense, statistics, gradients = _permuted(
            dense, config, layer, recipe, assigned, statistics, gradients
        )
    pruned = _linears(dense, recipe, assigned, statistics, gradients, given, threads, report)
    others = {name: weight for name, weight in dense.items() if name not in pruned}
    if recipe.tune is not None and pruned:
        if targets is None:
            raise NmrefError(Code.T_ARGUMENT, "fine-tuning", "no targets", "an array for them")
        return _tuned(pruned, others, config, layer, recipe, inputs, targets, threads, report)
    return pruned, others


def _linears(
    dense: Dense,
    recipe: Recipe,
    assigned: Assigned,
    statistics: Mapping[str, Statistics],
    gradients: Mapping[str, F32],
    given: Mapping[str, Mask],
    threads: int | None,
    report: Report,
) -> dict[str, Pruned]:
    """Each on one core, so that the number of threads changes no bit of BLAS's either."""
    if recipe.solver.method == "alps":
        report("eigenvectors")
        for _ in in_order(lambda tap: _spectrum(statistics, tap, recipe), statistics, threads):
            pass

    def one(name: str) -> Pruned:
        pattern, outliers = assigned[name]
        assert pattern is not None
        seen = statistics.get(llama.input_tap(name))
        return prune_weight(
            *(dense[name], seen, recipe, pattern, outliers, name),
            gradient_norm=gradients.get(name),
            given=given.get(name),
        )

    report("prune")
    names = [name for name, (pattern, _) in assigned.items() if pattern is not None]
    pruned = {}
    for name, result in zip(names, in_order(one, names, threads), strict=True):
        pruned[name] = result
        report(f"{name.removesuffix('.weight').rpartition('.')[2]} done")
    return pruned


def _spectrum(statistics: Mapping[str, Statistics], tap: str, recipe: Recipe) -> None:
    """Of one input, kept with its statistics for the linears that share it."""
    try:
        statistics[tap].spectrum(recipe.solver.damping)
    except NmrefError as error:
        raise error.inside(tap) from None


def _permuted(
    dense: Dense,
    config: LlamaConfig,
    layer: int,
    recipe: Recipe,
    assigned: Assigned,
    statistics: Mapping[str, Statistics],
    gradients: Mapping[str, F32],
) -> tuple[Dense, Mapping[str, Statistics], Mapping[str, F32]]:
    """Channels between up and down, and between values and o, in the order that keeps most.

    Statistics of the inputs and gradients of the weights move with them.  The base's scores count,
    not those of the outliers.  Where no order is found that keeps more than the channels' own, they
    stay.
    """
    moved, seen, slopes = dict(dense), dict(statistics), dict(gradients)
    for kind in ("mlp.down_proj", "self_attn.o_proj"):
        name = f"model.layers.{layer}.{kind}.weight"
        tap, (pattern, outliers) = llama.input_tap(name), assigned[name]
        if pattern is None:
            continue
        found = importance(
            *(dense[name], statistics.get(tap), recipe, name), gradient_norm=gradients.get(name)
        )
        if outliers is not None:
            found = np.where(top_n(found, outliers), np.float32(0), found)
        fold: Callable[[Dense], Dense]
        if kind == "mlp.down_proj":
            order = permute.find(found, pattern, recipe.permute)
            fold = partial(permute.fold_mlp, layer=layer, order=order)
        else:
            scores = permute.value_scores(found, config)
            heads = [permute.find(one, pattern, recipe.permute) for one in scores]
            order = permute.value_columns(heads, config)
            fold = partial(permute.fold_value, config=config, layer=layer, orders=heads)
        own = np.arange(len(order))
        if permute.kept(found, pattern, order) <= permute.kept(found, pattern, own):
            continue
        moved, slopes = fold(moved), fold(slopes) if slopes else slopes
        if tap in seen:
            seen[tap] = seen[tap].ordered(order)
    return moved, seen, slopes


def _tuned(
    pruned: dict[str, Pruned],
    others: Dense,
    config: LlamaConfig,
    layer: int,
    recipe: Recipe,
    inputs: F32,
    targets: F32,
    threads: int | None,
    report: Report,
) -> tuple[dict[str, Pruned], Dense]:
    how = recipe.tune
    assert how is not None
    weights = others | {name: one.weight for name, one in pruned.items()}
    masks = {name: one.mask.kept if how.outliers else one.mask.base for name, one in pruned.items()}
    tuned, _ = ebft.tune(
        *(weights, masks, config, layer, inputs, targets, how), threads=threads, report=report
    )
    changed = {name: replace(one, weight=tuned[name]) for name, one in pruned.items()}
    # older checkpoints have a buffer of rotary frequencies here, which nothing tunes
    return changed, {name: tuned.get(name, weight) for name, weight in others.items()}
