"""Model folders: what is read, and one line for each way to be broken."""

import json

import ml_dtypes
import numpy as np
import pytest

import nmref
from nmref.container.safetensors import write_raw
from nmref.errors import Code, NmrefError
from nmref.model.checkpoint import open_checkpoint, write_checkpoint
from nmref.model.config import linear_names
from nmref.tensor import SparseWeight

UP = "model.layers.1.mlp.up_proj.weight"


def rewrite(folder, weights, **changes):
    """Write the weights again with some replaced, or left out (None)."""
    tensors = {k: v for k, v in (weights | changes).items() if v is not None}
    write_raw(folder / "model.safetensors", tensors, {})


def shard(folder, weights, stem="model"):
    """The same weights in two files and an index."""
    (folder / "model.safetensors").unlink(missing_ok=True)
    names = sorted(weights)
    weight_map = {}
    for i, part in enumerate((names[:9], names[9:])):
        file = f"{stem}-{i}.safetensors"
        write_raw(folder / file, {name: weights[name] for name in part}, {})
        weight_map |= dict.fromkeys(part, file)
    index = folder / f"{stem}.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index, weight_map


def fails(folder, text):
    """The one line that opening the folder gives, without the folder's own path."""
    with pytest.raises(NmrefError) as caught:
        open_checkpoint(folder)
    line = str(caught.value).replace(f"{folder}/", "").replace(str(folder), "FOLDER")
    assert text in line
    assert "\n" not in line


def test_open_checkpoint_dense(folder, weights):
    checkpoint = open_checkpoint(folder)
    assert not checkpoint.packed
    assert set(checkpoint.tensors) == set(weights)
    for name, array in checkpoint.weights().items():
        assert array.dtype == np.float32
        assert array.flags.aligned
        np.testing.assert_array_equal(array, weights[name])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_open_checkpoint_widens_exactly(folder, weights, dtype):
    small = {name: array.astype(dtype) for name, array in weights.items()}
    rewrite(folder, small)
    checkpoint = open_checkpoint(folder)
    assert checkpoint.tensors[UP].dtype == dtype
    np.testing.assert_array_equal(checkpoint.weights()[UP], small[UP].astype(np.float32))


def test_open_checkpoint_shards(folder, weights):
    shard(folder, weights)
    read = open_checkpoint(folder).weights()
    assert set(read) == set(weights)
    np.testing.assert_array_equal(read[UP], weights[UP])


def pack(folder, weights, pattern="8:16"):
    """Replace the dense file by a packed one; returns the pruned linears."""
    pruned = dict(weights)
    for name in weights:
        if "proj" in name:
            pruned[name] = weights[name] * (np.arange(weights[name].shape[1]) % 2 == 0)
    packed = {
        name: nmref.encode(nmref.normalise_zero(w), pattern) if "proj" in name else w
        for name, w in pruned.items()
    }
    nmref.save(folder / "model.nmref.safetensors", packed)
    (folder / "model.safetensors").unlink()
    return pruned


def test_open_checkpoint_packed(folder, weights, config):
    pruned = pack(folder, weights)
    checkpoint = open_checkpoint(folder)
    assert checkpoint.packed
    read = checkpoint.weights()
    assert set(read) == set(weights)
    for name in linear_names(config):
        assert isinstance(read[name], SparseWeight)
        np.testing.assert_array_equal(read[name].to_dense(), pruned[name])
    np.testing.assert_array_equal(read["model.norm.weight"], weights["model.norm.weight"])


def test_open_checkpoint_packed_damage_is_seen_when_read(folder, weights):
    pack(folder, weights)
    path = folder / "model.nmref.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    checkpoint = open_checkpoint(folder)
    with pytest.raises(NmrefError) as caught:
        checkpoint.weights()
    assert caught.value.code.startswith("E_")


def test_open_checkpoint_tied_head(folder, weights, raw_config):
    raw_config["tie_word_embeddings"] = True
    (folder / "config.json").write_text(json.dumps(raw_config))
    assert "lm_head.weight" not in open_checkpoint(folder).weights()  # stored, not used
    rewrite(folder, weights, **{"lm_head.weight": None})
    assert "lm_head.weight" not in open_checkpoint(folder).weights()


def test_open_checkpoint_ignores_rope_buffers(folder, weights):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    rewrite(folder, weights, **{name: np.ones(2, dtype=np.float32)})
    assert name not in open_checkpoint(folder).weights()


def test_open_checkpoint_missing_files(tmp_path, folder):
    fails(tmp_path / "nowhere", "T_FILE FOLDER: no such folder, want a model folder")
    (folder / "model.safetensors").unlink()
    want = "want model.safetensors or model.nmref.safetensors"
    fails(folder, f"T_FILE FOLDER: no weights, {want}")
    (folder / "model.safetensors").touch()
    (folder / "model.nmref.safetensors").touch()
    fails(folder, f"T_FILE FOLDER: both dense and packed weights, {want}")
    (folder / "config.json").unlink()
    fails(folder, "T_FILE config.json: No such file or directory, want a readable file")


def test_open_checkpoint_unknown_architecture(folder, raw_config):
    raw_config["architectures"] = ["GPT2LMHeadModel"]
    (folder / "config.json").write_text(json.dumps(raw_config))
    fails(folder, 'T_CONFIG config.json: unknown architecture, architectures ["GPT2LMHeadModel"]')


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_open_checkpoint_truncated(folder, size):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    fails(folder, "E_HEADER model.safetensors")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        (UP, None, f"T_TENSOR FOLDER {UP}: missing, want shape [24, 16]"),
        (UP, np.zeros((24, 15), np.float32), f"{UP}: shape [24, 15], want [24, 16]"),
        (UP, np.zeros((24, 16), np.int8), f"{UP}: dtype I8, want one of F32, F16, BF16"),
        (UP, np.zeros((24, 16), np.float64), f"{UP}: dtype F64, want one of F32, F16, BF16"),
        ("x.bias", np.zeros(3, np.float32), "x.bias: a tensor the model has not, want only"),
    ],
)
def test_open_checkpoint_wrong_tensor(folder, weights, name, value, text):
    rewrite(folder, weights, **{name: value})
    fails(folder, text)


def test_open_checkpoint_wrong_shape_packed(folder, weights):
    pack(folder, weights | {UP: np.zeros((24, 32), np.float32)})
    fails(folder, f"T_TENSOR FOLDER {UP}: shape [24, 32], want [24, 16]")


def test_open_checkpoint_sparse_embedding(folder, weights):
    name = "model.embed_tokens.weight"
    zeros = np.zeros((32, 16), np.float32)
    nmref.save(folder / "model.nmref.safetensors", weights | {name: nmref.encode(zeros, "8:16")})
    (folder / "model.safetensors").unlink()
    fails(folder, f"T_TENSOR FOLDER {name}: dtype sparse, want one of F32, F16, BF16")


def test_open_checkpoint_bad_index(folder, weights):
    index, weight_map = shard(folder, weights)
    wrong = {**weight_map, UP: "model-0.safetensors"}
    index.write_text(json.dumps({"weight_map": wrong}))
    fails(folder, f"T_FILE model-0.safetensors: no tensor {UP}, want what its index lists")
    index.write_text(json.dumps({"weight_map": {**weight_map, UP: "../model-0.safetensors"}}))
    fails(folder, "want the name of a file beside it")
    for text in ("{", "{}", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 3}}'):
        index.write_text(text)
        fails(folder, "T_FILE model.safetensors.index.json")
    index.write_text(json.dumps({"weight_map": weight_map}))
    (folder / "model-1.safetensors").unlink()
    fails(folder, "T_FILE model-1.safetensors: No such file or directory")


def test_write_checkpoint_same_input_same_bytes(tmp_path, raw_config, weights):
    for name in ("a", "b"):
        write_checkpoint(tmp_path / name, raw_config, weights, {"tokenizer.json": "{}\n"})
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert json.loads((tmp_path / "a" / "config.json").read_text()) == raw_config


def test_write_checkpoint_copies_side_files(tmp_path, folder, raw_config, weights):
    (folder / "generation_config.json").write_text("{}")
    write_checkpoint(tmp_path / "copy", raw_config, weights, folder)
    names = sorted(path.name for path in (tmp_path / "copy").iterdir())
    assert names == ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]


def test_write_checkpoint_refuses_a_full_folder(folder, raw_config, weights):
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(NmrefError) as caught:
        write_checkpoint(folder, raw_config, {}, None)
    assert caught.value.code == Code.T_FILE
    assert (folder / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_write_checkpoint_leaves_nothing_behind(tmp_path, raw_config, weights, monkeypatch, error):
    def interrupt(*args):
        raise error

    monkeypatch.setattr("nmref.model.checkpoint.write_side_files", interrupt)
    with pytest.raises(error):
        write_checkpoint(tmp_path / "out", raw_config, weights)
    assert list(tmp_path.iterdir()) == []
