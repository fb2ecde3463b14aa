"""nmref conform -- CMD..."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nmref.cli.common import note
from nmref.errors import Code, NmrefError

HERE = Path("conformance/vectors")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nmref conform`."""
    parser.epilog = (
        "CMD is a client, a program that answers cases on stdin and stdout: conformance/README.md\n"
        "says how to write one. Exit 0: every case passed, was skipped or is a known failure;\n"
        "1: one did not, or nothing was checked; 2: usage.\n\n"
        "examples:\n"
        "  nmref conform -- python conformance/examples/client.py\n"
        "  nmref conform --part codes --junit out.xml -- ./my-decoder --conformance\n"
        "  nmref conform --self"
    )
    parser.add_argument("command", nargs="*", metavar="CMD", help="the client, after --")
    parser.add_argument(
        "--self",
        nargs="?",
        const="fast",
        choices=("fast", "plain"),
        dest="twin",
        help="nmref is the client, by its compiled or its plain twin",
    )
    parser.add_argument("--vectors", type=Path, metavar="DIR", help=f"default: ./{HERE}")
    parser.add_argument(
        "--level",
        action="append",
        choices=("core", "strict", "numeric"),
        help="repeatable, default all; strict is core with the codes of rejections checked",
    )
    parser.add_argument(
        "--ordered",
        action="store_true",
        help="a rejection has to name the code of the first failing check (SPEC part 6)",
    )
    parser.add_argument("--part", action="append", metavar="P", help="only this part; repeatable")
    parser.add_argument("--case", metavar="GLOB", help="only cases whose id matches")
    parser.add_argument("--known", type=Path, metavar="FILE", help="known failures, with reasons")
    parser.add_argument(
        "--timeout", type=_seconds, default=60.0, metavar="S", help="for one case (default 60)"
    )
    parser.add_argument("--junit", type=Path, metavar="F", help="write JUnit XML")
    parser.add_argument("--json", type=Path, metavar="F", dest="json_file", help="write JSON")
    parser.set_defaults(run=run, usage_error=parser.error)


def run(args: argparse.Namespace) -> int:
    """Prints the report; progress goes to stderr."""
    from tqdm import tqdm

    from nmref.conformance import known, report, runner, vectors

    command = _command(args)
    suite = vectors.load(_vectors(args))
    levels = tuple(args.level or vectors.LEVELS)
    cases = vectors.select(suite, levels, args.part or (), args.case)
    failures = known.read(args.known) if args.known else {}
    known.check(failures, suite.cases, str(args.known))
    options = runner.Options("strict" in levels, args.ordered, args.timeout)
    with tqdm(total=len(cases), desc="conform", unit="case", leave=False, delay=1) as bar:
        found = runner.run(command, cases, options, failures, lambda result: bar.update() and None)
    for line in report.text(found, suite.flags):
        print(line)
    if args.junit:
        _write(args.junit, report.junit(found))
    if args.json_file:
        from nmref.conformance.text import json_bytes

        _write(args.json_file, json_bytes(report.document(found, levels)))
    if found.interrupted:
        note("interrupted")
        return 130
    return 0 if found.ok else 1


def _command(args: argparse.Namespace) -> list[str]:
    """What to run; exactly one of CMD and --self."""
    if bool(args.command) == bool(args.twin):
        args.usage_error("a client after --, or --self")
    if args.twin:
        return [sys.executable, "-m", "nmref.conformance.client", "--twin", args.twin]
    return list(args.command)


def _vectors(args: argparse.Namespace) -> Path:
    if args.vectors is None and not HERE.is_dir():
        raise NmrefError(Code.T_FILE, str(HERE), "no such folder", "--vectors DIR")
    return args.vectors or HERE


def _write(path: Path, data: bytes) -> None:
    from nmref.container.atomic import new_file

    with new_file(path) as file:
        file.write(data)


def _seconds(text: str) -> float:
    """Argument type: a time, more than 0."""
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return value
