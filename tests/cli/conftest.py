"""A tiny model folder with a tokenizer of bytes, and a text for it."""

import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from nmref.model.checkpoint import write_checkpoint
from nmref.model.config import expected_shapes, parse_config

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 24,
    "intermediate_size": 44,  # no multiple of 16 or 256: tails in every pattern
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "vocab_size": 256,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": None,
}


def byte_tokenizer() -> str:
    """One token a byte."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: i for i, letter in enumerate(alphabet)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return tokenizer.to_str()


def write_model(folder: Path, dtype=np.float32) -> Path:
    """A random model, the same one each time."""
    rng = np.random.default_rng(3)
    tensors = {
        name: (rng.standard_normal(shape) * 0.3).astype(dtype)
        for name, shape in expected_shapes(parse_config(CONFIG)).items()
    }
    write_checkpoint(folder, CONFIG, tensors, {"tokenizer.json": byte_tokenizer()})
    return folder


@pytest.fixture
def model(tmp_path):
    """A dense model folder."""
    return write_model(tmp_path / "model")


@pytest.fixture
def text(tmp_path):
    """A text of 400 tokens."""
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 8 + "x" * 40, "utf-8")
    return path


def edit_config(folder: Path, **changes: object) -> None:
    """Change keys of config.json; a value of ... takes the key out."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text("utf-8")), **changes}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not ...}), "utf-8")
