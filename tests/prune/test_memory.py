"""Memory is that of one block, not of the model: a model twice as large as the limit is pruned.

The limit is RLIMIT_DATA: what a process asks for, touched or not, without files that are mapped.
Slow (a file of 1.4 GB, about a minute): set NMREF_SLOW.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from nmref.container.safetensors import layout, write_tensors
from nmref.model.config import expected_shapes, parse_config

RAW = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "vocab_size": 64,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
LIMIT = 700 * 10**6

PROGRAM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[3]),) * 2)
from pathlib import Path
from nmref.model.checkpoint import open_checkpoint
from nmref.pattern import NMPattern
from nmref.prune import Recipe, prune
from nmref.prune.settings import Correction, Equalization
recipe = Recipe(
    NMPattern(8, 16), NMPattern(16, 256), equalize=Equalization(), correct=Correction()
)
samples = [[(i + j) % 64 for i in range(48)] for j in range(2)]
prune(open_checkpoint(Path(sys.argv[1])), Path(sys.argv[2]), recipe, samples)
"""


def write_large_model(folder):
    """Random F32 weights, one tensor in memory at a time; returns the bytes of the file."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(RAW))
    (folder / "tokenizer.json").write_text("{}\n")
    shapes = expected_shapes(parse_config(RAW))
    header, entries = layout({name: ("F32", shape) for name, shape in shapes.items()}, {})
    rng = np.random.default_rng(0)

    def tensors():
        for name, shape in shapes.items():
            size = {"scale": 0.0, "loc": 1.0} if len(shape) == 1 else {"scale": 0.02}
            yield name, rng.normal(**size, size=shape).astype(np.float32)

    path = folder / "model.safetensors"
    with path.open("w+b") as file:
        write_tensors(file, header, entries, tensors())
    return path.stat().st_size


@pytest.mark.skipif(not os.environ.get("NMREF_SLOW"), reason="slow: set NMREF_SLOW")
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA of Linux")
def test_a_model_twice_as_large_as_the_limit_is_pruned(tmp_path):
    size = write_large_model(tmp_path / "model")
    assert size > 2 * LIMIT
    words = [str(tmp_path / "model"), str(tmp_path / "out"), str(LIMIT)]
    command = [sys.executable, "-c", PROGRAM, *words]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "out" / "model.nmref.safetensors").exists()
