"""Encode, decode and check of a BF16 matrix against numpy.copyto of the same bytes, one thread.

All write into memory that is there already, as copyto does.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from nmref.pattern import NMPattern
from nmref.prune.choose.mask import top_n
from nmref.tensor import fast

RUNS = 11

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]


def median_seconds(call: Callable[[], object]) -> float:
    """Median of some runs after one that is not counted."""
    call()
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def run(small: bool) -> list[dict[str, object]]:
    """One row for each pattern: seconds, and the rate relative to copyto in the same run."""
    rows, columns = (512, 1376) if small else (4096, 11008)
    rng = np.random.default_rng(0)
    results = []
    for text in ("2:4", "4:8", "8:16", "16:32"):
        pattern = NMPattern.parse(text)
        mask = top_n(rng.random((rows, columns), dtype=np.float32), pattern)
        dense = np.where(mask, rng.integers(1, 1 << 15, mask.shape, np.uint16), np.uint16(0))
        values, codes = fast.pack("base", dense, "BF16", pattern, None, None, "colex")
        assert np.array_equal(fast.unpack(values, codes, pattern, columns), dense)
        results.append(_measure(dense, values, codes, pattern))
    return results


def _measure(dense: U16, values: U16, codes: U8, pattern: NMPattern) -> dict[str, object]:
    target, columns = np.zeros_like(dense), dense.shape[1]
    packed, flat = (np.zeros_like(values), np.zeros_like(codes)), dense.reshape(-1)
    calls = {
        "copyto": lambda: np.copyto(target, dense),
        "encode": lambda: fast.pack_into(*packed, flat, fast.NOTHING, pattern, columns),
        "decode": lambda: fast.unpack_into(target, values, codes, pattern),
        "check": lambda: fast.check("row", values, codes, pattern, columns, "colex"),
    }
    seconds = {name: median_seconds(call) for name, call in calls.items()}
    rates = {name: seconds["copyto"] / seconds[name] for name in calls}
    shown = "  ".join(f"{name} {seconds[name] * 1e3:.2f} ms ({rates[name]:.2f}x)" for name in calls)
    sys.stdout.write(f"{pattern!s:6} BF16 {list(dense.shape)}: {shown}\n")
    shape = list(dense.shape)
    return {"pattern": str(pattern), "shape": shape, "seconds": seconds, "rate": rates}
