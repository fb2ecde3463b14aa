"""exp, SiLU, softmax and RMSNorm (SPEC 8.17 to 8.21) against decimals of many digits."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction

import numpy as np
import pytest

from conformance import naive
from nmref.dtypes import Array
from nmref.model.sampling import greedy
from nmref.numerics import fast, functions, plain
from tests.numerics.cases import f32, floats
from tests.numerics.witness import NAN, NumericWitness, every_numeric_witness

INF, NEGATIVE_INF = 0x7F800000, 0xFF800000
DIGITS = Context(prec=60, Emin=-9999, Emax=9999)
THIN = {"naive": 9, "numpy": 1, "numba": 1}
"""One in how many random inputs a witness computes."""

HARD = [
    *(0xC16912CD, 0xBBF0EDF1, 0xBAE0E25C, 0xB3000000, 0x377EFF81, 0x40315B33, 0x4001B249),
    *(0x39C6BE5B, 0x38E69CC1, 0x383A3EF1, 0xBC2A461A, 0x3D1A274E, 0x4288942B, 0xBBB70EE8),
    *(0x3FE67199, 0xC13D6631, 0x39E5BB1D, 0x41CBF87B, 0x36FDFFC1, 0x367BFFE1, 0x35F7FFF1),
    *(0x356FFFF9, 0x34DFFFFD, 0x343FFFFF, 0x33800000, 0x337FFFFF, 0xBCB8F40F, 0xC0781533),
    *(0xB7F4C0EA, 0x40DD70CB, 0xB7C9C09F, 0xBFBFA14B, 0xB2FFFFFF, 0xBA7242A6, 0x38AD9E29),
    *(0xBDB393EB, 0x4034D02B, 0xBF76FD92, 0xBF81EADF, 0xC0382E72, 0xB6B50020, 0xB616000B),
    *(0xB5D4000B, 0xB4B00002, 0xB4200001, 0xB3C00001, 0xB3000001, 0x3C971AAA, 0x3CAFFE2E),
    *(0x3A7BCD08, 0x3F5BC24C, 0x4283070F, 0x4178966E, 0xBCE017BB, 0x3C608A0E, 0x3B18F346),
]
"""The inputs of exp whose results lie nearest to the middle of two numbers, from a search over all
inputs; the first seven are those of 8.17."""


def nearest(value: Fraction) -> int:
    """The bits of RN32 of a number that is not negative."""
    if value == 0:
        return 0
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    exponent -= value < Fraction(2) ** exponent
    step = max(exponent - 23, -149)
    mantissa = round(value / Fraction(2) ** step)  # ties to even
    return min(mantissa + (step + 149 << 23), INF)


def exp_of(bits: int) -> int:
    """8.17."""
    x = float(np.uint32(bits).view(np.float32))
    if math.isnan(x):
        return NAN
    if abs(x) > 200:
        return INF if x > 0 else 0
    return nearest(Fraction(DIGITS.exp(Decimal(x))))


def number(bits: int) -> np.float32:
    return np.uint32(bits).view(np.float32)


def canonical(values: list[np.float32]) -> list[int]:
    array = np.array(values, dtype=np.float32)
    return np.where(np.isnan(array), NAN, np.where(array == 0, 0, array.view(np.uint32))).tolist()


def around(centres: list[int], width: int) -> list[int]:
    """Every centre and its neighbours in bits."""
    offsets = range(-width, width + 1)
    return [(bits + i) & 0xFFFFFFFF for bits in centres for i in offsets]


def boundaries() -> list[int]:
    """Where results end, become subnormal or 1, and where a reduction of arguments may change."""
    ends = [0x42B17218, 0xC2CFF1B5, 0xC2AEAC50, 0x33000000, 0xB3000000, 0x33800000, 0xB2800000]
    steps = [k * math.log(2) / 2 for k in range(-300, 258) if k]
    return [
        *around(ends, 4),
        *around(HARD, 1),
        *around([int(bits) for bits in np.array(steps, np.float32).view(np.uint32)], 1),
        *around([int(bits) for bits in f32(*range(-104, 90)) if bits], 0),
        *(sign | bits for sign in (0, 1 << 31) for bits in (0, 1, 2, 0x7FFFFF, 0x800000)),
        *(sign | bits for sign in (0, 1 << 31) for bits in (INF, INF - 1, INF + 1, NAN, NAN + 5)),
    ]


def test_seven_inputs_of_exp_are_as_near_to_a_middle_as_8_17_says():
    def distance(bits: int) -> Fraction:
        value = Fraction(DIGITS.exp(Decimal(float(number(bits)))))
        low = nearest(value)
        low -= Fraction(float(number(low))) > value
        middle = (Fraction(float(number(low))) + Fraction(float(number(low + 1)))) / 2
        return abs(value - middle) / value

    limit = Fraction(1, 2**50)
    assert [distance(bits) < limit for bits in HARD] == [True] * 7 + [False] * (len(HARD) - 7)


@every_numeric_witness
def test_exp_is_correctly_rounded_at_its_boundaries(witness: NumericWitness):
    bits = boundaries()
    got = witness.exp(np.array(bits, dtype=np.uint32)).tolist()
    wrong = [(hex(b), hex(g)) for b, g in zip(bits, got, strict=True) if g != exp_of(b)]
    assert wrong == []


@every_numeric_witness
def test_exp_is_correctly_rounded_at_random(witness: NumericWitness):
    rng = np.random.default_rng(1)
    x = np.concatenate(
        [
            rng.uniform(-104, 88.8, 2000).astype(np.float32).view(np.uint32),
            rng.uniform(-1, 1, 1500).astype(np.float32).view(np.uint32),
            rng.uniform(-103.98, -87.3, 1000).astype(np.float32).view(np.uint32),
            floats(rng, "F32", (1000,), 30),
        ]
    )[:: THIN[witness.name]]
    want = [exp_of(bits) for bits in x.tolist()]
    assert np.flatnonzero(witness.exp(x) != want).tolist() == []


@every_numeric_witness
@pytest.mark.parametrize(
    ("x", "want"),
    [
        (0x00000000, 0x3F800000),
        (0x80000000, 0x3F800000),
        (0x42B17217, 0x7F7FFF84),
        (0x42B17218, INF),
        (INF, INF),
        (NEGATIVE_INF, 0),
        (0xC2CFF1B4, 1),
        (0xC2CFF1B5, 0),
        (0xFF7FFFFF, 0),
        (0x7F7FFFFF, INF),
        (0xFF800001, NAN),
        (0x3F800000, 0x402DF854),
    ],
)
def test_exp_of_named_inputs(witness: NumericWitness, x: int, want: int):
    assert witness.exp(np.array([x], dtype=np.uint32)).tolist() == [want]


def silu_of(bits: int) -> np.float32:
    """8.19."""
    x = number(bits)
    with np.errstate(all="ignore"):
        return x / (np.float32(1) + number(exp_of(bits ^ 1 << 31)))


@every_numeric_witness
def test_silu_is_the_quotient_of_rounded_steps(witness: NumericWitness):
    rng = np.random.default_rng(2)
    bits = np.concatenate(
        [
            np.array([*boundaries()[:40], *boundaries()[-20:]], dtype=np.uint32),
            np.array(around([0xC2B17218, 0x41800000, 0xC1800000], 4), dtype=np.uint32),
            rng.uniform(-100, 40, 1200).astype(np.float32).view(np.uint32)[:: THIN[witness.name]],
            floats(rng, "F32", (600,), 20)[:: THIN[witness.name]],
        ]
    )
    want = canonical([silu_of(b) for b in bits.tolist()])
    assert np.flatnonzero(witness.silu(bits) != want).tolist() == []


@every_numeric_witness
def test_silu_of_infinities_and_where_its_divisor_overflows(witness: NumericWitness):
    x = np.array([INF, NEGATIVE_INF, NAN, 0, 1 << 31, 0xC2B17218, 0xC2B17217], dtype=np.uint32)
    want = [INF, NAN, NAN, 0, 0, 0, canonical([silu_of(0xC2B17217)])[0]]
    assert witness.silu(x).tolist() == want
    assert want[-1] not in (0, NAN)


def softmax_of(row: list[int]) -> list[int]:
    """8.20."""
    x = [number(bits) for bits in row]
    with np.errstate(all="ignore"):
        if any(np.isnan(value) for value in x):
            return [NAN] * len(x)
        m = max(x)
        e = [exp_of(int(np.float32(value - m).view(np.uint32))) for value in x]
        acc = 0.0
        for bits in e:
            acc += float(number(bits))
        total = np.float32(acc)
        return canonical([number(bits) / total for bits in e])


SOFTMAX = {
    "one": [3.0],
    "one zero": [-0.0],
    "equal": [0.1015625] * 97,
    "two": [1.0, 2.0],
    "zeros of both signs": [0.0, -0.0, 0.0],
    "far apart": [0.0, -50.0, -88.0, -100.0, -103.9, -104.0, -1e30],
    "large": [2.0**127, -(2.0**127), 2.0**127],
    "masked": [-math.inf, 1.0, -math.inf, 0.5],
    "one masked": [-math.inf],
    "all masked": [-math.inf] * 3,
    "infinite": [1.0, math.inf, 2.0],
    "two infinite": [math.inf, math.inf],
    "NaN": [1.0, math.nan, 2.0],
    "NaN first": [math.nan, 1.0, math.inf],
    "NaN last": [1.0, -math.inf, math.nan],
    "subnormal quotients": [0.0, 0.0, 0.0, -100.0, -103.0, -102.5, -103.5],
}


@every_numeric_witness
@pytest.mark.parametrize("name", SOFTMAX)
def test_softmax_of_named_rows(witness: NumericWitness, name: str):
    x = np.array([SOFTMAX[name]], dtype=np.float32).view(np.uint32)
    assert witness.softmax(x).tolist() == [softmax_of(x[0].tolist())]


@every_numeric_witness
def test_softmax_is_made_of_rounded_steps(witness: NumericWitness):
    rng = np.random.default_rng(4)
    for n, scale in ((2, 1), (5, 8), (33, 3), (64, 30), (150, 0.1)):
        count = 1 if witness.name == "naive" else 8
        x = (rng.standard_normal((8, n)) * scale).astype(np.float32).view(np.uint32)[:count]
        assert witness.softmax(x).tolist() == [softmax_of(row) for row in x.tolist()]


@pytest.mark.parametrize("twin", [plain, fast], ids=["numpy", "numba"])
def test_softmax_leaves_out_what_is_not_allowed(twin):
    """8.33: the scores of the allowed positions alone, +0 elsewhere."""
    rng = np.random.default_rng(18)
    x = rng.standard_normal((2, 3, 6)).astype(np.float32)
    allowed = np.array([[1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 0]], np.bool_)
    x[:, 1, 3], x[:, 0, 1], x[:, 2, 0] = np.nan, np.inf, 100
    y = functions.softmax(x, allowed, twin)
    for h, t in np.ndindex(2, 3):
        alone = softmax_of(x[h, t, allowed[t]].view(np.uint32).tolist())
        assert y[h, t, allowed[t]].view(np.uint32).tolist() == alone
        assert not y[h, t, ~allowed[t]].view(np.uint32).any()


@every_numeric_witness
def test_softmax_adds_in_binary64_and_in_order(witness: NumericWitness):
    """2^24 + 1 terms of 1 are too slow; e^-17 beside 1 is lost in binary32, 300 of them are not."""
    row = f32(0.0, *[-17.0] * 300)
    got = witness.softmax(row[None]).tolist()[0]
    assert got == softmax_of(row.tolist())
    single = np.float32(1) / np.float32(1)
    assert got[0] < int(single.view(np.uint32))


def rms_norm_of(row: list[int], gain: list[int], eps: float) -> list[int]:
    """8.21."""
    x, g = ([number(bits) for bits in part] for part in (row, gain))
    with np.errstate(all="ignore"):
        acc = np.float64(0)
        for value in x:
            acc = acc + np.float64(value) * np.float64(value)
        s = np.float32(np.float64(1) / np.sqrt(acc / np.float64(len(x)) + np.float64(eps)))
        return canonical([(a * s) * b for a, b in zip(x, g, strict=True)])


@every_numeric_witness
@pytest.mark.parametrize("eps", [1e-5, 1e-6, 0.0, 1.0, 2.0**-1074])
def test_rms_norm_is_made_of_rounded_steps(witness: NumericWitness, eps: float):
    rng = np.random.default_rng(6)
    for n, spread in ((1, 1.0), (3, 20.0), (42, 2.0), (65, 0.1), (100, 60.0)):
        gain = floats(rng, "F32", (n,), 2)
        x = floats(rng, "F32", (3, n), spread)
        want = [rms_norm_of(row, gain.tolist(), eps) for row in x.tolist()]
        assert witness.rms_norm(x, gain, eps).tolist() == want


@every_numeric_witness
@pytest.mark.parametrize(
    "row",
    [
        [0.0, 0.0, -0.0],
        [math.inf, 1.0, -0.0],
        [math.nan, 1.0, 2.0],
        [2.0**-149, 2.0**-149, 0.0],
        [2.0**127, -(2.0**127), 2.0**127],
        [2.0**-149, 2.0**127, 0.0],
        [2.0**12, 2.0**-12, 1.0],
    ],
)
def test_rms_norm_at_the_ends(witness: NumericWitness, row: list[float]):
    x = np.array([row], dtype=np.float32).view(np.uint32)
    for gain in ([1.0, -2.0, 0.5], [2.0**127, 0.0, -0.0], [math.inf, 2.0**-149, math.nan]):
        g = np.array(gain, dtype=np.float32).view(np.uint32)
        for eps in (1e-5, 0.0):
            want = rms_norm_of(x[0].tolist(), g.tolist(), eps)
            assert witness.rms_norm(x, g, eps).tolist() == [want]


@every_numeric_witness
def test_rms_norm_adds_in_binary64_in_order_and_rounds_at_every_step(witness: NumericWitness):
    """Random rows on which each short cut gives another result."""
    rng = np.random.default_rng(10)
    x, gain = floats(rng, "F32", (40, 33), 6), floats(rng, "F32", (33,), 1)
    got = witness.rms_norm(x, gain, 1e-5)
    assert got.tolist() == [rms_norm_of(row, gain.tolist(), 1e-5) for row in x.tolist()]
    a, g = x.view(np.float32), gain.view(np.float32)
    exact = np.sqrt((a.astype(np.float64) ** 2).mean(axis=1, keepdims=True) + 1e-5)
    once = (a / exact * g).astype(np.float32).view(np.uint32)
    late = ((a / exact).astype(np.float32) * g).view(np.uint32)
    assert not np.array_equal(once, got)
    assert not np.array_equal(late, got)


@every_numeric_witness
def test_functions_of_nothing(witness: NumericWitness):
    none: Array = np.zeros(0, dtype=np.uint32)
    assert witness.exp(none).shape == (0,)
    assert witness.silu(none).shape == (0,)


def greedy_of_bits(row: list[int]) -> int:
    return greedy(np.array(row, dtype=np.uint32).view(np.float32))


@pytest.mark.parametrize("argmax", [naive.argmax, greedy_of_bits], ids=["naive", "nmref"])
def test_argmax_is_the_lowest_index_of_the_largest_value(argmax: Callable[[list[int]], int]):
    """8.25."""
    for row, want in (
        ([1.0], 0),
        ([-2.0, -1.0, -1.0], 1),
        ([-0.0, 0.0], 0),
        ([0.0, -0.0, -1.0], 0),
        ([-1.0, -0.0, 0.0], 1),
        ([-math.inf, -math.inf], 0),
        ([1.0, math.inf, math.inf], 1),
        ([2.0**-149, 0.0, 2.0**-148], 2),
    ):
        assert argmax(f32(*row).tolist()) == want
    for refused in ([math.nan], [1.0, math.nan, 2.0], []):
        with pytest.raises(ValueError):
            argmax(f32(*refused).tolist())
