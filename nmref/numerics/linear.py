"""y = x W^T for dense and sparse weights, as fast as this version knows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nmref.colex import binomials, mask_table
from nmref.dtypes import Array, bits_of, container_name, widen
from nmref.errors import Code, NmrefError
from nmref.kernels.rows import base_rows, dense_rows, outlier_rows
from nmref.tensor import NMMatrix, SparseWeight

F32 = npt.NDArray[np.float32]

FEW_TOKENS = 8
"""Up to here the packed rows are read directly; above, they are expanded for BLAS."""


def matmul(x: F32, weight: SparseWeight | Array) -> F32:
    """y[T, R] = x[T, K] W[R, K]^T in float32.

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
    if isinstance(weight, SparseWeight):
        return _sparse(x, weight)
    dense = widen(weight)
    if np.isfinite(x).all():
        return x @ dense.T
    y = np.zeros((weight.shape[0], x.shape[0]), dtype=np.float32)
    dense_rows(np.ascontiguousarray(dense), np.ascontiguousarray(x.T), y)
    return y.T


def _sparse(x: F32, weight: SparseWeight) -> F32:
    if x.shape[0] > FEW_TOKENS and np.isfinite(x).all():
        return x @ expand(weight).T
    xt = np.ascontiguousarray(x.T)
    y = np.zeros((weight.shape[0], x.shape[0]), dtype=np.float32)
    base = weight.base
    bits = _loop_bits(base.dense_values())
    base_rows(bits, base.codes, *_tables(base), base.pattern.width, xt, y)
    out = weight.outliers
    if out is not None:
        outlier_rows(_loop_bits(out.values), out.index, out.pattern.stored, xt, y)
    return y.T


def expand(weight: SparseWeight) -> F32:
    """W[R, K] as float32."""
    return widen(weight.to_dense())


def _tables(base: NMMatrix) -> tuple[Array, Array]:
    return mask_table(base.pattern), binomials(base.pattern)


def _loop_bits(values: Array) -> Array:
    """Bits as the loops take them: BF16 as uint16, everything else as the uint32 of its F32."""
    if container_name(values) == "BF16":
        return bits_of(values)
    return bits_of(widen(values))
