"""Broken implementations, each a small change of the plain one, named for the bug it stands for.

`python -m tests.testing.mutants` writes MUTANTS.md: which law catches which.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import comb
from pathlib import Path
from typing import Any

import numpy as np

from nmref.testing import LAWS, Dense, Implementation, Input, Parts, Spec
from nmref.testing.runner import judge
from tests.testing.plain_codec import SIZES, Codec, Fault, Slots, need
from tests.testing.plain_file import Plain

TABLE = Path(__file__).with_name("MUTANTS.md")


@dataclass(frozen=True)
class Mutant:
    """A broken implementation; `files`: only its callables for files are looked at, or only the
    others; None: all.
    """

    name: str
    area: str
    make: Callable[[], Plain]
    files: bool | None

    @property
    def implementation(self) -> Implementation:
        whole = self.make().implementation()
        if self.files is None:
            return whole
        if self.files:
            return Implementation(read_file=whole.read_file, write_file=whole.write_file)
        return replace(whole, read_file=None, write_file=None)


MUTANTS: list[Mutant] = []


def register(
    to: list[Mutant], files: bool | None, area: str, name: str
) -> Callable[[type[Plain]], type[Plain]]:
    """A decorator that puts a class on the list."""

    def add(cls: type[Plain]) -> type[Plain]:
        to.append(Mutant(name, area, cls, files))
        return cls

    return add


mutant = partial(register, MUTANTS, False)
checked = partial(register, MUTANTS, None)


def is_nan(bits: int, dtype: str) -> bool:
    top = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80, "I8": 1 << 9}[dtype]
    return bits & ((1 << 8 * SIZES[dtype] - 1) - 1) > top


def is_subnormal(bits: int, dtype: str) -> bool:
    exponent = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80, "I8": 0xFF}[dtype]
    return bits & exponent == 0


QUIET = {"F32": 1 << 22, "F16": 1 << 9, "BF16": 1 << 6}


# -- codes and streams


@mutant("codes", "lexicographic order of the positions")
class _Lex(Plain):
    def rank(self, positions: list[int], n: int, m: int) -> int:
        return comb(m, n) - 1 - sum(comb(m - 1 - p, n - j) for j, p in enumerate(positions))

    def unrank(self, code: int, n: int, m: int) -> list[int]:
        found = super().unrank(comb(m, n) - 1 - code, n, m)
        return sorted(m - 1 - p for p in found)


@mutant("codes", "bit 0 of the mask is the last column")
class _Mirrored(Plain):
    def rank(self, positions: list[int], n: int, m: int) -> int:
        return super().rank(sorted(m - 1 - p for p in positions), n, m)

    def unrank(self, code: int, n: int, m: int) -> list[int]:
        return sorted(m - 1 - p for p in super().unrank(code, n, m))


@mutant("codes", "ranks count down")
class _Down(Plain):
    def rank(self, positions: list[int], n: int, m: int) -> int:
        return comb(m, n) - 1 - super().rank(positions, n, m)

    def unrank(self, code: int, n: int, m: int) -> list[int]:
        return super().unrank(comb(m, n) - 1 - code, n, m)


@mutant("codes", "positions counted from 1")
class _FromOne(Plain):
    def rank(self, positions: list[int], n: int, m: int) -> int:
        return super().rank([p + 1 for p in positions], n, m)


@mutant("codes", "84-bit codes truncated to 64")
class _SixtyFour(Plain):
    def rank(self, positions: list[int], n: int, m: int) -> int:
        return super().rank(positions, n, m) & (1 << 64) - 1

    def unpack(self, data: bytes, count: int, width: int) -> list[int]:
        return [code & (1 << 64) - 1 for code in super().unpack(data, count, width)]


@mutant("codes", "codes pass through F64")
class _Double(Plain):
    def unrank(self, code: int, n: int, m: int) -> list[int]:
        return super().unrank(min(int(float(code)), comb(m, n) - 1), n, m)


@mutant("codes", "codes in 32 bits")
class _ThirtyTwo(Plain):
    def unpack(self, data: bytes, count: int, width: int) -> list[int]:
        return [code & (1 << 32) - 1 for code in super().unpack(data, count, width)]


@mutant("codes", "N counts the pruned columns")
class _Pruned(Plain):
    def pattern(self, text: str) -> tuple[int, int]:
        n, m = super().pattern(text)
        return m - n, m


@mutant("streams", "bits of the stream MSB first")
class _MsbFirst(Plain):
    def pack(self, codes: list[int], width: int) -> bytes:
        return bytes(int(f"{byte:08b}"[::-1], 2) for byte in super().pack(codes, width))

    def unpack(self, data: bytes, count: int, width: int) -> list[int]:
        data = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)
        return super().unpack(data, count, width)


@mutant("streams", "most significant bit of a code first")
class _CodeMsbFirst(Plain):
    def pack(self, codes: list[int], width: int) -> bytes:
        return super().pack([int(f"{code:0{width}b}"[::-1], 2) for code in codes], width)

    def unpack(self, data: bytes, count: int, width: int) -> list[int]:
        codes = super().unpack(data, count, width)
        return [int(f"{code:0{width}b}"[::-1], 2) for code in codes]


@mutant("streams", "rows are not aligned to bytes")
class _OneStream(Plain):
    def pack_rows(self, rows: list[list[int]], width: int) -> bytes:
        return self.pack([code for row in rows for code in row], width)


@mutant("streams", "rows aligned to 32 bits")
class _Words(Plain):
    def row_bytes(self, count: int, width: int) -> int:
        return -(-count * width // 32) * 4


@mutant("streams", "width is that of C(M, N), not of C(M, N) - 1")
class _WidthOfCount(Plain):
    def width(self, n: int, m: int) -> int:
        return comb(m, n).bit_length()


@mutant("streams", "width rounded up to bytes")
class _WidthInBytes(Plain):
    def width(self, n: int, m: int) -> int:
        return -(-super().width(n, m) // 8) * 8


@mutant("streams", "last byte of a row missing")
class _NoLastByte(Plain):
    def pack(self, codes: list[int], width: int) -> bytes:
        return super().pack(codes, width)[: len(codes) * width // 8]


@mutant("streams", "padding bits are 1")
class _Ones(Plain):
    def pack(self, codes: list[int], width: int) -> bytes:
        row, used = super().pack(codes, width), len(codes) * width % 8
        return row[:-1] + bytes([row[-1] | (0xFF << used & 0xFF if used else 0)])


# -- fill and blocks


@mutant("fill", "highest free column first")
class _HighFill(Plain):
    def fill(self, used: list[int], barred: list[int], n: int, m: int) -> list[int]:
        free = [i for i in reversed(range(m)) if i not in used and i not in barred]
        return sorted(used + free[: n - len(used)])


@mutant("fill", "columns after the used ones first")
class _AfterFill(Plain):
    def fill(self, used: list[int], barred: list[int], n: int, m: int) -> list[int]:
        free = [i for i in range(m) if i not in used and i not in barred]
        free.sort(key=lambda i: (bool(used) and i < max(used), i))
        return sorted(used + free[: n - len(used)])


@mutant("fill", "a block with fewer than N real columns refused")
class _NoVirtual(Plain):
    def used(self, bits: list[int], mask: list[bool] | None, n: int, dtype: str) -> list[int]:
        need(len(bits) >= n, "X_OVERFULL")
        return super().used(bits, mask, n, dtype)


@mutant("fill", "an empty block refused")
class _NoEmpty(Plain):
    def used(self, bits: list[int], mask: list[bool] | None, n: int, dtype: str) -> list[int]:
        used = super().used(bits, mask, n, dtype)
        need(used, "X_OVERFULL")
        return used


@mutant("fill", "outlier fill ignores the base")
class _FillOverlaps(Plain):
    def barred(self, given: Input) -> np.ndarray[Any, Any]:
        return np.zeros(given.base.bits.shape, np.bool_)


@mutant("fill", "outlier fill takes columns with -0")
class _FillOverNegativeZero(Plain):
    def barred(self, given: Input) -> np.ndarray[Any, Any]:
        sign = 0 if given.base.dtype == "I8" else 1 << 8 * SIZES[given.base.dtype] - 1
        return (given.base.bits != 0) & (given.base.bits != sign)


@mutant("fill", "outlier fill avoids the columns of the base mask")
class _FillBesideMask(Plain):
    def barred(self, given: Input) -> np.ndarray[Any, Any]:
        bits: np.ndarray[Any, Any] = given.base.bits != 0
        return bits if given.mask is None else bits | given.mask


@mutant("fill", "base fill avoids the outliers")
class _BaseBesideOutliers(Plain):
    over: Any = None

    def encode(self, given: Input) -> Parts:
        self.over = given
        return super().encode(given)

    def slots(self, dense: Dense, pattern: str, mask: Any, barred: Any) -> Slots:
        if dense is self.over.base and self.over.outliers is not None:
            barred = self.over.outliers.bits != 0
        return super().slots(dense, pattern, mask, barred)


@mutant("blocks", "unfinished block missing")
class _NoTail(Plain):
    def blocks(self, k: int, m: int) -> int:
        return k // m


@mutant("blocks", "one block too many when M divides K")
class _ExtraBlock(Plain):
    def blocks(self, k: int, m: int) -> int:
        return k // m + 1


@mutant("blocks", "last column of an unfinished block lost")
class _TailOffByOne(Plain):
    def scatter(self, slots: Slots, pattern: str, k: int) -> list[dict[int, int]]:
        return super().scatter(slots, pattern, k if k % 4 == 0 else k - 1)


@mutant("blocks", "blocks run down the rows")
class _Columns(Plain):
    def encode(self, given: Input) -> Parts:
        if given.outliers is not None or given.base.bits.ndim != 2 or not given.base.bits.size:
            return super().encode(given)
        turned = Dense(given.base.dtype, given.base.bits.T.copy())
        if given.mask is not None or given.scale is not None:
            return super().encode(given)
        return super().encode(Input(turned, given.pattern))

    def decode(self, spec: Spec, parts: Parts) -> Dense:
        if spec["outliers"] is not None or spec["dtype"] == "I8" or not spec["shape"][0]:
            return super().decode(spec, parts)
        dense = super().decode(spec, parts)
        flat = dense.bits.T.reshape(spec["shape"]).copy()
        return Dense(dense.dtype, flat)


@mutant("blocks", "slots in descending order of columns")
class _Descending(Plain):
    def slot_parts(self, slots: Slots, pattern: str, dtype: str, at: str, coding: str) -> Parts:
        parts = super().slot_parts(slots, pattern, dtype, at, coding)
        values = [v for row in slots for block in row for _, v in reversed(block)]
        return parts | {f"{at}values": self.store(values, dtype)}


@mutant("blocks", "slot j of all blocks together")
class _Interleaved(Plain):
    def slot_parts(self, slots: Slots, pattern: str, dtype: str, at: str, coding: str) -> Parts:
        parts = super().slot_parts(slots, pattern, dtype, at, coding)
        values = [slot[1] for row in slots for j in zip(*row, strict=True) for slot in j]
        return parts | {f"{at}values": self.store(values, dtype)}


# -- elements


@mutant("elements", "big-endian values")
class _BigEndian(Plain):
    order = "big"


@mutant("elements", "-0 becomes +0")
class _NoNegativeZero(Plain):
    def element(self, bits: int, dtype: str) -> int:
        return 0 if self.is_negative_zero(bits, dtype) else bits


@mutant("elements", "-0 dropped where it overfills a block")
class _DropsNegativeZero(Plain):
    def used(self, bits: list[int], mask: list[bool] | None, n: int, dtype: str) -> list[int]:
        try:
            return super().used(bits, mask, n, dtype)
        except Fault as fault:
            if fault.code != "X_NEGZERO":
                raise
            return [i for i, v in enumerate(bits) if self.is_value(v, dtype)][:n]


@mutant("elements", "-0 counts as a value")
class _NegativeZeroCounts(Plain):
    def is_value(self, bits: int, dtype: str) -> bool:
        return bits != 0


@mutant("elements", "-0 refused where there is room")
class _RefusesNegativeZero(Plain):
    def used(self, bits: list[int], mask: list[bool] | None, n: int, dtype: str) -> list[int]:
        need(not any(self.is_negative_zero(v, dtype) for v in bits), "X_NEGZERO")
        return super().used(bits, mask, n, dtype)


@mutant("elements", "-128 of I8 taken for -0")
class _NegativeZeroOfI8(Plain):
    def is_negative_zero(self, bits: int, dtype: str) -> bool:
        return bits == 1 << (8 * SIZES[dtype] - 1)


@mutant("elements", "NaN made quiet by encode")
class _Quiet(Plain):
    def element(self, bits: int, dtype: str) -> int:
        return bits | QUIET[dtype] if is_nan(bits, dtype) else bits


@mutant("elements", "NaN replaced by the canonical NaN")
class _OneNan(Plain):
    def element(self, bits: int, dtype: str) -> int:
        return (
            {"F32": 0x7FC00000, "F16": 0x7E00, "BF16": 0x7FC0}[dtype]
            if is_nan(bits, dtype)
            else bits
        )


@mutant("elements", "NaN is not above 0, so it is pruned")
class _NanIsZero(Plain):
    def element(self, bits: int, dtype: str) -> int:
        return 0 if is_nan(bits, dtype) else bits


@mutant("elements", "subnormals flushed to zero")
class _Flush(Plain):
    def element(self, bits: int, dtype: str) -> int:
        sign = 1 << 8 * SIZES[dtype] - 1
        return bits & sign if dtype != "I8" and is_subnormal(bits, dtype) else bits


@mutant("elements", "infinities refused")
class _Finite(Plain):
    def element(self, bits: int, dtype: str) -> int:
        infinity = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80, "I8": -1}[dtype]
        need(bits & ~(1 << 8 * SIZES[dtype] - 1) != infinity, "X_OVERFULL")
        return bits


@mutant("elements", "overfull blocks pruned silently")
class _Prunes(Plain):
    def used(self, bits: list[int], mask: list[bool] | None, n: int, dtype: str) -> list[int]:
        if mask is None:
            return [i for i, v in enumerate(bits) if v][:n]
        return super().used(bits, mask, n, dtype)


# -- masks and overlaps of encode


@mutant("masks", "mask ignored")
class _NoMask(Plain):
    def used(self, bits: list[int], mask: list[bool] | None, n: int, dtype: str) -> list[int]:
        return super().used(bits, None, n, dtype)


@mutant("masks", "masked columns that hold +0 not stored")
class _MaskOfValues(Plain):
    def used(self, bits: list[int], mask: list[bool] | None, n: int, dtype: str) -> list[int]:
        used = super().used(bits, mask, n, dtype)
        return [i for i in used if bits[i]]


@mutant("masks", "element outside the mask dropped")
class _DropsOutside(Plain):
    def used(self, bits: list[int], mask: list[bool] | None, n: int, dtype: str) -> list[int]:
        if mask is None:
            return super().used(bits, mask, n, dtype)
        used = [i for i, named in enumerate(mask) if named]
        need(len(used) <= n, "X_OVERFULL")
        return used


@mutant("masks", "-0 outside the mask dropped")
class _DropsNegativeZeroOutside(Plain):
    def used(self, bits: list[int], mask: list[bool] | None, n: int, dtype: str) -> list[int]:
        if mask is not None:
            pairs = zip(bits, mask, strict=True)
            bits = [0 if not m and self.is_negative_zero(v, dtype) else v for v, m in pairs]
        return super().used(bits, mask, n, dtype)


@mutant("masks", "mask of more than N columns cut")
class _CutsMask(Plain):
    def used(self, bits: list[int], mask: list[bool] | None, n: int, dtype: str) -> list[int]:
        if mask is not None:
            named = [i for i, flag in enumerate(mask) if flag or bits[i]][:n]
            mask = [i in named for i in range(len(mask))]
        return super().used(bits, mask, n, dtype)


@mutant("masks", "outlier mask ignored")
class _NoOutMask(Plain):
    def slots(self, dense: Dense, pattern: str, mask: Any, barred: Any) -> Slots:
        return super().slots(dense, pattern, None if "256" in pattern else mask, barred)


@mutant("overlap", "an outlier over a base value accepted by encode")
class _Overlap(Plain):
    def check_overlap(self, given: Input) -> None:
        return


@mutant("overlap", "an outlier over -0 accepted by encode")
class _OverlapNegativeZero(Plain):
    def check_overlap(self, given: Input) -> None:
        bits = given.base.bits.copy()
        if given.base.dtype != "I8":
            bits[bits == 1 << 8 * SIZES[given.base.dtype] - 1] = 0
        base = Dense(given.base.dtype, bits)
        super().check_overlap(Input(base, "2:4", outliers=given.outliers, out_mask=given.out_mask))


@mutant("overlap", "the outlier mask over a base value accepted")
class _OverlapMask(Plain):
    def check_overlap(self, given: Input) -> None:
        super().check_overlap(Input(given.base, given.pattern, outliers=given.outliers))


@mutant("overlap", "too few free columns: fewer outlier slots")
class _ShortFill(Plain):
    def fill(self, used: list[int], barred: list[int], n: int, m: int) -> list[int]:
        free = [i for i in range(m) if i not in used and i not in barred]
        return sorted(used + free[: n - len(used)])


# -- what encode is given


@mutant("input", "shapes not compared")
class _AnyShape(Plain):
    def check_input(self, given: Input) -> None:
        need(given.base.dtype in SIZES, "X_DTYPE")
        self.check_scale(given)


@mutant("input", "K = 0 gives empty parts")
class _NoColumns(Plain):
    def check_input(self, given: Input) -> None:
        if given.base.bits.ndim != 2 or given.base.bits.shape[1]:
            super().check_input(given)


@mutant("input", "other dtypes of the base stored as they are")
class _AnyDtype(Plain):
    def check_input(self, given: Input) -> None:
        if given.base.dtype in SIZES:
            super().check_input(given)

    def store(self, bits: list[int], dtype: str) -> bytes:
        size = {"F64": 8, "U8": 1}.get(dtype) or SIZES[dtype]
        return b"".join(v.to_bytes(size, self.order) for v in bits)

    def is_negative_zero(self, bits: int, dtype: str) -> bool:
        return dtype in SIZES and super().is_negative_zero(bits, dtype)


@mutant("input", "outliers of I8 accepted")
class _IntegerOutliers(Plain):
    def check_input(self, given: Input) -> None:
        if given.outliers is None or given.outliers.dtype != "I8":
            super().check_input(given)


@mutant("input", "scale of a float base ignored")
class _IgnoredScale(Plain):
    def check_scale(self, given: Input) -> None:
        if given.base.dtype == "I8":
            super().check_scale(given)


@mutant("input", "scale 1 where there is none")
class _ScaleOne(Plain):
    def encode(self, given: Input) -> Parts:
        if given.base.dtype == "I8" and given.scale is None:
            ones = np.full(given.base.bits.shape[0], 0x3F800000, dtype="<u4")
            given = replace(given, scale=ones)
        return super().encode(given)


# -- I8


@mutant("I8", "scale 0 accepted")
class _ScaleZero(Plain):
    def good_scale(self, bits: int) -> bool:
        return 0 <= bits <= 0x7B800000


@mutant("I8", "negative scale accepted")
class _ScaleNegative(Plain):
    def good_scale(self, bits: int) -> bool:
        return 0 < bits & 0x7FFFFFFF <= 0x7B800000


@mutant("I8", "any finite scale accepted")
class _ScaleFinite(Plain):
    def good_scale(self, bits: int) -> bool:
        return 0 < bits < 0x7F800000


@mutant("I8", "NaN scale accepted")
class _ScaleNan(Plain):
    def good_scale(self, bits: int) -> bool:
        return super().good_scale(bits) or is_nan(bits, "F32")


@mutant("I8", "scale 2^120 refused")
class _ScaleLimit(Plain):
    def good_scale(self, bits: int) -> bool:
        return 0 < bits < 0x7B800000


@mutant("I8", "subnormal scale refused")
class _ScaleSubnormal(Plain):
    def good_scale(self, bits: int) -> bool:
        return 0x800000 <= bits <= 0x7B800000


@mutant("I8", "scale not checked by the reader")
class _ScaleUnchecked(Plain):
    def check_scales(self, scale: list[int]) -> None:
        return

    def scaled(self, byte: int, scale: int) -> int:
        return super().scaled(byte, scale) if super().good_scale(scale) else 0


@mutant("I8", "scale forgotten")
class _NoScale(Plain):
    def scaled(self, byte: int, scale: int) -> int:
        return super().scaled(byte, 0x3F800000)


@mutant("I8", "elements taken as unsigned")
class _Unsigned(Plain):
    def signed(self, byte: int) -> int:
        return byte


@mutant("I8", "-128 clamped to -127")
class _Clamped(Plain):
    def signed(self, byte: int) -> int:
        return max(-127, super().signed(byte))


@mutant("I8", "product in F64 cut, not rounded")
class _Truncated(Plain):
    def scaled(self, byte: int, scale: int) -> int:
        factor = float(np.array(scale, "<u4").view("<f4"))
        product = np.array(self.signed(byte) * factor, "<f8")
        near = np.float32(product)
        if abs(float(near)) > abs(float(product)):
            near = np.nextafter(near, np.float32(0))
        return int(near.view("<u4"))


@mutant("I8", "scale rounded to BF16")
class _CoarseScale(Plain):
    def scaled(self, byte: int, scale: int) -> int:
        return super().scaled(byte, scale & 0xFFFF0000)


@mutant("I8", "subnormal products flushed")
class _FlushProduct(Plain):
    def scaled(self, byte: int, scale: int) -> int:
        bits = super().scaled(byte, scale)
        return bits & 0x80000000 if is_subnormal(bits, "F32") else bits


@mutant("I8", "0 times a scale is -0")
class _SignedZero(Plain):
    def scaled(self, byte: int, scale: int) -> int:
        return super().scaled(byte, scale) or 0x80000000


@mutant("I8", "scale of the first row for all rows")
class _FirstScale(Plain):
    def contents(self, spec: Spec, parts: Parts) -> tuple[Any, Any, list[int]]:
        base, out, scale = super().contents(spec, parts)
        return base, out, scale[:1] * len(scale)


# -- dtype of W


@mutant("widening", "subnormals of F16 flushed")
class _F16Flush(Plain):
    def widen(self, bits: int, dtype: str) -> int:
        if dtype == "F16" and is_subnormal(bits, dtype):
            return (bits & 0x8000) << 16
        return super().widen(bits, dtype)


@mutant("widening", "subnormals of F16 taken as normal")
class _F16Normal(Plain):
    def widen(self, bits: int, dtype: str) -> int:
        if dtype == "F16" and is_subnormal(bits, dtype) and bits & 0x3FF:
            return (bits & 0x8000) << 16 | (112 << 23) + ((bits & 0x3FF) << 13)
        return super().widen(bits, dtype)


@mutant("widening", "infinity of F16 becomes 65536")
class _F16Infinity(Plain):
    def widen(self, bits: int, dtype: str) -> int:
        if dtype == "F16" and bits & 0x7FFF == 0x7C00:
            return (bits & 0x8000) << 16 | 0x47800000
        return super().widen(bits, dtype)


@mutant("widening", "NaN of F16 made quiet")
class _F16Quiet(Plain):
    def widen(self, bits: int, dtype: str) -> int:
        wide = super().widen(bits, dtype)
        return wide | QUIET["F32"] if dtype == "F16" and is_nan(bits, dtype) else wide


@mutant("widening", "NaN of BF16 made quiet")
class _Bf16Quiet(Plain):
    def widen(self, bits: int, dtype: str) -> int:
        wide = super().widen(bits, dtype)
        return wide | QUIET["F32"] if dtype == "BF16" and is_nan(bits, dtype) else wide


@mutant("widening", "sign of a NaN lost")
class _UnsignedNan(Plain):
    def widen(self, bits: int, dtype: str) -> int:
        wide = super().widen(bits, dtype)
        return wide & 0x7FFFFFFF if dtype != "F32" and is_nan(bits, dtype) else wide


@mutant("widening", "NaN payload of F16 not shifted")
class _F16Payload(Plain):
    def widen(self, bits: int, dtype: str) -> int:
        if dtype == "F16" and is_nan(bits, dtype):
            return (bits & 0x8000) << 16 | 0x7F800000 | bits & 0x3FF
        return super().widen(bits, dtype)


@mutant("widening", "mixed dtypes cut to the dtype of the base")
class _BaseDtype(Plain):
    def dense_dtype(self, spec: Spec) -> str:
        return "F32" if spec["dtype"] == "I8" else str(spec["dtype"])

    def select(self, base: int, outlier: int, dtype: str, stored: bool) -> int:
        return outlier & (1 << 8 * SIZES[dtype]) - 1


@mutant("widening", "W is always F32")
class _AlwaysF32(Plain):
    def dense_dtype(self, spec: Spec) -> str:
        return "F32"


# -- selection


@mutant("selection", "outlier added to the base")
class _Adds(Plain):
    times = 1

    def select(self, base: int, outlier: int, dtype: str, stored: bool) -> int:
        shift = 16 if dtype == "BF16" else 0
        kind, unsigned = ("<f2", "<u2") if dtype == "F16" else ("<f4", "<u4")
        numbers = np.array([base << shift, outlier << shift], unsigned).view(kind)
        with np.errstate(all="ignore"):
            total = numbers[0] + numbers[1] * numbers.dtype.type(self.times)
        return int(np.array(total).view(unsigned)) >> shift


@mutant("selection", "outlier added twice")
class _AddsTwice(_Adds):  # type: ignore[misc, valid-type]
    times = 2


@mutant("selection", "base slot wins over the outlier")
class _BaseWins(Plain):
    def select(self, base: int, outlier: int, dtype: str, stored: bool) -> int:
        return base if stored else outlier


@mutant("selection", "outliers ignored")
class _NoOutliers(Plain):
    def select(self, base: int, outlier: int, dtype: str, stored: bool) -> int:
        return base


@mutant("selection", "-0 outliers ignored")
class _NoNegativeOutliers(Plain):
    def select(self, base: int, outlier: int, dtype: str, stored: bool) -> int:
        return base if self.is_negative_zero(outlier, dtype) else outlier


@mutant("selection", "idx8 taken as signed bytes")
class _SignedIndex(Plain):
    def index(self, data: bytes) -> list[int]:
        return [byte - 256 if byte > 127 else byte for byte in data]

    def check_order(self, index: list[int]) -> None:
        return


@mutant("selection", "outlier index counted from the row, modulo 256")
class _ShiftedIndex(Plain):
    def scatter(self, slots: Slots, pattern: str, k: int) -> list[dict[int, int]]:
        found = super().scatter(slots, pattern, k)
        if "256" not in pattern:
            return found
        return [{column % 256: v for column, v in row.items()} for row in found]


# -- checks of the content


@checked("checks", "padding ignored")
class _NoPadding(Plain):
    def check_padding(self, data: bytes, count: int, width: int, at: str) -> None:
        return


@checked("checks", "padding of outlier codes ignored")
class _NoOutPadding(Plain):
    def check_padding(self, data: bytes, count: int, width: int, at: str) -> None:
        if at == "nm_":
            super().check_padding(data, count, width, at)


@checked("checks", "only the last padding bit checked")
class _LastPadding(Plain):
    def padding(self, data: bytes, count: int, width: int) -> int:
        return data[-1] >> 7 if count * width % 8 and data else 0


@checked("checks", "code range not checked")
class _NoRange(Plain):
    def check_code(self, code: int, n: int, m: int) -> None:
        return


@checked("checks", "code range off by one")
class _RangeOffByOne(Plain):
    def check_code(self, code: int, n: int, m: int) -> None:
        need(code <= comb(m, n), "E_CODE_RANGE")


@checked("checks", "code range of outliers not checked")
class _NoOutRange(Plain):
    def check_code(self, code: int, n: int, m: int) -> None:
        if m != 256:
            super().check_code(code, n, m)


@checked("checks", "last code refused")
class _LastCode(Plain):
    def check_code(self, code: int, n: int, m: int) -> None:
        need(code < comb(m, n) - 1, "E_CODE_RANGE")


@checked("checks", "index order not checked")
class _NoOrder(Plain):
    def check_order(self, index: list[int]) -> None:
        return


@checked("checks", "equal indices accepted")
class _Equal(Plain):
    def check_order(self, index: list[int]) -> None:
        need(index == sorted(index), "E_INDEX_ORDER")


@checked("checks", "virtual slots not checked")
class _NoTailCheck(Plain):
    def check_tail(self, block: list[tuple[int, int]], first: int, k: int, at: str) -> None:
        return


@checked("checks", "-0 in a virtual slot accepted")
class _TailNegativeZero(Plain):
    def check_tail(self, block: list[tuple[int, int]], first: int, k: int, at: str) -> None:
        block = [(p, 0 if v in (0x8000, 0x80000000) else v) for p, v in block]
        super().check_tail(block, first, k, at)


@checked("checks", "virtual outlier slots not checked")
class _NoOutTail(Plain):
    def check_tail(self, block: list[tuple[int, int]], first: int, k: int, at: str) -> None:
        if at == "nm_":
            super().check_tail(block, first, k, at)


@checked("checks", "virtual slots refused even with bits zero")
class _NoVirtualSlots(Plain):
    def check_tail(self, block: list[tuple[int, int]], first: int, k: int, at: str) -> None:
        need(all(first + p < k for p, _ in block), "E_TAIL")


@checked("checks", "overlap not checked")
class _NoOverlapCheck(Plain):
    def check_cover(self, base: int, outlier: int, dtype: str) -> None:
        return


@checked("checks", "zero outlier over a base value accepted")
class _ZeroCover(Plain):
    def check_cover(self, base: int, outlier: int, dtype: str) -> None:
        need(base == 0 or outlier == 0, "E_OVERLAP")


@checked("checks", "outlier over -0 accepted")
class _CoverNegativeZero(Plain):
    def check_cover(self, base: int, outlier: int, dtype: str) -> None:
        need(not self.is_value(base, dtype), "E_OVERLAP")


@checked("checks", "non-canonical slots refused")
class _OnlyCanonical(Plain):
    def decode(self, spec: Spec, parts: Parts) -> Dense:
        dense = super().decode(spec, parts)
        need(Codec.canonicalise(self, spec, parts) == parts, "E_CODE_RANGE")
        return dense


@mutant("canonical form", "canonicalise returns its input")
class _AsItIs(Plain):
    def canonicalise(self, spec: Spec, parts: Parts) -> Parts:
        return parts


@mutant("canonical form", "canonicalise drops -0")
class _CanonicalZero(Plain):
    def matrix(self, rows: list[dict[int, int]], dtype: str, shape: list[int]) -> Dense:
        dense = super().matrix(rows, dtype, shape)
        if dtype != "I8":
            dense.bits[dense.bits == 1 << 8 * SIZES[dtype] - 1] = 0
        return dense


def catchers(implementation: Implementation, examples: int = 20) -> list[str]:
    """The laws that an implementation breaks on their fixed cases."""
    found = []
    there = implementation.callables()
    for law in LAWS:
        if not set(law.needs) <= set(there):
            continue
        one = judge(replace(law, make=lambda case: case), implementation)
        try:
            for case in cases_of(law.name, examples):
                one(case)
        except AssertionError:
            found.append(law.name)
    return found


_cases: dict[tuple[str, int], list[Any]] = {}
_laws = {law.name: law for law in LAWS}


def cases_of(name: str, examples: int) -> list[Any]:
    """The fixed cases of a law, made once."""
    if (name, examples) not in _cases:
        law = _laws[name]
        _cases[name, examples] = [
            law.make(recipe) for recipe in law.sweep(max(1, round(examples * law.share)))
        ]
    return _cases[name, examples]


def row(mutant: Mutant) -> str:
    """The line of the table."""
    found = catchers(mutant.implementation)
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return f"| {mutant.area} | {mutant.name} | {'; '.join(found[:3]) or 'NOTHING'}{more} |"


HEAD = """# Mutants

Broken implementations in `mutants.py` and `file_mutants.py`, and the laws of `nmref.testing` that
catch them on their fixed cases. Written by `python -m tests.testing.mutants`.

| area | bug | caught by |
|---|---|---|
"""


def all_mutants() -> list[Mutant]:
    """Those of this module and of file_mutants."""
    from tests.testing import file_mutants

    return [*MUTANTS, *file_mutants.MUTANTS]


if __name__ == "__main__":
    from tests.testing import mutants

    rows = [mutants.row(mutant) for mutant in mutants.all_mutants()]
    TABLE.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")
