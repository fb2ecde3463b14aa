"""From logits to the next token: greedy, or by temperature."""

from __future__ import annotations

import numpy as np

from nmref.errors import Code, NmrefError
from nmref.model.llama import F32
from nmref.numerics import SplitMix64


def greedy(logits: F32) -> int:
    """The token of the highest logit [V], the lowest id of equal ones.  Raises T_TENSOR on NaN."""
    _check(logits)
    return int(np.argmax(logits))


def sample(logits: F32, temperature: float, rng: SplitMix64) -> int:
    """Draw from softmax(logits [V] / temperature); temperature 0 is greedy.

    Raises T_TENSOR (NaN, or +Inf that leaves no probabilities), T_ARGUMENT (temperature).
    """
    if not 0 <= temperature < np.inf:
        raise NmrefError(Code.T_ARGUMENT, "temperature", str(temperature), "0 or a number above")
    if temperature == 0:
        return greedy(logits)
    _check(logits)
    top = logits.max().astype(np.float64)
    if not np.isfinite(top):
        raise NmrefError(Code.T_TENSOR, "logits", f"highest is {top}", "a finite number")
    odds = np.cumsum(np.exp((logits.astype(np.float64) - top) / temperature))  # [V]
    return int(np.searchsorted(odds, rng.uniform() * odds[-1], side="right"))


def _check(logits: F32) -> None:
    bad = np.flatnonzero(np.isnan(logits))
    if len(bad):
        raise NmrefError(Code.T_TENSOR, f"logits token {bad[0]}", "NaN", "numbers")
