"""Outliers that are not structured, as the baseline of the paper's Table 8.

What the paper proposes is `mask.split`: the n largest of every 256 columns of a row, with the same
score as the base.  Here as many are chosen anywhere in the matrix, or anywhere in their row, and
stored as CSR.  What the paper leaves open is decided alike for all of them:

competition
    Outliers are taken out first, and the N:M choice is among what is left: they are stored beside
    the base and take none of its places (the authors' code for magnitude outliers also takes them
    out, prunes, and adds them back).  A block with fewer than N others keeps fewer weights; the
    format fills its free slots with zeros.
score
    The same for outliers and base (section 3, stage 2).
groups
    256 columns of one row, along the input; a tail of k columns has up to min(n, k).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from nmref.errors import Code, NmrefError
from nmref.prune.choose.score import check_score
from nmref.prune.settings import Place

Bool = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def unstructured(score: F32, count: int, place: Place) -> Bool:
    """Exactly `count` of the largest scores [R, K] -> [R, K] bool.

    "matrix": of the whole matrix; equal scores go to the lower row, then to the lower column.
    "row": count // R of every row, and one more of each of the first count % R rows; equal scores
    go to the lower column.
    Raises T_ARGUMENT: a count outside 0 to R * K, another place; T_SCORE: a score that is not
    finite.

    >>> unstructured(np.float32([[1, 3, 3], [3, 2, 0]]), 2, "matrix").astype(int).tolist()
    [[0, 1, 1], [0, 0, 0]]
    >>> unstructured(np.float32([[1, 3, 3], [3, 2, 0]]), 3, "row").astype(int).tolist()
    [[0, 1, 1], [1, 0, 0]]
    """
    rows, columns = score.shape
    if not 0 <= count <= rows * columns:
        want = f"0 to {rows * columns}"
        raise NmrefError(Code.T_ARGUMENT, "unstructured outliers", str(count), want)
    check_score(score, "unstructured outliers")
    if score.size == 0:
        return np.zeros(score.shape, dtype=np.bool_)
    if place == "matrix":
        return _largest(score.reshape(1, -1), np.array([[count]])).reshape(score.shape)
    if place == "row":
        each, more = divmod(count, rows)
        return _largest(score, each + (np.arange(rows)[:, None] < more))
    raise NmrefError(Code.T_ARGUMENT, "place of outliers", repr(place), "'matrix' or 'row'")


def to_csr(weight: F32, mask: Bool) -> csr_array:
    """The weights [R, K] at `mask` as CSR, columns ascending; a weight of 0 is stored too.

    Raises T_ARGUMENT: a mask of another shape.
    """
    if mask.shape != weight.shape:
        got, want = f"shape {list(mask.shape)}", f"{list(weight.shape)}"
        raise NmrefError(Code.T_ARGUMENT, "outlier mask", got, want)
    first = np.concatenate([[0], np.cumsum(mask.sum(axis=1))])  # [R + 1]
    _, columns = np.nonzero(mask)
    return csr_array((weight[mask], columns, first), shape=weight.shape)


def _largest(score: F32, counts: Ints) -> Bool:
    """counts [L, 1] of the largest of every line [L, C]; equal ones from the left."""
    last = score.shape[1] - 1
    ordered = np.sort(score, axis=1)  # values alone: equal ones cannot be told apart
    cut = np.take_along_axis(ordered, np.minimum(last + 1 - counts, last), axis=1)  # [L, 1]
    above = score > cut
    tied = score == cut
    missing = counts - above.sum(axis=1, keepdims=True)  # 0 where counts is 0
    chosen: Bool = above | (tied & (np.cumsum(tied, axis=1) <= missing))
    return chosen
