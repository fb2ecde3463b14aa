"""Inputs of SPEC part 8, random ones from a seeded generator and ones that aim at a rounding.

An operand knows, beside the weight that a witness takes, its dense base and dense outliers as F32
bits and the numbers of their slots, made from the inputs of encode by the text of SPEC.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from nmref.dtypes import Array
from tests.cases import FRACTION, SIZES, Generator, dense_of, elements, random_case, widened
from tests.numerics.witness import Dense, Stored, Weight
from tests.witness import UNSIGNED, WITNESSES, Bits, Case

LANES = tuple(
    f"f32.lanes{lanes}.{kind}" for lanes in (2, 4, 8, 16, 32, 64) for kind in ("mul", "fma")
)
SCALAR = ("exact", "f64.seq", "f32.seq", "f32.fma", *LANES)
TC_SOME = (
    "tc.L4.F23.rz.rz.col",
    "tc.L4.F60.rne.rne.slot",
    "tc.L8.F24.rd.rne.col",
    "tc.L8.F25.rz.rne.slot",
    "tc.L16.F25.rne.rz.col",
    "tc.L16.F24.rd.rz.slot",
    "tc.L32.F59.rd.rne.slot",
    "tc.L32.F60.rz.rz.col",
    "tc.L32.F60.rne.rne.col",
    "tc.L32.F23.rne.rne.slot",
)
TC_ALL = tuple(
    f"tc.L{group}.F{fraction}.{inner}.{outer}.{order}"
    for group in (4, 8, 16, 32)
    for fraction in range(23, 61)
    for inner in ("rz", "rd", "rne")
    for outer in ("rz", "rne")
    for order in ("col", "slot")
)
MERGED = tuple(name + "+merged" for name in (*SCALAR, *TC_SOME) if not name.endswith(".slot"))
SPLIT = tuple(name + "+split" for name in (*SCALAR, *TC_SOME))
PROFILES = MERGED + SPLIT
"""Every profile that is not tc, and some that are, by full names."""


@dataclass(frozen=True, eq=False)
class Operand:
    """A weight with what a model needs of it; no outliers are outliers that are all zero.

    A value that encode stored is at base_slots[r, c] or out_slots[r, c]; other numbers there mean
    nothing.
    """

    weight: Weight
    w: Array
    base: Array
    outliers: Array
    base_slots: Array
    out_slots: Array


def f32(*values: float) -> Array:
    """Numbers that F32 holds, as bits."""
    single = np.array(values, dtype=np.float32)
    assert np.array_equal(single.astype(np.float64), np.array(values, np.float64), equal_nan=True)
    return single.view(np.uint32)


def dense(dtype: str, bits: Array) -> Operand:
    """A weight [R, K] that was never sparse: the slot of a column is its number (8.12)."""
    wide = widened(dtype, bits)
    slots = np.broadcast_to(np.arange(bits.shape[1]), bits.shape)
    return Operand(Dense(dtype, bits), wide, wide, np.zeros_like(wide), slots, slots)


def stored(case: Case) -> Operand:
    """A sparse weight, encoded."""
    dtype, w = dense_of(case)
    base = widened(case.dtype, case.base, case.scale)
    base_slots = _slots(case.pattern, case.base, case.mask, np.zeros(base.shape, dtype=np.bool_))
    outliers, out_slots = np.zeros_like(base), base_slots
    if case.outliers is not None:
        outliers = widened(case.out_dtype, case.outliers)
        out_slots = _slots(case.out_pattern, case.outliers, case.out_mask, case.base != 0)
    weight = Stored(case.spec, WITNESSES[-1].encode(case))
    return Operand(weight, widened(dtype, w), base, outliers, base_slots, out_slots)


def _slots(pattern: str, bits: Array, mask: Array | None, barred: Array) -> Array:
    """The number of every stored column in its row [R, K], by 3.9, 4.14 and 8.12."""
    n, m = (int(word) for word in pattern.split(":"))
    used = (bits != 0) if mask is None else mask
    numbers = np.full(bits.shape, -1)
    for r in range(bits.shape[0]):
        for b in range(-(-bits.shape[1] // m)):
            block = range(b * m, b * m + m)
            real = block[: max(0, min(m, bits.shape[1] - b * m))]
            columns = {c for c in real if used[r, c]}
            free = [c for c in block if c not in columns and not (c in real and barred[r, c])]
            for j, c in enumerate(sorted([*columns, *free[: n - len(columns)]])):
                if c in real:
                    numbers[r, c] = b * n + j
    return numbers


def floats(rng: Generator, dtype: str, shape: tuple[int, ...], spread: float) -> Array:
    """Finite numbers as bits, with exponents in -spread ... spread as far as dtype has them."""
    top = {"F32": 126, "BF16": 126, "F16": 14}[dtype]
    exponent = rng.uniform(-min(spread, top), min(spread, top), shape)
    value = np.exp2(exponent) * rng.choice([-1.0, 1.0], shape)
    bits = value.astype(np.float32).view(np.uint32)
    if dtype == "F16":
        return value.astype(np.float16).view(np.uint16)
    return (bits >> 16).astype(np.uint16) if dtype == "BF16" else bits


def any_finite(rng: Generator, dtype: str, shape: tuple[int, ...]) -> Array:
    """Every finite bit pattern is as likely as another, subnormals and zeros more often."""
    size, fraction = SIZES[dtype], FRACTION[dtype]
    bits = rng.integers(0, (1 << 8 * size) - 1, shape, UNSIGNED[size], endpoint=True)
    sign = bits.dtype.type(1 << (8 * size - 1))
    infinite = bits.dtype.type(sign - (1 << fraction))
    bits = np.where(bits & infinite == infinite, bits & ~infinite, bits)
    small = bits & (sign | bits.dtype.type((1 << fraction) - 1))
    kind = rng.random(shape)
    return np.where(kind < 0.1, small, np.where(kind < 0.15, bits & sign, bits))


def finite_case(
    rng: Generator,
    dtype: str,
    pattern: str,
    shape: tuple[int, int],
    out: tuple[str, str, str] | None = None,
    spread: float = 3,
) -> Case:
    """Masked, with finite elements; some used ones are -0, some named by the mask are +0."""
    case = random_case(rng, dtype, pattern, shape, out, masked=True)

    def finite(kind: str, bits: Array) -> Array:
        if kind == "I8":
            return bits
        minus_zero = bits.dtype.type(1 << (8 * SIZES[kind] - 1))
        new = np.where(rng.random(shape) < 0.05, minus_zero, floats(rng, kind, shape, spread))
        return np.where(bits == 0, bits, new)

    scale = None if case.scale is None else np.exp2(rng.uniform(-9, -3, shape[0]))
    return replace(
        case,
        base=finite(dtype, case.base),
        scale=None if scale is None else scale.astype(np.float32).view(np.uint32),
        outliers=None if case.outliers is None else finite(case.out_dtype, case.outliers),
    )


def vector(rng: Generator, dtype: str, shape: tuple[int, ...], spread: float = 3) -> Bits:
    """x: finite numbers, a tenth of them zeros of both signs."""
    bits = floats(rng, dtype, shape, spread)
    sign = bits.dtype.type(1 << (8 * SIZES[dtype] - 1))
    return dtype, np.where(rng.random(shape) < 0.1, bits & sign, bits)


@cache
def random_inputs() -> list[tuple[Operand, Bits]]:
    """Weights of every dtype, dense and stored, with x of every dtype, over many widths."""
    rng = np.random.default_rng(8)
    made: list[tuple[Operand, Bits]] = []
    for dtype, other, shape, spread in (
        ("F32", "F32", (2, 100), 3.0),
        ("F32", "F32", (2, 70), 40.0),
        ("F32", "F32", (1, 66), 126.0),
        ("F16", "F16", (2, 65), 10.0),
        ("BF16", "BF16", (2, 129), 8.0),
        ("BF16", "F32", (1, 31), 60.0),
        ("F32", "F16", (3, 1), 5.0),
        ("F32", "BF16", (0, 17), 5.0),
    ):
        x = vector(rng, other, (2, shape[1]), spread)
        made.append((dense(dtype, vector(rng, dtype, shape, spread)[1]), x))
    for dtype in ("F32", "F16", "BF16"):
        x = dtype, any_finite(rng, dtype, (2, 80))
        made.append((dense(dtype, any_finite(rng, dtype, (2, 80))), x))
    for dtype, pattern, columns, out, other, spread in (
        ("F32", "8:16", 43, None, "F32", 3.0),
        ("F16", "2:4", 67, None, "F32", 10.0),
        ("I8", "8:16", 129, None, "F32", 10.0),
        ("I8", "4:8", 33, None, "BF16", 3.0),
        ("F32", "8:16", 300, ("F32", "16:256", "idx8"), "F32", 20.0),
        ("BF16", "2:4", 258, ("BF16", "4:256", "colex"), "BF16", 6.0),
        ("F16", "16:32", 90, ("F32", "8:256", "idx8"), "F16", 12.0),
        ("I8", "8:16", 270, ("BF16", "16:256", "idx8"), "F32", 3.0),
        ("I8", "2:4", 7, ("F16", "4:256", "colex"), "F16", 3.0),
        ("BF16", "5:9", 2, ("F32", "4:256", "idx8"), "F32", 3.0),
    ):
        case = finite_case(rng, dtype, pattern, (2, columns), out, spread)
        made.append((stored(case), vector(rng, other, (2, columns), spread)))
    case = finite_case(rng, "F32", "2:4", (2, 12))
    made.append((stored(case), vector(rng, "F32", (0, 12))))
    return made


def two(k: int) -> float:
    """2^k, exact down to 2^-1074."""
    return float(2.0**k)


def power(m: int, k: int) -> tuple[float, float]:
    """Two F32 numbers whose product is m * 2^k, |m| < 2^24."""
    x = k if abs(k) < 24 else max(-149, min(k // 2, 100))
    return m * two(k - x), two(x)


def factors(k: int) -> tuple[int, int]:
    """2^24 + k, k odd, as a product of two numbers below 2^24."""
    value = 2**24 + k
    p = next(p for p in range(3, 4097, 2) if value % p == 0)
    return p, value // p


HAIR_ABOVE = (8392705, 8384513)
"""Their product is 2^46 + 1."""
HAIR_BELOW = (2**23 + 1, 2**23 - 1)
"""Their product is 2^46 - 1."""
Pairs = list[tuple[float, float]]
TOP = 2**24 - 1


def _ties() -> dict[str, Pairs]:
    """One product at, or 2^-46 of itself beside, half a unit of an even and an odd accumulator."""
    found: dict[str, Pairs] = {}
    for name, (a, b) in {
        "at": (2**23, 2**23),
        "above": HAIR_ABOVE,
        "below": HAIR_BELOW,
    }.items():
        for last in (0, 1):
            for sign in (1, -1):
                half = (sign * a * two(-47), b * two(-23))  # 2^-24, for a unit of 2^-23
                found[f"tie {name} {last} {sign}"] = [(sign * (1 + last * two(-23)), 1.0), half]
                found[f"tie {name} {last} {sign} toward 0"] = [
                    (-sign * (1 + two(-22) + last * two(-23)), 1.0),
                    half,
                ]
        found[f"overflow tie {name}"] = [power(TOP, 104), (a * two(40), b * two(17))]
        found[f"subnormal tie {name}"] = [power(5, -149), (a * two(-98), b * two(-98))]
        found[f"lone subnormal tie {name}"] = [(a * two(-98), b * two(-98))]
    for k in (1, 3, 7, 9, 11, 13):
        for hair in (1, -1):
            product = (float(factors(k)[0]), factors(k)[1] * two(-24))
            found[f"product tie {k} {hair}"] = [(hair * two(-149), 1.0), product]
            found[f"product tie {k} {hair} far"] = [(hair * two(-100), two(-130)), product]
            found[f"product tie {k} {hair} last"] = [product, (hair * two(-149), two(-149))]
    return found


def _aimed() -> dict[str, Pairs]:
    one, big = (1.0, 1.0), two(12)
    return {
        "8.16 first": [(big, big), one, (-big, big)],
        "8.16 second": [(two(30), two(30)), one, (-two(30), two(30))],
        "no term at all": [(0.0, 1.0), (-0.0, 5.0)],
        "terms of zero": [(1.0, 0.0), (1.0, -0.0), (-1.0, 0.0)],
        "zero weights between": [(0.0, 7.0), (3.0, 2.0), (-0.0, 7.0), (1.0, -0.0), (5.0, -1.0)],
        "product overflows, sum does not": [(-two(127), 1.0), (two(64), two(64))],
        "products overflow both ways": [(two(64), two(64)), (-two(64), two(64))],
        "products underflow, sum does not": [power(1, -150)] * 4,
        "product underflows beside odd": [power(1, -149), power(1, -150)],
        "product of three quarters": [power(3, -151), power(3, -151)],
        "negative underflow": [power(-1, -151)],
        "negative underflows, then one": [power(-1, -151), power(-3, -160), one],
        "smallest and largest": [
            (two(127), two(127)),
            (two(-149), 1.0),
            (-two(127), two(127)),
            (two(-149), two(-149)),
        ],
        "sticky at 2^-298": [(1.0, 1.0), power(1, -24), (two(-149), two(-149))],
        "sticky at -2^-298": [(1 + two(-23), 1.0), power(1, -24), (-two(-149), two(-149))],
        "tie from three": [(1 + two(-23), 1.0), power(1, -25), power(1, -25)],
        "hair lost in binary64": [one, power(1, -24), power(1, -60)],
        "hair kept in binary64": [power(1, -60), one, power(1, -24)],
        "hair at the end of binary64": [one, power(1, -24), power(1, -52)],
        "hair at half the end of binary64": [(1 + two(-23), 1.0), power(1, -24), power(-1, -53)],
        "exact just overflows": [power(TOP, 104), power(1, 103)],
        "exact just does not overflow": [power(TOP, 104), power(1, 103), power(-1, -298)],
        "overflow and back": [power(TOP, 104)] * 3 + [power(-TOP, 104)] * 2,
        "overflow stays": [power(TOP, 104)] * 2 + [power(-1, 0)],
        "cancels to subnormal": [(1.0, 1.0), (-1.0, 1.0), power(5, -149)],
        "cancels to nothing": [(1.5, 3.0), (-4.5, 1.0)],
        "lanes meet in halves": [(two(24), 1.0), one, one, (-two(24), 1.0), one, one],
        "many sticky": [(two(24), 1.0), *[one] * 66],
        "alternating": [(two(23) * (-1) ** i + i, 1.0 + i * two(-23)) for i in range(67)],
    }


def _aimed_tc() -> dict[str, Pairs]:
    """Groups of tc: what is cut, kept, tied, above 64 bits, above 2^128 and below 2^-126."""
    found: dict[str, Pairs] = {}
    ones: Pairs = [(1.0, 1.0)]
    for k in (*range(22, 28), 31, 32, 40, 52, 53, 58, 59, 60, 61, 62):
        cut, back = power(3, -k - 1), [(-1.0, 1.0)]
        found[f"cut at {k}"] = [*ones, cut, *back]
        found[f"cut at {k}, negative"] = [*ones, power(-3, -k - 1), *back]
        found[f"tie at {k}"] = [*ones, power(1, -k - 1), power(1, -k), *back]
        found[f"negative tie at {k}"] = [*ones, power(-1, -k - 1), power(5, -k), *back]
        found[f"accumulator cut at {k}"] = [
            power(2**23 + 1, -23 - k),
            *[(1.0, 0.0)] * 31,
            *ones,
            *back,
        ]
    wide = (TOP * two(-23), TOP * two(-23))
    for k in (2, 4, 8, 16, 32, 64):
        found[f"{k} widest products"] = [wide] * k
        found[f"{k} widest negative products"] = [(-wide[0], wide[1])] * k
        found[f"{k} wide and one small"] = [*[wide] * (k - 1), power(-1, -60)]
        found[f"{k} wide ones then back"] = [*[wide] * k, *[(-wide[0], wide[1])] * (k - 1)]
    for k in (3, 4, 5, 6, 7, 9):
        found[f"{k} quarters of half the smallest number"] = [power(1, -152)] * k
    for k, sign in ((8, 1), (8, -1), (16, 1), (24, -1)):  # S has more than 63 bits, its last is 1
        found[f"tie of {k} and a hair {sign}"] = [
            *[(float(sign), 1.0)] * k,
            power(sign, -21 if k == 8 else -20),
            power(sign, -60),
        ]
    found |= {
        "not normalised": [(1.5, 1.5), power(1, -23), power(1, -24), power(-1, -24)],
        "barely normalised": [(TOP * two(-23), TOP * two(-23)), power(3, -24), power(-9, -2)],
        "subnormal exponent": [(two(-140) * 3, two(100)), power(1, -62), power(1, -63)],
        "both subnormal": [(3 * two(-149), 5 * two(-140)), (1.0, 0.0)],
        "ends subnormal": [power(2**23 + 1, -150), power(1, -150), power(-3, -152)],
        "ends subnormal, negative": [power(-(2**23) - 1, -151), power(-1, -150), power(-1, -152)],
        "ends below subnormal": [power(-3, -151)],
        "small dominated by the accumulator": [power(1, 40), *[power(1, 0)] * 40],
        "accumulator dominated": [power(TOP, -30), *[(1.0, 0.0)] * 32, power(3, 40)],
        "accumulator cancels": [
            power(TOP, -10),
            *[(1.0, 0.0)] * 32,
            power(-TOP, -10),
            power(1, -50),
        ],
        "zero accumulator between": [(1.0, 1.0), (-1.0, 1.0), *[(1.0, 0.0)] * 33, power(7, -99)],
        "zero x over a large weight": [(two(127), 0.0), power(3, -60)],
        "zero x over a large weight and a far one": [(two(127), -0.0), power(-3, -100)],
        "top by rz": [power(1, 128), power(-1, 102)],
        "top by rz, negative": [power(-1, 128), power(1, 102)],
        "top at the tie": [power(1, 128), power(-1, 103)],
        "top below the tie": [power(1, 128), power(-1, 103), power(-1, 80)],
        "top": [power(1, 128), power(-1, 104)],
        "over the top": [power(1, 128)],
        "over the top, negative": [power(-1, 128)],
        "over the top and back": [power(1, 128), power(-1, 128), power(1, 3)],
        "over the top, later back": [power(1, 128), *[(1.0, 0.0)] * 32, power(-1, 128)],
        "over both tops": [
            power(1, 128),
            *[(1.0, 0.0)] * 31,
            power(-1, 128),
            *[(1.0, 0.0)] * 31,
            power(-1, 129),
        ],
        "sum over the top": [power(TOP, 104), power(1, 103)],
        "sum just not over the top": [power(TOP, 104), power(1, 103), power(-1, 79)],
        "largest exponents": [(TOP * two(104), TOP * two(104)), (-TOP * two(104), TOP * two(104))],
        "smallest exponents": [(two(-149), two(-149)), (two(-149), -two(-149))],
        "out tie to even": [power(TOP, -23), power(1, -24), power(1, -48)],
        "out tie up": [power(2**23 + 1, -23), power(1, -24)],
        "out tie down": [power(2**23 + 2, -23), power(1, -24)],
        "out tie, negative": [power(-(2**23) - 1, -23), power(-1, -24)],
        "out above the tie": [power(2**23 + 2, -23), power(1, -24), power(1, -60)],
        "S of 2^24 units and half": [power(1, 0), power(1, -24), power(1, -26), power(1, -27)],
    }
    return found


AIMED: dict[str, Pairs] = {**_ties(), **_aimed(), **_aimed_tc()}
"""Terms W * x, in columns 0, 1, ..., that aim at one rounding each."""


def aimed(pairs: Pairs) -> tuple[Operand, Bits]:
    """One dense row and one x."""
    w, x = (f32(*column)[None] for column in zip(*pairs, strict=True))
    return dense("F32", w), ("F32", x)


@cache
def near_ties() -> list[tuple[Operand, Bits]]:
    """Sums at, above and below the middle of two F32 numbers, their terms in any order.

    The number next to the middle is random, normal or subnormal; the half unit may be in pieces;
    the hair is anywhere down to 2^-298; terms that cancel each other may stand between.
    """
    rng = np.random.default_rng(5)
    made = []
    for i in range(60):
        low = -149 if i % 5 == 0 else int(rng.integers(-140, 100))
        mantissa = int(rng.integers(1 if i % 5 == 0 else 2**23, 2**24))
        sign = int(rng.choice([-1, 1]))
        depth = int(rng.integers(1, 20))
        halves = [*(-1 - step for step in range(1, depth)), -depth]
        terms = [power(sign * mantissa, low), *[power(sign, low + k) for k in halves]]
        hair = (0, 1, -1)[i % 3]
        if hair:
            terms.append(power(hair, max(-298, low - int(rng.choice([24, 28, 35, 52, 90, 300])))))
        if rng.random() < 0.5:
            size = min(low + int(rng.integers(20, 60)), 200)
            terms += [power(TOP, size - 24), power(-TOP, size - 24)]
        rng.shuffle(terms)
        made.append(aimed([(float(w), float(x)) for w, x in terms]))
    return made


@cache
def special_inputs() -> list[tuple[Operand, Bits]]:
    """NaN, infinities and -0 among other numbers, in W and in x, dense and stored."""
    rng = np.random.default_rng(3)
    made: list[tuple[Operand, Bits]] = []
    values = {
        "few": [np.nan, np.inf, -np.inf, *[0.0, -0.0] * 3, *[1.0, -2.5, 2.0**100] * 12],
        "one sign": [np.inf, *[0.0] * 3, *[1.0, 2.0**-100] * 8],
        "zeros": [np.inf, -np.inf, np.nan, *[0.0, -0.0] * 30],
    }
    for kinds in values.values():
        for columns in (1, 3, 17, 40):
            w, x = (
                rng.choice(np.array(kinds, dtype=np.float32), (4, columns)).view(np.uint32)
                for _ in range(2)
            )
            made.append((dense("F32", w), ("F32", x)))
    for dtype in ("F32", "F16", "BF16"):
        for pattern, columns, out in (
            ("8:16", 21, None),
            ("2:4", 30, (dtype, "4:256", "idx8")),
            ("2:4", 258, ("F32", "4:256", "colex")),
        ):
            case = random_case(rng, dtype, pattern, (3, columns), out, masked=True)
            x = elements(rng, dtype, 2 * columns).reshape(2, columns)
            x = np.where(rng.random(x.shape) < 0.6, floats(rng, dtype, x.shape, 9), x)
            made.append((stored(case), (dtype, x)))
    return made
