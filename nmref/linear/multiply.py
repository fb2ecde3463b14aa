"""y = x W^T for dense and sparse weights: as fast as possible, or by a profile to the bit."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import numpy.typing as npt

from nmref.dtypes import DTYPES, OUTLIER_DTYPES, Array, container_name, widen
from nmref.errors import Code, NmrefError
from nmref.kernels import activations
from nmref.kernels.rows import dense_rows
from nmref.linear.choose import choose
from nmref.linear.pool import default_threads
from nmref.linear.prepared import Prepared, kernel_view, prepared
from nmref.linear.run import RUNS
from nmref.numerics import Profile, by_profile, expand, fast
from nmref.tensor import SparseWeight

F32 = npt.NDArray[np.float32]

WORTH_A_THREAD = 200.0
"""Microseconds of work: waking a thread takes up to a hundred."""

BYTES_A_MICROSECOND, TERMS_A_MICROSECOND = 30e3, 50e3
"""About what one core does: bytes of weights read, stored weights times tokens multiplied."""


def matmul(
    x: Array,
    weight: SparseWeight | Array,
    profile: str | Profile | None = None,
    *,
    twin: ModuleType = fast,
    threads: int | None = None,
) -> Array:
    """y[T, R] = x[T, K] W[R, K]^T.

    Parameters
    ----------
    x : [T, K] or [K]; float32, float16 or bfloat16; int8 for a weight whose base is I8 and that has
        no outliers.
    weight : a SparseWeight, or a dense [R, K] float32, float16 or bfloat16 array.
    profile : a name of SPEC 8.15: y is the canonical result, to the bit.  None: as fast as this
        machine can; y is float32, |y - exact| <= gamma_K sum |w| |x| (underflow apart), the same
        for every number of threads but not on every machine.
    twin : with a profile, `nmref.numerics.fast` or `nmref.numerics.plain`; they agree.
    threads : how many; they do not change y.  None: with a profile one, else NMREF_THREADS or every
        CPU that the process may use.

    Returns
    -------
    y : float32, or int32 for int8 x: exact, modulo 2^32.

    Raises
    ------
    NmrefError
        X_SHAPE, X_DTYPE, T_ARGUMENT (profile, or one that the weight cannot have; threads).

    >>> w = np.array([[1, 0, 2, 0]], dtype=np.float32)
    >>> matmul(np.arange(4, dtype=np.float32), w).tolist()
    [4.0]
    >>> matmul(np.arange(4, dtype=np.float32), w, "f64.seq").tolist()
    [4.0]
    """
    x, chosen = np.asarray(x), Profile.parse(profile) if isinstance(profile, str) else profile
    _check(x, weight, chosen)
    if threads is not None and threads < 1:
        raise NmrefError(Code.T_ARGUMENT, "threads", str(threads), "1 or more")
    tokens = x[None, :] if x.ndim == 1 else x
    if chosen is not None:
        y = by_profile(tokens, weight, chosen, twin, threads or 1)
    else:
        y = product(tokens, weight, threads)
    return y.reshape(-1) if x.ndim == 1 else y


def product(x: Array, weight: SparseWeight | Array, threads: int | None = None) -> Array:
    """`matmul` without a profile and without its checks: x [T, K] -> [T, R]."""
    if not isinstance(weight, SparseWeight):
        return _dense(widen(x), widen(weight))
    rows, columns = weight.shape
    integers = x.dtype == np.int8
    if 0 in (len(x), rows, columns):
        return np.zeros((len(x), rows), dtype=np.int32 if integers else np.float32)
    ready, name = prepared(weight), container_name(x)
    choice = choose(ready, len(x), name)
    if choice.kernel == "dense":
        return _integers(x, weight) if integers else _dense(widen(x), expand(weight))
    workers = _workers(ready, len(x), threads or default_threads())
    view = kernel_view(x)
    y, seen = RUNS[choice.kernel](ready, view, choice.tokens, workers)
    if seen & activations.SUBNORMAL and choice.kernel in ("dots512", "pairs", "amx"):
        choice = choose(ready, len(x), name, plain_x=False)
        y, seen = RUNS[choice.kernel](ready, view, choice.tokens, workers)
    if seen & activations.NOT_FINITE:
        return _dense(widen(x), expand(weight))
    return y


def _workers(weight: Prepared, tokens: int, threads: int) -> int:
    """No more threads than the work is worth."""
    read = (weight.values.nbytes + weight.out_values.nbytes) / BYTES_A_MICROSECOND
    multiplied = weight.values.size * tokens / TERMS_A_MICROSECOND
    return max(1, min(threads, int(max(read, multiplied) / WORTH_A_THREAD)))


def _integers(x: Array, weight: SparseWeight) -> Array:
    """int8 by a pattern that has no kernel: the profile is exact as well."""
    return by_profile(x, weight, Profile.parse("i32"), fast, 1)


def _dense(x: F32, dense: F32) -> F32:
    """By BLAS; terms of zero weights never exist, for infinite x too."""
    if np.isfinite(x).all():
        return x @ dense.T
    y = np.zeros((dense.shape[0], x.shape[0]), dtype=np.float32)
    dense_rows(np.ascontiguousarray(dense), np.ascontiguousarray(x.T), y)
    return np.ascontiguousarray(y.T)


def _check(x: Array, weight: SparseWeight | Array, profile: Profile | None) -> None:
    """Shapes and dtypes of matmul.  Raises X_SHAPE, X_DTYPE, T_ARGUMENT."""
    sparse = weight if isinstance(weight, SparseWeight) else None
    quantised = sparse is not None and sparse.base.scale is not None and sparse.outliers is None
    integers = profile is not None and profile.kind == "i32"
    allowed = {"I8": DTYPES["I8"]} if integers else dict(OUTLIER_DTYPES)
    if profile is None and quantised:
        allowed |= {"I8": DTYPES["I8"]}
    if x.dtype not in allowed.values():
        want = " or ".join(str(dtype) for dtype in allowed.values())
        raise NmrefError(Code.X_DTYPE, "x", f"dtype {x.dtype}", want)
    if x.ndim not in (1, 2) or len(weight.shape) != 2 or x.shape[-1] != weight.shape[1]:
        got = f"x {list(x.shape)} and W {list(weight.shape)}"
        raise NmrefError(Code.X_SHAPE, "matmul", got, "[T, K] or [K], and [R, K]")
    if not isinstance(weight, SparseWeight) and weight.dtype not in OUTLIER_DTYPES.values():
        want = " or ".join(str(dtype) for dtype in OUTLIER_DTYPES.values())
        raise NmrefError(Code.X_DTYPE, "W", f"dtype {weight.dtype}", want)
    if integers and not quantised:
        want = "a sparse weight with an I8 base and no outliers"
        raise NmrefError(Code.T_ARGUMENT, "profile i32", "another weight", want)
