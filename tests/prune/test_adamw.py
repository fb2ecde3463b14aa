"""AdamW against its formula with Python floats, and the laws of masks and clipping."""

import math

import numpy as np
import pytest

from nmref.errors import NmrefError
from nmref.prune.settings import Tuning
from nmref.prune.tune import adamw
from nmref.prune.tune.adamw import AdamW, clip, linear_rate

HOW = Tuning(betas=(0.8, 0.9), epsilon=1e-3, decay=0.2)
SHAPES = {"a": (5, 7), "b": (3,)}


def arrays(seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in SHAPES.items()}


def some(seed=8):
    """A mask of "a" only."""
    return {"a": np.random.default_rng(seed).random(SHAPES["a"]) < 0.5}


def naive_steps(weight, gradients, rates, how):
    """One number through all steps."""
    mean = square = 0.0
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        mean = how.betas[0] * mean + (1 - how.betas[0]) * g
        square = how.betas[1] * square + (1 - how.betas[1]) * g * g
        m, v = mean / (1 - how.betas[0] ** t), square / (1 - how.betas[1] ** t)
        weight -= rate * (m / (math.sqrt(v) + how.epsilon) + how.decay * weight)
    return weight


@pytest.mark.parametrize("piece", [1, 4, 100])
def test_steps_are_the_formula(piece, monkeypatch):
    monkeypatch.setattr(adamw, "_PIECE", piece)
    weights, masks, rates = arrays(1), some(), [0.3, 0.2, 0.1]
    start = {name: array.copy() for name, array in weights.items()}
    gradients = [arrays(seed) for seed in (2, 3, 4)]
    optimizer = AdamW(weights, masks, HOW)
    for gradient, rate in zip(gradients, rates, strict=True):
        clip(gradient, masks, math.inf)
        optimizer.step(gradient, rate)
    for name, array in start.items():
        for place in np.ndindex(array.shape):
            want = float(array[place])
            if name == "b" or masks["a"][place]:
                want = naive_steps(want, [float(g[name][place]) for g in gradients], rates, HOW)
            assert weights[name][place] == pytest.approx(want, rel=1e-12)


def test_outside_the_mask_every_bit_stays():
    """Both zeros, subnormals and large numbers."""
    weights, masks = arrays(1, np.float32), some()
    special = np.array([0.0, -0.0, 1e-45, -1e38, 3.0], dtype=np.float32)
    weights["a"][:, 0] = special
    masks["a"][:, 0] = False
    before = weights["a"].view(np.uint32).copy()
    optimizer = AdamW(weights, masks, HOW)
    for seed in range(5):
        gradients = arrays(seed, np.float32)
        clip(gradients, masks, 1.0)
        optimizer.step(gradients, 0.1)
    after = weights["a"].view(np.uint32)
    assert np.array_equal(after[~masks["a"]], before[~masks["a"]])
    assert (after[masks["a"]] != before[masks["a"]]).all()


def test_decay_is_decoupled():
    """Without a gradient a weight shrinks by rate times decay, whatever the moments' settings."""
    weights = arrays(1)
    start = {name: array.copy() for name, array in weights.items()}
    AdamW(weights, {}, HOW).step({name: np.zeros(shape) for name, shape in SHAPES.items()}, 0.5)
    for name, array in start.items():
        np.testing.assert_allclose(weights[name], array * (1 - 0.5 * 0.2), rtol=1e-12)


def test_first_step_has_the_size_of_the_rate():
    """m / sqrt(v) is the sign of the gradient, whatever its size."""
    how = Tuning(epsilon=0.0, decay=0.0)
    weights = arrays(1)
    start = {name: array.copy() for name, array in weights.items()}
    gradients = arrays(2)
    AdamW(weights, {}, how).step(gradients, 0.25)
    for name, array in start.items():
        np.testing.assert_allclose(array - weights[name], 0.25 * np.sign(gradients[name]))


def test_float32_stays_float32():
    weights = arrays(1, np.float32)
    optimizer = AdamW(weights, some(), HOW)
    optimizer.step(arrays(2, np.float32), 0.1)
    moments = [*optimizer._means.values(), *optimizer._squares.values()]
    assert {array.dtype for array in (*weights.values(), *moments)} == {np.dtype(np.float32)}


def test_a_strided_parameter_is_refused():
    message = r"^T_ARGUMENT a: a strided view, want a C-contiguous array$"
    with pytest.raises(NmrefError, match=message):
        AdamW({"a": np.zeros((4, 6))[:, ::2]}, {}, HOW)


@pytest.mark.parametrize("piece", [1, 4, 100])
def test_clip_keeps_the_direction(piece, monkeypatch):
    monkeypatch.setattr(adamw, "_PIECE", piece)
    gradients, masks = arrays(2), some()
    want = {"a": gradients["a"] * masks["a"], "b": gradients["b"].copy()}
    norm = math.sqrt(math.fsum(v * v for array in want.values() for v in array.ravel().tolist()))
    assert clip(gradients, masks, norm / 4) == pytest.approx(norm, rel=1e-12)
    for name, array in want.items():
        np.testing.assert_allclose(gradients[name], array / 4, rtol=1e-12)


def test_clip_leaves_a_small_gradient():
    gradients = arrays(2)
    before = {name: array.copy() for name, array in gradients.items()}
    norm = clip(gradients, {}, math.inf)
    assert clip(gradients, {}, norm) == norm
    assert all(np.array_equal(gradients[name], array) for name, array in before.items())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_clip_returns_a_norm_that_is_not_finite(bad):
    gradients = arrays(2)
    gradients["b"][1] = bad
    before = gradients["a"].copy()
    assert not math.isfinite(clip(gradients, {}, 1.0))
    assert np.array_equal(gradients["a"], before)


def test_rate_falls_by_equal_parts_and_ends_above_zero():
    rates = [linear_rate(2e-4, step, 10) for step in range(10)]
    assert rates[0] == 2e-4
    np.testing.assert_allclose(np.diff(rates), -2e-5)
    assert rates[-1] == pytest.approx(2e-5)
