"""The run: contestants take turns on every cell, in rounds; figures are kept by round."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import figures, machine
from benchmarks.matmul import extras, weights
from benchmarks.matmul.cells import DTYPES, PATTERNS, PLANS, TOKENS, Case, Cell, plan
from benchmarks.matmul.contestants import KINDS
from benchmarks.matmul.team import FORCED, ROOT, VARIANTS, Member, entries, environment_for

SETTLE = 0.05
"""Seconds between turns, in which the last contestant's threads go to sleep."""

COLD, LUKEWARM = 4.0, 2.0
"""Weights in turn, in sizes of the last cache: below FEW_TOKENS tokens, and from there on."""

FEW_TOKENS = 64

Row = dict[str, Any]


def main(arguments: list[str]) -> int:
    """python -m benchmarks matmul ..."""
    args = parser().parse_args(arguments)
    if args.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
    most = len(os.sched_getaffinity(0))
    args.threads = args.threads or sorted({1, min(2, most)})
    report = Run(args).report()
    if args.json:
        args.json.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", "utf-8")
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="benchmarks matmul", description=__doc__)
    add = made.add_argument
    add("--small", action="store_true", help="tiny shapes: does everything run?")
    add("--plan", choices=PLANS, default="goals", help="which cells (goals)")
    add("--json", type=Path, metavar="FILE", help="write the figures here")
    add("--threads", type=int, nargs="+", metavar="N", help="thread counts (1 2)")
    add("--cores", type=int, metavar="N", help="keep to the first N cores")
    add("--rounds", type=int, default=3, metavar="N", help="turns of each contestant a cell (3)")
    add("--seconds", type=float, default=0.2, help="at least, a turn (0.2)")
    add("--runs", type=int, default=7, metavar="N", help="at least, a turn (7)")
    add("--variants", nargs="*", default=[], choices=VARIANTS, help="forced ISAs, beside")
    add("--only", nargs="*", default=[], choices=KINDS, help="contestants (all)")
    add("--shapes", nargs="*", default=[], metavar="RxK", help="of the plan, only these")
    add("--tokens", nargs="*", type=int, default=[], metavar="T", help="of the plan, only these")
    add("--dtypes", nargs="*", default=[], choices=DTYPES, help="of the plan, only these")
    add("--patterns", nargs="*", default=[], choices=PATTERNS, help="of the plan, only these")
    add("--no-extras", action="store_true", help="cells only")
    for kind in KINDS:
        if kind != "nmref":
            add(f"--{kind}", metavar="PYTHON", help=f"interpreter that has {kind}")
    return made


class Run:
    """One run of `python -m benchmarks matmul`."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.plan = "small" if args.small else args.plan
        self.cells = plan(self.plan, args.threads, self._wanted)
        self.foreign_seconds = self.turn_seconds = 0.0
        self.idle: dict[str, float] = {}
        self.pythons = {kind: getattr(args, kind, None) for kind in KINDS}

    def _wanted(self, cell: Cell) -> bool:
        """Whether the options keep a cell of the plan."""
        case, args = cell.case, self.args
        pairs = ((f"{case.rows}x{case.columns}", args.shapes), (cell.tokens, args.tokens),
                 (case.dtype, args.dtypes), (case.pattern, args.patterns))  # fmt: skip
        return all(value in wanted for value, wanted in pairs if wanted)

    def report(self) -> dict[str, Any]:
        """Measure everything; the JSON document."""
        before, start = machine.load_average(), time.perf_counter()
        limits = self._limits()
        chosen = entries(self.pythons, self.args.variants, self.args.only)
        self.members = [Member(e, n) for e, n in itertools.product(chosen, self.args.threads)]
        scratch = Path(tempfile.mkdtemp(prefix="nmref-matmul-"))
        try:
            rows = self._rows(scratch)
        finally:
            for member in self.members:
                member.close()
            shutil.rmtree(scratch)
        limits = highest(limits, self._limits())
        more = {} if self.args.no_extras else extras.run(self.args.small, max(self.args.threads))
        return {
            "what": "matmul",
            "plan": self.plan,
            "options": {n: getattr(self.args, n) for n in ("threads", "rounds", "seconds", "runs")},
            "machine": machine.describe(),
            "dropped_environment": sorted(set(os.environ) & set(FORCED)),
            "load": {"before": before, "after": machine.load_average()},
            "turns": {
                "seconds": self.turn_seconds,
                "idle_workers_cpu": self.idle,
                "other_processes_cpu": self.foreign_seconds,
            },
            "seconds": time.perf_counter() - start,
            "limits": limits,
            "contestants": [self._contestant(member) for member in self.members],
            "cells": rows,
            **more,
        }

    def _limits(self) -> dict[str, Any]:
        counts = [str(count) for count in self.args.threads]
        command = [sys.executable, "-m", "benchmarks.limits", *counts]
        command += ["--small"] * self.args.small
        environment = environment_for(max(self.args.threads), {})
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def _contestant(self, member: Member) -> Row:
        entry = member.entry
        state = {"name": entry.name, "threads": member.threads, "versions": member.versions}
        return state | {"environment": dict(entry.environment), "absent": member.absent}

    def _rows(self, scratch: Path) -> list[Row]:
        rows = []
        for case, cells in itertools.groupby(self.cells, lambda cell: cell.case):
            found = list(cells)
            tokens = max(cell.tokens for cell in found)
            written = weights.write(case, scratch / "case", min(tokens, max(TOKENS)))
            self._load(case, written, found)
            for cell in found:
                row = self._cell(cell, written, scratch)
                rows.append(row)
                sys.stdout.write(figures.line(row) + "\n")
                sys.stdout.flush()
            shutil.rmtree(scratch / "case")
        return rows

    def _load(self, case: Case, written: weights.Written, cells: list[Cell]) -> None:
        self.ready: dict[Member, str] = {}
        for member in self.members:
            if not member.absent and any(self._plays(member, cell) for cell in cells):
                answer = member.ask(do="load", **written.request)
                self.ready[member] = answer.get("error", "")

    def _plays(self, member: Member, cell: Cell) -> bool:
        return member.threads == cell.threads and member.entry.takes(cell)

    def _cell(self, cell: Cell, written: weights.Written, scratch: Path) -> Row:
        playing = [m for m in self.members if self._plays(m, cell)]
        results: dict[str, Row] = {m.entry.name: self._prepare(m, cell, written, scratch)
                                   for m in playing}  # fmt: skip
        playing = [m for m in playing if not results[m.entry.name].get("error")]
        for turn in range(self.args.rounds):
            first = turn % max(1, len(playing))
            for member in playing[first:] + playing[:first]:
                result = results[member.entry.name]
                answer = self._turn(member)
                if "error" in answer:
                    result["error"] = answer["error"]
                else:
                    result["rounds"].append(answer)
        sizes = {"packed_bytes": written.packed_bytes, "dense_bytes": written.dense_bytes}
        where = asdict(cell.case) | {"T": cell.tokens, "threads": cell.threads}
        return where | sizes | {"results": results}

    def _prepare(self, member: Member, cell: Cell, written: weights.Written, scratch: Path) -> Row:
        """Copies in memory, called once each; the first result is checked."""
        problem = member.absent or self.ready.get(member, "not loaded")
        if problem:
            return {"error": problem, "rounds": []}
        path = scratch / "result.npy"
        sizes = COLD if cell.tokens < FEW_TOKENS else LUKEWARM
        total = int(sizes * machine.last_cache())
        total = min(total, 1 << 20) if self.args.small else total
        answer = member.ask(do="prepare", tokens=cell.tokens, total_bytes=total, result=str(path))
        if "error" in answer:
            return answer | {"rounds": []}
        deviation = written.deviation(np.load(path))
        result: Row = answer | {"deviation": deviation, "rounds": []}
        if not deviation <= 1:
            result["error"] = f"wrong result: {deviation:.3g} times the error allowed"
        return result

    def _turn(self, member: Member) -> Row:
        time.sleep(SETTLE)
        used = {m: m.cpu_seconds() for m in self.members}
        busy, start = machine.busy_seconds(), time.perf_counter()
        answer = member.ask(do="measure", seconds=self.args.seconds, runs=self.args.runs)
        self.turn_seconds += time.perf_counter() - start
        used = {m: m.cpu_seconds() - before for m, before in used.items()}
        for other in self.members:
            if other is not member:
                name = f"{other.entry.name} {other.threads}"
                self.idle[name] = self.idle.get(name, 0.0) + used[other]
        elsewhere = machine.busy_seconds() - busy - sum(used.values())
        self.foreign_seconds += max(0.0, elsewhere)
        return answer


def highest(one: Any, other: Any) -> Any:
    """Two documents of limits as one, with the higher of two figures; what fails counts nothing."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {name: highest(one.get(name), other.get(name)) for name in one | other}
    found = [value for value in (one, other) if value is not None]
    return max(found, default=None)
