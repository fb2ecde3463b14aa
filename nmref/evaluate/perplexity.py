"""Perplexity of a text: exp of the mean negative log likelihood of its tokens."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from nmref.errors import Code, NmrefError
from nmref.linear import Fast
from nmref.linear.parallel import in_order
from nmref.model.config import LlamaConfig
from nmref.model.llama import F32, Weights, forward

Ids = Sequence[int] | npt.NDArray[np.integer]


def perplexity(
    weights: Weights,
    config: LlamaConfig,
    ids: Ids,
    window: int,
    windows: int | None = None,
    progress: bool = False,
) -> float:
    """Exp of the mean of `window_losses`, which has the parameters.  Raises T_ARGUMENT, T_TEXT."""
    losses = window_losses(weights, config, ids, window, windows, progress)
    mean = math.fsum(losses) / len(losses)
    return math.inf if mean >= 709 else math.exp(mean)  # e^709 is the last that a float holds


def window_losses(
    weights: Weights,
    config: LlamaConfig,
    ids: Ids,
    window: int,
    windows: int | None = None,
    progress: bool = False,
) -> list[float]:
    """Mean loss of each of the first `windows` windows of `window` tokens (None: all whole ones).

    The windows follow each other without overlap and know nothing of each other; no
    begin-of-text token is put before them; a window has window - 1 targets.
    Raises T_ARGUMENT (window or count out of range), T_TEXT (too few tokens).
    """
    if not 2 <= window <= config.max_position_embeddings:
        want = f"2 to {config.max_position_embeddings} tokens"
        raise NmrefError(Code.T_ARGUMENT, "window", str(window), want)
    if windows is not None and windows < 1:
        raise NmrefError(Code.T_ARGUMENT, "windows", str(windows), "1 or more")
    count = max(len(ids) // window, 1) if windows is None else windows
    if len(ids) < count * window:
        want = f"at least {count * window}: {count} x {window}"
        raise NmrefError(Code.T_TEXT, "text", f"{len(ids)} tokens", want)

    def loss(i: int) -> float:
        part = np.asarray(ids[i * window : (i + 1) * window])
        return mean_loss(forward(weights, config, part, ops=Fast(threads=1))[:-1], part[1:])

    coming = in_order(loss, range(count))
    return list(tqdm(coming, "perplexity", count, disable=not progress, file=sys.stderr))


def mean_loss(logits: F32, targets: npt.NDArray[np.integer]) -> float:
    """Mean of -log softmax(logits)[target] in nats; logits [T, V] float32, targets [T].

    The log of the sum of exponentials is taken in float64, 64 rows at a time.  NaN logits give NaN.
    """
    total = 0.0
    for start in range(0, len(targets), 64):
        rows = logits[start : start + 64].astype(np.float64)  # [64, V]
        top = rows.max(axis=-1, keepdims=True)
        below = rows - top
        chosen = below[np.arange(len(rows)), targets[start : start + 64]]  # [64]
        total += float((np.log(np.exp(below).sum(axis=-1)) - chosen).sum())
    return total / len(targets)
