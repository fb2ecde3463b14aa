"""The main job through the commands: prune, verify, inspect, unpack, eval, generate."""

import json
from collections import defaultdict

import numpy as np
import pytest

import nmref
from nmref.cli import COMMANDS, main
from nmref.container.safetensors import open_raw
from nmref.dtypes import bits_of
from nmref.model import llama
from nmref.model.checkpoint import open_checkpoint
from nmref.model.config import LINEAR_KINDS, linear_names
from nmref.model.tokenizer import Tokenizer
from nmref.prune.choose.mask import split
from nmref.prune.choose.score import ria
from nmref.tensor import SparseWeight


@pytest.fixture
def packed(model, text, tmp_path):
    """The model pruned to 8:16 with 16:256 outliers by RIA."""
    calibration = ["--calibration", str(text), "--samples", "3", "--seqlen", "32"]
    assert main(["prune", str(model), str(tmp_path / "packed"), *calibration]) == 0
    return tmp_path / "packed"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"nmref {command}" in capsys.readouterr().out.split("example", 1)[1]


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["prune"], ["eval", "x"]])
def test_usage_errors_exit_2(arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


def naive_pruned(weight, pattern, outliers):
    """Magnitude pruning of a [R, K] matrix with lists: what has to come out, zeros elsewhere."""
    n, m = map(int, pattern.split(":"))
    kept = np.zeros(weight.shape, dtype=bool)
    for row, values in enumerate(np.abs(weight).tolist()):
        best = sorted(range(len(values)), key=lambda c: (-values[c], c))
        if outliers != "none":
            count = int(outliers.split(":")[0])
            for first in range(0, len(values), 256):
                block = [c for c in best if first <= c < first + 256]
                kept[row, block[:count]] = True
        rest = [c for c in best if not kept[row, c]]
        for first in range(0, len(values), m):
            block = [c for c in rest if first <= c < first + m]
            kept[row, block[:n]] = True
    return np.where(kept, weight, np.zeros((), weight.dtype))


@pytest.mark.parametrize("pattern", ["1:4", "2:4", "4:8", "8:16", "16:32"])
@pytest.mark.parametrize("outliers", ["none", "4:256", "8:256", "16:256"])
def test_prune_then_unpack_gives_the_pruned_bits(model, tmp_path, pattern, outliers):
    packed, dense = tmp_path / "p", tmp_path / "d"
    options = ["--pattern", pattern, "--outliers", outliers, "--score", "magnitude"]
    assert main(["prune", str(model), str(packed), *options]) == 0
    assert main(["verify", str(packed)]) == 0
    assert main(["unpack", str(packed), str(dense)]) == 0
    before, after = open_checkpoint(model), open_checkpoint(dense)
    linears = set(linear_names(before.config))
    assert len(linears) == 14
    for name, tensor in before.tensors.items():
        want = naive_pruned(tensor, pattern, outliers) if name in linears else tensor
        assert np.array_equal(bits_of(after.tensors[name]), bits_of(want)), name


def test_stories260k_packs_and_unpacks_in_every_pattern(shared_data, tmp_path):
    source = shared_data / "models" / "stories260k-hf"
    before = open_checkpoint(source)
    for number, pattern in enumerate(["2:4", "4:8", "8:16", "16:32"]):
        packed, dense = tmp_path / f"p{number}", tmp_path / f"d{number}"
        options = ["--pattern", pattern, "--outliers", "16:256", "--score", "magnitude"]
        assert main(["prune", str(source), str(packed), *options]) == 0
        assert main(["unpack", str(packed), str(dense)]) == 0
        after = open_checkpoint(dense).tensors
        for name in linear_names(before.config):
            want = naive_pruned(before.tensors[name], pattern, "16:256")
            assert np.array_equal(bits_of(after[name]), bits_of(want)), name


def recorder(seen):
    return lambda name, array: seen[name].append(array.copy())


def test_ria_prunes_block_by_block_with_the_pruned_stream(model, packed, text):
    """The packed model's weights are those of a plain loop over blocks and samples."""
    checkpoint = open_checkpoint(model)
    ids = Tokenizer.open(model).encode(text.read_text("utf-8"), special=False)
    streams = [llama.embed(checkpoint.tensors, ids[i * 32 : i * 32 + 32]) for i in range(3)]
    weights = checkpoint.weights()
    found = nmref.load(packed)
    for layer in range(2):
        seen = defaultdict(list)
        for x in streams:
            llama.block(weights, checkpoint.config, layer, x, tap=recorder(seen))
        for kind in LINEAR_KINDS:
            name = f"model.layers.{layer}.{kind}.weight"
            inputs = np.concatenate(seen[llama.input_tap(name)]).astype(np.float64)
            norm = np.sqrt((inputs**2).sum(axis=0) / 3).astype(np.float32)
            score = ria(weights[name], norm)
            base, salient = split(score, nmref.NMPattern(8, 16), nmref.NMPattern(16, 256))
            weights[name] = np.where(base | salient, weights[name], np.float32(0))
            assert np.array_equal(found[name].to_dense(), weights[name]), name
        streams = [llama.block(weights, checkpoint.config, layer, x) for x in streams]


def test_inspect_prints_bits_per_element(tmp_path, capsys):
    for columns in range(64, 1025, 64):
        weight = nmref.encode(np.zeros((3, columns), np.float32), "8:16")
        nmref.save(tmp_path / "w.safetensors", {"w": weight})
        assert main(["inspect", str(tmp_path / "w.safetensors")]) == 0
        assert capsys.readouterr().out.splitlines()[2].split()[-5:] == [
            "0.8750",
            "16.0000",
            "0.0000",
            "0.0000",
            "16.8750",
        ]


def test_json_output_is_json(packed, text, capsys):
    for command in (["inspect", str(packed)], ["verify", str(packed)]):
        assert main([*command, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)
    measure = ["--perplexity", str(text), "--window", "32", "--windows", "2", "--json"]
    assert main(["eval", str(packed), *measure]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["windows"] == 2
    assert report["perplexity"] > 1


def test_eval_of_packed_is_eval_of_unpacked(packed, text, tmp_path, capsys):
    assert main(["unpack", str(packed), str(tmp_path / "dense")]) == 0
    values = []
    for folder in (packed, tmp_path / "dense"):
        capsys.readouterr()
        assert main(["eval", str(folder), "--perplexity", str(text), "--window", "32"]) == 0
        values.append(capsys.readouterr().out)
    assert values[0] == values[1]


def test_generate_prints_prompt_and_continuation(model, packed, capsys):
    for folder in (model, packed):
        command = ["generate", str(folder), "--prompt", "the quick", "--max-new-tokens", "5"]
        assert main(command) == 0
        assert capsys.readouterr().out.startswith("the quick")


def test_generate_repeats_with_the_same_seed(model, capsys):
    outputs = []
    for seed in ("1", "1", "2"):
        command = ["generate", str(model), "--prompt", "a", "--temperature", "1.5", "--seed", seed]
        assert main(command) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]


def test_unpack_of_a_single_file(packed, tmp_path):
    source, target = packed / "model.nmref.safetensors", tmp_path / "dense.safetensors"
    assert main(["unpack", str(source), str(target)]) == 0
    raw = open_raw(target)
    for name, weight in nmref.load(source).items():
        dense = weight.to_dense() if isinstance(weight, SparseWeight) else weight
        assert np.array_equal(bits_of(raw.array(name)), bits_of(dense))


def test_prune_reports_what_it_stored(model, tmp_path, capsys):
    options = ["--outliers", "4:256", "--score", "magnitude", "--json"]
    assert main(["prune", str(model), str(tmp_path / "p"), *options]) == 0
    report = json.loads(capsys.readouterr().out)
    weights = [w for w in nmref.load(tmp_path / "p").values() if isinstance(w, SparseWeight)]
    nonzero = sum(np.count_nonzero(w.to_dense()) for w in weights)
    elements = sum(np.prod(w.shape) for w in weights)
    assert report["total"]["elements"] == elements
    assert report["total"]["density"] == nonzero / elements
    assert len(report["weights"]) == len(weights) == 14
