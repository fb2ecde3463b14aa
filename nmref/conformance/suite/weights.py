"""Weights as slots, and their parts as bytes: other fills than encode's, any element."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

from nmref.conformance.suite.values import (
    SCALES,
    Chance,
    Json,
    array,
    element,
    matrix,
    number,
    parse,
)

Block = list[tuple[int, int]]
"""(column in the block, bits), ascending."""
Slots = list[list[Block]]


@dataclass(frozen=True)
class Out:
    """Outliers of a weight."""

    pattern: str
    dtype: str
    coding: str


@dataclass(frozen=True)
class Form:
    """What a random weight looks like.

    Attributes
    ----------
    fill : which columns complete a block: "lowest" (canonical), "highest" or "mixed".
    crowd : used columns of a block: "some" 0 ... N, "full" N, "none" 0.
    special : one element in so many is special (0: none).
    spread : all elements are finite, with exponents in -spread ... spread; scales are ordinary.
    """

    pattern: str
    dtype: str
    rows: int
    columns: int
    out: Out | None = None
    fill: str = "lowest"
    crowd: str = "some"
    special: int = 4
    spread: int | None = None


def rank(columns: list[int]) -> int:
    """Colex rank (SPEC 2.5)."""
    return sum(comb(p, j) for j, p in enumerate(columns, start=1))


def width(pattern: str) -> int:
    """Bits of a code (SPEC 2.7)."""
    n, m = parse(pattern)
    return (comb(m, n) - 1).bit_length()


def pack(codes: list[int], bits: int) -> bytes:
    """One row of codes (SPEC 2.9, 2.10)."""
    stream = sum(code << (b * bits) for b, code in enumerate(codes))
    return stream.to_bytes(-(-len(codes) * bits // 8), "little")


def slot_parts(
    slots: Slots, pattern: str, dtype: str, columns: int, prefix: str = "nm_", coding: str = "colex"
) -> Json:
    """Values and positions as parts."""
    n, m = parse(pattern)
    count = -(-columns // m)
    values = [bits for row in slots for block in row for _, bits in block]
    parts = {f"{prefix}values": array(dtype, [len(slots), count * n], values)}
    where = [[[column for column, _ in block] for block in row] for row in slots]
    if coding == "idx8":
        index = [column for row in where for block in row for column in block]
        return parts | {f"{prefix}index": array("U8", [len(slots), count * n], index)}
    rows = [pack([rank(block) for block in row], width(pattern)) for row in where]
    size = -(-count * width(pattern) // 8)
    return parts | {f"{prefix}codes": array("U8", [len(slots), size], b"".join(rows))}


def weight_of(
    base: Slots,
    pattern: str,
    dtype: str,
    columns: int,
    scale: list[int] | None = None,
    out: Out | None = None,
    over: Slots | None = None,
) -> Json:
    """Spec and parts of slots, right or wrong."""
    spec: Json = {
        "coding": "colex",
        "dtype": dtype,
        "outliers": None,
        "pattern": pattern,
        "shape": [len(base), columns],
    }
    parts = slot_parts(base, pattern, dtype, columns)
    if scale is not None:
        parts["nm_scale"] = array("F32", [len(base)], scale)
    if out is not None:
        assert over is not None
        spec["outliers"] = {"coding": out.coding, "dtype": out.dtype, "pattern": out.pattern}
        parts |= slot_parts(over, out.pattern, out.dtype, columns, "nm_out_", out.coding)
    return {"spec": spec, "parts": parts}


def _element(chance: Chance, form: Form, dtype: str) -> int:
    if form.spread is None or dtype == "I8":
        return element(chance, dtype, form.special)
    return number(chance, dtype, form.spread)


def _slots(chance: Chance, form: Form, pattern: str, dtype: str, barred: list[set[int]]) -> Slots:
    """Random slots; `barred` columns of each row are not stored."""
    n, m = parse(pattern)
    slots: Slots = []
    for row in range(form.rows):
        slots.append([])
        for start in range(0, form.columns, m):
            real = min(m, form.columns - start)
            no = {c - start for c in barred[row]}
            free = [i for i in range(real) if i not in no]
            count = {"full": n, "none": 0}.get(form.crowd, chance.below(n + 1))
            used = chance.sample(free, min(count, len(free)))
            rest = [i for i in range(m) if i not in used and i not in no]
            if form.fill == "highest":
                rest.reverse()
            elif form.fill == "mixed":
                rest = chance.sample(rest, len(rest))
            bits = {i: _element(chance, form, dtype) for i in sorted(used)}
            chosen = sorted([*used, *rest[: n - len(used)]])
            slots[-1].append([(i, bits.get(i, 0)) for i in chosen])
    return slots


def stored_bits(slots: Slots, block: int) -> list[set[int]]:
    """Columns of every row whose bits are not all zero."""
    return [
        {b * block + i for b, blk in enumerate(row) for i, bits in blk if bits} for row in slots
    ]


def scales(chance: Chance, rows: int, spread: int | None = None) -> list[int]:
    """Scales of I8 rows: limits, and any number that is allowed; or ordinary ones."""
    if spread is not None:
        return [number(chance, "F32", 3) & 0x7FFFFFFF for _ in range(rows)]
    return [
        chance.pick(SCALES) if chance.coin(2) else 1 + chance.below(SCALES[2]) for _ in range(rows)
    ]


def random_weight(chance: Chance, form: Form) -> Json:
    """Spec and parts of a valid weight."""
    base = _slots(chance, form, form.pattern, form.dtype, [set() for _ in range(form.rows)])
    scale = scales(chance, form.rows, form.spread) if form.dtype == "I8" else None
    over = None
    if form.out is not None:
        barred = stored_bits(base, parse(form.pattern)[1])
        over = _slots(chance, form, form.out.pattern, form.out.dtype, barred)
    return weight_of(base, form.pattern, form.dtype, form.columns, scale, form.out, over)


def undo(slots: Slots, pattern: str, columns: int) -> list[list[int]]:
    """The dense matrix of slots (SPEC 3.13)."""
    _, m = parse(pattern)
    rows = [[0] * columns for _ in slots]
    for row, blocks in zip(rows, slots, strict=True):
        for b, block in enumerate(blocks):
            for i, bits in block:
                if b * m + i < columns:
                    row[b * m + i] = bits
    return rows


def random_dense(chance: Chance, form: Form) -> tuple[list[list[int]], list[list[int]] | None]:
    """Base and outliers as dense rows."""
    base = _slots(chance, form, form.pattern, form.dtype, [set() for _ in range(form.rows)])
    rows = undo(base, form.pattern, form.columns)
    if form.out is None:
        return rows, None
    barred = stored_bits(base, parse(form.pattern)[1])
    over = _slots(chance, form, form.out.pattern, form.out.dtype, barred)
    return rows, undo(over, form.out.pattern, form.columns)


def dense(dtype: str, rows: list[list[int]]) -> Json:
    """A weight of `dot` that was never sparse."""
    return {"dense": matrix(dtype, rows)}
