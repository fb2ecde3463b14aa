"""Equalization: its factor, its switches, and what each switch can and cannot change."""

import itertools
import math

import numpy as np
import pytest

from nmref.errors import NmrefError
from nmref.pattern import NMPattern
from nmref.prune.choose.equalize import SMALLEST, equalized, equalized_gradient, scale
from nmref.prune.choose.mask import top_n
from nmref.prune.choose.score import gradient, magnitude, relative, ria, wanda
from nmref.prune.settings import Equalization

RNG = np.random.default_rng(11)
W = RNG.standard_normal((6, 16)).astype(np.float32)
NORM = np.exp(RNG.standard_normal(16)).astype(np.float32)
TOP = np.exp(2 * RNG.standard_normal(16)).astype(np.float32)

SWITCHES = [
    Equalization(direction, power, scaled)
    for direction, power, scaled in itertools.product(
        ("multiply", "divide"), (0.0, 0.5, 1.0), (False, True)
    )
]


def naive_scale(weight, column_max, power):
    out = []
    for j in range(weight.shape[1]):
        of_weight = max(abs(float(weight[i, j])) for i in range(weight.shape[0]))
        out.append((max(float(column_max[j]), 1e-5) / max(of_weight, 1e-5)) ** power)
    return out


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_scale_is_its_formula(power):
    s = scale(W, TOP, power)
    assert s.dtype == np.float32
    assert s.shape == (16,)
    np.testing.assert_allclose(s, naive_scale(W, TOP, power), rtol=1e-6)


def test_scale_ignores_signs_and_rows_below_the_maximum():
    smaller = np.concatenate([W, W / 2, -W])
    assert np.array_equal(scale(smaller, TOP, 0.5), scale(W, TOP, 0.5))


def test_scale_makes_both_maxima_the_same_at_power_one_half():
    """max |W_ij s_j| = max |x_j / s_j|: SmoothQuant with alpha = 0.5 shares the load."""
    s = scale(W, TOP, 0.5)
    np.testing.assert_allclose(np.abs(W * s).max(axis=0), TOP / s, rtol=1e-6)


def test_scale_of_a_column_without_weights_or_activations_is_clamped():
    weight, top = W.copy(), TOP.copy()
    weight[:, 3], weight[:, 4], top[4:6] = 0, 1e-9, 0
    s = scale(weight, top, 0.5)
    assert math.isclose(s[3], math.sqrt(TOP[3] / SMALLEST), rel_tol=1e-6)
    assert s[4] == 1  # both are clamped
    assert math.isclose(s[5], math.sqrt(SMALLEST / np.abs(W[:, 5]).max()), rel_tol=1e-6)
    assert SMALLEST == 1e-5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scale_refuses_activations_that_are_not_finite(bad):
    top = TOP.copy()
    top[7] = bad
    message = (
        rf"^T_SCORE column 7: an equalization factor of {bad}, "
        r"want a finite one above 0, of finite activations$"
    )
    with pytest.raises(NmrefError, match=message):
        scale(W, top, 0.5)
    with pytest.raises(NmrefError, match=message):
        equalized(W, NORM, top, Equalization("divide"))


def test_scale_refuses_a_power_that_overflows_or_vanishes():
    with pytest.raises(NmrefError, match=r"^T_SCORE column 0: an equalization factor of inf"):
        scale(W[:, :1], np.float32([1e30]), 9.0)
    with pytest.raises(NmrefError, match=r"^T_SCORE column 0: an equalization factor of 0\.0"):
        scale(W[:, :1], np.float32([0]), 99.0)


@pytest.mark.parametrize("shape", [(6, 1), (1, 16), (15,)], ids=str)
def test_one_maximum_and_one_norm_per_column(shape):
    wrong = np.ones(shape, np.float32)
    message = r"^T_ARGUMENT activation maxima: shape \[.*\], want \[16\], one per column$"
    with pytest.raises(NmrefError, match=message):
        scale(W, wrong, 0.5)
    message = r"^T_ARGUMENT column norms: shape \[.*\], want \[16\], one per column$"
    with pytest.raises(NmrefError, match=message):
        equalized(W, wrong, TOP, Equalization())


@pytest.mark.parametrize("how", SWITCHES, ids=str)
def test_equalized_is_its_formula(how):
    weight, norm = equalized(W, NORM, TOP, how)
    s = np.array(naive_scale(W, TOP, how.power))
    sign = 1 if how.direction == "multiply" else -1
    np.testing.assert_allclose(weight, W * s**sign, rtol=1e-6)
    np.testing.assert_allclose(norm, NORM / s**sign if how.scale_activation else NORM, rtol=1e-6)
    assert weight.dtype == norm.dtype == np.float32


@pytest.mark.parametrize("how", SWITCHES, ids=str)
def test_equalized_leaves_its_inputs_alone(how):
    before = [W.copy(), NORM.copy(), TOP.copy()]
    equalized(W, NORM, TOP, how)
    assert all(map(np.array_equal, (W, NORM, TOP), before))


def test_equalized_by_default_multiplies_by_the_root_and_keeps_the_norm():
    weight, norm = equalized(W, NORM, TOP, Equalization())
    assert np.array_equal(weight, W * scale(W, TOP, 0.5))
    assert norm is NORM


@pytest.mark.parametrize("direction", ["multiply", "divide"])
def test_power_zero_changes_nothing(direction):
    for scaled in (False, True):
        weight, norm = equalized(W, NORM, TOP, Equalization(direction, 0.0, scaled))
        assert np.array_equal(weight, W)
        assert np.array_equal(norm, NORM)


@pytest.mark.parametrize("direction", ["multiply", "divide"])
def test_wanda_of_scaled_weights_and_activations_is_wanda(direction):
    """x S and W S^-1 have the same products; with powers of 2 to the last bit."""
    weight = np.sign(W) * np.float32(1)
    top = np.exp2(2 * RNG.integers(-4, 5, 16)).astype(np.float32)
    fed = equalized(weight, NORM, top, Equalization(direction, 0.5, True))
    assert not np.array_equal(fed[0], weight)
    assert np.array_equal(wanda(*fed), wanda(weight, NORM))


@pytest.mark.parametrize("direction", ["multiply", "divide"])
def test_the_gradient_score_of_scaled_weights_and_activations_is_its_own(direction):
    """A gradient of W S is that of W over S, as the activations are."""
    weight = np.sign(W) * np.float32(1)
    slopes = np.abs(RNG.normal(size=W.shape)).astype(np.float32)
    top = np.exp2(2 * RNG.integers(-4, 5, 16)).astype(np.float32)
    how = Equalization(direction, 0.5, True)
    found = gradient(
        *equalized(weight, NORM, top, how), equalized_gradient(weight, slopes, top, how)
    )
    assert np.array_equal(found, gradient(weight, NORM, slopes))
    plain = Equalization(direction, 0.5, False)
    assert equalized_gradient(weight, slopes, top, plain) is slopes


def test_the_column_share_of_relative_importance_does_not_feel_the_scale():
    weight, _ = equalized(W, NORM, TOP, Equalization())
    share = np.abs(W) / np.abs(W).sum(axis=0)
    np.testing.assert_allclose(np.abs(weight) / np.abs(weight).sum(axis=0), share, rtol=1e-5)
    row = np.abs(weight) / np.abs(weight).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(relative(weight), share + row, rtol=1e-5)


def test_ria_of_scaled_weights_and_activations_is_not_ria():
    fed = equalized(W, NORM, TOP, Equalization(scale_activation=True))
    assert not np.allclose(ria(*fed), ria(W, NORM), rtol=1e-2)


def test_multiply_helps_loud_columns_and_divide_hurts_them():
    """Of equal weights and norms only the maximum tells two columns apart."""
    weight, norm = np.ones((3, 4), np.float32), np.ones(4, np.float32)
    top = np.array([1, 2, 3, 4], np.float32)
    for direction, kept in (("multiply", [0, 0, 1, 1]), ("divide", [1, 1, 0, 0])):
        fed = equalized(weight, norm, top, Equalization(direction))
        for score in (ria(*fed), wanda(*fed), magnitude(fed[0])):
            mask = top_n(score, NMPattern(2, 4))
            assert (mask == np.array(kept, bool)).all(), direction
