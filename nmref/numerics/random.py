"""SplitMix64 and the numbers that are made from it (SPEC 8.26 and 8.27)."""

from __future__ import annotations

import numpy as np

from nmref.errors import Code, NmrefError

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

    def centred(self) -> np.float32:
        """The next number of [-1, 1), a multiple of 2^-23."""
        return np.float32(((self.next() >> 40) - 2**23) * 2.0**-23)

    def below(self, n: int) -> int:
        """The next integer of 0 ... n - 1, n >= 1."""
        return (self.next() * n) >> 64
