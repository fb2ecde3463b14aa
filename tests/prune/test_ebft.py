"""Tuning against a plain loop of its own, and the laws of a fixed mask."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from nmref.errors import NmrefError
from nmref.prune.settings import Tuning
from nmref.prune.tune import backprop
from nmref.prune.tune.ebft import tune
from tests.prune.blocks import activations, block_of, config_of

LAYER = 1
CONFIG = config_of("grouped")
DENSE = block_of(CONFIG)
LINEARS = [name for name, array in DENSE.items() if array.ndim == 2]
GAINS = [name for name, array in DENSE.items() if array.ndim == 1]
INPUTS = [activations(CONFIG, 6, seed) for seed in range(5)]
TARGETS = [backprop.forward(DENSE, CONFIG, LAYER, x)[0] for x in INPUTS]
HOW = Tuning(epochs=3, batch=2, rate=1e-2)


def masks_of(seed=2):
    rng = np.random.default_rng(seed)
    return {name: rng.random(DENSE[name].shape) < 0.5 for name in LINEARS}


def pruned_of(masks):
    return {name: array * masks.get(name, True) for name, array in DENSE.items()}


MASKS = masks_of()
PRUNED = pruned_of(MASKS)


def run(how=HOW, weights=PRUNED, masks=MASKS, inputs=INPUTS, targets=TARGETS, threads=1):
    return tune(weights, masks, CONFIG, LAYER, inputs, targets, how, threads)


def same(a, b):
    return all(np.array_equal(a[name].view(np.uint32), b[name].view(np.uint32)) for name in a)


def naive_orders(seed, count, epochs):
    """Fisher and Yates over SplitMix64, once more."""
    state, order, orders = seed, list(range(count)), []
    for _ in range(epochs):
        for last in reversed(range(1, count)):
            state = (state + 0x9E3779B97F4A7C15) % 2**64
            z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
            z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
            other = (z ^ z >> 31) * (last + 1) // 2**64
            order[last], order[other] = order[other], order[last]
        orders.append(list(order))
    return orders


def naive_tune(how):
    """All in float64, whole arrays, one sample after the other."""
    w = {name: array.astype(np.float64) for name, array in PRUNED.items()}
    mean = {name: np.zeros(array.shape) for name, array in w.items()}
    square = {name: np.zeros(array.shape) for name, array in w.items()}
    mask = {name: MASKS.get(name, np.ones(array.shape, dtype=bool)) for name, array in w.items()}
    steps, t, losses = how.epochs * math.ceil(len(INPUTS) / how.batch), 0, []
    for order in naive_orders(how.seed, len(INPUTS), how.epochs):
        seen = []
        for start in range(0, len(order), how.batch):
            batch = order[start : start + how.batch]
            total = {name: np.zeros(array.shape) for name, array in w.items()}
            for sample in batch:
                y, tape = backprop.forward(w, CONFIG, LAYER, INPUTS[sample].astype(np.float64))
                error = y - TARGETS[sample]
                seen.append(np.mean(error**2))
                found, _ = backprop.backward(w, CONFIG, LAYER, tape, 2 * error / error.size)
                for name in total:
                    total[name] += found[name] * mask[name] / len(batch)
            norm = math.sqrt(sum(np.sum(g**2) for g in total.values()))
            rate, t = how.rate * (steps - t) / steps, t + 1
            for name, g in total.items():
                g = g * min(1, how.clip / norm)
                mean[name] = how.betas[0] * mean[name] + (1 - how.betas[0]) * g
                square[name] = how.betas[1] * square[name] + (1 - how.betas[1]) * g**2
                change = mean[name] / (1 - how.betas[0] ** t)
                change /= np.sqrt(square[name] / (1 - how.betas[1] ** t)) + how.epsilon
                w[name] = w[name] - rate * mask[name] * (change + how.decay * w[name])
        losses.append(np.mean(seen))
    return w, losses


@pytest.mark.parametrize("limit", [1.0, 1e-3, 1e6])
@pytest.mark.parametrize("batch", [1, 2, 5, 8])
def test_tuning_is_its_loop(batch, limit):
    how = replace(HOW, batch=batch, clip=limit, epsilon=1e-4, seed=11)
    tuned, losses = run(how)
    want, want_losses = naive_tune(how)
    np.testing.assert_allclose(losses, want_losses, rtol=1e-4)
    for name, array in want.items():
        np.testing.assert_allclose(tuned[name], array, rtol=1e-3, atol=1e-4)


def test_loss_falls():
    _, losses = run(replace(HOW, epochs=30))
    assert len(losses) == 30
    assert losses[-1] < 0.5 * losses[0]
    assert losses == sorted(losses, reverse=True)


def test_outside_the_mask_every_bit_stays():
    """Zeros of both signs and outliers."""
    masks, weights = masks_of(), pruned_of(masks_of())
    rng = np.random.default_rng(3)
    for name in LINEARS:
        outliers = ~masks[name] & (rng.random(masks[name].shape) < 0.2)
        weights[name] = np.where(outliers, DENSE[name], weights[name])
        weights[name][~masks[name] & (rng.random(masks[name].shape) < 0.2)] *= -1
    tuned, _ = run(weights=weights, masks=masks)
    for name in LINEARS:
        before, after = weights[name].view(np.uint32), tuned[name].view(np.uint32)
        assert np.array_equal(before[~masks[name]], after[~masks[name]])
        assert (before[masks[name]] != after[masks[name]]).all()


def test_a_linear_without_a_mask_stays():
    masks = {name: mask for name, mask in MASKS.items() if name != LINEARS[3]}
    tuned, _ = run(masks=masks)
    assert np.array_equal(tuned[LINEARS[3]], PRUNED[LINEARS[3]])
    assert not np.array_equal(tuned[LINEARS[4]], PRUNED[LINEARS[4]])


@pytest.mark.parametrize("gains", [True, False])
def test_gains_are_tuned_or_not(gains):
    tuned, _ = run(replace(HOW, gains=gains))
    for name in GAINS:
        assert np.array_equal(tuned[name], DENSE[name]) is not gains


def test_epochs_are_reported_when_they_begin():
    said = []
    tune(PRUNED, MASKS, CONFIG, LAYER, INPUTS, TARGETS, HOW, report=said.append)
    assert said[:-1] == ["tune, epoch 1 of 3", "tune, epoch 2 of 3", "tune, epoch 3 of 3"]


def test_the_loss_before_and_at_the_end_is_reported():
    said = []
    _, losses = tune(PRUNED, MASKS, CONFIG, LAYER, INPUTS, TARGETS, HOW, report=said.append)
    nothing = replace(HOW, rate=0.0, epochs=1)
    before = run(nothing)[1][0]
    assert said[-1] == f"tuned: loss {before:.4g} -> {losses[-1]:.4g}"


def test_a_block_that_would_become_worse_stays_as_it_was():
    said = []
    how = replace(HOW, rate=3.0, batch=len(INPUTS))
    tuned, losses = tune(PRUNED, MASKS, CONFIG, LAYER, INPUTS, TARGETS, how, report=said.append)
    assert losses[-1] > losses[0]
    assert re.match(r"not tuned: loss \S+ -> \S+$", said[-1])
    assert same(tuned, {name: PRUNED[name] for name in tuned})
    assert not any(np.shares_memory(tuned[name], PRUNED[name]) for name in tuned)


def test_weights_that_are_not_finite_afterwards_are_an_error():
    message = r"^T_SCORE model\.layers\.\S+: \S+ after fine-tuning, want a smaller rate$"
    with pytest.raises(NmrefError, match=message):
        run(replace(HOW, rate=1e39, epochs=1, batch=len(INPUTS)))


def test_a_rate_that_overflows_on_the_way_is_an_error_and_no_warning():
    with pytest.raises(NmrefError, match=r"^T_SCORE model\.layers\."):
        run(replace(HOW, rate=1e39))


def test_nothing_to_tune_measures_the_loss():
    tuned, losses = run(replace(HOW, gains=False), masks={})
    assert same(tuned, PRUNED)
    assert losses[0] == pytest.approx(losses[2], rel=1e-12)


def test_a_block_that_is_right_already_stays():
    """The gradient is exactly zero, and so is what AdamW makes of it."""
    everything = {name: np.ones(DENSE[name].shape, dtype=bool) for name in LINEARS}
    tuned, losses = run(replace(HOW, decay=0.0), weights=DENSE, masks=everything)
    assert losses == [0, 0, 0]
    assert same(tuned, DENSE)


def test_losses_are_the_mean_over_samples_of_the_mean_square():
    inputs, targets = [INPUTS[0], INPUTS[1][:2]], [TARGETS[0], TARGETS[1][:2]]
    _, losses = run(replace(HOW, rate=0.0), inputs=inputs, targets=targets)
    errors = [
        backprop.forward(PRUNED, CONFIG, LAYER, x)[0] - target
        for x, target in zip(inputs, targets, strict=True)
    ]
    want = np.mean([np.mean(error.astype(np.float64) ** 2) for error in errors])
    np.testing.assert_allclose(losses, [want] * 3, rtol=1e-5)


@pytest.mark.parametrize("threads", [2, 3, None])
def test_threads_change_no_bit(threads):
    tuned, losses = run(replace(HOW, batch=3), threads=threads)
    want, want_losses = run(replace(HOW, batch=3))
    assert losses == want_losses
    assert same(tuned, want)


def test_the_seed_is_the_order():
    first, again, other = run(), run(), run(replace(HOW, seed=1))
    assert same(first[0], again[0])
    assert first[1] == again[1]
    assert not same(first[0], other[0])


def test_samples_may_be_one_array_on_disk(tmp_path):
    for name, samples in (("x", INPUTS), ("y", TARGETS)):
        np.save(tmp_path / name, np.stack(samples))
    inputs, targets = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "xy")
    tuned, _ = run(inputs=inputs, targets=targets)
    assert same(tuned, run()[0])
    assert {type(array) for array in tuned.values()} == {np.ndarray}


def test_arguments_stay_and_the_result_is_all_nine_tensors():
    before = {name: array.copy() for name, array in PRUNED.items()}
    samples = [x.copy() for x in (*INPUTS, *TARGETS)]
    weights = PRUNED | {"model.norm.weight": DENSE[GAINS[0]]}
    tuned, _ = run(weights=weights)
    assert list(tuned) == list(backprop.names(LAYER))
    assert {array.dtype for array in tuned.values()} == {np.dtype(np.float32)}
    assert same(before, PRUNED)
    assert all(map(np.array_equal, samples, (*INPUTS, *TARGETS)))
    assert not any(np.shares_memory(tuned[name], PRUNED[name]) for name in tuned)


def test_strided_weights_and_masks_are_tuned_alike():
    weights = {name: np.asfortranarray(array) for name, array in PRUNED.items()}
    masks = {name: np.asfortranarray(mask) for name, mask in MASKS.items()}
    tuned, _ = run(weights=weights, masks=masks)
    want, _ = run()
    for name, array in want.items():
        np.testing.assert_allclose(tuned[name], array, rtol=1e-4, atol=1e-5)


WHERE = "T_ARGUMENT tuning of model.layers.1"
SHORT = [*TARGETS[:4], TARGETS[4][:5]]
WIDE = [*INPUTS[:4], INPUTS[4].astype(np.float64)]
LESS = {LINEARS[0]: MASKS[LINEARS[0]][1:]}
FLOATS = {LINEARS[0]: PRUNED[LINEARS[0]]}
BAD = {
    "none": ({"inputs": [], "targets": []}, f"{WHERE}: 0 inputs and 0 targets, want as many of"),
    "fewer": ({"targets": TARGETS[:4]}, f"{WHERE}: 5 inputs and 4 targets, want as many of both"),
    "epochs": ({"how": replace(HOW, epochs=0)}, f"{WHERE}: epochs 0, want 1 or more"),
    "batch": ({"how": replace(HOW, batch=0)}, f"{WHERE}: batch 0, want 1 or more"),
    "short": (
        {"targets": SHORT},
        f"{WHERE} sample 4: float32 [6, 12] and float32 [5, 12], want float32 [T, 12] twice",
    ),
    "wide": (
        {"inputs": WIDE},
        f"{WHERE} sample 4: float64 [6, 12] and float32 [6, 12], want float32 [T, 12] twice",
    ),
    "gain": (
        {"masks": {GAINS[0]: np.ones(12, dtype=bool)}},
        f"T_ARGUMENT mask {GAINS[0]}: no such name, want a linear of model.layers.1",
    ),
    "mask": (
        {"masks": LESS},
        f"T_ARGUMENT mask {LINEARS[0]}: bool [35, 12], want bool [36, 12]",
    ),
    "floats": (
        {"masks": FLOATS},
        f"T_ARGUMENT mask {LINEARS[0]}: float32 [36, 12], want bool [36, 12]",
    ),
    "missing": (
        {"weights": {name: PRUNED[name] for name in LINEARS}},
        f"T_TENSOR {GAINS[0]}: none, want float32 [12]",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_refuses(name):
    change, message = BAD[name]
    with pytest.raises(NmrefError) as error:
        run(**change)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_it(bad, threads):
    inputs = [x.copy() for x in INPUTS]
    inputs[3][2, 1] = bad
    message = (
        r"^T_SCORE model.layers.1 sample 3: a loss of (nan|inf), "
        r"want finite activations and weights$"
    )
    with pytest.raises(NmrefError, match=message):
        run(inputs=inputs, threads=threads)


def test_a_gradient_that_is_not_finite_ends_it():
    """The loss is finite, but squares of the gradient are not."""
    weights = dict(PRUNED)
    weights[LINEARS[5]] = weights[LINEARS[5]] * np.float32(1e25)  # up
    weights[LINEARS[6]] = weights[LINEARS[6]] * np.float32(1e-15)  # down
    message = (
        r"^T_SCORE model.layers.1: gradients of norm inf, want finite activations and weights$"
    )
    with pytest.raises(NmrefError, match=message):
        run(weights=weights)
