"""nmref verify PATH."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from nmref.cli.common import add_json, print_json

if TYPE_CHECKING:
    from nmref.container import FileReport
    from nmref.prune.masks.zeros import ZeroReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nmref verify`."""
    parser.epilog = (
        "examples:\n  nmref verify PACKED_FOLDER\n"
        "  nmref verify DENSE_FOLDER --mask masks.safetensors"
    )
    parser.add_argument("path", type=Path, help="a file, an index, or a folder that has one")
    parser.add_argument(
        "--mask",
        type=Path,
        metavar="FILE",
        help="weights are zero outside these masks too; PATH may then be dense",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 when every check passes; warnings do not change that."""
    reports, zeros = _verify(args.path) if args.mask is None else _verify_zeros(args)
    if args.json:
        files = [asdict(report) for report in reports]
        masked = {} if zeros is None else {"mask": {"path": str(args.mask), **asdict(zeros)}}
        print_json({"valid": True, "files": files, **masked})
        return 0
    for report in reports:
        held = f"{report.weights} sparse weights, {report.tensors} other tensors"
        print(f"OK {report.path}: {held}, {report.bytes} bytes")
        print(f"   content_sha256 {report.content_sha256}")
        for warning in report.warnings:
            print(f"   {warning}")
    if zeros is not None:
        held = f"{zeros.weights} weights are zero outside {args.mask}"
        share = zeros.nonzero / zeros.elements if zeros.elements else 0.0
        print(f"OK {args.path}: {held}, {share:.2%} of their elements are not zero")
    return 0


def _verify(path: Path) -> tuple[list[FileReport], None]:
    from tqdm import tqdm

    from nmref.container import verify

    with tqdm(desc="verify", unit="tensor", leave=False) as bar:
        return verify(path, lambda name: bar.update() and None), None


def _verify_zeros(args: argparse.Namespace) -> tuple[list[FileReport], ZeroReport]:
    """The mask file first, then a packed PATH by all its own rules, then the zeros."""
    from tqdm import tqdm

    from nmref.prune.masks import maskfile, zeros

    masks, weights = maskfile.read(args.mask), zeros.StoredWeights(args.path)
    reports = _verify(args.path)[0] if weights.packed else []
    with tqdm(total=len(masks), desc="zeros", unit="weight", leave=False) as bar:
        return reports, zeros.check_zeros(weights, masks, lambda name: bar.update() and None)
