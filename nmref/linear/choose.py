"""Which kernel multiplies, by what the weight, the activations and the CPU allow."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

from nmref.kernels import isa
from nmref.linear.prepared import Prepared

FEW = 8
"""Tokens up to which one pass over the rows is best where weights can be spread in registers."""

WIDEST = {"portable": 16, "avx2": 64, "avx512": 128, "amx": 128}
"""Tokens of a panel whose sums fit half of the registers."""


@dataclass(frozen=True)
class Choice:
    """A kernel and why it was chosen.

    Attributes
    ----------
    kernel : "rows512", "dots512", "rows256", "rows", "panel", "pairs", "amx", or "dense" (expand,
        then BLAS).
    tokens : how many it takes at once: the tokens of a row kernel, the lanes of a panel.
    why : for people.
    """

    kernel: str
    tokens: int
    why: str


def choose(weight: Prepared, tokens: int, x_dtype: str, *, plain_x: bool = True) -> Choice:
    """For x [tokens, K] of an element type (F32, F16, BF16, I8).

    plain_x : no x is subnormal.  Raises T_ARGUMENT if NMREF_ISA is wrong.
    """
    use, bfloat_dots = _machine(os.environ.get("NMREF_ISA"))
    if not weight.halves:
        return Choice("dense", 0, f"{weight.pattern} does not store 8 of every 16 columns")
    if x_dtype == "I8":
        return Choice("panel", _lanes(tokens, min(64, WIDEST[use])), "integers")
    if x_dtype == "BF16" and plain_x and (bfloat := _bfloat(weight, tokens, use, bfloat_dots)):
        return bfloat
    if few := _few(weight, tokens, use):
        return few
    return Choice(
        "panel", _lanes(tokens, WIDEST[use]), f"{use}, only stored weights are multiplied"
    )


def panel_sums(lanes: int) -> int:
    """Lanes of sums for a panel kernel here: the wider the panel, the fewer FMAs wait in a row."""
    widest = WIDEST[_machine(os.environ.get("NMREF_ISA"))[0]]
    return max(widest, 2 * lanes) if widest == 128 else widest


def _few(weight: Prepared, tokens: int, use: str) -> Choice | None:
    """Few tokens: the rows once, one after the other."""
    if use in ("avx512", "amx") and tokens <= FEW:
        return Choice("rows512", _power(tokens), f"{use}, weights spread over their columns")
    if use == "avx2" and tokens <= 2:
        return Choice("rows256", _power(tokens), "avx2, activations brought to the weights")
    if use == "portable" and tokens < 4:
        return Choice("rows", tokens, "portable, plain loops")
    return None


@cache
def _machine(wanted: str | None) -> tuple[str, bool]:
    """The ISA, and whether it has BF16 dots; asked once for each value of NMREF_ISA."""
    use = isa.chosen()
    return use, use in ("avx512", "amx") and isa.has("avx512bf16")


def _bfloat(weight: Prepared, tokens: int, use: str, dots: bool) -> Choice | None:
    """W and x BF16: instructions that multiply pairs, but take subnormals for zeros."""
    if weight.dtype != "BF16" or weight.subnormal:
        return None
    if dots and tokens <= FEW:
        return Choice("dots512", _power(tokens), f"{use}, BF16 dots of weights spread in registers")
    if use == "amx" and weight.out_dtype == "BF16":
        return Choice("amx", 16, "amx, loaded as sparse, computed as dense")
    if dots and weight.values.shape[1] % 2 == 0:
        return Choice("pairs", _lanes(tokens, 64), f"{use}, pairs of stored BF16 weights")
    return None


def _power(tokens: int) -> int:
    return 1 << max(tokens - 1, 0).bit_length()


def _lanes(tokens: int, widest: int) -> int:
    """Lanes of a panel: a power of two from 16 on that holds the tokens, if one does."""
    return min(max(_power(tokens), 16), widest)
