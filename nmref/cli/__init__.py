"""The command `nmref`: one small module for each subcommand, imported when it is used.

Results go to stdout, progress and messages to stderr.  Exit 0: good; 1: the input is bad (one
line that begins with the code); 2: usage; 130: interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from nmref import __version__
from nmref.cli.common import print_json
from nmref.errors import NmrefError

COMMANDS = {
    "fetch": "get a small model into the cache",
    "prune": "prune and pack a model",
    "pack": "pack a model that is pruned already",
    "unpack": "write the dense form of a packed model or file",
    "inspect": "show what a file holds and what it costs",
    "verify": "check files to the last byte",
    "generate": "continue a text",
    "eval": "measure perplexity",
    "trace": "write the intermediate results of a forward, or compare two such traces",
    "conform": "run a program against the conformance suite",
    "vectors": "list or make conformance vectors, or check dots as text",
    "corpus": "make unusual valid files to test readers with",
    "warmup": "compile all kernels for this machine, or remove compiled ones",
    "doctor": "show what this machine offers and how it is used, and test that it works",
    "bench": "measure products here, beside NumPy's",
    "demo": "the whole path on a real model",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    chosen = next((word for word in arguments if word in COMMANDS), None)
    parser = _parser(chosen)
    args = parser.parse_args(arguments)
    try:
        return int(args.run(args))
    except NmrefError as error:
        if getattr(args, "json", False):
            print_json({"valid": False, "code": error.code, "message": str(error)})
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        where = error.filename if error.filename is not None else "system"
        print(f"T_FILE {where}: {error.strerror or error}, want it to work", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    """All commands by name; the arguments of the chosen one only, whose module is imported."""
    parser = argparse.ArgumentParser(
        prog="nmref", description="The reference for N:M sparse LLM weights."
    )
    parser.add_argument("--version", action="version", version=f"nmref {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = subparsers.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == chosen:
            import_module(f"nmref.cli.{name}").add_arguments(command)
    return parser
