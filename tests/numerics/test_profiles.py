"""Names of profiles (SPEC 8.10, 8.11, 8.15) and what matmul refuses."""

from __future__ import annotations

import re

import ml_dtypes
import numpy as np
import pytest

import nmref
from nmref.errors import NmrefError
from nmref.linear import matmul
from nmref.numerics import Profile, fast, plain
from tests.numerics.cases import SCALAR, TC_ALL, finite_case, stored, vector
from tests.numerics.witness import (
    Dense,
    NumericWitness,
    as_operand,
    every_numeric_witness,
)
from tests.witness import rejection

GOOD = "tc.L4.F23.rz.rz.col"
BAD = [
    "",
    "+",
    "+merged",
    "exact+",
    "exact+Merged",
    "exact+both",
    "exact +split",
    "exact+split+split",
    "exact+merged+split",
    "Exact",
    " exact",
    "exact ",
    "exact\n",
    "exact+split\n",
    "f64.seq\x00",
    "i32+merged",
    "i32+split",
    "i32\n",
    "f64",
    "f64.fma",
    "f64_seq",
    "f64xseq",
    "f32seq",
    "f32.mul",
    "f32.lanes.fma",
    "f32.lanes1.fma",
    "f32.lanes3.fma",
    "f32.lanes04.fma",
    "f32.lanes128.fma",
    "f32.lanes-4.fma",
    "f32.lanes4",
    "f32.lanes4.seq",
    "f32.lanes4fma",
    "f32.lanes4xfma",
    "f32.lanes\u0664.fma",
    "tc",
    "tc.L2.F23.rz.rz.col",
    "tc.L64.F23.rz.rz.col",
    "tc.L04.F23.rz.rz.col",
    "tc.L12.F23.rz.rz.col",
    "tc.L4.F22.rz.rz.col",
    "tc.L4.F61.rz.rz.col",
    "tc.L4.F023.rz.rz.col",
    "tc.L4.F2\u0663.rz.rz.col",
    "tc.L4.F3.rz.rz.col",
    "tc.L4.F230.rz.rz.col",
    "tc.L4.F.rz.rz.col",
    "tc.l4.F23.rz.rz.col",
    "tc.L4.F23.ru.rz.col",
    "tc.L4.F23.rz.rd.col",
    "tc.L4.F23.rz.col",
    "tc.L4.F23.rz.rz.row",
    "tc.L4.F23.rz.rz",
    "tc.L4.F23.rz.rz.col.col",
    "tc.L4.F23.rz.rz.slot+merged",
    "tc,L4,F23,rz,rz,col",
]
ALL = (*SCALAR, *TC_ALL)
BF16 = ml_dtypes.bfloat16
every_twin = pytest.mark.parametrize("twin", [plain, fast], ids=["numpy", "numba"])


def test_full_names_are_the_name_plus_merged_or_split():
    for name in ALL:
        slot = name.endswith(".slot")
        default = name + ("+split" if slot else "+merged")
        assert str(Profile.parse(name)) == default
        assert str(Profile.parse(default)) == default
        assert str(Profile.parse(name + "+split")) == name + "+split"
        assert Profile.parse(name) == Profile.parse(default)
    assert str(Profile.parse("i32")) == "i32"
    assert len({str(Profile.parse(name)) for name in ALL}) == len(ALL) == 16 + 1824


@pytest.mark.parametrize("name", BAD)
def test_parse_refuses_what_is_no_name(name: str):
    with pytest.raises(NmrefError) as caught:
        Profile.parse(name)
    assert caught.value.code == "T_ARGUMENT"
    assert name in str(caught.value) or repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)


@every_numeric_witness
@pytest.mark.parametrize("name", ["f64", "i32+split", "tc.L4.F23.rz.rz.slot+merged", "exact\n"])
def test_linear_refuses_what_is_no_name(witness: NumericWitness, name: str):
    x = np.zeros((1, 3), dtype=np.uint32)
    assert rejection(witness.linear, name, Dense("F32", x), ("F32", x)).code == "T_ARGUMENT"


@every_twin
def test_matmul_takes_a_profile_or_its_name(twin):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for name in (GOOD, "exact+split"):
        named = matmul(x, x, name, twin=twin)
        assert named.dtype == np.float32
        assert np.array_equal(matmul(x, x, Profile.parse(name), twin=twin), named)
        assert named.tolist() == [[5, 14], [14, 50]]


@every_numeric_witness
def test_a_name_without_plus_is_split_for_slots_and_merged_for_others(witness: NumericWitness):
    rng = np.random.default_rng(43)
    case = finite_case(rng, "F32", "8:16", (16, 64), ("F32", "16:256", "idx8"), 12)
    x = vector(rng, "F32", (1, 64))
    weight = stored(case).weight
    for name in (*SCALAR, GOOD, "tc.L8.F24.rz.rz.slot"):
        default = name + ("+split" if name.endswith(".slot") else "+merged")
        got = witness.linear(name, weight, x)
        assert np.array_equal(got, witness.linear(default, weight, x))
        if name not in ("exact", "f64.seq"):
            other = witness.linear(name.replace(".col", ".slot") + "+split", weight, x)
            assert name.endswith(".slot") or not np.array_equal(got, other)


F32_X, I8_X = np.zeros((2, 4), np.float32), np.zeros((2, 4), np.int8)
F32_W = np.zeros((3, 4), np.float32)
ONES = np.ones(3, np.float32)
I8_W = nmref.encode(np.zeros((3, 4), np.int8), "2:4", scale=ONES)
I8_OUT_W = nmref.encode(
    np.zeros((3, 4), np.int8),
    "2:4",
    scale=ONES,
    outliers=np.zeros((3, 4), np.float32),
)
SPARSE_W = nmref.encode(F32_W, "2:4")


@every_twin
@pytest.mark.parametrize(
    ("x", "weight", "profile", "message"),
    [
        (F32_X.astype(np.float64), F32_W, "exact", "X_DTYPE x: dtype float64, want "),
        (F32_X.astype(np.int32), F32_W, "f64.seq", "X_DTYPE x: dtype int32, want "),
        (I8_X, F32_W, "exact", "X_DTYPE x: dtype int8, want "),
        (I8_X, SPARSE_W, "f32.fma", "X_DTYPE x: dtype int8, want "),
        (I8_X, I8_W, GOOD, "X_DTYPE x: dtype int8, want "),
        (F32_X, I8_W, "i32", "X_DTYPE x: dtype float32, want int8"),
        (I8_X.astype(np.int32), I8_W, "i32", "X_DTYPE x: dtype int32, want int8"),
        (I8_X.view(np.uint8), I8_W, "i32", "X_DTYPE x: dtype uint8, want int8"),
        (F32_X, F32_W.astype(np.float64), "exact", "X_DTYPE "),
        (F32_X, F32_W.astype(np.int8), "exact", "X_DTYPE "),
        (I8_X, SPARSE_W, "i32", "T_ARGUMENT profile i32: "),
        (I8_X, F32_W, "i32", "T_ARGUMENT profile i32: "),
        (I8_X, I8_OUT_W, "i32", "T_ARGUMENT profile i32: "),
        (np.zeros((2, 5), np.float32), F32_W, "exact", "X_SHAPE "),
        (np.zeros((2, 3), np.float32), SPARSE_W, "f64.seq", "X_SHAPE "),
        (np.zeros((2, 5), np.int8), I8_W, "i32", "X_SHAPE "),
        (np.zeros(5, np.float32), F32_W, "f32.seq", "X_SHAPE "),
        (np.zeros((1, 2, 4), np.float32), F32_W, GOOD, "X_SHAPE "),
        (np.float32(3), F32_W, "exact", "X_SHAPE "),
        (F32_X, np.zeros(4, np.float32), "exact", "X_SHAPE "),
        (F32_X, np.zeros((1, 3, 4), np.float32), "exact", "X_SHAPE "),
        (F32_X, F32_W, "exakt", "T_ARGUMENT "),
        (F32_X, SPARSE_W, "tc.L4.F61.rz.rz.col", "T_ARGUMENT "),
    ],
)
def test_matmul_refuses(x, weight, profile: str, message: str, twin):
    with pytest.raises(NmrefError, match="^" + re.escape(message)) as caught:
        matmul(x, weight, profile, twin=twin)
    assert "\n" not in str(caught.value)


@every_twin
@pytest.mark.parametrize("threads", [0, -1])
def test_matmul_refuses_fewer_than_one_thread(twin, threads: int):
    with pytest.raises(NmrefError, match=r"^T_ARGUMENT .*threads.*-?\d"):
        matmul(F32_X, F32_W, "exact", twin=twin, threads=threads)


@every_twin
@pytest.mark.parametrize("dtype", [np.float32, np.float16, BF16], ids=["F32", "F16", "BF16"])
def test_matmul_takes_every_dtype_of_w_with_every_dtype_of_x(twin, dtype):
    w = np.array([[1, 2, -3]], dtype=dtype)
    for other in (np.float32, np.float16, BF16):
        x = np.array([[2, 0.5, 0.25]], dtype=other)
        assert matmul(x, w, "f32.seq", twin=twin).tolist() == [[2.25]]
        packed = nmref.encode(w, "3:4")
        assert matmul(x, packed, "f32.seq+split", twin=twin).tolist() == [[2.25]]


@every_twin
def test_matmul_does_not_change_its_inputs(twin):
    rng = np.random.default_rng(47)
    operand = stored(finite_case(rng, "F32", "2:4", (3, 20)))
    _, bits = vector(rng, "F32", (2, 20))
    x = bits.view(np.float32)
    before = x.copy()
    for name in (*SCALAR, GOOD):
        matmul(x, as_operand(operand.weight), name, twin=twin)
    assert np.array_equal(x.view(np.uint32), before.view(np.uint32))
