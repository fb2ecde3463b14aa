"""Arithmetic on weights (SPEC part 8)."""

from nmref.numerics.ops import GOLDEN, Golden, Ops
from nmref.numerics.products import by_profile, canonical, expand
from nmref.numerics.profile import Profile
from nmref.numerics.random import SplitMix64

__all__ = [
    "GOLDEN",
    "Golden",
    "Ops",
    "Profile",
    "SplitMix64",
    "by_profile",
    "canonical",
    "expand",
]
