"""What every dot profile costs, relative to f32.seq in the same run, one thread.

W is a 1536 x 576 layer in F32; T = 1 is one token, T = 16 a prompt.  tc.*.slot runs on the same
matrix packed as 8:16.  A model's cost a token is about its parameters times the time of a term.
"""

from __future__ import annotations

import sys
import time

import numpy as np

import nmref
from nmref.pattern import NMPattern
from nmref.prune.choose.mask import top_n

PROFILES = (
    "f32.seq",
    "f32.fma",
    "f32.lanes8.mul",
    "f32.lanes16.fma",
    "f64.seq",
    "exact",
    "tc.L8.F24.rz.rz.col",
    "tc.L16.F25.rz.rz.col",
    "tc.L32.F60.rne.rne.col",
    "tc.L16.F25.rz.rz.slot",
    "i32",
)
RUNS = 11


def run(small: bool) -> list[dict[str, object]]:
    """One row for each profile and T; the runs of all profiles take turns."""
    rows, columns = (256, 96) if small else (1536, 576)
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((rows, columns), dtype=np.float32)
    mask = top_n(np.abs(dense), NMPattern(8, 16))
    packed = nmref.encode(np.where(mask, dense, np.float32(0)), "8:16", mask=mask)
    integers = rng.integers(-127, 128, dense.shape).astype(np.int8) * mask
    scale = np.ones(rows, dtype=np.float32)
    quantised = nmref.encode(integers, "8:16", mask=mask, scale=scale)
    results: list[dict[str, object]] = []
    for tokens in (1, 16):
        x = rng.standard_normal((tokens, columns), dtype=np.float32)
        calls = {name: (x, packed if name.endswith("slot") else dense, name) for name in PROFILES}
        calls["i32"] = ((x * 30).astype(np.int8), quantised, "i32")
        seconds = _medians(calls)
        for name, value in seconds.items():
            ratio = value / seconds["f32.seq"]
            term = value / (rows * columns * tokens) * 1e9
            sys.stdout.write(
                f"T={tokens:<3d} {name:24} {term:6.2f} ns a term  {ratio:6.2f}x f32.seq\n"
            )
            results.append({"T": tokens, "profile": name, "seconds": value, "ratio": ratio})
    return results


def _medians(calls: dict[str, tuple[object, ...]]) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(RUNS + 1):
        for name, arguments in calls.items():
            start = time.perf_counter()
            nmref.matmul(*arguments)
            if turn:  # the first compiles
                times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in times.items()}
