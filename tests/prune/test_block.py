"""One block through all stages: what it needs, permutation, tuning, dense rules, threads."""

import re
from dataclasses import replace

import numpy as np
import pytest

from nmref.errors import NmrefError
from nmref.linear import FAST
from nmref.model import llama
from nmref.pattern import NMPattern
from nmref.prune.choose import permute
from nmref.prune.masks.maskfile import Mask
from nmref.prune.run.block import first_need, needs_activations, prune_block
from nmref.prune.run.calibrate import calibrate
from nmref.prune.run.stages import importance, prune_weight
from nmref.prune.settings import (
    Allocation,
    Correction,
    Equalization,
    Recipe,
    Solver,
    Tuning,
)
from nmref.prune.tune import backprop, ebft
from tests.prune.blocks import activations, block_of, config_of

LAYER = 1
CONFIG = config_of("grouped", width=18, mlp=22)
DENSE = block_of(CONFIG)
LINEARS = [name for name, array in DENSE.items() if array.ndim == 2]
GAINS = [name for name, array in DENSE.items() if array.ndim == 1]
Q, K, V, OUT, GATE, UP, DOWN = LINEARS
INPUTS = np.stack([activations(CONFIG, 8, seed) for seed in range(4)])
NOTHING = INPUTS[:0, :0]
TWO, SALIENT = NMPattern(2, 4), NMPattern(4, 256)
ALL = dict.fromkeys(LINEARS, (TWO, None))
BOTH = dict.fromkeys(LINEARS, (TWO, SALIENT))
RIA, PLAIN = Recipe(TWO), Recipe(TWO, score="magnitude")
HOW = Tuning(epochs=2, rate=1e-2)
RECIPES = {
    "magnitude": PLAIN,
    "ria": RIA,
    "gradient": replace(RIA, score="gradient"),
    "sparsegpt": replace(RIA, solver=Solver("sparsegpt", block=8)),
    "alps": replace(RIA, solver=Solver("alps")),
    "all": Recipe(
        TWO,
        score="gradient",
        equalize=Equalization(),
        permute="hungarian",
        solver=Solver("alps"),
        correct=Correction(),
        tune=Tuning(epochs=2),
    ),
}


def forward(weights, x=INPUTS[0]):
    return llama.block(weights, CONFIG, LAYER, x, ops=FAST)


def outputs(weights=DENSE):
    return np.stack([forward(weights, x) for x in INPUTS])


def run(recipe, assigned=ALL, inputs=INPUTS, dense=DENSE, **more):
    if recipe.tune is not None:
        more.setdefault("targets", np.full_like(inputs, np.nan))
    return prune_block(dense, CONFIG, LAYER, recipe, assigned, inputs, **more)


def weights_of(result):
    pruned, others = result
    assert not set(pruned) & set(others)
    assert set(pruned) | set(others) == set(DENSE)
    return {**others, **{name: one.weight for name, one in pruned.items()}}


def same(one, other):
    return list(one) == list(other) and all(
        one[name].tobytes() == other[name].tobytes() for name in one
    )


# What it needs


@pytest.mark.parametrize(
    ("change", "needs"),
    [
        ({}, False),
        ({"score": "relative"}, False),
        ({"correct": Correction()}, False),
        ({"permute": "hungarian"}, False),
        ({"outliers": SALIENT, "place": "row"}, False),
        ({"score": "wanda"}, True),
        ({"score": "ria"}, True),
        ({"score": "gradient"}, True),
        ({"equalize": Equalization()}, True),
        ({"allocate": Allocation()}, True),
        ({"solver": Solver("sparsegpt")}, True),
        ({"solver": Solver("alps", keep_mask=True)}, True),
        ({"tune": HOW}, True),
    ],
)
def test_what_needs_activations(change, needs):
    recipe = replace(PLAIN, **change)
    assert needs_activations(recipe) == needs
    if not needs:
        run(recipe, inputs=NOTHING)


@pytest.mark.parametrize("name", ["ria", "sparsegpt", "alps"])
def test_what_is_not_there_is_said(name):
    with pytest.raises(NmrefError, match=r"^T_ARGUMENT .* no activations, want those of a cal"):
        run(RECIPES[name], inputs=NOTHING)
    with pytest.raises(NmrefError, match=r"^T_ARGUMENT gradient norms: no samples, want at least"):
        run(RECIPES["gradient"], inputs=NOTHING)


def test_tuning_without_room_for_targets():
    message = r"^T_ARGUMENT fine-tuning: no targets, want an array for them$"
    with pytest.raises(NmrefError, match=message):
        run(replace(RIA, tune=HOW), targets=None)


# The stages follow each other


@pytest.mark.parametrize("name", ["magnitude", "ria", "gradient", "sparsegpt", "alps"])
@pytest.mark.parametrize("assigned", [ALL, BOTH])
def test_every_linear_is_pruned_by_its_own_inputs(name, assigned):
    recipe = RECIPES[name]
    pruned, others = run(recipe, assigned)
    seen = calibrate(DENSE, CONFIG, LAYER, INPUTS, gram=True)
    slopes = backprop.gradient_norms(DENSE, CONFIG, LAYER, INPUTS)
    assert list(pruned) == LINEARS
    assert same(others, {name: DENSE[name] for name in GAINS})
    for linear, one in pruned.items():
        pattern, outliers = assigned[linear]
        want = prune_weight(
            *(DENSE[linear], seen[llama.input_tap(linear)], recipe, pattern, outliers, linear),
            gradient_norm=slopes[linear],
        )
        assert one.weight.tobytes() == want.weight.tobytes()
        assert np.array_equal(one.mask.kept, want.mask.kept)
        assert np.array_equal(one.weight != 0, one.mask.kept)


@pytest.mark.parametrize("name", RECIPES)
def test_threads_change_no_bit(name):
    first = weights_of(run(RECIPES[name], BOTH, threads=1))
    for threads in (2, 3, None):
        assert same(weights_of(run(RECIPES[name], BOTH, threads=threads)), first)


@pytest.mark.parametrize("name", RECIPES)
def test_arguments_stay(name):
    dense = {name: array.copy() for name, array in DENSE.items()}
    inputs = INPUTS.copy()
    run(RECIPES[name], BOTH, inputs, dense)
    assert same(dense, DENSE)
    assert np.array_equal(inputs, INPUTS)


def test_stages_are_reported_when_they_begin():
    said = []
    run(RECIPES["all"], report=said.append)
    linears = [f"{name.split('.')[-2]} done" for name in LINEARS]
    tuning = [f"tune, epoch {i} of 2" for i in (1, 2)]
    stages = ["calibrate", "gradients", "permute", "eigenvectors", "prune"]
    assert said[:-1] == [*stages, *linears, *tuning]
    assert re.fullmatch(r"tuned: loss \S+ -> \S+", said[-1])
    said.clear()
    run(PLAIN, inputs=NOTHING, report=said.append)
    assert said == ["prune", *linears]


@pytest.mark.parametrize("stage", ["calibrate", "prune", "q_proj done", "tune, epoch 2 of 2"])
def test_what_a_report_raises_ends_it(stage):
    def stop(said):
        if said == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(RECIPES["all"], report=stop)


def test_a_weight_that_is_not_finite_is_found_before_the_activations():
    """It would make those not finite, which says less."""
    dense = {**DENSE, UP: DENSE[UP].copy()}
    dense[UP][3, 4] = np.inf
    message = rf"^T_TENSOR {UP} row 3 column 4: inf, want a finite weight$"
    with pytest.raises(NmrefError, match=message):
        run(RIA, dense=dense)


# Given masks


@pytest.mark.parametrize("how", ["heuristic", "hungarian"])
def test_given_masks_are_of_channels_that_stay(how):
    message = rf'^T_ARGUMENT permute: "{how}" with given masks, want "none"$'
    with pytest.raises(NmrefError, match=message):
        run(replace(PLAIN, permute=how), inputs=NOTHING, given=given_masks())


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ({"score": "ria"}, None),
        ({"score": "gradient", "equalize": Equalization(), "allocate": Allocation()}, None),
        ({"score": "ria", "solver": Solver("alps")}, "alps"),
        ({"score": "ria", "tune": HOW}, "fine-tuning"),
    ],
)
def test_with_given_masks_nothing_is_scored(change, first):
    recipe = replace(PLAIN, **change)
    given = {name: Mask(np.abs(DENSE[name]) > 0.5, None, TWO) for name in LINEARS}
    assert first_need(recipe, given) == first
    assert needs_activations(recipe, given) == (first is not None)
    assert needs_activations(recipe)
    if first is None:
        pruned, _ = run(recipe, inputs=NOTHING, given=given)
        assert all(pruned[name].mask is given[name] for name in LINEARS)


def given_masks(seed=4):
    rng = np.random.default_rng(seed)
    return {name: Mask(rng.random(DENSE[name].shape) < 0.5, None, TWO) for name in (Q, DOWN)}


@pytest.mark.parametrize("name", ["ria", "alps"])
def test_given_masks_are_taken_and_the_others_chosen(name):
    given = given_masks()
    pruned, _ = run(RECIPES[name], given=given)
    free, _ = run(RECIPES[name])
    for linear, one in pruned.items():
        want = given[linear].base if linear in given else free[linear].mask.base
        assert np.array_equal(one.mask.base, want)
        assert not one.weight[~want].any()


# Dense rules


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_rule_leaves_dense_stays(name):
    recipe = RECIPES[name]
    if recipe.permute != "none":  # permuted with its neighbour
        recipe = replace(recipe, permute="none")
    assigned = {**BOTH, V: (None, None), DOWN: (None, None)}
    pruned, others = run(recipe, assigned)
    assert set(pruned) == set(LINEARS) - {V, DOWN}
    for linear in (V, DOWN):
        assert others[linear].tobytes() == DENSE[linear].tobytes()
    everything, _ = run(replace(recipe, tune=None), BOTH)
    for linear, one in pruned.items():
        assert np.array_equal(one.mask.kept, everything[linear].mask.kept)


@pytest.mark.parametrize("teacher", ["pruned", "dense"])
def test_a_block_that_stays_dense_is_not_tuned(teacher):
    recipe = replace(RIA, tune=replace(HOW, teacher=teacher, decay=0.5))
    pruned, others = run(recipe, dict.fromkeys(LINEARS, (None, None)), targets=outputs())
    assert pruned == {}
    assert same(others, DENSE)


def test_a_permuted_neighbour_that_is_dense_moves_too():
    """v is dense and o is pruned in another order: the block without pruning is the same."""
    assigned = {**ALL, V: (None, None), UP: (None, None), GATE: (None, None)}
    recipe = replace(PLAIN, permute="hungarian")
    channels = np.float32([9, 9, 9, 9, 1, 1])  # of a head: the first block has too many
    dense = {**DENSE, OUT: DENSE[OUT] * np.tile(channels, CONFIG.H)}
    pruned, others = run(recipe, assigned, inputs=NOTHING, dense=dense)
    for kind in (V, UP, GATE):
        assert not np.array_equal(others[kind], DENSE[kind])
        rows = [sorted(map(bytes, array)) for array in (others[kind], DENSE[kind])]
        assert rows[0] == rows[1]
    assert set(pruned) == {Q, K, OUT, DOWN}


# Permutation


def refilled(pruned, others):
    """The block with all that pruning took out: the permuted dense block.

    Which column went where is read from the weights that stayed.
    """
    orders = {}
    for linear in (OUT, DOWN):
        kept, before, after = pruned[linear].mask.kept, DENSE[linear], pruned[linear].weight
        orders[linear] = [
            next(
                c
                for c in range(before.shape[1])
                if np.array_equal(before[kept[:, p], c], after[kept[:, p], p])
            )
            for p in range(before.shape[1])
        ]
        assert sorted(orders[linear]) == list(range(before.shape[1]))
    share, dim = CONFIG.H // CONFIG.G, CONFIG.head_dim
    first = [orders[OUT][g * share * dim : g * share * dim + dim] for g in range(CONFIG.G)]
    values = [g * dim + p % dim for g, order in enumerate(first) for p in order]
    rows = {GATE: orders[DOWN], UP: orders[DOWN], V: values}
    weights = dict(others)
    for linear, one in pruned.items():
        weights[linear] = DENSE[linear][rows[linear]] if linear in rows else DENSE[linear]
        if linear in orders:
            weights[linear] = DENSE[linear][:, orders[linear]]
        kept = one.mask.kept
        assert np.array_equal(weights[linear][kept], one.weight[kept]), linear
    return weights


@pytest.mark.parametrize("score", ["magnitude", "relative", "wanda", "ria", "gradient"])
@pytest.mark.parametrize("how", ["heuristic", "hungarian"])
@pytest.mark.parametrize("assigned", [ALL, BOTH], ids=["base", "outliers"])
def test_permuted_channels_keep_the_function_and_no_less_of_the_score(score, how, assigned):
    recipe = replace(RIA, score=score, permute=how)
    result = run(recipe, assigned)
    weights = refilled(*result)
    np.testing.assert_allclose(outputs(weights), outputs(), rtol=1e-4, atol=1e-5)
    if how == "hungarian":
        assert not same(weights, DENSE)
    plain, _ = run(replace(recipe, permute="none"), assigned)
    for linear in (OUT, DOWN):
        totals = []
        for dense, block in ((DENSE, plain), (weights, result[0])):
            seen = calibrate(dense, CONFIG, LAYER, INPUTS)[llama.input_tap(linear)]
            slopes = backprop.gradient_norms(dense, CONFIG, LAYER, INPUTS)[linear]
            found = importance(dense[linear], seen, recipe, linear, slopes)
            totals.append(found.sum(where=block[linear].mask.base, dtype=np.float64))
        assert totals[1] >= totals[0] * (1 - 1e-6)
    for linear in (Q, K):  # RoPE ties their channels
        assert np.array_equal(result[0][linear].weight, plain[linear].weight)


@pytest.mark.parametrize("name", ["gradient", "sparsegpt", "alps"])
def test_a_permuted_block_is_pruned_as_if_it_had_come_so(name):
    """Statistics, Hessians and gradients moved with the channels."""
    recipe = replace(RECIPES[name], permute="hungarian")
    result = run(recipe, BOTH)
    seen = calibrate(DENSE, CONFIG, LAYER, INPUTS, gram=True)
    slopes = backprop.gradient_norms(DENSE, CONFIG, LAYER, INPUTS)
    moved = dict(DENSE)
    for linear, fold in ((DOWN, None), (OUT, "heads")):
        found = importance(
            DENSE[linear], seen[llama.input_tap(linear)], recipe, linear, slopes[linear]
        )
        salient = prune_weight(
            *(DENSE[linear], seen[llama.input_tap(linear)], replace(recipe, solver=Solver())),
            *(TWO, SALIENT, linear, slopes[linear]),
        ).mask.salient
        found = np.where(salient, np.float32(0), found)
        if fold is None:
            order = permute.find(found, TWO, "hungarian")
            moved = permute.fold_mlp(moved, LAYER, order)
        else:
            scores = permute.value_scores(found, CONFIG)
            orders = [permute.find(one, TWO, "hungarian") for one in scores]
            order = permute.value_columns(orders, CONFIG)
            if permute.kept(found, TWO, order) > permute.kept(found, TWO, np.arange(len(order))):
                moved = permute.fold_value(moved, CONFIG, LAYER, orders)
    want, _ = run(replace(recipe, permute="none"), BOTH, dense=moved)
    for linear, one in result[0].items():
        assert np.array_equal(one.mask.kept, want[linear].mask.kept), linear
        np.testing.assert_allclose(one.weight, want[linear].weight, rtol=1e-3, atol=1e-4)


def test_channels_stay_where_no_order_is_better():
    """All scores are equal."""
    dense = {name: np.sign(array) if array.ndim == 2 else array for name, array in DENSE.items()}
    result = run(replace(PLAIN, permute="heuristic"), dense=dense, inputs=NOTHING)
    plain = run(PLAIN, dense=dense, inputs=NOTHING)
    assert same(weights_of(result), weights_of(plain))


def test_permutation_of_all_inputs_folds_nothing():
    recipe = replace(PLAIN, permute="hungarian", permute_all=True)
    pruned, _ = run(recipe, inputs=NOTHING)
    for linear, one in pruned.items():
        assert one.mask.pattern is None
        assert np.array_equal(one.weight, np.where(one.mask.base, DENSE[linear], 0))


# Tuning


@pytest.mark.parametrize("outliers", [True, False])
@pytest.mark.parametrize("solver", [Solver(), Solver("alps")])
def test_a_tuned_block_keeps_zeros_and_outliers(outliers, solver):
    recipe = replace(RIA, solver=solver)
    before, _ = run(recipe, BOTH)
    how = replace(HOW, outliers=outliers, rate=1e-4 if solver.method == "alps" else 1e-2)
    pruned, others = run(replace(recipe, tune=how), BOTH)
    for linear, one in pruned.items():
        mask, plain = before[linear].mask, before[linear].weight
        assert np.array_equal(one.mask.base, mask.base)
        assert np.array_equal(one.mask.salient, mask.salient)
        zeros = one.weight[~mask.kept]
        assert not zeros.any()
        assert not np.signbit(zeros).any()
        assert (one.weight[mask.base] != plain[mask.base]).mean() > 0.9
        assert np.array_equal(one.weight[mask.salient], plain[mask.salient]) != outliers
    assert all(not np.array_equal(others[name], DENSE[name]) for name in GAINS)


def test_tuning_is_that_of_ebft_on_the_pruned_block():
    before, _ = run(RIA, BOTH)
    weights = DENSE | {name: one.weight for name, one in before.items()}
    masks = {name: one.mask.base for name, one in before.items()}
    want, losses = ebft.tune(weights, masks, CONFIG, LAYER, INPUTS, outputs(), HOW)
    assert losses[-1] < losses[0]
    assert same(dict(sorted(weights_of(run(replace(RIA, tune=HOW), BOTH)).items())),
                dict(sorted(want.items())))  # fmt: skip


def test_targets_are_those_of_the_dense_block():
    targets = np.full_like(INPUTS, np.nan)
    run(replace(RIA, tune=HOW), targets=targets)
    assert np.array_equal(targets, outputs())


def test_a_dense_teacher_brings_its_own_targets():
    recipe = replace(RIA, tune=replace(HOW, teacher="dense"))
    targets = outputs() + np.float32(1)
    before = targets.copy()
    learned = weights_of(run(recipe, targets=targets))
    assert np.array_equal(targets, before)
    other = weights_of(run(recipe, targets=outputs()))
    assert not same(learned, other)
    pruned = weights_of(run(replace(RIA, tune=HOW)))
    assert same(other, pruned)  # the teacher's outputs are the dense block's here


def test_without_tuning_targets_are_left_alone():
    targets = np.full_like(INPUTS, 7)
    run(RIA, targets=targets)
    assert (targets == 7).all()
