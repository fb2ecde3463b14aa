"""Goals beside the cells: jitter (P13), start-up (P11), growth of cost (P12), codec (P10)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.matmul.cells import DTYPES, PATTERNS
from benchmarks.matmul.team import ROOT, environment_for

JITTER_CALLS = 200
JOBS = ("codec", "jitter", "startup", "exponents")
LIMIT = 1200


def run(small: bool, threads: int) -> dict[str, Any]:
    """job -> its figures, or {"error"}; each job in a process of its own."""
    return {job: _apart(job, small, threads) for job in JOBS}


def _apart(job: str, small: bool, threads: int) -> Any:
    if job == "startup":
        return _two_starts(small, threads)
    return _process(job, small, threads, {})


def _process(job: str, small: bool, threads: int, extra: dict[str, str]) -> Any:
    command = [sys.executable, "-m", "benchmarks.matmul.extras", job, str(threads)]
    command += ["--small"] * small
    environment = environment_for(threads, extra)
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no end in {LIMIT} s"}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
    return json.loads(done.stdout.splitlines()[-1])


def _two_starts(small: bool, threads: int) -> Any:
    """Two processes with an empty cache folder: what each compiled and how long it took."""
    with tempfile.TemporaryDirectory(prefix="nmref-cache-") as folder:
        starts = []
        for _ in range(2):
            begin = time.perf_counter()
            found = _process("start", small, threads, {"NMREF_CACHE_DIR": folder})
            if "error" in found:
                return found
            starts.append(found | {"seconds": time.perf_counter() - begin})
    return {"first": starts[0], "second": starts[1]}


def codec(small: bool, threads: int) -> Any:
    """The figures of `python -m benchmarks codec`."""
    from benchmarks import codec as measurement

    return measurement.run(small)


def start(small: bool, threads: int) -> Any:
    """Every kind of product once: T, dtype, pattern; then what was compiled and loaded."""
    import nmref
    from nmref.kernels import compile as compiling

    for dtype in DTYPES:
        for pattern in PATTERNS:
            weight = random_weight(64, 512, pattern, dtype)
            for tokens in (1, 16, 256):
                nmref.matmul(random_x(tokens, 512, dtype), weight, threads=threads)
    counts = compiling.stats()
    return {"compiled": counts.compiled, "loaded": counts.loaded}


def jitter(small: bool, threads: int) -> Any:
    """Times of T = 1 calls with NumPy products in between, in one process."""
    import nmref

    size, calls = (128, 20) if small else (4096, JITTER_CALLS)
    found = {}
    for dtype in DTYPES:
        weight, x = random_weight(size, size, "8:16", dtype), random_x(1, size, dtype)
        other = np.ones((256, 256), np.float32)
        times = []
        for _ in range(calls + 1):
            other @ other
            begin = time.perf_counter()
            nmref.matmul(x, weight, threads=threads)
            times.append(time.perf_counter() - begin)
        median, high = (float(np.quantile(times[1:], q)) for q in (0.5, 0.9))
        found[dtype] = {"median": median, "p90": high, "ratio": high / median, "threads": threads}
    return found


def exponents(small: bool, threads: int) -> Any:
    """Slope of log time over log size along each axis, one thread."""
    import nmref

    unit, octaves = (128, 3) if small else (2048, 4)
    found = {}
    for dtype in DTYPES:
        for axis, tokens in (("rows", 1), ("columns", 1), ("rows", 128), ("columns", 128)):
            sizes, seconds = [unit << i for i in range(octaves)], []
            for size in sizes:
                shape = (size, unit) if axis == "rows" else (unit, size)
                seconds.append(_seconds(nmref.matmul, shape, tokens, dtype))
            found[f"{dtype} {axis}, T = {tokens}"] = _slope(sizes, seconds)
        sizes = [64 << i for i in range(octaves + 1)]
        seconds = [_seconds(nmref.matmul, (unit, unit), tokens, dtype) for tokens in sizes]
        found[f"{dtype} tokens"] = _slope(sizes, seconds)
    return found


def _seconds(
    matmul: Callable[..., Any], shape: tuple[int, int], tokens: int, dtype: str, runs: int = 9
) -> float:
    """Median of some calls, weights from memory: copies in turn, 128 MB at least."""
    weight, x = random_weight(*shape, "8:16", dtype), random_x(tokens, shape[1], dtype)
    count = max(2, -(-(128 << 20) // weight.nbytes)) if tokens == 1 else 1
    held = [weight, *(_copy(weight) for _ in range(min(count, 64) - 1))]
    times = []
    for i in range(len(held) + runs):
        begin = time.perf_counter()
        matmul(x, held[i % len(held)], threads=1)
        times.append(time.perf_counter() - begin)
    return float(np.median(times[len(held) :]))


def _slope(sizes: list[int], seconds: list[float]) -> dict[str, Any]:
    slope = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
    return {"sizes": sizes, "seconds": seconds, "exponent": slope}


def _copy(weight: Any) -> Any:
    from nmref.tensor.weight import from_parts

    return from_parts(weight.spec, {name: part.copy() for name, part in weight.parts().items()})


def random_x(tokens: int, columns: int, dtype: str) -> Any:
    """[T, K] in the dtype of the weights."""
    import ml_dtypes

    x = np.random.default_rng(tokens).standard_normal((tokens, columns), dtype=np.float32)
    return x if dtype == "F32" else x.astype(ml_dtypes.bfloat16)


def random_weight(rows: int, columns: int, pattern: str, dtype: str) -> Any:
    """A packed weight [R, K]; at most 512 rows are drawn, then repeated in memory."""
    import ml_dtypes

    import nmref
    from nmref.pattern import NMPattern
    from nmref.prune.choose.mask import split

    base, _, outliers = pattern.partition("+")
    drawn = min(rows, 512)
    dense = np.random.default_rng(0).standard_normal((drawn, columns), dtype=np.float32)
    few = NMPattern.parse(outliers) if outliers else None
    masks = split(np.abs(dense), NMPattern.parse(base), few)
    made = [None if mask is None else np.where(mask, dense, np.float32(0)) for mask in masks]
    times = (-(-rows // drawn), 1)
    below, over = (None if part is None else np.tile(part, times)[:rows] for part in made)
    if dtype == "BF16":
        below = below.astype(ml_dtypes.bfloat16)
        over = None if over is None else over.astype(ml_dtypes.bfloat16)
    return nmref.encode(below, base, outliers=over, outlier_pattern=outliers or "16:256")


def main() -> int:
    job, threads = sys.argv[1], int(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    jobs = {"codec": codec, "start": start, "jitter": jitter, "exponents": exponents}
    answers.write(json.dumps(jobs[job]("--small" in sys.argv, threads)) + "\n")
    answers.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
