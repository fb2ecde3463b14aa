"""Column norms and windows of a text."""

import numpy as np
import pytest

from nmref.errors import NmrefError
from nmref.prune.calibrate import ColumnNorms, windows


def test_windows_follow_each_other():
    assert windows(list(range(10)), 3, 3) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_windows_of_a_short_text_is_an_error():
    message = r"^T_TEXT calibration text: 10 tokens, want 3 x 4 = 12$"
    with pytest.raises(NmrefError, match=message):
        windows(list(range(10)), 3, 4)


def test_norm_is_the_mean_square_over_samples():
    rng = np.random.default_rng(1)
    samples = [rng.standard_normal((t, 6)).astype(np.float32) for t in (5, 3)]
    norms = ColumnNorms(["x"], len(samples))
    for sample in samples:
        norms("x", sample)
        norms("other", sample[:, :2])  # not asked for
    stacked = np.concatenate(samples).astype(np.float64)
    np.testing.assert_allclose(norms.norm("x"), np.sqrt((stacked**2).sum(axis=0) / 2), rtol=1e-6)


def test_norm_without_samples_is_an_error():
    with pytest.raises(NmrefError, match=r"^T_ARGUMENT x: no activations"):
        ColumnNorms(["x"], 1).norm("x")
