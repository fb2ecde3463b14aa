"""Whole runs: the same file however often a run is interrupted, and nothing half-written."""

import errno
import os
import re
import shutil
import subprocess
import sys
import tracemalloc
from collections import deque
from dataclasses import replace

import numpy as np
import pytest

from nmref import container
from nmref.dtypes import widen
from nmref.errors import NmrefError
from nmref.model.checkpoint import open_checkpoint, write_checkpoint
from nmref.model.config import expected_shapes, linear_names, parse_config
from nmref.pattern import NMPattern
from nmref.prune import Recipe, prune, prune_blocks, prune_weights
from nmref.prune.masks import maskfile
from nmref.prune.recipe.document import Masks, loads, read
from nmref.prune.recipe.presets import PRESETS
from nmref.prune.run.packing import RECIPE_FILE
from nmref.prune.run.pipeline import embed, layer_patterns, stream_shape
from nmref.prune.run.streams import Streams
from nmref.prune.run.work import work_folder
from nmref.prune.settings import (
    Allocation,
    Correction,
    Equalization,
    Rule,
    Solver,
    Tuning,
)
from nmref.tensor import SparseWeight
from tests.prune.conftest import RAW, contents, make_model

HALF, SALIENT = NMPattern(8, 16), NMPattern(16, 256)
QUARTER = NMPattern(4, 16)
RIA = Recipe(NMPattern(2, 4), SALIENT)
RECIPES = {
    "magnitude": Recipe(HALF, score="magnitude"),
    "paper": Recipe(
        HALF,
        SALIENT,
        equalize=Equalization(),
        correct=Correction(),
        tune=Tuning(epochs=1, rate=1e-4),
    ),
    "solved": Recipe(
        HALF, SALIENT, solver=Solver("alps"), tune=Tuning(epochs=2, batch=3, rate=1e-5)
    ),
    "taught": Recipe(
        HALF,
        NMPattern(4, 256),
        tune=Tuning(epochs=1, rate=1e-4, loss="normalized", teacher="dense", outliers=True),
    ),
    "sparsegpt": Recipe(NMPattern(2, 4), solver=Solver("sparsegpt", block=16)),
    "permuted": Recipe(HALF, permute="hungarian"),
    "allocated": Recipe(HALF, score="wanda", allocate=Allocation(multiple=1.5, span=4)),
    "gradient": Recipe(HALF, score="gradient"),
    "ruled": replace(RIA, rules=(Rule("*.down_proj.*", HALF), Rule("*.1.self_attn.*", None))),
}


class Stop(KeyboardInterrupt):
    """An interruption at a place of our choice."""


class Stopper:
    """A report that interrupts the run the n-th time it is called."""

    def __init__(self, after):
        self.left = after

    def __call__(self, layer, stage):
        self.left -= 1
        if self.left == 0:
            raise Stop


@pytest.mark.parametrize("name", RECIPES)
def test_packed_folder_has_the_weights_of_the_run_in_memory(name, checkpoint, samples, tmp_path):
    recipe = RECIPES[name]
    prune(checkpoint, tmp_path / "out", recipe, samples)
    packed = open_checkpoint(tmp_path / "out")
    want = prune_weights(checkpoint, recipe, samples)
    assert set(packed.tensors) == set(want)
    for tensor_name, tensor in packed.tensors.items():
        dense = tensor.to_dense() if isinstance(tensor, SparseWeight) else tensor
        assert np.array_equal(widen(dense), want[tensor_name]), tensor_name
    left_dense = {n for n in linear_names(packed.config) if ".1.self_attn." in n}
    sparse = {n for n, tensor in packed.tensors.items() if isinstance(tensor, SparseWeight)}
    dense_here = left_dense if name == "ruled" else set()
    assert sparse == set(linear_names(packed.config)) - dense_here


@pytest.mark.parametrize("name", RECIPES)
def test_every_stage_changes_the_result_and_nothing_outside_the_blocks(name, checkpoint, samples):
    weights = prune_weights(checkpoint, RECIPES[name], samples)
    for tensor_name, tensor in checkpoint.tensors.items():
        same = np.array_equal(tensor, weights[tensor_name])
        if not tensor_name.startswith("model.layers."):
            assert same
        elif "norm" in tensor_name:
            assert same == (RECIPES[name].tune is None)


@pytest.mark.parametrize("name", ["paper", "solved", "taught", "permuted", "allocated"])
def test_interrupted_anywhere_and_resumed_gives_the_same_files(
    name, model, checkpoint, samples, tmp_path
):
    recipe, target = RECIPES[name], tmp_path / "out"
    before = contents(model)
    calls = []
    prune(checkpoint, tmp_path / "whole", recipe, samples, report=lambda *a: calls.append(a))
    want = contents(tmp_path / "whole")
    for after in range(1, len(calls) + 1):
        with pytest.raises(Stop):
            prune(checkpoint, target, recipe, samples, report=Stopper(after))
        assert not target.exists()
        prune(checkpoint, target, recipe, samples)
        assert contents(target) == want, calls[after - 1]
        assert not work_folder(target).exists()
        for path in sorted(target.iterdir()):
            path.unlink()
        target.rmdir()
    assert contents(model) == before


def test_a_run_interrupted_again_and_again_gets_there(checkpoint, samples, tmp_path):
    recipe, target = RECIPES["solved"], tmp_path / "out"
    prune(checkpoint, tmp_path / "whole", recipe, samples)
    tries = 0
    while not target.exists():
        tries += 1
        assert tries < 20
        try:
            prune(checkpoint, target, recipe, samples, report=Stopper(15))
        except Stop:
            continue
    assert tries > 2
    assert contents(target) == contents(tmp_path / "whole")


def test_a_killed_run_goes_on(model, tmp_path):
    """Not an exception but the end of the process, with the second block half done."""
    program = """
import os, sys
from pathlib import Path
from nmref.model.checkpoint import open_checkpoint
from tests.prune.test_packing import RECIPES, prune
samples = [[1, 2, 3, 4], [5, 6, 7, 8]]
def report(layer, stage):
    if sys.argv[3] == "die" and layer == 1 and stage == "down_proj done":
        os._exit(9)
checkpoint, target = open_checkpoint(Path(sys.argv[1])), Path(sys.argv[2])
prune(checkpoint, target, RECIPES["paper"], samples, report=report)
"""
    for target, words, code in (
        ("out", ["die"], 9),
        ("out", ["live"], 0),
        ("whole", ["live"], 0),
    ):
        command = [sys.executable, "-c", program, str(model), str(tmp_path / target), *words]
        assert subprocess.run(command, check=False).returncode == code
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_threads_change_no_bit(checkpoint, samples, tmp_path):
    for threads in (1, 3):
        target = tmp_path / str(threads)
        prune(checkpoint, target, RECIPES["solved"], samples, threads=threads)
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_another_run_does_not_go_on_with_what_one_left(checkpoint, samples, tmp_path):
    target = tmp_path / "out"
    with pytest.raises(Stop):
        prune(checkpoint, target, RIA, samples, report=Stopper(25))
    assert work_folder(target).exists()
    others = (
        (replace(RIA, exponent=1.0), samples),
        (RIA, samples[:2]),
        (RIA, [[*samples[0][:-1], 31 - samples[0][-1]], *samples[1:]]),
    )
    for recipe, texts in others:
        with pytest.raises(NmrefError, match=r"^T_FILE .*out\.unfinished: what another run left"):
            prune(checkpoint, target, recipe, texts)
    recipe = replace(RIA, exponent=1.0)
    prune(checkpoint, target, recipe, samples, restart=True)
    prune(checkpoint, tmp_path / "fresh", recipe, samples)
    assert contents(target) == contents(tmp_path / "fresh")


def test_somebody_elses_folder_is_left_alone(checkpoint, tmp_path):
    other = work_folder(tmp_path / "out")
    other.mkdir()
    (other / "thesis.txt").write_text("all of it")
    with pytest.raises(
        NmrefError, match=r"^T_FILE .*out\.unfinished: something without state.json"
    ):
        prune(checkpoint, tmp_path / "out", RECIPES["magnitude"], [])
    assert contents(other) == {"thesis.txt": b"all of it"}


def test_a_changed_source_is_another_run(model, samples, tmp_path):
    target = tmp_path / "out"
    with pytest.raises(Stop):
        prune(open_checkpoint(model), target, RIA, samples, report=Stopper(25))

    def change(tensors):
        tensors["model.norm.weight"][0] += 1

    other = make_model(tmp_path / "other", change=change)
    with pytest.raises(NmrefError, match=r"^T_FILE .*unfinished: what another run left"):
        prune(open_checkpoint(other), target, RIA, samples)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_activation_that_is_not_finite(value, samples, tmp_path):
    def change(tensors):
        tensors["model.layers.1.input_layernorm.weight"][3] = value

    model = make_model(tmp_path / "model", change=change)
    before = contents(tmp_path)
    message = r"^T_SCORE layers\.1\.attn_norm sample 0 column 3: an activation of (nan|inf), want"
    with pytest.raises(NmrefError, match=message):
        prune(open_checkpoint(model), tmp_path / "out", RIA, samples)
    assert contents(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_a_full_disk_for_the_activations(model, samples, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        prune(open_checkpoint(model), tmp_path / "out", RIA, samples)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_a_full_disk_in_the_middle_and_room_afterwards(checkpoint, samples, tmp_path, monkeypatch):
    target, write = tmp_path / "out", container.save

    def full(path, tensors):
        if "0001" in path.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path, tensors)

    with monkeypatch.context() as patch:
        patch.setattr("nmref.prune.run.work.save", full)
        with pytest.raises(OSError, match="No space left"):
            prune(checkpoint, target, RIA, samples)
    assert not target.exists()
    prune(checkpoint, target, RIA, samples)
    prune(checkpoint, tmp_path / "whole", RIA, samples)
    assert contents(target) == contents(tmp_path / "whole")


def test_samples_of_two_lengths(checkpoint, tmp_path):
    message = r"^T_ARGUMENT calibration: samples of \[2, 3\] tokens, want one length$"
    with pytest.raises(NmrefError, match=message):
        prune(checkpoint, tmp_path / "out", RIA, [[1, 2], [1, 2, 3]])


def test_no_samples(checkpoint, tmp_path):
    message = r"^T_ARGUMENT calibration: no samples, want some, for this recipe$"
    with pytest.raises(NmrefError, match=message):
        prune(checkpoint, tmp_path / "out", RIA, [])


@pytest.mark.parametrize(
    ("recipe", "what"),
    [
        (replace(RIA, place="matrix"), "unstructured outliers"),
        (replace(RIA, permute="heuristic", permute_all=True), "masks of permuted inputs"),
    ],
)
def test_what_no_file_holds_is_only_measured(recipe, what, checkpoint, samples, tmp_path):
    with pytest.raises(NmrefError, match=f"^T_ARGUMENT recipe: {what}, want what a packed file"):
        prune(checkpoint, tmp_path / "out", recipe, samples)
    weights = prune_weights(checkpoint, recipe, samples)
    kept = sum(np.count_nonzero(weights[name]) for name in linear_names(checkpoint.config))
    plain = prune_weights(checkpoint, RIA, samples)
    want = sum(np.count_nonzero(plain[name]) for name in linear_names(checkpoint.config))
    assert abs(kept - want) < 0.02 * want


def test_masks_saved_and_given_again(checkpoint, samples, tmp_path):
    path = tmp_path / "masks.safetensors"
    prune(checkpoint, tmp_path / "ria", RIA, samples, save_masks=path)
    masks = maskfile.read(path)
    assert set(masks) == set(linear_names(checkpoint.config))
    first = open_checkpoint(tmp_path / "ria").tensors
    for name, mask in masks.items():
        dense = first[name].to_dense()
        assert not dense[~mask.kept].any()
    # the masks alone, without activations, make the same weights
    plain = replace(RIA, score="magnitude")
    prune(checkpoint, tmp_path / "again", plain, [], given=masks)
    second = open_checkpoint(tmp_path / "again").tensors
    for name in masks:
        assert np.array_equal(first[name].to_dense(), second[name].to_dense())


def test_the_recipe_says_that_masks_were_given(checkpoint, samples, tmp_path):
    path = tmp_path / "masks.safetensors"
    prune(checkpoint, tmp_path / "ria", RIA, samples, save_masks=path)
    masks = maskfile.read(path)
    prune(checkpoint, tmp_path / "file", RIA, [], given=masks)
    prune(checkpoint, tmp_path / "memory", RIA, [], given=dict(masks))
    saved = [
        read((tmp_path / name / RECIPE_FILE).read_text(), "here")
        for name in ("ria", "file", "memory")
    ]
    digest = masks.content_sha256
    assert [one.masks for one in saved] == [None, Masks(digest, path.name), Masks(digest)]
    assert [one.calibration for one in saved] == [None, None, None]  # none was told
    with pytest.raises(
        NmrefError, match=r'^T_ARGUMENT permute: "hungarian" with given masks, want'
    ):
        prune(checkpoint, tmp_path / "x", replace(RIA, permute="hungarian"), samples, given=masks)


def test_a_solver_keeps_given_masks(checkpoint, samples, tmp_path):
    path = tmp_path / "masks.safetensors"
    prune(checkpoint, tmp_path / "ria", RIA, samples, save_masks=path)
    solved = replace(RIA, solver=Solver("alps"))
    other = tmp_path / "other.safetensors"
    given = maskfile.read(path)
    prune(checkpoint, tmp_path / "alps", solved, samples, given=given, save_masks=other)
    assert path.read_bytes() == other.read_bytes()
    weights = [
        open_checkpoint(tmp_path / n).tensors[min(given)].to_dense() for n in ("ria", "alps")
    ]
    assert not np.array_equal(*weights)


def test_masks_without_a_pattern_cannot_be_packed(checkpoint, tmp_path):
    name = linear_names(checkpoint.config)[0]
    mask = maskfile.Mask(np.ones((24, 24), dtype=bool))
    with pytest.raises(NmrefError, match=rf"^T_ARGUMENT {re.escape(name)}: a mask without N:M"):
        prune(checkpoint, tmp_path / "out", RECIPES["magnitude"], [], given={name: mask})


def test_the_recipe_lies_beside_the_weights(checkpoint, samples, tmp_path):
    for recipe in RECIPES.values():
        target = tmp_path / str(hash(recipe))
        prune(checkpoint, target, recipe, samples)
        assert loads((target / RECIPE_FILE).read_text(), "recipe")[0] == recipe


def test_a_weight_that_overflows_its_dtype(samples, tmp_path):
    """Variance correction makes the largest weight of a float16 model larger than float16."""
    name = "model.layers.1.mlp.up_proj.weight"

    def change(tensors):
        tensors[name][3] = np.where(np.arange(24) % 2, 60_000, -60_000)

    model = make_model(tmp_path / "model", np.float16, change)
    recipe = Recipe(HALF, score="magnitude", correct=Correction(scope="row"))
    message = rf"^T_TENSOR {re.escape(name)} row 3 column 0: \S+, want a number that F16 holds$"
    with pytest.raises(NmrefError, match=message):
        prune(open_checkpoint(model), tmp_path / "out", recipe, [])
    with pytest.raises(NmrefError, match=message):
        prune_weights(open_checkpoint(model), recipe, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


@pytest.mark.parametrize("name", ["paper", "best"])
def test_buffers_of_older_checkpoints_pass_through(name, samples, tmp_path):
    buffers = {
        f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": np.float32([1, 0.1, layer])
        for layer in range(3)
    }
    model = make_model(tmp_path / "model", change=lambda tensors: tensors.update(buffers))
    recipe = PRESETS[name]
    recipe = replace(recipe, tune=replace(recipe.tune, epochs=2))
    prune(open_checkpoint(model), tmp_path / "out", recipe, samples)
    found = open_checkpoint(tmp_path / "out").tensors
    for buffer, want in buffers.items():
        assert np.array_equal(found[buffer], want)


def test_an_allocation_leaves_rules_alone(checkpoint, samples):
    """Even one with the recipe's own pattern."""
    rules = (Rule("*.up_proj.*", HALF), Rule("*.gate_proj.*", None))
    recipe = replace(RECIPES["allocated"], rules=rules)
    streams = Streams(stream_shape(checkpoint, recipe, samples), None)
    embed(checkpoint, samples, streams)
    found = layer_patterns(checkpoint, recipe, streams)
    bases = {kind: {b for n, (b, _) in found.items() if kind in n} for kind in ("up", "gate", "q_")}
    assert bases["up"] == {HALF}
    assert bases["gate"] == {None}
    assert len(bases["q_"]) > 1


def test_an_allocation_counts_only_what_it_is_for(checkpoint, samples):
    """Scores of layers or weights that rules match move no other's N."""
    dense = (Rule("model.layers.0.*", None), Rule("model.layers.[12].mlp.*", QUARTER))
    recipe = replace(RECIPES["allocated"], rules=dense)

    def run(recipe):
        streams = Streams(stream_shape(checkpoint, recipe, samples), None)
        embed(checkpoint, samples, streams)
        return layer_patterns(checkpoint, recipe, streams)

    found = run(recipe)
    heads = {name: base for name, (base, _) in found.items() if "self_attn" in name and base}
    counts = {name: base.stored for name, base in heads.items()}
    assert {name.split(".")[2] for name in counts} == {"1", "2"}
    first, second = (counts[f"model.layers.{i}.self_attn.q_proj.weight"] for i in (1, 2))
    assert abs(first - second) == 4  # the span, all of it
    assert first + second == 16  # around N
    everything = replace(recipe, rules=(Rule("*", QUARTER),))
    assert {base for base, _ in run(everything).values()} == {QUARTER}


def traced(work):
    """Peak bytes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def layered(folder, layers):
    """A model of blocks of 2.4 MB, all of it in float16: what is read is copied."""
    raw = RAW | {"num_hidden_layers": layers, "hidden_size": 192, "intermediate_size": 768}
    raw |= {"head_dim": 48}
    rng = np.random.default_rng(2)
    tensors = {
        name: (rng.normal(scale=0.1, size=shape)).astype(np.float16)
        for name, shape in expected_shapes(parse_config(raw)).items()
    }
    write_checkpoint(folder, raw, tensors, {"tokenizer.json": "{}\n"})
    return open_checkpoint(folder)


@pytest.mark.parametrize("kind", ["prune", "blocks", "allocate"])
def test_one_block_is_in_memory_at_a_time(kind, samples, tmp_path):
    recipe = replace(RECIPES["allocated"], tune=None)

    def run(layers):
        checkpoint = layered(tmp_path / f"{layers}", layers)
        shape = stream_shape(checkpoint, recipe, samples)
        streams = Streams(shape, None)
        embed(checkpoint, samples, streams)
        patterns = dict.fromkeys(linear_names(checkpoint.config), (HALF, None))
        work = {
            "prune": lambda: prune(
                checkpoint, tmp_path / f"out-{layers}", Recipe(HALF), samples, threads=1
            ),
            "blocks": lambda: deque(
                prune_blocks(checkpoint, Recipe(HALF), streams, patterns, threads=1), 0
            ),
            "allocate": lambda: layer_patterns(checkpoint, recipe, streams, threads=1),
        }
        return traced(work[kind])

    run(1)  # what is loaded once
    for path in tmp_path.iterdir():
        shutil.rmtree(path)
    one, three = run(1), run(3)
    assert three < one * 1.1, (one, three)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_rounded_before_the_next_block(dtype, samples, tmp_path):
    import ml_dtypes

    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    model = make_model(tmp_path / "model", kind)
    recipe = replace(RECIPES["paper"], tune=None)
    prune(open_checkpoint(model), tmp_path / "out", recipe, samples)
    packed = open_checkpoint(tmp_path / "out").tensors
    want = prune_weights(open_checkpoint(model), recipe, samples)
    for name, tensor in packed.items():
        dense = tensor.to_dense() if isinstance(tensor, SparseWeight) else tensor
        assert dense.dtype == kind
        assert np.array_equal(widen(dense), want[name])
