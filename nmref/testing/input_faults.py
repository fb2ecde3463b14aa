"""Inputs that `encode` must refuse (SPEC 3.15 to 3.20, 4.12, 4.14)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from nmref.testing.faults import COLEX, IDX8, Kind
from nmref.testing.part_faults import value
from nmref.testing.plain import Bits, Dense, Input
from nmref.testing.recipes import Recipe, build, minus_zero, mix, parse, unsigned

Change = Callable[[Recipe, Input], Input]


def _kind(fault: str, clause: str, codes: str, change: Change, **fixed: Any) -> Kind[Input]:
    def make(recipe: Recipe) -> Input:
        return change(recipe, build(recipe))

    return Kind(fault, clause, tuple(codes.split()), make, fixed)


def _wider(array: Bits) -> Bits:
    return np.concatenate([array, array[:, :1]], axis=1)


def _base(change: Callable[[Bits], Bits]) -> Change:
    """A base of another form."""
    return lambda _, given: replace(given, base=Dense(given.base.dtype, change(given.base.bits)))


def _scale(bits: int) -> Change:
    def change(recipe: Recipe, given: Input) -> Input:
        assert given.scale is not None
        scale = given.scale.copy()
        scale[mix(recipe.salt) % len(scale)] = bits
        return replace(given, scale=scale)

    return change


def _dtype(dtype: str, size: int) -> Change:
    def change(recipe: Recipe, given: Input) -> Input:
        return replace(given, base=Dense(dtype, given.base.bits.astype(f"<u{size}")))

    return change


def _spare(recipe: Recipe, taken: Bits, pattern: str) -> tuple[int, list[int]]:
    """A row, and the free columns of one of its full blocks."""
    _, m = parse(pattern)
    row = mix(recipe.salt, 1) % recipe.rows
    start = mix(recipe.salt, 2) % (recipe.columns // m) * m
    return row, [c for c in range(start, start + m) if not taken[row, c]]


Content = Callable[[str], int]
"""dtype -> bits."""


def _smallest(dtype: str) -> int:
    return 1


def _nan(dtype: str) -> int:
    return {"F32": 0x7F800001, "F16": 0xFE00, "BF16": 0x7F81}[dtype]


def _extra(what: Content, others: Content | None = None, last: bool = False) -> Change:
    """One element more than a full base block holds; `others`: these bits in place of the rest."""

    def change(recipe: Recipe, given: Input) -> Input:
        bits = given.base.bits.copy()
        row, spare = _spare(recipe, bits, recipe.pattern)
        if last:
            _, m = parse(recipe.pattern)
            start = (recipe.columns - 1) // m * m
            bits[row, start:] = value(given.base.dtype)
            spare = [recipe.columns - 1]
        elif others is not None:
            _, m = parse(recipe.pattern)
            block = slice(spare[0] // m * m, spare[0] // m * m + m)
            bits[row, block][bits[row, block] != 0] = others(given.base.dtype)
        bits[row, spare[-1]] = what(given.base.dtype)
        return replace(given, base=Dense(given.base.dtype, bits))

    return change


def _outside(what: Content, room: bool) -> Change:
    """An element at a column that the mask does not name."""

    def change(recipe: Recipe, given: Input) -> Input:
        assert given.mask is not None
        bits, mask = given.base.bits.copy(), given.mask.copy()
        row, spare = _spare(recipe, mask, recipe.pattern)
        if room:
            _, m = parse(recipe.pattern)
            start = spare[0] // m * m
            mask[row, start : start + m] = False
            bits[row, start : start + m] = 0
        bits[row, spare[0]] = what(given.base.dtype)
        return replace(given, base=Dense(given.base.dtype, bits), mask=mask)

    return change


def _mask_column(recipe: Recipe, given: Input) -> Input:
    assert given.mask is not None
    mask = given.mask.copy()
    row, spare = _spare(recipe, mask, recipe.pattern)
    mask[row, spare[-1]] = True
    return replace(given, mask=mask)


def _outlier(what: Content | None, outside: bool = False) -> Change:
    """One outlier, or (None) one column of the outlier mask, more than a full block holds."""

    def change(recipe: Recipe, given: Input) -> Input:
        assert given.outliers is not None
        bits = given.outliers.bits.copy()
        mask = None if given.out_mask is None else given.out_mask.copy()
        taken = (bits != 0) | (given.base.bits != 0) | (False if mask is None else mask)
        row, spare = _spare(recipe, taken, given.out_pattern)
        if what is None:
            assert mask is not None
            mask[row, spare[0]] = True
        else:
            bits[row, spare[0]] = what(given.outliers.dtype)
        return replace(given, outliers=Dense(given.outliers.dtype, bits), out_mask=mask)

    return change


def _overlap(base: Content, out: Content | None) -> Change:
    """Base bits at a column that has an outlier, or (None) that the outlier mask names."""

    def change(recipe: Recipe, given: Input) -> Input:
        assert given.outliers is not None
        bits, over = given.base.bits.copy(), np.zeros_like(given.outliers.bits)
        mask = np.zeros(bits.shape, np.bool_)
        row = mix(recipe.salt, 3) % recipe.rows
        used = np.flatnonzero(bits[row])
        column = used[mix(recipe.salt, 4) % len(used)]
        bits[row, column] = base(given.base.dtype)
        over[row, column] = 0 if out is None else out(given.outliers.dtype)
        mask[row, column] = out is None
        return replace(
            given,
            base=Dense(given.base.dtype, bits),
            outliers=Dense(given.outliers.dtype, over),
            out_mask=mask if out is None else None,
        )

    return change


def _no_room(recipe: Recipe, given: Input) -> Input:
    """A base of 63:64 leaves 4 free columns of 256; 16 have to be filled."""
    bits = np.zeros((recipe.rows, 256), dtype=unsigned("F16"))
    bits[:, np.arange(256) % 64 != recipe.salt % 64] = value("F16")
    nothing = Dense("F32", np.zeros(bits.shape, dtype="<u4"))
    return Input(Dense("F16", bits), "63:64", outliers=nothing, out_pattern="16:256")


_FULL: dict[str, Any] = {
    "crowd": "full",
    "masked": False,
    "special": "none",
    "out": None,
    "dtype": "BF16",
}
_MASKED = _FULL | {"masked": True}
_OUT = _FULL | {"out": IDX8, "columns": 300, "pattern": "8:16"}
_OUT_MASKED = _OUT | {"out": replace(COLEX, masked=True)}
_I8: dict[str, Any] = {"dtype": "I8"}

INPUT_FAULTS: list[Kind[Input]] = [
    _kind("K = 0", "3.15", "X_SHAPE", _base(lambda bits: bits[:, :0]), out=None, masked=False),
    _kind("base of one dimension", "3.15", "X_SHAPE", _base(lambda bits: bits[0]), **_FULL),
    _kind("base of three dimensions", "3.15", "X_SHAPE", _base(lambda bits: bits[None]), **_FULL),
    _kind(
        "mask of another shape",
        "3.15",
        "X_SHAPE",
        lambda _, g: replace(g, mask=_wider(np.zeros(g.base.bits.shape, np.bool_))),
    ),
    _kind(
        "outliers of another shape",
        "3.15",
        "X_SHAPE",
        lambda _, g: replace(
            g, outliers=Dense("F16", _wider(np.zeros(g.base.bits.shape, dtype="<u2")))
        ),
        **_OUT,
    ),
    _kind(
        "outlier mask of another shape",
        "3.15",
        "X_SHAPE",
        lambda _, g: replace(g, out_mask=_wider(np.zeros(g.base.bits.shape, np.bool_))),
        **_OUT,
    ),
    _kind(
        "scale of another length",
        "3.15",
        "X_SHAPE",
        lambda r, g: replace(g, scale=np.full(r.rows + 1, 0x3F800000, dtype="<u4")),
        **_I8,
    ),
    _kind("base of dtype F64", "3.16", "X_DTYPE", _dtype("F64", 8), **_FULL),
    _kind("base of dtype U8", "3.16", "X_DTYPE", _dtype("U8", 1), **_FULL),
    _kind(
        "outliers of dtype I8",
        "3.16",
        "X_DTYPE",
        lambda r, g: replace(g, outliers=Dense("I8", np.zeros(g.base.bits.shape, np.uint8))),
        **_OUT,
    ),
    _kind(
        "scale for F16",
        "3.16",
        "X_DTYPE",
        lambda r, g: replace(g, scale=np.full(r.rows, 0x3F800000, dtype="<u4")),
        dtype="F16",
    ),
    _kind("no scale", "3.17", "E_SCALE", lambda _, given: replace(given, scale=None), **_I8),
    _kind("scale 0", "3.17", "E_SCALE", _scale(0), **_I8),
    _kind("scale -0", "3.17", "E_SCALE", _scale(0x80000000), **_I8),
    _kind("negative scale", "3.17", "E_SCALE", _scale(0xBF800000), **_I8),
    _kind("infinite scale", "3.17", "E_SCALE", _scale(0x7F800000), **_I8),
    _kind("NaN scale", "3.17", "E_SCALE", _scale(0x7FC00000), **_I8),
    _kind("scale above 2^120", "3.17", "E_SCALE", _scale(0x7B800001), **_I8),
    _kind("outlier over a value", "4.12", "X_OVERLAP", _overlap(value, value), **_OUT),
    _kind("outlier over -0", "4.12", "X_OVERLAP", _overlap(minus_zero, value), **_OUT),
    _kind("outlier -0 over a value", "4.12", "X_OVERLAP", _overlap(value, minus_zero), **_OUT),
    _kind("outlier mask over a value", "4.12", "X_OVERLAP", _overlap(value, None), **_OUT),
    _kind("outlier mask over -0", "4.12", "X_OVERLAP", _overlap(minus_zero, None), **_OUT),
    _kind("N + 1 values", "3.18", "X_OVERFULL", _extra(value), **_FULL),
    _kind("N values and a subnormal", "3.18", "X_OVERFULL", _extra(_smallest), **_FULL),
    _kind("N values and a NaN", "3.18", "X_OVERFULL", _extra(_nan), **_FULL),
    _kind(
        "N + 1 values in an unfinished block",
        "3.18",
        "X_OVERFULL",
        _extra(value, last=True),
        **(_FULL | {"pattern": "8:16", "columns": 25}),
    ),
    _kind("N + 1 times -128", "3.18", "X_OVERFULL", _extra(minus_zero, minus_zero), **_FULL | _I8),
    _kind("mask of N + 1 columns", "3.18", "X_OVERFULL", _mask_column, **_MASKED),
    _kind("value outside the mask", "3.18", "X_OVERFULL", _outside(value, False), **_MASKED),
    _kind("subnormal outside the mask", "3.18", "X_OVERFULL", _outside(_smallest, True), **_MASKED),
    _kind("NaN outside the mask", "3.18", "X_OVERFULL", _outside(_nan, True), **_MASKED),
    _kind("n + 1 outliers", "4.15", "X_OVERFULL", _outlier(value), **_OUT),
    _kind("outlier mask of n + 1 columns", "4.15", "X_OVERFULL", _outlier(None), **_OUT_MASKED),
    _kind("outlier outside its mask", "4.15", "X_OVERFULL", _outlier(value), **_OUT_MASKED),
    _kind("no room for the outlier fill", "4.14", "X_OVERFULL", _no_room, **_OUT),
    _kind("N values and a -0", "3.19", "X_NEGZERO", _extra(minus_zero), **_FULL),
    _kind("N + 1 times -0", "3.19", "X_NEGZERO", _extra(minus_zero, minus_zero), **_FULL),
    _kind("-0 outside a full mask", "3.19", "X_NEGZERO", _outside(minus_zero, False), **_MASKED),
    _kind("-0 outside with room", "3.19", "X_NEGZERO", _outside(minus_zero, True), **_MASKED),
    _kind("n outliers and a -0", "4.15", "X_NEGZERO", _outlier(minus_zero), **_OUT),
    _kind("outlier -0 outside its mask", "4.15", "X_NEGZERO", _outlier(minus_zero), **_OUT_MASKED),
]
"""Every way in which an input of `encode` is wrong."""
