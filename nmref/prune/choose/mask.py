"""Which weights stay: the N largest scores of every M columns (paper section 3)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nmref.errors import Code, NmrefError
from nmref.kernels.choice import keep_largest
from nmref.pattern import NMPattern

Bool = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]

NOTHING = np.zeros((0, 0), dtype=np.bool_)


def top_n(score: F32, pattern: NMPattern, excluded: Bool | None = None) -> Bool:
    """Keep the N largest scores of each block of M columns; ties go to the lower column.

    Shapes: score [R, K], excluded [R, K] or None -> mask [R, K], at most N true in a block (fewer
    where fewer columns are real, not excluded, and not -Inf or NaN).  Raises T_ARGUMENT for shapes.

    >>> top_n(np.ones((1, 4), dtype=np.float32), NMPattern(2, 4)).astype(int).tolist()
    [[1, 1, 0, 0]]
    """
    score = np.ascontiguousarray(score, dtype=np.float32)
    closed = NOTHING if excluded is None else np.ascontiguousarray(excluded, dtype=np.bool_)
    if score.ndim != 2 or (excluded is not None and closed.shape != score.shape):
        got = f"score {list(score.shape)}, excluded {list(closed.shape)}"
        raise NmrefError(Code.T_ARGUMENT, "top_n", got, "the same [R, K]")
    kept = np.empty(score.shape, dtype=np.bool_)
    keep_largest(score.view(np.uint32), closed, pattern.stored, pattern.block, kept)
    return kept


def plain_top_n(score: F32, pattern: NMPattern, excluded: Bool | None = None) -> Bool:
    """The same as `top_n`, by a sort that is easy to read."""
    rows, columns = score.shape
    blocks = pattern.blocks(columns)
    padded = np.full((rows, blocks * pattern.block), -np.inf, dtype=np.float32)
    padded[:, :columns] = score if excluded is None else np.where(excluded, -np.inf, score)
    ranked = padded.reshape(rows, blocks, pattern.block)
    best = np.argsort(-ranked, axis=-1, kind="stable")[..., : pattern.stored]
    kept = np.zeros(ranked.shape, dtype=np.bool_)
    np.put_along_axis(kept, best, True, axis=-1)
    kept &= ranked > -np.inf
    return kept.reshape(padded.shape)[:, :columns]


def split(score: F32, base: NMPattern, outliers: NMPattern | None) -> tuple[Bool, Bool | None]:
    """Outliers first, then the base among what is left: (base mask, outlier mask), each [R, K].

    Outliers are taken out before the N:M choice and stored beside it, so a block of the base keeps
    N weights of its own (paper section 3, stage 2).
    """
    if outliers is None:
        return top_n(score, base), None
    salient = top_n(score, outliers)
    return top_n(score, base, excluded=salient), salient
