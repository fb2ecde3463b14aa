"""ALPS against its formulas in float64, exact solutions, and its laws."""

import numpy as np
import pytest

from nmref.errors import NmrefError
from nmref.pattern import NMPattern
from nmref.prune.choose.mask import top_n
from nmref.prune.update import alps as module
from nmref.prune.update.alps import Spectrum, alps, growth, refit
from nmref.prune.update.hessian import damped
from nmref.prune.update.sparsegpt import sparsegpt
from tests.prune.second_order import exact, layer, loss

HALF = NMPattern(2, 4)


def naive_nearest(z, pattern, outside):
    """Rows of numbers -> the N largest sizes of each block, and what is outside; and the mask."""
    mask = [[False] * len(row) for row in z]
    for r, row in enumerate(z):
        for first in range(0, len(row), pattern.block):
            block = range(first, min(first + pattern.block, len(row)))
            free = sorted((c for c in block if not outside[r][c]), key=lambda c: (-abs(row[c]), c))
            for c in free[: pattern.stored]:
                mask[r][c] = True
    kept = np.array(mask) | outside
    return np.where(kept, z, 0.0), np.array(mask)


def naive_admm(weight, h, pattern, outside, iterations):
    """The module's three lines with solves in place of the spectrum; then the exact weights."""
    h = h.astype(np.float64)
    h = h + 0.01 * np.diagonal(h).mean() * np.eye(len(h))
    s = np.sqrt(np.diagonal(h))
    matrix, dense = h / np.outer(s, s), weight.astype(np.float64) * s
    first = naive_nearest(dense, pattern, outside)
    (d, mask), v, rho, grown = first, np.zeros_like(dense), 0.1, False
    before = mask
    for step in range(1, iterations + 1):
        right = dense @ matrix - v + rho * d
        b = np.linalg.solve(matrix + rho * np.eye(len(h)), right.T).T
        d, mask = naive_nearest(b + v / rho, pattern, outside)
        v = v + rho * (b - d)
        if step % 3 == 0:
            change = (mask != before).sum() / first[1].sum()
            if change <= 0.005 and not grown:
                rho /= 5
                (d, mask), v = first, np.zeros_like(dense)
            elif change == 0 or (step > 30 and change < 0.0003):
                break
            else:
                grown = True
                rho *= 1.3 if change > 0.1 else 1.2 if change > 0.005 else 1.1
            before = mask
    return exact(weight, h, mask | outside), mask


def outside(shape, share=0.1, seed=5):
    return np.random.default_rng(seed).random(shape) < share


@pytest.mark.parametrize("pattern", ["1:4", "2:4", "4:8", "8:16"])
@pytest.mark.parametrize("iterations", [1, 2, 3, 10, 300])
@pytest.mark.parametrize("columns", [32, 44])
def test_alps_is_its_formulas(pattern, iterations, columns):
    weight, h = layer(4, columns, seed=columns)
    pattern = NMPattern.parse(pattern)
    for salient in (None, outside(weight.shape)):
        given = np.zeros(weight.shape, dtype=bool) if salient is None else salient
        wanted, mask = naive_admm(weight, h, pattern, given, iterations)
        found, base = alps(weight, h, pattern, salient=salient, iterations=iterations)
        assert found.dtype == np.float32
        assert np.array_equal(base, mask)
        if iterations == 300:  # before that, conjugate gradients have more to do than they may
            np.testing.assert_allclose(found, wanted, atol=0.03)


def test_rho_starts_smaller_where_it_would_hold_the_mask(monkeypatch):
    """It starts over, as if it had begun with the smaller one."""
    weight, h = layer(8, 32)
    seen, inverse = [], Spectrum.inverse
    monkeypatch.setattr(Spectrum, "inverse", lambda s, rho: (seen.append(rho), inverse(s, rho))[1])
    results = []
    for rho in (62.5, 2.5):
        monkeypatch.setattr(module, "FIRST_RHO", rho)
        results.append(alps(weight, h, HALF))
    assert seen[:4] == [62.5, 12.5, 2.5, 3.0]
    assert results[0][0].tobytes() == results[1][0].tobytes()
    assert np.array_equal(results[0][1], results[1][1])


def test_a_small_change_ends_it_only_after_step_thirty(monkeypatch):
    weight, h = layer(64, 64)
    seen, inverse = [], Spectrum.inverse
    monkeypatch.setattr(Spectrum, "inverse", lambda s, rho: (seen.append(rho), inverse(s, rho))[1])
    looks = []
    for settled in (module.SETTLED, 1.0):
        monkeypatch.setattr(module, "SETTLED", settled)
        seen.clear()
        alps(weight, h, NMPattern(8, 16))
        looks.append(len(seen))
    assert looks[0] > 11
    assert looks[1] == 11  # one inverse at the start and after every look but the last, at 33


def test_growth_of_rho():
    assert [growth(c) for c in (1.0, 0.11, 0.1, 0.006, 0.005, 1e-9)] == [
        1.3,
        1.3,
        1.2,
        1.2,
        1.1,
        1.1,
    ]


def test_alps_loses_less_than_sparsegpt():
    for pattern in (HALF, NMPattern(8, 16)):
        weight, h = layer(32, 64)
        lost = loss(weight, alps(weight, h, pattern)[0], h)
        assert lost < 0.9 * loss(weight, sparsegpt(weight, h, pattern)[0], h)


def test_alps_keeps_n_and_what_is_salient():
    weight, h = layer(8, 172)
    salient, pattern = outside(weight.shape), NMPattern(8, 16)
    found, base = alps(weight, h, pattern, salient=salient)
    assert not (base & salient).any()
    assert not found[~(base | salient)].any()
    assert found[base | salient].all()
    for first in range(0, 172, 16):
        group = slice(first, first + 16)
        free = (~salient[:, group]).sum(axis=1)
        assert np.array_equal(base[:, group].sum(axis=1), np.minimum(free, 8))


def test_alps_with_a_given_mask_solves_for_the_weights():
    weight, h = layer(6, 40)
    salient = outside(weight.shape)
    mask = top_n(np.abs(weight), NMPattern(4, 8), salient)
    before = mask.copy()
    found, base = alps(weight, h, HALF, salient=salient, mask=mask)
    assert np.array_equal(base, before)
    assert np.array_equal(mask, before)
    assert not found[~(mask | salient)].any()
    wanted = exact(weight, damped(h, 0.01), mask | salient)
    np.testing.assert_allclose(found, wanted, atol=0.01)
    lost, least = (loss(weight, w, damped(h, 0.01)) for w in (found, wanted))
    assert lost < least * (1 + 1e-4)


def test_refit_is_stationary_and_never_gets_worse():
    weight, h = layer(6, 40)
    matrix, kept = Spectrum.of(h).matrix, top_n(np.abs(weight), HALF)
    lost = [loss(weight, refit(weight, matrix, kept, weight, n), matrix) for n in (0, 1, 3, 10, 99)]
    assert lost == sorted(lost, reverse=True)
    assert np.array_equal(refit(weight, matrix, kept, weight, 0), np.where(kept, weight, 0))
    best = refit(weight, matrix, kept, weight, 99)
    assert np.abs(((weight - best) @ matrix)[kept]).max() < 0.01


def test_refit_ends_when_there_is_nothing_left_to_do():
    weight, h = layer(6, 40)
    matrix, everything = Spectrum.of(h).matrix, np.ones(weight.shape, dtype=bool)
    assert np.array_equal(refit(weight, matrix, everything, weight, 10), weight)
    weight[3] = 0  # a row that is solved from the beginning
    kept = top_n(np.abs(weight), HALF)
    found = refit(weight, matrix, kept, weight, 50)
    assert not found[3].any()
    np.testing.assert_allclose(found, exact(weight, matrix, kept), atol=0.01)


def test_alps_of_independent_inputs_is_a_choice_by_wandas_score():
    weight, _ = layer(5, 32)
    h = np.diag(np.linspace(1, 3, 32)).astype(np.float32)
    found, base = alps(weight, h, HALF, damping=0.0, iterations=0)
    assert np.array_equal(base, top_n(np.abs(weight) * np.sqrt(np.diagonal(h)), HALF))
    np.testing.assert_allclose(found, np.where(base, weight, 0), rtol=1e-6)
    later, _ = alps(weight, h, HALF, damping=0.0)  # ADMM only comes near the best mask
    assert loss(weight, later, h) < 1.05 * loss(weight, found, h)


def test_alps_leaves_a_sparse_weight_as_it_is():
    weight, h = layer(5, 32)
    mask = top_n(np.abs(weight), HALF)
    sparse = np.where(mask, weight, np.float32(0))
    found, base = alps(sparse, h, HALF)
    assert np.array_equal(base, mask)
    np.testing.assert_allclose(found, sparse, rtol=1e-5, atol=1e-6)


def test_nothing_left_for_the_base():
    weight, h = layer(5, 32)
    everything = np.ones(weight.shape, dtype=bool)
    found, base = alps(weight, h, HALF, salient=everything)
    assert not base.any()
    np.testing.assert_allclose(found, weight, atol=1e-4)


def test_a_shared_spectrum_changes_nothing():
    weight, h = layer(5, 32)
    alone, shared = alps(weight, h, HALF, damping=0.1), alps(weight, Spectrum.of(h, 0.1), HALF)
    assert alone[0].tobytes() == shared[0].tobytes()
    assert np.array_equal(alone[1], shared[1])


def test_spectrum_is_the_normalised_hessian():
    _, h = layer(5, 32)
    spectrum, wide = Spectrum.of(h, 0.05), damped(h, 0.05).astype(np.float64)
    s = spectrum.scale.astype(np.float64)
    np.testing.assert_allclose(np.diagonal(spectrum.matrix), 1, rtol=1e-6)
    np.testing.assert_allclose(spectrum.matrix * np.outer(s, s), wide, rtol=1e-5, atol=1e-5)
    for rho in (0.1, 7.0):
        product = spectrum.inverse(rho) @ (spectrum.matrix + np.float32(rho) * np.eye(32))
        np.testing.assert_allclose(product, np.eye(32), atol=1e-4)


def test_alps_changes_nothing_it_is_given():
    weight, h = layer(4, 32)
    copies = weight.copy(), h.copy()
    alps(weight, h, HALF)
    assert np.array_equal(weight, copies[0])
    assert np.array_equal(h, copies[1])


def test_weights_of_dead_columns_become_zero():
    weight, h = layer(4, 32)
    h[[3, 17]] = h[:, [3, 17]] = 0
    found, base = alps(weight * 10, h / 1000, HALF)  # where 1 would be a large diagonal
    assert not found[:, [3, 17]].any()
    assert not base[:, [3, 17]].any()
    assert (base.reshape(4, 8, 4).sum(axis=-1) == 2).all()


@pytest.mark.parametrize("given", [False, True])
def test_salient_weights_of_dead_columns_become_zero(given):
    for seed in range(6):
        weight, h = layer(4, 32)
        weight += np.random.default_rng(seed).normal(size=weight.shape).astype(np.float32)
        h[[3, 17]] = h[:, [3, 17]] = 0
        salient = np.zeros(weight.shape, dtype=bool)
        salient[:, [3, 5, 17]] = True
        mask = top_n(np.abs(weight), HALF, salient) if given else None
        found, _ = alps(weight, h, HALF, salient=salient, mask=mask)
        assert not found[:, [3, 17]].any()
        assert found[:, 5].all()


def test_alps_refuses_what_does_not_fit():
    weight, h = layer(4, 32)
    salient = np.ones(weight.shape, dtype=bool)
    with pytest.raises(NmrefError, match=r"^T_ARGUMENT mask: a salient weight in it, want none$"):
        alps(weight, h, HALF, salient=salient, mask=salient)
    with pytest.raises(
        NmrefError, match=r"^T_ARGUMENT solver: weight \[4, 32\], Hessian \[31, 31\]"
    ):
        alps(weight, h[1:, 1:], HALF)
    with pytest.raises(NmrefError, match=r"^T_ARGUMENT damping: -1, want 0 or more$"):
        alps(weight, h, HALF, damping=-1)
    weight[1, 2] = np.inf
    with pytest.raises(NmrefError, match=r"^T_TENSOR weight row 1 column 2: inf, want a finite"):
        alps(weight, h, HALF)


@pytest.mark.parametrize("change", [{(0, 0): -1.0}, {(0, 1): 9.0, (1, 0): 9.0}])
def test_alps_refuses_a_hessian_that_is_not_positive_definite(change):
    weight, h = layer(4, 32)
    for place, value in change.items():
        h[place] = value * h[0, 0]
    message = r"^T_SCORE Hessian: not positive definite, want a larger damping or more samples$"
    with pytest.raises(NmrefError, match=message):
        alps(weight, h, HALF)
