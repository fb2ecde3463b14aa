"""From logits to the next token: greedy, or by temperature with a generator of our own."""

from __future__ import annotations

import numpy as np

from nmref.errors import Code, NmrefError
from nmref.model.llama import F32

_MASK = 2**64 - 1


class SplitMix64:
    """The SplitMix64 generator: the same seed gives the same numbers everywhere.

    >>> rng = SplitMix64(0)
    >>> hex(rng.next()), hex(rng.next())
    ('0xe220a8397b1dcdaf', '0x6e789e6aa1b965f4')
    """

    def __init__(self, seed: int) -> None:
        if not 0 <= seed <= _MASK:
            raise NmrefError(Code.T_ARGUMENT, "seed", str(seed), "0 to 2^64 - 1")
        self.state = seed

    def next(self) -> int:
        """The next 64 bits."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & _MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def uniform(self) -> float:
        """The next number of [0, 1), a multiple of 2^-53."""
        return (self.next() >> 11) * 2.0**-53


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
