"""python -m benchmarks layers: what variance correction and equalization do to single layers.

Of every linear of some blocks, on the inputs that the dense model gives it: the factor of Eq. 2,
the one that would restore the power of its outputs, the one of least error, and the error with
each.  Then the whole model, pruned once, with its base weights times one factor.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from benchmarks.machine import machine
from benchmarks.pruning.rows import HALF, OUTLIERS, PATTERNS, equalizations
from nmref.evaluate.perplexity import perplexity
from nmref.model import llama
from nmref.model.checkpoint import Checkpoint, open_checkpoint
from nmref.model.config import linear_names
from nmref.model.generate import generate
from nmref.model.tokenizer import Tokenizer
from nmref.pattern import NMPattern
from nmref.prune import prune_blocks
from nmref.prune.choose.mask import split
from nmref.prune.recipe.document import assign
from nmref.prune.run.calibrate import Statistics, calibrate, windows
from nmref.prune.run.pipeline import embed
from nmref.prune.run.stages import importance
from nmref.prune.run.streams import Streams
from nmref.prune.settings import Correction, Recipe
from nmref.prune.update import variance

FIGURES = Path(__file__).with_name("layers.json")
LENGTH, SAMPLES, TEST_WINDOWS = 512, 32, 8
LAYER_SAMPLES = 8
BLOCKS = 6
FACTORS = (0.96, 0.98, 1.0, 1.02, 1.04, 1.06, 1.08)
GROUPS = {
    "q, k": ("q_proj", "k_proj"),
    "v, o": ("v_proj", "o_proj"),
    "gate, up": ("gate_proj", "up_proj"),
    "down": ("down_proj",),
}
GROUP_FACTORS = (1.02, 1.06)

Bool = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]
Found = dict[str, Any]


def main(argv: list[str]) -> int:
    """Measure one model and keep its figures beside those of others."""
    parser = argparse.ArgumentParser(prog="benchmarks layers", description=__doc__)
    parser.add_argument(
        "--data", type=Path, help="folder with wikitext2/; without it the model writes its own text"
    )
    parser.add_argument("--model", type=Path, required=True, help="a model folder")
    parser.add_argument("--name", required=True, help="of the model, in the page")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="the JSON file")
    args = parser.parse_args(argv)
    found: Found = {"models": {}}
    if args.figures.exists():
        found = json.loads(args.figures.read_text("utf-8"))
    found["machine"] = machine()
    found["models"][args.name] = measure(open_checkpoint(args.model), args.model, args.data)
    found["models"] = dict(sorted(found["models"].items()))
    args.figures.write_text(json.dumps(found, indent=1) + "\n", "utf-8")  # as the page has them
    return 0


def measure(checkpoint: Checkpoint, model: Path, data: Path | None) -> Found:
    """All figures of one model, JSON-ready."""
    if data is None:
        every = own_text(checkpoint, (SAMPLES + TEST_WINDOWS) * LENGTH)
        train, valid = every[: SAMPLES * LENGTH], every[SAMPLES * LENGTH :]
    else:
        train, valid = wikitext(Tokenizer.open(model), data)
    samples = windows(train, SAMPLES, LENGTH)
    seen = list(dense_layers(checkpoint, samples[:LAYER_SAMPLES]))
    return {
        "text": "its own" if data is None else "WikiText-2",
        "linears": len(seen),
        "ties": ties(seen),
        "correction": correction(seen),
        "equalization": equalization(seen),
        "scan": scan(checkpoint, samples, valid),
    }


def wikitext(tokenizer: Tokenizer, data: Path) -> tuple[list[int], list[int]]:
    """For calibration and for the test."""
    train, valid = (
        tokenizer.encode((data / "wikitext2" / name).read_text("utf-8"), special=False)
        for name in ("train_head_1MB.nonempty-lines.txt", "wiki.valid.raw")
    )
    return train, valid


def own_text(checkpoint: Checkpoint, count: int) -> list[int]:
    """What the dense model writes at temperature 1, text after text: nobody knows it better."""
    weights, ids = checkpoint.weights(), list[int]()
    begin = checkpoint.config.bos_token_id
    if begin is None:
        raise SystemExit("a model without a begin-of-text token: --data is needed")
    with tqdm(total=count, desc="text", unit="token") as bar:
        for seed in range(count):
            text = [begin]
            for token in generate(weights, checkpoint.config, text[:1], LENGTH - 1, 1.0, seed):
                text.append(token)
            bar.update(len(text))
            ids += text
            if len(ids) >= count:
                break
    return ids[:count]


@dataclass(frozen=True, eq=False)
class Layer:
    """A dense weight [R, K] and its inputs X: their statistics, and X^T X as `gram` [K, K]."""

    name: str
    weight: F32
    inputs: Statistics

    def inner(self, a: F32, b: F32) -> float:
        """<A X^T, B X^T>: of the outputs that two weights give."""
        gram = self.inputs.gram
        assert gram is not None
        return float(np.vdot(a.astype(np.float64) @ gram.astype(np.float64), b))


def dense_layers(checkpoint: Checkpoint, samples: list[list[int]]) -> Iterator[Layer]:
    """The linears of at most BLOCKS blocks, evenly spread, in the dense model."""
    config, weights = checkpoint.config, checkpoint.weights()
    every = -(-config.num_hidden_layers // BLOCKS)
    stream = np.stack([llama.embed(checkpoint.tensors, ids) for ids in samples])
    for layer in range(config.num_hidden_layers):
        seen = calibrate(weights, config, layer, stream, gram=True, put=stream.__setitem__)
        if layer % every:
            continue
        for name in linear_names(config):
            if name.startswith(f"model.layers.{layer}."):
                weight = np.asarray(weights[name], dtype=np.float32)
                yield Layer(name, weight, seen[llama.input_tap(name)])


def ties(layers: list[Layer]) -> Found:
    """By pattern: the share of whole blocks where sizes are equal just where N ends."""
    found: Found = {}
    for pattern in PATTERNS:
        equal = total = 0
        for layer in layers:
            rows, columns = layer.weight.shape
            whole = np.abs(layer.weight[:, : columns - columns % pattern.block])
            ordered = np.sort(whole.reshape(rows, -1, pattern.block), axis=-1)
            cut = pattern.block - pattern.stored
            equal += int((ordered[..., cut - 1] == ordered[..., cut]).sum())
            total += ordered[..., 0].size
        found[str(pattern)] = round(equal / total, 5) if total else 0.0
    return found


def correction(layers: list[Layer]) -> Found:
    """By pattern and outliers: factors and squared errors over the outputs' power, means."""
    found: Found = {}
    for pattern in (PATTERNS[0], HALF):
        for outliers in (None, OUTLIERS[-1]):
            rows = [corrected(layer, pattern, outliers) for layer in layers]
            label = str(pattern) if outliers is None else f"{pattern} + {outliers}"
            found[label] = {name: round(fmean(row[name] for row in rows), 5) for name in rows[0]}
    return found


def corrected(layer: Layer, pattern: NMPattern, outliers: NMPattern | None) -> dict[str, float]:
    """The factors of one layer, chosen by RIA, and what each costs.

    With W the dense weights that are not outliers and B the base, the outputs' squared error with
    factor c is |W|^2 - 2 c <W, B> + c^2 |B|^2 in the inner product of the outputs.
    """
    weight = layer.weight
    base, salient = split(
        importance(weight, layer.inputs, Recipe(pattern), layer.name), pattern, outliers
    )
    zero = np.float32(0)
    rest = weight if salient is None else np.where(salient, zero, weight)
    kept = np.where(base, weight, zero)
    power, total = layer.inner(rest, rest), layer.inner(weight, weight)
    cross, own = layer.inner(rest, kept), layer.inner(kept, kept)
    factors = {
        "one": 1.0,
        "rest": float(variance.factor(weight, base, salient, Correction("rest"))),
        "dense": float(variance.factor(weight, base, salient, Correction("dense"))),
        "power": (power / own) ** 0.5,
        "least": cross / own,
    }
    errors = {
        f"error {name}": (power - 2 * c * cross + c * c * own) / total
        for name, c in factors.items()
    }
    return {f"factor {name}": c for name, c in factors.items()} | errors


def equalization(layers: list[Layer]) -> Found:
    """Squared error over the outputs' power with every reading of Eq. 1, 2:4 by RIA, means."""
    found: dict[str, list[float]] = defaultdict(list)
    for layer in layers:
        for label, how in {"none": None, **equalizations()}.items():
            recipe = replace(Recipe(PATTERNS[0]), equalize=how)
            base, _ = split(
                importance(layer.weight, layer.inputs, recipe, layer.name), PATTERNS[0], None
            )
            lost = np.where(base, np.float32(0), layer.weight)
            found[label].append(layer.inner(lost, lost) / layer.inner(layer.weight, layer.weight))
    return {label: round(fmean(errors), 5) for label, errors in found.items()}


def scan(checkpoint: Checkpoint, samples: list[list[int]], test: list[int]) -> Found:
    """Perplexities of the model by RIA at 8:16, its base weights times one factor."""

    def value(weights: Any) -> float:
        bar.update()
        return round(perplexity(weights, checkpoint.config, test, LENGTH, TEST_WINDOWS), 3)

    every = tuple(kind for kinds in GROUPS.values() for kind in kinds)
    bar = tqdm(desc="models", unit="model")
    found: Found = {"dense": value(checkpoint.weights())}
    for outliers in (None, OUTLIERS[-1]):
        weights, bases = pruned(checkpoint, Recipe(HALF, outliers), samples)
        label = str(HALF) if outliers is None else f"{HALF} + {outliers}"
        cases: dict[str, tuple[tuple[str, ...], tuple[float, ...]]] = {"all": (every, FACTORS)}
        cases |= {group: (kinds, GROUP_FACTORS) for group, kinds in GROUPS.items()}
        found[label] = {
            group: {str(c): value(weights | scaled(weights, bases, kinds, c)) for c in factors}
            for group, (kinds, factors) in cases.items()
        }
        sys.stdout.write(json.dumps({label: found[label]}, indent=1) + "\n")
        sys.stdout.flush()
    bar.close()
    return found


def scaled(
    weights: dict[str, F32], bases: dict[str, Bool], kinds: tuple[str, ...], factor: float
) -> dict[str, F32]:
    """The linears of these kinds with their base weights times a factor."""
    return {
        name: variance.correct(weights[name], base, np.float32(factor))
        for name, base in bases.items()
        if name.split(".")[-2] in kinds
    }


def pruned(
    checkpoint: Checkpoint, recipe: Recipe, samples: list[list[int]]
) -> tuple[dict[str, F32], dict[str, Bool]]:
    """Weights of the pruned model, and the base mask of every linear."""
    streams = Streams((len(samples), LENGTH, checkpoint.config.D), None)
    embed(checkpoint, samples, streams)
    patterns = assign(recipe, linear_names(checkpoint.config))
    weights = {name: np.asarray(weight) for name, weight in checkpoint.weights().items()}
    bases: dict[str, Bool] = {}
    for block in prune_blocks(checkpoint, recipe, streams, patterns):
        weights |= {name: one.weight for name, one in block.pruned.items()}
        bases |= {name: one.mask.base for name, one in block.pruned.items()}
    return weights, bases
