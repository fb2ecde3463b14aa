"""What the inputs of every linear are like, over a text (paper section 3; RIA section 3).

A pass over the dense block sees what its linears get from the blocks before it, pruned already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from nmref.errors import Code, NmrefError
from nmref.linear import FAST
from nmref.linear.parallel import in_order
from nmref.model import llama
from nmref.model.config import LlamaConfig
from nmref.prune.update.alps import Spectrum
from nmref.prune.update.hessian import Hessian

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


def windows(ids: list[int], samples: int, length: int) -> list[list[int]]:
    """The first `samples` windows of `length` tokens, one after another.  Raises T_TEXT."""
    if len(ids) < samples * length:
        want = f"{samples} x {length} = {samples * length}"
        raise NmrefError(Code.T_TEXT, "calibration text", f"{len(ids)} tokens", want)
    return [ids[i * length : (i + 1) * length] for i in range(samples)]


@dataclass(frozen=True, eq=False)
class Statistics:
    """Of the inputs x [T, K] of a linear, over `samples` samples.

    Attributes
    ----------
    squares : [K] float64, the sum of x^2 over all tokens.
    largest : [K] float32, max |x| over all tokens.
    second : the running Hessian; or None, where it was not asked for.
    """

    samples: int
    squares: F64
    largest: F32
    second: Hessian | None = None
    _spectra: dict[float, Spectrum] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, x: F32, gram: bool = False) -> Statistics:
        """One sample [T, K]."""
        squares = np.square(x, dtype=np.float64).sum(axis=0)
        largest = np.maximum(x.max(axis=0), -x.min(axis=0))
        second = None
        if gram:
            second = Hessian()
            second.add(x)
        return cls(1, squares, largest, second)

    def joined(self, other: Statistics) -> Statistics:
        """Both together; `self.second` is used up."""
        if self.second is not None and other.gram is not None:
            self.second.merge(other.gram, other.samples)
        squares, largest = self.squares + other.squares, np.maximum(self.largest, other.largest)
        return Statistics(self.samples + other.samples, squares, largest, self.second)

    @property
    def gram(self) -> F32 | None:
        """[K, K] float32: the sum of x^T x over all tokens."""
        return None if self.second is None else self.second.sum

    @property
    def norm(self) -> F32:
        """[K]: sqrt(sum over samples of ||X_:,j||^2 / samples); a common factor changes no mask."""
        return np.sqrt(self.squares / self.samples).astype(np.float32)

    @property
    def hessian(self) -> F32:
        """[K, K]: 2 / samples X^T X, the Hessian of the layer's squared error (SparseGPT)."""
        if self.second is None:
            raise NmrefError(Code.T_ARGUMENT, "statistics", "no X^T X", "it, for a Hessian")
        return self.second.matrix()

    def spectrum(self, damping: float) -> Spectrum:
        """Of the Hessian, for ALPS: made once, for all linears of this input."""
        if damping not in self._spectra:
            self._spectra[damping] = Spectrum.of(self.hessian, damping)
        return self._spectra[damping]

    def ordered(self, order: npt.NDArray[np.integer[Any]]) -> Statistics:
        """With column order[j] of the inputs as column j."""
        second = None if self.second is None else self.second.ordered(order)
        squares, largest = self.squares[order], self.largest[order]
        return Statistics(self.samples, squares, largest, second)


class _Sample:
    """A tap that keeps the statistics of one sample."""

    def __init__(self, names: Iterable[str], gram: bool) -> None:
        self.names = frozenset(names)
        self.found: dict[str, Statistics] = {}
        self._gram = gram

    def __call__(self, name: str, x: F32) -> None:
        self.found[name] = Statistics.of(x, self._gram)


Put = Callable[[int, F32], None]


def calibrate(
    weights: llama.Weights,
    config: LlamaConfig,
    layer: int,
    inputs: F32,
    *,
    gram: bool = False,
    put: Put | None = None,
    threads: int | None = None,
) -> Mapping[str, Statistics]:
    """Statistics of the inputs of a block's linears, by tap name (`llama.input_tap`).

    `inputs` [S, T, D], one sample after the other, may be memory-mapped; `put(i, y)` gets the
    block's output [T, D] of sample i.  Raises T_SCORE for an activation that is not finite, or so
    large that float32 does not hold what is made of its squares.
    """
    names = [f"layers.{layer}.{tap}" for tap in dict.fromkeys(llama.LINEAR_INPUT.values())]

    def one(i: int) -> dict[str, Statistics]:
        tap = _Sample(names, gram)
        with np.errstate(all="ignore"):  # _check_finite says more than a warning
            y = llama.block(weights, config, layer, inputs[i], tap=tap, ops=FAST)
        if put is not None:
            put(i, y)
        return tap.found

    total: dict[str, Statistics] = {}
    for i, found in enumerate(in_order(one, range(len(inputs)), threads)):
        for name, statistics in found.items():
            _check_finite(statistics, f"{name} sample {i}")
            with np.errstate(over="ignore", invalid="ignore"):  # _check_squares says more
                total[name] = total[name].joined(statistics) if name in total else statistics
    for name, statistics in total.items():
        _check_squares(statistics, name)
    return total


def advance(
    weights: llama.Weights,
    config: LlamaConfig,
    layer: int,
    inputs: F32,
    outputs: F32,
    threads: int | None = None,
) -> None:
    """outputs[i] = block(inputs[i]) for every sample; both [S, T, D], they may be one array."""

    def one(i: int) -> None:
        with np.errstate(all="ignore"):  # the next block's statistics show what is not finite
            outputs[i] = llama.block(weights, config, layer, inputs[i], ops=FAST)

    for _ in in_order(one, range(len(inputs)), threads):
        pass


def _check_finite(statistics: Statistics, where: str) -> None:
    for column in np.flatnonzero(~np.isfinite(statistics.squares))[:1].tolist():
        got = f"an activation of {statistics.largest[column]}"
        raise NmrefError(Code.T_SCORE, f"{where} column {column}", got, "finite activations")


def _check_squares(statistics: Statistics, where: str) -> None:
    """The norm, and the diagonal of the Hessian, in which no element is larger."""
    squares, limit = statistics.squares / statistics.samples, float(np.finfo(np.float32).max)
    made, what = np.sqrt(squares), "whose norm float32 does not hold"
    if statistics.second is not None:
        made, what = 2 * squares, "whose squares float32 does not hold"
    for column in np.flatnonzero(~(made <= limit))[:1].tolist():
        got = f"activations up to {statistics.largest[column]}, {what}"
        raise NmrefError(Code.T_SCORE, f"{where} column {column}", got, "smaller activations")
