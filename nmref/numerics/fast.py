"""Dots and exp by compiled loops: the same functions, and the same bits, as `plain`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from nmref.kernels import elementary, exact, group, sequential
from nmref.numerics.profile import Profile

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int8]
I32 = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]

_INNER = {"rz": group.RZ, "rd": group.RD, "rne": group.RNE}
TERMS_A_THREAD = 100_000
"""Fewer are not worth handing over; where dots are cut changes no result."""


def dots(weight: F32, x: F32, begin: Ints, end: Ints, profile: Profile, threads: int) -> F32:
    """y[t, r] = the dot of row r of W and x[t], of every profile but i32."""
    if profile.kind == "tc":
        columns = np.arange(weight.shape[1])[None, :]
        return tc(weight, columns, x, begin, end, profile, threads)
    y = np.zeros((len(x), len(weight)), dtype=np.float32)
    x = np.ascontiguousarray(x)

    def rows(part: slice) -> None:
        w, out = np.ascontiguousarray(weight[part]), y[:, part]
        if profile.kind == "exact":
            exact.exact(w, x, begin, end, out)
        elif profile.kind == "f64.seq":
            sequential.f64_seq(w, x, begin, end, out)
        else:
            fused = profile.fused or profile.kind == "f32.fma"
            sequential.f32_lanes(w, x, begin, end, out, max(profile.size, 1), fused)

    _in_parts(rows, len(weight), x.size, threads)
    return y


def tc(
    values: F32, columns: Ints, x: F32, begin: Ints, end: Ints, profile: Profile, threads: int
) -> F32:
    """SPEC 8.12, over slots: values [R, S], columns [R, S] or [1, S]."""
    y = np.zeros((len(x), len(values)), dtype=np.float32)
    inward, nearest = _INNER[profile.inner], profile.outer == "rne"
    x = np.ascontiguousarray(x)

    def rows(part: slice) -> None:
        w = np.ascontiguousarray(values[part])
        where = np.ascontiguousarray(columns[part] if len(columns) > 1 else columns)
        out = y[:, part]
        group.tc(w, where, x, begin, end, out, profile.size, profile.fraction, inward, nearest)

    _in_parts(rows, len(values), x.size, threads)
    return y


def i32(weight: I8, x: I8) -> I32:
    """SPEC 8.14: weight [R, K], x [T, K] -> [T, R]."""
    y = np.zeros((len(x), len(weight)), dtype=np.int32)
    sequential.i32(np.ascontiguousarray(weight), np.ascontiguousarray(x), y)
    return y


def sums(x: F32) -> F64:
    """x [..., n] -> [...]: binary64 sums, ascending (SPEC 8.20)."""
    return _over_rows(elementary.sums, x)


def squares(x: F32) -> F64:
    """x [..., n] -> [...]: binary64 sums of the exact squares, ascending (SPEC 8.21)."""
    return _over_rows(elementary.squares, x)


def _over_rows(kernel: Callable[[F32, F64], None], x: F32) -> F64:
    rows = np.ascontiguousarray(x, dtype=np.float32).reshape(-1, x.shape[-1])
    y = np.empty(len(rows))
    kernel(rows, y)
    return y.reshape(x.shape[:-1])


def exp(x: F32) -> F32:
    """SPEC 8.17."""
    flat = np.ascontiguousarray(x, dtype=np.float32).reshape(-1)
    y = np.empty_like(flat)
    elementary.exp(flat, y)
    return y.reshape(x.shape)


def _in_parts(work: Callable[[slice], None], rows: int, terms: int, threads: int) -> None:
    """work(rows of W) for all rows, in equal parts on several threads.

    Outputs do not depend on each other, so neither do results on the number of threads.
    """
    threads = min(threads, max(rows * terms // TERMS_A_THREAD, 1), max(rows, 1))
    step = -(-rows // threads)
    step += -step % sequential.ROWS  # whole tiles
    parts = [slice(first, min(first + step, rows)) for first in range(0, rows, step or 1)]
    if len(parts) < 2:
        work(slice(0, rows))
        return
    for done in [_pool(threads).submit(work, part) for part in parts]:
        done.result()


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "nmref")
