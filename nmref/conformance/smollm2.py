"""Digests of SmolLM2-135M traces: `python -m nmref.conformance.smollm2 [--check]`.

A real model through the golden forward: 16 tokens, f64.seq+merged, dense and pruned by magnitude
(no activations, so that the packed models are the same bits everywhere).  The file
conformance/traces/smollm2.json has digests only; the model is fetched.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nmref.conformance.text import json_bytes
from nmref.conformance.trace import digests, identity
from nmref.container.atomic import new_file
from nmref.container.metadata import SPEC_VERSION
from nmref.errors import Code, NmrefError
from nmref.model.checkpoint import Checkpoint, open_checkpoint
from nmref.model.fetch import fetch
from nmref.model.tokenizer import Tokenizer
from nmref.numerics import Golden
from nmref.pattern import base_pattern, outlier_pattern
from nmref.prune import Recipe, prune

MODEL = "smollm2-135m"
PATH = "conformance/traces/smollm2.json"
SCHEMA = "urn:nmref:schema:model-traces:1"
PROMPT = "No one who had ever seen Catherine Morland in her infancy would have supposed her born"
TOKENS = 16
VARIANTS = {"dense": None, "8:16": ("8:16", None), "8:16+16:256": ("8:16", "16:256")}


def golden_traces(model: Path, threads: int = 1, progress: bool = False) -> dict[str, Any]:
    """The content of the file, from a folder of the dense BF16 model."""
    tokens = Tokenizer.open(model).encode(PROMPT)[:TOKENS]
    ops = Golden(threads=threads)
    variants = {}
    with tempfile.TemporaryDirectory(prefix="nmref-") as scratch:
        folders = _folders(model, Path(scratch))
        bar = tqdm(folders, MODEL, len(VARIANTS), disable=not progress, file=sys.stderr)
        for name, checkpoint in bar:
            weights, config = checkpoint.weights(), checkpoint.config
            trace, taps = digests(weights, config, tokens, ops)
            variants[name] = {"model": vars(identity(checkpoint)), "trace": trace, "taps": taps}
    return {
        "schema": SCHEMA,
        "spec": {"version": SPEC_VERSION, "clause": "8.37"},
        "source": f"nmref fetch {MODEL}; the linear weights by nmref prune --score magnitude",
        "profile": str(ops.dots),
        "prompt": PROMPT,
        "tokens": tokens,
        "variants": variants,
    }


def _folders(model: Path, scratch: Path) -> Iterator[tuple[str, Checkpoint]]:
    dense = open_checkpoint(model)
    for name, patterns in VARIANTS.items():
        if patterns is None:
            yield name, dense
            continue
        base, outliers = patterns
        recipe = Recipe(
            base_pattern(base), outlier_pattern(outliers) if outliers else None, "magnitude"
        )
        target = scratch / name.replace(":", "-")
        prune(dense, target, recipe, [])
        yield name, open_checkpoint(target)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command.  Exit 1: the digests differ from the file, or the model cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m nmref.conformance.smollm2")
    parser.add_argument("--model", type=Path, help=f"a folder (default: nmref fetch {MODEL})")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository (default: here)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if it differs")
    args = parser.parse_args(arguments)
    path = args.root / PATH
    try:
        model = args.model or fetch(MODEL)
        content = json_bytes(golden_traces(model, args.threads, progress=True))
        if not args.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            with new_file(path) as file:
                file.write(content)
        elif not path.is_file() or path.read_bytes() != content:
            raise NmrefError(Code.T_FILE, str(path), "differs", "the digests of this machine")
    except NmrefError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
