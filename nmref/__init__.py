"""nmref: the reference for N:M sparse LLM weights.

>>> import nmref, numpy as np
>>> w = nmref.encode(np.eye(2, 16, dtype=np.float32), "8:16")
>>> w.to_dense().shape, w.nbytes
((2, 16), 68)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nmref.container import load, save, verify
    from nmref.dtypes import normalise_zero
    from nmref.errors import Code, NmrefError
    from nmref.linear import linear_operator, matmul
    from nmref.pattern import NMPattern
    from nmref.tensor import NMMatrix, Outliers, SparseWeight, encode

__version__ = "0.1.0"

_HOME = {
    "Code": "nmref.errors",
    "NMMatrix": "nmref.tensor",
    "NMPattern": "nmref.pattern",
    "NmrefError": "nmref.errors",
    "Outliers": "nmref.tensor",
    "SparseWeight": "nmref.tensor",
    "encode": "nmref.tensor",
    "linear_operator": "nmref.linear",
    "load": "nmref.container",
    "matmul": "nmref.linear",
    "normalise_zero": "nmref.dtypes",
    "save": "nmref.container",
    "verify": "nmref.container",
}

__all__ = [
    "Code",
    "NMMatrix",
    "NMPattern",
    "NmrefError",
    "Outliers",
    "SparseWeight",
    "encode",
    "linear_operator",
    "load",
    "matmul",
    "normalise_zero",
    "save",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import nmref` stays quick."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'nmref' has no attribute {name!r}")
