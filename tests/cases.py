"""Random inputs of encode, all from a seeded generator, and what they must decode to."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import numpy as np

from nmref.dtypes import Array
from tests.witness import UNSIGNED, Case

Generator = np.random.Generator

BASE_PATTERNS = ("2:4", "4:8", "8:16", "16:32")
OUT_PATTERNS = ("4:256", "8:256", "16:256")
FLOATS = ("F32", "F16", "BF16")
DTYPES = (*FLOATS, "I8")
SIZES = {"F32": 4, "F16": 2, "BF16": 2, "I8": 1}
FRACTION = {"F32": 23, "F16": 10, "BF16": 7}
ONE = {"F32": 0x3F800000, "F16": 0x3C00, "BF16": 0x3F80, "I8": 1}
MINUS_ZERO = {"F32": 0x80000000, "F16": 0x8000, "BF16": 0x8000}


def bits(dtype: str, rows: object) -> Array:
    """Rows of integers as the bits of elements."""
    return np.array(rows, dtype=UNSIGNED[SIZES[dtype]])


def specials(dtype: str) -> Array:
    """-0, both infinities, quiet and signalling NaN, subnormals, largest and smallest numbers."""
    if dtype == "I8":
        return bits(dtype, [1, 0x7F, 0x80, 0xFF])
    fraction, sign = FRACTION[dtype], MINUS_ZERO[dtype]
    infinity = sign - (1 << fraction)
    positive = [
        infinity,
        infinity | 1,  # signalling
        infinity | 1 << (fraction - 1),  # quiet
        infinity | ((1 << fraction) - 1),
        1,
        (1 << fraction) - 1,
        1 << fraction,
        infinity - 1,
    ]
    return bits(dtype, [sign, *positive, *(sign | value for value in positive)])


def elements(rng: Generator, dtype: str, count: int) -> Array:
    """Elements whose bits are not all zero: half of any bits, half special."""
    unsigned = UNSIGNED[SIZES[dtype]]
    high = (1 << 8 * SIZES[dtype]) - 1
    plain = rng.integers(1, high, count, dtype=unsigned, endpoint=True)
    return np.where(rng.random(count) < 0.5, plain, rng.choice(specials(dtype), count))


def scales(rng: Generator, rows: int) -> Array:
    """Scales of I8 rows, as F32 bits: 0 < s <= 2^120, a third of them subnormal."""
    top = np.where(rng.random(rows) < 0.33, 0x800000, 0x7B800000)
    return rng.integers(1, top, rows, dtype=np.uint32, endpoint=True)


def _choose(rng: Generator, columns: Array, most: int) -> Array:
    count = rng.integers(0, min(most, len(columns)), endpoint=True)
    return rng.choice(columns, count, replace=False)


def _matrix(
    rng: Generator, dtype: str, pattern: str, free: Array, masked: bool
) -> tuple[Array, Array | None]:
    """Bits [R, K] that fit the pattern at free columns, and a mask that covers them."""
    stored, block = (int(word) for word in pattern.split(":"))
    rows, columns = free.shape
    dense = np.zeros((rows, columns), dtype=UNSIGNED[SIZES[dtype]])
    mask = np.zeros((rows, columns), dtype=np.bool_)
    for row in range(rows):
        for start in range(0, columns, block):
            here = start + np.flatnonzero(free[row, start : start + block])
            chosen = _choose(rng, here, stored)
            mask[row, chosen] = True
            used = _choose(rng, chosen, stored) if masked else chosen
            dense[row, used] = elements(rng, dtype, len(used))
    return dense, mask if masked else None


def random_case(
    rng: Generator,
    dtype: str,
    pattern: str,
    shape: tuple[int, int],
    out: tuple[str, str, str] | None = None,
    masked: bool = False,
) -> Case:
    """A case that encode accepts; `out` is (dtype, pattern, coding) of outliers."""
    base, mask = _matrix(rng, dtype, pattern, np.ones(shape, dtype=np.bool_), masked)
    scale = scales(rng, shape[0]) if dtype == "I8" else None
    if out is None:
        return Case(dtype, base, pattern, mask, scale)
    outliers, out_mask = _matrix(rng, out[0], out[1], base == 0, masked)
    return Case(dtype, base, pattern, mask, scale, outliers, *out, out_mask)


def dense_of(case: Case) -> tuple[str, Array]:
    """dtype and bits of W by SPEC 4.9 to 4.11, from the dense inputs."""
    out = case.outliers
    if case.dtype != "I8" and (out is None or case.out_dtype == case.dtype):
        return case.dtype, case.base if out is None else np.where(out != 0, out, case.base)
    wide = widened(case.dtype, case.base, case.scale)
    return "F32", wide if out is None else np.where(out != 0, widened(case.out_dtype, out), wide)


def widened(dtype: str, raw: Array, scale: Array | None = None) -> Array:
    """F32 bits [R, K]; the product of an integer and its scale is exact in F64."""
    if dtype == "I8":
        assert scale is not None
        factors = scale.view(np.float32).astype(np.float64)[:, None]
        return (raw.view(np.int8) * factors).astype(np.float32).view(np.uint32)
    if dtype == "F32":
        return raw
    if dtype == "BF16":
        return raw.astype(np.uint32) << 16
    wide = raw.astype(np.uint32)
    sign, exponent, fraction = wide >> 15 << 31, wide >> 10 & 31, wide & 1023
    normal = (exponent + 112) << 23 | fraction << 13
    subnormal = (fraction.astype(np.float32) * np.float32(2.0**-24)).view(np.uint32)
    special = np.uint32(0x7F800000) | fraction << 13
    return sign | np.where(exponent == 31, special, np.where(exponent == 0, subnormal, normal))


@cache
def masks(pattern: str) -> list[int]:
    """Every mask of a short pattern in code order: SPEC 2.5 says it is the order of integers."""
    stored, block = (int(word) for word in pattern.split(":"))
    return sorted(sum(1 << p for p in chosen) for chosen in combinations(range(block), stored))


def mask_bits(numbers: list[int], block: int) -> Array:
    """Integers -> [len, block] bool, bit i at column i."""
    return np.array([[number >> i & 1 for i in range(block)] for number in numbers], dtype=np.bool_)
