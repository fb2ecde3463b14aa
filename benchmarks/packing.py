"""Packing a 7B-parameter BF16 checkpoint in shards: time, and peak memory of the process.

The checkpoint is synthetic: LLaMA-2-7B's shapes, every matrix made of one 8:16 block of rows.  It
needs 14 GB of disk for the source and 8 GB for the result (--small: 1/16 of the blocks).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np

from nmref.container.safetensors import layout, write_tensors
from nmref.model.config import expected_shapes, linear_names, parse_config
from nmref.pattern import NMPattern
from nmref.prune.choose.mask import top_n

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
LAYERS_A_SHARD = 4

WATCHED = """
import resource, sys
from nmref.cli import main
code = main(sys.argv[1:])
status = dict(l.split(":", 1) for l in open("/proc/self/status"))
print(status["VmHWM"].split()[0], file=sys.stderr)
raise SystemExit(code)
"""


def write_checkpoint(folder: Path, layers: int) -> int:
    """Shards and an index; returns the bytes of the largest tensor."""
    config = {**CONFIG, "num_hidden_layers": layers}
    shapes = expected_shapes(parse_config(config))
    linears = set(linear_names(parse_config(config)))
    names = sorted(shapes)
    size = 1 + len(names) // (layers // LAYERS_A_SHARD or 1)
    shards = [names[i : i + size] for i in range(0, len(names), size)]
    weight_map = {}
    for number, shard in enumerate(shards):
        file = f"model-{number:05}.safetensors"
        specs = {name: ("BF16", shapes[name]) for name in shard}
        header, entries = layout(specs, {"format": "pt"})
        with (folder / file).open("wb") as target:
            write_tensors(target, header, entries, _tensors(shard, shapes, linears))
        weight_map |= dict.fromkeys(shard, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return max(2 * int(np.prod(shape)) for shape in shapes.values())


def _tensors(names: list[str], shapes: dict, linears: set[str]) -> Iterator[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    for name in names:
        rows, columns = (*shapes[name], 1)[:2]
        few = rng.integers(1, 1 << 15, (min(rows, 256), columns), np.uint16)
        if name in linears:
            mask = top_n(rng.random(few.shape, dtype=np.float32), NMPattern(8, 16))
            few = np.where(mask, few, np.uint16(0))
        array = np.tile(few, (-(-rows // len(few)), 1))[:rows]
        yield name, array.reshape(shapes[name]).view(ml_dtypes.bfloat16)


def run(small: bool) -> dict[str, object]:
    """Write the checkpoint, pack it in a process of its own, verify nothing but the exit code."""
    layers = 2 if small else CONFIG["num_hidden_layers"]
    with tempfile.TemporaryDirectory(prefix="nmref-packing-") as scratch:
        source, target = Path(scratch, "dense"), Path(scratch, "packed")
        source.mkdir()
        largest = write_checkpoint(source, layers)
        size = sum(path.stat().st_size for path in source.glob("*.safetensors"))
        start = time.perf_counter()
        command = [sys.executable, "-c", WATCHED, "pack", str(source), str(target)]
        peak, anonymous = _watch(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        seconds = time.perf_counter() - start
        packed = sum(path.stat().st_size for path in target.glob("*.safetensors"))
    figures = {
        "dense_bytes": size,
        "packed_bytes": packed,
        "largest_tensor_bytes": largest,
        "seconds": seconds,
        "peak_anonymous_bytes": anonymous,
        "peak_resident_bytes": peak,
    }
    for name, value in figures.items():
        sys.stdout.write(f"{name:24} {value:,.0f}\n")
    return figures


def _watch(process: subprocess.Popen) -> tuple[int, int]:
    """Peak resident bytes (mapped file pages that the kernel keeps included) and peak anonymous."""
    anonymous = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text("utf-8")
        except FileNotFoundError:
            break
        for line in status.splitlines():
            if line.startswith("RssAnon"):
                anonymous = max(anonymous, int(line.split()[1]) * 1024)
        time.sleep(0.01)
    output = process.communicate()[1]
    if process.returncode:
        raise SystemExit(output)
    return int(output.splitlines()[-1]) * 1024, anonymous
