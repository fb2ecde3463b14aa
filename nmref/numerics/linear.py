"""y = x W^T for dense and sparse weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nmref.dtypes import Array, widen
from nmref.errors import Code, NmrefError
from nmref.kernels.rows import dense_rows
from nmref.tensor import SparseWeight

F32 = npt.NDArray[np.float32]


def matmul(x: F32, weight: SparseWeight | Array) -> F32:
    """y[T, R] = x[T, K] W[R, K]^T in float32: stored sparse, expanded, multiplied by BLAS.

    Parameters
    ----------
    x : [T, K] or [K], float32.
    weight : a SparseWeight, or a dense [R, K] float32, float16 or bfloat16 array.

    Raises
    ------
    NmrefError
        X_SHAPE, X_DTYPE.

    >>> w = np.array([[1, 0, 2, 0]], dtype=np.float32)
    >>> matmul(np.arange(4, dtype=np.float32), w).tolist()
    [4.0]
    """
    x = np.asarray(x)
    if x.dtype != np.float32:
        raise NmrefError(Code.X_DTYPE, "x", f"dtype {x.dtype}", "float32")
    columns = weight.shape[-1]
    if x.ndim not in (1, 2) or len(weight.shape) != 2 or x.shape[-1] != columns:
        got = f"x {list(x.shape)} and W {list(weight.shape)}"
        raise NmrefError(Code.X_SHAPE, "matmul", got, "[T, K] or [K], and [R, K]")
    if x.ndim == 1:
        return matmul(x[None, :], weight).reshape(-1)
    dense = expand(weight) if isinstance(weight, SparseWeight) else widen(weight)
    if np.isfinite(x).all():
        return x @ dense.T
    y = np.zeros((dense.shape[0], x.shape[0]), dtype=np.float32)
    dense_rows(np.ascontiguousarray(dense), np.ascontiguousarray(x.T), y)
    return y.T


def expand(weight: SparseWeight) -> F32:
    """W[R, K] as float32."""
    return widen(weight.to_dense())
