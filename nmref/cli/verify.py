"""nmref verify PATH."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from nmref.cli.common import add_json, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nmref verify`."""
    parser.epilog = "example:\n  nmref verify PACKED_FOLDER"
    parser.add_argument("path", type=Path, help="a file, an index, or a folder that has one")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 0 when every check passes; warnings do not change that."""
    from tqdm import tqdm

    from nmref.container import verify

    with tqdm(desc="verify", unit="tensor", leave=False) as bar:
        reports = verify(args.path, lambda name: bar.update() and None)
    if args.json:
        print_json({"valid": True, "files": [asdict(report) for report in reports]})
        return 0
    for report in reports:
        held = f"{report.weights} sparse weights, {report.tensors} other tensors"
        print(f"OK {report.path}: {held}, {report.bytes} bytes")
        print(f"   content_sha256 {report.content_sha256}")
        for warning in report.warnings:
            print(f"   {warning}")
    return 0
