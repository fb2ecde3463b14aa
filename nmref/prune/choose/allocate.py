"""Outlier-weighed layerwise sparsity: layers with more large scores keep more (Yin et al. 2024).

As the code of OWL has it for N:M: the block length M stays, N is moved around its mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from nmref.errors import Code, NmrefError
from nmref.pattern import NMPattern

F32 = npt.NDArray[np.float32]


def owl_shares(scores: Iterable[F32], multiple: float) -> float:
    """D, percent: the share of scores above `multiple` times their mean.

    `scores`: of all linears of one layer, any shapes, Wanda's in the original.  They count as one
    vector.  Raises T_SCORE where their mean is not finite, T_ARGUMENT where there are none.
    """
    matrices = list(scores)
    count = sum(matrix.size for matrix in matrices)
    if count == 0:
        raise NmrefError(Code.T_ARGUMENT, "OWL", "no scores", "those of a layer")
    mean = sum(float(matrix.sum(dtype=np.float64)) for matrix in matrices) / count
    if not np.isfinite(mean):
        raise NmrefError(Code.T_SCORE, "OWL", f"a mean score of {mean}", "a finite one")
    limit = np.float64(multiple * mean)  # past float32 for a large multiple
    large = sum(int(np.count_nonzero(matrix > limit)) for matrix in matrices)
    return 100 * large / count


def stored(shares: Mapping[int, float], pattern: NMPattern, span: float) -> dict[int, int]:
    """Layer -> N: the pattern's N + round(t - mean t).

    t = span (D - min D) / (max D - min D)

    `shares` are the layers' D; a layer that is left alone has none.  `span` is the difference
    between the largest and the smallest N before rounding (to the nearest, halves to even).  Layers
    with equal shares all keep N.  The mean of the result is near N, not exactly N.

    Raises T_ARGUMENT where a layer would keep none or all, as it must with a span above M.

    >>> stored({0: 1.0, 1: 2.0, 2: 3.0}, NMPattern(8, 16), 4)
    {0: 6, 1: 8, 2: 10}
    """
    if not 0 <= span < np.inf:
        raise NmrefError(Code.T_ARGUMENT, "OWL span", str(span), "0 or more")
    d = np.array(list(shares.values()), dtype=np.float64)
    if d.size == 0 or not np.isfinite(d).all():
        raise NmrefError(Code.T_ARGUMENT, "OWL", f"shares {d.tolist()}", "a finite one a layer")
    width = d.max() - d.min()
    if width > 0 and span > pattern.block:
        raise NmrefError(Code.T_ARGUMENT, "OWL span", str(span), f"at most {pattern.block}, M")
    t = span * (d - d.min()) / width if width > 0 else np.zeros_like(d)
    moved: list[int] = np.rint(t - t.mean()).astype(np.int64).tolist()
    counts = {layer: pattern.stored + by for layer, by in zip(shares, moved, strict=True)}
    for layer, count in counts.items():
        if not 1 <= count < pattern.block:
            got = f"span {span} gives N = {count}"
            want = f"1 <= N < {pattern.block}"
            raise NmrefError(Code.T_ARGUMENT, f"OWL layer {layer}", got, want)
    return counts
