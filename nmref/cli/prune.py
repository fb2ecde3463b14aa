"""nmref prune SRC OUT."""

from __future__ import annotations

import argparse
from pathlib import Path

from nmref.cli.common import note, positive, read_text
from nmref.errors import Code, NmrefError
from nmref.pattern import base_pattern, outlier_pattern


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nmref prune`."""
    parser.epilog = (
        "example:\n  nmref prune MODEL OUT --pattern 8:16 --outliers 16:256 --score ria \\\n"
        "      --calibration text.txt --samples 16 --seqlen 512"
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="a dense model folder")
    parser.add_argument("target", type=Path, metavar="OUT", help="the packed model folder to make")
    parser.add_argument("--pattern", default="8:16", help="N:M, N stored (default 8:16)")
    parser.add_argument(
        "--outliers", default="16:256", help="4:256, 8:256, 16:256 or none (default 16:256)"
    )
    parser.add_argument("--score", choices=("magnitude", "ria"), default="ria")
    parser.add_argument("--calibration", type=Path, metavar="FILE", help="a text; ria needs one")
    parser.add_argument("--samples", type=positive, default=16, help="windows of the text (16)")
    parser.add_argument("--seqlen", type=positive, default=512, help="tokens in a window (512)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Calibrate, score, choose, pack; the folder appears when all is done."""
    from tqdm import tqdm

    from nmref.model.checkpoint import open_checkpoint
    from nmref.model.config import linear_names
    from nmref.prune import Recipe, prune

    outliers = None if args.outliers == "none" else outlier_pattern(args.outliers)
    recipe = Recipe(base_pattern(args.pattern), outliers, args.score)
    checkpoint = open_checkpoint(args.source)
    samples = _samples(args, recipe.score)
    with tqdm(total=len(linear_names(checkpoint.config)), desc="prune", unit="matrix") as bar:
        summary = prune(
            checkpoint, args.target, recipe, samples, lambda name: bar.update() and None
        )
    rate = f"{summary.outliers / summary.elements:.2%}" if summary.elements else "none"
    note(f"wrote {args.target}: {summary.matrices} matrices, outliers {rate} of their elements")
    return 0


def _samples(args: argparse.Namespace, score: str) -> list[list[int]]:
    """Calibration windows; magnitude needs none."""
    from nmref.model.tokenizer import Tokenizer
    from nmref.prune.calibrate import windows

    if score == "magnitude":
        return []
    if args.calibration is None:
        raise NmrefError(Code.T_ARGUMENT, "--calibration", "nothing", f"a text, for {score}")
    text = read_text(args.calibration, "calibration text")
    ids = Tokenizer.open(args.source).encode(text, special=False)
    try:
        return windows(ids, args.samples, args.seqlen)
    except NmrefError as error:
        raise error.inside(str(args.calibration)) from None
