"""From dense rows to the parts of a weight (SPEC parts 2 to 4)."""

from .codes import OUTLIER_PATTERNS, Fault, is_base_pattern, pack, parse_pattern, rank, width
from .numbers import FLOATS, bits_of, element_bytes, is_minus_zero, is_scale

Part = tuple[str, list[int], bytes]
"""Container dtype, shape, little-endian data."""
Parts = dict[str, Part]
Rows = list[list[int]]
Block = list[tuple[int, int]]
"""Stored slots of one block: (position in the block, bits), positions ascending."""


def encode(
    dtype: str,
    base: Rows,
    pattern: str,
    mask: Rows | None = None,
    scale: list[int] | None = None,
    outliers: Rows | None = None,
    out_dtype: str | None = None,
    out_pattern: str | None = None,
    out_coding: str = "idx8",
    out_mask: Rows | None = None,
    columns: int | None = None,
) -> Parts:
    """Encode rows of bit patterns; `columns` is K, needed only when there are no rows.

    Gives the parts by suffix ("nm_values", ...). A fault is X_SHAPE, X_DTYPE, E_SCALE, X_OVERLAP,
    X_OVERFULL or X_NEGZERO, the first in this order. Other misuse is a ValueError.
    """
    if not is_base_pattern(pattern):
        raise ValueError(f"not a base pattern: {pattern!r}")
    if outliers is None:
        if out_dtype is not None or out_pattern is not None or out_mask is not None:
            raise ValueError("out_dtype, out_pattern and out_mask need outliers")
    elif out_pattern not in OUTLIER_PATTERNS or out_coding not in ("idx8", "colex"):
        raise ValueError("outliers need an outlier pattern and a known coding")
    k = check_shapes(dtype, base, mask, scale, outliers, out_mask, columns)
    check_dtypes(dtype, base, scale, outliers, out_dtype)
    check_overlap(base, outliers, out_mask)

    base_blocks = [
        choose_row("base", r, dtype, row, mask[r] if mask is not None else None, pattern, [0] * k)
        for r, row in enumerate(base)
    ]
    parts = {
        "nm_values": values_part(dtype, base_blocks, pattern, k),
        "nm_codes": codes_part(base_blocks, pattern, k),
    }
    if dtype == "I8":
        assert scale is not None
        parts["nm_scale"] = ("F32", [len(base)], element_bytes(scale, "F32"))
    if outliers is not None:
        assert out_dtype is not None
        assert out_pattern is not None
        out_blocks = [
            choose_row("outlier", r, out_dtype, row,
                       out_mask[r] if out_mask is not None else None, out_pattern, base[r])
            for r, row in enumerate(outliers)
        ]  # fmt: skip
        parts["nm_out_values"] = values_part(out_dtype, out_blocks, out_pattern, k)
        if out_coding == "idx8":
            parts["nm_out_index"] = index_part(out_blocks, out_pattern, k)
        else:
            parts["nm_out_codes"] = codes_part(out_blocks, out_pattern, k)
    return parts


def check_shapes(
    dtype: str,
    base: Rows,
    mask: Rows | None,
    scale: list[int] | None,
    outliers: Rows | None,
    out_mask: Rows | None,
    columns: int | None,
) -> int:
    """Give K; X_SHAPE when it is 0 or an input has another shape."""
    k = columns if columns is not None else len(base[0]) if base else 0
    if k < 1 or max(k, len(base)) > 2**31 - 1:
        raise Fault("X_SHAPE", "base")
    inputs = (("base", base), ("mask", mask), ("outliers", outliers), ("out_mask", out_mask))
    for name, rows in inputs:
        if rows is not None and (len(rows) != len(base) or any(len(row) != k for row in rows)):
            raise Fault("X_SHAPE", name)
    if scale is not None and dtype == "I8" and len(scale) != len(base):
        raise Fault("X_SHAPE", "scale")
    return k


def check_dtypes(
    dtype: str, base: Rows, scale: list[int] | None, outliers: Rows | None, out_dtype: str | None
) -> None:
    """X_DTYPE, then E_SCALE."""
    if dtype not in (*FLOATS, "I8"):
        raise Fault("X_DTYPE", "base")
    if outliers is not None and out_dtype not in FLOATS:
        raise Fault("X_DTYPE", "outliers")
    if dtype != "I8" and scale is not None:
        raise Fault("X_DTYPE", "scale")
    for rows, name in ((base, dtype), (outliers or [], out_dtype or "F32")):
        if any(not 0 <= bits < 1 << bits_of(name) for row in rows for bits in row):
            raise ValueError(f"bits that are no {name} element")
    if dtype == "I8":
        if scale is None:
            raise Fault("E_SCALE", "scale")
        for r, bits in enumerate(scale):
            if not is_scale(bits):
                raise Fault("E_SCALE", f"row {r}")


def check_overlap(base: Rows, outliers: Rows | None, out_mask: Rows | None) -> None:
    """X_OVERLAP when an outlier, or a column of its mask, meets base bits that are not zero."""
    for r, row in enumerate(base):
        for c, bits in enumerate(row):
            outlier = outliers is not None and outliers[r][c] != 0
            masked = out_mask is not None and out_mask[r][c] != 0
            if bits != 0 and (outlier or masked):
                raise Fault("X_OVERLAP", f"row {r} column {c}")


def choose_row(
    what: str,
    r: int,
    dtype: str,
    row: list[int],
    mask: list[int] | None,
    pattern: str,
    other: list[int],
) -> list[Block]:
    """Stored slots of the blocks of a row; `other` is the row whose nonzero bits fills skip."""
    n, m = parse_pattern(pattern)
    blocks = []
    for start in range(0, len(row), m):
        end = min(start + m, len(row))
        chosen = mask[start:end] if mask is not None else None
        taken = [i for i, bits in enumerate(other[start:end]) if bits != 0]
        where = f"{what} row {r} block {start // m}"
        blocks.append(choose_block(dtype, row[start:end], chosen, n, m, taken, where))
    return blocks


def choose_block(
    dtype: str,
    bits: list[int],
    mask: list[int] | None,
    n: int,
    m: int,
    taken: list[int],
    where: str,
) -> Block:
    """Stored slots of one block, from the bits of its real columns.

    Used columns are those of the mask, or those with bits; the lowest free columns of the whole
    block, virtual ones included, fill up to n.
    """
    minus_zeros = [i for i, v in enumerate(bits) if is_minus_zero(dtype, v)]
    nonzeros = [i for i, v in enumerate(bits) if v != 0 and i not in minus_zeros]
    if mask is None:
        used = sorted(nonzeros + minus_zeros)
        overfull = len(nonzeros) > n
        drops_minus_zero = len(used) > n
    else:
        used = [i for i, flag in enumerate(mask) if flag != 0]
        overfull = len(used) > n or any(i not in used for i in nonzeros)
        drops_minus_zero = any(i not in used for i in minus_zeros)
    free = [i for i in range(m) if i not in used and i not in taken]
    missing = max(0, n - len(used))
    if overfull or len(free) < missing:
        raise Fault("X_OVERFULL", where)
    if drops_minus_zero:
        raise Fault("X_NEGZERO", where)
    stored = sorted(used + free[:missing])
    return [(i, bits[i] if i in used else 0) for i in stored]


def block_count(k: int, pattern: str) -> int:
    """Blocks of a row: ceil(K / M)."""
    _, m = parse_pattern(pattern)
    return (k + m - 1) // m


def values_part(dtype: str, rows: list[list[Block]], pattern: str, k: int) -> Part:
    """Values block after block, positions ascending: [R, blocks * N]."""
    n, _ = parse_pattern(pattern)
    values = [bits for row in rows for block in row for _, bits in block]
    return dtype, [len(rows), block_count(k, pattern) * n], element_bytes(values, dtype)


def codes_part(rows: list[list[Block]], pattern: str, k: int) -> Part:
    """One bit stream of colex codes a row: U8 [R, bytes of the stream]."""
    w = width(*parse_pattern(pattern))
    data = b"".join(pack([rank(sum(1 << i for i, _ in block)) for block in row], w) for row in rows)
    return "U8", [len(rows), (block_count(k, pattern) * w + 7) // 8], data


def index_part(rows: list[list[Block]], pattern: str, k: int) -> Part:
    """One byte a slot, its position in the block: U8 [R, blocks * n]."""
    n, _ = parse_pattern(pattern)
    data = bytes(i for row in rows for block in row for i, _ in block)
    return "U8", [len(rows), block_count(k, pattern) * n], data
