"""y = x W^T by a profile, to the bit (SPEC part 8)."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import numpy.typing as npt

from nmref import bits, colex
from nmref.dtypes import DTYPES, Array, container_name, widen
from nmref.numerics.profile import Profile
from nmref.pattern import NMPattern
from nmref.tensor import NMMatrix, Outliers, SparseWeight
from nmref.tensor.slots import positions_of

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]


def by_profile(
    x: Array, weight: SparseWeight | Array, profile: Profile, twin: ModuleType, threads: int
) -> Array:
    """x [T, K] -> y [T, R], the canonical result (SPEC 8.15); int32 for i32.

    The caller has checked dtypes and shapes (`nmref.matmul`).
    """
    if profile.kind == "i32":
        return i32(x, weight, twin)
    return canonical(golden(widen(x), weight, profile, twin, threads))


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
