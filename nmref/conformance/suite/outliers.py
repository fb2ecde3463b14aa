"""Decoding with outliers: every pattern, coding and mix of dtypes, and where both are stored."""

from __future__ import annotations

from collections.abc import Iterable

from nmref.conformance.suite.cases import Case, Part
from nmref.conformance.suite.tensors import decode, warning
from nmref.conformance.suite.values import (
    BASES,
    DTYPES,
    FLOATS,
    ONE,
    OUTS,
    Chance,
    Json,
    minus_zero,
    slug,
    specials,
)
from nmref.conformance.suite.weights import Block, Form, Out, random_weight, weight_of

_TAILS = (1, 3, 15, 16, 17, 40, 172, 255, 256, 257, 258, 300, 511, 513)
_SELECT = ("outlier-added-not-selected", "outlier-lost", "idx8-absolute")


def _mixes() -> Iterable[Case]:
    """Every dtype mix, outlier pattern and coding; tails and fills go round."""
    number = 0
    for pattern in OUTS:
        for coding in ("idx8", "colex"):
            for dtype in DTYPES:
                for other in FLOATS:
                    for fill in ("lowest", "mixed"):
                        columns = _TAILS[number % len(_TAILS)]
                        base = BASES[number % 3]
                        number += 1
                        out = Out(pattern, other, coding)
                        text = f"{base}-{dtype}-{pattern}-{other}-{coding}-{fill}"
                        name = slug(text) + f"-k{columns}"
                        rows = 1 if columns > 200 else 2
                        form = Form(base, dtype, rows, columns, out, fill)
                        yield _mix(name, form, out)


def _mix(name: str, form: Form, out: Out) -> Case:
    flags = [*_SELECT, "outlier-stored-twice"]
    if form.dtype != out.dtype:
        flags += ["w-in-base-dtype", "nan-quieted"]
    if out.pattern == "16:256" and out.coding == "colex":
        flags.append("code-in-64-bits")
    if form.columns < 16:
        flags.append("short-block-refused")
    clauses = "4.2 4.4 4.7 4.9 4.10 4.11" if out.coding == "idx8" else "4.2 4.6 4.7 4.9 4.10 4.11"
    return decode(f"outliers/{name}", random_weight(Chance(name), form), clauses, tuple(flags))


def both(
    base: Block,
    over: Block,
    dtype: str = "F16",
    other: str = "F16",
    columns: int = 6,
    coding: str = "idx8",
    scale: int | None = None,
) -> Json:
    """One row of 2:4 and 4:256, given by their slots in the first block; the rest holds zeros."""
    blocks: list[Block] = [base, *([[(0, 0), (1, 0)]] * (-(-columns // 4) - 1))]
    scales = None if scale is None else [scale]
    out = Out("4:256", other, coding)
    return weight_of([blocks], "2:4", dtype, columns, scales, out, [[over]])


def _select() -> Iterable[Case]:
    """An outlier slot and a base slot with bits zero at one column."""
    for dtype in FLOATS:
        one, minus = ONE[dtype], minus_zero(dtype)
        nan = specials(dtype)[1]
        for name, bits in {"value": one, "minus-zero": minus, "zero": 0, "nan": nan}.items():
            for coding in ("idx8", "colex"):
                over = [(0, bits), (4, one), (5, 0), (200, 0)]
                given = both([(0, 0), (1, one)], over, dtype, dtype, 6, coding)
                text = f"select/{slug(dtype)}-{name}-over-stored-zero-{coding}"
                yield decode(text, given, "4.9 4.13", _SELECT)
    for other in ("F32", "BF16"):
        minus = minus_zero(other)
        given = both([(0, 0), (1, 3)], [(0, minus), (4, 1), (5, minus), (9, 0)], "I8", other,
                     scale=0x3F800000)  # fmt: skip
        yield decode(f"select/i8-and-{slug(other)}", given, "4.9 4.10", _SELECT)
    every = specials("F16")
    for dtype, other in (("F32", "F16"), ("F32", "BF16"), ("BF16", "F16"), ("F16", "BF16"),
                         ("I8", "F32")):  # fmt: skip
        yield _widened(dtype, other)
    given = both([(2, ONE["F16"]), (3, every[1])], [(0, every[2]), (1, every[3]), (4, 0), (5, 0)])
    yield decode("select/side-by-side", given, "4.9", _SELECT)


def _widened(dtype: str, other: str) -> Case:
    """Every special element of both dtypes, the base in odd columns, outliers in even ones."""
    left, right = specials(dtype), specials(other)
    base: list[Block] = [[(1, bits)] for bits in left]
    base += [[(1, 0)] for _ in range(-len(base) % 128)]
    over = [(2 * i, bits) for i, bits in enumerate(right[:16])]
    rest = [(2 * (i + 20), bits) for i, bits in enumerate(right[16:])]
    rest += [(2 * (i + 40), 0) for i in range(16 - len(rest))]
    out = Out("16:256", other, "idx8")
    blocks: list[Block] = [over + [(2 * (i + 40), 0) for i in range(16 - len(over))]]
    scale = [0x3DCCCCCD] * 2 if dtype == "I8" else None
    given = weight_of([base, base], "1:2", dtype, 256, scale, out, [blocks, [rest]])
    flags = ("nan-quieted", "nan-canonicalised", "subnormal-flushed", "w-in-base-dtype")
    return decode(f"select/{slug(dtype)}-widened-beside-{slug(other)}", given, "4.10 4.11", flags)


def _edges() -> Iterable[Case]:
    for coding in ("idx8", "colex"):
        for dtype in ("F16", "I8"):
            out = Out("8:256", "BF16", coding)
            given = random_weight(Chance("none"), Form("8:16", dtype, 0, 300, out))
            name = f"no-rows/{slug(dtype)}-outliers-{coding}"
            yield decode(name, given, "6.11", ("no-rows-refused",))
        first: Block = [(252, 1), (253, 2), (254, 3), (255, 4)]
        second: Block = [(0, 5), (1, 6), (2, 0), (3, 0)]
        base: list[Block] = [[(0, 0), (1, 0)] for _ in range(65)]
        given = weight_of([base], "2:4", "F16", 258, None, Out("4:256", "F16", coding),
                          [[first, second]])  # fmt: skip
        flags = ("idx8-absolute", "code-in-64-bits", "tail-block-missing")
        yield decode(f"outliers/border-of-blocks-{coding}", given, "4.2 4.4 4.8", flags)
        virtual = [(i, 0) for i in range(252, 256)]
        given = both([(0, 1), (1, 2)], virtual, columns=55, coding=coding)
        yield decode(f"outliers/all-virtual-{coding}", given, "4.7 4.8", ("short-block-refused",))


def _warnings() -> Iterable[Case]:
    for fill in ("lowest", "highest"):
        for coding in ("idx8", "colex"):
            out = Out("8:256", "F32", coding)
            form = Form("8:16", "BF16", 2, 270, out, fill, "some", 0)
            name = f"{fill}-{coding}"
            given = random_weight(Chance(f"warnings {name}"), form)
            yield warning(f"outliers/{name}", given, ("noncanonical-unnoticed",))
    infinite = both([(0, 0), (1, 0)], [(0, 0x7C00), (1, 0), (2, 0), (3, 0)])
    yield warning("outliers/infinite", infinite, ("noncanonical-unnoticed",))
    moved = both([(0, 1), (1, 0)], [(1, 0), (2, 0), (3, 0), (5, 0)])
    yield warning("outliers/moved", moved, ("outlier-fill-ignores-base",))
    given = both([(0, 1), (2, 0x8000)], [(1, 0), (3, 0), (4, 0), (5, 0)])
    yield warning("outliers/beside-base", given, ("outlier-fill-ignores-base",))


def outliers() -> Part:
    """Part `tensors-outliers`."""
    return Part("tensors-outliers", [*_mixes(), *_select(), *_edges(), *_warnings()])
