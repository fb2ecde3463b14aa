"""The N:M choice: laws, ties, tails, outliers first; every twin under one test body."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nmref.errors import NmrefError
from nmref.pattern import NMPattern
from nmref.prune.choose.mask import plain_top_n, split, top_n

PATTERNS = [NMPattern(*nm) for nm in ((1, 4), (2, 4), (3, 4), (4, 8), (8, 16), (16, 32), (16, 256))]


def naive_top_n(score, pattern, excluded=None):
    """Sort each block's real columns by (score descending, column ascending)."""
    rows, columns = score.shape
    mask = np.zeros(score.shape, dtype=bool)
    closed = np.zeros(score.shape, dtype=bool) if excluded is None else excluded
    for row in range(rows):
        for first in range(0, columns, pattern.block):
            block = range(first, min(first + pattern.block, columns))
            free = [c for c in block if not closed[row, c] and score[row, c] > -np.inf]
            for column in sorted(free, key=lambda c: (-score[row, c], c))[: pattern.stored]:
                mask[row, column] = True
    return mask


every_twin = pytest.mark.parametrize(
    "choose", [naive_top_n, plain_top_n, top_n], ids=["naive", "numpy", "numba"]
)


@every_twin
def test_top_n_keeps_n_not_prunes_n(choose):
    score = np.array([[1, 2, 3, 4]], dtype=np.float32)
    assert choose(score, NMPattern(1, 4)).tolist() == [[False, False, False, True]]
    assert choose(score, NMPattern(3, 4)).tolist() == [[False, True, True, True]]


@every_twin
def test_top_n_gives_ties_to_the_lower_column(choose):
    score = np.array([[-0.0, 0.0, 7, 0.0, 5, 5, -1, 5]], dtype=np.float32)
    assert choose(score, NMPattern(2, 4)).astype(int).tolist() == [[1, 0, 1, 0, 1, 1, 0, 0]]


@every_twin
def test_top_n_never_keeps_minus_infinity_nan_or_excluded(choose):
    inf, nan = np.inf, np.nan
    score = np.array([[nan, -inf, -1, 9, -nan, inf, inf, inf]], dtype=np.float32)
    excluded = np.array([[0, 0, 0, 1, 0, 0, 0, 0]], dtype=bool)
    mask = choose(score, NMPattern(2, 4), excluded)
    assert mask.astype(int).tolist() == [[0, 0, 1, 0, 0, 1, 1, 0]]


@every_twin
def test_top_n_orders_every_kind_of_number(choose):
    """Subnormal, neighbouring and negative numbers: N largest of 8 for every N."""
    tiny = np.float32(1e-45)
    score = np.array([[-3, -2, -tiny, 0, tiny, 2, np.nextafter(np.float32(2), 3), np.inf]])
    for stored in range(1, 8):
        mask = choose(score.astype(np.float32), NMPattern(stored, 8))
        assert np.flatnonzero(mask).tolist() == list(range(8 - stored, 8))


@every_twin
def test_top_n_of_no_rows(choose):
    assert choose(np.zeros((0, 20), np.float32), NMPattern(2, 4)).shape == (0, 20)


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("columns", [1, 5, 16, 64, 172, 300])
def test_top_n_is_the_sorted_choice(pattern, columns):
    rng = np.random.default_rng(columns)
    score = rng.integers(0, 6, (4, columns)).astype(np.float32)  # ties everywhere
    excluded = rng.random((4, columns)) < 0.3
    wanted = naive_top_n(score, pattern, excluded)
    assert np.array_equal(top_n(score, pattern, excluded), wanted)
    assert np.array_equal(plain_top_n(score, pattern, excluded), wanted)


@settings(deadline=None, derandomize=True, database=None)  # the first call compiles
@given(
    arrays(
        np.float32, st.tuples(st.integers(1, 5), st.integers(1, 70)), elements=st.floats(width=32)
    ),
    st.sampled_from(PATTERNS),
    st.integers(0, 2**32),
)
def test_top_n_is_the_sorted_choice_of_any_floats(score, pattern, seed):
    excluded = np.random.default_rng(seed).random(score.shape) < 0.1
    wanted = plain_top_n(score, pattern, excluded)
    assert np.array_equal(top_n(score, pattern, excluded), wanted)


def test_top_n_of_more_blocks_than_lanes_and_of_any_layout():
    score = np.random.default_rng(1).standard_normal((172, 75)).astype(np.float32).T
    for pattern in (NMPattern(2, 4), NMPattern(8, 16)):
        assert np.array_equal(top_n(score, pattern), plain_top_n(score, pattern))


def test_top_n_refuses_other_shapes():
    score, pattern = np.zeros((2, 4), np.float32), NMPattern(2, 4)
    message = r"^T_ARGUMENT top_n: score \[2, 4\], excluded \[2, 5\], want the same \[R, K\]$"
    with pytest.raises(NmrefError, match=message):
        top_n(score, pattern, np.zeros((2, 5), dtype=bool))
    with pytest.raises(NmrefError, match=r"^T_ARGUMENT top_n: score \[8\], excluded \[0, 0\]"):
        top_n(score.reshape(8), pattern)


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
