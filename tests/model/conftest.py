"""A LLaMA small enough to check by hand: 2 layers, 4 heads in 2 groups, vocabulary 32."""

import numpy as np
import pytest

from nmref.model.checkpoint import write_checkpoint
from nmref.model.config import expected_shapes, parse_config


@pytest.fixture
def raw_config():
    """config.json of the tiny model."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 32,
        "max_position_embeddings": 40,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


@pytest.fixture
def config(raw_config):
    """The same, read."""
    return parse_config(raw_config)


@pytest.fixture
def weights(config):
    """Random weights, float32, seed 7."""
    rng = np.random.default_rng(7)
    return {
        name: (1 if "norm" in name else 0) + rng.normal(scale=0.3, size=shape).astype(np.float32)
        for name, shape in expected_shapes(config).items()
    }


@pytest.fixture
def folder(tmp_path, raw_config, weights):
    """The tiny model as a dense folder."""
    write_checkpoint(tmp_path / "model", raw_config, weights, {"tokenizer.json": "{}\n"})
    return tmp_path / "model"
