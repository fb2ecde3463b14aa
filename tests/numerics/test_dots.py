"""Dots by every profile (SPEC 8.3 to 8.16): every witness against a model made from the text.

The model computes with integers, in units of 2^-400; infinities and NaN are floats.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import re
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import accumulate
from itertools import product as pairs_of

import numpy as np
import pytest

from nmref.dtypes import Array
from nmref.linear import matmul
from nmref.numerics import Profile
from tests.cases import dense_of, widened
from tests.numerics.cases import (
    AIMED,
    MERGED,
    PROFILES,
    SCALAR,
    SPLIT,
    TC_ALL,
    Operand,
    aimed,
    dense,
    f32,
    finite_case,
    near_ties,
    power,
    random_inputs,
    stored,
    two,
    vector,
)
from tests.numerics.witness import (
    NAN,
    NUMERIC_WITNESSES,
    Dense,
    NumericWitness,
    as_operand,
    canonical,
    every_numeric_witness,
)
from tests.witness import Bits, Case

UNIT = 400
"""Numbers of the model are integers of 2^-UNIT: every product and every tc unit is one."""
Number = int | float
Term = tuple[int, int, Number, Number]
"""Column, slot, W, x."""


# The model


def read(bits: int) -> Number:
    """The value of F32 bits."""
    sign = -1 if bits >> 31 else 1
    exponent, fraction = bits >> 23 & 255, bits & 0x7FFFFF
    if exponent == 255:
        return float("nan") if fraction else sign * float("inf")
    mantissa = fraction + (0x800000 if exponent else 0)
    return sign * (mantissa << (max(exponent, 1) - 150 + UNIT))


def written(value: Number) -> int:
    """The canonical F32 bits of a value that F32 holds."""
    if isinstance(value, float):
        return NAN if value != value else 0x7F800000 if value > 0 else 0xFF800000
    size = abs(value)
    exponent = max(size.bit_length() - 24, UNIT - 149)
    mantissa, rest = divmod(size, 1 << exponent)
    assert rest == 0
    bits = mantissa + (exponent - UNIT + 149 << 23)
    assert bits < 0x7F800000
    return bits | (value < 0) << 31


def quotient(value: int, step: int, mode: str) -> int:
    """value / step, rounded to an integer."""
    floor, rest = divmod(value, step)
    if mode == "rne":
        return floor + (2 * rest + (floor & 1) > step)
    return floor + (mode == "rz" and value < 0 and rest > 0)


def rounded(value: Number, digits: int, low: int, mode: str = "rne") -> Number:
    """To binary digits, none of them below 2^low."""
    if isinstance(value, float):
        return value
    step = 1 << max(abs(value).bit_length() - digits, UNIT + low, 0)
    return quotient(value, step, mode) * step


def rn64(value: Number) -> Number:
    return rounded(value, 53, -1074)  # nothing here comes near 2^1024


def rn32(value: Number, mode: str = "rne") -> Number:
    near = rounded(value, 24, -149, mode)
    if isinstance(near, int) and abs(near) >= 1 << (128 + UNIT):
        return float("inf") if near > 0 else -float("inf")
    return near


def product(w: Number, x: Number) -> Number:
    if isinstance(w, int) and isinstance(x, int):
        return w * x >> UNIT
    signs = (v if isinstance(v, float) else (v > 0) - (v < 0) for v in (w, x))
    return float(next(signs) * next(signs))


def total(values: list[Number]) -> Number:
    """The exact sum, with the special rule (8.5)."""
    special = [value for value in values if isinstance(value, float)]
    return float(sum(special)) if special else sum(values)


def run(terms: list[Term], name: str) -> Number:
    """8.7 to 8.9."""
    acc: Number = 0
    for _, _, w, x in terms:
        if name == "f64.seq":
            acc = rn64(total([acc, product(w, x)]))
        elif name == "f32.seq":
            acc = rn32(total([acc, rn32(product(w, x))]))
        else:
            acc = rn32(total([acc, product(w, x)]))
    return rn32(acc)


def lanes(terms: list[Term], count: int, name: str) -> Number:
    """8.10."""
    lane = [run([term for term in terms if term[0] % count == i], name) for i in range(count)]
    while len(lane) > 1:
        half = len(lane) // 2
        lane = [rn32(total([lane[i], lane[i + half]])) for i in range(half)]
    return lane[0]


def exponent(value: int) -> int:
    return abs(value).bit_length() - 1 - UNIT


def group(terms: list[Term], a: Number, fraction: int, inner: str, outer: str) -> Number:
    """8.13."""
    parts = [product(w, x) for _, _, w, x in terms]
    if any(isinstance(value, float) for value in [*parts, a]):
        return total([*parts, a])
    live = [
        (exponent(w) + exponent(x), part)
        for (_, _, w, x), part in zip(terms, parts, strict=True)
        if x
    ]
    live += [(exponent(a), a)] if a else []
    if not live:
        return 0
    u = 1 << (UNIT + max(live)[0] - fraction)
    return rn32(sum(quotient(part, u, inner) for _, part in live) * u, outer)


def dot(name: str, terms: list[Term]) -> Number:
    """One dot by a profile without + (8.6 to 8.13); the columns of terms ascend."""
    if name == "exact":
        return rn32(total([product(w, x) for _, _, w, x in terms]))
    if found := re.fullmatch(r"f32\.lanes(\d+)\.(mul|fma)", name):
        return lanes(terms, int(found[1]), {"mul": "f32.seq", "fma": "f32.fma"}[found[2]])
    found = re.fullmatch(r"tc\.L(\d+)\.F(\d+)\.(\w+)\.(\w+)\.(\w+)", name)
    if not found:
        return run(terms, name)
    groups: dict[int, list[Term]] = {}
    for term in terms:
        groups.setdefault(term[found[5] == "slot"] // int(found[1]), []).append(term)
    a: Number = 0
    for number in sorted(groups):
        a = group(groups[number], a, int(found[2]), found[3], found[4])
    return a


def model(profile: str, operand: Operand, x: Array) -> Array:
    """[R] of canonical bits for F32 bits x [K] (8.3, 8.15)."""
    name, plus, mode = profile.partition("+")
    split = mode == "split" if plus else name.endswith(".slot")
    vector = [read(bits) for bits in x.tolist()]

    def by_matrix(matrix: Array, slots: Array, r: int) -> Number:
        row = [read(bits) for bits in matrix[r].tolist()]
        columns = [c for c, w in enumerate(row) if w != 0]
        return dot(name, [(c, int(slots[r, c]), row[c], vector[c]) for c in columns])

    found = []
    for r in range(len(operand.w)):
        if split:
            base = by_matrix(operand.base, operand.base_slots, r)
            outliers = by_matrix(operand.outliers, operand.out_slots, r)
            found.append(written(rn32(total([base, outliers]))))
        else:
            found.append(written(by_matrix(operand.w, operand.base_slots, r)))
    return np.array(found, dtype=np.uint32)


def wanted(profile: str, operand: Operand, x: Bits) -> Array:
    """[T, R]."""
    rows = [model(profile, operand, row) for row in widened(*x)]
    return np.array(rows, dtype=np.uint32).reshape(len(rows), len(operand.w))


def differing(
    witness: NumericWitness, profile: str, inputs: list[tuple[Operand, Bits]], want: list[Array]
) -> list[int]:
    """The numbers of the inputs at which a witness departs from the model."""
    found = []
    for i, (operand, x) in enumerate(inputs):
        got = witness.linear(profile, operand.weight, x)
        assert got.shape == want[i].shape
        if not np.array_equal(got, want[i]):
            found.append(i)
    return found


@cache
def all_aimed() -> list[tuple[Operand, Bits]]:
    return [aimed(pairs) for pairs in AIMED.values()]


INPUTS = {"random": random_inputs, "aimed": all_aimed, "near ties": near_ties}


@cache
def wants(profile: str, kind: str) -> list[Array]:
    return [wanted(profile, *one) for one in INPUTS[kind]()]


def result(witness: NumericWitness, profile: str, w: Array, x: Array) -> int:
    """The bits of one dot of F32 bits [K] and [K]."""
    return int(witness.linear(profile, Dense("F32", w[None]), ("F32", x[None]))[0, 0])


def of_pairs(witness: NumericWitness, profile: str, pairs: list[tuple[float, float]]) -> int:
    operand, x = aimed(pairs)
    return int(witness.linear(profile, operand.weight, x)[0, 0])


# Every witness is the model


@every_numeric_witness
@pytest.mark.parametrize("profile", PROFILES)
def test_dots_of_random_numbers_are_those_of_the_model(witness: NumericWitness, profile: str):
    assert differing(witness, profile, random_inputs(), wants(profile, "random")) == []


@every_numeric_witness
@pytest.mark.parametrize("profile", MERGED + tuple(n for n in SPLIT if ".slot" in n))
def test_dots_that_aim_at_one_rounding_are_those_of_the_model(
    witness: NumericWitness, profile: str
):
    names = list(AIMED)
    found = differing(witness, profile, all_aimed(), wants(profile, "aimed"))
    assert [names[i] for i in found] == []


@every_numeric_witness
@pytest.mark.parametrize("profile", MERGED)
def test_dots_that_end_near_the_middle_of_two_numbers_are_those_of_the_model(
    witness: NumericWitness, profile: str
):
    assert differing(witness, profile, near_ties(), wants(profile, "near ties")) == []


@cache
def tc_inputs() -> list[tuple[Operand, Bits]]:
    rng = np.random.default_rng(13)
    case = finite_case(rng, "F32", "8:16", (2, 75), ("F32", "16:256", "idx8"), 20)
    x = vector(rng, "F32", (1, 75), 12)
    names = ("cut at 59", "accumulator cut at 60", "32 widest products", "32 wide and one small")
    return [(stored(case), x), *(aimed(AIMED[name]) for name in names)]


@cache
def tc_wants(profile: str) -> list[Array]:
    return [wanted(profile, *one) for one in tc_inputs()]


TC_STEPS = {"naive": 11, "numpy": 3, "numba": 1}


@every_numeric_witness
@pytest.mark.parametrize("length", [4, 8, 16, 32])
def test_dots_of_every_tc_profile_are_those_of_the_model(witness: NumericWitness, length: int):
    names = [name for name in TC_ALL if f".L{length}." in name][:: TC_STEPS[witness.name]]
    for name in names:
        assert differing(witness, name, tc_inputs(), tc_wants(name)) == [], name


# Laws that do without the model


@every_numeric_witness
def test_exact_is_the_nearest_number_to_a_sum_of_fractions(witness: NumericWitness):
    infinite = 2**128
    for operand, x in [*all_aimed(), *near_ties(), *random_inputs()]:
        got = witness.linear("exact", operand.weight, x)
        for t, token in enumerate(widened(*x).view(np.float32)):
            for r, row in enumerate(operand.w.view(np.float32)):
                terms = zip(row.tolist(), token.tolist(), strict=True)
                exact = sum(Fraction(a) * Fraction(b) for a, b in terms)
                size = int(got[t, r]) & 0x7FFFFFFF
                assert int(got[t, r]) >> 31 == (exact < 0 and size > 0)
                around = [
                    Fraction(float(np.uint32(bits).view(np.float32)))
                    if bits < 0x7F800000
                    else Fraction(infinite)
                    for bits in (max(size - 1, 0), size, min(size + 1, 0x7F800000))
                ]
                below, here, above = (abs(abs(exact) - value) for value in around)
                if abs(exact) < infinite:
                    assert here <= below
                    assert here <= above
                    assert size & 1 == 0 or (here < below and here < above)
                else:
                    assert size == 0x7F800000


@every_numeric_witness
def test_exact_sees_a_hair_at_every_distance(witness: NumericWitness):
    """(1 + 2^-24 + 2^-k) 2^j is above a middle, (1 + 2^-23 + 2^-24 - 2^-k) 2^j below one."""
    step = {"naive": 7, "numpy": 3, "numba": 1}[witness.name]
    rows, want = [], []
    for k, j in pairs_of(range(25, 298, step), range(0, 32, step)):
        hair = (two(j - k), 0.0) if j - k >= -149 else (0.0, two(j - k + 149))
        rows.append([two(j), two(j - 24), *hair])
        rows.append([two(j) + two(j - 23), two(j - 24), *(-value for value in hair)])
        want += [two(j) + two(j - 23)] * 2
    w, x = np.array(rows, np.float32).view(np.uint32), f32(1, 1, 1, two(-149))
    got = witness.linear("exact", Dense("F32", w), ("F32", x[None]))
    assert np.array_equal(got[0], f32(*want))


@every_numeric_witness
def test_f64_seq_is_a_loop_over_python_floats(witness: NumericWitness):
    for operand, x in [*all_aimed(), *near_ties(), *random_inputs()]:
        tokens, rows = (bits.view(np.float32).tolist() for bits in (widened(*x), operand.w))
        sums = [
            [
                list(accumulate((a * b for a, b in zip(row, t, strict=True)), initial=0.0))[-1]
                for row in rows
            ]
            for t in tokens
        ]
        with np.errstate(over="ignore"):
            want = np.array(sums, dtype=np.float64).astype(np.float32).view(np.uint32)
        want = np.where(want == 1 << 31, 0, want).reshape(len(tokens), len(rows))
        assert np.array_equal(witness.linear("f64.seq", operand.weight, x), want)


@every_numeric_witness
def test_f32_seq_is_a_loop_over_single_numbers(witness: NumericWitness):
    for operand, x in [*all_aimed(), *near_ties(), *random_inputs()[:6]]:
        want = np.zeros((len(x[1]), len(operand.w)), dtype=np.float32)
        with np.errstate(all="ignore"):
            for c in range(operand.w.shape[1]):
                w = operand.w[:, c].view(np.float32)
                term = widened(*x)[:, c].view(np.float32)[:, None] * w
                want = np.where(w == 0, want, want + term)
        bits = want.view(np.uint32)
        bits = np.where(bits == 1 << 31, 0, np.where(np.isnan(want), NAN, bits))
        assert np.array_equal(witness.linear("f32.seq", operand.weight, x), bits)


@every_numeric_witness
def test_f32_fma_is_a_loop_over_fmaf_of_the_c_library(witness: NumericWitness):
    name = ctypes.util.find_library("m")
    if name is None:
        pytest.skip("no C library for mathematics")
    fmaf = ctypes.CDLL(name).fmaf
    fmaf.argtypes, fmaf.restype = [ctypes.c_float] * 3, ctypes.c_float
    for operand, x in [*all_aimed(), *near_ties(), *random_inputs()[:6]]:
        for t, token in enumerate(widened(*x).view(np.float32).tolist()):
            got = witness.linear("f32.fma", operand.weight, (x[0], x[1][t : t + 1]))
            for r, row in enumerate(operand.w.view(np.float32).tolist()):
                acc = 0.0
                for w, value in zip(row, token, strict=True):
                    acc = fmaf(w, value, acc) if w else acc
                want = np.float32(acc)
                assert int(got[0, r]) == (int(want.view(np.uint32)) if want else 0)


@every_numeric_witness
def test_exact_does_not_know_the_order_of_columns(witness: NumericWitness):
    rng = np.random.default_rng(2)
    for operand, x in [*near_ties()[:12], *random_inputs()[:4]]:
        order = rng.permutation(operand.w.shape[1])
        want = witness.linear("exact", Dense("F32", operand.w), x)
        moved = np.ascontiguousarray(operand.w[:, order])
        turned = x[0], np.ascontiguousarray(x[1][:, order])
        assert np.array_equal(witness.linear("exact", Dense("F32", moved), turned), want)


@every_numeric_witness
@pytest.mark.parametrize("profile", MERGED)
def test_merged_dots_of_stored_weights_are_those_of_their_dense_matrix(
    witness: NumericWitness, profile: str
):
    for operand, x in random_inputs()[11:16]:
        want = witness.linear(profile, Dense("F32", operand.w), x)
        assert np.array_equal(witness.linear(profile, operand.weight, x), want)


@every_numeric_witness
@pytest.mark.parametrize("profile", SPLIT)
def test_split_dots_of_dense_matrices_are_the_merged_ones(witness: NumericWitness, profile: str):
    merged = profile.replace(".slot", ".col").replace("split", "merged")
    for operand, x in random_inputs()[:6]:
        got = witness.linear(profile, operand.weight, x)
        assert np.array_equal(got, witness.linear(merged, operand.weight, x))


@every_numeric_witness
@pytest.mark.parametrize("profile", SPLIT)
def test_split_is_the_rounded_sum_of_two_dots(witness: NumericWitness, profile: str):
    rng = np.random.default_rng(17)
    case = finite_case(rng, "BF16", "2:4", (3, 66), ("F16", "16:256", "idx8"), 5)
    x = vector(rng, "F32", (1, 66))
    outliers = Case(
        case.out_dtype,
        case.outliers,
        "63:64",
        case.out_mask,
    )
    base = replace(case, outliers=None, out_mask=None)
    merged = profile.replace(".slot", ".col").replace("split", "merged")
    if ".slot" in profile:  # 63:64 numbers the slots of outliers otherwise
        want = wanted(profile, stored(case), x)
    else:
        halves = [witness.linear(merged, stored(part).weight, x) for part in (base, outliers)]
        want = (halves[0].view(np.float32) + halves[1].view(np.float32)).view(np.uint32)
    assert np.array_equal(witness.linear(profile, stored(case).weight, x), want)


@every_numeric_witness
@pytest.mark.parametrize("profile", PROFILES)
def test_powers_of_two_scale_results_away_from_the_ends(witness: NumericWitness, profile: str):
    (operand, (_, x)), up = random_inputs()[0], 9 << 23
    want = witness.linear(profile, operand.weight, ("F32", x))
    scaled = np.where(x & 0x7FFFFFFF == 0, x, x + np.uint32(up))
    got = witness.linear(profile, operand.weight, ("F32", scaled))
    assert np.array_equal(got, want + np.uint32(up))


@every_numeric_witness
@pytest.mark.parametrize("profile", PROFILES)
def test_rows_and_tokens_together_are_rows_and_tokens_alone(witness: NumericWitness, profile: str):
    rng = np.random.default_rng(23)
    w, (_, x) = vector(rng, "F32", (3, 21))[1], vector(rng, "F32", (5, 21))
    together = witness.linear(profile, Dense("F32", w), ("F32", x))
    alone = [[result(witness, profile, row, token) for row in w] for token in x]
    assert together.tolist() == alone


@cache
def many_terms(rows: int, columns: int) -> Case:
    rng = np.random.default_rng(29)
    return finite_case(rng, "F16", "8:16", (rows, columns), ("BF16", "4:256", "idx8"))


@pytest.mark.parametrize("witness", NUMERIC_WITNESSES[1:], ids=lambda witness: witness.name)
@pytest.mark.parametrize("profile", [*PROFILES, "i32"])
def test_threads_do_not_change_results(witness: NumericWitness, profile: str):
    rng, rows, columns = np.random.default_rng(29), 5, 35
    if witness.name == "numba":  # enough for its threads to start
        rows, columns = 330, 303
    if profile == "i32":
        case = finite_case(rng, "I8", "8:16", (rows, columns))
        x = "I8", rng.integers(0, 256, (3, columns), np.uint8)
    else:
        case = many_terms(rows, columns)
        x = vector(rng, "F32", (3, columns))
    weight = stored(case).weight
    one = witness.linear(profile, weight, x, threads=1)
    for threads in (2, 3):
        assert np.array_equal(witness.linear(profile, weight, x, threads=threads), one)


@pytest.mark.parametrize("witness", NUMERIC_WITNESSES[1:], ids=lambda witness: witness.name)
@pytest.mark.parametrize("profile", PROFILES)
def test_strides_of_x_do_not_change_results(witness: NumericWitness, profile: str):
    rng = np.random.default_rng(31)
    weight = as_operand(Dense("F32", vector(rng, "F32", (3, 20))[1]))
    x = vector(rng, "F32", (4, 20))[1].view(np.float32)
    want = matmul(x, weight, profile, twin=witness.twin)
    wide = np.zeros((8, 40), dtype=np.float32)
    wide[::2, 39::-2] = x
    frozen = x.copy()
    frozen.flags.writeable = False
    for other in (wide[::2, 39::-2], np.asfortranarray(x), frozen):
        got = matmul(other, weight, profile, twin=witness.twin)
        assert np.array_equal(got, want)
    strided = np.zeros((6, 60), dtype=np.float32)
    strided[::2, ::3] = weight
    assert np.array_equal(matmul(x, strided[::2, ::3], profile, twin=witness.twin), want)
    one = matmul(x[1], weight, profile, twin=witness.twin)
    assert np.array_equal(one.reshape(-1), want[1])


@pytest.mark.parametrize("witness", NUMERIC_WITNESSES[1:], ids=lambda witness: witness.name)
@pytest.mark.parametrize("profile", MERGED)
def test_columns_outside_a_restriction_make_no_terms(witness: NumericWitness, profile: str):
    """8.3, as attention needs it: lanes and groups stay where they are."""
    rng, columns = np.random.default_rng(59), 300
    w, (_, x) = vector(rng, "F32", (2, columns))[1], vector(rng, "F32", (8, columns))
    begin = np.array([0, 1, 7, 250, 255, 256, 130, 299], dtype=np.int64)
    end = np.array([300, 2, 39, 262, 256, 300, 130, 300], dtype=np.int64)
    want = []
    for t in range(len(x)):
        inside = (np.arange(columns) >= begin[t]) & (np.arange(columns) < end[t])
        want.append(model(profile, dense("F32", np.where(inside, w, 0)), x[t]))
    x[1, 2:], x[2, :7] = NAN, 0x7F800000
    parsed = Profile.parse(profile)
    y = witness.twin.dots(w.view(np.float32), x.view(np.float32), begin, end, parsed, 1)
    assert np.array_equal(canonical(y.view(np.uint32)), want)


@every_numeric_witness
@pytest.mark.parametrize("profile", MERGED + tuple(n for n in SPLIT if ".slot" in n))
def test_zero_weights_make_no_terms_whatever_x_is_there(witness: NumericWitness, profile: str):
    """Aimed dots share one x, each in 128 columns of its own; the others hold NaN and Inf."""
    every = list(AIMED)[:: 1 if witness.name == "numba" else 16]
    w = np.zeros((len(every), 128 * len(every)), dtype=np.uint32)
    x = np.zeros((1, w.shape[1]), dtype=np.uint32)
    x[0, ::2], x[0, 1::2] = NAN, 0xFF800000
    for i, name in enumerate(every):
        for j, (a, b) in enumerate(AIMED[name]):
            w[i, 128 * i + j], x[0, 128 * i + j] = f32(a, b)
    w[:, 127::128] = 0x80000000
    want = [wants(profile, "aimed")[list(AIMED).index(name)][0, 0] for name in every]
    assert witness.linear(profile, Dense("F32", w), ("F32", x))[0].tolist() == want


@every_numeric_witness
@pytest.mark.parametrize("profile", PROFILES)
def test_only_slot_profiles_know_where_zeros_are_stored(witness: NumericWitness, profile: str):
    """The free slots of one W, in its lowest columns and in its highest."""
    rng = np.random.default_rng(53)
    base = np.where(rng.random((6, 72)) < 0.4, vector(rng, "F32", (6, 72), 6)[1], 0)
    for r, b in np.ndindex(6, 8):
        block = base[r, 9 * b : 9 * b + 9]
        block[np.flatnonzero(block)[3:]] = 0
    mask = base != 0
    for r, b in np.ndindex(6, 8):
        block = mask[r, 9 * b : 9 * b + 9]
        block[np.flatnonzero(~block)[block.sum() - 5 :]] = True
    x, found = vector(rng, "F32", (1, 72)), []
    for chosen in (None, mask):
        operand = stored(Case("F32", base, "5:9", chosen))
        found.append(witness.linear(profile, operand.weight, x))
        assert np.array_equal(found[-1], wanted(profile, operand, x))
    if ".slot" not in profile:
        assert np.array_equal(*found)
    elif ".F2" in profile:
        assert not np.array_equal(*found)


# Numbers that SPEC names


@every_numeric_witness
@pytest.mark.parametrize(
    ("k", "profile", "want"),
    [
        *((12, name, 0) for name in ("f32.seq", "f32.fma", "tc.L4.F23.rz.rz.col")),
        *((12, name, 1) for name in ("exact", "f64.seq", "tc.L4.F24.rz.rz.col")),
        *((30, name, 0) for name in ("f32.seq", "f32.fma", "f64.seq", "tc.L4.F59.rz.rz.col")),
        *((30, name, 1) for name in ("exact", "tc.L4.F60.rz.rz.col", "tc.L32.F60.rz.rz.slot")),
    ],
)
def test_the_table_of_8_16_holds(witness: NumericWitness, k: int, profile: str, want: int):
    pairs = [(two(k), two(k)), (1.0, 1.0), (-two(k), two(k))]
    assert of_pairs(witness, profile, pairs) == int(f32(want)[0])


@every_numeric_witness
def test_f16_products_are_exact_so_seq_is_fma(witness: NumericWitness):
    rng = np.random.default_rng(37)
    w, x = (vector(rng, "F16", (3, 50), 14)[1] for _ in range(2))
    found = [witness.linear(f"f32.{kind}", Dense("F16", w), ("F16", x)) for kind in ("seq", "fma")]
    assert np.array_equal(*found)


@every_numeric_witness
def test_a_fused_operation_rounds_once(witness: NumericWitness):
    """The sum is 1 + 2^-23 + 2^-24 - 2^-70: binary64 makes a tie of it, and then an error."""
    hair = (2**23 + 1) * two(-47), (2**23 - 1) * two(-23)
    pairs = [(1 + two(-23), 1.0), hair]
    assert of_pairs(witness, "f32.fma", pairs) == 0x3F800001
    assert of_pairs(witness, "exact", pairs) == 0x3F800001
    assert of_pairs(witness, "f64.seq", pairs) == 0x3F800002
    assert of_pairs(witness, "f32.seq", pairs) == 0x3F800002


@every_numeric_witness
def test_sums_above_64_bits_are_exact(witness: NumericWitness):
    """32 products just below 4, in units of 2^-60, are just below 2^67."""
    wide = (2**24 - 1) * two(-23)
    for out, last in (("rz", 0x42FFFFFE), ("rne", 0x42FFFFFE)):
        name = f"tc.L32.F60.rd.{out}.col"
        assert of_pairs(witness, name, [(wide, wide)] * 32) == last
        assert of_pairs(witness, name, [(-wide, wide)] * 32) == last | 1 << 31


@every_numeric_witness
@pytest.mark.parametrize(
    ("pairs", "rz", "rne"),
    [
        ([power(1, 128), power(-1, 104)], 0x7F7FFFFF, 0x7F7FFFFF),
        ([power(1, 128), power(-1, 102)], 0x7F7FFFFF, 0x7F800000),
        ([power(1, 128), power(-1, 103)], 0x7F7FFFFF, 0x7F800000),
        ([power(1, 128), power(-3, 102)], 0x7F7FFFFF, 0x7F7FFFFF),
        ([power(1, 128)], 0x7F800000, 0x7F800000),
        ([power(1, 200)], 0x7F800000, 0x7F800000),
    ],
)
def test_tc_overflows_when_the_rounded_sum_does(
    witness: NumericWitness, pairs: list[tuple[float, float]], rz: int, rne: int
):
    for inner in ("rz", "rd", "rne"):
        for out, want in (("rz", rz), ("rne", rne)):
            name = f"tc.L4.F30.{inner}.{out}.col"
            assert of_pairs(witness, name, pairs) == want
            negative = [(-w, x) for w, x in pairs]
            assert of_pairs(witness, name, negative) == want | 1 << 31


@every_numeric_witness
@pytest.mark.parametrize("profile", PROFILES)
def test_a_dot_without_terms_is_zero(witness: NumericWitness, profile: str):
    x = "F32", f32(*[float("nan"), float("inf")] * 20)[None]
    zeros = np.array([[0, 1 << 31] * 20], dtype=np.uint32)
    assert witness.linear(profile, Dense("F32", zeros), x).tolist() == [[0]]
    case = Case("F32", zeros, "2:4", outliers=np.zeros_like(zeros), out_dtype="F32")
    assert witness.linear(profile, stored(case).weight, x).tolist() == [[0]]


@every_numeric_witness
@pytest.mark.parametrize("profile", [*PROFILES, "i32"])
@pytest.mark.parametrize(("tokens", "rows"), [(0, 3), (2, 0), (0, 0)])
def test_no_tokens_and_no_rows_give_no_results(
    witness: NumericWitness, profile: str, tokens: int, rows: int
):
    dtype = "I8" if profile == "i32" else "F32"
    base = np.zeros((rows, 5), dtype=np.uint8 if dtype == "I8" else np.uint32)
    scale = np.full(rows, 0x3F800000, dtype=np.uint32) if dtype == "I8" else None
    weight = stored(Case(dtype, base, "2:4", scale=scale)).weight
    x = dtype, np.zeros((tokens, 5), dtype=base.dtype)
    assert witness.linear(profile, weight, x).shape == (tokens, rows)


# What separates the profiles


def sparse_rows(rows: list[dict[int, float]], columns: int) -> Array:
    w = np.zeros((len(rows), columns), dtype=np.float32)
    for r, row in enumerate(rows):
        for c, value in row.items():
            w[r, c] = value
    return w.view(np.uint32)


@cache
def separators() -> list[tuple[Operand, Bits]]:
    """Weights and x whose results separate all profiles."""
    cut: list[dict[int, float]] = [{0: 1, 1: 1, 2: 3 * two(-23)}]  # what the last rounding does
    for k in range(23, 61):  # F: what is cut from a group
        cut += [{0: 1, 1: m * two(-k - 1), 2: -1} for m in (2, 3, -1)]
    rows = []
    for k in (1, 2, 3, 4, 8, 16, 32):  # L: where groups end; lanes: what meets
        rows += [{0: 1, k: two(-24), 2 * k: two(-24)}, {0: 1, k: -1, 2 * k: two(-60)}]
        rows += [{0: two(24), k: 1, 2 * k: -two(24), 3 * k: 1}]
    for k in (4, 8, 16, 32, 64):
        rows += [{0: two(24), k - 1: 1, k: 1, 2 * k - 1: -two(24)}]
        rows += [{0: two(24), k: -two(24), k + 1: two(-23), 2 * k: 1, 2 * k + 1: two(-50)}]
    rows += [{0: 1, 1: two(-24), 2: two(-60)}, {0: 1 + two(-23), 1: two(-24)}]
    rows += [{0: two(30), 1: two(-30), 2: -two(30)}]
    w = sparse_rows(rows, 130)
    made = [(dense("F32", sparse_rows(cut, 3)), ("F32", f32(1, 1, 1)[None]))]
    first, last = (-1.0, 1.0), (1 + two(-12), 1 + two(-12))
    for distance in (1, 2, 4, 8, 16, 32, 64):  # in one lane, a product that is rounded or not
        made.append(aimed([first, *[(0.0, 0.0)] * (distance - 1), last]))
    x = "F32", f32(*[1.0] * 130)[None]
    made.append((dense("F32", w), x))
    for salient in (np.arange(130) % 2 == 1, np.arange(130) % 3 == 1):
        base, out = (np.where(here, w, 0) for here in (~salient, salient))
        for pattern in ("63:64", "5:9"):
            made.append((stored(Case("F32", base, pattern, None, None, out, "F32", "16:256")), x))
    return made


@every_numeric_witness
def test_no_two_profiles_are_the_same(witness: NumericWitness):
    """For every pair of profiles there is an input whose results differ."""
    tc = {"naive": TC_ALL[::211], "numpy": TC_ALL[::23], "numba": TC_ALL}[witness.name]
    names = [f"{name}+{mode}" for name in (*SCALAR, *tc) for mode in ("merged", "split")]
    names = [name for name in names if not name.endswith(".slot+merged")]
    seen: dict[bytes, str] = {}
    for name in names:
        results = [witness.linear(name, operand.weight, x) for operand, x in separators()]
        key = b"".join(part.tobytes() for part in results)
        assert key not in seen, (name, seen.get(key))
        seen[key] = name


# i32


@every_numeric_witness
def test_i32_is_the_sum_of_integer_products(witness: NumericWitness):
    rng = np.random.default_rng(41)
    for pattern, columns in (("8:16", 43), ("2:4", 1), ("16:32", 100)):
        case = finite_case(rng, "I8", pattern, (3, columns))
        x = rng.integers(0, 256, (2, columns), np.uint8)
        want = x.view(np.int8).astype(np.int64) @ case.base.view(np.int8).T.astype(np.int64)
        got = witness.linear("i32", stored(case).weight, ("I8", x))
        assert np.array_equal(got, want.astype(np.int32).view(np.uint32))


@every_numeric_witness
def test_i32_wraps_around(witness: NumericWitness):
    columns = 133200
    base = np.full((1, columns), 0x80, dtype=np.uint8)
    base[0, 63::64] = 0
    used = np.flatnonzero(base[0])
    x = np.zeros((2, columns), dtype=np.uint8)
    x[0, used[: 2**17]] = 0x80  # 2^17 times 2^14 is 2^31
    x[1, used[: 2**17]] = 0x80
    x[1, used[2**17]] = 1
    case = Case("I8", base, "63:64", scale=f32(1.0))
    got = witness.linear("i32", stored(case).weight, ("I8", x))
    assert got.tolist() == [[2**31], [2**31 - 128]]


@every_numeric_witness
def test_the_scale_takes_no_part_in_i32_and_is_rounded_into_other_dots(witness: NumericWitness):
    base = np.array([[3, 0, 0xFF, 0]], dtype=np.uint8)
    x = np.array([[1, 9, 1, 9]], dtype=np.uint8)
    case = Case("I8", base, "2:4", scale=f32(1 + two(-23)))
    assert witness.linear("i32", stored(case).weight, ("I8", x)).tolist() == [[2]]
    got = witness.linear("exact", stored(case).weight, ("F32", f32(1, 9, 1, 9)[None]))
    _, bits = dense_of(case)
    assert bits[0, 0] == 0x40400002  # 3 + 3 * 2^-23 is a tie: 3 + 2^-21
    assert got.tolist() == [f32(2 + two(-21)).tolist()]  # 2 + 3 * 2^-23, a tie again


# Canonical results


@pytest.mark.parametrize("witness", NUMERIC_WITNESSES[1:], ids=lambda witness: witness.name)
@pytest.mark.parametrize("profile", PROFILES)
def test_matmul_gives_canonical_results(witness: NumericWitness, profile: str):
    w = np.array([[0xFFC00001, 0, 0], [0, 0, 0x80000001], [0x3F800000, 0x3F800000, 0]], np.uint32)
    x = np.array([[0x3F800000, 0x3F800000, 1], [0xFF800000, 0x7F800000, 0x80000000]], np.uint32)
    y = matmul(x.view(np.float32), w.view(np.float32), profile, twin=witness.twin)
    assert y.view(np.uint32).tolist() == [[NAN, 0, 0x40000000], [NAN, 0, NAN]]
