"""SparseGPT: prune column after column and let the later ones make up for it.

Frantar and Alistarh 2023, algorithm 1 with the mask of section 3.3 for N:M: the choice in a block
of M columns is made when its first column is reached, by the weights as they then are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nmref.errors import Code, NmrefError
from nmref.pattern import NMPattern
from nmref.prune.choose.mask import top_n
from nmref.prune.choose.score import check_finite
from nmref.prune.update.hessian import damped, dead, upper_inverse

Bool = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]


def sparsegpt(
    weight: F32,
    hessian: F32,
    pattern: NMPattern,
    *,
    salient: Bool | None = None,
    mask: Bool | None = None,
    block: int = 128,
    damping: float = 0.01,
) -> tuple[F32, Bool]:
    """The updated weights [R, K], zero where not kept, and the base mask [R, K].

    Shapes: weight [R, K], hessian [K, K].  `salient` [R, K]: weights that stay beside the N of the
    base, and are updated too.  `mask` [R, K]: the base mask, if it has been chosen already.
    `block`: columns after which the update of all columns behind them is made up, a multiple of M;
    it changes rounding only.  Weights of dead columns become 0.

    Raises T_ARGUMENT for shapes, overlapping masks and a block that is no multiple of M, T_TENSOR
    for a weight that is not finite, T_SCORE where the Hessian is not finite or not positive
    definite.
    """
    check_arguments(weight, hessian, salient, mask)
    if block < 1 or block % pattern.block:
        want = f"a multiple of {pattern.block}"
        raise NmrefError(Code.T_ARGUMENT, "SparseGPT block", str(block), want)
    columns = weight.shape[1]
    outside = np.zeros(weight.shape, dtype=np.bool_) if salient is None else salient
    base = np.zeros(weight.shape, dtype=np.bool_) if mask is None else mask.copy()
    u = upper_inverse(damped(hessian, damping))
    w = np.where(dead(hessian), np.float32(0), weight).T.copy()  # [K, R]: W's columns lie together
    for first in range(0, columns, block):
        last = min(first + block, columns)
        here = slice(first, last)
        chosen = None if mask is None else base[:, here]
        errors, base[:, here] = _prune_columns(
            w[here], u[here, here], pattern, outside[:, here], chosen
        )
        w[last:] -= u[here, last:].T @ errors
    return np.where(base | outside, w.T, np.float32(0)), base


def _prune_columns(
    w: F32, u: F32, pattern: NMPattern, outside: Bool, mask: Bool | None
) -> tuple[F32, Bool]:
    """Columns of one block, w [B, R], updated in place -> errors [B, R], base mask [R, B].

    Column i: error e = (w_i - kept w_i) / U_ii, and every later w_j -= U_ij e.
    """
    diagonal = np.diagonal(u)[:, None]
    base = np.zeros(outside.shape, dtype=np.bool_) if mask is None else mask
    errors = np.zeros_like(w)
    for i in range(len(w)):
        if mask is None and i % pattern.block == 0:
            group = slice(i, i + pattern.block)
            score = np.divide(np.abs(w[group]), diagonal[group])  # in the order of (w / U_ii)^2
            base[:, group] = top_n(score.T, pattern, outside[:, group])
        kept = base[:, i] | outside[:, i]
        errors[i] = np.where(kept, np.float32(0), w[i]) / diagonal[i]
        w[i + 1 :] -= np.outer(u[i, i + 1 :], errors[i])
    return errors, base


def check_arguments(weight: F32, hessian: F32, salient: Bool | None, mask: Bool | None) -> None:
    """What a solver is given fits together.  Raises T_ARGUMENT and T_TENSOR."""
    if weight.ndim != 2 or hessian.shape != (weight.shape[-1],) * 2:
        got = f"weight {list(weight.shape)}, Hessian {list(hessian.shape)}"
        raise NmrefError(Code.T_ARGUMENT, "solver", got, "[R, K] and [K, K]")
    for name, given in (("salient", salient), ("mask", mask)):
        if given is not None and given.shape != weight.shape:
            got, want = str(list(given.shape)), str(list(weight.shape))
            raise NmrefError(Code.T_ARGUMENT, name, got, want)
    if salient is not None and mask is not None and (salient & mask).any():
        raise NmrefError(Code.T_ARGUMENT, "mask", "a salient weight in it", "none")
    check_finite(weight, "weight")
