"""From the rounds of a run: times, ratios, shares of the limits, goals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.matmul.cells import LARGE, Case

Row = dict[str, Any]

DENSE = ("numpy", "torch")
PEERS = (*DENSE, "openvino", "scipy", "deepsparse")


@dataclass(frozen=True)
class Goal:
    """A goal on cells: nmref at least `want` times as fast as the fastest of `peers`."""

    name: str
    tokens: tuple[int, ...]
    dtype: str
    pattern: str
    peers: tuple[str, ...]
    want: float

    def holds_for(self, row: Row) -> bool:
        """Whether the cell is one of the goal's."""
        shape = (row["rows"], row["columns"])
        same = row["dtype"] == self.dtype and row["pattern"] == self.pattern
        return same and row["T"] in self.tokens and shape in LARGE


GOALS = (
    Goal("P1", (1,), "F32", "8:16", DENSE, 1.80),
    Goal("P2", (1,), "BF16", "8:16", ("torch",), 1.65),
    Goal("P3", (1,), "BF16", "8:16+16:256", ("torch",), 1.40),
    Goal("P4", (64, 256, 512), "F32", "8:16", DENSE, 1.5),
    Goal("P5", (64, 256, 512), "F32", "8:16", ("deepsparse",), 1.2),
    Goal("P6", (4, 16, 32, 64), "BF16", "8:16", ("torch",), 1.4),
    Goal("P7", (256, 512), "BF16", "8:16", ("torch",), 1.3),
)
WIDEST_FIRST = ("avx512", "avx2", "portable")
MOST_JITTER = 1.2
LEAST_CODEC = 0.25
EXPONENTS = (0.9, 1.1)


def case_of(row: Row) -> Case:
    """The weights of a row."""
    return Case(row["rows"], row["columns"], row["pattern"], row["dtype"])


def seconds(row: Row, name: str) -> float | None:
    """Median of the medians of the rounds; None where there is no figure."""
    result = row["results"].get(name)
    if not result or result.get("error") or not result["rounds"]:
        return None
    return median(turn["median"] for turn in result["rounds"])


def spread(row: Row, name: str) -> tuple[float, float]:
    """p10 and p90: medians over the rounds."""
    rounds = row["results"][name]["rounds"]
    return median(turn["p10"] for turn in rounds), median(turn["p90"] for turn in rounds)


def ratio(row: Row, peer: str, name: str = "nmref") -> float | None:
    """The peer's time over that of `name`: taken in every round, then the median."""
    if seconds(row, peer) is None or seconds(row, name) is None:
        return None
    pairs = zip(row["results"][peer]["rounds"], row["results"][name]["rounds"], strict=False)
    return median(theirs["median"] / ours["median"] for theirs, ours in pairs)


def fastest(row: Row, names: tuple[str, ...] = PEERS) -> str | None:
    """The peer of the smallest time."""
    times = {name: t for name in names if (t := seconds(row, name)) is not None}
    return min(times, key=lambda name: times[name]) if times else None


def rate(row: Row, name: str) -> float | None:
    """FLOP a second as if the weights were dense."""
    time = seconds(row, name)
    return 2 * row["T"] * row["rows"] * row["columns"] / time if time else None


def isa_of(name: str, report: Row) -> str:
    """The ISA whose limits hold for a contestant: the one it is forced to, or the widest."""
    variant = name.partition(":")[2]
    return variant or next((isa for isa in WIDEST_FIRST if isa in report["limits"]), "")


def limit(row: Row, report: Row, name: str = "nmref") -> tuple[str, float] | None:
    """What bounds the product, and its least time in seconds.

    Bytes: all packed parts at the read bandwidth.  Arithmetic: only stored weights at the rate of
    multiply-adds with one load each; in BF16 also all weights at the rate of the dot instruction or
    of AMX, if that is quicker.
    """
    peaks = report["limits"].get(isa_of(name, report), {}).get(str(row["threads"]))
    if not peaks:
        return None
    flops = 2.0 * row["T"] * row["rows"] * row["columns"]
    bounds = {"FMA": flops * case_of(row).density / peaks["fma_load"]}
    for what in ("bf16_dot", "amx"):
        if row["dtype"] == "BF16" and peaks.get(what):
            bounds[what] = flops / peaks[what]
    best = min(bounds, key=lambda what: bounds[what])
    read = row["packed_bytes"] / peaks["read"]
    return ("bytes", read) if read > bounds[best] else (best, bounds[best])


def share(row: Row, report: Row, name: str = "nmref") -> float | None:
    """The least time over the time taken."""
    bound, time = limit(row, report, name), seconds(row, name)
    return bound[1] / time if bound and time else None


def goal_rows(goal: Goal, report: Row) -> Iterator[tuple[Row, float]]:
    """The goal's cells that were measured, and their ratios."""
    for row in report["cells"]:
        if goal.holds_for(row):
            peer = fastest(row, goal.peers)
            found = ratio(row, peer) if peer else None
            if found is not None:
                yield row, found


def line(row: Row) -> str:
    """A row for the terminal."""
    shape = f"{row['rows']}x{row['columns']}"
    head = f"{shape:11} {row['pattern']:11} {row['dtype']:4} T={row['T']:<4d}{row['threads']} thr"
    parts = []
    ordered = sorted(row["results"].items(), key=lambda pair: not pair[0].startswith("nmref"))
    for name, result in ordered:
        time = seconds(row, name)
        if time is None:
            parts.append(f"{name}: {result.get('error', 'no figure')[:60]}")
            continue
        beside = ratio(row, name)
        parts.append(
            f"{name} {time * 1e3:.3f} ms"
            + (f" ({beside:.2f}x)" if beside and name != "nmref" else "")
        )
    return f"{head}: " + "  ".join(parts)
