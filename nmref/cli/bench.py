"""nmref bench."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import product
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from nmref.cli.common import add_json, cpus, positive, print_json, print_table
from nmref.cli.machine import settings

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

    from nmref.tensor import SparseWeight

SECONDS = 0.3
"""How long a product is repeated, and at least CALLS times."""

CALLS = 5

_SHAPE = re.compile(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", re.ASCII)
_BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Cell:
    """What is multiplied: W[R, K] of a pattern such as 8:16+16:256 by x[T, K]."""

    shape: tuple[int, int]
    pattern: str
    dtype: str
    tokens: int


@dataclass(frozen=True)
class Times:
    """Median seconds of a call, the bytes of the weight, and the kernel."""

    seconds: float
    bytes: int
    kernel: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nmref bench`."""
    parser.epilog = (
        "numpy is the product x @ W.T of the dense matrix, in float32 whatever --dtype says: it\n"
        "has no faster one for BF16. ratio: numpy's time by nmref's. GB/s: stored bytes of the\n"
        "weight by time. GFLOP/s: as if zeros were multiplied too. Medians of two processes that\n"
        "take turns; benchmarks/ has other peers and limits.\n\n"
        "examples:\n  nmref bench\n"
        "  nmref bench --shape 11008x4096 --tokens 1 64 --pattern 2:4 8:16+16:256 --threads 1"
    )
    parser.add_argument(
        "--shape", nargs="+", type=_shape, default=[(4096, 4096)], metavar="RxK", help="4096x4096"
    )
    parser.add_argument(
        "--tokens", nargs="+", type=positive, default=[1, 16, 128], metavar="T", help="1 16 128"
    )
    parser.add_argument(
        "--pattern", nargs="+", default=["8:16"], metavar="N:M", help="8:16; 8:16+16:256: outliers"
    )
    parser.add_argument(
        "--dtype", nargs="+", choices=("F32", "F16", "BF16", "I8"), default=["F32", "BF16"]
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="default: as doctor shows")
    add_json(parser)
    parser.set_defaults(run=run)


def _shape(text: str) -> tuple[int, int]:
    """Argument type: such as 4096x11008."""
    if not (found := _SHAPE.fullmatch(text)):
        raise argparse.ArgumentTypeError(f"{text} is not a shape such as 4096x11008")
    return int(found[1]), int(found[2])


def run(args: argparse.Namespace) -> int:
    """Prints a row for each product."""
    from nmref.kernels import isa
    from nmref.linear.pool import default_threads
    from nmref.pattern import base_pattern, outlier_pattern

    for pattern in args.pattern:
        base, plus, outliers = pattern.partition("+")
        base_pattern(base)
        if plus:
            outlier_pattern(outliers)
    why, threads = isa.why(), args.threads or default_threads()
    cells = [
        Cell(shape, pattern, dtype, tokens)
        for shape, pattern, dtype, tokens in product(
            args.shape, args.pattern, args.dtype, args.tokens
        )
    ]
    rows = list(_measured(cells, threads))
    if args.json:
        about = {"isa": isa.chosen(), "threads": threads, "settings": settings()}
        print_json({**about, "rows": rows})
        return 0
    print(f"{why}; {threads} threads of {cpus()} CPUs")
    print(f"settings: {', '.join(f'{k}={v}' for k, v in settings().items()) or 'none'}\n")
    header = ("W", "pattern", "dtype", "T", "kernel", "ms", "numpy ms", "ratio", "GB/s", "GFLOP/s")
    print_table(header, [_line(row) for row in rows])
    return 0


def _measured(cells: list[Cell], threads: int) -> Iterator[dict[str, Any]]:
    """A row for each cell; nmref and numpy one after the other, so that both meet the same load."""
    from tqdm import tqdm

    with (
        _blas_threads(threads),
        _one_process() as ours,
        _one_process() as theirs,
        tqdm(cells, "bench", unit="product", leave=False) as bar,
    ):
        for cell in bar:
            fast = ours.submit(time_sparse, cell, threads).result()
            dense = theirs.submit(time_dense, cell).result()
            rows, columns = cell.shape
            flops = 2 * rows * columns * cell.tokens
            yield {
                **asdict(cell),
                "kernel": fast.kernel,
                "seconds": fast.seconds,
                "numpy_seconds": dense.seconds,
                "ratio": dense.seconds / fast.seconds,
                "gb_per_second": fast.bytes / fast.seconds / 1e9,
                "gflop_per_second": flops / fast.seconds / 1e9,
            }


@contextmanager
def _one_process() -> Iterator[ProcessPoolExecutor]:
    """A new interpreter: BLAS reads its settings once, and its threads must not hold our CPUs."""
    from nmref.linear.workers import pool

    workers = pool(1)
    try:
        yield workers
    finally:
        workers.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _blas_threads(threads: int) -> Iterator[None]:
    """Processes that begin meanwhile have so many threads in NumPy's products."""
    before = {name: os.environ.get(name) for name in _BLAS_THREADS}
    os.environ.update(dict.fromkeys(_BLAS_THREADS, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def time_sparse(cell: Cell, threads: int) -> Times:
    """`matmul`, in a process that does nothing else."""
    from nmref.linear import matmul
    from nmref.linear.choose import choose
    from nmref.linear.prepared import prepared

    x_dtype = "F32" if cell.dtype == "I8" else cell.dtype
    weight, x = _weight(cell.shape, cell.pattern, cell.dtype), _activations(cell, x_dtype)
    choice = choose(prepared(weight), cell.tokens, x_dtype)
    seconds = _repeat(lambda: matmul(x, weight, threads=threads))
    kernel = f"{choice.kernel}/{choice.tokens}" if choice.tokens else choice.kernel
    return Times(seconds, weight.nbytes, kernel)


def time_dense(cell: Cell) -> Times:
    """NumPy's product, in float32."""
    dense = _dense(cell.shape, cell.pattern, cell.dtype)
    x = _activations(cell, "F32")
    return Times(_repeat(lambda: x @ dense.T), dense.nbytes)


@lru_cache(maxsize=1)
def _weight(shape: tuple[int, int], pattern: str, dtype: str) -> SparseWeight:
    """One at a time: cells of a weight follow each other."""
    from nmref.linear.samples import large

    base, _, outliers = pattern.partition("+")
    return large(shape, base, dtype, outliers)


@lru_cache(maxsize=1)
def _dense(shape: tuple[int, int], pattern: str, dtype: str) -> Any:
    from nmref.numerics import expand

    return expand(_weight(shape, pattern, dtype))


def _activations(cell: Cell, dtype: str) -> Any:
    import numpy as np

    from nmref.dtypes import DTYPES

    rng = np.random.default_rng(1)
    return rng.standard_normal((cell.tokens, cell.shape[1])).astype(DTYPES[dtype])


def _repeat(work: Callable[[], object]) -> float:
    """Median seconds; the first call, which may compile and prepare, does not count."""
    work()
    seconds: list[float] = []
    end = perf_counter() + SECONDS
    while len(seconds) < CALLS or perf_counter() < end:
        begin = perf_counter()
        work()
        seconds.append(perf_counter() - begin)
    return median(seconds)


def _line(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        "x".join(map(str, row["shape"])),
        row["pattern"],
        row["dtype"],
        str(row["tokens"]),
        row["kernel"],
        f"{row['seconds'] * 1e3:.3f}",
        f"{row['numpy_seconds'] * 1e3:.3f}",
        f"{row['ratio']:.2f}",
        f"{row['gb_per_second']:.1f}",
        f"{row['gflop_per_second']:.0f}",
    )
