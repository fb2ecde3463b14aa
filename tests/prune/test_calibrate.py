"""Statistics of the inputs of linears, and the windows of a text."""

import numpy as np
import pytest

from nmref.errors import NmrefError
from nmref.linear import FAST
from nmref.model import llama
from nmref.prune.run.calibrate import Statistics, advance, calibrate, windows
from nmref.prune.update.alps import Spectrum
from tests.prune.blocks import activations, block_of, config_of

LAYER = 1
CONFIG = config_of("grouped")
DENSE = block_of(CONFIG)
INPUTS = np.stack([activations(CONFIG, 7, seed) for seed in range(5)])
TAPS = [f"layers.1.{name}" for name in ("attn_norm", "attention", "mlp_norm", "activation")]


def seen(inputs=INPUTS):
    """Tap name -> its arrays, one a sample."""
    found = {name: [] for name in TAPS}

    def tap(name, x):
        if name in found:
            found[name].append(x.copy())

    for x in inputs:
        llama.block(DENSE, CONFIG, LAYER, x, tap=tap, ops=FAST)
    return found


def outputs(inputs=INPUTS):
    return np.stack([llama.block(DENSE, CONFIG, LAYER, x, ops=FAST) for x in inputs])


def same(one, other):
    """To the bit."""
    arrays = [(getattr(one, key), getattr(other, key)) for key in ("squares", "largest", "gram")]
    return one.samples == other.samples and all(
        (a is None and b is None) or (a.dtype == b.dtype and a.tobytes() == b.tobytes())
        for a, b in arrays
    )


# Windows


@pytest.mark.parametrize("count", [9, 10, 11])
def test_windows_follow_each_other(count):
    assert windows(list(range(count)), 3, 3) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_windows_of_a_short_text_is_an_error():
    message = r"^T_TEXT calibration text: 11 tokens, want 3 x 4 = 12$"
    with pytest.raises(NmrefError, match=message):
        windows(list(range(11)), 3, 4)


# Statistics of arrays


def samples(columns=6):
    rng = np.random.default_rng(1)
    return [rng.standard_normal((t, columns)).astype(np.float32) for t in (5, 3, 8)]


def joined(parts, gram=True):
    total = Statistics.of(parts[0], gram)
    for part in parts[1:]:
        total = total.joined(Statistics.of(part, gram))
    return total


def test_statistics_are_their_loops():
    parts = samples()
    found, wide = joined(parts), np.concatenate(parts).astype(np.float64)
    assert found.samples == 3
    for j in range(6):
        assert found.squares[j] == pytest.approx(sum(x * x for x in wide[:, j]), rel=1e-12)
        assert found.largest[j] == max(abs(x) for x in wide[:, j])
        assert found.norm[j] == pytest.approx(np.sqrt((wide[:, j] ** 2).sum() / 3), rel=1e-6)
        for k in range(6):
            want = 2 / 3 * sum(x * y for x, y in zip(wide[:, j], wide[:, k], strict=True))
            assert found.hessian[j, k] == pytest.approx(want, rel=1e-4, abs=1e-5)
    assert found.squares.dtype == np.float64
    assert {a.dtype for a in (found.largest, found.gram, found.norm)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("sign", [1, -1])
def test_largest_is_of_either_sign(sign):
    x = sign * np.float32([[1, -7, 0], [5, 2, 0]])
    assert Statistics.of(x).largest.tolist() == [5, 7, 0]


def test_squares_of_large_activations_do_not_overflow():
    found = Statistics.of(np.full((4, 2), 1e30, dtype=np.float32))
    np.testing.assert_allclose(found.squares, 4e60, rtol=1e-6)
    np.testing.assert_allclose(found.norm, 2e30, rtol=1e-6)


def test_a_gram_only_where_it_is_asked_for():
    found = joined(samples(), gram=False)
    assert found.gram is None
    assert found.ordered(np.arange(6)).gram is None
    message = r"^T_ARGUMENT statistics: no X\^T X, want it, for a Hessian$"
    with pytest.raises(NmrefError, match=message):
        _ = found.hessian


def test_joining_uses_up_the_first_gram_and_leaves_the_second():
    first, second = (Statistics.of(x, True) for x in samples()[:2])
    before, kept = first.squares.copy(), second.gram.copy()
    both = first.joined(second)
    assert both.gram is first.gram  # one [K, K] in memory, not two
    assert np.array_equal(second.gram, kept)
    assert np.array_equal(first.squares, before)


def test_the_spectrum_is_made_once_for_each_damping(monkeypatch):
    made, real = [], Spectrum.of.__func__
    monkeypatch.setattr(
        Spectrum, "of", classmethod(lambda cls, *a: made.append(a[1]) or real(cls, *a))
    )
    found = joined(samples())
    one = found.spectrum(0.01)
    assert found.spectrum(0.01) is one
    assert found.spectrum(0.5) is not one
    assert made == [0.01, 0.5]
    want = real(Spectrum, found.hessian, 0.5)
    assert np.array_equal(found.spectrum(0.5).matrix, want.matrix)


def test_ordered_statistics_are_those_of_ordered_inputs():
    order = np.array([3, 0, 5, 1, 4, 2])
    found = joined(samples())
    found.spectrum(0.01)  # of the old order: not to be taken over
    moved, want = found.ordered(order), joined([x[:, order] for x in samples()])
    assert moved.samples == 3
    np.testing.assert_allclose(moved.squares, want.squares, rtol=1e-12)
    assert np.array_equal(moved.largest, want.largest)
    np.testing.assert_allclose(moved.gram, want.gram, rtol=1e-5, atol=1e-5)
    diagonal = np.diagonal(moved.gram)
    np.testing.assert_allclose(diagonal, moved.squares, rtol=1e-5)
    scale = moved.spectrum(0.01).scale
    np.testing.assert_allclose(scale, Spectrum.of(want.hessian, 0.01).scale, rtol=1e-4)


# A block


@pytest.mark.parametrize("gram", [False, True])
def test_calibrate_sees_what_the_linears_get(gram):
    found = calibrate(DENSE, CONFIG, LAYER, INPUTS, gram=gram)
    assert list(found) == TAPS
    for name, arrays in seen().items():
        assert same(found[name], joined(arrays, gram)), name
    for name in DENSE:
        if "proj" in name:
            assert len(found[llama.input_tap(name)].squares) == DENSE[name].shape[1]


@pytest.mark.parametrize("threads", [1, 2, 3, None])
def test_threads_change_no_bit(threads):
    want = calibrate(DENSE, CONFIG, LAYER, INPUTS, gram=True, threads=1)
    found = calibrate(DENSE, CONFIG, LAYER, INPUTS, gram=True, threads=threads)
    assert all(same(found[name], want[name]) for name in TAPS)


def test_put_gets_every_output():
    found = np.full_like(INPUTS, np.nan)
    calibrate(DENSE, CONFIG, LAYER, INPUTS, put=found.__setitem__, threads=2)
    assert np.array_equal(found, outputs())


def test_samples_may_lie_in_a_file(tmp_path):
    np.save(tmp_path / "x.npy", INPUTS)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    want = calibrate(DENSE, CONFIG, LAYER, INPUTS, gram=True)
    found = calibrate(DENSE, CONFIG, LAYER, mapped, gram=True)
    assert all(same(found[name], want[name]) for name in TAPS)


def test_no_samples_no_statistics():
    assert calibrate(DENSE, CONFIG, LAYER, INPUTS[:0]) == {}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("bad", "text"), [(np.nan, "nan"), (np.inf, "nan")])
def test_an_activation_that_is_not_finite(bad, text, threads):
    inputs = INPUTS.copy()
    inputs[3, 2, 4] = bad
    message = (
        rf"^T_SCORE layers\.1\.attn_norm sample 3 column \d+: an activation of {text}, "
        "want finite activations$"
    )
    with pytest.raises(NmrefError, match=message):
        calibrate(DENSE, CONFIG, LAYER, inputs, threads=threads)


def test_the_column_that_is_not_finite_is_named():
    weights = {**DENSE, "model.layers.1.input_layernorm.weight": np.ones(12, np.float32)}
    weights["model.layers.1.input_layernorm.weight"][5] = np.inf
    message = r"^T_SCORE layers\.1\.attn_norm sample 0 column 5: an activation of inf, want"
    with pytest.raises(NmrefError, match=message):
        calibrate(weights, CONFIG, LAYER, INPUTS)


@pytest.mark.parametrize("gram", [True, False])
def test_squares_that_overflow_are_told(gram):
    """Finite activations, from gains that are too large."""
    inputs = np.where(np.arange(12) % 2, INPUTS[:, :1] * 0 + 1, -1).repeat(7, 1).astype(np.float32)
    weights, gain = dict(DENSE), "model.layers.1.input_layernorm.weight"
    weights[gain] = np.full(12, 2e19 if gram else 1.5e38, np.float32)
    what = "squares float32 does not hold" if gram else "norm float32 does not hold"
    message = (
        rf"^T_SCORE layers\.1\.attn_norm column \d+: activations up to \S+, whose {what}, want sma"
    )
    with pytest.raises(NmrefError, match=message):
        calibrate({**weights, **quiet()}, CONFIG, LAYER, inputs, gram=gram)


def quiet():
    """Projections of nothing, so that nothing else overflows."""
    kinds = ("q_proj", "k_proj", "v_proj")
    return {name: 0 * DENSE[name] for name in DENSE if name.split(".")[-2] in kinds}


@pytest.mark.parametrize("threads", [1, 2, None])
@pytest.mark.parametrize("place", ["another", "its own"])
def test_advance_is_the_block(threads, place):
    inputs = INPUTS.copy()
    target = inputs if place == "its own" else np.full_like(inputs, np.nan)
    advance(DENSE, CONFIG, LAYER, inputs, target, threads)
    assert np.array_equal(target, outputs())
    assert np.array_equal(inputs, INPUTS) == (place == "another")


def test_advance_raises_what_a_sample_raises():
    weights = {name: array for name, array in DENSE.items() if "up_proj" not in name}
    with pytest.raises(KeyError, match="up_proj"):
        advance(weights, CONFIG, LAYER, INPUTS, np.empty_like(INPUTS))
