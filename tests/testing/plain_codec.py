"""A plain codec in Python integers, written to be broken: every rule is a method of its own."""

from __future__ import annotations

import struct
from itertools import pairwise
from math import comb
from typing import Any, Literal

import numpy as np

from nmref.testing import Dense, Input, Parts, Spec

SIZES = {"F32": 4, "F16": 2, "BF16": 2, "I8": 1}
FLOATS = ("F32", "F16", "BF16")
Slots = list[list[list[tuple[int, int]]]]


class Fault(Exception):
    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def need(condition: object, code: str) -> None:
    if not condition:
        raise Fault(code)


class Codec:
    """SPEC parts 2 to 4."""

    order: Literal["little", "big"] = "little"

    # -- part 2: codes and streams

    def pattern(self, text: str) -> tuple[int, int]:
        n, m = text.split(":")
        return int(n), int(m)

    def rank(self, positions: list[int], n: int, m: int) -> int:
        return sum(comb(p, j) for j, p in enumerate(positions, start=1))

    def unrank(self, code: int, n: int, m: int) -> list[int]:
        positions = []
        for p in reversed(range(m)):
            if n > 0 and code >= comb(p, n):
                positions.append(p)
                code -= comb(p, n)
                n -= 1
        return positions[::-1]

    def width(self, n: int, m: int) -> int:
        return (comb(m, n) - 1).bit_length()

    def row_bytes(self, count: int, width: int) -> int:
        return (count * width + 7) // 8

    def pack(self, codes: list[int], width: int) -> bytes:
        row = bytearray(self.row_bytes(len(codes), width))
        for b, code in enumerate(codes):
            for k in range(width):
                i = b * width + k
                row[i // 8] |= (code >> k & 1) << i % 8
        return bytes(row)

    def pack_rows(self, rows: list[list[int]], width: int) -> bytes:
        return b"".join(self.pack(codes, width) for codes in rows)

    def unpack(self, data: bytes, count: int, width: int) -> list[int]:
        stream = int.from_bytes(data, "little")
        return [stream >> b * width & ((1 << width) - 1) for b in range(count)]

    def padding(self, data: bytes, count: int, width: int) -> int:
        return int.from_bytes(data, "little") >> count * width

    # -- part 3: elements

    def store(self, bits: list[int], dtype: str) -> bytes:
        return b"".join(v.to_bytes(SIZES[dtype], self.order) for v in bits)

    def load(self, data: bytes, dtype: str) -> list[int]:
        size = SIZES[dtype]
        return [int.from_bytes(data[i : i + size], self.order) for i in range(0, len(data), size)]

    def is_negative_zero(self, bits: int, dtype: str) -> bool:
        return dtype != "I8" and bits == 1 << (8 * SIZES[dtype] - 1)

    def is_value(self, bits: int, dtype: str) -> bool:
        return bits != 0 and not self.is_negative_zero(bits, dtype)

    def blocks(self, k: int, m: int) -> int:
        return -(-k // m)

    def element(self, bits: int, dtype: str) -> int:
        """What encode stores of an element."""
        return bits

    def widen(self, bits: int, dtype: str) -> int:
        if dtype == "F32":
            return bits
        if dtype == "BF16":
            return bits << 16
        if bits & 0x7C00 == 0x7C00:
            return (bits & 0x8000) << 16 | 0x7F800000 | (bits & 0x3FF) << 13
        return int(np.array(bits, "<u2").view("<f2").astype("<f4").view("<u4"))

    def signed(self, byte: int) -> int:
        return byte - 256 if byte > 127 else byte

    def scaled(self, byte: int, scale: int) -> int:
        factor = struct.unpack("<f", struct.pack("<I", scale))[0]
        return int(struct.unpack("<I", struct.pack("<f", self.signed(byte) * factor))[0])

    def good_scale(self, bits: int) -> bool:
        return 0 < bits <= 0x7B800000

    # -- encode

    def fill(self, used: list[int], barred: list[int], n: int, m: int) -> list[int]:
        free = [i for i in range(m) if i not in used and i not in barred]
        need(len(free) >= n - len(used), "X_OVERFULL")
        return sorted(used + free[: n - len(used)])

    def used(self, bits: list[int], mask: list[bool] | None, n: int, dtype: str) -> list[int]:
        if mask is None:
            used = [i for i, v in enumerate(bits) if v]
            need(sum(self.is_value(v, dtype) for v in bits) <= n, "X_OVERFULL")
            need(len(used) <= n, "X_NEGZERO")
            return used
        used = [i for i, named in enumerate(mask) if named]
        left = [v for i, v in enumerate(bits) if v and i not in used]
        need(len(used) <= n, "X_OVERFULL")
        need(not any(self.is_value(v, dtype) for v in left), "X_OVERFULL")
        need(not left, "X_NEGZERO")
        return used

    def slots(self, dense: Dense, pattern: str, mask: Any, barred: np.ndarray[Any, Any]) -> Slots:
        n, m = self.pattern(pattern)
        found: Slots = []
        for r, row in enumerate(dense.bits.tolist()):
            found.append([])
            for b in range(self.blocks(len(row), m)):
                part = slice(b * m, b * m + m)
                bits = [self.element(v, dense.dtype) for v in row[part]]
                named = None if mask is None else mask[r, part].tolist()
                used = self.used(bits, named, n, dense.dtype)
                chosen = self.fill(used, np.flatnonzero(barred[r, part]).tolist(), n, m)
                bits = bits + [0] * (m - len(bits))
                found[-1].append([(i, bits[i] if i in used else 0) for i in chosen])
        return found

    def check_overlap(self, given: Input) -> None:
        assert given.outliers is not None
        over = given.outliers.bits != 0
        if given.out_mask is not None:
            over = over | given.out_mask
        need(not ((given.base.bits != 0) & over).any(), "X_OVERLAP")

    def check_input(self, given: Input) -> None:
        shape = given.base.bits.shape
        need(len(shape) == 2 and shape[1] > 0, "X_SHAPE")
        more = [given.mask, given.out_mask, given.outliers and given.outliers.bits]
        need(all(array is None or array.shape == shape for array in more), "X_SHAPE")
        need(given.base.dtype in SIZES, "X_DTYPE")
        need(given.outliers is None or given.outliers.dtype in FLOATS, "X_DTYPE")
        self.check_scale(given)

    def check_scale(self, given: Input) -> None:
        if given.base.dtype != "I8":
            need(given.scale is None, "X_DTYPE")
            return
        need(given.scale is not None, "E_SCALE")
        assert given.scale is not None
        need(given.scale.shape == given.base.bits.shape[:1], "X_SHAPE")
        need(all(self.good_scale(s) for s in given.scale.tolist()), "E_SCALE")

    def barred(self, given: Input) -> np.ndarray[Any, Any]:
        return given.base.bits != 0

    def encode(self, given: Input) -> Parts:
        self.check_input(given)
        if given.outliers is not None:
            self.check_overlap(given)
        nothing = np.zeros(given.base.bits.shape, np.bool_)
        base = self.slots(given.base, given.pattern, given.mask, nothing)
        parts = self.slot_parts(base, given.pattern, given.base.dtype, "nm_", "colex")
        if given.scale is not None:
            parts["nm_scale"] = self.store(given.scale.tolist(), "F32")
        if given.outliers is not None:
            out = self.slots(given.outliers, given.out_pattern, given.out_mask, self.barred(given))
            kind = given.outliers.dtype
            parts |= self.slot_parts(out, given.out_pattern, kind, "nm_out_", given.coding)
        return parts

    def slot_parts(self, slots: Slots, pattern: str, dtype: str, at: str, coding: str) -> Parts:
        n, m = self.pattern(pattern)
        values = self.store([v for row in slots for block in row for _, v in block], dtype)
        positions = [[[p for p, _ in block] for block in row] for row in slots]
        if coding == "idx8":
            where = {f"{at}index": bytes(p for row in positions for block in row for p in block)}
        else:
            codes = [[self.rank(block, n, m) for block in row] for row in positions]
            where = {f"{at}codes": self.pack_rows(codes, self.width(n, m))}
        return {f"{at}values": values, **where}

    # -- decode

    def base_slots(self, spec: Spec, parts: Parts) -> Slots:
        return self.read_slots(spec["shape"], spec | {"coding": "colex"}, parts, "nm_")

    def out_slots(self, spec: Spec, parts: Parts) -> Slots:
        return self.read_slots(spec["shape"], spec["outliers"], parts, "nm_out_")

    def read_slots(self, shape: list[int], info: Spec, parts: Parts, at: str) -> Slots:
        (rows, k), (n, m) = shape, self.pattern(info["pattern"])
        count, width = self.blocks(k, m), self.width(n, m)
        values = self.load(parts[f"{at}values"], info["dtype"])
        size = self.row_bytes(count, width)
        slots: Slots = []
        for r in range(rows):
            if info["coding"] == "idx8":
                index = self.index(parts[f"{at}index"][r * count * n : (r + 1) * count * n])
                places = [index[b * n : b * n + n] for b in range(count)]
            else:
                data = parts[f"{at}codes"][r * size : (r + 1) * size]
                self.check_padding(data, count, width, at)
                codes = self.unpack(data, count, width)
            slots.append([])
            for b in range(count):
                if info["coding"] == "idx8":
                    self.check_order(places[b])
                    place = places[b]
                else:
                    self.check_code(codes[b], n, m)
                    place = self.unrank(codes[b], n, m)
                first = (r * count + b) * n
                block = list(zip(place, values[first : first + n], strict=True))
                self.check_tail(block, b * m, k, at)
                slots[-1].append(block)
        return slots

    def index(self, data: bytes) -> list[int]:
        return list(data)

    def check_padding(self, data: bytes, count: int, width: int, at: str) -> None:
        need(self.padding(data, count, width) == 0, "E_PAD")

    def check_code(self, code: int, n: int, m: int) -> None:
        need(code < comb(m, n), "E_CODE_RANGE")

    def check_order(self, index: list[int]) -> None:
        need(all(a < b for a, b in pairwise(index)), "E_INDEX_ORDER")

    def check_tail(self, block: list[tuple[int, int]], first: int, k: int, at: str) -> None:
        need(not any(first + p >= k and v for p, v in block), "E_TAIL")

    def check_cover(self, base: int, outlier: int, dtype: str) -> None:
        """An outlier slot and the bits of the base at its column."""
        need(base == 0, "E_OVERLAP")

    def check_scales(self, scale: list[int]) -> None:
        need(all(self.good_scale(s) for s in scale), "E_SCALE")

    def scatter(self, slots: Slots, pattern: str, k: int) -> list[dict[int, int]]:
        """Column -> bits of every row."""
        _, m = self.pattern(pattern)
        return [
            {b * m + p: v for b, block in enumerate(row) for p, v in block if b * m + p < k}
            for row in slots
        ]

    def dense_dtype(self, spec: Spec) -> str:
        out = spec["outliers"]
        if spec["dtype"] == "I8" or (out and out["dtype"] != spec["dtype"]):
            return "F32"
        return str(spec["dtype"])

    def select(self, base: int, outlier: int, dtype: str, stored: bool) -> int:
        """Bits of W where an outlier slot is; `stored`: a base slot is there too."""
        return outlier

    def contents(self, spec: Spec, parts: Parts) -> tuple[Any, Any, list[int]]:
        """Column -> bits of base and outliers after every check, and the scales."""
        k = spec["shape"][1]
        scale = self.load(parts["nm_scale"], "F32") if spec["dtype"] == "I8" else []
        self.check_scales(scale)
        base = self.scatter(self.base_slots(spec, parts), spec["pattern"], k)
        if spec["outliers"] is None:
            return base, None, scale
        slots = self.out_slots(spec, parts)
        out = self.scatter(slots, spec["outliers"]["pattern"], k)
        for row, over in zip(base, out, strict=True):
            for column, bits in over.items():
                self.check_cover(row.get(column, 0), bits, spec["dtype"])
        return base, out, scale

    def decode(self, spec: Spec, parts: Parts) -> Dense:
        base, out, scale = self.contents(spec, parts)
        dtype = self.dense_dtype(spec)
        shape = spec["shape"]
        bits = np.zeros(shape, dtype=f"<u{SIZES[dtype]}")
        wide = dtype == "F32"
        for r in range(shape[0]):
            for column, v in base[r].items():
                if scale:
                    v = self.scaled(v, scale[r])
                bits[r, column] = self.widen(v, spec["dtype"]) if wide and not scale else v
            for column, v in (out[r] if out else {}).items():
                over = self.widen(v, spec["outliers"]["dtype"]) if wide else v
                under = int(bits[r, column])
                bits[r, column] = self.select(under, over, dtype, column in base[r])
        return Dense(dtype, bits)

    def canonicalise(self, spec: Spec, parts: Parts) -> Parts:
        base, out, scale = self.contents(spec, parts)
        info = spec["outliers"] or {"dtype": "F32", "pattern": "4:256", "coding": "idx8"}
        given = Input(
            self.matrix(base, spec["dtype"], spec["shape"]),
            spec["pattern"],
            scale=np.array(scale, dtype="<u4") if spec["dtype"] == "I8" else None,
            outliers=self.matrix(out, info["dtype"], spec["shape"]) if out is not None else None,
            out_pattern=info["pattern"],
            coding=info["coding"],
        )
        return Codec.encode(self, given)

    def matrix(self, rows: list[dict[int, int]], dtype: str, shape: list[int]) -> Dense:
        bits = np.zeros(shape, dtype=f"<u{SIZES[dtype]}")
        for r, row in enumerate(rows):
            for column, v in row.items():
                bits[r, column] = v
        return Dense(dtype, bits)
