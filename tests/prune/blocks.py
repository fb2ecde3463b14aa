"""Blocks small enough for loops and finite differences."""

from __future__ import annotations

import numpy as np

from nmref.model.config import parse_config
from nmref.prune.tune import backprop

KINDS = {
    "llama": {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 4},
    "grouped": {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 6},
    "one-group": {"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 2},
    "window": {
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 4,
        "sliding_window": 3,
    },
    "llama3": {
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    },
}
"""Keys of config.json that set the kinds of attention apart."""


def config_of(kind, width=12, mlp=10):
    """A config of two layers."""
    mistral = "sliding_window" in KINDS[kind]
    raw = {
        "architectures": ["MistralForCausalLM" if mistral else "LlamaForCausalLM"],
        "model_type": "mistral" if mistral else "llama",
        "hidden_size": width,
        "intermediate_size": mlp,
        "num_hidden_layers": 2,
        "vocab_size": 16,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    }
    return parse_config(raw | KINDS[kind])


def block_of(config, layer=1, seed=3, dtype=np.float32):
    """Random tensors of a block by name; the attention looks at some positions more than others."""
    rng = np.random.default_rng(seed)
    q, kv = config.H * config.head_dim, config.G * config.head_dim
    shapes = [(config.D,), (q, config.D), (kv, config.D), (kv, config.D), (config.D, q)]
    shapes += [(config.D,), (config.F, config.D), (config.F, config.D), (config.D, config.F)]
    return {
        name: (rng.normal(scale=0.6, size=shape) + (len(shape) == 1)).astype(dtype)
        for name, shape in zip(backprop.names(layer), shapes, strict=True)
    }


def activations(config, count, seed=4, dtype=np.float32):
    """x [T, D]."""
    return np.random.default_rng(seed).normal(size=(count, config.D)).astype(dtype)
