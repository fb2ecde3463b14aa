"""One weight through the stages: each alone, each switched off, and what is refused."""

import re
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from nmref.errors import NmrefError
from nmref.pattern import NMPattern
from nmref.prune.choose import equalize, permute, score
from nmref.prune.choose.mask import plain_top_n
from nmref.prune.masks.maskfile import Mask
from nmref.prune.run.calibrate import Statistics
from nmref.prune.run.stages import Pruned, choose, importance, prune_weight, rounded, solve
from nmref.prune.settings import Correction, Equalization, Recipe, Solver
from nmref.prune.update import variance
from nmref.prune.update.alps import Spectrum, alps
from nmref.prune.update.sparsegpt import sparsegpt
from tests.prune.second_order import inputs

NAME = "model.layers.2.mlp.up_proj.weight"
ROWS, COLUMNS = 10, 280  # tails in every pattern
HALF, SALIENT = NMPattern(8, 16), NMPattern(4, 256)
BASE = Recipe(HALF)
WEIGHT = np.random.default_rng(5).standard_normal((ROWS, COLUMNS)).astype(np.float32)
SLOPES = np.abs(np.random.default_rng(6).standard_normal((ROWS, COLUMNS))).astype(np.float32)


def statistics(columns=COLUMNS):
    first, *rest = (Statistics.of(x, True) for x in inputs(columns, tokens=20))
    for other in rest:
        first = first.joined(other)
    return first


SEEN = statistics()
NORM, LARGEST = SEEN.norm, SEEN.largest


def same(one, other):
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


def run(recipe, seen=SEEN, weight=WEIGHT, outliers=SALIENT, **more):
    return prune_weight(weight, seen, recipe, recipe.pattern, outliers, NAME, **more)


def naive_choice(values, pattern, outliers):
    """Outliers, then the base, with lists; ties to the lower column."""
    both = np.zeros((2, *values.shape), dtype=bool)
    for r, row in enumerate(values.tolist()):
        order = sorted(range(len(row)), key=lambda c: (-row[c], c))
        for first in range(0, len(row), 256):
            some = [c for c in order if first <= c < first + 256]
            both[1, r, some[: outliers.stored if outliers else 0]] = True
        for first in range(0, len(row), pattern.block):
            some = [c for c in order if first <= c < first + pattern.block and not both[1, r, c]]
            both[0, r, some[: pattern.stored]] = True
    return both


# Score

SCORES = {
    "magnitude": (BASE, score.magnitude(WEIGHT)),
    "relative": (BASE, score.relative(WEIGHT)),
    "wanda": (BASE, score.wanda(WEIGHT, NORM)),
    "ria": (BASE, score.ria(WEIGHT, NORM)),
    "gradient": (BASE, score.gradient(WEIGHT, NORM, SLOPES)),
}


@pytest.mark.parametrize("name", SCORES)
def test_each_score_is_its_function(name):
    recipe, want = SCORES[name]
    found = importance(WEIGHT, SEEN, replace(recipe, score=name), NAME, SLOPES)
    assert same(found, want)


def test_the_exponent_is_that_of_ria():
    found = importance(WEIGHT, SEEN, replace(BASE, exponent=0.8), NAME)
    assert same(found, score.ria(WEIGHT, NORM, 0.8))
    plain = importance(WEIGHT, SEEN, replace(BASE, score="wanda", exponent=0.8), NAME)
    assert same(plain, score.wanda(WEIGHT, NORM))


@pytest.mark.parametrize("name", ["magnitude", "relative"])
def test_scores_of_the_weight_alone_need_no_activations(name):
    recipe = replace(BASE, score=name)
    assert same(importance(WEIGHT, None, recipe, NAME), SCORES[name][1])


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("scaled", [True, False])
def test_equalization_is_what_the_score_sees(name, scaled):
    how = Equalization("divide", 0.7, scale_activation=scaled)
    weight, norm = equalize.equalized(WEIGHT, NORM, LARGEST, how)
    slopes = equalize.equalized_gradient(WEIGHT, SLOPES, LARGEST, how)
    functions = {
        "magnitude": lambda: score.magnitude(weight),
        "relative": lambda: score.relative(weight),
        "wanda": lambda: score.wanda(weight, norm),
        "ria": lambda: score.ria(weight, norm, 0.5),
        "gradient": lambda: score.gradient(weight, norm, slopes),
    }
    found = importance(WEIGHT, SEEN, replace(BASE, score=name, equalize=how), NAME, SLOPES)
    assert same(found, functions[name]())
    assert not same(found, SCORES[name][1]) or (name in {"wanda", "gradient"} and scaled)


def test_equalization_changes_the_choice_and_no_weight():
    plain, changed = run(BASE), run(replace(BASE, equalize=Equalization(power=1.0)))
    assert not np.array_equal(plain.mask.kept, changed.mask.kept)
    for one in (plain, changed):
        assert same(one.weight, np.where(one.mask.kept, WEIGHT, np.float32(0)))


NEEDS = {
    "wanda": replace(BASE, score="wanda"),
    "ria": BASE,
    "gradient": replace(BASE, score="gradient"),
    "equalization": replace(BASE, score="magnitude", equalize=Equalization()),
}


@pytest.mark.parametrize("stage", NEEDS)
def test_a_stage_without_its_activations(stage):
    message = f"T_ARGUMENT {NAME} {stage}: no activations, want those of a calibration text"
    for call in (
        lambda: importance(WEIGHT, None, NEEDS[stage], NAME, SLOPES),
        lambda: run(NEEDS[stage], None),
    ):
        with pytest.raises(NmrefError) as error:
            call()
        assert str(error.value) == message


def test_the_gradient_score_without_gradients():
    with pytest.raises(NmrefError, match=rf"^T_ARGUMENT {re.escape(NAME)} gradient: no gradients"):
        importance(WEIGHT, SEEN, NEEDS["gradient"], NAME)


@pytest.mark.parametrize("method", ["sparsegpt", "alps"])
def test_a_solver_without_activations(method):
    recipe = replace(BASE, score="magnitude", solver=Solver(method))
    message = f"T_ARGUMENT {NAME} {method}: no activations, want those of a calibration text"
    with pytest.raises(NmrefError) as error:
        run(recipe, None)
    assert str(error.value) == message


def test_a_score_that_overflows_names_the_weight():
    weight = WEIGHT.copy()
    weight[3, 7] = 3e38
    message = rf"^T_SCORE {re.escape(NAME)} row 3 column 7: a score of inf, want finite activati"
    with pytest.raises(NmrefError, match=message):
        importance(weight, replace(SEEN, squares=SEEN.squares * 1e9), NEEDS["wanda"], NAME)


def test_a_weight_that_is_not_finite_is_refused_before_anything_else():
    weight = WEIGHT.copy()
    weight[3, 7] = np.nan
    message = rf"^T_TENSOR {re.escape(NAME)} row 3 column 7: nan, want a finite weight$"
    given = Mask(np.zeros(WEIGHT.shape, dtype=bool))
    for more in ({}, {"given": given}):
        with pytest.raises(NmrefError, match=message):
            run(BASE, weight=weight, **more)


def test_an_error_of_a_stage_names_the_weight():
    short = Statistics.of(np.ones((2, 3), dtype=np.float32), True)
    with pytest.raises(NmrefError, match=rf"^T_ARGUMENT {re.escape(NAME)} column norms: shape "):
        importance(WEIGHT, short, BASE, NAME)
    with pytest.raises(NmrefError, match=rf"^T_ARGUMENT {re.escape(NAME)} solver: weight "):
        run(replace(BASE, score="magnitude", solver=Solver("alps")), short)


# Choice


@pytest.mark.parametrize("pattern", ["2:4", "8:16", "16:32"])
@pytest.mark.parametrize("outliers", [None, SALIENT, NMPattern(16, 256)])
def test_choice_is_outliers_first_then_the_base(pattern, outliers):
    pattern = NMPattern.parse(pattern)
    values = np.rint(np.abs(WEIGHT) * 8).astype(np.float32)  # many ties
    found = choose(values, BASE, pattern, outliers)
    base, extra = naive_choice(values, pattern, outliers)
    assert np.array_equal(found.base, base)
    assert (found.salient is None) == (outliers is None)
    assert outliers is None or np.array_equal(found.salient, extra)
    assert (found.pattern, found.outliers) == (pattern, outliers)


@pytest.mark.parametrize("place", ["matrix", "row"])
def test_as_many_outliers_elsewhere(place):
    values = np.abs(WEIGHT)
    found = choose(values, replace(BASE, place=place), HALF, SALIENT)
    each = 4 + 4  # of 256 columns and of the 24 after them
    assert found.salient.sum() == each * ROWS
    ranked = np.sort(values, axis=None)[::-1] if place == "matrix" else None
    if place == "matrix":
        assert np.array_equal(found.salient, values >= ranked[each * ROWS - 1])
    else:
        assert (found.salient.sum(axis=1) == each).all()
        floor = np.sort(values, axis=1)[:, -each]
        assert np.array_equal(found.salient, values >= floor[:, None])
    want = plain_top_n(values, HALF, found.salient)
    assert np.array_equal(found.base, want)
    assert (found.pattern, found.outliers) == (HALF, None)


def test_place_without_outliers_is_nothing():
    plain = choose(np.abs(WEIGHT), BASE, HALF, None)
    other = choose(np.abs(WEIGHT), replace(BASE, place="matrix"), HALF, None)
    assert other.salient is None
    assert np.array_equal(plain.base, other.base)


@pytest.mark.parametrize("outliers", [None, SALIENT])
@pytest.mark.parametrize("how", ["none", "heuristic", "hungarian"])
def test_permuted_choice_keeps_no_less_and_fits_no_pattern(how, outliers):
    values = np.abs(WEIGHT) * np.linspace(0.1, 3, COLUMNS, dtype=np.float32)
    recipe = replace(BASE, permute=how, permute_all=True)
    found, plain = choose(values, recipe, HALF, outliers), choose(values, BASE, HALF, outliers)
    extra = plain.salient
    assert found.pattern is None
    assert found.outliers == outliers
    assert (extra is None) == (found.salient is None)
    assert extra is None or np.array_equal(found.salient, extra)
    rest = values if extra is None else np.where(extra, np.float32(0), values)
    order = permute.find(rest, HALF, how)
    want = permute.permuted_mask(values, HALF, order, extra)
    assert np.array_equal(found.base, want)
    if how == "none":
        assert np.array_equal(found.base, plain.base)
    else:
        assert rest.sum(where=found.base) > rest.sum(where=plain.base)


# Update


def test_without_a_solver_weights_stay():
    mask = choose(np.abs(WEIGHT), BASE, HALF, SALIENT)
    found, after = solve(WEIGHT, mask, None, Solver(), HALF, NAME)
    assert after is mask
    assert found.dtype == np.float32
    kept = mask.base | mask.salient
    assert np.array_equal(found, WEIGHT * kept)
    assert not np.signbit(found[~kept]).any()  # +0


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("outliers", [None, SALIENT])
def test_solvers_are_their_functions(outliers, keep):
    mask = choose(np.abs(WEIGHT), BASE, HALF, outliers)
    fixed = mask.base if keep else None
    how = Solver("sparsegpt", damping=0.05, block=64, keep_mask=keep)
    found, after = solve(WEIGHT, mask, SEEN, how, HALF, NAME)
    want, base = sparsegpt(
        WEIGHT, SEEN.hessian, HALF, salient=mask.salient, mask=fixed, block=64, damping=0.05
    )
    assert same(found, want)
    assert np.array_equal(after.base, base)
    assert after.salient is mask.salient
    assert (after.pattern, after.outliers) == (HALF, outliers)
    assert np.array_equal(base, mask.base) == keep
    how = Solver("alps", damping=0.05, iterations=9, keep_mask=keep)
    found, after = solve(WEIGHT, mask, SEEN, how, HALF, NAME)
    spectrum = Spectrum.of(SEEN.hessian, 0.05)
    want, base = alps(WEIGHT, spectrum, HALF, salient=mask.salient, mask=fixed, iterations=9)
    assert same(found, want)
    assert np.array_equal(after.base, base)


@pytest.mark.parametrize("method", ["sparsegpt", "alps"])
def test_a_solver_lowers_the_error_and_its_mask_is_where_the_weights_are(method):
    def loss(one):
        change = (one.weight - WEIGHT).astype(np.float64)
        return ((change @ SEEN.hessian) * change).sum()

    plain = run(BASE)
    for keep in (True, False):
        solved = run(replace(BASE, solver=Solver(method, keep_mask=keep)))
        assert loss(solved) < 0.8 * loss(plain)
        assert not solved.weight[~solved.mask.kept].any()
        assert np.array_equal(solved.mask.salient, plain.mask.salient)


# Variance, and all together


@pytest.mark.parametrize("how", [Correction(), Correction("dense", "row")])
@pytest.mark.parametrize("solver", [Solver(), Solver("alps")])
def test_correction_comes_last_and_leaves_the_outliers(how, solver):
    recipe = replace(BASE, solver=solver)
    plain, found = run(recipe), run(replace(recipe, correct=how))
    mask = plain.mask
    factor = variance.factor(WEIGHT, mask.base, mask.salient, how, pruned=plain.weight)
    assert same(found.weight, variance.correct(plain.weight, mask.base, factor))
    assert np.array_equal(found.mask.base, mask.base)
    assert np.array_equal(found.weight[mask.salient], plain.weight[mask.salient])
    assert not np.array_equal(found.weight[mask.base], plain.weight[mask.base])


def test_a_recipe_without_stages_is_the_choice_alone():
    recipe = replace(BASE, score="magnitude")
    found = run(recipe, None, outliers=None)
    (base, _) = naive_choice(np.abs(WEIGHT), HALF, None)
    assert np.array_equal(found.mask.base, base)
    assert found.mask.salient is None
    assert same(found.weight, np.where(base, WEIGHT, np.float32(0)))


def test_arguments_stay():
    weight, squares = WEIGHT.copy(), SEEN.squares.copy()
    recipe = Recipe(HALF, equalize=Equalization(), solver=Solver("alps"), correct=Correction())
    run(recipe)
    assert same(weight, WEIGHT)
    assert same(squares, SEEN.squares)


# Masks that are given


def given_mask():
    rng = np.random.default_rng(9)
    base, extra = naive_choice(rng.random(WEIGHT.shape).astype(np.float32), HALF, SALIENT)
    return Mask(base, extra, HALF, SALIENT)


@pytest.mark.parametrize("method", ["none", "sparsegpt", "alps"])
def test_a_given_mask_is_taken_as_it_is(method):
    mask = given_mask()
    recipe = replace(BASE, score="gradient", solver=Solver(method), correct=Correction())
    seen = None if method == "none" else SEEN  # no score, so nothing else looks at them
    found = run(recipe, seen, given=mask)
    assert np.array_equal(found.mask.base, mask.base)
    assert np.array_equal(found.mask.salient, mask.salient)
    assert not found.weight[~mask.kept].any()
    assert not np.signbit(found.weight[~mask.kept]).any()
    assert np.count_nonzero(found.weight) == mask.kept.sum()
    same_as_dense = np.array_equal(found.weight[mask.salient], WEIGHT[mask.salient])
    assert same_as_dense == (method == "none")


@pytest.mark.parametrize("shape", [(1, COLUMNS), (ROWS, COLUMNS - 1), (1, 1)])
def test_a_given_mask_of_another_shape(shape):
    """[1, K] would spread over all rows."""
    want = f"T_ARGUMENT mask {NAME}: shape {list(shape)}, want [10, 280]"
    with pytest.raises(NmrefError) as error:
        run(BASE, given=Mask(np.ones(shape, dtype=bool)))
    assert str(error.value) == want


# The packed form


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("outliers", [None, SALIENT])
@pytest.mark.parametrize("corrected", [False, True])
def test_packed_is_the_weight_in_its_own_dtype(dtype, outliers, corrected):
    like = WEIGHT.astype(dtype)
    recipe = replace(BASE, correct=Correction() if corrected else None)
    one = run(recipe, weight=like.astype(np.float32), outliers=outliers)
    packed = one.packed(like, NAME)
    dense = packed.to_dense()
    assert dense.dtype == like.dtype
    assert dense.tobytes() == one.weight.astype(dtype).tobytes()
    assert str(packed.base.pattern) == "8:16"
    extra = packed.spec.outliers
    assert (extra is None) == (outliers is None)
    assert outliers is None or (extra.pattern, extra.dtype) == (outliers, packed.spec.dtype)


LIMITS = [(np.float16, 65520, "F16"), (ml_dtypes.bfloat16, 3.4e38, "BF16")]


@pytest.mark.parametrize(("dtype", "value", "name"), LIMITS)
def test_what_the_dtype_does_not_hold_is_told(dtype, value, name):
    dense, weight = WEIGHT.astype(dtype), np.abs(WEIGHT)
    weight[3, 7] = -value
    got = str(weight[3, 7])
    message = f"T_TENSOR {NAME} row 3 column 7: {got}, want a number that {name} holds"
    one = Pruned(weight, Mask(np.ones(WEIGHT.shape, bool), None, HALF))
    for call in (lambda: rounded(weight, dense.dtype, NAME), lambda: one.packed(dense, NAME)):
        with pytest.raises(NmrefError) as error:
            call()
        assert str(error.value) == message
    with pytest.raises(NmrefError, match=rf"^T_TENSOR n element 2: inf, want a number that {name}"):
        rounded(np.float32([1, 2, np.inf]), dense.dtype, "n")


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_rounding_is_to_nearest_even(dtype):
    found = rounded(WEIGHT, np.dtype(dtype), NAME)
    assert found.dtype == dtype
    assert np.array_equal(found, WEIGHT.astype(dtype))


def test_packed_keeps_the_slots_of_weights_that_became_zero():
    """The mask, not the values, says what is stored."""
    mask = given_mask()
    one = Pruned(np.zeros(WEIGHT.shape, dtype=np.float32), mask)
    packed = one.packed(WEIGHT, NAME)
    parts, full = packed.parts(), replace(one, weight=WEIGHT).packed(WEIGHT, NAME).parts()
    places = [name for name in parts if "values" not in name]
    assert len(places) > 1
    for name in places:  # codes and columns
        assert np.array_equal(parts[name], full[name]), name
    assert not packed.to_dense().any()


@pytest.mark.parametrize(
    "mask",
    [
        Mask(given_mask().base),
        Mask(given_mask().base, given_mask().salient, HALF),
        Mask(given_mask().base, given_mask().salient, None, SALIENT),
    ],
)
def test_a_mask_without_patterns_has_no_packed_form(mask):
    message = f"T_ARGUMENT {NAME}: a mask without N:M, want one to pack"
    with pytest.raises(NmrefError) as error:
        Pruned(WEIGHT, mask).packed(WEIGHT, NAME)
    assert str(error.value) == message
