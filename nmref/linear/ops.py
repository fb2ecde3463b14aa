"""The operations of a forward, as fast as this machine can; numerics.Golden is the other way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nmref.dtypes import Array
from nmref.linear.multiply import product
from nmref.tensor import SparseWeight

F32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fast:
    """Our kernels for sparse weights, BLAS and NumPy's functions for the rest.

    Quick, and different in the last bits on every machine.
    """

    threads: int | None = None

    def linear(self, x: F32, weight: SparseWeight | Array) -> F32:
        """By `nmref.matmul`."""
        y: F32 = product(x, weight, self.threads)
        return y

    def scores(self, q: F32, k: F32) -> F32:
        """By BLAS."""
        return q @ k.T

    def mix(self, probs: F32, v: F32, first: Ints, past: Ints) -> F32:
        """By BLAS: the probabilities of the other positions are zero."""
        return probs @ v

    def softmax(self, x: F32, allowed: Bool) -> F32:
        """Over the allowed elements; the sum is taken in float64."""
        e: F32 = np.where(allowed, x, np.float32(-np.inf))
        e -= e.max(axis=-1, keepdims=True)
        np.exp(e, out=e)
        e /= e.sum(axis=-1, keepdims=True, dtype=np.float64).astype(np.float32)
        return e

    def rms_norm(self, x: F32, gain: F32, eps: float) -> F32:
        """The mean is taken in float64."""
        mean = np.mean(np.square(x, dtype=np.float64), axis=-1, keepdims=True)
        scale: F32 = (1 / np.sqrt(mean + eps)).astype(np.float32)
        y: F32 = x * scale * gain
        return y

    def silu(self, x: F32) -> F32:
        """exp(-x) = Inf gives the right limit, -0."""
        with np.errstate(over="ignore"):
            y: F32 = x / (1 + np.exp(-x))
        return y


FAST = Fast()
