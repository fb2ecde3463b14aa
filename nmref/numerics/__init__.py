"""Arithmetic on weights (SPEC part 8)."""

from nmref.numerics.linear import canonical, expand, matmul
from nmref.numerics.ops import BLAS, GOLDEN, Blas, Golden, Ops
from nmref.numerics.profile import Profile
from nmref.numerics.random import SplitMix64

__all__ = [
    "BLAS",
    "GOLDEN",
    "Blas",
    "Golden",
    "Ops",
    "Profile",
    "SplitMix64",
    "canonical",
    "expand",
    "matmul",
]
