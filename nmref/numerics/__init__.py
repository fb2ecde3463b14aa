"""Arithmetic on weights (SPEC part 8)."""

from nmref.numerics.linear import expand, matmul

__all__ = ["expand", "matmul"]
