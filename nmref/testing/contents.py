"""Weights as slots: parts with any fill, canonical or not, and the dense W they stand for."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import comb, prod

import numpy as np

from nmref.testing.plain import Bits, Dense, Input, Parts, Spec, describe
from nmref.testing.recipes import FRACTION, Recipe, build, mix, parse, unsigned, width

Slots = list[list[list[tuple[int, int]]]]
"""[row][block] -> (position in the block, bits), positions ascending."""


@dataclass(frozen=True, eq=False)
class Content:
    """A valid weight before it is bytes; faults are put in here."""

    spec: Spec
    base: Slots
    outliers: Slots | None
    scale: Bits | None

    def parts(self) -> Parts:
        """The bytes of every part (SPEC parts 2 to 4)."""
        parts = _slot_parts(self.base, self.spec["pattern"], self.spec["dtype"], "nm_", "colex")
        if self.scale is not None:
            parts["nm_scale"] = self.scale.astype("<u4").tobytes()
        if self.outliers is not None:
            out = self.spec["outliers"]
            parts |= _slot_parts(
                self.outliers, out["pattern"], out["dtype"], "nm_out_", out["coding"]
            )
        return parts


@dataclass(frozen=True, eq=False)
class Weight:
    """A valid encoded weight: its metadata, its parts, and the W it decodes to."""

    spec: Spec
    parts: Parts
    dense: Dense
    content: Content = field(repr=False)

    def __str__(self) -> str:
        scale = self.content.scale
        one = f", scale 0x{int(scale[0]):08x}" if scale is not None and len(scale) == 1 else ""
        return describe(self.spec) + one


def pack(codes: list[int], bits: int) -> bytes:
    """One row of codes: a little-endian integer (SPEC 2.9, 2.10)."""
    stream = sum(code << (block * bits) for block, code in enumerate(codes))
    return stream.to_bytes(-(-len(codes) * bits // 8), "little")


def rank(positions: list[int]) -> int:
    """Colex rank of ascending positions (SPEC 2.5)."""
    return sum(comb(position, j) for j, position in enumerate(positions, start=1))


def _slot_parts(slots: Slots, pattern: str, dtype: str, prefix: str, coding: str) -> Parts:
    values = [bits for row in slots for block in row for _, bits in block]
    data = np.array(values, dtype=unsigned(dtype)).tobytes()
    where = [[[position for position, _ in block] for block in row] for row in slots]
    if coding == "idx8":
        index = bytes(position for row in where for block in row for position in block)
        return {f"{prefix}values": data, f"{prefix}index": index}
    rows = [pack([rank(block) for block in row], width(pattern)) for row in where]
    return {f"{prefix}values": data, f"{prefix}codes": b"".join(rows)}


def _fill(used: list[int], free: list[int], missing: int, fills: str, key: int) -> list[int]:
    if fills == "highest":
        free = free[::-1]
    elif fills == "mixed":
        free = sorted(free, key=lambda position: mix(key, position))
    return sorted(used + free[:missing])


def _slots(dense: Dense, pattern: str, barred: Bits, fills: str, salt: int) -> Slots:
    """SPEC 3.9 and 4.14 when `fills` is "lowest"; else other slots of the same content."""
    n, m = parse(pattern)
    rows, columns = dense.bits.shape
    slots: Slots = []
    for row in range(rows):
        slots.append([])
        bits = dense.bits[row].tolist() + [0] * m
        no = barred[row].tolist() + [False] * m
        for start in range(0, columns, m):
            used = [i for i in range(m) if bits[start + i]]
            free = [i for i in range(m) if not bits[start + i] and not no[start + i]]
            chosen = _fill(used, free, n - len(used), fills, mix(salt, row, start))
            slots[-1].append([(i, bits[start + i]) for i in chosen])
    return slots


def content(inputs: Input, fills: str = "lowest", salt: int = 0) -> Content:
    """The slots of an input; its masks play no part, only "lowest" is canonical."""
    base = inputs.base.bits
    slots = _slots(inputs.base, inputs.pattern, np.zeros(base.shape, np.bool_), fills, salt)
    out = None
    if inputs.outliers is not None:
        out = _slots(inputs.outliers, inputs.out_pattern, base != 0, fills, salt + 1)
    return Content(inputs.spec, slots, out, inputs.scale)


def weight(recipe: Recipe) -> Weight:
    """The encoded weight that a recipe describes."""
    inputs = build(recipe)
    slots = content(inputs, recipe.fills, recipe.salt)
    return Weight(inputs.spec, slots.parts(), dense_of(inputs), slots)


def dense_of(inputs: Input) -> Dense:
    """W from the dense inputs (SPEC 4.9 to 4.11)."""
    base, out = inputs.base, inputs.outliers
    if out is None and base.dtype != "I8":
        return base
    if out is not None and out.dtype == base.dtype:
        return Dense(base.dtype, np.where(out.bits != 0, out.bits, base.bits))
    wide = widened(base, inputs.scale)
    if out is not None:
        wide = np.where(out.bits != 0, widened(out), wide)
    return Dense("F32", wide)


def widened(dense: Dense, scale: Bits | None = None) -> Bits:
    """Bits of F32; the product of an I8 and its scale is exact in F64, and rounded once."""
    bits = dense.bits.astype(np.uint32)
    if dense.dtype == "I8":
        assert scale is not None
        factors = scale.view("<f4").astype(np.float64)[:, None]
        product = dense.bits.view(np.int8) * factors
        return product.astype(np.float32).view(np.uint32)
    if dense.dtype == "F32":
        return bits
    if dense.dtype == "BF16":
        return bits << 16
    magnitude, fraction = bits & 0x7FFF, FRACTION["F16"]
    exponent = magnitude >> fraction
    normal = (magnitude << 13) + (112 << 23)
    special = 0x7F800000 | (magnitude & 0x3FF) << 13
    subnormal = (magnitude.astype(np.float32) * np.float32(2.0**-24)).view(np.uint32)
    value = np.where(exponent == 31, special, np.where(exponent == 0, subnormal, normal))
    widened: Bits = (bits & 0x8000) << 16 | value.astype(np.uint32)
    return widened


def part_shapes(spec: Spec) -> dict[str, tuple[str, list[int]]]:
    """suffix -> dtype and shape of every part that must be there (SPEC 5.10)."""
    (rows, columns), out = spec["shape"], spec["outliers"]
    n, m = parse(spec["pattern"])
    blocks = -(-columns // m)
    shapes = {
        "nm_values": (spec["dtype"], [rows, blocks * n]),
        "nm_codes": ("U8", [rows, -(-blocks * width(spec["pattern"]) // 8)]),
    }
    if spec["dtype"] == "I8":
        shapes["nm_scale"] = ("F32", [rows])
    if out is not None:
        n, _ = parse(out["pattern"])
        blocks = -(-columns // 256)
        shapes["nm_out_values"] = (out["dtype"], [rows, blocks * n])
        if out["coding"] == "idx8":
            shapes["nm_out_index"] = ("U8", [rows, blocks * n])
        else:
            shapes["nm_out_codes"] = ("U8", [rows, -(-blocks * width(out["pattern"]) // 8)])
    return shapes


CONTAINER_SIZES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 8),
}
"""Bytes of one element of every container dtype (SPEC 5.8)."""


def part_sizes(spec: Spec) -> dict[str, int]:
    """suffix -> bytes."""
    return {
        suffix: prod(shape) * CONTAINER_SIZES[dtype]
        for suffix, (dtype, shape) in part_shapes(spec).items()
    }
