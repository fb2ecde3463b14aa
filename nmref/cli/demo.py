"""nmref demo: the whole path on a real model."""

from __future__ import annotations

import argparse
import tempfile
import time
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmref.cli.common import note, positive, print_table

if TYPE_CHECKING:
    from nmref.prune import Recipe

PROMPT = "The old house on the hill had been empty for many years."
NEW_TOKENS = 40
WINDOW = 512
TEST_WINDOWS = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nmref demo`."""
    parser.epilog = (
        "Fetches a model (cached), prunes it to 8:16 and to 8:16 with 16:256 outliers, verifies\n"
        "the files, checks the packed model against the dense one, and lets both write.\n\n"
        "example:\n  nmref demo --keep demo-out"
    )
    parser.add_argument("--model", default="smollm2-135m", help="a name for fetch, or a folder")
    parser.add_argument("--samples", type=positive, default=8, help="calibration windows (8)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the packed models here")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """One section after the other, each with its time."""
    from nmref.model.fetch import fetch

    start = time.perf_counter()
    model = Path(args.model)
    if not model.is_dir():
        model = fetch(args.model)
    note(f"model: {model}")
    with tempfile.TemporaryDirectory(prefix="nmref-demo-") as scratch:
        folders = {"dense": model} | _prune(model, args.keep or Path(scratch), args.samples)
        _verify(folders)
        _sizes(folders)
        _check_unpacked(folders["8:16+16:256"], Path(scratch) / "unpacked")
        _perplexity(folders)
        _generate({name: folders[name] for name in ("dense", "8:16+16:256")})
    print(f"\ntotal time {time.perf_counter() - start:.0f} s")
    return 0


def _text(name: str) -> str:
    with as_file(files("nmref.evaluate") / "texts" / name) as path:
        return path.read_text(encoding="utf-8")


def _recipes() -> dict[str, Recipe]:
    from nmref.pattern import NMPattern
    from nmref.prune import Recipe

    pattern = NMPattern(8, 16)
    return {
        "8:16": Recipe(pattern, None, "ria"),
        "8:16+16:256": Recipe(pattern, NMPattern(16, 256), "ria"),
    }


def _prune(model: Path, target: Path, samples: int) -> dict[str, Path]:
    from tqdm import tqdm

    from nmref.model.checkpoint import open_checkpoint
    from nmref.model.tokenizer import Tokenizer
    from nmref.prune import prune
    from nmref.prune.run.calibrate import windows

    checkpoint = open_checkpoint(model)
    ids = Tokenizer.open(model).encode(_text("northanger_calibration.txt"), special=False)
    parts = windows(ids, samples, WINDOW)
    folders = {}
    for name, recipe in _recipes().items():
        folders[name] = target / name.replace(":", "-").replace("+", "-")
        with tqdm(total=checkpoint.config.num_hidden_layers, desc=f"prune {name}") as bar:

            def report(_: int, stage: str, bar: tqdm[Any] = bar) -> None:
                bar.update(stage == "done")

            prune(checkpoint, folders[name], recipe, parts, report=report)
    return folders


def _verify(folders: dict[str, Path]) -> None:
    from nmref.container import verify

    print("\n== Verified files")
    for name in _recipes():
        for report in verify(folders[name]):
            warned = f", {len(report.warnings)} warnings" if report.warnings else ""
            print(f"{name}: {report.weights} sparse weights, {report.bytes} bytes{warned}")
            print(f"  content_sha256 {report.content_sha256}")


def _sizes(folders: dict[str, Path]) -> None:
    from nmref.container.inventory import inventory

    for name in _recipes():
        found = inventory(folders[name])
        print(f"\n== {name}: bits for each element of the dense matrix")
        print_table(
            ("tensors", "count", "shape", "codes", "values", "out pos", "out val", "total"),
            [
                (*row.labels()[:3], *(f"{bits:.4f}" for bits in row.bits()))
                for row in found.groups()
            ],
        )
        before = sum(path.stat().st_size for path in folders["dense"].glob("*.safetensors"))
        print(f"file before {before} bytes, after {found.file_nbytes} bytes")


def _check_unpacked(packed: Path, target: Path) -> None:
    """Packing and unpacking lose nothing: the written dense folder has the packed weights' bits."""
    import numpy as np

    from nmref.container import load
    from nmref.dtypes import bits_of
    from nmref.interop.dense import unpack_folder
    from nmref.model.checkpoint import open_checkpoint
    from nmref.tensor import SparseWeight

    unpack_folder(packed, target)
    dense = open_checkpoint(target).tensors
    equal = 0
    for name, weight in load(packed).items():
        unpacked = dense[name]
        if isinstance(weight, SparseWeight) and not isinstance(unpacked, SparseWeight):
            equal += np.array_equal(bits_of(weight.to_dense()), bits_of(unpacked))
    print(f"\n== Unpacked: {equal} matrices equal the packed ones bit for bit")


def _perplexity(folders: dict[str, Path]) -> None:
    from nmref.evaluate.perplexity import perplexity
    from nmref.model.checkpoint import open_checkpoint
    from nmref.model.tokenizer import Tokenizer

    ids = Tokenizer.open(folders["dense"]).encode(_text("northanger_test.txt"), special=False)
    print(f"\n== Perplexity, {TEST_WINDOWS} windows of {WINDOW} tokens of Northanger Abbey")
    for name, folder in folders.items():
        checkpoint = open_checkpoint(folder)
        value = perplexity(
            checkpoint.weights(), checkpoint.config, ids, WINDOW, TEST_WINDOWS, progress=True
        )
        print(f"{name:12} {value:.3f}", flush=True)


def _generate(folders: dict[str, Path]) -> None:
    from nmref.model.checkpoint import open_checkpoint
    from nmref.model.generate import generate
    from nmref.model.tokenizer import Tokenizer

    for name, folder in folders.items():
        checkpoint, tokenizer = open_checkpoint(folder), Tokenizer.open(folder)
        prompt = tokenizer.prompt(PROMPT, checkpoint.config.bos_token_id)
        weights = checkpoint.weights()
        print(f"\n== {name} continues, greedily")
        start = time.perf_counter()
        tokens = list(generate(weights, checkpoint.config, prompt, NEW_TOKENS))
        seconds = time.perf_counter() - start
        print(PROMPT + "".join(tokenizer.stream(tokens, prompt)))
        print(f"({len(tokens)} tokens, {len(tokens) / seconds:.1f} tokens/s, prompt included)")
