"""Scores against their formulas written out with Python floats, and the laws they keep."""

import math

import numpy as np
import pytest

from nmref.errors import NmrefError
from nmref.pattern import NMPattern
from nmref.prune.choose.mask import top_n
from nmref.prune.choose.score import (
    check_finite,
    check_score,
    gradient,
    magnitude,
    relative,
    ria,
    wanda,
)

RNG = np.random.default_rng(7)
W = RNG.standard_normal((5, 7)).astype(np.float32)
G = RNG.standard_normal((5, 7)).astype(np.float32)
NORM = np.abs(RNG.standard_normal(7)).astype(np.float32)

SCORES = {
    "magnitude": lambda w: magnitude(w),
    "wanda": lambda w: wanda(w, NORM),
    "relative": lambda w: relative(w),
    "ria": lambda w: ria(w, NORM),
    "gradient": lambda w: gradient(w, NORM, G),
}
WITH_NORM = {
    "wanda": lambda norm: wanda(W, norm),
    "ria": lambda norm: ria(W, norm),
    "gradient": lambda norm: gradient(W, norm, G),
}


def naive_ria(weight, norm, exponent):
    rows, columns = weight.shape
    out = np.zeros(weight.shape)
    for i in range(rows):
        for j in range(columns):
            size = abs(float(weight[i, j]))
            by_column = math.fsum(abs(float(weight[r, j])) for r in range(rows))
            by_row = math.fsum(abs(float(weight[i, c])) for c in range(columns))
            out[i, j] = (size / by_column + size / by_row) * float(norm[j]) ** exponent
    return out


def each(formula):
    """formula(i, j) of every weight as an array."""
    return np.array([[formula(i, j) for j in range(W.shape[1])] for i in range(W.shape[0])])


@pytest.mark.parametrize("name", SCORES)
def test_a_score_is_float32_not_negative_and_blind_to_signs(name):
    score = SCORES[name](W)
    assert score.dtype == np.float32
    assert score.shape == W.shape
    assert (score >= 0).all()
    assert np.array_equal(SCORES[name](-W), score)


@pytest.mark.parametrize("name", SCORES)
def test_a_score_leaves_its_inputs_alone(name):
    before = [W.copy(), G.copy(), NORM.copy()]
    SCORES[name](W)
    assert all(map(np.array_equal, (W, G, NORM), before))


@pytest.mark.parametrize("name", SCORES)
def test_a_score_moves_with_the_rows_and_columns_of_the_weight(name):
    rows, columns = RNG.permutation(5), RNG.permutation(7)
    moved = {
        "magnitude": lambda w: magnitude(w),
        "wanda": lambda w: wanda(w, NORM[columns]),
        "relative": lambda w: relative(w),
        "ria": lambda w: ria(w, NORM[columns]),
        "gradient": lambda w: gradient(w, NORM[columns], G[rows][:, columns]),
    }[name](W[rows][:, columns])
    np.testing.assert_allclose(moved, SCORES[name](W)[rows][:, columns], rtol=1e-6)


@pytest.mark.parametrize("name", WITH_NORM)
def test_a_score_grows_with_the_norm_of_its_column_alone(name):
    louder = NORM.copy()
    louder[3] *= 2
    before, after = WITH_NORM[name](NORM), WITH_NORM[name](louder)
    assert (after[:, 3] > before[:, 3]).all()
    assert np.array_equal(np.delete(after, 3, axis=1), np.delete(before, 3, axis=1))


@pytest.mark.parametrize("name", ["wanda", "ria"])
@pytest.mark.parametrize("pattern", [NMPattern(2, 4), NMPattern(1, 4), NMPattern(3, 4)], ids=str)
def test_a_common_factor_of_the_norms_changes_no_mask(name, pattern):
    mask = top_n(WITH_NORM[name](NORM), pattern)
    assert np.array_equal(top_n(WITH_NORM[name](NORM * 64), pattern), mask)


def test_magnitude_is_absolute_value():
    assert np.array_equal(magnitude(W), np.where(W < 0, -W, W))


def test_wanda_is_its_formula():
    expected = each(lambda i, j: abs(float(W[i, j])) * float(NORM[j]))
    np.testing.assert_allclose(wanda(W, NORM), expected, rtol=1e-6)


def test_wanda_of_equal_norms_is_magnitude():
    assert np.array_equal(wanda(W, np.ones(7, np.float32)), magnitude(W))


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
def test_ria_is_its_formula(exponent):
    np.testing.assert_allclose(ria(W, NORM, exponent), naive_ria(W, NORM, exponent), rtol=1e-6)


def test_ria_takes_the_square_root_of_the_norm_by_default():
    assert np.array_equal(ria(W, NORM), ria(W, NORM, 0.5))


def test_relative_is_ria_without_activations():
    assert np.array_equal(relative(W), ria(W, NORM, 0.0))
    np.testing.assert_allclose(relative(W), naive_ria(W, NORM, 0.0), rtol=1e-6)


def test_relative_shares_add_up_to_rows_plus_columns():
    assert math.isclose(relative(W).sum(dtype=np.float64), 5 + 7, rel_tol=1e-6)


@pytest.mark.parametrize("name", ["relative", "ria"])
def test_relative_and_ria_ignore_the_scale_of_the_weights(name):
    assert np.array_equal(SCORES[name](W * 4), SCORES[name](W))


@pytest.mark.parametrize("name", SCORES)
def test_a_zero_column_and_row_have_score_zero(name):
    weight = W.copy()
    weight[:, 2] = 0
    weight[3] = 0
    score = SCORES[name](weight)
    assert (score[:, 2] == 0).all()
    assert (score[3] == 0).all()
    assert (np.delete(np.delete(score, 2, axis=1), 3, axis=0) > 0).all()


@pytest.mark.parametrize("name", WITH_NORM)
def test_a_column_that_is_never_active_has_no_activation_part(name):
    quiet = NORM.copy()
    quiet[4] = 0
    alone = 100 * np.abs(G * W) if name == "gradient" else np.zeros_like(W)
    np.testing.assert_allclose(WITH_NORM[name](quiet)[:, 4], alone[:, 4], rtol=1e-6)


def test_gradient_is_its_formula():
    def formula(i, j):
        return (100 * abs(float(G[i, j])) + float(NORM[j])) * abs(float(W[i, j]))

    np.testing.assert_allclose(gradient(W, NORM, G), each(formula), rtol=1e-6)
    half = each(lambda i, j: formula(i, j) - 50 * abs(float(G[i, j] * W[i, j])))
    np.testing.assert_allclose(gradient(W, NORM, G, alpha=50), half, rtol=1e-5)


def test_gradient_without_gradients_is_wanda():
    assert np.array_equal(gradient(W, NORM, np.zeros_like(W)), wanda(W, NORM))
    assert np.array_equal(gradient(W, NORM, G, alpha=0), wanda(W, NORM))


def test_gradient_ignores_the_sign_of_alpha_and_of_the_gradient():
    assert np.array_equal(gradient(W, NORM, -G), gradient(W, NORM, G))
    assert np.array_equal(gradient(W, NORM, G, alpha=-100), gradient(W, NORM, G))


@pytest.mark.parametrize("name", WITH_NORM)
@pytest.mark.parametrize("shape", [(5, 1), (6,), (1, 7), ()], ids=str)
def test_a_score_wants_one_norm_per_column(name, shape):
    got = str(list(shape)).replace("[", r"\[").replace("]", r"\]")
    message = rf"^T_ARGUMENT column norms: shape {got}, want \[7\], one per column$"
    with pytest.raises(NmrefError, match=message):
        WITH_NORM[name](np.ones(shape, np.float32))


def test_gradient_wants_one_gradient_per_weight():
    message = r"^T_ARGUMENT gradient norms: shape \[7\], want \[5, 7\]$"
    with pytest.raises(NmrefError, match=message):
        gradient(W, NORM, G[0])


@pytest.mark.parametrize("exponent", [1e39, math.inf])
def test_ria_wants_an_exponent_that_float32_holds(exponent):
    """Norms to the power of infinity are 0, 1 or infinite: no score, and no error either."""
    message = r"^T_ARGUMENT RIA exponent: \S+, want a number that float32 holds$"
    with pytest.raises(NmrefError, match=message):
        ria(W, np.minimum(NORM, 0.5), exponent)


@pytest.mark.parametrize("exponent", [-0.5, math.nan])
def test_ria_wants_an_exponent_of_0_or_more(exponent):
    message = rf"^T_ARGUMENT RIA exponent: {exponent}, want 0 or more$"
    with pytest.raises(NmrefError, match=message):
        ria(W, NORM, exponent)


def test_check_finite_names_the_first_bad_weight():
    weight = W.copy()
    weight[2, 3], weight[4, 0] = -np.inf, np.nan
    message = r"^T_TENSOR layer row 2 column 3: -inf, want a finite weight$"
    with pytest.raises(NmrefError, match=message):
        check_finite(weight, "layer")
    check_finite(W, "layer")


@pytest.mark.parametrize(("bad", "text"), [(np.nan, "NaN"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_check_score_names_the_first_score_that_is_not_finite(bad, text):
    score = ria(W, NORM)
    check_score(score, "layer")
    score[1, 4], score[3, 0] = bad, np.nan
    message = rf"^T_SCORE layer row 1 column 4: a score of {text}, want finite activations$"
    with pytest.raises(NmrefError, match=message):
        check_score(score, "layer")


@pytest.mark.parametrize("name", WITH_NORM)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("weight", [0, 1])
def test_a_norm_that_is_not_finite_ends_in_check_score_and_no_warning(name, bad, weight):
    norm, some = NORM.copy(), W.copy()
    norm[5], some[0, 5] = bad, weight
    score = {"wanda": wanda, "ria": ria}.get(name, lambda w, n: gradient(w, n, G))(some, norm)
    with pytest.raises(NmrefError, match=r"^T_SCORE layer row 0 column 5: a score of (NaN|inf)"):
        check_score(score, "layer")


@pytest.mark.parametrize("axis", [0, 1])
def test_sums_that_overflow_are_no_zero_shares(axis):
    """A share of infinity would be 0, finite, and the same for all."""
    weight = np.ones((3, 4), np.float32)
    weight[(slice(None), 2) if axis == 0 else (1, slice(None))] = 2e38
    what = "column 2" if axis == 0 else "row 1"
    total = "6e+38" if axis == 0 else "8e+38"
    for made in (lambda: relative(weight), lambda: ria(weight, np.ones(4, np.float32))):
        with pytest.raises(NmrefError) as error:
            made()
        want = f"T_SCORE {what}: weights whose sizes add up to {total}, want a sum that"
        assert str(error.value).startswith(want)


def test_a_score_that_overflows_ends_in_check_score():
    score = wanda(np.full((1, 2), 1e38, np.float32), np.array([1, 100], np.float32))
    with pytest.raises(NmrefError, match=r"^T_SCORE layer row 0 column 1: a score of inf"):
        check_score(score, "layer")
