"""Layers for the tests of the second-order methods: correlated inputs, and their loss."""

import numpy as np

from nmref.prune.update.hessian import Hessian


def inputs(columns, samples=3, tokens=60, seed=0):
    """Correlated activations, one [T, K] a sample."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((columns, columns)) / np.sqrt(columns) + 0.5 * np.eye(columns)
    shape = (samples, tokens, columns)
    return (rng.standard_normal(shape) @ mixing).astype(np.float32)


def layer(rows, columns, seed=0):
    """Weight [R, K] and H [K, K]."""
    hessian = Hessian()
    for x in inputs(columns, seed=seed):
        hessian.add(x)
    weight = np.random.default_rng(seed + 1).standard_normal((rows, columns))
    return weight.astype(np.float32), hessian.matrix()


def loss(weight, pruned, h):
    """tr D H D^T, D = what pruning changed."""
    change = weight.astype(np.float64) - pruned
    return float(((change @ h.astype(np.float64)) * change).sum())


def exact(weight, h, kept):
    """The best weights [R, K] that are zero where not kept, row by row in float64."""
    wide, best = h.astype(np.float64), np.zeros(weight.shape)
    for row, stay in enumerate(kept):
        there = np.flatnonzero(stay)
        right = wide[there] @ weight[row].astype(np.float64)
        best[row, there] = np.linalg.solve(wide[np.ix_(there, there)], right)
    return best
