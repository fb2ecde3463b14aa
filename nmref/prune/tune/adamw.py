"""AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2), in place.

Some of the elements of a tensor may be held fixed by a mask: their gradient counts as zero, and
neither the step nor the decay touches them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nmref.errors import Code, NmrefError
from nmref.prune.settings import Tuning

Real = npt.NDArray[np.floating[Any]]
Bool = npt.NDArray[np.bool_]

_PIECE = 32_768  # elements at once: six such arrays of float32 are 0.8 MB


def linear_rate(rate: float, step: int, steps: int) -> float:
    """The rate of step 0 ... steps - 1: from `rate` by equal parts to rate / steps.

    >>> [linear_rate(1.0, step, 4) for step in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    return rate * (1 - step / steps)


def clip(gradients: Mapping[str, Real], masks: Mapping[str, Bool], most: float) -> float:
    """Make the norm of all gradients together at most `most`, in place; returns what it was.

    First they become zero outside their masks.  A name without a mask is taken whole.  A norm that
    is not finite is returned and nothing is scaled.
    """
    squares = 0.0
    for name, gradient in gradients.items():
        for piece in _pieces(gradient.size):
            part = _flat(gradient, name)[piece]
            if name in masks:
                part *= _flat(masks[name], name)[piece]
            squares += float(np.vdot(part, part))
    norm = float(np.sqrt(squares))
    if most < norm < np.inf:
        for gradient in gradients.values():
            gradient *= most / norm
    return norm


class AdamW:
    """The moments of some parameters and the steps taken.

    m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2,
    w <- w - rate (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon) + decay w),  t = 1, 2, ...

    Parameters
    ----------
    parameters : C-contiguous arrays; a step changes them.
    masks : of their shapes, true where a parameter may change; without one all of it may.
    how : betas, epsilon and decay.
    """

    def __init__(
        self, parameters: Mapping[str, Real], masks: Mapping[str, Bool], how: Tuning
    ) -> None:
        self._weights = {name: _flat(array, name) for name, array in parameters.items()}
        self._masks = {name: _flat(mask, name) for name, mask in masks.items()}
        self._means = {name: np.zeros_like(flat) for name, flat in self._weights.items()}
        self._squares = {name: np.zeros_like(flat) for name, flat in self._weights.items()}
        self._how = how
        self._steps = 0

    def step(self, gradients: Mapping[str, Real], rate: float) -> None:
        """Change the parameters by their gradients, which are zero outside the masks (`clip`)."""
        self._steps += 1
        for name, weight in self._weights.items():
            gradient, mask = _flat(gradients[name], name), self._masks.get(name)
            for piece in _pieces(weight.size):
                change = self._change(name, piece, gradient[piece])
                change += self._how.decay * weight[piece]
                change *= rate
                if mask is not None:
                    change *= mask[piece]
                weight[piece] -= change

    def _change(self, name: str, piece: slice, gradient: Real) -> Real:
        """Moments after this gradient, and m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon)."""
        (b1, b2), t = self._how.betas, self._steps
        mean, square = self._means[name][piece], self._squares[name][piece]
        mean *= b1
        mean += (1 - b1) * gradient
        square *= b2
        square += (1 - b2) * gradient * gradient
        size = np.sqrt(square)
        size *= (1 - b2**t) ** -0.5
        size += self._how.epsilon
        change: Real = mean / size
        change *= 1 / (1 - b1**t)
        return change


def _pieces(size: int) -> Iterator[slice]:
    return (slice(first, first + _PIECE) for first in range(0, size, _PIECE))


def _flat(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """A view [elements], never a copy: what is done to it is done to the array."""
    if not array.flags.c_contiguous:
        raise NmrefError(Code.T_ARGUMENT, name, "a strided view", "a C-contiguous array")
    return array.reshape(-1)
