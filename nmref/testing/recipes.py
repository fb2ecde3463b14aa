"""Recipes: small descriptions from which inputs and weights follow, the same every time.

Every element is a function of its row and column, so that a misplaced one shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import comb
from typing import Any, TypeVar

import numpy as np

from nmref.testing.plain import Bits, Bool, Dense, Input

Item = TypeVar("Item")

SIZES = {"F32": 4, "F16": 2, "BF16": 2, "I8": 1}
DTYPES = tuple(SIZES)
FLOATS = DTYPES[:3]
FRACTION = {"F32": 23, "F16": 10, "BF16": 7}
CORE_PATTERNS = ("2:4", "4:8", "8:16", "16:32")
MORE_PATTERNS = ("1:2", "1:4", "3:4", "2:3", "3:5", "7:8", "5:12", "20:33")
LONG_PATTERNS = ("1:64", "32:64", "63:64")
OUT_PATTERNS = ("4:256", "8:256", "16:256")
SCALES = (0x3F800000, 0x3C23D70A, 0x00000001, 0x7B800000, 0x3DCCCCCD, 0x007FFFFF, 0x3F7FFFFF)
"""1, 0.01, the smallest number, 2^120, 0.1, the largest subnormal, just below 1."""

_MASK64 = (1 << 64) - 1


def mix(*numbers: int) -> int:
    """A well mixed 64-bit number (splitmix64), the same on every machine."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & _MASK64
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK64
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK64
        state ^= state >> 31
    return state


def pick(options: Sequence[Item], *numbers: int) -> Item:
    """One of the options."""
    return options[mix(*numbers) % len(options)]


def unsigned(dtype: str) -> np.dtype[Any]:
    """The unsigned integers that hold an element's bits."""
    return np.dtype(f"<u{SIZES[dtype]}")


def minus_zero(dtype: str) -> int:
    """Bits of -0 (for I8, which has none, of -128)."""
    return 1 << (8 * SIZES[dtype] - 1)


def specials(dtype: str) -> list[int]:
    """-0, signalling and quiet NaN, infinities, subnormals, the largest and smallest numbers."""
    sign = minus_zero(dtype)
    if dtype == "I8":
        return [sign, 1, 0x7F, 0xFF]
    fraction = FRACTION[dtype]
    infinity = sign - (1 << fraction)
    nans = [infinity | 1, infinity | 1 << (fraction - 1), infinity | 5 << (fraction - 3)]
    positive = [*nans, infinity, 1, (1 << fraction) - 1, 1 << fraction, infinity - 1]
    return [sign, *positive, *(sign | bits for bits in positive)]


def element(dtype: str, salt: int, row: int, column: int) -> int:
    """Bits that are not all zero, other ones for every neighbour in row and column."""
    period = (1 << 8 * SIZES[dtype]) - 1
    return 1 + (salt * 7 + row * 1009 + column * (0x9E3779B1 % period | 1)) % period


def parse(pattern: str) -> tuple[int, int]:
    """ "8:16" -> (8, 16)."""
    n, m = pattern.split(":")
    return int(n), int(m)


def width(pattern: str) -> int:
    """Bits of one code (SPEC 2.7)."""
    n, m = parse(pattern)
    return (comb(m, n) - 1).bit_length()


@dataclass(frozen=True)
class Out:
    """The outliers of a recipe."""

    pattern: str = "4:256"
    dtype: str = "F16"
    coding: str = "idx8"
    masked: bool = False


@dataclass(frozen=True)
class Recipe:
    """An input of `encode` that it accepts.

    Attributes
    ----------
    crowd : how many columns of a block are used: "full" N, "some" 0 ... N, "empty" none.
    place : which of them: "low", "high" or "mixed".
    special : "none"; "some" elements are -0, NaN, infinities, subnormals and limits; or half of
        them are "-0" (-128 for I8).
    masked : a mask names the columns; some of those hold +0.
    fills : "lowest" (canonical), "highest" or "mixed", for weights only.
    salt : other elements and other mixed columns.
    """

    pattern: str = "2:4"
    dtype: str = "F16"
    rows: int = 1
    columns: int = 1
    crowd: str = "full"
    place: str = "low"
    special: str = "none"
    masked: bool = False
    out: Out | None = None
    fills: str = "lowest"
    salt: int = 0


CROWDS, PLACES = ("full", "some", "empty"), ("low", "high", "mixed")
ROWS, SPECIALS = (1, 2, 3, 0), ("none", "some", "-0")
FILLS = ("lowest", "highest", "mixed")


def tails(pattern: str, outliers: bool) -> list[int]:
    """Numbers of columns, ascending: with full and unfinished last blocks of every kind."""
    n, m = parse(pattern)
    if outliers:
        return sorted({1, 3, n, m, m + 1, 17, 40, 255, 256, 257, 300, 513})
    last = {1, n, n + 1, m - 1, m}
    return sorted({blocks * m + tail for blocks in (0, 1, 2, 3, 8) for tail in last})


def sweep(count: int, **fixed: Any) -> Iterator[Recipe]:
    """`count` recipes that visit all options; `fixed` fields keep their value."""
    outs = [None, *(Out(p, d, c) for p in OUT_PATTERNS for d in FLOATS for c in ("idx8", "colex"))]
    for i in range(count):
        out = pick(outs, i, 1) if i % 2 else None
        if "out" in fixed:
            out = fixed["out"]
        patterns = CORE_PATTERNS + (MORE_PATTERNS if out else MORE_PATTERNS + LONG_PATTERNS)
        pattern = fixed.get("pattern") or pick(patterns, i, 2)
        fields: dict[str, Any] = {
            "pattern": pattern,
            "dtype": pick(DTYPES, i, 3),
            "rows": pick((1, 2, 2, 3, 3, 0), i, 4),
            "columns": pick(tails(pattern, out is not None), i, 5),
            "crowd": pick(("some", "some", *CROWDS), i, 6),
            "place": pick(PLACES, i, 7),
            "special": pick(SPECIALS, i, 8),
            "masked": mix(i, 9) % 4 == 0,
            "out": replace(out, masked=mix(i, 10) % 3 == 0) if out else None,
            "fills": pick(FILLS, i, 11),
            "salt": mix(i, 12) % 1000,
        }
        yield Recipe(**(fields | fixed))


def _choose(recipe: Recipe, columns: list[int], most: int, key: int) -> list[int]:
    count = {"full": most, "empty": 0}.get(recipe.crowd, mix(recipe.salt, key, 1) % (most + 1))
    count = min(count, len(columns))
    if recipe.place == "low":
        return columns[:count]
    if recipe.place == "high":
        return columns[len(columns) - count :]
    return sorted(columns, key=lambda column: mix(recipe.salt, key, column))[:count]


def _matrix(
    recipe: Recipe, pattern: str, dtype: str, masked: bool, barred: Bits, kind: int
) -> tuple[Dense, Bool | None]:
    n, m = parse(pattern)
    bits = np.zeros(barred.shape, dtype=unsigned(dtype))
    mask = np.zeros(barred.shape, dtype=np.bool_)
    odd = specials(dtype)[: 1 if recipe.special == "-0" else None]
    for row in range(recipe.rows):
        for start in range(0, recipe.columns, m):
            stop = min(start + m, recipe.columns)
            free = [column for column in range(start, stop) if not barred[row, column]]
            for column in _choose(recipe, free, n, mix(kind, row, start)):
                chance = mix(recipe.salt, kind, row, column)
                mask[row, column] = True
                if masked and chance % 3 == 0:
                    continue
                special = recipe.special != "none" and chance >> 8 & 1
                plain = element(dtype, recipe.salt + 31 * kind, row, column)
                bits[row, column] = odd[(chance >> 16) % len(odd)] if special else plain
    return Dense(dtype, bits), mask if masked else None


def build(recipe: Recipe) -> Input:
    """The input of `encode` that a recipe describes."""
    shape, out = (recipe.rows, recipe.columns), recipe.out
    nothing = np.zeros(shape, dtype=np.bool_)
    base, mask = _matrix(recipe, recipe.pattern, recipe.dtype, recipe.masked, nothing, 0)
    scale = None
    if recipe.dtype == "I8":
        rows = [SCALES[(recipe.salt + row) % len(SCALES)] for row in range(recipe.rows)]
        scale = np.array(rows, dtype="<u4")
    if out is None:
        return Input(base, recipe.pattern, mask, scale)
    outliers, out_mask = _matrix(recipe, out.pattern, out.dtype, out.masked, base.bits != 0, 1)
    return Input(base, recipe.pattern, mask, scale, outliers, out.pattern, out.coding, out_mask)
