"""The operations of a forward that have more than one arithmetic, and the one to the bit.

Letters: T tokens, S positions, d = head dimension, n heads that share keys and values.  Products
and sums of two arrays and the rotation of RoPE are the same in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from nmref.dtypes import Array
from nmref.errors import Code, NmrefError
from nmref.numerics import fast, functions, products
from nmref.numerics.profile import Profile
from nmref.tensor import SparseWeight

F32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


class Ops(Protocol):
    """What llama.py asks for; everything is float32."""

    def linear(self, x: F32, weight: SparseWeight | Array) -> F32:
        """x [N, K], W [R, K] -> [N, R]."""

    def scores(self, q: F32, k: F32) -> F32:
        """Dots of queries [n, T, d] and keys [S, d] -> [n, T, S]."""

    def mix(self, probs: F32, v: F32, first: Ints, past: Ints) -> F32:
        """Sums over first[t] <= s < past[t] of probs [n, T, S] and values [S, d] -> [n, T, d]."""

    def softmax(self, x: F32, allowed: Bool) -> F32:
        """x [n, T, S] over the allowed [T, S], +0 elsewhere."""

    def rms_norm(self, x: F32, gain: F32, eps: float) -> F32:
        """x [..., D], gain [D]."""

    def silu(self, x: F32) -> F32:
        """x / (1 + exp(-x))."""


@dataclass(frozen=True)
class Golden:
    """SPEC part 8: the same bits on every machine, whatever the number of threads or the twin."""

    profile: str = "f64.seq"
    twin: ModuleType = fast
    threads: int = 1

    def __post_init__(self) -> None:
        if self.dots.kind == "i32":
            raise NmrefError(Code.T_ARGUMENT, "profile", "i32", "a profile of real numbers")
        if self.threads < 1:
            raise NmrefError(Code.T_ARGUMENT, "threads", str(self.threads), "1 or more")

    @property
    def dots(self) -> Profile:
        """The profile of every dot."""
        return Profile.parse(self.profile)

    def linear(self, x: F32, weight: SparseWeight | Array) -> F32:
        """SPEC 8.29."""
        return products.golden(x, weight, self.dots, self.twin, self.threads)

    def scores(self, q: F32, k: F32) -> F32:
        """SPEC 8.33: the rows of the matrix are the keys."""
        return self.linear(q.reshape(-1, q.shape[-1]), k).reshape(*q.shape[:2], len(k))

    def mix(self, probs: F32, v: F32, first: Ints, past: Ints) -> F32:
        """SPEC 8.33: the columns of the matrix are the positions."""
        x, count = probs.reshape(-1, probs.shape[-1]), len(probs)
        begin, end = np.tile(first, count), np.tile(past, count)
        out = self.twin.dots(v.T, x, begin, end, self.dots, self.threads)
        mixed: F32 = out.reshape(*probs.shape[:2], v.shape[1])
        return mixed

    def softmax(self, x: F32, allowed: Bool) -> F32:
        """SPEC 8.20."""
        return functions.softmax(x, allowed, self.twin)

    def rms_norm(self, x: F32, gain: F32, eps: float) -> F32:
        """SPEC 8.21."""
        return functions.rms_norm(x, gain, eps, self.twin)

    def silu(self, x: F32) -> F32:
        """SPEC 8.19."""
        return functions.silu(x, self.twin)


GOLDEN = Golden()
