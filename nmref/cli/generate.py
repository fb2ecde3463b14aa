"""nmref generate MODEL."""

from __future__ import annotations

import argparse
from pathlib import Path

from nmref.cli.common import cpus, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nmref generate`."""
    parser.epilog = (
        'example:\n  nmref generate MODEL --prompt "Once upon a time" --max-new-tokens 40'
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a dense or packed model folder")
    parser.add_argument("--prompt", required=True, metavar="TEXT")
    parser.add_argument("--max-new-tokens", type=positive, default=40, metavar="N")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy (default)")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling (default 0)")
    parser.add_argument(
        "--profile",
        metavar="NAME",
        help="golden arithmetic with this dot profile (SPEC 8.15): the same text on every machine",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the prompt and its continuation, piece by piece."""
    from nmref.linear import FAST
    from nmref.model.checkpoint import open_checkpoint
    from nmref.model.generate import generate
    from nmref.model.tokenizer import Tokenizer
    from nmref.numerics import Golden

    ops = Golden(args.profile, threads=cpus()) if args.profile else FAST
    checkpoint = open_checkpoint(args.model)
    tokenizer = Tokenizer.open(args.model)
    prompt = tokenizer.prompt(args.prompt, checkpoint.config.bos_token_id)
    tokens = generate(
        checkpoint.weights(),
        checkpoint.config,
        prompt,
        args.max_new_tokens,
        args.temperature,
        args.seed,
        ops,
    )
    print(args.prompt, end="", flush=True)
    for piece in tokenizer.stream(tokens, prompt):
        print(piece, end="", flush=True)
    print()
    return 0
