"""Scores against their formulas written out with Python floats."""

import math

import numpy as np
import pytest

from nmref.errors import NmrefError
from nmref.prune.score import check_score, magnitude, ria

RNG = np.random.default_rng(7)
W = RNG.standard_normal((5, 7)).astype(np.float32)
NORM = np.abs(RNG.standard_normal(7)).astype(np.float32)


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


def test_magnitude_is_absolute_value():
    assert np.array_equal(magnitude(W), np.where(W < 0, -W, W))


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_ria_is_its_formula(exponent):
    np.testing.assert_allclose(ria(W, NORM, exponent), naive_ria(W, NORM, exponent), rtol=1e-6)


def test_ria_of_a_zero_column_and_row_is_zero():
    weight = W.copy()
    weight[:, 2] = 0
    weight[3] = 0
    score = ria(weight, NORM)
    assert not np.isnan(score).any()
    assert (score[:, 2] == 0).all()
    assert (score[3] == 0).all()


def test_ria_ignores_the_scale_of_the_weights():
    np.testing.assert_array_equal(ria(W * 4, NORM), ria(W, NORM))


def test_check_score_names_the_first_nan():
    score = ria(W, NORM)
    score[1, 4] = np.nan
    message = r"^T_SCORE layer row 1 column 4: a score of NaN, want finite activations$"
    with pytest.raises(NmrefError, match=message):
        check_score(score, "layer")
