"""nmref pack SRC OUT."""

from __future__ import annotations

import argparse
from pathlib import Path

from nmref.cli.common import note, positive
from nmref.pattern import base_pattern


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nmref pack`."""
    parser.epilog = (
        "example:\n  nmref pack PRUNED_FOLDER PACKED_FOLDER --pattern 2:4\n\n"
        "Refuses a weight that does not fit (X_OVERFULL): `nmref prune` chooses what to keep."
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="a dense model folder")
    parser.add_argument("target", type=Path, metavar="OUT", help="the packed model folder to make")
    parser.add_argument("--pattern", default="8:16", help="N:M, N stored (default 8:16)")
    parser.add_argument(
        "--normalise-zero", action="store_true", help="-0 becomes +0 (w * mask makes -0)"
    )
    parser.add_argument(
        "--max-shard-bytes", type=positive, default=5_000_000_000, help="of one file (5e9)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """One tensor at a time; the folder appears when all is done."""
    from tqdm import tqdm

    from nmref.interop.pack import pack_folder

    with tqdm(desc="pack", unit="tensor") as bar:
        files = pack_folder(
            args.source,
            args.target,
            base_pattern(args.pattern),
            clear_negative_zero=args.normalise_zero,
            max_bytes=args.max_shard_bytes,
            progress=lambda name: bar.update() and None,
        )
    note(f"wrote {args.target}, {len(files)} file{'s' if len(files) > 1 else ''} of weights")
    return 0
