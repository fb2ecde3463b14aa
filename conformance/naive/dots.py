"""Dots of decoded weights in every profile (SPEC 8.3 to 8.15)."""

from collections.abc import Iterable
from typing import Any, TypeAlias

from .decoder import Slots, decode, slots
from .encoder import Parts, Rows
from .floats import (
    UNIT,
    add32,
    canonical_bits,
    exponent_of,
    finite,
    fma32,
    mul32,
    rn32,
    rounded,
    to_integer,
    units,
    value,
)
from .numbers import FLOATS, elements, scaled
from .profiles import Profile, parse_profile

Weight: TypeAlias = "tuple[str, str, Rows] | tuple[dict[str, Any], Parts]"
"""("dense", dtype, rows of bits), or (spec, parts) of a packed weight."""
Term = tuple[int, int, float]
"""Column of x; the number that lanes and groups go by, a column or a slot; value of W."""
Row = list[Term]
Matrices = list[list[Row]]
"""Rows of W if merged; rows of the base and rows of the outliers if split (8.15)."""


def whole(weight: Weight) -> tuple[str, Rows]:
    """Give dtype and rows of W."""
    if len(weight) == 2:
        return decode(*weight)
    _, dtype, rows = weight
    if dtype not in FLOATS:
        raise ValueError(f"a dense matrix of dtype {dtype}")
    return dtype, rows


def terms(dtype: str, row: list[int]) -> Row:
    """Terms of a row of bits: one for every column whose value is nonzero (SPEC 8.3)."""
    return nonzero((c, c, value(dtype, bits)) for c, bits in enumerate(row))


def nonzero(candidates: Iterable[Term]) -> Row:
    """Keep the candidates that make terms; NaN is nonzero."""
    return [(c, place, w) for c, place, w in candidates if w != 0]


def matrices(profile: Profile, weight: Weight) -> Matrices:
    """Terms of every row that the profile adds in one dot."""
    if len(weight) == 3 or not profile.split:
        dtype, rows = whole(weight)
        merged = [terms(dtype, row) for row in rows]
        return [merged, [[] for _ in rows]] if profile.split else [merged]
    spec, parts = weight
    base, out = slots(spec, parts)
    scale = elements(parts["nm_scale"][2], "F32") if spec["dtype"] == "I8" else None
    found = [slot_terms(profile, spec["dtype"], spec["shape"][1], base, scale)]
    if out is None:
        return [*found, [[] for _ in base]]
    return [*found, slot_terms(profile, spec["outliers"]["dtype"], spec["shape"][1], out, None)]


def slot_terms(
    profile: Profile, dtype: str, k: int, matrix: Slots, scale: list[int] | None
) -> list[Row]:
    """Terms of the dense base or outliers; slots are numbered in their row (SPEC 8.12)."""
    found = []
    for r, row in enumerate(matrix):
        stored = [slot for block in row for slot in block]
        candidates = []
        for s, (c, bits) in enumerate(stored):
            if c < k:
                number = (
                    value(dtype, bits) if scale is None else value("F32", scaled(bits, scale[r]))
                )
                candidates.append((c, s if profile.slot else c, number))
        found.append(nonzero(candidates))
    return found


def linear(profile: str, weight: Weight, x_dtype: str, x: list[int]) -> list[int]:
    """Dot of every row of a weight and x, as canonical F32 bits (SPEC 8.3 to 8.15).

    `x` holds bits of F32, F16 or BF16. For "i32" it is I8, and the result has 32-bit two's
    complement integers as non-negative ints. Anything else is a ValueError.
    """
    parsed = parse_profile(profile)
    if parsed.kind == "i32":
        return i32(weight, x_dtype, x)
    if x_dtype not in FLOATS:
        raise ValueError(f"x of dtype {x_dtype}")
    if any(k != len(x) for k in columns(weight)):
        raise ValueError("W and x have different lengths")
    numbers = [value(x_dtype, bits) for bits in x]
    return [canonical_bits(y) for y in apply(parsed, matrices(parsed, weight), numbers)]


def columns(weight: Weight) -> list[int]:
    """K, once a row if the matrix is dense."""
    if len(weight) == 3:
        return [len(row) for row in weight[2]]
    return [weight[0]["shape"][1]]


def apply(profile: Profile, found: Matrices, x: list[float]) -> list[float]:
    """linear(x, W) of SPEC 8.29, on numbers."""
    if not profile.split:
        return [dot(profile, row, x) for row in found[0]]
    base, out = found
    return [
        add32(dot(profile, base_row, x), dot(profile, out_row, x))
        for base_row, out_row in zip(base, out, strict=True)
    ]


def dot(profile: Profile, row: Row, x: list[float]) -> float:
    """One dot; the terms are in ascending order of their columns."""
    if profile.kind == "exact":
        return exact(row, x)
    if profile.kind == "f64.seq":
        return f64_seq(row, x)
    if profile.kind in ("f32.seq", "f32.fma"):
        return f32_chain(row, x, profile.fused)
    if profile.kind == "f32.lanes":
        return f32_lanes(profile, row, x)
    assert profile.kind == "tc"
    return tc(profile, row, x)


def special(row: Row, x: list[float], addend: float = 0.0) -> float | None:
    """Special rule (SPEC 8.5) over terms and one addend; None if it does not decide."""
    found = [w * x[c] for c, _, w in row if not finite(w, x[c])]  # NaN: an operand, or Inf * 0
    if not finite(addend):
        found.append(addend)
    if not found:
        return None
    return sum(found[1:], found[0])  # a NaN stays, as do equal infinities; Inf - Inf is NaN


def exact(row: Row, x: list[float]) -> float:
    """SPEC 8.6: products count 2^-298, so one integer is their sum."""
    decided = special(row, x)
    if decided is not None:
        return decided
    return rounded(sum(units(w) * units(x[c]) for c, _, w in row), 2 * UNIT)


def f64_seq(row: Row, x: list[float]) -> float:
    """SPEC 8.7: Python floats are binary64, and a product of binary32 numbers is exact there."""
    acc = 0.0
    for c, _, w in row:
        acc += w * x[c]
    return rn32(acc)


def f32_chain(row: Row, x: list[float], fused: bool) -> float:
    """SPEC 8.8, or 8.9 if fused."""
    acc = 0.0
    for c, _, w in row:
        acc = fma32(w, x[c], acc) if fused else add32(acc, mul32(w, x[c]))
    return acc


def f32_lanes(profile: Profile, row: Row, x: list[float]) -> float:
    """SPEC 8.10."""
    rows: list[Row] = [[] for _ in range(profile.lanes)]
    for term in row:
        rows[term[1] % profile.lanes].append(term)
    lanes = [f32_chain(lane, x, profile.fused) for lane in rows]
    while len(lanes) > 1:
        h = len(lanes) // 2
        lanes = [add32(lanes[i], lanes[i + h]) for i in range(h)]
    return lanes[0]


def tc(profile: Profile, row: Row, x: list[float]) -> float:
    """SPEC 8.12: groups with terms, ascending."""
    acc = 0.0
    groups: dict[int, Row] = {}
    for term in row:
        groups.setdefault(term[1] // profile.lanes, []).append(term)
    for number in sorted(groups):
        acc = tc_group(profile, groups[number], x, acc)
    return acc


def tc_group(profile: Profile, group: Row, x: list[float], acc: float) -> float:
    """SPEC 8.13, its five steps."""
    decided = special(group, x, acc)
    if decided is not None:
        return decided
    # (count of 2^-298, exponent); the exponent of a product is that of its factors, added
    parts = [
        (units(w) * units(x[c]), floor_log2(w) + floor_log2(x[c])) for c, _, w in group if x[c] != 0
    ]
    if acc != 0:
        parts.append((units(acc) << -UNIT, floor_log2(acc)))
    if not parts:
        return 0.0
    unit = max(e for _, e in parts) - profile.fraction
    total = sum(to_integer(count, unit - 2 * UNIT, profile.round_in) for count, _ in parts)
    return rounded(total, unit, mode=profile.round_out)


def floor_log2(number: float) -> int:
    """E(v) of SPEC 8.13 for a binary32 number, not zero."""
    return exponent_of(units(number), UNIT)


def i32(weight: Weight, x_dtype: str, x: list[int]) -> list[int]:
    """SPEC 8.14: integers modulo 2^32; the scale takes no part."""
    if len(weight) == 3 or weight[0]["dtype"] != "I8" or weight[0]["outliers"] is not None:
        raise ValueError("i32 needs an I8 base without outliers")
    if x_dtype != "I8" or len(x) != weight[0]["shape"][1]:
        raise ValueError("i32 needs an I8 x of K elements")
    base, _ = slots(*weight)
    found = []
    for row in base:
        real = [(c, bits) for block in row for c, bits in block if c < len(x)]
        found.append(sum(signed(bits) * signed(x[c]) for c, bits in real) % 2**32)
    return found


def signed(bits: int) -> int:
    """Integer of an I8 element."""
    return bits - 256 if bits >= 128 else bits
