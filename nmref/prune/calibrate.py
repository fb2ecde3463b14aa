"""What the activations are like: column norms over a text (paper section 3; RIA section 3)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from nmref.errors import Code, NmrefError

F32 = npt.NDArray[np.float32]


def windows(ids: list[int], samples: int, length: int) -> list[list[int]]:
    """The first `samples` windows of `length` tokens, one after another.  Raises T_TEXT."""
    if len(ids) < samples * length:
        want = f"{samples} x {length} = {samples * length}"
        raise NmrefError(Code.T_TEXT, "calibration text", f"{len(ids)} tokens", want)
    return [ids[i * length : (i + 1) * length] for i in range(samples)]


class ColumnNorms:
    """Running sum of squares of every column of the activations, by tap name; use it as a tap.

    norm_j = sqrt(sum over samples of ||X_:,j||^2 / samples); a common factor changes no mask.
    """

    def __init__(self, names: Iterable[str], samples: int) -> None:
        self._squares: dict[str, npt.NDArray[np.float64] | None] = dict.fromkeys(names)
        self._samples = samples

    def __call__(self, name: str, x: F32) -> None:
        """Add one sample: x [T, K]."""
        if name in self._squares:
            squares = np.square(x, dtype=np.float64).sum(axis=0)
            total = self._squares[name]
            self._squares[name] = squares if total is None else total + squares

    def norm(self, name: str) -> F32:
        """[K] float32."""
        squares = self._squares[name]
        if squares is None:
            raise NmrefError(Code.T_ARGUMENT, name, "no activations", "at least one sample")
        return np.sqrt(squares / self._samples).astype(np.float32)
