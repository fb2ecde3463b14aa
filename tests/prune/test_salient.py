"""Unstructured outliers: the sorted choice, exact counts, ties, and CSR."""

import itertools

import numpy as np
import pytest

from nmref.errors import NmrefError
from nmref.pattern import NMPattern
from nmref.prune.choose.mask import split
from nmref.prune.choose.unstructured import to_csr, unstructured

SHAPES = [(1, 1), (1, 9), (5, 1), (3, 7), (8, 33)]
PLACES = ["matrix", "row"]


def naive_matrix(score, count):
    rows, columns = score.shape
    places = [(r, c) for r in range(rows) for c in range(columns)]
    chosen = set(sorted(places, key=lambda p: (-score[p], p))[:count])
    return np.array([[(r, c) in chosen for c in range(columns)] for r in range(rows)])


def naive_row(score, count):
    rows, columns = score.shape
    mask = np.zeros(score.shape, dtype=bool)
    for r in range(rows):
        here = count // rows + (1 if r < count % rows else 0)
        for c in sorted(range(columns), key=lambda c: (-score[r, c], c))[:here]:
            mask[r, c] = True
    return mask


NAIVE = {"matrix": naive_matrix, "row": naive_row}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_unstructured_is_the_sorted_choice(place, shape, levels):
    rng = np.random.default_rng(levels)
    score = rng.integers(0, levels, shape).astype(np.float32)  # ties, all equal at 1
    before = score.copy()
    for count in range(score.size + 1):
        mask = unstructured(score, count, place)
        assert mask.dtype == bool
        assert mask.sum() == count
        assert np.array_equal(mask, NAIVE[place](score, count)), count
    assert np.array_equal(score, before)


@pytest.mark.parametrize("place", PLACES)
def test_taking_more_outliers_gives_none_up(place):
    score = np.random.default_rng(2).random((4, 30)).astype(np.float32)
    masks = [unstructured(score, count, place) for count in range(0, 121, 4)]
    assert all((small <= large).all() for small, large in itertools.pairwise(masks))


def test_row_and_matrix_agree_on_one_row():
    score = np.random.default_rng(3).integers(0, 9, (1, 50)).astype(np.float32)
    for count in range(51):
        one = unstructured(score, count, "row")
        assert np.array_equal(one, unstructured(score, count, "matrix"))


def test_matrix_takes_what_no_row_limits():
    score = np.stack([np.arange(8), np.arange(8) + 100]).astype(np.float32)
    assert unstructured(score, 8, "matrix").sum(axis=1).tolist() == [0, 8]
    assert unstructured(score, 8, "row").sum(axis=1).tolist() == [4, 4]
    assert unstructured(score, 7, "row").sum(axis=1).tolist() == [4, 3]


def test_fewer_restrictions_keep_more_of_the_score():
    score = np.random.default_rng(4).random((6, 512)).astype(np.float32)
    _, structured = split(score, NMPattern(8, 16), NMPattern(16, 256))
    count = int(structured.sum())
    kept = [score[unstructured(score, count, place)].sum() for place in ("matrix", "row")]
    assert count == 6 * 32
    assert kept[0] >= kept[1] >= score[structured].sum()


@pytest.mark.parametrize("place", PLACES)
def test_unstructured_of_nothing(place):
    assert unstructured(np.zeros((0, 8), np.float32), 0, place).shape == (0, 8)
    assert unstructured(np.zeros((3, 0), np.float32), 0, place).shape == (3, 0)


@pytest.mark.parametrize("count", [-1, 25])
def test_unstructured_refuses_a_count_that_does_not_fit(count):
    message = rf"^T_ARGUMENT unstructured outliers: {count}, want 0 to 24$"
    with pytest.raises(NmrefError, match=message):
        unstructured(np.ones((3, 8), np.float32), count, "matrix")


def test_unstructured_refuses_another_place():
    message = r"^T_ARGUMENT place of outliers: 'structured', want 'matrix' or 'row'$"
    with pytest.raises(NmrefError, match=message):
        unstructured(np.ones((3, 8), np.float32), 2, "structured")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_unstructured_refuses_scores_that_are_not_finite(place, bad):
    score = np.ones((3, 8), np.float32)
    score[2, 1] = bad
    message = r"^T_SCORE unstructured outliers row 2 column 1: a score of (NaN|inf), want finite"
    with pytest.raises(NmrefError, match=message):
        unstructured(score, 2, place)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_csr_is_the_masked_matrix(shape):
    rng = np.random.default_rng(5)
    weight = rng.standard_normal(shape).astype(np.float32)
    for density in (0.0, 0.3, 1.0):
        mask = rng.random(shape) < density
        csr = to_csr(weight, mask)
        assert csr.dtype == np.float32
        assert csr.nnz == mask.sum()
        assert csr.has_canonical_format
        assert np.array_equal(csr.toarray(), np.where(mask, weight, np.float32(0)))


def test_csr_multiplies_like_its_matrix():
    rng = np.random.default_rng(6)
    weight = rng.integers(-8, 9, (7, 40)).astype(np.float32)
    mask = unstructured(np.abs(weight), 50, "matrix")
    x = rng.integers(-8, 9, 40).astype(np.float32)
    assert np.array_equal(to_csr(weight, mask) @ x, np.where(mask, weight, 0) @ x)


def test_csr_stores_a_chosen_zero():
    weight = np.array([[0, 1, 0], [0, 0, 2]], np.float32)
    mask = np.array([[True, True, False], [False, False, True]])
    csr = to_csr(weight, mask)
    assert csr.data.tolist() == [0, 1, 2]
    assert csr.indices.tolist() == [0, 1, 2]
    assert csr.indptr.tolist() == [0, 2, 3]


def test_csr_refuses_a_mask_of_another_shape():
    message = r"^T_ARGUMENT outlier mask: shape \[3\], want \[2, 3\]$"
    with pytest.raises(NmrefError, match=message):
        to_csr(np.ones((2, 3), np.float32), np.ones(3, bool))
