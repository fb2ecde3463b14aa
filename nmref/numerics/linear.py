"""y = x W^T for dense and sparse weights: as fast as BLAS, or by a profile to the bit."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import numpy.typing as npt

from nmref import bits, colex
from nmref.dtypes import DTYPES, OUTLIER_DTYPES, Array, container_name, widen
from nmref.errors import Code, NmrefError
from nmref.kernels.rows import dense_rows
from nmref.numerics import fast
from nmref.numerics.profile import Profile
from nmref.pattern import NMPattern
from nmref.tensor import NMMatrix, Outliers, SparseWeight
from nmref.tensor.slots import positions_of

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]


def matmul(
    x: Array,
    weight: SparseWeight | Array,
    profile: str | Profile | None = None,
    *,
    twin: ModuleType = fast,
    threads: int = 1,
) -> Array:
    """y[T, R] = x[T, K] W[R, K]^T.

    Parameters
    ----------
    x : [T, K] or [K]; float32, with a profile also float16 or bfloat16, int8 for "i32".
    weight : a SparseWeight, or a dense [R, K] float32, float16 or bfloat16 array.
    profile : a name of SPEC 8.15: y is the canonical result, to the bit (int32 for "i32").
        None: the weight is expanded and BLAS multiplies; y differs between machines.
    twin : with a profile, `nmref.numerics.fast` or `nmref.numerics.plain`; they agree.
    threads : with a profile, how many; they do not change y.

    Raises
    ------
    NmrefError
        X_SHAPE, X_DTYPE, T_ARGUMENT (profile, or one that the weight cannot have).

    >>> w = np.array([[1, 0, 2, 0]], dtype=np.float32)
    >>> matmul(np.arange(4, dtype=np.float32), w).tolist()
    [4.0]
    >>> matmul(np.arange(4, dtype=np.float32), w, "f64.seq").tolist()
    [4.0]
    """
    x, chosen = np.asarray(x), Profile.parse(profile) if isinstance(profile, str) else profile
    _check(x, weight, chosen)
    if threads < 1:
        raise NmrefError(Code.T_ARGUMENT, "threads", str(threads), "1 or more")
    if x.ndim == 1:
        return matmul(x[None, :], weight, chosen, twin=twin, threads=threads).reshape(-1)
    if chosen is None:
        return blas(x, weight)
    if chosen.kind == "i32":
        return i32(x, weight, twin)
    return canonical(golden(widen(x), weight, chosen, twin, threads))


def blas(x: F32, weight: SparseWeight | Array) -> F32:
    """x [T, K] -> [T, R] by BLAS; terms of zero weights never exist, for infinite x too."""
    dense = expand(weight) if isinstance(weight, SparseWeight) else widen(weight)
    if np.isfinite(x).all():
        return x @ dense.T
    y = np.zeros((dense.shape[0], x.shape[0]), dtype=np.float32)
    dense_rows(np.ascontiguousarray(dense), np.ascontiguousarray(x.T), y)
    return y.T


def golden(
    x: F32, weight: SparseWeight | Array, profile: Profile, twin: ModuleType, threads: int
) -> F32:
    """x [T, K] -> [T, R] by a profile (SPEC 8.15), not yet canonical."""
    columns = weight.shape[1]
    begin, end = np.zeros(len(x), np.int64), np.full(len(x), columns)
    if not isinstance(weight, SparseWeight):  # no outliers: a second dot would add +0
        dots: F32 = twin.dots(widen(weight), x, begin, end, profile, threads)
        return dots
    if not profile.split:
        merged: F32 = twin.dots(expand(weight), x, begin, end, profile, threads)
        return merged
    total = np.zeros((len(x), weight.shape[0]), dtype=np.float32)
    for part in (weight.base, weight.outliers):
        if part is None:
            continue
        if profile.slots:
            values, where = slots_of(part)
            dot = twin.tc(values, where, x, begin, end, profile, threads)
        else:
            dot = twin.dots(dense_part(part), x, begin, end, profile, threads)
        with np.errstate(all="ignore"):
            total = total + dot
    return total


def i32(x: Array, weight: SparseWeight | Array, twin: ModuleType) -> I32:
    """x int8 [T, K] -> int32 [T, R], of the integers of a base I8 (SPEC 8.14)."""
    assert isinstance(weight, SparseWeight)
    y: I32 = twin.i32(weight.base.to_dense_bits().view(np.int8), x)
    return y


def canonical(y: F32) -> F32:
    """Every NaN becomes 0x7FC00000 and every -0 +0 (SPEC 8.4)."""
    with np.errstate(invalid="ignore"):  # signalling NaN
        return np.where(np.isnan(y), np.float32(np.nan), y + np.float32(0))


def expand(weight: SparseWeight) -> F32:
    """W[R, K] as float32."""
    return widen(weight.to_dense())


def dense_part(part: NMMatrix | Outliers) -> F32:
    """The base or the outliers alone as float32 [R, K], +0 where nothing is stored."""
    if isinstance(part, NMMatrix):
        return expand(SparseWeight(part))
    return widen(part.to_dense_bits().view(DTYPES[container_name(part.values)]))


def slots_of(part: NMMatrix | Outliers) -> tuple[F32, Ints]:
    """Values [R, S] as float32, and the column of every slot [R, S]."""
    rows, pattern = len(part.values), part.pattern
    blocks = pattern.blocks(part.columns)
    first = np.arange(blocks)[:, None] * pattern.block
    if isinstance(part, NMMatrix):
        values, index = widen(part.dense_values()), _positions(part.codes, pattern, blocks)
        return values, (index + first).reshape(values.shape)
    index = part.index.reshape(rows, blocks, pattern.stored).astype(np.int64)
    return widen(part.values), (index + first).reshape(part.values.shape)


def _positions(codes: Array, pattern: NMPattern, blocks: int) -> Ints:
    """Codes [R, row bytes] -> positions [R, B, N] in their blocks."""
    code = bits.unpack(codes, blocks, pattern.width, colex.code_dtype(pattern))
    return positions_of(colex.unrank(code, pattern), pattern.stored)


def _check(x: Array, weight: SparseWeight | Array, profile: Profile | None) -> None:
    """Shapes and dtypes of matmul.  Raises X_SHAPE, X_DTYPE, T_ARGUMENT."""
    allowed: dict[str, np.dtype[np.generic]] = {"F32": np.dtype(np.float32)}
    integers = profile is not None and profile.kind == "i32"
    if profile is not None:
        allowed = {"I8": np.dtype(np.int8)} if integers else dict(OUTLIER_DTYPES)
    if x.dtype not in allowed.values():
        want = " or ".join(str(dtype) for dtype in allowed.values())
        raise NmrefError(Code.X_DTYPE, "x", f"dtype {x.dtype}", want)
    if x.ndim not in (1, 2) or len(weight.shape) != 2 or x.shape[-1] != weight.shape[1]:
        got = f"x {list(x.shape)} and W {list(weight.shape)}"
        raise NmrefError(Code.X_SHAPE, "matmul", got, "[T, K] or [K], and [R, K]")
    sparse = weight if isinstance(weight, SparseWeight) else None
    if not isinstance(weight, SparseWeight) and weight.dtype not in OUTLIER_DTYPES.values():
        want = " or ".join(str(dtype) for dtype in OUTLIER_DTYPES.values())
        raise NmrefError(Code.X_DTYPE, "W", f"dtype {weight.dtype}", want)
    if integers and (sparse is None or sparse.base.scale is None or sparse.outliers is not None):
        want = "a sparse weight with an I8 base and no outliers"
        raise NmrefError(Code.T_ARGUMENT, "profile i32", "another weight", want)
