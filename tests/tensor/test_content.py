"""The checks of one weight's parts, alone and in order, and nmref's messages: SPEC 6.4 and 6.6."""

import re
from itertools import combinations

import pytest

from tests.cases import bits
from tests.witness import WITNESSES, Case, Parts, Spec, Witness, every_witness, rejection

Patch = tuple[str, int, int, int]
"""Part, byte, the bits to change, their new values."""

NUMPY = next(witness for witness in WITNESSES if witness.name == "numpy")


def weight(coding: str) -> tuple[Spec, Parts]:
    """I8 2:4, two rows of six columns; each row's codes are 0 0, its outlier columns 1 2 3 4.

    Row 0 stores 5 at column 0 and 6 at column 5 (slot 3), row 1 stores 7 and 8 there.
    """
    base = bits("I8", [[5, 0, 0, 0, 0, 6], [7, 0, 0, 0, 0, 8]])
    scale, outliers = bits("F32", [0x3F800000] * 2), bits("F16", [[0, 0, 0x4000, 0, 0, 0]] * 2)
    case = Case("I8", base, "2:4", None, scale, outliers, "F16", "4:256", coding)
    return case.spec, WITNESSES[0].encode(case)


def patched(parts: Parts, *patches: Patch) -> Parts:
    changed = dict(parts)
    for suffix, at, mask, value in patches:
        dtype, shape, data = changed[suffix]
        byte = data[at] & ~mask | value
        changed[suffix] = dtype, shape, data[:at] + bytes([byte]) + data[at + 1 :]
    return changed


Fault = tuple[str, str, list[Patch]]


def base_faults(row: int) -> list[Fault]:
    """In the order of 6.6: padding, then per block a code out of range and a virtual slot."""
    codes, values = ("nm_codes", row), ("nm_values", 4 * row + 3)
    where = f"w row {row}"
    tail = "a value in a virtual column, want bits 0 past column K"
    return [
        ("E_PAD", f"{where}: padding bits that are not 0, want 0", [(*codes, 0x80, 0x80)]),
        ("E_CODE_RANGE", f"{where} block 0: code 6, want < 6", [(*codes, 7, 6)]),
        ("E_CODE_RANGE", f"{where} block 1: code 7, want < 6", [(*codes, 0o70, 0o70)]),
        ("E_TAIL", f"{where} block 1: {tail}", [(*codes, 0o70, 5 << 3), (*values, 0xFF, 0x80)]),
    ]


def index_faults(row: int) -> list[Fault]:
    index, values = ("nm_out_index", 4 * row), ("nm_out_values", 8 * row)
    where = f"w outlier row {row} block 0"
    order = rf"{where}: index \[\d, 9, 3, \d\], want strictly ascending"
    tail = f"{where}: a value in a virtual column, want bits 0 past column K"
    last, minus_zero = (index[0], index[1] + 3, 255, 6), (values[0], values[1] + 7, 255, 0x80)
    return [
        ("E_INDEX_ORDER", order, [(index[0], index[1] + 1, 255, 9)]),
        ("E_TAIL", tail, [last, minus_zero]),
    ]


def code_faults(row: int) -> list[Fault]:
    codes, at, values = "nm_out_codes", 4 * row, ("nm_out_values", 8 * row + 7)
    where, count = f"w outlier row {row}", 174792640
    tail = f"{where} block 0: a value in a virtual column, want bits 0 past column K"
    top = [(codes, at + i, 255, count >> 8 * i & 255) for i in range(3)]
    top.append((codes, at + 3, 15, count >> 24))
    return [
        ("E_PAD", f"{where}: padding bits that are not 0, want 0", [(codes, at + 3, 0x10, 0x10)]),
        ("E_CODE_RANGE", f"{where} block 0: code {count}, want < {count}", top),
        ("E_TAIL", tail, [(codes, at, 255, 1 + 1 + 1 + 15), (*values, 1, 1)]),
    ]


def overlaps(coding: str) -> list[Fault]:
    """An outlier slot without a value over a base weight."""
    text = (
        "w row {} column 0: an outlier slot over base bits that are not zero, want one of the two"
    )
    part = "nm_out_index" if coding == "idx8" else "nm_out_codes"
    zero_two_three_four = 0 if coding == "idx8" else 0 + 1 + 1 + 1
    return [
        ("E_OVERLAP", text.format(row), [(part, 4 * row, 255, zero_two_three_four)])
        for row in (0, 1)
    ]


def faults(coding: str) -> list[Fault]:
    scale = r"w row 1: scale -1.0, want 0 < scale <= 2\^120"
    outliers = index_faults if coding == "idx8" else code_faults
    return [
        ("E_SCALE", scale, [("nm_scale", 7, 0x80, 0x80)]),
        *(fault for row in (0, 1) for fault in base_faults(row)),
        *(fault for row in (0, 1) for fault in outliers(row)),
        *overlaps(coding),
    ]


CODINGS = pytest.mark.parametrize("coding", ["idx8", "colex"])


@every_witness
@CODINGS
def test_decode_refuses_one_fault_with_its_code(witness: Witness, coding: str):
    spec, parts = weight(coding)
    witness.decode(spec, parts)
    for code, where, patches in faults(coding):
        bad = patched(parts, *patches)
        assert rejection(witness.decode, spec, bad).code == code, where
        assert rejection(witness.warnings, spec, bad).code == code, where


@CODINGS
def test_check_says_what_where_got_and_want(coding: str):
    spec, parts = weight(coding)
    for code, text, patches in faults(coding):
        message = rejection(NUMPY.decode, spec, patched(parts, *patches)).message
        assert re.fullmatch(f"{code} {text}", message), message


@every_witness
@CODINGS
def test_decode_names_the_earlier_of_two_faults(witness: Witness, coding: str):
    spec, parts = weight(coding)
    pairs = 0
    for (code, where, first), (_, later, second) in combinations(faults(coding), 2):
        touched = {(suffix, at): mask for suffix, at, mask, _ in first}
        if any(touched.get((suffix, at), 0) & mask for suffix, at, mask, _ in second):
            continue  # they change the same bits
        found = rejection(witness.decode, spec, patched(parts, *first, *second))
        assert found.code == code, (where, later)
        if witness is NUMPY:
            assert re.fullmatch(f"{code} {where}", found.message), (later, found.message)
        pairs += 1
    assert pairs > 80


@every_witness
def test_decode_lets_an_outlier_slot_lie_over_base_bits_of_zero(witness: Witness):
    spec, parts = weight("idx8")
    columns = patched(parts, ("nm_out_index", 0, 255, 1), ("nm_out_values", 0, 255, 1))
    assert witness.decode(spec, columns)[1][0, 1] == 0x33800000
    far = patched(parts, ("nm_out_index", 3, 255, 255))
    assert witness.decode(spec, far)[1].tolist() == witness.decode(spec, parts)[1].tolist()


@every_witness
def test_decode_lets_base_and_outliers_share_a_virtual_column(witness: Witness):
    spec, parts = weight("idx8")
    moved = patched(parts, ("nm_codes", 0, 0o70, 5 << 3), ("nm_values", 3, 255, 0))
    moved = patched(moved, ("nm_out_index", 2, 255, 6), ("nm_out_index", 3, 255, 7))
    assert witness.decode(spec, moved)[1][0, 5] == 0


@every_witness
@pytest.mark.parametrize(
    ("code", "message", "members", "change"),
    [
        ("E_LIMIT", r"w: shape \[2,0\], want R in .*", {"shape": [2, 0]}, {}),
        ("E_LIMIT", r"w: shape \[-1,6\], want R in .*", {"shape": [-1, 6]}, {}),
        ("E_LIMIT", r"w: shape \[2,2147483648\], want .*", {"shape": [2, 1 << 31]}, {}),
        ("E_LIMIT", r"w: shape \[2147483648,6\], want .*", {"shape": [1 << 31, 6]}, {}),
        ("E_SHAPE", r"w.nm_values: shape \[2, 4\], want \[3, 4\]", {"shape": [3, 6]}, {}),
        ("E_SHAPE", r"w.nm_values: .*", {"shape": [2, (1 << 31) - 1]}, {}),
        ("E_MISSING", r"w.nm_codes: no such tensor, want U8 \[2, 1\]", {}, {"nm_codes": None}),
        ("E_MISSING", r"w.nm_scale: no such tensor, want F32 \[2\]", {}, {"nm_scale": None}),
        ("E_MISSING", "w.nm_out_codes: .*", {}, {"nm_out_codes": None}),
        ("E_DTYPE", "w.nm_codes: dtype I8, want U8", {}, {"nm_codes": "I8"}),
        ("E_DTYPE", "w.nm_scale: dtype U32, want F32", {}, {"nm_scale": "U32"}),
        ("E_DTYPE", "w.nm_out_values: dtype BF16, want F16", {}, {"nm_out_values": "BF16"}),
        ("E_UNEXPECTED", "w.nm_out_codes: .* no weight, .*", {"outliers": None}, {}),
        ("E_UNEXPECTED", "w.nm_x: a part of no weight, want .*", {}, {"nm_x": "U8"}),
    ],
)
def test_decode_refuses_parts_that_do_not_fit_the_metadata(
    witness: Witness, code: str, message: str, members: Spec, change: dict[str, str | None]
):
    spec, parts = weight("colex")
    for suffix, dtype in change.items():
        part = parts.pop(suffix, ("", (1,), b"\0"))
        if dtype is not None:
            parts[suffix] = (dtype, *part[1:])
    found = rejection(witness.decode, {**spec, **members}, parts)
    assert found.code == code
    if witness is NUMPY:
        assert re.fullmatch(f"{code} {message}", found.message), found.message
