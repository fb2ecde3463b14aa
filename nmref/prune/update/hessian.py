"""Second-order statistics of a linear layer's input: H = (2 / samples) * sum of X^T X.

H is the Hessian of ||X w - y||^2 for one output, the same for all outputs (Frantar and Alistarh
2023, SparseGPT, section 3.1; the factor and the damping are those of its code).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cholesky, lapack

from nmref.errors import Code, NmrefError

Bool = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]


def gram(x: F32) -> F32:
    """X^T X of one sample, x [T, K] -> [K, K], symmetric to the bit."""
    product: F32 = x.T @ x  # NumPy computes one triangle and copies it
    return product


class Hessian:
    """Running sum of X^T X, float32; the order of the samples is the order of the additions.

    Samples may be multiplied side by side (`gram`) and merged in their order.
    """

    def __init__(self) -> None:
        self.sum: F32 | None = None
        """[K, K]; None before the first sample."""
        self._samples = 0

    def add(self, x: F32) -> None:
        """Add one sample: x [T, K]."""
        product = gram(x)
        if self.sum is None:
            self.sum, self._samples = product, 1
        else:
            self.merge(product)

    def merge(self, product: F32, samples: int = 1) -> None:
        """Add a sum [K, K] over so many samples.  Raises T_ARGUMENT for another K."""
        if self.sum is None:
            self.sum = np.zeros_like(product)
        if product.shape != self.sum.shape:
            got, want = (f"{len(matrix)} columns" for matrix in (product, self.sum))
            raise NmrefError(Code.T_ARGUMENT, "Hessian", got, want)
        self.sum += product
        self._samples += samples

    def matrix(self) -> F32:
        """H [K, K].  Raises T_ARGUMENT without a sample."""
        if self.sum is None:
            raise NmrefError(Code.T_ARGUMENT, "Hessian", "no activations", "at least one sample")
        return self.sum * np.float32(2 / self._samples)

    def ordered(self, order: npt.NDArray[np.integer[Any]]) -> Hessian:
        """With column order[j] of the inputs as column j."""
        moved = Hessian()
        if self.sum is not None:
            moved.sum, moved._samples = self.sum[np.ix_(order, order)], self._samples
        return moved


def dead(h: F32) -> Bool:
    """[K]: columns whose input was zero in every sample, so that no weight of theirs matters."""
    columns: Bool = np.diagonal(h) == 0
    return columns


def damped(h: F32, damping: float) -> F32:
    """H + damping * mean(diag H) * I, after 1 was put on the diagonal of dead columns.

    Raises T_SCORE where H is not finite (an activation was not), T_ARGUMENT for a damping that is
    negative or more than float32 holds, or an H that is not square.
    """
    if not 0 <= damping < np.inf:
        raise NmrefError(Code.T_ARGUMENT, "damping", str(damping), "0 or more")
    check_hessian(h)
    result = h.astype(np.float32)
    diagonal = np.einsum("ii->i", result)  # a view
    diagonal[dead(h)] = 1
    added = damping * diagonal.mean(dtype=np.float64)
    if added + diagonal.max(initial=0) > np.finfo(np.float32).max:
        got, want = f"{damping} of a mean of {diagonal.mean():.4g}", "a sum that float32 holds"
        raise NmrefError(Code.T_ARGUMENT, "damping", got, want)
    diagonal += np.float32(added)
    return result


def upper_inverse(h: F32) -> F32:
    """U [K, K], upper triangular with U^T U = H^-1, for a symmetric positive definite H.

    With rows and columns in reverse order H = L L^T; back in order that is H = V V^T with V upper
    triangular, so U = V^-1.  Computed in float64 and rounded once.

    Raises T_SCORE where H is not finite or not positive definite.
    """
    check_hessian(h)
    try:
        lower = cholesky(h[::-1, ::-1].astype(np.float64, order="F"), True, True, False)
    except LinAlgError:
        raise not_positive() from None
    upper = np.asfortranarray(lower[::-1, ::-1])
    del lower
    inverse, info = lapack.dtrtri(upper, lower=0, overwrite_c=1)
    assert info == 0, info  # Cholesky's diagonal is positive
    return np.ascontiguousarray(np.triu(inverse), dtype=np.float32)


def not_positive() -> NmrefError:
    """The error for a Hessian that cannot be solved with."""
    want = "a larger damping or more samples"
    return NmrefError(Code.T_SCORE, "Hessian", "not positive definite", want)


def check_hessian(h: F32) -> None:
    """Square (T_ARGUMENT) and finite (T_SCORE)."""
    if h.ndim != 2 or h.shape[0] != h.shape[1]:
        raise NmrefError(Code.T_ARGUMENT, "Hessian", f"shape {list(h.shape)}", "[K, K]")
    bad = np.argwhere(~np.isfinite(h))
    for row, column in bad[:1].tolist():
        where = f"Hessian row {row} column {column}"
        raise NmrefError(Code.T_SCORE, where, str(h[row, column]), "finite activations")
