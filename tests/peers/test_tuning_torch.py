"""nmref's backward pass, block-wise tuning and whole pipeline against torch (block_torch.py)."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from nmref.model.checkpoint import open_checkpoint  # noqa: E402
from nmref.model.llama import input_tap  # noqa: E402
from nmref.pattern import NMPattern  # noqa: E402
from nmref.prune import Recipe, prune_weights  # noqa: E402
from nmref.prune.choose import mask  # noqa: E402
from nmref.prune.run import calibrate  # noqa: E402
from nmref.prune.settings import Correction, Equalization, Tuning  # noqa: E402
from nmref.prune.tune import (  # noqa: E402
    backprop,
    ebft,
)
from tests.peers import block_torch, pruning_torch  # noqa: E402
from tests.peers.matrices_torch import real_block  # noqa: E402


@pytest.fixture(scope="module")
def folder(shared_data):
    return shared_data / "models" / "stories260k-hf"


@pytest.fixture(scope="module")
def stories(folder):
    return real_block(folder, 4, 96)


def test_witness_block_is_that_of_transformers(stories):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what libraries say about each other
        transformers = pytest.importorskip("transformers")
        config = transformers.LlamaConfig(**stories.config.raw, attn_implementation="eager")
        model = transformers.models.llama.modeling_llama
        layer, rope = model.LlamaDecoderLayer(config, 0), model.LlamaRotaryEmbedding(config)
        layer.load_state_dict(stories.tensors)
        x = stories.xs[0]
        ahead = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
        with torch.no_grad():
            want = layer(
                x[None],
                attention_mask=torch.zeros(ahead.shape).masked_fill(ahead, -1e30)[None, None],
                position_embeddings=rope(x[None], torch.arange(len(x))[None]),
            )
    want = (want[0] if isinstance(want, tuple) else want).reshape(x.shape)
    got = block_torch.block(stories.tensors, stories.shape, x)
    assert (got - want).abs().max() < 1e-5 * want.abs().max()


def full_names(tensors):
    return {f"model.layers.0.{name}": np.asarray(value) for name, value in tensors.items()}


def windowed(block, window):
    return replace(block, config=replace(block.config, sliding_window=window))


def test_gradient_norms(stories):
    for block in (stories, windowed(stories, 7)):
        got = backprop.gradient_norms(block.weights, block.config, 0, block.samples)
        want = full_names(block_torch.gradient_norms(block.tensors, block.shape, block.xs))
        assert set(got) == set(want)
        for name, value in want.items():
            assert np.abs(got[name] - value).max() < 1e-4 * np.abs(value).max(), name


def test_backward(stories):
    for block in (stories, windowed(stories, 7)):
        free = {name: t.clone().requires_grad_() for name, t in block.tensors.items()}
        x = block.xs[0].clone().requires_grad_()
        y = block_torch.block(free, block.shape, x)
        dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
        y.backward(dy)
        got, tape = backprop.forward(block.weights, block.config, 0, block.samples[0])
        gradients, dx = backprop.backward(block.weights, block.config, 0, tape, dy.numpy())
        want = full_names({name: t.grad for name, t in free.items()})
        assert set(gradients) == set(want)
        found = {**gradients, "y": got, "dx": dx}
        for name, value in {**want, "y": y.detach().numpy(), "dx": x.grad.numpy()}.items():
            assert np.abs(found[name] - value).max() < 1e-5 * np.abs(value).max(), name


def tuning_problem(block):
    """(pruned weights, what may move, targets): 8:16 and 16:256 of magnitude, outliers fixed."""
    pruned, free = dict(block.weights), {}
    for name in block_torch.LINEARS:
        full = f"model.layers.0.{name}"
        base, kept = mask.split(np.abs(block.weights[full]), NMPattern(8, 16), NMPattern(16, 256))
        pruned[full] = np.where(base | kept, block.weights[full], np.float32(0))
        free[full] = base
    _, targets = block_torch.linear_inputs(block.tensors, block.shape, block.xs)
    return pruned, free, [y.numpy() for y in targets]


TUNINGS = {
    "all samples a step": Tuning(epochs=6, batch=4, rate=1e-3),
    "no gains": Tuning(epochs=4, batch=4, rate=1e-3, gains=False),
    "clipped": Tuning(epochs=4, batch=4, rate=1e-3, clip=1e-3),
    "strong decay": Tuning(epochs=4, batch=4, rate=1e-3, decay=30.0),
}


@pytest.mark.parametrize("name", TUNINGS)
def test_ebft(stories, name):
    """One step an epoch sees all samples, so that their order does not matter."""
    compare_tuning(stories, TUNINGS[name])


def test_ebft_in_batches(stories):
    """Four times the same sample: every shuffle is the same one."""
    same = replace(stories, samples=[stories.samples[0]] * 4)
    compare_tuning(same, Tuning(epochs=2, batch=1, rate=1e-3))
    compare_tuning(same, Tuning(epochs=2, batch=3, rate=1e-3))  # the last batch is small


def compare_tuning(block, how):
    pruned, free, targets = tuning_problem(block)
    got, losses = ebft.tune(pruned, free, block.config, 0, block.samples, targets, how)
    start = replace(block, weights=pruned).tensors
    moving = {
        name: torch.from_numpy(free[f"model.layers.0.{name}"]) for name in block_torch.LINEARS
    }
    want, expected = block_torch.tune(
        start,
        moving,
        block.shape,
        block.xs,
        [torch.from_numpy(y) for y in targets],
        how,
        lambda epoch: list(range(len(targets))),
    )
    assert losses == pytest.approx(expected, rel=1e-5)
    for name, value in full_names(want).items():
        step = np.abs(value - pruned[name]).mean()
        difference = np.abs(got[name] - value).mean()
        assert difference <= 1e-3 * step, (name, difference, step)
        if name in free:
            assert (got[name][~free[name]] == pruned[name][~free[name]]).all()


def test_statistics(stories):
    inputs, outputs = block_torch.linear_inputs(stories.tensors, stories.shape, stories.xs)
    got = {}
    found = calibrate.calibrate(
        stories.weights,
        stories.config,
        0,
        np.stack(stories.samples),
        gram=True,
        put=got.__setitem__,
    )
    for name, seen in inputs.items():
        statistics = found[input_tap(f"model.layers.0.{name}")]
        norm = np.sqrt(statistics.squares / statistics.samples)
        assert np.abs(norm / pruning_torch.column_norm(seen).numpy() - 1).max() < 1e-5
        assert np.abs(statistics.largest / pruning_torch.column_max(seen).numpy() - 1).max() < 1e-4
        h = pruning_torch.hessian(seen).numpy()
        size = np.sqrt(h.diagonal())
        error = np.abs(statistics.gram * (2 / statistics.samples) - h) / size / size[:, None]
        assert error.max() < 1e-5
    for index, y in enumerate(outputs):
        assert np.abs(got[index] - y.numpy()).max() < 1e-5 * float(y.abs().max())


RECIPES = {
    "wanda": Recipe(NMPattern(2, 4), score="wanda"),
    "paper": Recipe(
        NMPattern(8, 16),
        outliers=NMPattern(16, 256),
        equalize=Equalization(),
        correct=Correction(),
    ),
    "letter": Recipe(
        NMPattern(4, 8),
        outliers=NMPattern(4, 256),
        equalize=Equalization("divide", 1.0),
        correct=Correction("dense"),
    ),
}


def witness_model(folder, samples, recipe):
    """All linears of a model after the pipeline: the inputs come from the pruned blocks."""
    opened = open_checkpoint(folder)
    dense = {name: torch.from_numpy(np.array(w)) for name, w in opened.weights().items()}
    streams, pruned = samples, {}
    for layer in range(opened.config.num_hidden_layers):
        weights = {name: dense[f"model.layers.{layer}.{name}"] for name in block_torch.NAMES}
        shape = block_torch.shape_of(opened.config)
        inputs, _ = block_torch.linear_inputs(weights, shape, streams)
        for name, seen in inputs.items():
            weights[name] = witness_weight(weights[name], seen, recipe)
            pruned[f"model.layers.{layer}.{name}"] = weights[name]
        _, streams = block_torch.linear_inputs(weights, shape, streams)
    return pruned


def witness_weight(weight, inputs, recipe):
    n, m = recipe.pattern.stored, recipe.pattern.block
    norm = pruning_torch.column_norm(inputs)
    if recipe.score == "wanda":
        return weight * pruning_torch.keep_of_every(pruning_torch.wanda(weight, norm), n, m)
    how, largest = recipe.equalize, pruning_torch.column_max(inputs)
    scale = pruning_torch.smoothquant_scale(weight, largest, how.power)
    seen = pruning_torch.equalized(weight, norm, scale, how.direction, how.scale_activation)
    values = pruning_torch.ria(*seen, recipe.exponent)
    base, salient = pruning_torch.outliers_and_base(values, n, m, recipe.outliers.stored)
    correct = recipe.correct
    factor = pruning_torch.variance_factor(weight, base, salient, correct.numerator, correct.scope)
    return torch.where(salient, weight, weight * base * factor.float())


@pytest.mark.parametrize("name", RECIPES)
def test_whole_model(folder, name):
    recipe, opened = RECIPES[name], open_checkpoint(folder)
    tokens = np.random.default_rng(1).integers(0, opened.config.V, (4, 96))
    got = prune_weights(opened, recipe, tokens.tolist(), threads=1)
    embedding = np.array(opened.weights()["model.embed_tokens.weight"], dtype=np.float32)
    samples = [torch.from_numpy(embedding[ids]) for ids in tokens]
    want = witness_model(folder, samples, recipe)
    differ = 0
    for weight, value in want.items():
        same = (got[weight] != 0) == (value.numpy() != 0)
        differ += int((~same).sum())
        error = np.abs(got[weight] - value.numpy())[same]
        assert error.max() < 1e-5 * float(value.abs().max()), weight
    assert differ <= 4  # two ties in 230,000 weights
