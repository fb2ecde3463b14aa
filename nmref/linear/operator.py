"""A weight as a SciPy LinearOperator."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from nmref.dtypes import Array
from nmref.linear.multiply import matmul
from nmref.numerics import expand
from nmref.tensor import SparseWeight


def linear_operator(weight: SparseWeight, threads: int | None = None) -> Any:
    """W[R, K] as a scipy.sparse.linalg.LinearOperator of dtype float32.

    `op @ v` is W v by `matmul`: v is rounded to float32 first.  `op.T @ u` expands W and is slow.
    Complex operands are refused by NumPy's cast.

    >>> import nmref
    >>> (linear_operator(nmref.encode(np.eye(2, 16, dtype=np.float32))) @ np.arange(16)).tolist()
    [0.0, 1.0]
    """

    def forward(v: Array) -> Array:
        return matmul(_real(v).T, weight, threads=threads).T

    def adjoint(u: Array) -> Array:
        return expand(weight).T @ _real(u)

    rows, columns = weight.shape
    return LinearOperator(
        shape=(rows, columns),
        matvec=lambda v: forward(v.reshape(columns, 1)),
        rmatvec=lambda u: adjoint(u.reshape(rows)),
        matmat=forward,
        rmatmat=adjoint,
        dtype=np.float32,
    )


def _real(values: Array) -> Array:
    """float32, by a cast that refuses complex numbers."""
    return values.astype(np.float32, casting="same_kind" if values.dtype.kind != "i" else "unsafe")
