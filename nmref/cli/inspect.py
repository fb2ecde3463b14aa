"""nmref inspect PATH."""

from __future__ import annotations

import argparse
from pathlib import Path

from nmref.cli.common import add_json, print_json, print_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nmref inspect`."""
    parser.epilog = "example:\n  nmref inspect PACKED_FOLDER --all"
    parser.add_argument("path", type=Path, help="a file, an index, or a folder that has one")
    parser.add_argument("--all", action="store_true", help="a row for each weight, not a group")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Reads headers only."""
    from nmref.container.inventory import inventory

    found = inventory(args.path)
    if args.json:
        print_json(found.as_dict())
        return 0
    rows = found.weights if args.all else found.groups()
    print_table(
        ("weights", "count", "shape", "pattern", "outliers", "dtype", *BITS),
        [(*row.labels(), *(f"{bits:.4f}" for bits in row.bits())) for row in rows],
    )
    print(f"\n{found.summary()}")
    return 0


BITS = ("codes", "values", "out pos", "out val", "bits/elem")
