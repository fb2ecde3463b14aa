"""What a prune will take: memory, disk and time, from sizes alone and one short measurement.

Letters: S samples of T tokens, D model width, F MLP width, A = H d attention width, H query heads,
L layers, p samples side by side (threads, but no more than S), P weights of the seven linears of a
block, V = R K of the largest of them and Kmax the widest input; sums over the four inputs of the
linears (widths D, A, D, F) are written sum K and sum K^2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from time import perf_counter

import numpy as np

from nmref.linear import FAST
from nmref.linear.parallel import in_order
from nmref.linear.pool import default_threads
from nmref.model.config import LINEAR_KINDS, LlamaConfig, expected_shapes
from nmref.prune.settings import Recipe

PROCESS = 180_000_000
"""Bytes of Python with NumPy, SciPy and Numba, before anything is read."""

PER_TEXT = 140
"""Bytes for a byte of the calibration text while it becomes tokens: of all of it, whatever is used.
Measured with short tokens (stories260k); less with long ones."""

PER_WEIGHT = 6e-8
"""Seconds of scoring, choosing, packing and checking, for one weight on one core: memory work."""

SPARSEGPT_PER_WEIGHT = 3e-7
"""Seconds of SparseGPT's walk over the columns, for one weight on one core."""

ALPS_SHARE = 0.25
"""About how many of 300 iterations ALPS takes until the mask is stable (SmolLM2)."""

MEASURE = 0.2
"""Seconds of `measure`."""


@dataclass(frozen=True)
class Rates:
    """What this machine does in a second, all threads together."""

    flops: float
    """Of float32 matrix products."""
    elements: float
    """Elements of softmax."""
    threads: int = 1


@dataclass(frozen=True)
class Job:
    """What is to be done; S = 0 where the recipe needs no activations."""

    config: LlamaConfig
    recipe: Recipe
    samples: int
    length: int
    threads: int
    mapped: bool = True
    """Activations in files that are memory-mapped, as `prune` has them."""
    text: int = 0
    """Bytes of the calibration text."""

    @cached_property
    def linears(self) -> list[tuple[int, int]]:
        """[R, K] of the seven linears of a block."""
        shapes = expected_shapes(self.config)
        found = [shapes[f"model.layers.0.{kind}.weight"] for kind in LINEAR_KINDS]
        return [(shape[0], shape[1]) for shape in found]

    @property
    def weights(self) -> int:
        """P."""
        return sum(map(prod, self.linears))

    @property
    def inputs(self) -> list[int]:
        """Widths of the four inputs of the linears."""
        config = self.config
        return [config.D, config.H * config.head_dim, config.D, config.F]

    @property
    def side_by_side(self) -> int:
        """p."""
        return min(self.threads, self.samples)

    @property
    def stream(self) -> int:
        """Bytes of the activations between two blocks, 4 S T D."""
        return 4 * self.samples * self.length * self.config.D


def memory(job: Job) -> dict[str, int]:
    """Peak bytes by purpose; the peak is their sum.

    process     Python and its libraries (PROCESS)
    block       8 P: the dense and the pruned block, float32
    statistics  12 sum K, + 4 sum K^2 with a solver, + 8 sum K^2 of spectra with ALPS, + 4 P with
                the gradient score
    streams     0 where mapped: the system keeps of them what there is room for; else 4 S T D for
                the inputs and as much for the outputs, and for the targets where EBFT tunes, and
                for the dense model's inputs where that is the teacher
    work        the largest of what the stages need while they run:
      calibrate 4 T (8 D + 4 A + 4 F) + 2048 T H / G for each of p samples (attention goes by 128
                positions), + 4 sum K^2 for each of p + 2 with a solver
      choose    28 V: score, its sums and ranks, masks, the packed weight
      solve     32 Kmax^2 + 24 V (SparseGPT); ALPS: 54 Kmax^2 for the eigenvectors, half of it in
                LAPACK, or 16 Kmax^2 + 36 V, whichever is more
      text      PER_TEXT for each byte of the calibration text, before the first block
      tune      6 T (6 D + 5 A + 3 F) for each of q = min(p, batch) samples, a tape and half as much
                again; 4 (q + 5) P of gradients, moments and the weights being tuned
    """
    streams = 0 if job.mapped else job.stream * _streams(job)
    statistics = 12 * sum(job.inputs) if job.samples else 0
    if job.recipe.solver.method != "none":
        statistics += (12 if job.recipe.solver.method == "alps" else 4) * _squares(job)
    if job.recipe.score == "gradient":
        statistics += 4 * job.weights
    others = statistics + streams + 8 * job.weights  # they come when the text has gone
    text = max(PER_TEXT * job.text - others, 0)
    return {
        "process": PROCESS,
        "block": 8 * job.weights,
        "statistics": statistics,
        "streams": streams,
        "work": max(_calibrate_bytes(job), _choose_bytes(job), _tune_bytes(job), text),
    }


def disk(job: Job, packed: int) -> dict[str, int]:
    """Bytes of the result and of the work folder, which goes when all is done.

    result   the packed files
    blocks   the packed blocks that are done, until they are put together: at most as much
    masks    those of the blocks, R ceil(K / 8) of each linear, twice that with outliers: at most
    streams  8 S T D: inputs and outputs of a block; 4 S T D more for the targets of EBFT, and again
             for the dense model's inputs where that is the teacher
    """
    chosen = [job.recipe.outliers, *(rule.outliers for rule in job.recipe.rules)]
    twice = any(outliers is not None for outliers in chosen)
    bitmaps = sum(rows * -(-columns // 8) for rows, columns in job.linears)
    return {
        "result": packed,
        "blocks": packed,
        "masks": job.config.num_hidden_layers * bitmaps * (2 if twice else 1),
        "streams": job.stream * _streams(job) if job.mapped else 0,
    }


def seconds(job: Job, rates: Rates) -> dict[str, float]:
    """Seconds by stage, those that the recipe has; FLOPs over what was measured.

    With N = S T tokens one forward of a block is 2 N P + 2 N T A FLOPs (the causal half of
    attention), and exponentials, norms and the like for N (H T / 2 + 12 D + 4 F) elements.

    allocate   L forwards
    calibrate  2 L forwards, of the dense block and of the pruned one; in each block statistics of
               3 N sum K elements, + 2 N sum K^2 FLOPs with a solver
    gradients  3 L forwards: a forward, and a backward of twice the work
    choose     P L times PER_WEIGHT
    solve      SparseGPT: 2 (4/3 K^3 + R K^2) FLOPs of each linear, and P L times
               SPARSEGPT_PER_WEIGHT.  ALPS: 9 K^3 of each input, and of each linear 4 R K^2 for
               every iteration, of which ALPS_SHARE are needed
    tune       3 L epochs forwards, on q = min(p, batch) threads, and for every step 12 P elements
               on one thread
    """
    layers, recipe = job.config.num_hidden_layers, job.recipe
    once = layers * _forward_seconds(job, rates)
    found = {"choose": PER_WEIGHT * job.weights * layers}
    if job.samples:
        seen = 3 * job.samples * job.length * sum(job.inputs)
        found["calibrate"] = 2 * once + layers * seen / rates.elements
    if recipe.allocate is not None:
        found["allocate"] = once
    if recipe.score == "gradient":
        found["gradients"] = 3 * once
    if recipe.solver.method != "none":
        grams = 2 * job.samples * job.length * _squares(job)
        found["calibrate"] += layers * grams / rates.flops
        found["solve"] = layers * _solve_flops(job) / rates.flops
        if recipe.solver.method == "sparsegpt":
            found["solve"] += SPARSEGPT_PER_WEIGHT * job.weights * layers
    if recipe.tune is not None:
        steps = layers * recipe.tune.epochs * -(-job.samples // recipe.tune.batch)
        updates = 12 * job.weights * steps * rates.threads / rates.elements
        busy = min(job.side_by_side, recipe.tune.batch) / job.side_by_side
        found["tune"] = 3 * recipe.tune.epochs * once / busy + updates
    return found


def measure(threads: int | None = None) -> Rates:
    """A short measurement, MEASURE seconds, with every thread at work at once."""
    count = threads or default_threads()
    x = np.ones((512, 576), dtype=np.float32)
    w = np.ones((1536, 576), dtype=np.float32)
    scores = np.zeros((64, 1024), dtype=np.float32)
    allowed = np.ones_like(scores, dtype=np.bool_)

    def products(_: int) -> float:
        return 2 * len(x) * w.size * _runs(lambda: x @ w.T, 0.6 * MEASURE)

    def elements(_: int) -> float:
        return scores.size * _runs(lambda: FAST.softmax(scores, allowed), 0.4 * MEASURE)

    flops = sum(in_order(products, range(count), count))
    return Rates(flops, sum(in_order(elements, range(count), count)), count)


def _runs(work: Callable[[], object], duration: float) -> float:
    """How often a second."""
    work()  # the first time also loads what it needs
    begin, count = perf_counter(), 0
    while (passed := perf_counter() - begin) < duration or not count:
        work()
        count += 1
    return count / passed


def _streams(job: Job) -> int:
    """Arrays of activations [S, T, D]."""
    tune = job.recipe.tune
    return 2 if tune is None else 4 if tune.teacher == "dense" else 3


def _squares(job: Job) -> int:
    """sum K^2."""
    return sum(width * width for width in job.inputs)


def _calibrate_bytes(job: Job) -> int:
    config, length = job.config, job.length
    attention = config.H * config.head_dim
    rows = 4 * length * (8 * config.D + 4 * attention + 4 * config.F)
    each = rows + 2048 * length * config.H // config.G
    grams = 4 * _squares(job) * (job.side_by_side + 2)
    return job.side_by_side * each + (grams if job.recipe.solver.method != "none" else 0)


def _choose_bytes(job: Job) -> int:
    largest, widest = max(map(prod, job.linears)), max(job.inputs)
    solve = {
        "none": 0,
        "sparsegpt": 32 * widest**2 + 24 * largest,
        "alps": max(54 * widest**2, 16 * widest**2 + 36 * largest),
    }
    return max(28 * largest, solve[job.recipe.solver.method])


def _tune_bytes(job: Job) -> int:
    if job.recipe.tune is None and job.recipe.score != "gradient":
        return 0
    config, length = job.config, job.length
    attention = config.H * config.head_dim
    each = 6 * length * (6 * config.D + 5 * attention + 3 * config.F)
    tune = job.recipe.tune
    together = min(job.side_by_side, tune.batch) if tune else job.side_by_side
    return together * each + 4 * job.weights * (together + 5)


def _forward_seconds(job: Job, rates: Rates) -> float:
    """One block, all samples; with fewer samples than threads some threads have nothing to do."""
    config, tokens = job.config, job.samples * job.length
    attention = config.H * config.head_dim
    flops = 2 * tokens * (job.weights + job.length * attention)
    elements = tokens * (job.length * config.H / 2 + 12 * config.D + 4 * config.F)
    busy = job.side_by_side / rates.threads if job.samples < rates.threads else 1
    return (flops / rates.flops + elements / rates.elements) / busy if job.samples else 0.0


def _solve_flops(job: Job) -> float:
    if job.recipe.solver.method == "sparsegpt":
        return sum(2 * (4 / 3 * columns**3 + rows * columns**2) for rows, columns in job.linears)
    updates = sum(4 * rows * columns**2 for rows, columns in job.linears)
    iterations = ALPS_SHARE * job.recipe.solver.iterations
    return 9 * sum(width**3 for width in job.inputs) + iterations * updates
