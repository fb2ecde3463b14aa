"""The Hessian of a layer's input: its sum, damping and the factor of its inverse."""

import numpy as np
import pytest

from nmref.errors import NmrefError
from nmref.prune.update.hessian import Hessian, damped, dead, gram, upper_inverse
from tests.prune.second_order import inputs

X = inputs(7, samples=4, tokens=5)


def collected(samples):
    hessian = Hessian()
    for x in samples:
        hessian.add(x)
    return hessian


def test_hessian_is_its_formula():
    wanted = [
        [
            2 / 4 * sum(float(x[t, i]) * float(x[t, j]) for x in X for t in range(5))
            for j in range(7)
        ]
        for i in range(7)
    ]
    found = collected(X).matrix()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert np.array_equal(found, found.T)


def test_hessian_is_the_running_mean_of_the_original():
    """H n/(n+1) + (2/(n+1)) X^T X, as SparseGPT's code updates it."""
    running = np.zeros((7, 7))
    for n, x in enumerate(X):
        running *= n / (n + 1)
        running += 2 / (n + 1) * (x.T.astype(np.float64) @ x)
    np.testing.assert_allclose(collected(X).matrix(), running, rtol=1e-5, atol=1e-5)


def test_merging_in_order_is_adding():
    products = [gram(x) for x in reversed(X)]
    merged = Hessian()
    for product in reversed(products):
        merged.merge(product)
    assert np.array_equal(merged.matrix(), collected(X).matrix())
    assert np.array_equal(products[-1], gram(X[0]))  # not changed


def test_samples_may_differ_in_length():
    found = collected([X[0], X[1][:2]]).matrix()
    np.testing.assert_allclose(found, X[0].T @ X[0] + X[1][:2].T @ X[1][:2], rtol=1e-5)


def test_hessian_of_nothing_and_of_other_columns():
    with pytest.raises(NmrefError, match=r"^T_ARGUMENT Hessian: no activations, want at least one"):
        Hessian().matrix()
    with pytest.raises(NmrefError, match=r"^T_ARGUMENT Hessian: 3 columns, want 7 columns$"):
        collected([X[0], X[1][:, :3]])


def test_damped_adds_to_the_diagonal():
    h = collected(X).matrix()
    wanted = h.copy()
    for i in range(7):
        wanted[i, i] = h[i, i] + np.float32(0.25) * np.mean([h[j, j] for j in range(7)])
    np.testing.assert_allclose(damped(h, 0.25), wanted, rtol=1e-6)
    assert np.array_equal(h, collected(X).matrix())  # not changed
    assert np.array_equal(damped(h, 0.0), h)


def test_damped_puts_one_on_dead_columns_first():
    h = np.diag([0.0, 3.0, 2.0]).astype(np.float32)
    assert dead(h).tolist() == [True, False, False]
    np.testing.assert_allclose(damped(h, 0.5), np.diag([2.0, 4.0, 3.0]))  # the mean is 2


@pytest.mark.parametrize("columns", [1, 2, 7, 60])
def test_upper_inverse_is_the_factor_of_the_inverse(columns):
    h = damped(collected(inputs(columns)).matrix(), 0.01)
    u = upper_inverse(h)
    assert u.dtype == np.float32
    assert u.flags.c_contiguous
    assert np.array_equal(u, np.triu(u))
    assert (np.diagonal(u) > 0).all()
    np.testing.assert_allclose(u.astype(np.float64) @ h @ u.T, np.eye(columns), atol=1e-4)
    inverse = np.linalg.inv(h.astype(np.float64))
    np.testing.assert_allclose(u, np.linalg.cholesky(inverse).T, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_hessian_that_is_not_finite_is_refused(bad):
    h = np.eye(3, dtype=np.float32)
    h[1, 2] = bad
    message = rf"^T_SCORE Hessian row 1 column 2: {bad}, want finite activations$"
    for use in (lambda: damped(h, 0.01), lambda: upper_inverse(h)):
        with pytest.raises(NmrefError, match=message):
            use()


def test_a_hessian_that_is_not_positive_definite_is_refused():
    x = X[0][:3]  # 3 tokens for 7 columns
    h = gram(x)
    h[0] = h[:, 0] = 0
    message = r"^T_SCORE Hessian: not positive definite, want a larger damping or more samples$"
    with pytest.raises(NmrefError, match=message):
        upper_inverse(h)
    upper_inverse(damped(h, 0.01))


def test_a_hessian_in_another_order():
    order = np.array([3, 0, 6, 1, 5, 4, 2])
    before = collected(X).matrix()
    assert np.array_equal(collected(X).ordered(order).matrix(), before[np.ix_(order, order)])
    assert Hessian().ordered(order).sum is None


def test_samples_count_when_sums_are_merged():
    parts = [collected(X[:1]), collected(X[1:])]
    parts[0].merge(parts[1].sum, 3)
    np.testing.assert_allclose(parts[0].matrix(), collected(X).matrix(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("damping", [1e39, 1e40, 1e308])
def test_a_damping_that_overflows(damping):
    message = r"^T_ARGUMENT damping: \S+ of a mean of \S+, want a sum that float32 holds$"
    with pytest.raises(NmrefError, match=message):
        damped(np.eye(3, dtype=np.float32), damping)


def test_arguments_are_checked():
    with pytest.raises(NmrefError, match=r"^T_ARGUMENT Hessian: shape \[2, 3\], want \[K, K\]$"):
        damped(np.zeros((2, 3), np.float32), 0.01)
    for bad in (-0.1, np.nan, np.inf):
        with pytest.raises(NmrefError, match=rf"^T_ARGUMENT damping: {bad}, want 0 or more$"):
            damped(np.eye(2, dtype=np.float32), bad)
