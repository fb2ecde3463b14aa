"""NaN, infinities, -0 and overflow in dots (SPEC 8.3 to 8.5), by every profile."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cases import specials
from tests.numerics.cases import PROFILES, SCALAR, TC_SOME, aimed, dense, special_inputs, two
from tests.numerics.test_dots import differing, wanted
from tests.numerics.witness import NAN, NumericWitness, every_numeric_witness

INF, NEGATIVE_INF = 0x7F800000, 0xFF800000
inf, nan = float("inf"), float("nan")
every_profile = pytest.mark.parametrize("profile", [*SCALAR, *TC_SOME])


def of(witness: NumericWitness, profile: str, pairs: list[tuple[float, float]]) -> int:
    """Bits of the dot of dense pairs W, x."""
    operand, x = aimed(pairs)
    return int(witness.linear(profile, operand.weight, x)[0, 0])


@every_numeric_witness
@pytest.mark.parametrize("profile", PROFILES)
def test_dots_of_special_values_are_those_of_the_model(witness: NumericWitness, profile: str):
    want = [wanted(profile, *one) for one in special_inputs()]
    assert differing(witness, profile, special_inputs(), want) == []


TWO = [
    ((1.0, 2.0), (inf, 3.0), INF),
    ((1.0, 2.0), (3.0, -inf), NEGATIVE_INF),
    ((1.0, 2.0), (-inf, -inf), INF),
    ((1.0, 2.0), (inf, 0.0), NAN),
    ((1.0, 2.0), (-inf, -0.0), NAN),
    ((1.0, 2.0), (nan, 1.0), NAN),
    ((1.0, 2.0), (nan, 0.0), NAN),
    ((1.0, 2.0), (1.0, nan), NAN),
    ((1.0, 2.0), (inf, nan), NAN),
    ((inf, 1.0), (inf, 2.0), INF),
    ((inf, 1.0), (-inf, 2.0), NAN),
    ((inf, 1.0), (2.0, -inf), NAN),
    ((-inf, 1.0), (1.0, -inf), NEGATIVE_INF),
    ((inf, two(-149)), (-1.0, 1.0), INF),
    ((1.0, -inf), (two(127), 1.0), NEGATIVE_INF),
    ((0.0, inf), (1.0, 1.0), 0x3F800000),
    ((-0.0, -inf), (1.0, 1.0), 0x3F800000),
    ((0.0, nan), (-0.0, nan), 0),
    ((1.0, -0.0), (-1.0, 0.0), 0),
    ((-1.0, 1.0), (1.0, 1.0), 0),
]
"""Two terms W, x and the bits of their dot."""


@every_numeric_witness
@every_profile
def test_special_values_decide_a_dot_in_either_order(witness: NumericWitness, profile: str):
    """Near each other, and so far apart that they are in different groups."""
    for first, last, want in TWO:
        for gap in (0, 20):
            between = [(1.0, 0.0), (0.0, nan)] * gap
            assert of(witness, profile, [first, *between, last]) == want, (first, last, gap)
            assert of(witness, profile, [last, *between, first]) == want, (last, first, gap)


@every_numeric_witness
@every_profile
def test_every_special_weight_of_16_bits_decides_as_its_value(
    witness: NumericWitness, profile: str
):
    for dtype in ("F16", "BF16"):
        w = specials(dtype)[:, None]
        for x in (0x3F80, 0, 0xFF80):  # 1, +0, -Inf
            operand, vector = dense(dtype, w), ("BF16", np.array([[x]], dtype=np.uint16))
            got = witness.linear(profile, operand.weight, vector)
            assert np.array_equal(got, wanted(profile, operand, vector))


@every_numeric_witness
@pytest.mark.parametrize("profile", SCALAR)
def test_an_overflow_is_an_infinity_that_later_terms_do_not_undo(
    witness: NumericWitness, profile: str
):
    top = (two(127), 1.0)
    pairs = [top, top, (-two(127), 1.0), (-two(127), 1.0), (-two(127), 1.0)]
    padded = [pair for term in pairs for pair in (term, *[(0.0, 0.0)] * 63)]  # in one lane
    exact = profile in ("exact", "f64.seq")
    assert of(witness, profile, padded) == (0xFF000000 if exact else INF)
    minus = [*padded, (-inf, 1.0)]
    lost = exact or profile.startswith("f32.lanes64")  # another lane: halves meet later
    assert of(witness, profile, minus) in ({NEGATIVE_INF, NAN} if lost else {NAN})


@every_numeric_witness
def test_products_that_overflow_are_infinities_only_where_they_are_rounded(
    witness: NumericWitness,
):
    pairs = [(two(100), two(100)), (-two(100), two(100)), (1.0, 1.0)]
    for name in SCALAR:
        want = {"exact": 0x3F800000, "f64.seq": 0x3F800000, "f32.fma": INF}.get(name, NAN)
        assert of(witness, name, pairs) == want, name
    under = [(two(-100), two(-100)), (two(-100), -two(-100))]
    assert {of(witness, name, under) for name in SCALAR} == {0}
    fused = [(-two(127), 1.0), (two(64), two(64))]
    assert of(witness, "f32.fma", fused) == 0x7F000000
    assert of(witness, "f32.seq", fused) == INF


@every_numeric_witness
@pytest.mark.parametrize("mode", ["merged", "split"])
@pytest.mark.parametrize("profile", SCALAR)
def test_merged_is_split_where_an_infinity_decides(
    witness: NumericWitness, profile: str, mode: str
):
    for operand, x in special_inputs()[:12]:
        got = witness.linear(f"{profile}+{mode}", operand.weight, x)
        assert np.array_equal(got, wanted(f"{profile}+merged", operand, x))
