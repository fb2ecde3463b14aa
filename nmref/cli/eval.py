"""nmref eval MODEL --perplexity FILE."""

from __future__ import annotations

import argparse
from pathlib import Path

from nmref.cli.common import add_json, positive, print_json, read_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nmref eval`."""
    parser.epilog = (
        "example:\n  nmref eval MODEL --perplexity text.txt --window 1024 --windows 8\n\n"
        "Windows follow each other and know nothing of each other; no begin-of-text token;\n"
        "each counts the mean loss of its window - 1 targets."
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a dense or packed model folder")
    parser.add_argument("--perplexity", type=Path, required=True, metavar="FILE", help="a text")
    parser.add_argument("--window", type=positive, default=1024, metavar="L", help="tokens (1024)")
    parser.add_argument("--windows", type=positive, metavar="N", help="default: all whole windows")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the perplexity."""
    from nmref.errors import NmrefError
    from nmref.evaluate.perplexity import perplexity
    from nmref.model.checkpoint import open_checkpoint
    from nmref.model.tokenizer import Tokenizer

    checkpoint = open_checkpoint(args.model)
    text = read_text(args.perplexity, "text")
    ids = Tokenizer.open(args.model).encode(text, special=False)
    windows = args.windows or max(1, len(ids) // args.window)
    try:
        value = perplexity(
            checkpoint.weights(), checkpoint.config, ids, args.window, windows, progress=True
        )
    except NmrefError as error:
        raise error.inside(str(args.perplexity)) from None
    if args.json:
        print_json({"perplexity": value, "window": args.window, "windows": windows})
    else:
        print(f"perplexity {value:.4f} ({windows} windows of {args.window} tokens)")
    return 0
