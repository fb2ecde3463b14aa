"""nmref corpus OUT."""

from __future__ import annotations

import argparse
from pathlib import Path

from nmref.cli.common import positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nmref corpus`."""
    parser.epilog = (
        "Other fills than encode's, tails, stored -0 and NaN, every mix of dtypes, JSON in any\n"
        "order with white space and escapes. manifest.json has the digests of the files and of\n"
        "every tensor that reading them gives. The same seed gives the same bytes everywhere.\n\n"
        "example:\n"
        "  nmref corpus OUT --seed 1 -n 1000"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="a new folder")
    parser.add_argument("--seed", type=int, default=1, help="default 1")
    parser.add_argument("-n", type=positive, default=100, help="files (default 100)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the digest of the manifest."""
    from nmref.conformance.suite.corpus import write
    from nmref.numerics import SplitMix64

    SplitMix64(args.seed)  # its range
    digest = write(args.out, args.seed, args.n)
    print(f"{args.out}: {args.n} files")
    print(f"digest {digest}")
    return 0
