"""nmref unpack SRC OUT."""

from __future__ import annotations

import argparse
from pathlib import Path

from nmref.cli.common import note


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nmref unpack`."""
    parser.epilog = (
        "examples:\n  nmref unpack PACKED_FOLDER DENSE_FOLDER\n"
        "  nmref unpack model.nmref.safetensors dense.safetensors"
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="a packed model folder or file")
    parser.add_argument("target", type=Path, metavar="OUT", help="the folder or file to make")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Every sparse weight becomes the dense matrix it stands for, bit for bit."""
    from nmref.interop.dense import unpack_file, unpack_folder

    (unpack_folder if args.source.is_dir() else unpack_file)(args.source, args.target)
    note(f"wrote {args.target}")
    return 0
