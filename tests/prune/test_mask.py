"""The N:M choice: laws, ties, tails, outliers first."""

import numpy as np
import pytest

from nmref.pattern import NMPattern
from nmref.prune.mask import split, top_n

PATTERNS = [NMPattern(*nm) for nm in ((1, 4), (2, 4), (3, 4), (4, 8), (8, 16), (16, 32), (16, 256))]


def naive_top_n(score, pattern, excluded):
    """Sort each block's real columns by (score descending, column ascending)."""
    rows, columns = score.shape
    mask = np.zeros(score.shape, dtype=bool)
    for row in range(rows):
        for first in range(0, columns, pattern.block):
            block = range(first, min(first + pattern.block, columns))
            free = [c for c in block if not excluded[row, c]]
            for column in sorted(free, key=lambda c: (-score[row, c], c))[: pattern.stored]:
                mask[row, column] = True
    return mask


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("columns", [1, 5, 16, 64, 172, 300])
def test_top_n_is_the_sorted_choice(pattern, columns):
    rng = np.random.default_rng(columns)
    score = rng.integers(0, 6, (4, columns)).astype(np.float32)  # ties everywhere
    excluded = rng.random((4, columns)) < 0.3
    assert np.array_equal(top_n(score, pattern, excluded), naive_top_n(score, pattern, excluded))


def test_top_n_keeps_n_not_prunes_n():
    score = np.array([[1, 2, 3, 4]], dtype=np.float32)
    assert top_n(score, NMPattern(1, 4)).tolist() == [[False, False, False, True]]
    assert top_n(score, NMPattern(3, 4)).tolist() == [[False, True, True, True]]


def test_split_takes_outliers_out_of_the_competition():
    score = np.tile(np.arange(256, dtype=np.float32), (3, 1))
    base, salient = split(score, NMPattern(8, 16), NMPattern(16, 256))
    assert salient is not None
    assert salient[:, 240:].all()
    assert salient.sum() == 3 * 16
    assert not (base & salient).any()
    assert not base[:, 240:].any()  # that block has nothing left
    assert (base[:, :240].reshape(3, 15, 16).sum(axis=-1) == 8).all()


def test_split_without_outliers_is_top_n():
    score = np.random.default_rng(0).random((2, 40)).astype(np.float32)
    base, salient = split(score, NMPattern(2, 4), None)
    assert salient is None
    assert np.array_equal(base, top_n(score, NMPattern(2, 4)))


def test_top_n_of_no_rows():
    assert top_n(np.zeros((0, 20), np.float32), NMPattern(2, 4)).shape == (0, 20)
