"""exp, SiLU, softmax and RMSNorm, to the bit (SPEC 8.17 to 8.21).

Division, square root, addition and multiplication are single IEEE operations in NumPy on every
machine; exp and the order of sums are not, and come from a twin.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
import numpy.typing as npt

from nmref.numerics import fast

F32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]


def exp(x: F32, twin: ModuleType = fast) -> F32:
    """Correctly rounded e^x, any shape (SPEC 8.17)."""
    y: F32 = twin.exp(np.asarray(x, dtype=np.float32))
    return y


def silu(x: F32, twin: ModuleType = fast) -> F32:
    """x / (1 + exp(-x)), any shape, each operation rounded (SPEC 8.19)."""
    with np.errstate(all="ignore"):
        y: F32 = x / (np.float32(1) + exp(-x, twin))
    return y


def softmax(x: F32, allowed: Bool | None = None, twin: ModuleType = fast) -> F32:
    """Over the last axis, x [..., n] (SPEC 8.20).

    `allowed`, of a shape that broadcasts to x, leaves elements out; they come out as +0.
    """
    if allowed is None:
        allowed = np.ones((), dtype=np.bool_)
    with np.errstate(all="ignore"):
        m = np.where(allowed, x, np.float32(-np.inf)).max(axis=-1, keepdims=True)
        e = np.where(allowed, exp(x - m, twin), np.float32(0))  # a further +0 changes no sum
        total = twin.sums(e).astype(np.float32)[..., None]
        y: F32 = np.where(allowed, e / total, np.float32(0))
    return y


def rms_norm(x: F32, gain: F32, eps: float, twin: ModuleType = fast) -> F32:
    """Over the last axis, x [..., n], gain [n] (SPEC 8.21)."""
    with np.errstate(all="ignore"):
        mean = twin.squares(x) / np.float64(x.shape[-1])
        s = (1 / np.sqrt(mean + np.float64(eps))).astype(np.float32)[..., None]
        y: F32 = x * s * gain
    return y
