"""Whole runs against the same steps by hand: what each block sees, and what is passed on to it."""

import errno
import os
from collections import deque
from dataclasses import replace
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from nmref import container
from nmref.dtypes import widen
from nmref.errors import NmrefError
from nmref.linear import FAST
from nmref.model import llama
from nmref.model.checkpoint import DenseTensors, open_checkpoint, write_checkpoint
from nmref.model.config import expected_shapes, linear_names, parse_config
from nmref.pattern import NMPattern
from nmref.prune import prune, prune_weights
from nmref.prune.choose import allocate
from nmref.prune.choose.score import wanda
from nmref.prune.masks import maskfile
from nmref.prune.recipe.document import Calibration, assign, loads
from nmref.prune.run import packing
from nmref.prune.run.block import prune_block
from nmref.prune.run.calibrate import calibrate
from nmref.prune.run.packing import RECIPE_FILE
from nmref.prune.run.pipeline import embed, layer_patterns, prune_blocks, stream_shape
from nmref.prune.run.streams import Streams
from nmref.prune.run.work import RESULT, work_folder
from nmref.prune.settings import Recipe, Rule, Solver, Tuning
from nmref.tensor import SparseWeight
from tests.prune.conftest import RAW, contents, make_model
from tests.prune.test_packing import HALF, RECIPES, RIA, SALIENT, Stop, Stopper


def block_of(checkpoint, layer):
    """All weights of one block in float32."""
    prefix = f"model.layers.{layer}."
    found = checkpoint.tensors
    return {name: widen(found[name]).copy() for name in found if name.startswith(prefix)}


def through(weights, config, layer, inputs):
    """[S, T, D] behind a block."""
    with np.errstate(all="ignore"):
        return np.stack([llama.block(weights, config, layer, x, ops=FAST) for x in inputs])


@pytest.mark.parametrize("teacher", ["pruned", "dense"])
def test_a_block_is_pruned_on_what_the_stored_blocks_before_it_give(teacher, samples, tmp_path):
    """Pruned, tuned and rounded; a dense teacher sees the dense blocks before it."""
    kind = np.dtype(ml_dtypes.bfloat16)
    checkpoint = open_checkpoint(make_model(tmp_path / "model", kind))
    solver, tune = Solver("sparsegpt", block=16), Tuning(epochs=2, rate=1e-2, teacher=teacher)
    recipe = Recipe(HALF, SALIENT, solver=solver, tune=tune)
    config, found = checkpoint.config, prune_weights(checkpoint, recipe, samples)
    patterns = assign(recipe, linear_names(config))
    inputs = dense_inputs = np.stack([llama.embed(checkpoint.tensors, ids) for ids in samples])
    for layer in range(config.num_hidden_layers):
        dense = block_of(checkpoint, layer)
        dense_inputs = through(dense, config, layer, dense_inputs)
        targets = dense_inputs.copy() if teacher == "dense" else np.zeros_like(inputs)
        assigned = {name: patterns[name] for name in patterns if name in dense}
        pruned, others = prune_block(dense, config, layer, recipe, assigned, inputs, targets)
        made = others | {name: one.weight for name, one in pruned.items()}
        made = {name: widen(weight.astype(kind)) for name, weight in made.items()}
        for name, weight in made.items():
            assert np.array_equal(found[name], weight), name
        inputs = through(made, config, layer, inputs)


def test_owl_looks_at_the_dense_model(checkpoint, samples):
    recipe = replace(RECIPES["allocated"], outliers=SALIENT)
    config, shares = checkpoint.config, {}
    inputs = np.stack([llama.embed(checkpoint.tensors, ids) for ids in samples])
    for layer in range(config.num_hidden_layers):
        dense = block_of(checkpoint, layer)
        seen = calibrate(dense, config, layer, inputs)
        names = [name for name in linear_names(config) if name in dense]
        scores = [wanda(dense[name], seen[llama.input_tap(name)].norm) for name in names]
        shares[layer] = allocate.owl_shares(scores, 1.5)
        inputs = through(dense, config, layer, inputs)
    counts = allocate.stored(shares, HALF, 4)
    assert len(set(counts.values())) > 1
    streams = Streams(stream_shape(checkpoint, recipe, samples), None)
    embed(checkpoint, samples, streams)
    assert layer_patterns(checkpoint, recipe, streams) == {
        name: (NMPattern(counts[int(name.split(".")[2])], 16), SALIENT)
        for name in linear_names(config)
    }


def test_an_allocation_keeps_outliers_and_what_a_rule_leaves_dense(checkpoint, samples, tmp_path):
    recipe = replace(RECIPES["allocated"], outliers=SALIENT, rules=(Rule("*.up_proj.*", None),))
    prune(checkpoint, tmp_path / "out", recipe, samples)
    found = open_checkpoint(tmp_path / "out").tensors
    for name in linear_names(checkpoint.config):
        if "up_proj" in name:
            assert not isinstance(found[name], SparseWeight)
        else:
            assert found[name].spec.outliers.pattern == SALIENT


@pytest.mark.parametrize("size", [None, 20_000])
def test_layers_of_two_digits(size, tmp_path, monkeypatch):
    """Layer 1 is not layer 10 too, and 2 comes before 10 where files follow each other."""
    raw = RAW | {"num_hidden_layers": 12}
    rng = np.random.default_rng(3)
    tensors = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in expected_shapes(parse_config(raw)).items()
    }
    write_checkpoint(tmp_path / "model", raw, tensors, {"tokenizer.json": "{}\n"})
    checkpoint, recipe = open_checkpoint(tmp_path / "model"), RECIPES["magnitude"]
    if size is not None:
        save = partial(container.shards.save_model, max_bytes=size)
        monkeypatch.setattr("nmref.prune.run.packing.save_model", save)
    prune(checkpoint, tmp_path / "out", recipe, [])
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == 1 or size is not None
    found = open_checkpoint(tmp_path / "out").tensors
    want = prune_weights(checkpoint, recipe, [])
    assert set(found) == set(tensors)
    for name, tensor in found.items():
        dense = tensor.to_dense() if isinstance(tensor, SparseWeight) else tensor
        assert np.array_equal(dense, want[name])


def test_config_and_tokenizer_come_along(model, checkpoint, tmp_path):
    prune(checkpoint, tmp_path / "out", RECIPES["magnitude"], [])
    for name in ("config.json", "tokenizer.json"):
        assert (tmp_path / "out" / name).read_bytes() == (model / name).read_bytes()


def test_what_is_refused_is_refused_before_the_work(model, checkpoint, samples, tmp_path):
    def report(layer, stage):
        raise AssertionError(stage)

    name, before = linear_names(checkpoint.config)[-1], contents(tmp_path)
    flat = maskfile.Mask(np.zeros((1, 24), dtype=bool), None, HALF)
    norm = {"model.norm.weight": maskfile.Mask(np.zeros((1, 24), dtype=bool), None, HALF)}
    whole = maskfile.Mask(np.zeros((24, 44), dtype=bool), None, HALF)
    permuted = replace(RIA, permute="heuristic")
    for recipe, target, more, message in (
        (RIA, model, {}, "T_FILE .*model: something that is there already"),
        (RIA, tmp_path / "out", {"save_masks": model / "m"}, "T_FILE .*m: a path in"),
        (RIA, tmp_path / "out", {"given": {name: flat}}, r"T_ARGUMENT mask .*: shape \[1, 24\]"),
        (RIA, tmp_path / "out", {"given": norm}, "T_ARGUMENT mask model.norm.weight: no such"),
        (permuted, tmp_path / "out", {"given": {name: whole}}, "T_ARGUMENT permute: "),
    ):
        with pytest.raises(NmrefError, match=f"^{message}"):
            prune(checkpoint, target, recipe, samples, report=report, **more)
        assert contents(tmp_path) == before


def test_a_text_that_nothing_looked_at_is_not_in_the_recipe(checkpoint, samples, tmp_path):
    text = Calibration("text.txt", "0" * 64, 3, 10)
    for recipe, want in ((RECIPES["magnitude"], None), (RIA, text)):
        target = tmp_path / recipe.score
        prune(checkpoint, target, recipe, samples, calibration=text)
        assert loads((target / RECIPE_FILE).read_text(), "recipe")[1] == want


def test_masks_are_saved_of_what_a_rule_leaves(checkpoint, samples, tmp_path):
    path = tmp_path / "masks.safetensors"
    prune(checkpoint, tmp_path / "out", RECIPES["ruled"], samples, save_masks=path)
    names = linear_names(checkpoint.config)
    assert set(maskfile.read(path)) == {name for name in names if ".1.self_attn." not in name}


def test_masks_are_saved_of_blocks_that_were_done_before(checkpoint, samples, tmp_path):
    """Whether or not the interrupted run was to save them."""
    paths = [tmp_path / "whole.safetensors", tmp_path / "masks.safetensors"]
    prune(checkpoint, tmp_path / "whole", RIA, samples, save_masks=paths[0])
    with pytest.raises(Stop):
        prune(checkpoint, tmp_path / "out", RIA, samples, report=Stopper(25))
    prune(checkpoint, tmp_path / "out", RIA, samples, save_masks=paths[1])
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_no_folder_without_its_masks(checkpoint, samples, tmp_path, monkeypatch):
    target, path, write = tmp_path / "out", tmp_path / "masks.safetensors", maskfile.write_stream

    def full(place, *more):
        if place == path:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(place, *more)

    with monkeypatch.context() as patch:
        patch.setattr(maskfile, "write_stream", full)
        with pytest.raises(OSError, match="No space left"):
            prune(checkpoint, target, RIA, samples, save_masks=path)
    assert not target.exists()
    prune(checkpoint, target, RIA, samples, save_masks=path)
    assert path.exists()


@pytest.mark.parametrize("name", ["taught", "solved", "allocated", "gradient"])
def test_as_many_threads_as_asked_for_everywhere(name, checkpoint, samples, tmp_path, monkeypatch):
    """Nothing asks how many there could be."""
    monkeypatch.delattr("nmref.linear.parallel.default_threads")
    prune(checkpoint, tmp_path / "out", RECIPES[name], samples, threads=1)
    prune_weights(checkpoint, RECIPES[name], samples, threads=1)


def test_tokens_that_the_model_has_not(checkpoint, samples, tmp_path):
    message = r"^T_ARGUMENT tokens position 2: id 32, want 0 to 31$"
    for work in (
        lambda: prune(checkpoint, tmp_path / "out", RIA, [[1, 2, 32]]),
        lambda: prune_weights(checkpoint, RIA, [[1, 2, 32]]),
    ):
        with pytest.raises(NmrefError, match=message):
            work()


def test_a_bad_recipe_in_memory(checkpoint, samples):
    message = r"^T_ARGUMENT exponent: -1\.0, want a number from 0 to 3\.403e\+38$"
    with pytest.raises(NmrefError, match=message):
        prune_weights(checkpoint, replace(RIA, exponent=-1.0), samples)


@pytest.mark.parametrize("kind", ["prune", "blocks", "allocate"])
def test_what_was_read_is_let_go(kind, checkpoint, samples, tmp_path, monkeypatch):
    """Of every block, so that memory does not grow with the model."""
    let_go, recipe = [], replace(RECIPES["allocated"], tune=None)
    streams = Streams(stream_shape(checkpoint, recipe, samples), None)
    embed(checkpoint, samples, streams)
    patterns = dict.fromkeys(linear_names(checkpoint.config), (HALF, None))
    monkeypatch.setattr(DenseTensors, "release", lambda self, name: let_go.append(name))
    monkeypatch.setattr("nmref.prune.recipe.origin.source_sha256", lambda checkpoint: "0" * 64)
    if kind == "prune":
        prune(checkpoint, tmp_path / "out", Recipe(HALF), samples)
    elif kind == "blocks":
        deque(prune_blocks(checkpoint, Recipe(HALF), streams, patterns), 0)
    else:
        layer_patterns(checkpoint, recipe, streams)
    assert {name for name in checkpoint.tensors if ".layers." in name} <= set(let_go)


@pytest.mark.parametrize("name", ["model.norm.weight", "model.embed_tokens.weight"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_outside_the_blocks_are_looked_at_too(name, bad, samples, tmp_path, monkeypatch):
    """No stage would: a score by magnitude sees the blocks alone."""
    place = (3,) if name.endswith("norm.weight") else (17, 5)

    def change(tensors):
        tensors[name][place] = bad

    monkeypatch.setattr("nmref.prune.run.checks.ROWS", 2)
    checkpoint = open_checkpoint(make_model(tmp_path / "bad", change=change))
    where = "element 3" if len(place) == 1 else "row 17 column 5"
    for recipe in (RECIPES["magnitude"], RIA):
        with pytest.raises(NmrefError) as error:
            prune(checkpoint, tmp_path / "out", recipe, samples)
        assert str(error.value) == f"T_TENSOR {name} {where}: {bad}, want a finite weight"
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("function", ["write_side_files", "save_model"])
def test_killed_while_it_is_put_together(function, checkpoint, samples, tmp_path, monkeypatch):
    """Nothing but the work folder stays, and that goes with the next run."""
    prune(checkpoint, tmp_path / "whole", RIA, samples)
    child = os.fork()
    if child == 0:
        original = getattr(packing, function)

        def killed(*arguments):
            original(*arguments)
            os._exit(9)

        monkeypatch.setattr(packing, function, killed)
        prune(checkpoint, tmp_path / "out", RIA, samples, threads=1)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["model", "out.unfinished", "whole"]
    assert (tmp_path / "out.unfinished" / RESULT).is_dir()
    begun = []
    prune(checkpoint, tmp_path / "out", RIA, samples, report=lambda *what: begun.append(what))
    assert begun == []  # all blocks were done
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert not work_folder(tmp_path / "out").exists()


def test_killed_between_the_result_and_the_end(checkpoint, samples, tmp_path, monkeypatch):
    """The result is whole; what is left beside it is named."""
    monkeypatch.setattr("nmref.prune.run.work._clear", lambda folder: None)
    prune(checkpoint, tmp_path / "out", RIA, samples)
    with pytest.raises(NmrefError) as error:
        prune(checkpoint, tmp_path / "out", RIA, samples)
    assert str(error.value) == (
        f"T_FILE {tmp_path / 'out'}: something that is there already, want a new folder; "
        f"{work_folder(tmp_path / 'out')} is what an interrupted run left"
    )


def test_places_that_are_refused(checkpoint, samples, tmp_path, monkeypatch):
    def refused(target, message, **more):
        with pytest.raises(NmrefError) as error:
            prune(checkpoint, target, RIA, samples, **more)
        assert str(error.value) == f"T_FILE {message}"

    monkeypatch.chdir(tmp_path)
    refused(Path(""), ".: a path without a name, want a new folder")
    inside = checkpoint.folder / "out"
    refused(inside, f"{inside}: a path in {checkpoint.folder}, want one outside it")
    closed, want = tmp_path / "closed", "a folder that cannot be written to, want another"
    closed.mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed and access(path, mode))
    refused(closed / "out", f"{closed / 'out'}: {want}")
    refused(tmp_path / "out", f"{closed / 'm'}: {want}", save_masks=closed / "m")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["closed", "model"]


@pytest.mark.parametrize("what", ["rules", "allocate"])
def test_masks_leave_nothing_for_patterns_of_a_recipe(what, checkpoint, samples, tmp_path):
    masks = tmp_path / "masks"
    prune(checkpoint, tmp_path / "first", RIA, samples, save_masks=masks)
    recipe = RECIPES["ruled" if what == "rules" else "allocated"]
    with pytest.raises(NmrefError) as error:
        prune(checkpoint, tmp_path / "out", recipe, samples, given=maskfile.read(masks))
    assert str(error.value) == f"T_ARGUMENT {what}: some, with given masks, want none"
