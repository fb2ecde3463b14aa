"""Broken clients through the runner: `python -m tests.conformance.kills [--check]`.

Writes conformance/KILLS.md: which case of its flag catches which bug.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from nmref.conformance.runner import Options, Run, load, run
from nmref.conformance.suite.flags import FLAGS
from nmref.conformance.vectors import Case
from tests.conformance.format_mutants import FORMAT
from tests.conformance.forward_mutants import MORE
from tests.conformance.vector_mutants import NUMERIC

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "conformance" / "KILLS.md"

TRACES = ("nmref-tiny:window", "nmref-tiny:tied", "nmref-tiny:llama3", "nmref-tiny")
"""Models of the traces that a broken forward is asked for: the first of them with its flag."""

COLUMNS = ("mutant", "what is broken", "flag", "op", "cases", "failed", "crashed", "first case")


class Mutant(NamedTuple):
    """A broken client: its name for mutant_client, what is broken, the flag of its class."""

    name: str
    what: str
    flag: str

    @property
    def area(self) -> str:
        return AREAS[self.name.split("/")[0]]


AREAS = {
    "format": "codes, slots, elements, encode, outliers, files",
    "numeric": "dots, functions, RoPE, forward",
    "more": "attention, RoPE, functions, order of checks, shards",
}


def registry() -> list[Mutant]:
    """Every mutant, in the order of the table; of the format one for each flag.

    tests/conformance/test_vectors.py has all of the format, without a runner.
    """
    found = []
    for flag, names in FORMAT.items():
        found.append(Mutant(f"format/{flag}/1", names[0], flag))
    for flag in (*NUMERIC, "subnormal-flushed"):
        what = FLAGS[flag] if flag in NUMERIC else "results of dots and sums flushed to zero"
        found.append(Mutant(f"numeric/{flag}/1", what, flag))
    for flag, bugs in MORE.items():
        found += [Mutant(f"more/{flag}/{i}", what, flag) for i, what in enumerate(bugs, 1)]
    return found


def cases_of(mutant: Mutant, every: Iterable[Case]) -> list[Case]:
    """The cases with its flag; of traces only the first, of a small model."""
    flagged = [case for case in every if mutant.flag in case.flags]
    numeric = not mutant.name.startswith("format/")
    if mutant.name.startswith("numeric/"):
        flagged = [case for case in flagged if case.level == "numeric"]
    traces = [case for case in flagged if case.op == "trace" and numeric]
    traces = [case for case in traces if case.profile == "f64.seq+merged"]
    traces = [case for model in TRACES for case in traces if case.input["model"] == model]
    return [case for case in flagged if case.op != "trace"] + traces[:1]


def judged(mutant: Mutant, every: Iterable[Case]) -> Run:
    """The runner's results of a mutant."""
    command = [sys.executable, "-m", "tests.conformance.mutant_client", mutant.name]
    options = Options(ordered=mutant.flag == "order-of-checks", timeout=120.0)
    return run(command, cases_of(mutant, every), options)


def row(mutant: Mutant, found: Run) -> tuple[str, ...]:
    """A line of the table."""
    done = [result for result in found.results if result.verdict != "skipped"]
    failed = [result for result in done if result.verdict == "fail"]
    crashed = [result for result in done if result.verdict == "errored"]
    first = next(iter(failed or crashed), None)
    return (
        *(mutant.name, mutant.what.replace("|", "\\|"), mutant.flag),
        first.case.op if first else "",
        *(str(len(each)) for each in (done, failed, crashed)),
        first.case.id if first else "NOTHING",
    )


def text(rows: Iterable[tuple[str, ...]]) -> str:
    """KILLS.md."""
    rows = list(rows)
    killed = sum(row[-1] != "NOTHING" for row in rows)
    lines = [
        "# Kills",
        "",
        f"{len(rows)} broken clients, {killed} killed by a case that names their class of bug.",
        "",
        "Each is one bug. The runner put to it, as to any client, the cases that bear the flag of",
        "its class; to broken forwards one trace of a small model. `failed`: another",
        "output, or one for a rejection, or the reverse; `crashed`: an exception, no rejection.",
        "`python -m tests.conformance.kills` makes this page, `--check` compares it.",
        "`python -m tests.conformance.mutant_client MUTANT` is the client of a row.",
        "",
        "| area | mutants | killed |",
        "|---|---|---|",
    ]
    for kind, area in AREAS.items():
        some = [row for row in rows if row[0].startswith(f"{kind}/")]
        lines.append(f"| {area} | {len(some)} | {sum(row[-1] != 'NOTHING' for row in some)} |")
    lines += ["", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    lines += [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join(lines) + "\n"


def listed() -> list[tuple[str, str]]:
    """Names and descriptions in the table on disk."""
    rows = TABLE.read_text("utf-8").split("|---" * len(COLUMNS) + "|\n")[1].splitlines()
    cells = [line[2:-2].split(" | ") for line in rows]
    return [(cell[0], cell[1].replace("\\|", "|")) for cell in cells]


def main() -> int:
    """The command.  Exit 1: a mutant survives, or the table differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.kills")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 on difference")
    parser.add_argument("--jobs", type=int, default=2, help="clients at a time (default 2)")
    parser.add_argument("--only", default="", help="names that begin so; prints, writes nothing")
    args = parser.parse_args()
    every = load(ROOT / "conformance" / "vectors").cases
    mutants = [mutant for mutant in registry() if mutant.name.startswith(args.only)]
    rows = []
    with ThreadPoolExecutor(args.jobs) as pool:
        for mutant, found in zip(
            mutants, pool.map(lambda m: judged(m, every), mutants), strict=True
        ):
            rows.append(row(mutant, found))
            sys.stderr.write(f"{' | '.join(rows[-1])}\n")
    made = text(rows)
    if args.only:
        sys.stdout.write(made)
    elif args.check:
        if TABLE.read_text("utf-8") != made:
            sys.stderr.write(f"{TABLE.name} differs\n")
            return 1
    else:
        TABLE.write_text(made, "utf-8")
    return 1 if any(row[-1] == "NOTHING" for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
