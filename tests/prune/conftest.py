"""A tiny model folder and calibration windows for whole runs."""

import numpy as np
import pytest

from nmref.model.checkpoint import open_checkpoint, write_checkpoint
from nmref.model.config import expected_shapes, parse_config

RAW = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 24,
    "intermediate_size": 44,  # tails in every pattern
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "vocab_size": 32,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}


def make_model(folder, dtype=np.float32, change=lambda tensors: None):
    """A random model, seed 7."""
    rng = np.random.default_rng(7)
    shapes = expected_shapes(parse_config(RAW))
    tensors = {
        name: ((1 if "norm" in name else 0) + rng.normal(scale=0.3, size=shape)).astype(dtype)
        for name, shape in shapes.items()
    }
    change(tensors)
    write_checkpoint(folder, RAW, tensors, {"tokenizer.json": "{}\n"})
    return folder


@pytest.fixture
def model(tmp_path):
    """The folder."""
    return make_model(tmp_path / "model")


@pytest.fixture
def checkpoint(model):
    """The folder, opened."""
    return open_checkpoint(model)


@pytest.fixture
def samples():
    """Three windows of ten tokens."""
    return np.random.default_rng(1).integers(0, 32, (3, 10)).tolist()


def contents(folder):
    """Relative path -> bytes of every file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
