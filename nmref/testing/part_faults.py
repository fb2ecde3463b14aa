"""Parts of one weight that a reader must refuse (SPEC 6.6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import comb
from typing import Any

from nmref.testing.contents import Content, Slots, pack, rank, weight
from nmref.testing.faults import COLEX, IDX8, Kind
from nmref.testing.plain import Parts, Spec
from nmref.testing.recipes import Recipe, element, minus_zero, mix, parse, width

Encoded = tuple[Spec, Parts]


def value(dtype: str) -> int:
    """An ordinary value."""
    return element(dtype, 3, 5, 7)


def _kind(
    fault: str,
    clause: str,
    codes: str,
    change: Callable[[Recipe, Content], Parts],
    **fixed: Any,
) -> Kind[Encoded]:
    def make(recipe: Recipe) -> Encoded:
        content = weight(recipe).content
        return content.spec, change(recipe, content)

    return Kind(fault, clause, tuple(codes.split()), make, fixed)


def _scale(bits: int) -> Callable[[Recipe, Content], Parts]:
    def change(recipe: Recipe, content: Content) -> Parts:
        assert content.scale is not None
        scale = content.scale.copy()
        scale[mix(recipe.salt) % len(scale)] = bits
        return replace(content, scale=scale).parts()

    return change


def _codes(content: Content, outliers: bool) -> tuple[str, str, list[list[int]]]:
    """Suffix, pattern and codes of the base or the outliers."""
    slots, pattern, suffix = content.base, content.spec["pattern"], "nm_codes"
    if outliers:
        assert content.outliers is not None
        slots, suffix = content.outliers, "nm_out_codes"
        pattern = content.spec["outliers"]["pattern"]
    codes = [[rank([position for position, _ in block]) for block in row] for row in slots]
    return suffix, pattern, codes


def _padding(outliers: bool, first: bool) -> Callable[[Recipe, Content], Parts]:
    """One bit after the last code of a row."""

    def change(recipe: Recipe, content: Content) -> Parts:
        suffix, pattern, codes = _codes(content, outliers)
        rows = [bytearray(pack(row, width(pattern))) for row in codes]
        row = rows[mix(recipe.salt, 1) % len(rows)]
        used = len(codes[0]) * width(pattern)
        bit = used if first else len(row) * 8 - 1
        row[bit // 8] |= 1 << bit % 8
        return content.parts() | {suffix: b"".join(rows)}

    return change


def _code(outliers: bool, largest: bool) -> Callable[[Recipe, Content], Parts]:
    """A code that names no mask: C(M, N), or all bits 1."""

    def change(recipe: Recipe, content: Content) -> Parts:
        suffix, pattern, codes = _codes(content, outliers)
        n, m = parse(pattern)
        row = codes[mix(recipe.salt, 1) % len(codes)]
        row[mix(recipe.salt, 2) % len(row)] = (1 << width(pattern)) - 1 if largest else comb(m, n)
        data = b"".join(pack(row, width(pattern)) for row in codes)
        return content.parts() | {suffix: data}

    return change


def _virtual(slots: Slots, recipe: Recipe, bits: int) -> Slots:
    """Bits in the last slot of the last block of a row, which is virtual."""
    row = mix(recipe.salt, 1) % len(slots)
    changed = [[list(block) for block in blocks] for blocks in slots]
    position, _ = changed[row][-1][-1]
    changed[row][-1][-1] = (position, bits)
    return changed


def _tail(bits: Callable[[str], int], outliers: bool = False) -> Callable[[Recipe, Content], Parts]:
    def change(recipe: Recipe, content: Content) -> Parts:
        if outliers:
            assert content.outliers is not None
            over = bits(content.spec["outliers"]["dtype"])
            return replace(content, outliers=_virtual(content.outliers, recipe, over)).parts()
        slots = _virtual(content.base, recipe, bits(content.spec["dtype"]))
        return replace(content, base=slots).parts()

    return change


def _index(order: Callable[[int, int], tuple[int, int]]) -> Callable[[Recipe, Content], Parts]:
    """Two neighbouring indices of a block, with their elements, in another order."""

    def change(recipe: Recipe, content: Content) -> Parts:
        assert content.outliers is not None
        slots = [[list(block) for block in blocks] for blocks in content.outliers]
        row = slots[mix(recipe.salt, 1) % len(slots)]
        block = row[mix(recipe.salt, 2) % len(row)]
        j = mix(recipe.salt, 3) % (len(block) - 1)
        first, second = order(j, j + 1)
        block[j], block[j + 1] = block[first], block[second]
        return replace(content, outliers=slots).parts()

    return change


def _overlap(bits: int, base_bits: int | None) -> Callable[[Recipe, Content], Parts]:
    """An outlier slot at a real column where the base has bits."""

    def change(recipe: Recipe, content: Content) -> Parts:
        assert content.outliers is not None
        base = [[list(block) for block in blocks] for blocks in content.base]
        slots = [[list(block) for block in blocks] for blocks in content.outliers]
        _, m = parse(content.spec["pattern"])
        row = mix(recipe.salt, 1) % len(base)
        places = [(b, j) for b, block in enumerate(base[row]) for j, s in enumerate(block) if s[1]]
        b, j = places[mix(recipe.salt, 2) % len(places)]
        position, old = base[row][b][j]
        base[row][b][j] = (position, old if base_bits is None else base_bits)
        column = b * m + position
        block = slots[row][column // 256]
        block[mix(recipe.salt, 3) % len(block)] = (column % 256, bits)
        block.sort()
        return replace(content, base=base, outliers=slots).parts()

    return change


_I8: dict[str, Any] = {"dtype": "I8"}
_CORE: dict[str, Any] = {"pattern": "core", "tail": 3}
_TAIL: dict[str, Any] = {"pattern": "core", "tail": 1}
_IDX8: dict[str, Any] = {"out": IDX8, "columns": 259}
_COLEX: dict[str, Any] = {"out": COLEX, "columns": 259}
_SHORT: dict[str, Any] = {"out": COLEX, "columns": 200}
_SOME: dict[str, Any] = {
    "out": IDX8,
    "columns": 300,
    "crowd": "full",
    "dtype": "F16",
    "special": "none",
}
_UNDER: dict[str, Any] = _SOME | {"pattern": "1:4"}

PART_FAULTS: list[Kind[Encoded]] = [
    _kind("scale 0", "3.6", "E_SCALE", _scale(0), **_I8),
    _kind("scale -0", "3.6", "E_SCALE", _scale(0x80000000), **_I8),
    _kind("negative scale", "3.6", "E_SCALE", _scale(0x80000001), **_I8),
    _kind("infinite scale", "3.6", "E_SCALE", _scale(0x7F800000), **_I8),
    _kind("NaN scale", "3.6", "E_SCALE", _scale(0x7F800001), **_I8),
    _kind("scale above 2^120", "3.6", "E_SCALE", _scale(0x7B800001), **_I8),
    _kind("first padding bit", "2.10", "E_PAD", _padding(False, True), **_CORE),
    _kind("last padding bit", "2.10", "E_PAD", _padding(False, False), **_CORE),
    _kind("first padding bit of outliers", "4.6", "E_PAD", _padding(True, True), **_SHORT),
    _kind("last padding bit of outliers", "4.6", "E_PAD", _padding(True, False), **_SHORT),
    _kind("code C(M, N)", "2.8", "E_CODE_RANGE", _code(False, False), **_CORE),
    _kind("code of ones", "2.8", "E_CODE_RANGE", _code(False, True), **_CORE),
    _kind("outlier code C(256, n)", "4.6", "E_CODE_RANGE", _code(True, False), **_COLEX),
    _kind("outlier code of ones", "4.6", "E_CODE_RANGE", _code(True, True), **_COLEX),
    _kind("value past column K", "3.8", "E_TAIL", _tail(value), **_TAIL),
    _kind("-0 past column K", "3.8", "E_TAIL", _tail(minus_zero), **_TAIL),
    _kind("I8 past column K", "3.8", "E_TAIL", _tail(minus_zero), **(_TAIL | _I8)),
    _kind("outlier past column K", "4.7", "E_TAIL", _tail(value, True), **_IDX8),
    _kind("outlier -0 past column K", "4.7", "E_TAIL", _tail(minus_zero, True), **_COLEX),
    _kind("equal indices", "4.5", "E_INDEX_ORDER", _index(lambda i, j: (i, i)), **_IDX8),
    _kind("swapped indices", "4.5", "E_INDEX_ORDER", _index(lambda i, j: (j, i)), **_IDX8),
    _kind("outlier over a value", "4.13", "E_OVERLAP", _overlap(1, None), **_UNDER),
    _kind("zero outlier over a value", "4.13", "E_OVERLAP", _overlap(0, None), **_UNDER),
    _kind("outlier over -0", "4.13", "E_OVERLAP", _overlap(1, 0x8000), **_UNDER),
    _kind("zero outlier over -0", "4.13", "E_OVERLAP", _overlap(0, 0x8000), **_UNDER),
]
"""Every way in which the content of parts is wrong, their sizes being right."""
