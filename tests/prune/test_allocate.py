"""OWL: shares of large scores, and N of every layer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmref.errors import NmrefError
from nmref.pattern import NMPattern
from nmref.prune.choose.allocate import owl_shares, stored

EIGHT = NMPattern(8, 16)


def test_shares_are_of_all_scores_of_a_layer_together():
    rng = np.random.default_rng(0)
    scores = [np.exp(2 * rng.standard_normal(shape)) for shape in ((3, 8), (5, 4))]
    values = [float(value) for matrix in scores for row in matrix for value in row]
    mean = sum(values) / len(values)
    wanted = 100 * sum(value > 3 * mean for value in values) / len(values)
    assert wanted > 0
    assert owl_shares([matrix.astype(np.float32) for matrix in scores], 3) == wanted
    assert owl_shares((matrix.astype(np.float32) for matrix in scores), 3) == wanted


def test_shares_by_hand():
    scores = np.array([[0, 0, 0, 4, 6]], dtype=np.float32)  # mean 2
    assert owl_shares([scores], 2) == 20.0  # above, not at
    assert owl_shares([scores], 1.9) == 40.0
    assert owl_shares([np.zeros((2, 2), np.float32)], 5) == 0.0


def test_shares_of_what_cannot_be_ranked():
    with pytest.raises(NmrefError, match=r"^T_ARGUMENT OWL: no scores, want those of a layer$"):
        owl_shares([], 5)
    for bad in (np.nan, np.inf):
        message = rf"^T_SCORE OWL: a mean score of {bad}, want a finite one$"
        with pytest.raises(NmrefError, match=message):
            owl_shares([np.array([[1, bad]], dtype=np.float32)], 5)


def in_order(shares, pattern, span):
    """N of the layers 0, 1, 2 ... with these shares."""
    found = stored(dict(enumerate(shares)), pattern, span)
    assert list(found) == list(range(len(shares)))
    return list(found.values())


def naive_stored(shares, n, span):
    """prune_n - t of the original, in what is stored; halves to even, as Python rounds."""
    least, most = min(shares), max(shares)
    t = [span * (d - least) / (most - least) for d in shares]
    return [n + round(value - sum(t) / len(t)) for value in t]


def test_stored_is_its_formula():
    rng = np.random.default_rng(1)
    for layers in (2, 5, 30):
        shares = (rng.random(layers) * 7).tolist()
        for span in (0, 1, 2, 5.5):
            assert in_order(shares, EIGHT, span) == naive_stored(shares, 8, span)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=40), st.floats(0, 7))
def test_stored_grows_with_the_share_and_stays_near_n(shares, span):
    counts = in_order(shares, EIGHT, span)
    order = np.argsort(shares, kind="stable")
    assert (np.diff(np.array(counts)[order]) >= 0).all()
    assert max(counts) - min(counts) <= span + 1
    assert abs(np.mean(counts) - 8) <= 0.5
    assert in_order(shares[::-1], EIGHT, span)[::-1] == counts


def test_equal_layers_keep_n():
    assert in_order([3.0, 3.0, 3.0], EIGHT, 4) == [8, 8, 8]
    assert in_order([3.0], EIGHT, 4) == [8]


def test_stored_refuses_what_is_no_pattern():
    pattern = NMPattern(1, 4)
    message = r"^T_ARGUMENT OWL layer 0: span 2 gives N = 0, want 1 <= N < 4$"
    with pytest.raises(NmrefError, match=message):
        in_order([1.0, 5.0], pattern, 2)
    with pytest.raises(NmrefError, match=r"^T_ARGUMENT OWL layer 1: span 2 gives N = 4, want"):
        in_order([1.0, 5.0], NMPattern(3, 4), 2)
    for span in (17, 1e300):
        with pytest.raises(NmrefError, match=r"^T_ARGUMENT OWL span: \S+, want at most 16, M$"):
            in_order([1.0, 2.0], EIGHT, span)
        assert in_order([2.0, 2.0], EIGHT, span) == [8, 8]
    for bad in (-1, float("nan"), float("inf")):
        with pytest.raises(NmrefError, match=rf"^T_ARGUMENT OWL span: {bad}, want 0 or more$"):
            in_order([1.0, 2.0], EIGHT, bad)
    for shares in ([], [1.0, float("nan")]):
        with pytest.raises(NmrefError, match=r"^T_ARGUMENT OWL: shares \[.*\], want a finite one"):
            in_order(shares, EIGHT, 2)


def test_a_layer_that_is_left_alone_counts_nowhere():
    assert stored({2: 1.0, 4: 2.0, 9: 3.0}, EIGHT, 4) == {2: 6, 4: 8, 9: 10}
    with pytest.raises(NmrefError, match=r"^T_ARGUMENT OWL layer 7: span 16 gives N = 0, want"):
        stored({7: 1.0, 9: 3.0}, EIGHT, 16)
