"""benchmarks/RESULTS.md and roofline.png from the JSON files of `python -m benchmarks matmul`.

The first file is the main run, with the goals; the others follow with their tables.  What a goal
was missed by, and why, is written by hand in NOTES.md, which the page includes as it is.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks import plot, tables
from benchmarks.figures import Row

HERE = Path(__file__).parent

PAGE = """# Products with N:M weights: figures

Written by `python -m benchmarks report` from the JSON of `python -m benchmarks matmul`. Ratios are
the peer's time over that of nmref, on the same weights, with the same number of threads: above 1
nmref is ahead.

## Goals

{goals}

A ratio against several peers is that against the fastest. In the columns of 4096x4096 the figures
stand in the order of T. A goal is met when every large shape that was measured meets it.

{notes}

## Machine

{machine}

## Contestants

{contestants}

Cells without a figure:

{problems}

## Limits, measured before and after

{limits}

A product takes at least the time that its packed bytes take at the read bandwidth, or its
multiply-adds: those of the stored weights only at the rate of FMA with one load each, or in BF16
those of all weights at the rate of the dot instruction or of AMX, if that is quicker. The column
"share" is that time over the time taken.

{roofline}

## How it was measured

{method}

## Against the fastest peer

{ratios}

## All cells

{cells}
{others}"""

METHOD = """Every contestant with a number of threads is a process of its own, which learns its
thread count before it loads anything and is stopped while others have their turn (CPU time out of
turn: {idle:.2f} s; of other processes on the machine: {foreign:.0f} s in {turns:.0f} s of turns).
In each cell the contestants take {rounds} turns, in rounds; a turn is at least {seconds:g} s and
{runs} calls after two that are not counted. A time is the median of the medians of the rounds; a
ratio is taken in each round, then the median of those. x is warm, and the weights come from memory:
each call takes the next of so many copies of them that together they are 4 times as large as the
last cache (2 times from T = 64 on). Every call allocates its result. Every contestant's result was
compared with that of float64: a wrong one has no figure. GFLOP/s are those of the dense product."""


def main(arguments: list[str]) -> int:
    """python -m benchmarks report FILE..."""
    parser = argparse.ArgumentParser(prog="benchmarks report", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--folder", type=Path, default=HERE, help="of RESULTS.md and NOTES.md")
    args = parser.parse_args(arguments)
    reports = [json.loads(file.read_text("utf-8")) for file in args.files]
    drawn = plot.draw(reports[0], args.folder / "roofline.png")
    if not drawn:
        sys.stdout.write("no plot: Matplotlib is missing, or a figure or a limit\n")
    notes = args.folder / "NOTES.md"
    text = notes.read_text("utf-8").strip() if notes.exists() else ""
    (args.folder / "RESULTS.md").write_text(page(reports, text, drawn), "utf-8")
    return 0


def page(reports: list[Row], notes: str, drawn: bool) -> str:
    """RESULTS.md."""
    report = reports[0]
    text = PAGE.format(
        goals=tables.goals(report),
        notes=notes,
        machine=machine(report),
        contestants=tables.contestants(report),
        problems=tables.problems(report),
        limits=tables.limits(report),
        roofline="![Roofline with the points on it](roofline.png)" if drawn else "",
        method=method(report),
        ratios=tables.ratios(report),
        cells=tables.cells(report),
        others="".join([variants(report), *map(other, reports[1:])]),
    )
    return text.rstrip() + "\n"


def machine(report: Row) -> str:
    """What the run depends on, as a list."""
    found, load = report["machine"], report["load"]
    packages = ", ".join(f"{name} {v}" for name, v in found["packages"].items())
    sizes = ", ".join(f"{name} {size >> 10:,} KiB" for name, size in found["caches"].items())
    dropped = ", ".join(report["dropped_environment"])
    chosen = {c["versions"]["isa"] for c in report["contestants"]
              if c["name"] == "nmref" and "isa" in c["versions"]}  # fmt: skip
    lines = {
        "CPU": f"{found['cpu']} (LLVM: {found['llvm_cpu']})",
        "Cores used": f"{found['cores']} of {found['cores_online']}",
        "Virtual machine": "yes" if found["hypervisor"] else "no",
        "Caches of a core": sizes,
        "Memory": f"{found['memory_bytes'] / 2**30:.0f} GiB, large pages: {found['large_pages']}",
        "Features": " ".join(found["features"]),
        "ISA chosen": ", ".join(sorted(chosen)),
        "System": found["system"],
        "Governor": found["governor"],
        "Versions": f"Python {found['python']}, {packages}",
        "Threads": ", ".join(map(str, report["options"]["threads"])),
        "Load average": f"{load['before']} before, {load['after']} after",
        "Run": f"plan {report['plan']}, {report['seconds'] / 60:.0f} minutes",
        "Dropped from the environment": dropped,
    }
    return "\n".join(f"- {name}: {text}" for name, text in lines.items() if text)


def method(report: Row) -> str:
    """How the figures came about."""
    turns, options = report["turns"], report["options"]
    return METHOD.format(
        idle=sum(turns["idle_workers_cpu"].values()),
        foreign=turns["other_processes_cpu"],
        turns=turns["seconds"],
        **{name: options[name] for name in ("rounds", "seconds", "runs")},
    )


def variants(report: Row) -> str:
    """Tables of the forced ISAs, each against the peers as they are and as they are forced."""
    names = dict.fromkeys(c["name"] for c in report["contestants"])
    parts = []
    for name in (n for n in names if n.startswith("nmref:")):
        environment = next(c["environment"] for c in report["contestants"] if c["name"] == name)
        shown = " ".join(f"{k}={v}" for k, v in environment.items())
        parts.append(f"\n## {name}\n\n`{shown}`\n\n{tables.cells(report, name)}\n")
    return "".join(parts)


def other(report: Row) -> str:
    """A further run: its goals and tables, with headings one level down."""
    cores = report["machine"]["cores"]
    title = f"Plan {report['plan']} on {cores} core{'s' if cores > 1 else ''}"
    return f"""
## {title}

Load average {report["load"]["before"]} before, {report["load"]["after"]} after;
{report["seconds"] / 60:.0f} minutes.

{tables.goals(report)}

{tables.limits(report)}

{tables.ratios(report)}

{tables.cells(report)}

Cells without a figure:

{tables.problems(report)}
{variants(report)}"""
