"""How nmref refuses to encode: every message has its code, the place, what was found and wanted."""

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import nmref
from nmref import Code, NmrefError, encode
from tests.cases import bits

ONE, MINUS_ZERO = 0x3C00, 0x8000
FULL = [ONE, ONE, ONE, 0]
FULL_63 = ([ONE] * 63 + [0]) * 4
F64 = np.zeros((1, 4))


def array(row: list[int]) -> Any:
    return bits("F16", [row]).view(np.float16)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: encode(array([0] * 4 + FULL), "2:4"),
            "X_OVERFULL base row 0 block 1: 3 columns, want at most 2 to be stored",
        ),
        (
            lambda: encode(array([0, ONE, 0, 0]), "2:4", mask=np.eye(1, 4, dtype=bool)),
            "X_OVERFULL base row 0 block 0: a value .* in position 1 outside the mask, want .*",
        ),
        (
            lambda: encode(array([MINUS_ZERO] * 3), "2:4"),
            r"X_NEGZERO base row 0 block 0: a -0 .* dropped, want \+0 \(nmref.normalise_zero\)",
        ),
        (
            lambda: encode(array([0] * 17), outliers=array([ONE] * 17)),
            "X_OVERFULL outliers row 0 block 0: 17 columns, want at most 16 to be stored",
        ),
        (
            lambda: encode(array(FULL_63), "63:64", outliers=array([0] * 256)),
            "X_OVERFULL outliers row 0 block 0: too few free columns .* 16 slots, want .*",
        ),
        (
            lambda: encode(array([0, ONE]), "2:4", outliers=array([0, ONE])),
            r"X_OVERLAP row 0 column 1: an outlier over base bits .*, want \+0 in the base",
        ),
        (lambda: encode(np.zeros(4, np.float16)), r"X_SHAPE base: shape \[4\], want \[R, K\] .*"),
        (
            lambda: encode(np.zeros((1, 2, 4), np.float16)),
            r"X_SHAPE base: shape \[1, 2, 4\], want \[R, K\] with K >= 1",
        ),
        (
            lambda: encode(array(FULL), mask=np.ones((1, 3), bool)),
            r"X_SHAPE mask: shape \[1, 3\], want \[1, 4\] as the base",
        ),
        (
            lambda: encode(array(FULL), outliers=array([0])),
            r"X_SHAPE outliers: shape \[1, 1\], want \[1, 4\] as the base",
        ),
        (
            lambda: encode(array(FULL), mask=np.ones((1, 4), np.int8)),
            "X_DTYPE mask: dtype int8, want bool",
        ),
        (lambda: encode(F64), "X_DTYPE base: dtype float64, want one of F32, F16, BF16, I8"),
        (lambda: encode(F64.astype(">f4")), "X_DTYPE base: dtype >f4, want one of .*"),
        (
            lambda: encode(array(FULL), outliers=np.zeros((1, 4), np.int8)),
            "X_DTYPE outliers: dtype int8, want one of F32, F16, BF16",
        ),
        (
            lambda: encode(array(FULL), scale=np.ones(1, np.float32)),
            "X_DTYPE scale: a scale for F16, want none: only I8 has one",
        ),
        (
            lambda: encode(np.zeros((2, 4), np.int8), scale=np.ones(2)),
            "X_DTYPE scale: dtype float64, want float32",
        ),
        (
            lambda: encode(np.zeros((2, 4), np.int8), scale=np.ones(3, np.float32)),
            r"X_SHAPE scale: shape \[3\], want \[2\]",
        ),
        (
            lambda: encode(np.zeros((2, 4), np.int8)),
            r"E_SCALE scale: none, want one F32 a row, \[2\]",
        ),
        (
            lambda: encode(np.zeros((2, 4), np.int8), scale=np.array([1, 0], np.float32)),
            r"E_SCALE row 1: scale 0.0, want 0 < scale <= 2\^120",
        ),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "encode",
)
def test_encode_says_what_where_got_and_want(call: Any, message: str):
    with pytest.raises(NmrefError) as caught:
        call()
    assert re.fullmatch(message, str(caught.value)), str(caught.value)
    assert str(caught.value).startswith(caught.value.code)


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        ("X_SHAPE", {"mask": np.ones((1, 4), np.int8), "outliers": array([0] * 5)}),
        ("X_SHAPE", {"scale": np.ones(3)}),
        ("X_DTYPE", {"outliers": F64}),
        ("X_DTYPE", {"outliers": array([0] * 4), "outlier_mask": np.ones((1, 4), np.uint8)}),
    ],
    ids=[
        "mask dtype, outlier shape",
        "scale dtype and shape",
        "outlier dtype, no scale",
        "mask dtype",
    ],
)
def test_encode_checks_all_shapes_then_all_dtypes_then_the_scale(code: str, arguments: Any):
    with pytest.raises(NmrefError) as caught:
        encode(np.zeros((1, 4), np.int8), "2:4", **arguments)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "arguments",
    [
        {"pattern": "4:4"},
        {"pattern": "0:4"},
        {"pattern": "2:65"},
        {"pattern": "02:4"},
        {"pattern": "2:4 "},
        {"outliers": array([0] * 4), "outlier_pattern": "2:256"},
        {"outliers": array([0] * 4), "outlier_pattern": "8:16"},
        {"outliers": array([0] * 4), "coding": "IDX8"},
        {"outlier_mask": np.zeros((1, 4), np.bool_)},
    ],
    ids=lambda arguments: " ".join(f"{k}={v}" for k, v in arguments.items() if isinstance(v, str)),
)
def test_encode_refuses_arguments_that_mean_nothing(arguments: Any):
    with pytest.raises(NmrefError) as caught:
        encode(array([0] * 4), **arguments)
    assert caught.value.code == Code.T_ARGUMENT


@pytest.mark.parametrize("kind", [np.float16, np.float32, ml_dtypes.bfloat16])
def test_normalise_zero_lets_encode_pass_and_keeps_the_rest(kind: type):
    dense = np.array([[-0.0, 1, -0.0, -2, -0.0, np.nan, 0, -0.0]], dtype=kind)
    with pytest.raises(NmrefError):
        encode(dense, "2:4")
    plain = nmref.normalise_zero(dense)
    assert np.signbit(dense[0, 0])
    assert not np.signbit(plain[plain == 0]).any()
    assert encode(plain, "2:4").to_dense().tobytes() == plain.tobytes()
