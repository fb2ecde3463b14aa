"""y = x W^T, as fast as this machine can; or by a profile, to the bit."""

from nmref.linear.multiply import matmul
from nmref.linear.operator import linear_operator
from nmref.linear.ops import FAST, Fast

__all__ = ["FAST", "Fast", "linear_operator", "matmul"]
