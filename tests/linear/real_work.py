"""python -m tests.linear.real_work FOLDER: what callers do, and how much of it had to be compiled.

The last line of the output is JSON: kernels compiled, kernels loaded, names of new files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import ml_dtypes
import numpy as np

import nmref
from nmref.cli import main
from nmref.kernels import cache, compile
from nmref.linear.samples import large, sample
from tests.cli.conftest import write_model

BF16 = ml_dtypes.bfloat16
KINDS = (("", "idx8"), ("16:256", "idx8"), ("16:256", "colex"))


STAGES = (
    ["--preset", "paper", "--epochs", "1", "--permute", "hungarian"],
    ["--preset", "best", "--epochs", "1"],
    ["--preset", "sparsegpt", "--owl", "2"],
    ["--score", "gradient"],
)
"""Options that prune in other ways."""


def commands(here: Path, text: Path, dtype) -> None:
    """A model, from dense to its answers."""
    model, out = write_model(here / "model", dtype), {n: str(here / n) for n in "abcd"}
    calibration = ["--calibration", str(text), "--samples", "2", "--seqlen", "16"]
    prompt = ["--prompt", "ab", "--max-new-tokens", "3"]
    lines = [
        ["prune", str(model), out["a"], *calibration],
        ["prune", str(model), out["b"], "--outliers", "none", "--pattern", "2:4", *calibration],
        *(["prune", str(model), f"{out['a']}-{i}", *calibration, *o] for i, o in enumerate(STAGES)),
        ["unpack", out["b"], out["c"]],
        ["pack", out["c"], out["d"], "--pattern", "2:4"],
        ["verify", out["a"]],
        ["verify", out["d"]],
        *(["generate", folder, *prompt] for folder in out.values()),
        ["generate", out["a"], *prompt, "--profile", "f64.seq"],
        ["generate", out["c"], *prompt, "--profile", "exact"],
        ["eval", out["a"], "--perplexity", str(text), "--window", "40", "--windows", "1"],
    ]
    for line in lines:
        assert main(line) == 0, line


def activations(rng, name: str, columns: int):
    """x of every kind that a weight of this name takes."""
    xs = [rng.standard_normal((t, columns)).astype(np.float32) for t in (1, 2, 3, 7, 11, 40, 300)]
    halves = [x.astype(np.float16 if name.startswith("F16") else BF16) for x in xs]
    last = xs[-1]
    xs += [np.asfortranarray(last), last[::2], last[0], np.broadcast_to(xs[0], (5, columns))]
    if name.startswith(("F16", "BF16")):
        xs += halves
    if name.startswith("I8") and ":256" not in name:
        xs += [np.ones((t, columns), np.int8) for t in (1, 20, 100)]
    return xs


def products(folder: Path) -> None:
    """Weights just made and weights from a file."""
    rng = np.random.default_rng(0)
    weights = {}
    for dtype in ("F32", "F16", "BF16", "I8"):
        for pattern in ("8:16", "2:4"):
            for outliers, coding in KINDS:
                name = f"{dtype}-{pattern}-{outliers}-{coding}"
                weights[name] = sample((70, 524), pattern, dtype, outliers, coding)
    weights["BF16-large"] = large((512, 2048), "8:16", "BF16", "16:256")
    nmref.save(folder / "weights.safetensors", weights)
    for held in (weights, dict(nmref.load(folder / "weights.safetensors"))):
        for name, weight in held.items():
            for x in activations(rng, name, weight.shape[1]):
                nmref.matmul(x, weight)
            weight.to_dense()


def files() -> set[str]:
    """Compiled kernels that are kept."""
    folder = cache.state().folder
    assert folder
    return {path.name for path in folder.iterdir() if path.suffix == cache.SUFFIX}


def run(folder: Path) -> None:
    before, text = files(), folder / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 8, "utf-8")
    for dtype in (np.float32, BF16, np.float16):
        here = folder / np.dtype(dtype).name
        here.mkdir()
        commands(here, text, dtype)
    products(folder)
    after = compile.stats()
    found = [after.compiled, after.loaded, sorted(files() - before)]
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    run(Path(sys.argv[1]))
