"""From the parts of a weight to slots and dense rows, with every check (SPEC parts 2 to 4, 6)."""

from math import prod
from typing import Any

from .codes import Fault, parse_pattern, positions, stream_bytes, unpack, unrank, width
from .encoder import Block, Parts, Rows, block_count, encode
from .numbers import SIZES, elements, is_finite, is_scale, scaled, widen

Spec = dict[str, Any]
"""Metadata of one weight: coding, dtype, outliers, pattern, shape (and x- keys)."""
Slots = list[list[Block]]
"""Rows of blocks of (column, bits), columns counted from the start of the row."""


def check_limits(name: str, spec: Spec) -> None:
    """E_LIMIT when R is not in 0 .. 2^31-1 or K not in 1 .. 2^31-1."""
    r, k = spec["shape"]
    if not 0 <= r < 1 << 31 or not 1 <= k < 1 << 31:
        raise Fault("E_LIMIT", name)


def expected_parts(spec: Spec) -> list[tuple[str, str, list[int]]]:
    """Suffix, dtype and shape of each part the weight must have, in the order of the checks."""
    r, k = spec["shape"]
    n, m = parse_pattern(spec["pattern"])
    blocks = block_count(k, spec["pattern"])
    expected = [
        ("nm_values", spec["dtype"], [r, blocks * n]),
        ("nm_codes", "U8", [r, stream_bytes(blocks, width(n, m))]),
    ]
    if spec["dtype"] == "I8":
        expected.append(("nm_scale", "F32", [r]))
    out = spec["outliers"]
    if out is not None:
        n, m = parse_pattern(out["pattern"])
        blocks = block_count(k, out["pattern"])
        expected.append(("nm_out_values", out["dtype"], [r, blocks * n]))
        if out["coding"] == "idx8":
            expected.append(("nm_out_index", "U8", [r, blocks * n]))
        else:
            expected.append(("nm_out_codes", "U8", [r, stream_bytes(blocks, width(n, m))]))
    return expected


def check_parts(name: str, spec: Spec, parts: Parts) -> None:
    """Per part E_MISSING, E_DTYPE, E_SHAPE."""
    for suffix, dtype, shape in expected_parts(spec):
        where = f"{name}.{suffix}"
        if suffix not in parts:
            raise Fault("E_MISSING", where)
        if parts[suffix][0] != dtype:
            raise Fault("E_DTYPE", where)
        if parts[suffix][1] != shape or len(parts[suffix][2]) != prod(shape) * SIZES[dtype]:
            raise Fault("E_SHAPE", where)


def row_bytes(parts: Parts, suffix: str, r: int) -> bytes:
    """Bytes of row r of a part [R, ...]."""
    dtype, shape, data = parts[suffix]
    size = shape[1] * SIZES[dtype]
    return data[r * size : (r + 1) * size]


def code_positions(data: bytes, count: int, pattern: str, where: str) -> list[list[int]]:
    """Stored positions of the blocks of a row; E_PAD. A code out of range gives an empty list."""
    n, m = parse_pattern(pattern)
    try:
        codes = unpack(data, count, width(n, m))
    except Fault as fault:
        raise Fault(fault.code, where) from None
    found = []
    for code in codes:
        try:
            found.append(positions(unrank(code, n, m)))
        except Fault:
            found.append([])
    return found


def index_positions(data: bytes, n: int) -> list[list[int]]:
    """Stored positions of the blocks of a row; an empty list where they do not ascend."""
    blocks = [list(data[i : i + n]) for i in range(0, len(data), n)]
    return [b if b == sorted(set(b)) else [] for b in blocks]


def read_rows(name: str, spec: Spec, parts: Parts, outlier: bool) -> Slots:
    """Slots of the base or outlier matrix: per row E_PAD; per block E_CODE_RANGE or
    E_INDEX_ORDER, then E_TAIL.
    """
    r_count, k = spec["shape"]
    info = spec["outliers"] if outlier else spec
    prefix, label = ("nm_out_", f"{name} outlier") if outlier else ("nm_", name)
    n, m = parse_pattern(info["pattern"])
    slots: Slots = []
    for r in range(r_count):
        values = elements(row_bytes(parts, prefix + "values", r), info["dtype"])
        if info["coding"] == "idx8":
            placed = index_positions(row_bytes(parts, prefix + "index", r), n)
            bad_block = "E_INDEX_ORDER"
        else:
            data = row_bytes(parts, prefix + "codes", r)
            count = block_count(k, info["pattern"])
            placed = code_positions(data, count, info["pattern"], f"{label} row {r}")
            bad_block = "E_CODE_RANGE"
        row = []
        for b, block in enumerate(placed):
            where = f"{label} row {r} block {b}"
            if block == []:
                raise Fault(bad_block, where)
            slot_bits = values[b * n : (b + 1) * n]
            row.append([(b * m + p, v) for p, v in zip(block, slot_bits, strict=True)])
            if any(c >= k and v != 0 for c, v in row[-1]):
                raise Fault("E_TAIL", where)
        slots.append(row)
    return slots


def check_scale(name: str, spec: Spec, parts: Parts) -> None:
    """E_SCALE of the first row whose scale is not in (0, 2^120]."""
    if spec["dtype"] == "I8":
        for r, bits in enumerate(elements(parts["nm_scale"][2], "F32")):
            if not is_scale(bits):
                raise Fault("E_SCALE", f"{name} row {r}")


def check_overlap(name: str, k: int, base: Slots, out: Slots) -> None:
    """E_OVERLAP: an outlier slot, zero or not, over base bits that are not all zero."""
    for r, row in enumerate(out):
        weights = {c: bits for block in base[r] for c, bits in block}
        for block in row:
            for c, _ in block:
                if c < k and weights.get(c, 0) != 0:
                    raise Fault("E_OVERLAP", f"{name} row {r} column {c}")


def read_slots(name: str, spec: Spec, parts: Parts) -> tuple[Slots, Slots | None]:
    """Slots of parts whose dtypes and shapes are right; the checks E_SCALE to E_OVERLAP."""
    check_scale(name, spec, parts)
    base = read_rows(name, spec, parts, outlier=False)
    if spec["outliers"] is None:
        return base, None
    out = read_rows(name, spec, parts, outlier=True)
    check_overlap(name, spec["shape"][1], base, out)
    return base, out


def slots(spec: Spec, parts: Parts, name: str = "w") -> tuple[Slots, Slots | None]:
    """Base and outlier slots, virtual ones included, after every check of one weight."""
    check_limits(name, spec)
    check_parts(name, spec, parts)
    known = [suffix for suffix, _, _ in expected_parts(spec)]
    for suffix in sorted(parts):
        if suffix not in known:
            raise Fault("E_UNEXPECTED", f"{name}.{suffix}")
    return read_slots(name, spec, parts)


def dense(spec: Spec, matrix: Slots) -> Rows:
    """Bits of every real column; a column without a slot is +0."""
    rows = [[0] * spec["shape"][1] for _ in matrix]
    for r, row in enumerate(matrix):
        for block in row:
            for c, bits in block:
                if c < spec["shape"][1]:
                    rows[r][c] = bits
    return rows


def decode(spec: Spec, parts: Parts, name: str = "w") -> tuple[str, Rows]:
    """Give dtype and bits of W: the outlier slot where one is, else the base slot, else +0."""
    base, out = slots(spec, parts, name)
    rows = dense(spec, base)
    dtype = spec["dtype"]
    same = out is None or spec["outliers"]["dtype"] == dtype
    if dtype == "I8":
        scale = elements(parts["nm_scale"][2], "F32")
        rows = [[scaled(bits, scale[r]) for bits in row] for r, row in enumerate(rows)]
        dtype = "F32"
    elif not same:
        rows = [[widen(dtype, bits) for bits in row] for row in rows]
        dtype = "F32"
    for r, out_row in enumerate(out or []):
        for block in out_row:
            for c, bits in block:
                if c < spec["shape"][1]:
                    rows[r][c] = bits if same else widen(spec["outliers"]["dtype"], bits)
    return dtype, rows


def canonical(spec: Spec, parts: Parts) -> Parts:
    """Parts of the same base and outliers when encoded without masks."""
    base, out = slots(spec, parts)
    info = spec["outliers"] or {}
    return encode(
        spec["dtype"],
        dense(spec, base),
        spec["pattern"],
        scale=elements(parts["nm_scale"][2], "F32") if spec["dtype"] == "I8" else None,
        outliers=dense(spec, out) if out is not None else None,
        out_dtype=info.get("dtype"),
        out_pattern=info.get("pattern"),
        out_coding=info.get("coding", "idx8"),
        columns=spec["shape"][1],
    )


def warnings(spec: Spec, parts: Parts) -> list[str]:
    """W_NONCANON: other slots than the canonical ones. W_NONFINITE: an Inf or NaN is stored."""
    base, out = slots(spec, parts)
    found = []
    if slots(spec, canonical(spec, parts)) != (base, out):
        found.append("W_NONCANON")
    stored = [(spec["dtype"], bits) for row in base for block in row for _, bits in block]
    for row in out or []:
        stored += [(spec["outliers"]["dtype"], bits) for block in row for _, bits in block]
    if any(not is_finite(dtype, bits) for dtype, bits in stored):  # virtual slots hold 0
        found.append("W_NONFINITE")
    return found
