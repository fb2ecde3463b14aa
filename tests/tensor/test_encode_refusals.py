"""What encode refuses, and in which order: SPEC 3.14 to 3.20, 4.12, 4.14."""

from typing import Any

import numpy as np
import pytest

from tests.cases import bits
from tests.witness import Case, Witness, every_witness, rejection

ONE, NAN, MINUS_ZERO, SUBNORMAL = 0x3C00, 0x7E01, 0x8000, 1
FULL = [ONE, ONE, ONE, 0]


def of(row: list[int] | list[list[int]], mask: Any = None, **more: Any) -> Case:
    """A case of F16, 2:4; a single row may be given without its outer list."""
    base = bits("F16", np.atleast_2d(np.array(row, dtype=np.uint16)))
    if mask is not None:
        mask = np.atleast_2d(np.array(mask, dtype=np.bool_))
    for key in ("outliers", "out_mask"):
        if key in more:
            kind = np.uint16 if key == "outliers" else np.bool_
            more[key] = np.atleast_2d(np.array(more[key], dtype=kind))
    return Case("F16", base, "2:4", mask, **more)


def scaled(row: list[int], *scale: int, **more: Any) -> Case:
    given = bits("F32", scale) if scale else None
    return Case("I8", bits("I8", [row]), "2:4", None, given, **more)


def crowded(row: list[int]) -> list[int]:
    """256 columns in which 63 of every 64 are used, except these."""
    full = ([ONE] * 63 + [0]) * 4
    return [0 if i in row else value for i, value in enumerate(full)]


FULL8 = [1, 1, 1, 0]
F64, ZEROS = np.zeros((1, 4)), np.zeros((1, 4), dtype=np.uint8)
FIVE = [0] * 4 + [ONE] * 5
CASES = [
    # SPEC 3.18, 3.19
    ("three values", "X_OVERFULL", of(FULL)),
    ("NaN, subnormal and a value", "X_OVERFULL", of([ONE, NAN, SUBNORMAL, 0])),
    ("three values, -0", "X_OVERFULL", of([ONE, NAN, SUBNORMAL, MINUS_ZERO])),
    ("a mask of three", "X_OVERFULL", of([0] * 4, [1, 1, 1, 0])),
    ("a value outside", "X_OVERFULL", of([ONE, 0, 0, 0], [0, 1, 0, 0])),
    ("a subnormal outside", "X_OVERFULL", of([SUBNORMAL, 0, 0, 0], [0, 1, 0, 0])),
    ("a value and -0 outside", "X_OVERFULL", of([MINUS_ZERO, ONE, 0, 0], [0, 0, 1, 1])),
    ("second row", "X_OVERFULL", of([[0] * 4, FULL])),
    ("two values, -0", "X_NEGZERO", of([ONE, ONE, MINUS_ZERO, 0])),
    ("three -0", "X_NEGZERO", of([MINUS_ZERO] * 3)),
    ("-0 outside, with room", "X_NEGZERO", of([MINUS_ZERO, 0, 0, 0], [0, 1, 0, 0])),
    ("-0 in an earlier block", "X_NEGZERO", of([MINUS_ZERO] * 3 + [0] + FULL)),
    ("-0 in a later block", "X_OVERFULL", of(FULL + [MINUS_ZERO] * 3)),
    ("-0 in an earlier row", "X_NEGZERO", of([[MINUS_ZERO] * 3 + [0], FULL])),
    # SPEC 3.15, 3.16, 3.17
    ("no columns", "X_SHAPE", of(np.zeros((1, 0), dtype=np.uint16))),
    ("mask of other columns", "X_SHAPE", of(FULL, [1, 1])),
    ("mask of other rows", "X_SHAPE", of(FULL, [[1] * 4] * 2)),
    ("outliers of other columns", "X_SHAPE", of(FULL, outliers=[0] * 5)),
    ("outliers of other rows", "X_SHAPE", of(FULL, outliers=[[0] * 4] * 2)),
    ("outlier mask of other columns", "X_SHAPE", of(FULL, outliers=[0] * 4, out_mask=[1])),
    ("two scales for a row", "X_SHAPE", scaled(FULL8, 1, 1)),
    ("too many columns", "X_SHAPE", of(np.zeros((0, 1 << 31), dtype=np.uint16))),
    ("F64", "X_DTYPE", Case("F64", F64, "2:4")),
    ("I16 outliers", "X_DTYPE", of(FULL, outliers=[0] * 4, out_dtype="I16")),
    ("I8 outliers", "X_DTYPE", scaled(FULL8, 1, outliers=ZEROS, out_dtype="I8")),
    ("a scale for F16", "X_DTYPE", of(FULL, scale=bits("F32", [1]))),
    ("two scales for F16", "X_DTYPE", of(FULL, scale=bits("F32", [1, 1]))),
    ("no scale", "E_SCALE", scaled(FULL8)),
    ("scale 0", "E_SCALE", scaled(FULL8, 0)),
    ("scale -0", "E_SCALE", scaled(FULL8, 0x80000000)),
    ("negative scale", "E_SCALE", scaled(FULL8, 0xBF800000)),
    ("negative subnormal scale", "E_SCALE", scaled(FULL8, 0x80000001)),
    ("scale above 2^120", "E_SCALE", scaled(FULL8, 0x7B800001)),
    ("infinite scale", "E_SCALE", scaled(FULL8, 0x7F800000)),
    ("NaN scale", "E_SCALE", scaled(FULL8, 0x7FC00000)),
    ("signalling scale", "E_SCALE", scaled(FULL8, 0x7F800001)),
    ("values only", "X_OVERFULL", scaled(FULL8, 0x7B800000)),
    # SPEC 4.12, 4.14, 4.15
    ("outlier over a value", "X_OVERLAP", of([0, ONE, 0, 0], outliers=[0, ONE, 0, 0])),
    ("-0 over a value", "X_OVERLAP", of([0, ONE, 0, 0], outliers=[0, MINUS_ZERO, 0, 0])),
    ("outlier over -0", "X_OVERLAP", of([0, MINUS_ZERO, 0, 0], outliers=[0, ONE, 0, 0])),
    ("outlier mask", "X_OVERLAP", of([ONE, 0], outliers=[0, 0], out_mask=[1, 0])),
    ("five outliers", "X_OVERFULL", of([0] * 8, outliers=[ONE] * 5 + [0] * 3)),
    ("outlier mask of five", "X_OVERFULL", of([0] * 6, outliers=[0] * 6, out_mask=[1] * 5 + [0])),
    ("outlier outside", "X_OVERFULL", of([0] * 2, outliers=[ONE, 0], out_mask=[0, 1])),
    ("-0 outlier outside", "X_NEGZERO", of([0] * 2, outliers=[MINUS_ZERO, 0], out_mask=[0, 1])),
    ("five -0 outliers", "X_NEGZERO", of([0] * 8, outliers=[MINUS_ZERO] * 5 + [0] * 3)),
    # SPEC 3.20
    ("shape before dtype", "X_SHAPE", of(FULL, [1], scale=bits("F32", [1]))),
    ("outlier shape before F64", "X_SHAPE", Case("F64", F64, outliers=bits("F16", [[0]]))),
    ("dtype before scale", "X_DTYPE", scaled([1, 0], outliers=ZEROS[:, :2], out_dtype="I8")),
    ("scale before overlap", "E_SCALE", scaled([1, 0], 0, outliers=bits("F16", [[ONE, 0]]))),
    ("overlap before base", "X_OVERLAP", of([*FULL, ONE], outliers=[0] * 4 + [ONE])),
    ("base before outliers", "X_NEGZERO", of([MINUS_ZERO] * 3 + [0] * 6, outliers=FIVE)),
]


@every_witness
@pytest.mark.parametrize(("code", "case"), [pytest.param(*c[1:], id=c[0]) for c in CASES])
def test_encode_refuses(witness: Witness, code: str, case: Case):
    assert rejection(witness.encode, case).code == code


@every_witness
def test_encode_refuses_too_few_free_columns_for_the_outlier_fill(witness: Witness):
    base = bits("F16", [crowded([127 - 63])])
    base[0, 127] = 0
    zero = np.zeros_like(base)
    assert np.count_nonzero(base == 0) == 5
    case = Case("F16", base, "63:64", None, None, zero, "F16", "4:256")
    assert witness.encode(case)["nm_out_index"][2] == bytes([63, 64, 127, 191])
    more = Case("F16", base, "63:64", None, None, zero, "F16", "8:256")
    assert rejection(witness.encode, more).code == "X_OVERFULL"


@every_witness
def test_encode_checks_the_outlier_fill_before_minus_zero(witness: Witness):
    base, outliers = bits("F16", [crowded([])]), np.zeros((1, 256), dtype=np.uint16)
    outliers[0, 63] = MINUS_ZERO
    none = np.zeros((1, 256), dtype=np.bool_)
    case = Case("F16", base, "63:64", None, None, outliers, "F16", "8:256", "idx8", none)
    assert rejection(witness.encode, case).code == "X_OVERFULL"
