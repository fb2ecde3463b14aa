"""Roofline: what the limits allow, and the points of nmref and of the fastest dense peer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import figures
from benchmarks.figures import DENSE, Row

COLOURS = {1: "tab:blue", 2: "tab:orange"}
INTENSITY = np.geomspace(0.3, 3000, 200)


def draw(report: Row, path: Path) -> bool:
    """One panel for each dtype of 8:16; False without Matplotlib or without points."""
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("Agg")
    from matplotlib import pyplot

    dtypes = [d for d in ("F32", "BF16") if any(_points(report, d, n) for n in _counts(report))]
    if not dtypes or not report["limits"]:
        return False
    figure, panels = pyplot.subplots(1, len(dtypes), figsize=(6 * len(dtypes), 4.6), squeeze=False)
    for axes, dtype in zip(panels[0], dtypes, strict=True):
        _panel(axes, report, dtype)
    figure.tight_layout()
    figure.savefig(path, dpi=90, metadata={"Software": None})
    pyplot.close(figure)
    return True


def _counts(report: Row) -> list[int]:
    return list(report["options"]["threads"])


def _panel(axes: Any, report: Row, dtype: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title(f"{dtype} 8:16, every shape and T")
    axes.set_xlabel("FLOP of the dense product per byte of weights read")
    axes.set_ylabel("GFLOP/s of the dense product")
    for count in _counts(report):
        colour = COLOURS.get(count, "tab:gray")
        axes.plot(INTENSITY, _roof(report, dtype, count), color=colour, linewidth=1)
        points = _points(report, dtype, count)
        for who, marker, fill in (("nmref", "o", colour), ("dense", "s", "none")):
            chosen = [(x, y) for name, x, y in points if name == who]
            if chosen:
                plural = "s" if count > 1 else ""
                label = (
                    f"{'nmref' if who == 'nmref' else 'fastest dense peer'}, {count} thread{plural}"
                )
                axes.scatter(*zip(*chosen, strict=True), marker=marker, s=22, label=label,
                             edgecolors=colour, facecolors=fill)  # fmt: skip
    axes.grid(which="both", alpha=0.2)
    axes.legend(fontsize=8)


def _roof(report: Row, dtype: str, count: int) -> np.ndarray:
    """GFLOP/s of the dense product that a product with 8:16 weights may reach."""
    peaks = report["limits"][figures.isa_of("nmref", report)][str(count)]
    most = [peaks["fma_load"] * 2]  # half of the products are of stored weights
    if dtype == "BF16":
        most += [peaks[k] for k in ("bf16_dot", "amx") if peaks.get(k)]
    return np.minimum(INTENSITY * peaks["read"], max(most)) / 1e9


def _points(report: Row, dtype: str, count: int) -> list[tuple[str, float, float]]:
    """("nmref" or "dense", FLOP a byte, GFLOP/s)."""
    found = []
    for row in report["cells"]:
        if row["dtype"] != dtype or row["threads"] != count or row["pattern"] != "8:16":
            continue
        flops = 2.0 * row["T"] * row["rows"] * row["columns"]
        peer = figures.fastest(row, DENSE)
        for who, name, size in (("nmref", "nmref", row["packed_bytes"]),
                                ("dense", peer, row["dense_bytes"])):  # fmt: skip
            rate = figures.rate(row, name) if name else None
            if rate:
                found.append((who, flops / size, rate / 1e9))
    return found
