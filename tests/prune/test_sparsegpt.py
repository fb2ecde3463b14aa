"""SparseGPT against elimination written out, and its laws."""

import numpy as np
import pytest

from nmref.errors import NmrefError
from nmref.pattern import NMPattern
from nmref.prune.choose.mask import top_n
from nmref.prune.update.hessian import damped
from nmref.prune.update.sparsegpt import sparsegpt
from tests.prune.second_order import exact, layer, loss

HALF = NMPattern(2, 4)


def naive_sparsegpt(weight, h, pattern, outside, mask=None):
    """Optimal brain surgeon with the inverse Hessian itself, float64, no factor and no blocks.

    After column c has been dealt with it is eliminated from the inverse.  A weight's score is
    w^2 / [H^-1]_cc, the inverse without the columns before c; all of a block at its first column.
    """
    rows, columns = weight.shape
    h = h.astype(np.float64).copy()
    w = weight.astype(np.float64).copy()
    for c in range(columns):
        if h[c, c] == 0:
            h[c, c], w[:, c] = 1, 0
    inverse = np.linalg.inv(h + 0.01 * np.diagonal(h).mean() * np.eye(columns))
    steps = [inverse]
    for c in range(columns):
        steps.append(steps[-1] - np.outer(steps[-1][:, c], steps[-1][c]) / steps[-1][c, c])
    base = np.zeros(weight.shape, dtype=bool) if mask is None else mask.copy()
    for c in range(columns):
        if mask is None and c % pattern.block == 0:
            group = range(c, min(c + pattern.block, columns))
            for r in range(rows):
                free = [j for j in group if not outside[r, j]]
                free.sort(key=lambda j: (-(w[r, j] ** 2) / steps[j][j, j], j))
                base[r, free[: pattern.stored]] = True
        for r in range(rows):
            if not (base[r, c] or outside[r, c]):
                error = w[r, c] / steps[c][c, c]
                w[r, c + 1 :] -= error * steps[c][c, c + 1 :]
                w[r, c] = 0
    return w, base


def outside(shape, share=0.1, seed=5):
    return np.random.default_rng(seed).random(shape) < share


@pytest.mark.parametrize("pattern", ["1:4", "2:4", "3:4", "4:8", "8:16"])
@pytest.mark.parametrize(("rows", "columns", "block"), [(5, 32, 16), (3, 44, 16), (1, 16, 32)])
def test_sparsegpt_is_elimination(pattern, rows, columns, block):
    weight, h = layer(rows, columns)
    pattern = NMPattern.parse(pattern)
    for salient in (None, outside(weight.shape)):
        given = np.zeros(weight.shape, dtype=bool) if salient is None else salient
        wanted, mask = naive_sparsegpt(weight, h, pattern, given)
        found, base = sparsegpt(weight, h, pattern, salient=salient, block=block)
        assert found.dtype == np.float32
        assert np.array_equal(base, mask)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_sparsegpt_with_a_given_mask_keeps_it():
    weight, h = layer(6, 40)
    salient = outside(weight.shape)
    mask = top_n(np.abs(weight), NMPattern(4, 8), salient)
    before = mask.copy()
    wanted, _ = naive_sparsegpt(weight, h, HALF, salient, mask)
    found, base = sparsegpt(weight, h, HALF, salient=salient, mask=mask, block=16)
    assert np.array_equal(base, before)
    assert np.array_equal(mask, before)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_sparsegpt_keeps_n_and_what_is_salient():
    weight, h = layer(8, 172)
    salient = outside(weight.shape)
    pattern = NMPattern(8, 16)
    found, base = sparsegpt(weight, h, pattern, salient=salient)
    assert not (base & salient).any()
    assert not found[~(base | salient)].any()
    assert found[base | salient].all()
    assert (found[salient] != weight[salient]).any()  # they make up for others too
    for first in range(0, 172, 16):
        group = slice(first, first + 16)
        free = (~salient[:, group]).sum(axis=1)
        assert np.array_equal(base[:, group].sum(axis=1), np.minimum(free, 8))


def test_sparsegpt_changes_nothing_it_is_given_and_repeats():
    weight, h = layer(4, 32)
    copies = weight.copy(), h.copy()
    first, second = (sparsegpt(weight, h, HALF) for _ in range(2))
    assert np.array_equal(weight, copies[0])
    assert np.array_equal(h, copies[1])
    assert first[0].tobytes() == second[0].tobytes()
    assert np.array_equal(first[1], second[1])


def test_sparsegpt_of_independent_inputs_is_a_choice_by_wandas_score():
    """With a diagonal H nothing makes up for anything."""
    weight, _ = layer(5, 32)
    h = np.diag(np.linspace(1, 3, 32)).astype(np.float32)
    found, base = sparsegpt(weight, h, HALF, damping=0.0)
    score = np.abs(weight) * np.sqrt(np.diagonal(h))
    assert np.array_equal(base, top_n(score, HALF))
    assert np.array_equal(found, np.where(base, weight, 0))


def test_sparsegpt_does_not_know_the_scale():
    weight, h = layer(5, 32)
    found, base = sparsegpt(weight, h, HALF)
    scaled, mask = sparsegpt(weight * 4, h * 16, HALF)
    assert np.array_equal(base, mask)
    np.testing.assert_array_equal(scaled, found * 4)


def test_the_block_changes_rounding_only():
    weight, h = layer(5, 96)
    results = [sparsegpt(weight, h, NMPattern(8, 16), block=b) for b in (16, 32, 96, 128)]
    for found, base in results[1:]:
        assert np.array_equal(base, results[0][1])
        np.testing.assert_allclose(found, results[0][0], rtol=1e-4, atol=1e-5)


def test_columns_behind_all_that_is_pruned_become_the_best_there_are():
    """The update is exact elimination: what is left solves its least squares."""
    weight, h = layer(4, 24)
    mask = np.zeros(weight.shape, dtype=bool)
    mask[:, 12:] = True
    found, _ = sparsegpt(weight, h, HALF, mask=mask, block=8)
    np.testing.assert_allclose(found, exact(weight, damped(h, 0.01), mask), rtol=1e-3, atol=1e-4)


def test_sparsegpt_loses_less_than_its_mask_alone_and_than_magnitude():
    weight, h = layer(32, 64)
    found, base = sparsegpt(weight, h, NMPattern(8, 16))
    magnitude = np.where(top_n(np.abs(weight), NMPattern(8, 16)), weight, 0)
    lost = loss(weight, found, h)
    assert lost < 0.8 * loss(weight, np.where(base, weight, 0), h)
    assert lost < 0.8 * loss(weight, magnitude, h)


def test_weights_of_dead_columns_become_zero():
    weight, h = layer(4, 32)
    h[[3, 17]] = h[:, [3, 17]] = 0
    salient = np.zeros(weight.shape, dtype=bool)
    salient[:, 17] = True
    found, base = sparsegpt(weight, h, HALF, salient=salient)
    wanted, mask = naive_sparsegpt(weight, h, HALF, salient)
    assert not found[:, [3, 17]].any()
    assert not base[:, 3].any()
    assert np.array_equal(base, mask)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_nothing_negative_is_zero():
    weight, h = layer(4, 32)
    weight[:, 5] = -0.0
    h[7] = h[:, 7] = 0
    found, _ = sparsegpt(-weight, h, HALF)
    assert not np.signbit(found[found == 0]).any()


def test_sparsegpt_refuses_what_does_not_fit():
    weight, h = layer(4, 32)
    salient = np.zeros(weight.shape, dtype=bool)
    cases = [
        ({"block": 100}, "SparseGPT block: 100, want a multiple of 16"),
        ({"block": 0}, "SparseGPT block: 0, want a multiple of 16"),
        ({"salient": salient[:, :3]}, r"salient: \[4, 3\], want \[4, 32\]"),
        ({"mask": salient[:3]}, r"mask: \[3, 32\], want \[4, 32\]"),
        ({"salient": ~salient, "mask": ~salient}, "mask: a salient weight in it, want none"),
    ]
    for more, message in cases:
        with pytest.raises(NmrefError, match=f"^T_ARGUMENT {message}$"):
            sparsegpt(weight, h, NMPattern(8, 16), **more)
    message = (
        r"^T_ARGUMENT solver: weight \[4, 32\], Hessian \[31, 31\], want \[R, K\] and \[K, K\]$"
    )
    with pytest.raises(NmrefError, match=message):
        sparsegpt(weight, h[1:, 1:], HALF)
    with pytest.raises(NmrefError, match=r"^T_ARGUMENT solver: weight \[32\], Hessian \[32, 32\]"):
        sparsegpt(weight[0], h, HALF)


def test_sparsegpt_refuses_what_is_not_finite():
    weight, h = layer(4, 32)
    weight[2, 9] = np.nan
    with pytest.raises(NmrefError, match=r"^T_TENSOR weight row 2 column 9: nan, want a finite"):
        sparsegpt(weight, h, HALF)
    h[0, 0] = np.inf
    with pytest.raises(NmrefError, match=r"^T_SCORE Hessian row 0 column 0: inf, want finite"):
        sparsegpt(np.nan_to_num(weight), h, HALF)
