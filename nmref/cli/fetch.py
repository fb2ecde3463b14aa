"""nmref fetch NAME."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nmref fetch`."""
    parser.epilog = (
        "examples:\n  nmref fetch smollm2-135m\n  nmref fetch hf:HuggingFaceTB/SmolLM2-135M\n\n"
        "Prints the folder.  The cache: $NMREF_CACHE_DIR, $XDG_CACHE_HOME/nmref or ~/.cache/nmref."
    )
    parser.add_argument("name", help="smollm2-135m (93 MB), or hf:ORG/NAME")
    parser.add_argument(
        "--dtype", choices=("BF16", "F16", "F32"), default="BF16", help="of the weights written"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fetch once; later calls find the folder."""
    from nmref.model.fetch import fetch

    print(fetch(args.name, dtype=args.dtype))
    return 0
