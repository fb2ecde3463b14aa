"""Packing folders that are pruned already: the same bits, shards, and what is refused."""

import json
import re

import numpy as np
import pytest

import nmref
from nmref.cli import main
from nmref.container import FILE_NAME, INDEX_NAME, model_digest, save_model
from nmref.dtypes import bits_of
from nmref.model.checkpoint import open_checkpoint
from nmref.tensor import SparseWeight
from tests.cli.conftest import write_model


@pytest.fixture
def pruned(tmp_path):
    """A dense folder whose linears fit 2:4."""
    source = write_model(tmp_path / "model")
    options = ["--pattern", "2:4", "--outliers", "none", "--score", "magnitude"]
    assert main(["prune", str(source), str(tmp_path / "p"), *options]) == 0
    assert main(["unpack", str(tmp_path / "p"), str(tmp_path / "pruned")]) == 0
    return tmp_path / "pruned"


def run(*words) -> int:
    return main([str(word) for word in words])


def test_pack_gives_back_the_dense_bits(pruned, tmp_path):
    assert run("pack", pruned, tmp_path / "packed", "--pattern", "2:4") == 0
    weights, dense = nmref.load(tmp_path / "packed"), open_checkpoint(pruned).tensors
    assert set(weights) == set(dense)
    for name, weight in weights.items():
        back = weight.to_dense() if isinstance(weight, SparseWeight) else weight
        assert np.array_equal(bits_of(back), bits_of(dense[name])), name
    assert sum(isinstance(weight, SparseWeight) for weight in weights.values()) == 14
    assert not nmref.verify(tmp_path / "packed")[0].warnings


def test_shards_hold_the_same_model(pruned, tmp_path):
    assert run("pack", pruned, tmp_path / "one", "--pattern", "2:4") == 0
    small = ["--max-shard-bytes", 6000]
    assert run("pack", pruned, tmp_path / "many", "--pattern", "2:4", *small) == 0
    files = sorted(path.name for path in (tmp_path / "many").glob("*.safetensors"))
    assert len(files) > 3
    assert files[0] == f"model-00001-of-{len(files):05}.nmref.safetensors"
    assert (tmp_path / "one" / FILE_NAME).exists()
    one, many = nmref.load(tmp_path / "one"), nmref.load(tmp_path / "many")
    assert list(one) == list(many)
    for name in one:
        a, b = one[name], many[name]
        parts = (a.parts(), b.parts()) if isinstance(a, SparseWeight) else ({"": a}, {"": b})
        for part, array in parts[0].items():
            assert np.array_equal(bits_of(array), bits_of(parts[1][part]))
    assert model_digest(tmp_path / "one") == model_digest(tmp_path / "many")
    assert len(nmref.verify(tmp_path / "many")) == len(files)

    text = (tmp_path / "many" / INDEX_NAME).read_text("ascii")
    index = json.loads(text)
    assert text == json.dumps(index, sort_keys=True, separators=(",", ":")) + "\n"
    total = sum(f.raw.path.stat().st_size - f.raw.data_start for f in many.files)
    assert index["metadata"]["total_size"] == total
    assert run("unpack", tmp_path / "many", tmp_path / "dense") == 0


def test_model_digest_of_one_file_is_its_content_digest(pruned, tmp_path):
    assert run("pack", pruned, tmp_path / "one", "--pattern", "2:4") == 0
    assert model_digest(tmp_path / "one") == nmref.verify(tmp_path / "one")[0].content_sha256


def test_pack_never_prunes(tmp_path, capsys):
    source = write_model(tmp_path / "model")
    assert run("pack", source, tmp_path / "packed", "--pattern", "2:4") == 1
    line = capsys.readouterr().err.splitlines()[-1]
    name = r"model\.layers\.0\.mlp\.down_proj\.weight base row 0 block 0"
    assert re.match(rf"X_OVERFULL {name}: 4 columns, want at most 2", line), line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_pack_of_minus_zeros(pruned, tmp_path, capsys):
    path = pruned / "model.safetensors"
    data = path.read_bytes()
    dense = open_checkpoint(pruned).tensors
    name = "model.layers.0.mlp.up_proj.weight"
    entry = dense.home[name].entries[name]
    start = dense.home[name].data_start + entry.begin
    weight = np.frombuffer(data[start : start + entry.nbytes], np.uint32).copy()
    weight[weight == 0] = 0x80000000
    path.write_bytes(data[:start] + weight.tobytes() + data[start + entry.nbytes :])
    assert run("pack", pruned, tmp_path / "a", "--pattern", "2:4") == 1
    assert f"X_NEGZERO {name} base row 0 block 0" in capsys.readouterr().err
    assert run("pack", pruned, tmp_path / "a", "--pattern", "2:4", "--normalise-zero") == 0


def test_save_model_refuses_a_folder_that_has_one_and_tensors_too_many(tmp_path):
    one = np.zeros(4, np.float32)
    specs = dict.fromkeys("ab", ("F32", (4,)))
    more = [(name, one) for name in "abc"]
    with pytest.raises(ValueError, match=r"^T_TENSOR c: one more tensor, want only those"):
        save_model(tmp_path, specs, more, max_bytes=16)
    save_model(tmp_path, specs, more[:2])
    with pytest.raises(ValueError, match=r"^T_FILE .*: there already, want a new folder$"):
        save_model(tmp_path, specs, more[:2])


def test_save_into_no_folder(tmp_path):
    with pytest.raises(ValueError, match=r"^T_FILE .*none: no such folder, want one to write in$"):
        nmref.save(tmp_path / "none" / "w.safetensors", {})
