"""Tables of benchmarks/RESULTS.md, from the JSON of one run each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks import figures
from benchmarks.figures import GOALS, PEERS, Row
from benchmarks.matmul.cells import LARGE, TOKENS


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join(lines + [f"| {' | '.join(map(str, row))} |" for row in rows])


def number(value: float | None, digits: int = 2, unit: str = "") -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else f"{value:,.{digits}f}{unit}"


def contestants(report: Row) -> str:
    """Who took part, with which versions, or why not."""
    rows = []
    for found in report["contestants"]:
        versions = ", ".join(f"{name} {v}" for name, v in found["versions"].items() if v)
        extra = " ".join(f"{k}={v}" for k, v in found["environment"].items())
        state = f"absent: {found['absent']}" if found["absent"] else "present"
        rows.append((found["name"], found["threads"], state, versions or "-", extra or "-"))
    return table(("contestant", "threads", "state", "versions", "environment"), rows)


def limits(report: Row) -> str:
    """The limits, by ISA and threads."""
    head = ("ISA", "threads", "read GB/s", "FMA GFLOP/s", "FMA, one load each", "BF16 dot", "AMX")
    rows = []
    for isa, counts in report["limits"].items():
        for threads, found in sorted(counts.items()):
            shown = [found.get(k) for k in ("read", "fma", "fma_load", "bf16_dot", "amx")]
            billions = (number(None if v is None else v / 1e9, 0) for v in shown)
            rows.append((isa, threads, *billions))
    return table(head, rows)


def goals(report: Row) -> str:
    """P1 to P7, P10 to P13: goal, figure, met or missed."""
    threads = report["options"]["threads"]
    head = ("goal", "work", "want", *(f"4096x4096, {n} thr" for n in threads), "other", "state")
    rows = [_goal(goal, report) for goal in GOALS]
    return table(head, [*rows, *_beside(report, len(threads))])


def _goal(goal: figures.Goal, report: Row) -> tuple[str, ...]:
    found = list(figures.goal_rows(goal, report))
    threads = report["options"]["threads"]
    first = [p for p in found if (p[0]["rows"], p[0]["columns"]) == LARGE[0]]
    cells = []
    for count in threads:
        shown = [f"{r:.2f}" for row, r in first if row["threads"] == count]
        cells.append(" / ".join(shown) or "-")
    elsewhere = [pair for pair in found if pair not in first]
    worst = min(elsewhere, key=lambda pair: pair[1], default=None)
    other = (
        f"worst {worst[1]:.2f} ({_shape(worst[0])}, {worst[0]['threads']} thr)" if worst else "-"
    )
    tokens = ", ".join(map(str, goal.tokens))
    work = f"T = {tokens}, {goal.dtype} {goal.pattern} against {' and '.join(goal.peers)}"
    state = _state(goal, first, elsewhere, len(goal.tokens) * len(threads))
    return goal.name, work, f">= {goal.want:.2f}x", *cells, other, state


def _state(
    goal: figures.Goal,
    first: list[tuple[Row, float]],
    elsewhere: list[tuple[Row, float]],
    want: int,
) -> str:
    """Met where every large shape that was measured meets it; 4096x4096 must be complete."""
    if not first and not elsewhere:
        return "not measured"
    if any(ratio < goal.want for _, ratio in first):
        return "**missed**"
    if len(first) < want:
        return f"incomplete: {len(first)} of {want} cells"
    missed = any(ratio < goal.want for _, ratio in elsewhere)
    return "**missed** beside 4096x4096" if missed else "met"


def _beside(report: Row, blank: int) -> list[tuple[str, ...]]:
    """P10 to P13, of which a run without extras has none."""
    rows = []
    for name, work, want, job, read in (
        ("P10", "codec against copyto, 8:16 BF16, encode and decode", ">= 0.25x", "codec", _codec),
        ("P11", "kernels that a second process compiles", "0", "startup", _startup),
        ("P12", "exponents of cost", "0.9 to 1.1", "exponents", _exponents),
        ("P13", "jitter of T = 1: p90 over median", "<= 1.20x", "jitter", _jitter),
    ):
        found: Any = report.get(job)
        if found is None or "error" in found:
            shown, state = (found or {}).get("error", "-"), "not measured"
        else:
            shown, met = read(found)
            state = "met" if met else "**missed**"
        rows.append((name, work, want, *["-"] * blank, shown, state))
    return rows


def _codec(found: list[Row]) -> tuple[str, bool]:
    rates = next(row["rate"] for row in found if row["pattern"] == "8:16")
    pair = (rates["encode"], rates["decode"])
    return f"{pair[0]:.2f}x, {pair[1]:.2f}x", min(pair) >= figures.LEAST_CODEC


def _startup(found: Row) -> tuple[str, bool]:
    first, second = found["first"], found["second"]
    shown = f"{second['compiled']} ({second['loaded']} loaded, {second['seconds']:.1f} s; "
    shown += f"the first compiled {first['compiled']} in {first['seconds']:.0f} s)"
    return shown, second["compiled"] == 0 and second["loaded"] > 0


def _exponents(found: Row) -> tuple[str, bool]:
    slopes = {axis: row["exponent"] for axis, row in found.items()}
    low, high = (pick(slopes, key=slopes.__getitem__) for pick in (min, max))
    shown = f"{slopes[low]:.2f} ({low}) to {slopes[high]:.2f} ({high})"
    return shown, figures.EXPONENTS[0] <= slopes[low] and slopes[high] <= figures.EXPONENTS[1]


def _jitter(found: Row) -> tuple[str, bool]:
    shown = ", ".join(f"{dtype} {row['ratio']:.2f}x" for dtype, row in found.items())
    return shown, max(row["ratio"] for row in found.values()) <= figures.MOST_JITTER


def _shape(row: Row) -> str:
    return f"{row['rows']}x{row['columns']}"


def _groups(report: Row) -> dict[tuple[str, ...], dict[int, Row]]:
    """(dtype, pattern, shape, threads) -> T -> row."""
    groups: dict[tuple[str, ...], dict[int, Row]] = {}
    for row in report["cells"]:
        key = (row["dtype"], row["pattern"], _shape(row), str(row["threads"]))
        groups.setdefault(key, {})[row["T"]] = row
    return groups


def ratios(report: Row, name: str = "nmref", peers: tuple[str, ...] = PEERS) -> str:
    """Ratio to the fastest peer for each T, and where `name` is ahead."""
    tokens = sorted({row["T"] for row in report["cells"]} | set(TOKENS[:1]))
    rows = []
    for key, cells in _groups(report).items():
        found = {t: _best_ratio(row, name, peers) for t, row in cells.items()}
        if not any(ratio is not None for ratio in found.values()):
            continue
        shown = [f"{found[t]:.2f}" if found.get(t) is not None else "-" for t in tokens]
        rows.append((*key, *shown, break_even(found)))
    head = ("dtype", "pattern", "W", "threads", *(f"T = {t}" for t in tokens), "ahead at T")
    return table(head, rows)


def _best_ratio(row: Row, name: str, peers: tuple[str, ...]) -> float | None:
    peer = figures.fastest(row, peers)
    return figures.ratio(row, peer, name) if peer else None


def break_even(found: dict[int, float | None]) -> str:
    """At which T of those measured the ratio is 1 or more, as ranges."""
    known = [(t, ratio >= 1) for t, ratio in sorted(found.items()) if ratio is not None]
    ranges: list[list[int]] = []
    open_range = False
    for tokens, ahead in known:
        if ahead and open_range:
            ranges[-1][1] = tokens
        elif ahead:
            ranges.append([tokens, tokens])
        open_range = ahead
    if ranges == [[known[0][0], known[-1][0]]]:
        return "all"
    return ", ".join(f"{a} to {b}" if a < b else str(a) for a, b in ranges) or "none"


def cells(report: Row, name: str = "nmref") -> str:
    """Every cell as it is: times, ratios, rate, limit."""
    suffix = name.removeprefix("nmref")
    own = {entry["name"] for entry in report["contestants"]}
    peers = [*PEERS, *(f"{p}{suffix}" for p in PEERS if suffix and f"{p}{suffix}" in own)]
    head = ["dtype", "pattern", "W", "T", "threads", f"{name} ms", "p10 to p90"]
    head += [f"x {peer}" for peer in peers] + ["GFLOP/s", "bound", "share"]
    rows = [_cell(row, report, name, peers) for row in report["cells"] if name in row["results"]]
    return table(head, rows)


def _cell(row: Row, report: Row, name: str, peers: list[str]) -> tuple[object, ...]:
    where = (row["dtype"], row["pattern"], _shape(row), row["T"], row["threads"])
    time, bound = figures.seconds(row, name), figures.limit(row, report, name)
    part, rate = figures.share(row, report, name), figures.rate(row, name)
    spread = figures.spread(row, name) if time else None
    return (
        *where,
        number(time and time * 1e3, 3),
        f"{spread[0] * 1e3:.3f} to {spread[1] * 1e3:.3f}" if spread else "-",
        *(number(figures.ratio(row, peer, name)) for peer in peers),
        number(rate and rate / 1e9, 0),
        bound[0] if bound else "-",
        number(part and part * 100, 0, " %"),
    )


def problems(report: Row) -> str:
    """Contestants that gave no figure where they should have, each reason once."""
    seen: dict[str, int] = {}
    for row in report["cells"]:
        for name, result in row["results"].items():
            if result.get("error"):
                text = f"{name}: {result['error']}"
                seen[text] = seen.get(text, 0) + 1
    return "\n".join(f"- {text} ({count} cells)" for text, count in seen.items()) or "None."
