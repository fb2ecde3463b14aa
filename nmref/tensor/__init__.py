"""N:M weights in memory: encode, decode, check (SPEC parts 2 to 4)."""

from nmref.tensor.canonical import canonicalise, is_canonical, warnings
from nmref.tensor.checks import check
from nmref.tensor.encoding import MAX_SIZE, encode
from nmref.tensor.spec import Coding, OutlierSpec, WeightSpec
from nmref.tensor.weight import NMMatrix, Outliers, SparseWeight, from_parts

__all__ = [
    "MAX_SIZE",
    "Coding",
    "NMMatrix",
    "OutlierSpec",
    "Outliers",
    "SparseWeight",
    "WeightSpec",
    "canonicalise",
    "check",
    "encode",
    "from_parts",
    "is_canonical",
    "warnings",
]
