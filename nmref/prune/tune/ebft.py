"""Block-wise fine-tuning with a fixed mask (paper section 3, stage 4; EBFT, arXiv 2402.12419).

The weights of one block that stay, and its RMSNorm gains, learn to give the outputs of the dense
block on the inputs that the pruned blocks before it make: mean squared error, AdamW, a rate that
falls linearly, clipping of the true gradients.  What the mask leaves out keeps its value.

Two things are ours: a loss normalized by each target's size, because a few tokens with activations
hundreds of times larger than all others (attention sinks) rule the plain one, and the dense model's
own hidden states as targets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nmref.errors import Code, NmrefError
from nmref.linear.parallel import in_order
from nmref.model.config import LlamaConfig
from nmref.numerics.random import SplitMix64
from nmref.prune.settings import Tuning
from nmref.prune.tune import backprop
from nmref.prune.tune.adamw import AdamW, clip, linear_rate

F32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]
Samples = Sequence[F32] | F32
"""[T, D] each; a list, or one array [samples, T, D], either of them memory-mapped or not."""


def tune(
    weights: Mapping[str, F32],
    masks: Mapping[str, Bool],
    config: LlamaConfig,
    layer: int,
    inputs: Samples,
    targets: Samples,
    how: Tuning,
    threads: int | None = None,
    report: Callable[[str], None] = lambda stage: None,
) -> tuple[dict[str, F32], list[float]]:
    """Tune one block: (its nine tensors, the mean loss of every epoch).

    Where the last epoch's loss is above that before tuning, the block stays as it was: what a
    solver has fitted already to a short text can only become worse.

    Parameters
    ----------
    weights : at least the block's linears [R, K] and gains [D], float32; they are not changed.
    masks : name of a linear -> bool [R, K], true where it may change.  Elsewhere, and in linears
        without a mask, every weight keeps its bits: zeros stay zero and outliers what they are.
    inputs, targets : as many of one as of the other, [T, D] float32.  The loss of a step is the
        mean over its samples of the mean of (y - target)^2, or of that over the mean square of the
        token's target.
    how : `outliers` and `teacher` are the caller's: in masks and targets.  The last batch of an
        epoch may be short.
    threads : samples of a batch side by side; gradients are added in the batch's order, so the
        number changes no bit.
    report : called with what begins, and with the loss before and at the end.

    Memory in float32 numbers, P parameters of the block and W = min(threads, batch): 3 P for the
    tuned weights and AdamW's moments, (W + 2) P of gradients at most, and for each of W samples a
    tape of T (4 D + 2 H d + 2 G d + 3 F) with about half as much again while it is used.
    SmolLM2-135M, 1,024 tokens, two threads: about 200 MB.

    Raises T_ARGUMENT (no samples, shapes or settings that do not fit), T_TENSOR (`weights`) and
    T_SCORE (a loss, gradient or tuned weight that is not finite).
    """
    _check(weights, masks, config, layer, inputs, targets, how)
    tuned = {name: np.array(weights[name], order="C") for name in backprop.names(layer)}
    free = {name: np.ascontiguousarray(mask) for name, mask in masks.items()}
    gains = {name for name in tuned if tuned[name].ndim == 1 and how.gains}
    learning = {name: array for name, array in tuned.items() if name in free or name in gains}
    optimizer = AdamW(learning, free, how)
    lesson = _Lesson(config, layer, inputs, targets, how.loss == "normalized", threads)
    random, losses = SplitMix64(how.seed), []
    before = lesson.mean_loss(tuned)
    order = list(range(len(inputs)))
    batches = -(-len(order) // how.batch)
    for epoch in range(how.epochs):
        report(f"tune, epoch {epoch + 1} of {how.epochs}")
        _shuffle(order, random)
        total = 0.0
        for number in range(batches):
            batch = order[number * how.batch : (number + 1) * how.batch]
            rate = linear_rate(how.rate, epoch * batches + number, how.epochs * batches)
            with np.errstate(over="ignore", invalid="ignore"):  # looked at where it is done
                loss, gradients = lesson.batch(tuned, batch)
                gradients = {name: gradients[name] for name in learning}
                norm = clip(gradients, free, how.clip)
                if not math.isfinite(norm):
                    where, got = f"model.layers.{layer}", f"gradients of norm {norm}"
                    raise NmrefError(Code.T_SCORE, where, got, "finite activations and weights")
                optimizer.step(gradients, rate)
            total += loss
        losses.append(total / len(order))
    _check_finite(learning)
    change = f"loss {before:.4g} -> {losses[-1]:.4g}"
    if losses[-1] > before:
        report(f"not tuned: {change}")
        return {name: np.array(weights[name], order="C") for name in tuned}, losses
    report(f"tuned: {change}")
    return tuned, losses


def _check_finite(learned: Mapping[str, F32]) -> None:
    want = "a smaller rate"
    for name, weight in learned.items():
        for value in weight[~np.isfinite(weight)][:1].tolist():
            raise NmrefError(Code.T_SCORE, name, f"{value} after fine-tuning", want)


@dataclass(frozen=True, eq=False)
class _Lesson:
    """What a block is to learn: its inputs, its targets, and what counts as a loss."""

    config: LlamaConfig
    layer: int
    inputs: Samples
    targets: Samples
    normalized: bool
    threads: int | None

    def batch(self, weights: Mapping[str, F32], batch: list[int]) -> tuple[float, dict[str, F32]]:
        """The losses of some samples added up, and the gradients of their mean."""

        def one(sample: int) -> tuple[float, dict[str, F32]]:
            with np.errstate(all="ignore"):  # what is not finite is seen in the loss
                loss, dy, tape = self._loss(weights, sample)
                dy *= 2 / (dy.size * len(batch))
                return loss, backprop.backward(weights, self.config, self.layer, tape, dy)[0]

        total, gradients = 0.0, None
        for loss, found in in_order(one, batch, self.threads):
            total += loss
            if gradients is None:
                gradients = found
                continue
            for name, gradient in found.items():
                gradients[name] += gradient
        assert gradients is not None  # a batch has samples
        return total, gradients

    def mean_loss(self, weights: Mapping[str, F32]) -> float:
        """Over all samples."""

        def one(sample: int) -> float:
            with np.errstate(all="ignore"):
                return self._loss(weights, sample)[0]

        samples = range(len(self.inputs))
        return sum(in_order(one, samples, self.threads)) / len(samples)

    def _loss(self, weights: Mapping[str, F32], sample: int) -> tuple[float, F32, backprop.Tape]:
        """Of a sample: the loss, half its gradient times the output's size [T, D], the tape."""
        target, x = np.asarray(self.targets[sample]), np.asarray(self.inputs[sample])
        y, tape = backprop.forward(weights, self.config, self.layer, x)
        y -= target
        dy = y * _token_weights(target) if self.normalized else y.copy()
        loss = float(np.vdot(y, dy)) / y.size
        if not math.isfinite(loss):
            where = f"model.layers.{self.layer} sample {sample}"
            want = "finite activations and weights"
            raise NmrefError(Code.T_SCORE, where, f"a loss of {loss}", want)
        return loss, dy, tape


def _token_weights(target: F32) -> F32:
    """[T, 1]: one over the mean square of each target; 1 for a target of zeros."""
    square: F32 = np.mean(np.square(target), axis=1, keepdims=True)
    weight: F32 = np.divide(1, square, out=np.ones_like(square), where=square > 0)
    return weight


def _shuffle(order: list[int], random: SplitMix64) -> None:
    """Fisher and Yates; the same on every machine."""
    for last in range(len(order) - 1, 0, -1):
        other = random.below(last + 1)
        order[last], order[other] = order[other], order[last]


def _check(
    weights: Mapping[str, F32],
    masks: Mapping[str, Bool],
    config: LlamaConfig,
    layer: int,
    inputs: Samples,
    targets: Samples,
    how: Tuning,
) -> None:
    where = f"tuning of model.layers.{layer}"
    if not len(inputs) or len(inputs) != len(targets):
        got = f"{len(inputs)} inputs and {len(targets)} targets"
        raise NmrefError(Code.T_ARGUMENT, where, got, "as many of both, at least one")
    for name in ("epochs", "batch"):
        if getattr(how, name) < 1:
            raise NmrefError(Code.T_ARGUMENT, where, f"{name} {getattr(how, name)}", "1 or more")
    for sample, (x, target) in enumerate(zip(inputs, targets, strict=True)):
        if x.dtype != np.float32 or x.shape != target.shape or target.dtype != np.float32:
            got = f"{x.dtype} {list(x.shape)} and {target.dtype} {list(target.shape)}"
            want = f"float32 [T, {config.D}] twice"
            raise NmrefError(Code.T_ARGUMENT, f"{where} sample {sample}", got, want)
    backprop.tensors(weights, config, layer, np.asarray(inputs[0]))
    linears = {name for name in backprop.names(layer) if weights[name].ndim == 2}
    for name, mask in masks.items():
        want = f"a linear of model.layers.{layer}"
        if name not in linears:
            raise NmrefError(Code.T_ARGUMENT, f"mask {name}", "no such name", want)
        if mask.dtype != np.bool_ or mask.shape != weights[name].shape:
            got, want = f"{mask.dtype} {list(mask.shape)}", f"bool {list(weights[name].shape)}"
            raise NmrefError(Code.T_ARGUMENT, f"mask {name}", got, want)
