"""The naive arithmetic against the facts of SPEC part 8 and against what nobody here wrote.

Those are Fraction, decimal, math.fsum, fmaf of the C library, struct and NumPy's binary32.
"""

import ctypes
import ctypes.util
import functools
import hashlib
import math
import random
import struct
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from conformance import naive
from conformance.naive import angles, floats, functions
from conformance.naive.floats import BF16, F32, F64, canonical_bits, rounded, value

ROOT = Path(__file__).parents[2]
INF, MINUS_INF, NAN, MINUS_ZERO = 0x7F800000, 0xFF800000, 0x7FC00000, 0x80000000
SIGNALLING_NAN = 0xFF800001
LARGEST, SMALLEST = 0x7F7FFFFF, 1
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899")
CHAINS = ["exact", "f64.seq", "f32.seq", "f32.fma", "f32.lanes8.mul", "f32.lanes8.fma"]
UNITS = ["tc.L8.F23.rz.rne.col", "tc.L4.F30.rd.rz.col", "tc.L32.F60.rne.rne.col"]
SLOT_UNITS = ["tc.L4.F23.rz.rne.slot", "tc.L16.F40.rd.rz.slot"]
EVERY = [*CHAINS, *UNITS, *SLOT_UNITS, *(f"{name}+split" for name in [*CHAINS, *UNITS])]


def bits(number):
    """F32 bits of a number that is a binary32 number, -0 and NaN too."""
    return struct.unpack("<I", struct.pack("<f", number))[0]


def dot(profile, w, x):
    """Dot of a dense F32 row and an F32 vector, both as bits."""
    return naive.linear(profile, ("dense", "F32", [w]), "F32", x)[0]


def dot_of(profile, *pairs):
    """Dot of (weight, x) pairs of numbers, as a number."""
    found = dot(profile, [bits(w) for w, _ in pairs], [bits(x) for _, x in pairs])
    return value("F32", found)


def c_round(number):
    """Binary64 to binary32 by struct, which raises an exception on overflow."""
    try:
        return struct.unpack("<f", struct.pack("<f", number))[0]
    except OverflowError:
        return math.copysign(math.inf, number)


def any_bits(chance):
    """F32 bits: any, of ordinary size, subnormal, or special."""
    kind = chance.randrange(8)
    if kind < 2:
        return chance.getrandbits(32)
    if kind < 6:
        return (
            chance.getrandbits(1) << 31 | chance.randrange(120, 134) << 23 | chance.getrandbits(23)
        )
    if kind < 7:
        return chance.getrandbits(1) << 31 | chance.getrandbits(chance.randrange(1, 26))
    return chance.choice([0, MINUS_ZERO, INF, MINUS_INF, NAN, LARGEST, SMALLEST, 0x3F800000])


def finite_bits(chance):
    """any_bits, again until they are finite."""
    while True:
        found = any_bits(chance)
        if math.isfinite(value("F32", found)):
            return found


# Rounding


@pytest.mark.parametrize("form", [BF16, F32, F64], ids=["BF16", "F32", "F64"])
def test_rounding_is_to_the_nearest_and_ties_go_to_even(form):
    chance = random.Random(form.precision)
    for _ in range(2000):
        count = chance.getrandbits(chance.randrange(1, 130)) * chance.choice([1, 3, -1])
        exponent = chance.randrange(form.least - 140, form.top - 60)
        exact, got = Fraction(count) * Fraction(2) ** exponent, rounded(count, exponent, form)
        if math.isinf(got):
            limit = Fraction(2) ** form.top * (1 - Fraction(1, 2 ** (form.precision + 1)))
            assert abs(exact) >= limit
            assert (got > 0) == (count > 0)
            continue
        quantum = Fraction(2) ** max(math.frexp(got)[1] - form.precision, form.least)
        assert Fraction(got) % quantum == 0
        off = abs(Fraction(got) - exact)
        assert off < quantum / 2 or (off == quantum / 2 and Fraction(got) / quantum % 2 == 0)


def test_rounding_agrees_with_struct_and_with_division():
    chance = random.Random(2)
    for _ in range(5000):
        (number,) = struct.unpack("<d", struct.pack("<Q", chance.getrandbits(64)))
        number = chance.choice([number, math.ldexp(chance.random(), chance.randrange(-155, 130))])
        if not math.isnan(number):
            assert floats.rn32(number) == c_round(number)
        count, exponent = chance.getrandbits(120), chance.randrange(-1200, 800)
        down = Fraction(count) * Fraction(2) ** exponent
        assert rounded(count, exponent, F64) == down.numerator / down.denominator
    assert math.isnan(floats.rn32(math.nan))


def test_directed_rounding():
    for mode, want in {"rz": [2, -2, 2, -2], "rd": [2, -3, 2, -3], "rne": [2, -2, 3, -3]}.items():
        got = [floats.to_integer(count, 2, mode) for count in (10, -10, 11, -11)]
        assert got == want, mode
    assert [floats.to_integer(count, 1, "rne") for count in (1, 3, 5, -1, -3)] == [0, 2, 2, 0, -2]
    assert rounded((1 << 25) - 1, 0, mode="rz") == 2**25 - 2
    assert rounded((1 << 25) - 1, 103, mode="rz") == value("F32", LARGEST)
    assert rounded((1 << 25) - 1, 103) == math.inf


def test_steps_agree_with_ieee_binary32():
    chance = random.Random(3)
    with np.errstate(all="ignore"):
        for _ in range(20000):
            a, b = (np.uint32(any_bits(chance)).view(np.float32) for _ in range(2))
            x, y = float(a), float(b)
            assert canonical_bits(floats.add32(x, y)) == canonical_bits(float(a + b))
            assert canonical_bits(floats.mul32(x, y)) == canonical_bits(float(a * b))
            assert canonical_bits(floats.div32(x, y)) == canonical_bits(float(a / b))


def test_canonical_results_have_one_nan_and_one_zero():
    for nan in (NAN, SIGNALLING_NAN, 0x7F800001, 0xFFFFFFFF):
        assert canonical_bits(value("F32", nan)) == NAN
    assert canonical_bits(value("F32", MINUS_ZERO)) == 0
    assert canonical_bits(value("F16", 0x8001)) == 0xB3800000
    for number in (INF, MINUS_INF, LARGEST, SMALLEST, 0x80000001):
        assert canonical_bits(value("F32", number)) == number


# Names


@pytest.mark.parametrize("name", EVERY)
def test_names_are_read(name):
    profile = naive.parse_profile(name)
    assert profile.split == name.endswith(("+split", ".slot"))
    if not profile.slot and not profile.split:
        assert naive.parse_profile(name + "+merged") == profile


NOT_NAMES = """
f64 F64.seq f64.seq+ f64.seq+merged+split f64.seq+sum +split i32+split i32+merged
f32.lanes3.fma f32.lanes08.fma f32.lanes8 f32.lanes8.seq f32.lanes128.mul f32.lanes\u0668.mul
tc.L8.F22.rz.rne.col tc.L8.F61.rz.rne.col tc.L64.F23.rz.rne.col tc.L8.F023.rz.rne.col
tc.L8.F23.rz.rd.col tc.L8.F23.rz.rne tc.L8.F23.rz.rne.slot+merged
"""


@pytest.mark.parametrize("name", ["", " exact", "exact\n", *NOT_NAMES.split()])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="not a profile"):
        naive.parse_profile(name)


# Dots


def test_the_table_that_separates_the_profiles():
    """SPEC 8.16."""
    near = [(2.0**12, 2.0**12), (1, 1), (-(2.0**12), 2.0**12)]
    far = [(2.0**30, 2.0**30), (1, 1), (-(2.0**30), 2.0**30)]
    for name in ("f32.seq", "f32.fma"):
        assert dot_of(name, *near) == dot_of(name, *far) == 0
    assert dot_of("f64.seq", *near) == dot_of("exact", *near) == dot_of("exact", *far) == 1
    assert dot_of("f64.seq", *far) == 0
    for fraction in range(23, 61):
        name = f"tc.L4.F{fraction}.rz.rne.col"
        assert dot_of(name, *near) == (fraction > 23)
        assert dot_of(name, *far) == (fraction == 60)


@pytest.mark.parametrize("profile", EVERY)
def test_zero_weights_make_no_terms(profile):
    """SPEC 8.3."""
    assert dot(profile, [0, MINUS_ZERO, 0, 0], [INF, MINUS_INF, NAN, 0x40000000]) == 0
    assert dot(profile, [0, 0x40000000, MINUS_ZERO], [INF, 0x40400000, NAN]) == bits(6)
    assert dot(profile, [], []) == 0
    assert naive.linear(profile, ("dense", "F16", []), "F16", []) == []


@pytest.mark.parametrize("profile", EVERY)
def test_special_values(profile):
    one, minus = bits(1), bits(-1)
    assert dot(profile, [one, one], [INF, one]) == INF
    assert dot(profile, [one, minus], [one, INF]) == MINUS_INF
    assert dot(profile, [INF, INF], [one, one]) == INF
    assert dot(profile, [INF, one], [one, INF]) == INF
    for w, x in [([INF], [0]), ([one, minus], [INF, INF]), ([SIGNALLING_NAN, one], [0, INF]),
                 ([one] * 40, [INF] + [one] * 38 + [MINUS_INF]), ([1], [NAN]),
                 ([one] * 40, [one] * 39 + [SIGNALLING_NAN])]:  # fmt: skip
        assert dot(profile, w, x) == NAN
    assert dot(profile, [one], [MINUS_ZERO]) == 0
    assert dot(profile, [minus], [SMALLEST]) == 0x80000001
    assert dot(profile, [LARGEST], [LARGEST]) == INF
    assert dot(profile, [SMALLEST], [0x80000001]) == 0


def test_infinities_that_arise_on_the_way():
    huge = [bits(2.0**100), bits(-(2.0**100))]
    for profile in ("exact", "f64.seq", "tc.L4.F23.rz.rne.col"):
        assert dot(profile, huge, [huge[0]] * 2) == 0
    assert dot("f32.seq", huge, [huge[0]] * 2) == NAN
    assert dot("f32.fma", huge, [huge[0]] * 2) == INF
    assert dot("tc.L4.F23.rz.rne.col", [huge[0], 0, 0, 0, huge[1]], [huge[0]] * 5) == INF
    far = [bits(2.0**100), 0, 0, 0, SMALLEST]
    assert dot("tc.L4.F23.rz.rz.col", far, [huge[0]] * 5) == INF


def test_exact_is_the_rounded_sum():
    chance = random.Random(4)
    for _ in range(400):
        w, x = ([finite_bits(chance) for _ in range(20)] for _ in range(2))
        total = sum(
            Fraction(value("F32", a)) * Fraction(value("F32", b)) for a, b in zip(w, x, strict=True)
        )
        shift = 2**320
        assert dot("exact", w, x) == canonical_bits(rounded(int(total * shift), -320))


def test_exact_agrees_with_fsum():
    chance = np.random.default_rng(5)
    for _ in range(200):
        w, x = chance.standard_normal((2, 50)).astype(np.float32)
        got = dot("exact", w.view(np.uint32).tolist(), x.view(np.uint32).tolist())
        total = math.fsum(float(a) * float(b) for a, b in zip(w, x, strict=True))
        assert value("F32", got) == float(np.float32(total))


def test_f64_seq_agrees_with_fractions_rounded_by_the_witness():
    chance = random.Random(6)
    for _ in range(200):
        w, x = ([finite_bits(chance) for _ in range(30)] for _ in range(2))
        acc = 0.0
        for a, b in zip(w, x, strict=True):
            exact = Fraction(acc) + Fraction(value("F32", a)) * Fraction(value("F32", b))
            acc = rounded(exact.numerator, 1 - exact.denominator.bit_length(), F64)
        assert dot("f64.seq", w, x) == canonical_bits(c_round(acc))


def test_f32_fma_agrees_with_the_c_library():
    name = ctypes.util.find_library("m")
    if name is None:
        pytest.skip("no C library of mathematics")
    fmaf = ctypes.CDLL(name).fmaf
    fmaf.argtypes, fmaf.restype = [ctypes.c_float] * 3, ctypes.c_float
    chance = random.Random(7)
    for _ in range(1000):
        w, x = ([any_bits(chance) for _ in range(chance.randrange(1, 12))] for _ in range(2))
        acc = 0.0
        for a, b in zip(w, x, strict=False):
            if value("F32", a) != 0:
                acc = fmaf(value("F32", a), value("F32", b), acc)
        size = min(len(w), len(x))
        assert dot("f32.fma", w[:size], x[:size]) == canonical_bits(acc)


@pytest.mark.parametrize("lanes", [1, 2, 4, 8, 16, 32, 64])
def test_f32_seq_and_lanes_agree_with_ieee_binary32(lanes):
    chance = np.random.default_rng(lanes)
    profile = "f32.seq" if lanes == 1 else f"f32.lanes{lanes}.mul"
    for k in (1, lanes - 1 or 2, lanes, 3 * lanes + 1, 100):
        w, x = chance.standard_normal((2, k)).astype(np.float32)
        w[chance.random(k) < 0.5] = 0
        acc = np.zeros(lanes, np.float32)
        for c in range(k):
            acc[c % lanes] += w[c] * x[c]
        while acc.size > 1:
            acc = acc[: acc.size // 2] + acc[acc.size // 2 :]
        got = dot(profile, w.view(np.uint32).tolist(), x.view(np.uint32).tolist())
        assert got == canonical_bits(float(acc[0]))


def test_lanes_fused_and_not():
    w = [bits(1 + 2.0**-23)] * 2
    x = [bits(1 - 2.0**-23), bits(-1)]
    assert dot("f32.lanes2.mul", w, x) == canonical_bits(-(2.0**-23))
    fused = dot("f32.seq", [w[0], 0, 0x3F800000], [x[0], 0, bits(-1)])
    assert fused == 0
    row, column = [0x3F800000, 0, w[0]], [bits(-1), 0, x[0]]
    assert value("F32", dot("f32.lanes2.fma", row, column)) == -(2.0**-46)
    assert dot("f32.lanes2.mul", row, column) == 0


def test_tc_by_hand():
    """SPEC 8.13; u is 2^-23 where the largest exponent is 0."""

    def tc(text, *pairs):
        return dot_of(f"tc.L4.{text}.col", *pairs)

    tiny = 2.0**-24
    assert tc("F23.rz.rne", (1, 1), (1, tiny)) == 1
    assert tc("F23.rd.rne", (1, 1), (1, tiny)) == 1
    assert tc("F23.rd.rne", (1, 1), (1, -tiny)) == 1 - 2.0**-23
    assert tc("F23.rz.rne", (1, 1), (1, -tiny)) == 1
    assert tc("F23.rne.rne", (1, 1), (1, -tiny)) == 1
    assert tc("F23.rne.rne", (1, 1), (1, 3 * tiny)) == 1 + 2.0**-22
    assert tc("F23.rz.rne", (1, 1), (1, 3 * tiny)) == 1 + 2.0**-23
    assert tc("F24.rz.rne", (1, 1), (1, tiny)) == 1
    assert tc("F24.rz.rne", (1, 1), (1, 3 * tiny)) == 1 + 2.0**-22
    assert tc("F24.rz.rz", (1, 1), (1, 3 * tiny)) == 1 + 2.0**-23
    assert tc("F24.rz.rz", (-1, 1), (1, -3 * tiny)) == -1 - 2.0**-23
    assert tc("F60.rz.rne", (1, 1), (1, 2.0**-60), (-1, 1)) == 2.0**-60
    assert tc("F60.rz.rne", (1, 1), (1, 2.0**-61), (-1, 1)) == 0


def test_tc_does_not_normalise_products():
    """1.5 * 1.5 = 2.25 has the exponent 0 of its factors: 2^-23 is kept next to it."""
    pairs = [(1.5, 1.5), (1, 2.0**-23), (-1.5, 1.5)]
    assert dot_of("tc.L4.F23.rz.rne.col", *pairs) == 2.0**-23
    below = [(1.5, 1.5), (1, 2.0**-24), (-1.5, 1.5)]
    assert dot_of("tc.L4.F23.rz.rne.col", *below) == 0


def test_tc_zero_x_and_zero_accumulator_take_no_part():
    huge, small = 2.0**120, 2.0**-100
    assert dot_of("tc.L4.F23.rz.rne.col", (huge, 0), (1, small)) == small
    cancelled = [(1, huge), (-1, huge), (1, 0), (1, 0), (1, small)]
    assert dot_of("tc.L4.F23.rz.rne.col", *cancelled) == small
    assert dot_of("tc.L4.F23.rd.rz.col", (huge, 0)) == 0


def test_tc_subnormals_and_overflow():
    smallest = 2.0**-149
    assert dot_of("tc.L4.F23.rz.rne.col", (smallest, 1), (2.0**-126, 1)) == 2.0**-126 + smallest
    assert dot_of("tc.L4.F23.rz.rne.col", (smallest, 0.5), (smallest, 0.25)) == smallest
    assert dot_of("tc.L4.F23.rz.rz.col", (smallest, 0.5), (smallest, 0.25)) == 0
    assert dot_of("tc.L4.F23.rz.rz.col", (-(2.0**127), 1), (2.0**127, -1)) == -math.inf
    largest = value("F32", LARGEST)
    assert dot_of("tc.L4.F30.rz.rz.col", (largest, 1), (1, 2.0**103)) == largest
    assert dot_of("tc.L4.F30.rz.rne.col", (largest, 1), (1, 2.0**103)) == math.inf
    assert dot_of("tc.L4.F30.rz.rne.col", (largest, 1), (1, 2.0**103 - 2.0**90)) == largest


def test_tc_is_exact_when_everything_fits():
    chance = random.Random(8)
    for _ in range(100):
        pairs = [(chance.randrange(-99, 100), chance.randrange(-99, 100)) for _ in range(32)]
        total = sum(w * x for w, x in pairs)
        assert dot_of("tc.L32.F60.rz.rne.col", *pairs) == total
        assert dot_of("tc.L4.F40.rd.rne.col", *pairs) == total


def test_tc_groups_by_column():
    pairs = [(1, 1), (0, 0), (0, 0), (0, 0), (1, 2.0**-24), (1, 2.0**-24)]
    assert dot_of("tc.L4.F23.rne.rne.col", *pairs) == 1
    assert dot_of("tc.L8.F24.rne.rne.col", *pairs) == 1 + 2.0**-23


def packed(dtype, base, pattern="2:4", scale=None, outliers=None, mask=None):
    """Encode rows, outliers BF16 4:256 idx8."""
    spec = {"coding": "colex", "dtype": dtype, "outliers": None, "pattern": pattern}
    more = {}
    if outliers is not None:
        spec["outliers"] = {"coding": "idx8", "dtype": "BF16", "pattern": "4:256"}
        more = {"outliers": outliers, "out_dtype": "BF16", "out_pattern": "4:256"}
    spec["shape"] = [len(base), len(base[0])]
    return spec, naive.encode(dtype, base, pattern, mask, scale, **more)


def test_slots_are_numbered_with_those_that_hold_nothing():
    """SPEC 8.12: slots 0, 2 and 4 are fill; 1 and 2^-24 are slots 1 and 3, 2^-24 again slot 5."""
    one, small = 0x3F80, 0x3380  # 1 and 2^-24
    base = [[0, 0, 0, one, 0, 0, 0, small, 0, 0, 0, small]]
    weight, x = packed("BF16", base), [bits(1)] * 12
    # 1 + 2^-24 is a tie and goes to 1, twice; without numbers for fill one group would hold all.
    assert naive.linear("tc.L4.F24.rne.rne.slot", weight, "F32", x) == [bits(1)]
    assert naive.linear("tc.L8.F24.rne.rne.slot", weight, "F32", x) == [bits(1 + 2.0**-23)]
    assert naive.linear("tc.L8.F24.rne.rne.col", weight, "F32", x) == [bits(1)]
    assert naive.linear("tc.L16.F24.rne.rne.col", weight, "F32", x) == [bits(1 + 2.0**-23)]
    dense = ("dense", "BF16", base)
    assert naive.linear("tc.L8.F24.rne.rne.slot", dense, "F32", x) == [bits(1)]


def test_slot_groups_differ_from_column_groups():
    one, small = 0x3F80, 0x3380
    base = [[one, small, 0, 0, small, 0, 0, 0]]
    x = [bits(1)] * 8
    weight = packed("BF16", base)
    # One group of four slots holds all three; by columns the last 2^-24 comes alone, and is lost.
    assert naive.linear("tc.L4.F24.rz.rne.slot", weight, "F32", x) == [bits(1 + 2.0**-23)]
    assert naive.linear("tc.L4.F24.rz.rne.col", weight, "F32", x) == [bits(1)]


def test_split_adds_base_and_outliers_at_the_end():
    one, big = 0x3F80, 0x4B80  # 1 and 2^24
    weight = packed("BF16", [[one, 0, one, 0, 0]], outliers=[[0, big, 0, 0, 0]])
    x = [bits(1)] * 5
    assert naive.linear("f32.seq", weight, "F32", x) == [bits(2.0**24)]
    assert naive.linear("f32.seq+split", weight, "F32", x) == [bits(2.0**24 + 2)]
    assert naive.linear("f32.lanes2.mul", weight, "F32", x) == [bits(2.0**24 + 2)]
    assert naive.linear("exact+split", weight, "F32", [INF, MINUS_INF, 0, 0, 0]) == [NAN]


@pytest.mark.parametrize("profile", EVERY)
def test_packed_weights_agree_with_their_dense_matrices(profile):
    """W for merged dots; for split ones, base and outliers each, added with one rounding."""
    chance = random.Random(9)
    k = 300
    base, out = ([[0] * k for _ in range(3)] for _ in range(2))
    for r in range(3):
        for c in range(k):
            if c % 4 < 2:
                base[r][c] = chance.randrange(256)
            elif c % 64 == 3 or c == 299:
                out[r][c] = 0xBE00 + chance.randrange(256)
    weight = packed("I8", base, scale=[0x3C000000, 0x01234567, 1], outliers=out)
    x = [chance.randrange(0x3F000000, 0x3F900000) for _ in range(k)]
    got = naive.linear(profile, weight, "F32", x)
    dtype, rows = naive.decode(*weight)
    if "slot" in profile:
        return
    if not profile.endswith("+split"):
        assert got == naive.linear(profile, ("dense", dtype, rows), "F32", x)
        return
    base_only = packed("I8", base, scale=[0x3C000000, 0x01234567, 1])
    a = naive.linear(profile, base_only, "F32", x)
    b = naive.linear(profile, ("dense", "BF16", out), "F32", x)
    sums = [floats.add32(value("F32", p), value("F32", q)) for p, q in zip(a, b, strict=True)]
    assert got == [canonical_bits(number) for number in sums]


def test_x_of_16_bits_is_widened():
    w = ("dense", "F16", [[0x3C00, 0x0001, 0xFC00]])
    assert naive.linear("exact", w, "F16", [0x3C00, 0x3C00, 0x0000]) == [NAN]
    assert naive.linear("exact", w, "BF16", [0x3F80, 0x4000, 0xBF80]) == [INF]
    assert naive.linear("exact", ("dense", "F16", [[1]]), "F16", [1]) == [bits(2.0**-48)]


def test_i32_is_twos_complement():
    weight = packed("I8", [[0x80] * 2 + [0] * 2 + [127, 0xFF]], scale=[0x3C000000])
    assert naive.linear("i32", weight, "I8", [0x80, 127, 5, 5, 2, 3]) == [
        128 * 128 - 128 * 127 + 254 - 3
    ]
    assert naive.linear("i32", weight, "I8", [127, 0, 0, 0, 0, 0]) == [2**32 - 128 * 127]
    for bad in (("dense", "I8", [[1]]), packed("F16", [[0x3C00]])):
        with pytest.raises(ValueError, match="I8 base"):
            naive.linear("i32", bad, "I8", [1])


# Functions


def decimal_of(number):
    return Decimal(number.numerator) / Decimal(number.denominator)


def test_exp_at_its_ends():
    """The numbers of the note in SPEC 8.17."""
    assert naive.exp(0x42B17217) == 0x7F7FFF84
    assert naive.exp(0x42B17218) == INF
    assert naive.exp(0xC2CFF1B4) == SMALLEST
    assert naive.exp(0xC2CFF1B5) == 0
    assert [naive.exp(x) for x in (INF, MINUS_INF, NAN, SIGNALLING_NAN)] == [INF, 0, NAN, NAN]
    assert [naive.exp(x) for x in (0, MINUS_ZERO, 1, 0x80000001)] == [0x3F800000] * 4
    assert [naive.exp(x) for x in (LARGEST, 0xFF7FFFFF)] == [INF, 0]
    assert naive.exp(0x3F800000) == 0x402DF854


def test_exp_agrees_with_decimal():
    """Decimal.exp is correctly rounded, here to 60 digits."""
    chance = random.Random(10)
    with localcontext() as context:
        context.prec = 60
        for _ in range(3000):
            x = canonical_bits(
                c_round(chance.uniform(-104, 89) * 2.0 ** -chance.choice([0, 0, 5, 20, 40]))
            )
            want = Fraction(Decimal(value("F32", x)).exp())
            scaled = want * 2**400
            assert naive.exp(x) == canonical_bits(rounded(int(scaled) * 2 + 1, -401))


HARDEST = [0x377EFF81, 0x4001B249, 0x40315B33, 0xB3000000, 0xBAE0E25C, 0xBBF0EDF1, 0xC16912CD]
"""All inputs whose e^x lies within 2^-50, relatively, of a point halfway between two numbers."""
NEARLY = [0x38E69CC1, 0x39C6BE5B, 0x383A3EF1]
"""The next ones: at 2^-49.89, 2^-49.96 and 2^-49.81."""


def test_exp_of_the_hardest_inputs_needs_more_than_binary64():
    """Distances from the point halfway, relatively to e^x, to 60 digits."""
    for x in HARDEST + NEARLY:
        with localcontext() as context:
            context.prec = 60
            exact = Fraction(Decimal(value("F32", x)).exp())
        got = Fraction(value("F32", naive.exp(x)))
        neighbours = [Fraction(value("F32", naive.exp(x) + step)) for step in (-1, 1)]
        assert all(abs(got - exact) < abs(near - exact) for near in neighbours)
        gaps = [abs((got + near) / 2 - exact) / exact for near in neighbours]
        assert (min(gaps) < Fraction(1, 2**50)) == (x in HARDEST)


def test_the_enclosure_of_exp_is_one():
    chance = random.Random(11)
    with localcontext() as context:
        context.prec = 120
        for bits_used in (64, 128, 256):
            for _ in range(50):
                x = value("F32", canonical_bits(c_round(chance.uniform(-40, 40))))
                low, high = functions.enclose_exp(floats.units(x), bits_used)
                exact = Decimal(x).exp() * 2**bits_used
                assert low <= exact <= high


def test_enclosures_that_are_too_wide_are_not_used(monkeypatch):
    """From 16 bits upward, every precision ends with the same numbers."""
    chance = random.Random(15)
    xs = [bits(c_round(chance.uniform(-104, 89))) for _ in range(100)]
    want = [naive.exp(x) for x in xs], naive.rope_tables(10000.0, 10, 1, 20)
    monkeypatch.setattr(functions, "START", 16)
    monkeypatch.setattr(angles, "START", 16)
    assert ([naive.exp(x) for x in xs], naive.rope_tables(10000.0, 10, 1, 20)) == want


def test_silu():
    """SPEC 8.19 and its note."""
    assert naive.silu(MINUS_INF) == NAN
    assert naive.silu(INF) == INF
    assert naive.silu(NAN) == NAN
    assert naive.silu(0) == naive.silu(MINUS_ZERO) == 0
    edge = 0xC2B17217
    assert naive.silu(edge) != 0
    assert naive.silu(edge + 1) == 0
    assert naive.silu(0xFF7FFFFF) == 0
    with np.errstate(all="ignore"):
        for x in (0x3F800000, 0xBF800000, 0x41234567, 0xC2345678, 0x00000007):
            number = np.uint32(x).view(np.float32)
            e = np.uint32(naive.exp(x ^ MINUS_ZERO)).view(np.float32)
            want = number / (np.float32(1) + e)
            assert naive.silu(x) == canonical_bits(float(want))


def test_softmax():
    assert naive.softmax([0xC1234567]) == [0x3F800000]
    assert naive.softmax([0x3F800000] * 4) == [0x3E800000] * 4
    assert naive.softmax([MINUS_INF, 0x40000000]) == [0, 0x3F800000]
    assert naive.softmax([MINUS_INF, MINUS_INF]) == [NAN, NAN]
    assert naive.softmax([INF, 0]) == [NAN, NAN]
    assert naive.softmax([0, NAN]) == [NAN, NAN]
    chance = np.random.default_rng(12)
    x = (8 * chance.standard_normal(40)).astype(np.float32)
    shifted = (x - x.max()).view(np.uint32).tolist()
    e = np.array([naive.exp(bits) for bits in shifted], np.uint32).view(np.float32)
    want = e / np.float32(np.cumsum(e, dtype=np.float64)[-1])
    assert naive.softmax(x.view(np.uint32).tolist()) == want.view(np.uint32).tolist()


def test_rms_norm():
    chance = np.random.default_rng(13)
    x, g = chance.standard_normal((2, 42)).astype(np.float32)
    eps = 1e-5
    acc = np.cumsum(x.astype(np.float64) ** 2)[-1]
    s = np.float32(1 / np.sqrt(acc / 42 + eps))
    want = x * s * g
    assert (
        naive.rms_norm(x.view(np.uint32).tolist(), g.view(np.uint32).tolist(), eps)
        == want.view(np.uint32).tolist()
    )
    assert naive.rms_norm([0, 0], [0x3F800000] * 2, 0.0) == [NAN, NAN]
    assert naive.rms_norm([0x3F800000], [0x3F800000], -2.0) == [NAN]
    assert naive.rms_norm([INF, 0x3F800000], [0x3F800000] * 2, eps) == [NAN, 0]


def test_argmax_is_the_lowest_index():
    assert naive.argmax([0xC0000000, 0x40000000, 0x40000000]) == 1
    assert naive.argmax([MINUS_ZERO, 0]) == 0
    assert naive.argmax([MINUS_INF, MINUS_INF]) == 0
    for bad in ([0, NAN], []):
        with pytest.raises(ValueError):
            naive.argmax(bad)


# RoPE


def decimal_circle(angle):
    """Cosine and sine of a Decimal, by Taylor series in the precision of the context."""
    angle %= 2 * PI
    cos, sin, term, n = Decimal(0), Decimal(0), Decimal(1), 0
    while abs(term) > Decimal(10) ** -70:
        if n % 2 == 0:
            cos += term if n % 4 == 0 else -term
        else:
            sin += term if n % 4 == 1 else -term
        n += 1
        term = term * angle / n
    return cos, sin


def decimal_round(number):
    """F32 bits of a Decimal that is no tie."""
    return canonical_bits(
        rounded(int(Fraction(number) * 2**200) * 2 + (1 if number > 0 else -1), -201)
    )


@pytest.mark.parametrize(
    ("theta", "d"), [(10000.0, 10), (10000.0, 128), (500000.0, 128), (1e6, 64), (10.5, 6)]
)
def test_rope_tables_agree_with_decimal(theta, d):
    chance = random.Random(14)
    with localcontext() as context:
        context.prec = 75
        for _ in range(12):
            p, i = chance.randrange(1, 8192), chance.randrange(d // 2)
            f = (Decimal(theta).ln() * -2 * i / d).exp()
            want = [decimal_round(number) for number in decimal_circle(p * f)]
            cos, sin = naive.rope_tables(theta, d, p, 1)
            assert [cos[0][i], sin[0][i]] == want


def test_rope_scaling_has_three_parts():
    """SPEC 8.22: with P0 = 8192, the turns of d = 128 reach from 0.003 to 1304."""
    theta, d, scaling = 500000.0, 128, (8.0, 1.0, 4.0, 8192)
    seen = set()
    with localcontext() as context:
        context.prec = 75
        cos, sin = naive.rope_tables(theta, d, 5000, 1, scaling)
        for i in range(d // 2):
            f = (Decimal(theta).ln() * -2 * i / d).exp()
            t = 8192 * f / (2 * PI)
            z = (t - 1) / 3
            part = "high" if t > 4 else "low" if t < 1 else "between"
            seen.add(part)
            scaled = {"high": f, "low": f / 8, "between": (1 - z) * f / 8 + z * f}[part]
            want = [decimal_round(number) for number in decimal_circle(5000 * scaled)]
            assert [cos[0][i], sin[0][i]] == want
    assert seen == {"high", "low", "between"}


def test_rope_position_0_and_the_digest():
    cos, sin = naive.rope_tables(10000.0, 10, 0, 3)
    assert cos[0] == [0x3F800000] * 5
    assert sin[0] == [0] * 5
    assert naive.rope_tables(10000.0, 10, 2, 1) == ([cos[2]], [sin[2]])
    data = struct.pack("<30I", *(b for table in (cos, sin) for row in table for b in row))
    assert naive.rope_digest(10000.0, 10, 3) == hashlib.sha256(data).hexdigest()
    table = (ROOT / "SPEC.md").read_text(encoding="utf-8").split("### 8.23 ")[1]
    assert f"| 10000 | 10 | 64 | none | `{naive.rope_digest(10000.0, 10, 64)}` |" in table


def test_pi_and_powers_are_enclosed():
    with localcontext() as context:
        context.prec = 75
        for used in (32, 64, 200):
            low, high = angles.enclose_pi(used)
            assert low < PI * 2**used < high
            assert high - low == 3
    low, high = angles.enclose_power(Fraction(10000), Fraction(1, 2), 64)
    assert low == 2**64 // 100
    assert high == low + 1
    assert angles.enclose_power(Fraction(7), Fraction(0), 64)[0] == 2**64


def test_rope_turns_halves():
    """SPEC 8.24: the pair of i is i + d/2."""
    cos, sin = [bits(0.5), bits(0.25)], [bits(2), bits(3)]
    v = [bits(number) for number in (1, 10, 100, 1000)]
    want = [0.5 - 200, 2.5 - 3000, 50 + 2, 250 + 30]
    assert naive.rope(v, cos, sin) == [bits(number) for number in want]
    big = [bits(2.0**100), bits(1)]
    assert naive.rope(big, [bits(1)], [bits(-(2.0**-60))]) == [bits(2.0**100), bits(-(2.0**40))]


# Numbers and the model


@functools.cache
def model(variant="nmref-tiny"):
    """Configuration, tensors and prompt; not to be changed."""
    return naive.tiny(variant)


def test_splitmix64():
    """The numbers of SPEC 8.26, and what is made of the first."""
    first = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    chance = naive.SplitMix64(0)
    assert [chance.next() for _ in range(3)] == first
    assert naive.SplitMix64(0).uniform() == (first[0] >> 11) / 2**53
    assert value("F32", naive.SplitMix64(0).centred()) == ((first[0] >> 40) - 2**23) / 2**23
    assert naive.SplitMix64(0).below(97) == first[0] * 97 >> 64


def test_bf16_rounding_by_neighbours():
    assert naive.bf16_bits(1, 0) == 0x3F80
    assert naive.bf16_bits(257, -8) == 0x3F80
    assert naive.bf16_bits(259, -8) == 0x3F82
    assert naive.bf16_bits(-((1 << 26) + (1 << 18) + 1), -26) == 0xBF81


def test_tiny_is_made_in_order():
    config, tensors, prompt = model()
    chance = naive.SplitMix64(1)
    for row in tensors["model.embed_tokens.weight"][2]:
        for element in row:
            quarter = bits(value("F32", chance.centred()) / 4)
            assert element == (quarter + 0x7FFF + (quarter >> 16 & 1)) >> 16
    for element in tensors["model.layers.0.input_layernorm.weight"][2][0]:
        exact = 1 + value("F32", chance.centred()) / 4
        step = 2.0**-7 if exact >= 1 else 2.0**-8
        assert value("BF16", element) == round(exact / step) * step
    assert len(tensors) == 3 * 9 + 3
    chance = naive.SplitMix64(2)
    assert prompt == [chance.next() * 97 >> 64 for _ in range(16)]
    assert config["sliding_window"] is None
    assert model("nmref-tiny:window")[0]["sliding_window"] == 5
    assert "lm_head.weight" not in model("nmref-tiny:tied")[1]


@pytest.mark.parametrize("variant", ["", "tiny", "nmref-tiny:", "nmref-tiny:x", "nmref-tiny:4:2"])
def test_other_variants_are_refused(variant):
    with pytest.raises(ValueError):
        naive.tiny(variant)


@pytest.mark.parametrize("variant", ["8:16+16:256", "i8:2:4+4:256", "i8:4:8"])
def test_tiny_is_pruned_by_magnitude(variant):
    """SPEC 8.39, counted on the matrices: what stays is never smaller than what goes."""
    _, dense, _ = model()
    _, tensors, _ = model("nmref-tiny:" + variant)
    name = "model.layers.1.mlp.down_proj.weight"
    spec, parts = tensors[name]
    base, out = naive.slots(spec, parts)
    kept_base = naive.dense(spec, base)
    kept_out = naive.dense(spec, out) if out is not None else [[0] * 270] * 42
    if "i8" in variant:
        assert parts["nm_scale"][2] == struct.pack("<42f", *[2.0**-9] * 42)
    n, m = naive.parse_pattern(spec["pattern"])
    n_out = naive.parse_pattern(spec["outliers"]["pattern"])[0] if out is not None else 0
    for row, kept, outliers in zip(dense[name][2], kept_base, kept_out, strict=True):
        size = [v & 0x7FFF for v in row]
        for start in range(0, 270, 256):
            block = range(start, min(start + 256, 270))
            ranked = sorted(block, key=lambda c: (-size[c], c))
            assert all((outliers[c] == row[c]) == (c in ranked[:n_out]) for c in block if row[c])
        for start in range(0, 270, m):
            left = [c for c in range(start, min(start + m, 270)) if outliers[c] == 0]
            chosen = sorted(left, key=lambda c: (-size[c], c))[:n]
            assert all(kept[c] == 0 for c in range(start, min(start + m, 270)) if c not in chosen)
            for c in chosen:
                number = value("BF16", row[c])
                want = min(round(number * 512), 127) % 256 if "i8" in variant else row[c]
                assert kept[c] == want


@pytest.fixture(scope="module")
def plain_taps():
    """All taps of nmref-tiny, f64.seq."""
    return naive.forward(*model())


def layer_taps(number):
    names = ["attn_norm", "q", "k", "v", "q_rope", "k_rope", "scores", "probs", "attention", "o"]
    names += ["attn_residual", "mlp_norm", "gate", "up", "activation", "down", "residual"]
    return [f"layers.{number}.{name}" for name in names]


def test_taps_have_their_names_and_shapes(plain_taps):
    names = ["embed", *layer_taps(0), *layer_taps(1), *layer_taps(2), "norm", "logits"]
    assert sorted(plain_taps) == sorted(names)
    sizes = {"q": 60, "k": 20, "v": 20, "q_rope": 60, "k_rope": 20, "attention": 60}
    sizes |= {"gate": 270, "up": 270, "activation": 270, "logits": 97}
    for name, (shape, flat) in plain_taps.items():
        last = name.split(".")[-1]
        want = [6, 16, 16] if last in ("scores", "probs") else [16, sizes.get(last, 42)]
        assert shape == want
        assert len(flat) == math.prod(want)


def array(taps, name):
    shape, flat = taps[name]
    return np.array(flat, np.uint32).view(np.float32).reshape(shape)


def numbers_of(tensors, name):
    """Matrix as binary64."""
    weight = tensors[name]
    dtype, rows = weight[1:] if weight[0] == "dense" else naive.decode(*weight)
    return np.array([[value(dtype, b) for b in row] for row in rows])


def numpy_forward(config, tensors, tokens):
    """Give the logits, by ordinary binary64 arithmetic."""

    def norm(x, name):
        return x / np.sqrt((x * x).mean(1, keepdims=True) + 1e-5) * numbers_of(tensors, name)

    def turn(x, heads):
        x = x.reshape(len(tokens), heads, 10)
        f = config["rope_theta"] ** (-np.arange(0, 10, 2) / 10)
        angle = np.arange(len(tokens))[:, None, None] * f
        a, b, cos, sin = x[..., :5], x[..., 5:], np.cos(angle), np.sin(angle)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    x = numbers_of(tensors, "model.embed_tokens.weight")[tokens]
    t = np.arange(len(tokens))
    window = config["sliding_window"] or len(tokens)
    seen = (t[None, :] <= t[:, None]) & (t[:, None] - t[None, :] < window)
    for layer in range(3):
        w = {
            name.split(".")[-2]: numbers_of(tensors, name)
            for name in tensors
            if name.startswith(f"model.layers.{layer}.") and "proj" in name
        }
        n = norm(x, f"model.layers.{layer}.input_layernorm.weight")
        q, k = turn(n @ w["q_proj"].T, 6), turn(n @ w["k_proj"].T, 2)
        v = (n @ w["v_proj"].T).reshape(-1, 2, 10)
        scores = np.einsum("thd,shd->hts", q, k.repeat(3, 1)) / np.sqrt(10)
        e = np.where(seen, np.exp(scores - scores.max(-1, keepdims=True)), 0)
        a = np.einsum("hts,shd->thd", e / e.sum(-1, keepdims=True), v.repeat(3, 1))
        x = x + a.reshape(-1, 60) @ w["o_proj"].T
        n = norm(x, f"model.layers.{layer}.post_attention_layernorm.weight")
        g = n @ w["gate_proj"].T
        x = x + (g / (1 + np.exp(-g)) * (n @ w["up_proj"].T)) @ w["down_proj"].T
    head = "lm_head.weight" if "lm_head.weight" in tensors else "model.embed_tokens.weight"
    return norm(x, "model.norm.weight") @ numbers_of(tensors, head).T


@pytest.mark.parametrize("variant", ["window", "tied", "i8:2:4+4:256"])
def test_forward_is_near_ordinary_arithmetic(variant):
    config, tensors, prompt = model("nmref-tiny:" + variant)
    got = array(naive.forward(config, tensors, prompt[:8]), "logits")
    want = numpy_forward(config, tensors, prompt[:8])
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-5)


def test_attention_is_made_of_its_parts(plain_taps):
    """SPEC 8.33, from the taps before it: query heads 0 to 2 use key/value head 0, the others 1."""
    q, k, v = (array(plain_taps, f"layers.1.{tap}").view(np.uint32) for tap in
               ("q_rope", "k_rope", "v"))  # fmt: skip
    scores, probs = (array(plain_taps, f"layers.1.{tap}") for tap in ("scores", "probs"))
    mixed = array(plain_taps, "layers.1.attention")
    scale = np.float32(1 / np.sqrt(10.0))
    for h in range(6):
        columns = slice(h // 3 * 10, h // 3 * 10 + 10)
        for t in (0, 3, 15):
            keys = ("dense", "F32", k[: t + 1, columns].tolist())
            dots = naive.linear("f64.seq", keys, "F32", q[t, 10 * h : 10 * h + 10].tolist())
            want = np.array(dots, np.uint32).view(np.float32) * scale
            assert (scores[h, t, : t + 1] == want).all()
            row = naive.softmax(want.view(np.uint32).tolist())
            assert probs[h, t, : t + 1].view(np.uint32).tolist() == row
            values = ("dense", "F32", v[: t + 1, columns].T.tolist())
            got = mixed[t, 10 * h : 10 * h + 10].view(np.uint32).tolist()
            assert got == naive.linear("f64.seq", values, "F32", row)


def test_a_block_is_made_of_its_parts(plain_taps):
    """SPEC 8.32, the steps that are one binary32 operation."""
    tap = {name: array(plain_taps, f"layers.1.{name}") for name in
           ("o", "attn_residual", "gate", "up", "activation", "down", "residual")}  # fmt: skip
    before = array(plain_taps, "layers.0.residual")
    assert (tap["attn_residual"] == before + tap["o"]).all()
    assert (tap["residual"] == tap["attn_residual"] + tap["down"]).all()
    silu = [naive.silu(x) for x in tap["gate"].view(np.uint32).ravel().tolist()]
    want = np.array(silu, np.uint32).view(np.float32).reshape(16, 270) * tap["up"]
    assert (tap["activation"] == want).all()


def test_positions_depend_on_earlier_ones_only(plain_taps):
    """SPEC 8.35."""
    config, tensors, prompt = model()
    short = naive.forward(config, tensors, prompt[:3])
    for name in ("layers.2.residual", "logits"):
        assert short[name][1] == plain_taps[name][1][: len(short[name][1])]
    scores, longer = array(short, "layers.1.scores"), array(plain_taps, "layers.1.scores")
    assert (scores == longer[:, :3, :3]).all()
    assert (longer[:, :3, 3:] == -np.inf).all()


def test_window_and_scaling_change_what_they_should(plain_taps):
    config, tensors, prompt = model("nmref-tiny:window")
    window = naive.forward(config, tensors, prompt[:9])
    same = array(window, "logits") == array(plain_taps, "logits")[:9]
    assert same[:5].all()
    assert not same[5:].all(1).any()
    probs = array(window, "layers.0.probs")
    assert all((probs[:, t, s] > 0).all() == (0 <= t - s < 5) for t in range(9) for s in range(9))
    config, _, _ = model("nmref-tiny:llama3")
    assert config["rope_scaling"] == {
        "rope_type": "llama3",
        "factor": 8,
        "low_freq_factor": 1,
        "high_freq_factor": 4,
        "original_max_position_embeddings": 64,
    }
    config = {**config, "num_hidden_layers": 1}
    scaled = naive.forward(config, tensors, prompt)
    assert scaled["layers.0.q"] == plain_taps["layers.0.q"]
    changed = array(scaled, "layers.0.q_rope") != array(plain_taps, "layers.0.q_rope")
    # Turns over 64 positions: 10.2, 1.6, 0.25, ... Only the first pair stays as it is.
    half = [False, True, True, True, True]
    assert changed[1:].reshape(-1, 6, 10).any((0, 1)).tolist() == 2 * half
    assert not changed[0].any()


@pytest.mark.parametrize("profile", ["f32.fma", "tc.L16.F25.rz.rne.col", "f64.seq+split"])
def test_forward_of_a_packed_model_is_that_of_its_matrices(profile):
    config, tensors, prompt = model("nmref-tiny:8:16")
    config = {**config, "num_hidden_layers": 1}
    dense = {
        name: weight if weight[0] == "dense" else ("dense", *naive.decode(*weight))
        for name, weight in tensors.items()
    }
    tokens = prompt[:3]
    packed_taps = naive.forward(config, tensors, tokens, profile)
    assert packed_taps == naive.forward(config, dense, tokens, profile)


def test_trace_digest_is_that_of_the_lines():
    taps = {"b": ([1, 2], [1, INF]), "a.10": ([1, 1], [0]), "a.9": ([2, 1], [3, 4])}
    lines = b""
    for name in ("a.10", "a.9", "b"):
        shape, flat = taps[name]
        data = hashlib.sha256(struct.pack(f"<{len(flat)}I", *flat)).hexdigest()
        lines += f"{data} F32 [{shape[0]},{shape[1]}] {name}\n".encode()
    assert naive.trace_digest(taps) == hashlib.sha256(lines).hexdigest()
