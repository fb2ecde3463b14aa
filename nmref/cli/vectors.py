"""nmref vectors list | build | dot | check."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nmref.cli.common import add_json, positive, print_json, print_table
from nmref.errors import Code, NmrefError

_VECTORS = Path("conformance/vectors")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nmref vectors`."""
    parser.epilog = (
        "dot writes one line for each dot: NUMBER K, then K elements of W and K of x in\n"
        "hexadecimal. check reads the same comment line and lines NUMBER RESULT.\n\n"
        "examples:\n"
        "  nmref vectors list --flag lex-order\n"
        "  nmref vectors list --clause 4.3\n"
        "  nmref vectors build OUT --seed 1 --count 1000\n"
        "  nmref vectors dot --profile f32.fma --seed 7 -n 10000 | ./simulator | "
        "nmref vectors check"
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="show the cases of a folder of vectors")
    listing.add_argument("--vectors", type=Path, default=_VECTORS, help=f"default {_VECTORS}")
    listing.add_argument("--part", help="only this part, such as codes")
    listing.add_argument("--clause", help="only cases that test this clause, such as 4.3")
    listing.add_argument("--flag", help="only cases that hunt this bug")
    add_json(listing)
    listing.set_defaults(run=_list)
    build = actions.add_parser("build", help="make a bigger random set, expected values by nmref")
    build.add_argument("out", type=Path, metavar="OUT", help="a new folder")
    build.add_argument("--seed", type=int, default=1, help="default 1")
    build.add_argument("--count", type=positive, default=100, help="cases a part (default 100)")
    build.set_defaults(run=_build)
    dot = actions.add_parser("dot", help="write random dots as text")
    dot.add_argument("--profile", required=True, help="such as f32.seq (SPEC 8.15)")
    dot.add_argument("--seed", type=int, default=1, help="default 1")
    dot.add_argument("-n", type=positive, default=1000, help="how many (default 1000)")
    dot.add_argument("-k", type=positive, help="elements of each (default: 1 to 64)")
    dot.add_argument("--dtype", choices=("F32", "F16", "BF16", "I8"), help="of W and x")
    dot.set_defaults(run=_dot)
    check = actions.add_parser("check", help="compare results of dots with nmref's")
    check.add_argument("file", nargs="?", type=Path, help="default: standard input")
    check.set_defaults(run=_check)


def _list(args: argparse.Namespace) -> int:
    from nmref.conformance.vectors import load

    suite = load(args.vectors)
    if args.part is not None and args.part not in suite.parts:
        want = f"one of {', '.join(suite.parts)}"
        raise NmrefError(Code.T_ARGUMENT, "part", args.part, want)
    if args.flag is not None and args.flag not in suite.flags:
        raise NmrefError(Code.T_ARGUMENT, "flag", args.flag, "a flag of flags.json")
    if args.clause is not None and args.clause not in suite.clauses:
        raise NmrefError(Code.T_ARGUMENT, "clause", args.clause, "a clause that a case tests")
    found = [
        case
        for case in suite.cases
        if (args.part is None or case.part == args.part)
        and (args.flag is None or args.flag in case.flags)
        and (args.clause is None or args.clause in case.clauses)
    ]
    if args.json:
        members = ("id", "part", "op", "level", "clauses", "flags", "rejected")
        print_json([{name: getattr(case, name) for name in members} for case in found])
        return 0
    rows = [(case.id, case.part, case.level, " ".join(case.clauses)) for case in found]
    print_table(("case", "part", "level", "clauses"), rows)
    if args.flag is not None:
        print(f"\n{args.flag}: {suite.flags[args.flag]}")
    print(f"\n{len(found)} cases")
    return 0


def _build(args: argparse.Namespace) -> int:
    import hashlib

    from nmref.conformance.suite import build
    from nmref.conformance.suite.author import Nmref
    from nmref.conformance.suite.chances import random_parts
    from nmref.container.atomic import new_folder
    from nmref.numerics import SplitMix64

    SplitMix64(args.seed)  # its range
    files = build(random_parts(args.seed, args.count), Nmref())
    with new_folder(args.out) as place:
        for name, content in files.items():
            path = place / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
    total = sum(map(len, files.values()))
    print(f"{args.out}: {len(files)} files, {total} bytes")
    print(f"digest {hashlib.sha256(files['MANIFEST.json']).hexdigest()}")
    return 0


def _dot(args: argparse.Namespace) -> int:
    from nmref.conformance.suite.pipe import Order, lines

    dtype = args.dtype or ("I8" if args.profile == "i32" else "F32")
    order = Order.make(args.profile, args.seed, args.n, args.k or 0, dtype)
    for line in lines(order):
        print(line)
    return 0


def _check(args: argparse.Namespace) -> int:
    from nmref.conformance.suite.pipe import check

    if args.file is None:
        order = check(sys.stdin)
    else:
        with args.file.open(encoding="ascii", errors="replace") as text:
            order = check(text)
    print(f"{order.n} dots by {order.profile} are right")
    return 0
