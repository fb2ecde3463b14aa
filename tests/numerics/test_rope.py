"""Rotary embeddings (SPEC 8.22 to 8.24) against decimals of many digits and fractions."""

from __future__ import annotations

import hashlib
import re
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from nmref.dtypes import Array
from nmref.numerics import rope
from tests.numerics.cases import HAIR_BELOW, f32, floats, two
from tests.numerics.test_functions import nearest
from tests.numerics.witness import (
    NAN,
    NumericWitness,
    Scaling,
    as_rope,
    every_numeric_witness,
    naive_and_nmref,
)

SPEC = Path(__file__).parents[2] / "SPEC.md"
LLAMA31: Scaling = (8.0, 1.0, 4.0, 8192)
TINY: Scaling = (8.0, 1.0, 4.0, 16)

TABLES: list[tuple[float, int, int, int, Scaling | None]] = [
    (10000.0, 10, 0, 64, None),
    (10000.0, 10, 0, 20, TINY),
    (10000.0, 10, 250, 12, None),
    (10000.0, 2, 5, 3, None),
    (10000.0, 128, 4093, 3, None),
    (100000.0, 64, 8190, 2, None),
    (500000.0, 128, 8191, 1, None),
    (500000.0, 128, 8190, 2, LLAMA31),
    (500000.0, 64, 131071, 1, (32.0, 1.0, 4.0, 8192)),
    (1000000.0, 128, 8191, 1, None),
    (10000.0, 16, 77, 2, (3.7, 0.3, 1.1, 40)),
    (10000.0, 16, 77, 2, (2.5, 0.1, 100.0, 1000)),
    (10000.1, 12, 1000, 2, None),
    (1.0, 4, 3, 2, None),
    (1e12, 6, 1_000_000, 1, None),
]


def series(x: Decimal, first: int) -> Decimal:
    """Taylor's sum of cosine (first 0) or sine (first 1) for a short x."""
    term = x if first else Decimal(1)
    found, k = Decimal(0), first
    while abs(term) > Decimal("1e-60"):
        found += term
        term *= -x * x / ((k + 1) * (k + 2))
        k += 2
    return found


@cache
def pi() -> Decimal:
    """Machin's formula."""

    def arctan(n: int) -> Decimal:
        return sum(Decimal((-1) ** k) / ((2 * k + 1) * n ** (2 * k + 1)) for k in range(60))

    with localcontext(prec=70):
        return 16 * arctan(5) - 4 * arctan(239)


def bits(value: Decimal) -> int:
    sign = 1 << 31 if value < 0 else 0
    return sign | nearest(abs(Fraction(value)))


@cache
def tables(
    theta: float, d: int, start: int, count: int, scaling: Scaling | None
) -> tuple[list[list[int]], list[list[int]]]:
    """8.22 and 8.23."""
    cos, sin = [], []
    with localcontext(prec=70):
        frequencies = []
        for i in range(d // 2):
            f = (Decimal(theta).ln() * (-2 * i) / d).exp()
            if scaling:
                factor, low, high = (Decimal(number) for number in scaling[:3])
                turns = scaling[3] * f / (2 * pi())
                z = min(max((turns - low) / (high - low), Decimal(0)), Decimal(1))
                f = (1 - z) * f / factor + z * f
            frequencies.append(f)
        for p in range(start, start + count):
            rows: tuple[list[int], list[int]] = ([], [])
            for f in frequencies:
                turned = (p * f / (2 * pi())) % 1
                short = (turned - round(turned)) * 2 * pi()
                rows[0].append(bits(series(short, 0)))
                rows[1].append(bits(series(short, 1)))
            cos.append(rows[0])
            sin.append(rows[1])
    return cos, sin


@naive_and_nmref
@pytest.mark.parametrize("which", TABLES, ids=str)
def test_tables_are_correctly_rounded(
    witness: NumericWitness, which: tuple[float, int, int, int, Scaling | None]
):
    cos, sin = witness.tables(*which)
    want = tables(*which)
    assert cos.tolist() == want[0]
    assert sin.tolist() == want[1]


@cache
def hard_thetas(first: int) -> list[float]:
    """Bases with d = 4 for which cos (first 0) or sin (first 1) of f[1] lies so near to the middle
    of two numbers that binary64 has the middle itself, and rounding that again is wrong."""
    rng, found = np.random.default_rng(20 + first), []
    with localcontext(prec=70):
        while len(found) < 6:
            middle = Decimal(int(rng.integers(2**24, 2**25)) | 1) / 2**25
            f = Decimal(float((np.arccos, np.arcsin)[first](float(middle))))
            for _ in range(4):  # Newton
                slope = -series(f, 1) if first == 0 else series(f, 0)
                f -= (series(f, first) - middle) / slope
            theta = float(f**-2)
            value = series((Decimal(theta).ln() / -2).exp(), first)
            twice = int(np.float32(float(value)).view(np.uint32))
            if theta >= 1 and twice != bits(value):
                found.append(theta)
    return found


@naive_and_nmref
def test_tables_are_rounded_once(witness: NumericWitness):
    for theta in hard_thetas(0) + hard_thetas(1):
        cos, sin = witness.tables(theta, 4, 1, 1)
        assert (cos.tolist(), sin.tolist()) == tables(theta, 4, 1, 1, None)


@naive_and_nmref
def test_tables_at_position_0_are_1_and_0(witness: NumericWitness):
    for scaling in (None, LLAMA31):
        cos, sin = witness.tables(500000.0, 128, 0, 1, scaling)
        assert cos.tolist() == [[0x3F800000] * 64]
        assert sin.tolist() == [[0] * 64]


@naive_and_nmref
def test_tables_of_parts_are_parts_of_tables(witness: NumericWitness):
    whole = witness.tables(10000.0, 10, 0, 24, TINY)
    for start, count in ((0, 1), (3, 20), (23, 1), (7, 0), (0, 0)):
        parts = witness.tables(10000.0, 10, start, count, TINY)
        for part, table in zip(parts, whole, strict=True):
            assert np.array_equal(part, table[start : start + count])


def test_every_branch_of_the_scaling_is_met():
    for theta, d, scaling in ((500000.0, 128, LLAMA31), (10000.0, 16, (3.7, 0.3, 1.1, 40))):
        turns = [scaling[3] * theta ** (-2 * i / d) / 6.283185307 for i in range(d // 2)]
        assert any(t > scaling[2] for t in turns)
        assert any(t < scaling[1] for t in turns)
        assert any(scaling[1] < t < scaling[2] for t in turns)


def digests() -> list[tuple[float, int, int, Scaling | None, str]]:
    """The table of 8.23."""
    text = SPEC.read_text(encoding="utf-8").split("### 8.23 ")[1].split("### 8.24")[0]
    found = []
    for theta, d, count, scaling, digest in re.findall(
        r"(?m)^\| (\d+) \| (\d+) \| (\d+) \| (.*?) \| `(.*?)` \|$", text
    ):
        numbers = re.fullmatch(r"llama3, factor (\d+), low (\d+), high (\d+), P0 (\d+)", scaling)
        assert numbers or scaling == "none"
        one = numbers and (*(float(numbers[k]) for k in (1, 2, 3)), int(numbers[4]))
        found.append((float(theta), int(d), int(count), one, digest))
    return found


def test_8_23_has_six_digests():
    assert len(digests()) == 6


@pytest.mark.parametrize("row", digests(), ids=lambda row: f"{row[0]:.0f}-{row[1]}-{row[3]}")
def test_digests_are_those_of_8_23(row: tuple[float, int, int, Scaling | None, str]):
    theta, d, count, scaling, digest = row
    assert rope.digest(as_rope(theta, d, scaling), count) == digest


@naive_and_nmref
def test_the_first_digest_of_8_23_is_that_of_the_tables(witness: NumericWitness):
    theta, d, count, scaling, digest = digests()[0]
    for cos, sin in (witness.tables(theta, d, 0, count), tables(theta, d, 0, count, scaling)):
        data = b"".join(np.array(table, dtype="<u4").tobytes() for table in (cos, sin))
        assert hashlib.sha256(data).hexdigest() == digest


def turned(v: list[float], cos: list[float], sin: list[float]) -> list[int]:
    """8.24 for finite numbers; float() of a fraction is RN64."""
    half = len(v) // 2
    first, last = [], []
    for i in range(half):
        a, b, c, s = (Fraction(value) for value in (v[i], v[i + half], cos[i], sin[i]))
        first.append(np.float32(float(a * c - b * s)))
        last.append(np.float32(float(b * c + a * s)))
    found = np.array([*first, *last], dtype=np.float32)
    return np.where(found == 0, 0, found.view(np.uint32)).tolist()


def check_turn(witness: NumericWitness, v: Array, cos: Array, sin: Array) -> None:
    rows = (part.view(np.float32).tolist() for part in (v, cos, sin))
    want = [turned(*row) for row in zip(*rows, strict=True)]
    assert witness.turn(v, cos, sin).tolist() == want


@naive_and_nmref
def test_turn_is_a_rounded_sum_of_exact_products(witness: NumericWitness):
    rng = np.random.default_rng(12)
    cos, sin = (np.array(table, np.uint32) for table in tables(10000.0, 10, 0, 64, None))
    for spread in (2.0, 30.0):
        check_turn(witness, floats(rng, "F32", (64, 10), spread), cos, sin)
    for spread in (20.0, 60.0):
        a, b, c = (floats(rng, "F32", (50, n), spread) for n in (8, 4, 4))
        check_turn(witness, a, b, c)


@naive_and_nmref
def test_turn_rounds_to_binary64_and_then_to_binary32(witness: NumericWitness):
    """1 + 2^-23 + 2^-24 - 2^-70 becomes a tie in binary64, which goes up."""
    a, b = HAIR_BELOW[0] * two(-47), HAIR_BELOW[1] * two(-23)
    one = 1 + two(-23)
    v, cos, sin = f32(one, -a, a, one)[None, :2], f32(1.0)[None], f32(b)[None]
    assert witness.turn(v, cos, sin)[0, 0] == 0x3F800002
    check_turn(witness, v, cos, sin)
    check_turn(witness, f32(a, one)[None], cos, sin)


@naive_and_nmref
def test_turn_pairs_i_with_i_plus_half(witness: NumericWitness):
    v = f32(1, 2, 3, 4, 5, 6)[None]
    cos, sin = f32(0, 1, 0)[None], f32(1, 0, -1)[None]
    assert witness.turn(v, cos, sin).tolist() == [f32(-4, 2, 6, 1, 5, -3).tolist()]


@naive_and_nmref
def test_turn_of_special_values(witness: NumericWitness):
    inf, nan = float("inf"), float("nan")
    v = f32(inf, nan, 1.0, -0.0, 2.0, 1.0, 1.0, -0.0)[None]
    cos, sin = f32(0.5, 0.5, 1.0, 0.0)[None], f32(0.0, 0.5, -inf, 0.0)[None]
    want = [0x7F800000, NAN, 0x7F800000, 0, NAN, NAN, 0xFF800000, 0]
    assert witness.turn(v, cos, sin).tolist() == [want]


@every_numeric_witness
def test_a_vector_keeps_its_length_when_turned(witness: NumericWitness):
    rng = np.random.default_rng(14)
    v = floats(rng, "F32", (8, 10), 1)
    cos, sin = (np.array(table[:8], np.uint32) for table in tables(10000.0, 10, 0, 64, None))
    found = witness.turn(v, cos, sin).view(np.float32)
    lengths = [np.linalg.norm(part.astype(np.float64), axis=1) for part in (v.view("f4"), found)]
    assert np.allclose(*lengths, rtol=1e-6)


def test_turn_takes_heads_of_tokens():
    rng = np.random.default_rng(16)
    cos, sin = rope.tables(as_rope(10000.0, 10, None), 3, 4)
    x = rng.standard_normal((3, 4, 10)).astype(np.float32)
    alone = [rope.turn(x[h : h + 1], cos, sin)[0] for h in range(3)]
    assert np.array_equal(rope.turn(x, cos, sin), alone)
