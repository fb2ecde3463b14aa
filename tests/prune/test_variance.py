"""Variance correction against sums written out, its laws, and the factors known for Gaussians."""

import itertools
import math

import numpy as np
import pytest

from nmref.errors import NmrefError
from nmref.pattern import NMPattern
from nmref.prune.choose.mask import split
from nmref.prune.settings import Correction
from nmref.prune.update.variance import correct, factor

SWITCHES = [
    Correction(numerator, scope)
    for numerator, scope in itertools.product(("dense", "rest"), ("matrix", "row"))
]
HALF = [NMPattern(2, 4), NMPattern(8, 16)]
OUTLIERS = [None, NMPattern(4, 256), NMPattern(16, 256)]


def gaussian(seed, shape=(8, 300)):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def naive_variance(values):
    mean = math.fsum(values) / len(values)
    return math.fsum((v - mean) ** 2 for v in values) / len(values)


def naive_factor(dense, base, salient, how):
    """Rows as lists of floats; zeros of the base count, outliers do not."""

    def of(rows):
        rest = [[c for c in range(dense.shape[1]) if not salient[r, c]] for r in rows]
        pairs = [(r, c) for r, columns in zip(rows, rest, strict=True) for c in columns]
        everything = [(r, c) for r in rows for c in range(dense.shape[1])]
        over = pairs if how.numerator == "rest" else everything
        before = naive_variance([float(dense[p]) for p in over])
        after = naive_variance([float(dense[p]) if base[p] else 0.0 for p in pairs])
        return math.sqrt(before / after)

    if how.scope == "matrix":
        return of(range(len(dense)))
    return [[of([r])] for r in range(len(dense))]


@pytest.mark.parametrize("how", SWITCHES, ids=str)
@pytest.mark.parametrize("outliers", OUTLIERS, ids=str)
def test_factor_is_its_formula(how, outliers):
    dense = gaussian(1) + np.float32(0.1)
    base, salient = split(np.abs(dense), NMPattern(1, 4), outliers)
    none = np.zeros_like(base) if salient is None else salient
    got = factor(dense, base, salient, how)
    np.testing.assert_allclose(got, naive_factor(dense, base, none, how), rtol=1e-6)
    assert got.dtype == np.float32
    assert got.shape == (() if how.scope == "matrix" else (8, 1))


@pytest.mark.parametrize("how", SWITCHES, ids=str)
@pytest.mark.parametrize("outliers", OUTLIERS, ids=str)
def test_corrected_base_has_the_variance_it_should(how, outliers):
    dense = gaussian(2)
    base, salient = split(np.abs(dense), NMPattern(2, 4), outliers)
    pruned = np.where(base if salient is None else base | salient, dense, np.float32(0))
    corrected = correct(pruned, base, factor(dense, base, salient, how))
    rest = np.ones_like(base) if salient is None else ~salient
    lines = [slice(None)] if how.scope == "matrix" else range(len(dense))
    for line in lines:
        over = dense[line] if how.numerator == "dense" else dense[line][rest[line]]
        wanted = over.astype(np.float64).var()
        assert math.isclose(
            corrected[line][rest[line]].astype(np.float64).var(), wanted, rel_tol=1e-5
        )


@pytest.mark.parametrize("how", SWITCHES, ids=str)
def test_correct_touches_the_base_alone(how):
    dense = gaussian(3)
    base, salient = split(np.abs(dense), NMPattern(8, 16), NMPattern(4, 256))
    pruned = np.where(base | salient, dense, np.float32(0))
    before = pruned.copy()
    times = factor(dense, base, salient, how)
    corrected = correct(pruned, base, times)
    assert np.array_equal(corrected[~base].view(np.uint32), pruned[~base].view(np.uint32))
    assert np.array_equal(corrected[base], (pruned * times)[base])
    assert np.array_equal(pruned, before)
    assert corrected.dtype == np.float32


@pytest.mark.parametrize("how", SWITCHES, ids=str)
def test_factor_does_not_depend_on_the_unit_of_the_weights(how):
    dense = gaussian(4)
    base, salient = split(np.abs(dense), NMPattern(2, 4), NMPattern(4, 256))
    expected = factor(dense, base, salient, how)
    for unit in (2.0**-40, 2.0**40):
        assert np.array_equal(factor(dense * np.float32(unit), base, salient, how), expected)


@pytest.mark.parametrize("how", SWITCHES, ids=str)
def test_factor_of_weights_around_zero_is_at_least_one(how):
    """Zeros can only lower the mean square; with every weight's negative there the mean is 0."""
    half = gaussian(5)
    base, salient = split(np.random.default_rng(5).random(half.shape), NMPattern(2, 4), None)
    assert salient is None
    both = (np.concatenate([half, -half], axis=1), np.concatenate([base, base], axis=1))
    assert (factor(*both, None, how) >= 1).all()


@pytest.mark.parametrize("how", SWITCHES, ids=str)
def test_factor_of_everything_kept_is_one(how):
    dense = gaussian(6, (3, 2))  # a tail of 2 columns keeps both
    base, _ = split(np.abs(dense), NMPattern(2, 4), None)
    assert base.all()
    assert (factor(dense, base, None, how) == 1).all()


@pytest.mark.parametrize("scope", ["matrix", "row"])
def test_numerators_are_the_same_without_outliers(scope):
    dense = gaussian(7)
    base, _ = split(np.abs(dense), NMPattern(2, 4), None)
    none = np.zeros_like(base)
    every = [
        factor(dense, base, salient, Correction(numerator, scope))
        for salient, numerator in itertools.product((None, none), ("dense", "rest"))
    ]
    assert all(np.array_equal(one, every[0]) for one in every)


def test_the_default_is_the_rest_of_the_matrix():
    dense = gaussian(8)
    base, salient = split(np.abs(dense), NMPattern(2, 4), NMPattern(4, 256))
    default = factor(dense, base, salient, Correction())
    assert default == factor(dense, base, salient, Correction("rest", "matrix"))
    assert default < factor(dense, base, salient, Correction("dense", "matrix"))


@pytest.mark.parametrize("numerator", ["dense", "rest"])
def test_one_row_is_its_own_matrix(numerator):
    dense = gaussian(9)
    base, salient = split(np.abs(dense), NMPattern(2, 4), NMPattern(4, 256))
    rows = factor(dense, base, salient, Correction(numerator, "row"))
    for r in range(len(dense)):
        line = slice(r, r + 1)
        alone = factor(dense[line], base[line], salient[line], Correction(numerator, "matrix"))
        assert math.isclose(rows[r, 0], alone, rel_tol=1e-6)


@pytest.mark.parametrize("how", SWITCHES, ids=str)
def test_factor_after_a_solver_looks_at_its_base_alone(how):
    dense = gaussian(10)
    base, salient = split(np.abs(dense), NMPattern(2, 4), NMPattern(4, 256))
    plain = np.where(base | salient, dense, np.float32(0))
    expected = factor(dense, base, salient, how)
    assert np.array_equal(factor(dense, base, salient, how, pruned=plain), expected)
    elsewhere = np.where(base, plain, np.float32(99))
    assert np.array_equal(factor(dense, base, salient, how, pruned=elsewhere), expected)
    halved = np.where(base, plain / 2, plain)
    assert np.array_equal(factor(dense, base, salient, how, pruned=halved), expected * 2)


@pytest.mark.parametrize("how", SWITCHES, ids=str)
@pytest.mark.parametrize("value", [0.0, 0.1, -3.3e-5, 7.7e12])
def test_factor_of_equal_weights_is_one(how, value):
    dense = np.full((3, 300), value, np.float32)
    base, salient = split(np.abs(dense), NMPattern(2, 4), NMPattern(4, 256))
    assert (factor(dense, base, salient, how) == 1).all()


@pytest.mark.parametrize("how", SWITCHES, ids=str)
def test_factor_of_an_empty_base_is_one(how):
    dense = gaussian(11, (3, 4))  # 4:256 takes all 4 columns
    base, salient = split(np.abs(dense), NMPattern(2, 4), NMPattern(4, 256))
    assert not base.any()
    assert (factor(dense, base, salient, how) == 1).all()


def test_factor_of_a_row_of_zeros_is_one_and_the_others_keep_theirs():
    dense = gaussian(12)
    base, _ = split(np.abs(dense), NMPattern(2, 4), None)
    before = factor(dense, base, None, Correction("rest", "row"))
    dense[3] = 0
    after = factor(dense, base, None, Correction("rest", "row"))
    assert after[3] == 1
    assert np.array_equal(np.delete(after, 3), np.delete(before, 3))


@pytest.mark.parametrize(
    ("pattern", "outliers", "dense", "rest"),
    [
        ("2:4", None, 1.074, 1.074),
        ("2:4", "4:256", 1.137, 1.077),
        ("2:4", "16:256", 1.268, 1.078),
        ("8:16", None, 1.047, 1.047),
        ("8:16", "4:256", 1.107, 1.049),
        ("8:16", "16:256", 1.232, 1.047),
    ],
)
def test_factor_of_gaussian_weights_is_the_known_one(pattern, outliers, dense, rest):
    """The figures of the module's text."""
    weight = gaussian(13, (256, 1024))
    chosen = NMPattern.parse(outliers) if outliers else None
    masks = split(np.abs(weight), NMPattern.parse(pattern), chosen)
    assert abs(factor(weight, *masks, Correction("dense")) - dense) < 4e-3
    assert abs(factor(weight, *masks, Correction("rest")) - rest) < 4e-3


def test_the_factor_of_least_squared_error_is_one():
    """Said in the module's text: for inputs of unit covariance any other factor adds error."""
    dense = gaussian(14)
    base, _ = split(np.abs(dense), NMPattern(2, 4), None)
    pruned = np.where(base, dense, np.float32(0))

    def error(times):
        return float(np.square(dense - correct(pruned, base, np.float32(times))).sum())

    vc = float(factor(dense, base, None, Correction()))
    assert error(1) < error(0.99)
    assert error(1) < error(1.01) < error(vc)


def test_factor_refuses_masks_that_share_a_position():
    dense = gaussian(15, (2, 8))
    base, salient = np.zeros((2, 8), bool), np.zeros((2, 8), bool)
    base[1, 3:], salient[1, 5] = True, True
    message = r"^T_ARGUMENT base mask row 1 column 5: also salient, want one of the two$"
    with pytest.raises(NmrefError, match=message):
        factor(dense, base, salient, Correction())


@pytest.mark.parametrize("which", ["base mask", "salient mask", "pruned weight"])
def test_factor_refuses_other_shapes(which):
    dense, mask = gaussian(16, (2, 8)), np.zeros((2, 8), bool)
    given = {"base mask": mask, "salient mask": mask, "pruned weight": dense}
    given[which] = given[which][:1]
    message = rf"^T_ARGUMENT {which}: shape \[1, 8\], want \[2, 8\]$"
    with pytest.raises(NmrefError, match=message):
        factor(
            dense, given["base mask"], given["salient mask"], Correction(), given["pruned weight"]
        )


def test_correct_refuses_what_does_not_fit():
    weight, mask = gaussian(17, (2, 8)), np.ones((2, 8), bool)
    message = r"^T_ARGUMENT variance factor: shape \[8\], want a scalar or \[2, 1\]$"
    with pytest.raises(NmrefError, match=message):
        correct(weight, mask, np.ones(8, np.float32))
    message = r"^T_ARGUMENT base mask: shape \[2, 7\], want \[2, 8\]$"
    with pytest.raises(NmrefError, match=message):
        correct(weight, mask[:, :7], np.float32(1))
    message = r"^T_ARGUMENT variance factor: inf, want a finite one$"
    with pytest.raises(NmrefError, match=message):
        correct(weight, mask, np.array([[1], [np.inf]], np.float32))
    message = r"^T_ARGUMENT variance factor: nan, want a finite one$"
    with pytest.raises(NmrefError, match=message):
        correct(weight, mask, np.float32(np.nan))
