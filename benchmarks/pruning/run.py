"""python -m benchmarks pruning: prune a small model in every way and measure its perplexity.

Each row is measured once and kept in the JSON file; a second run goes on where the first stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from time import perf_counter
from typing import Any

from tqdm import tqdm

from benchmarks.machine import machine
from benchmarks.pruning.page import page
from benchmarks.pruning.rows import Row, rows
from nmref.evaluate.perplexity import perplexity
from nmref.model.checkpoint import Checkpoint, open_checkpoint
from nmref.model.config import expected_shapes, linear_names
from nmref.model.fetch import fetch
from nmref.model.tokenizer import Tokenizer
from nmref.prune import prune_weights
from nmref.prune.recipe.document import Calibration, check, dumps, loads
from nmref.prune.run.calibrate import windows

HERE = Path(__file__).parent
FIGURES = HERE / "figures.json"
LAYERS = HERE / "layers.json"
PAGE = HERE.parents[1] / "docs" / "pruning.md"
SAMPLES, LENGTH, TEST_WINDOWS = 32, 1024, 16


def main(argv: list[str]) -> int:
    """Measure the rows that are missing."""
    parser = argparse.ArgumentParser(prog="benchmarks pruning", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with wikitext2/")
    parser.add_argument("--model", type=Path, help="a model folder (SmolLM2-135M in F32)")
    parser.add_argument("--rows", default="*", metavar="GLOB", help="of table/method/pattern")
    parser.add_argument("--again", action="store_true", help="measure rows that are there, too")
    parser.add_argument("--list", action="store_true", help="print the rows and end")
    parser.add_argument("--page", action="store_true", help=f"write {PAGE.name} and end")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="the JSON file")
    args = parser.parse_args(argv)
    chosen = [row for row in rows() if fnmatchcase(row.key, args.rows)]
    if args.list:
        sys.stdout.write("".join(f"{row.key}\n" for row in chosen))
        return 0
    if args.page:
        figures, layers = (json.loads(path.read_text("utf-8")) for path in (args.figures, LAYERS))
        PAGE.write_text(page(figures, layers), "utf-8")
        return 0
    if args.data is None:
        parser.error("--data is needed to measure")
    run = Run(args.model or fetch("smollm2-135m", "F32"), args.data / "wikitext2", args.figures)
    for row in chosen:
        if args.again or not run.has(row):
            run.measure(row)
    return 0


class Run:
    """The model, the texts, and the figures so far."""

    def __init__(self, model: Path, texts: Path, figures: Path) -> None:
        self.checkpoint: Checkpoint = open_checkpoint(model)
        tokenizer = Tokenizer.open(model)
        train, valid = texts / "train_head_1MB.nonempty-lines.txt", texts / "wiki.valid.raw"
        ids = tokenizer.encode(train.read_text("utf-8"), special=False)
        self.samples = windows(ids, SAMPLES, LENGTH)
        self.test = tokenizer.encode(valid.read_text("utf-8"), special=False)
        self.calibration = Calibration.of(train, SAMPLES, LENGTH)
        self.figures = figures
        config = self.checkpoint.config
        shapes = Counter(expected_shapes(config)[name] for name in linear_names(config))
        self.found: dict[str, Any] = {"machine": machine(), "rows": {}}
        self.found["shapes"] = [[*shape, count] for shape, count in sorted(shapes.items())]
        if figures.exists():
            self.found["rows"] = json.loads(figures.read_text("utf-8"))["rows"]

    def has(self, row: Row) -> bool:
        """Measured already, with the same recipe."""
        found = self.found["rows"].get(row.key)
        return found is not None and self._same(found["recipe"], row)

    def measure(self, row: Row) -> None:
        """Prune, measure, write; a recipe that was measured under another name is not run again."""
        recipe = "" if row.recipe is None else dumps(row.recipe, self.calibration)
        for key, figure in self.found["rows"].items():
            if key != row.key and recipe and self._same(figure["recipe"], row):
                self._keep(row, figure)
                return
        config, begin = self.checkpoint.config, perf_counter()
        if row.recipe is None:
            weights: Any = self.checkpoint.weights()
        else:
            with tqdm(total=config.num_hidden_layers, desc=row.key, unit="block") as bar:
                weights = prune_weights(
                    self.checkpoint,
                    row.recipe,
                    self.samples,
                    report=lambda layer, stage: bar.update(stage == "done") and None,
                )
        seconds = perf_counter() - begin
        value = perplexity(weights, config, self.test, LENGTH, TEST_WINDOWS)
        sys.stdout.write(f"{row.key}: {value:.3f} ({seconds:.0f} s)\n")
        sys.stdout.flush()
        figure = {"perplexity": round(value, 4), "seconds": round(seconds, 1), "recipe": recipe}
        self._keep(row, figure)

    def _keep(self, row: Row, figure: dict[str, Any]) -> None:
        self.found["rows"][row.key] = figure
        text = json.dumps(self.found, indent=1, sort_keys=True) + "\n"
        self.figures.write_text(text, "utf-8")

    def _same(self, text: str, row: Row) -> bool:
        """Whether a recipe as it was written is that of a row, and its calibration ours."""
        if not text or row.recipe is None:
            return not text and row.recipe is None
        return loads(text, "figures") == (check(row.recipe), self.calibration)
