"""Where a result comes from: the digest of the source, and the versions at work."""

import json
from dataclasses import replace

import numba
import numpy as np
import pytest
import scipy

import nmref
from nmref.container.safetensors import write_raw
from nmref.errors import NmrefError
from nmref.model.checkpoint import open_checkpoint, write_checkpoint
from nmref.model.config import expected_shapes, parse_config
from nmref.prune.recipe.origin import made_with, source_sha256
from nmref.prune.recipe.presets import preset

RAW = {
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 20,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 4,
    "max_position_embeddings": 16,
    "rms_norm_eps": 1e-5,
}


def weights():
    rng = np.random.default_rng(3)
    return {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in expected_shapes(parse_config(RAW)).items()
    }


def model(folder, raw=RAW, tensors=None, tokenizer="{}"):
    write_checkpoint(folder, raw, tensors or weights(), {"tokenizer.json": tokenizer})
    return source_sha256(open_checkpoint(folder))


def test_every_part_of_the_source_counts(tmp_path):
    digest = model(tmp_path / "a")
    assert model(tmp_path / "same") == digest
    name = "model.layers.0.mlp.up_proj.weight"
    changed = weights()
    changed[name][3, 5] = np.nextafter(changed[name][3, 5], np.float32(9))
    assert model(tmp_path / "b", tensors=changed) != digest
    assert model(tmp_path / "c", raw=RAW | {"rms_norm_eps": 1e-6}) != digest
    assert model(tmp_path / "d", tokenizer="{} ") != digest
    narrow = {name: array.astype(np.float16) for name, array in weights().items()}
    assert model(tmp_path / "e", tensors=narrow) != digest


def test_shards_do_not_matter(tmp_path):
    digest, tensors = model(tmp_path / "whole"), weights()
    folder = tmp_path / "cut"
    write_checkpoint(folder, RAW, tensors, {"tokenizer.json": "{}"})
    (folder / "model.safetensors").unlink()
    names = sorted(tensors, reverse=True)
    home = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(names)}
    for file in sorted(set(home.values())):
        part = {name: tensors[name] for name in names if home[name] == file}
        write_raw(folder / file, part, {})
    index = json.dumps({"weight_map": home})
    (folder / "model.safetensors.index.json").write_text(index)
    assert source_sha256(open_checkpoint(folder)) == digest


def test_a_packed_source_is_refused(tmp_path):
    model(tmp_path / "m")
    packed = replace(open_checkpoint(tmp_path / "m"), tensors={}, packed=True)
    with pytest.raises(NmrefError, match=r"^T_TENSOR .*m: a packed model, want a dense checkpo"):
        source_sha256(packed)


def test_versions_and_seeds(tmp_path):
    digest = model(tmp_path / "m")
    checkpoint = open_checkpoint(tmp_path / "m")
    found = made_with(preset("best"), checkpoint)
    assert found.nmref == nmref.__version__
    assert (found.numpy, found.scipy, found.numba) == (
        np.__version__,
        scipy.__version__,
        numba.__version__,
    )
    assert any(character.isdigit() for character in found.blas)
    assert found.source_sha256 == digest
    assert found.seeds == {"tune": preset("best").tune.seed}
    assert made_with(preset("fast"), checkpoint).seeds == {}


def test_blas_without_threadpoolctl(monkeypatch, tmp_path):
    """A BLAS that threadpoolctl does not know is named as NumPy was built."""
    monkeypatch.setattr("nmref.prune.recipe.origin.threadpool_info", list)
    model(tmp_path / "m")
    name = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
    assert made_with(preset("fast"), open_checkpoint(tmp_path / "m")).blas.startswith(name)


def test_differences_name_what_is_not_the_same(tmp_path):
    model(tmp_path / "m")
    now = made_with(preset("fast"), open_checkpoint(tmp_path / "m"))
    then = replace(now, numpy="1.0", seeds={"tune": 4})
    assert now.differences(now) == []
    assert then.differences(now) == [
        f"numpy 1.0, not {now.numpy}",
        "seeds {'tune': 4}, not {}",
    ]
