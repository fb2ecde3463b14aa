"""Checkpoint -> calibrate -> score -> outliers -> mask -> packed weights, block by block.

The inputs of a block come from the already pruned blocks before it, so memory is one block and
the calibration activations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from nmref.container.atomic import new_folder
from nmref.container.shards import save_model
from nmref.dtypes import Array, container_name, widen
from nmref.errors import Code, NmrefError
from nmref.linear import FAST
from nmref.model import llama
from nmref.model.checkpoint import Checkpoint, write_side_files
from nmref.model.config import LINEAR_KINDS, LlamaConfig, linear_names
from nmref.numerics import expand
from nmref.pattern import NMPattern
from nmref.prune.calibrate import ColumnNorms
from nmref.prune.mask import split
from nmref.prune.score import check_finite, check_score, magnitude, ria
from nmref.tensor import OutlierSpec, SparseWeight, WeightSpec, encode

F32 = npt.NDArray[np.float32]
Score = Literal["magnitude", "ria"]


@dataclass(frozen=True)
class Recipe:
    """How to prune: base pattern, outlier pattern or None, and the score."""

    pattern: NMPattern
    outliers: NMPattern | None
    score: Score

    def spec(self, shape: tuple[int, int], dtype: str) -> WeightSpec:
        """What a weight of this shape and dtype becomes."""
        out = OutlierSpec(self.outliers, dtype, "idx8") if self.outliers else None
        return WeightSpec(shape, self.pattern, dtype, out)


@dataclass
class Summary:
    """What a run kept: counts over all pruned matrices."""

    matrices: int = 0
    elements: int = 0
    outliers: int = 0
    """Outliers that are not zero: a tail of k < 256 columns has up to min(n, k) of them."""

    def add(self, weight: SparseWeight) -> None:
        """Count one matrix more."""
        self.matrices += 1
        self.elements += weight.shape[0] * weight.shape[1]
        self.outliers += weight.outlier_count()


def prune_weight(weight: Array, recipe: Recipe, column_norm: F32 | None, name: str) -> SparseWeight:
    """Score, choose and pack one weight [R, K]; `column_norm` [K] where the score needs it."""
    dense = widen(weight)
    if recipe.score == "magnitude":
        score = magnitude(dense)
    elif column_norm is not None:
        score = ria(dense, column_norm)
    else:
        raise NmrefError(Code.T_ARGUMENT, name, "no column norms", f"them, for {recipe.score}")
    check_score(score, name)
    mask, salient = split(score, recipe.pattern, recipe.outliers)
    zero = np.zeros((), dtype=weight.dtype)
    return encode(
        np.where(mask, weight, zero),
        str(recipe.pattern),
        mask=mask,
        outliers=None if salient is None else np.where(salient, weight, zero),
        outlier_pattern=str(recipe.outliers),
        outlier_mask=salient,
    )


def prune_blocks(
    checkpoint: Checkpoint, recipe: Recipe, samples: list[list[int]]
) -> Iterator[tuple[str, SparseWeight]]:
    """Prune all linears, block after block; `samples` are windows of token ids, or none."""
    config, tensors = checkpoint.config, checkpoint.tensors
    streams = [llama.embed(tensors, ids) for ids in samples]
    for layer in range(config.num_hidden_layers):
        weights = _block_weights(checkpoint, layer)
        norms = _calibrate(weights, config, layer, streams)
        for name in _linears(layer):
            norm = norms.norm(llama.input_tap(name)) if streams else None
            packed = prune_weight(_dense(tensors[name], name), recipe, norm, name)
            weights[name] = expand(packed)
            yield name, packed
        streams = [llama.block(weights, config, layer, x, ops=FAST) for x in streams]


def prune(
    checkpoint: Checkpoint,
    target: Path,
    recipe: Recipe,
    samples: list[list[int]],
    progress: Callable[[str], None] = lambda name: None,
) -> Summary:
    """Write a packed model folder, whole or not at all; `progress` gets each name when done."""
    summary = Summary()
    tensors = checkpoint.tensors
    linears = set(linear_names(checkpoint.config))
    for ids in samples:
        llama.check_tokens(checkpoint.config, ids)
    specs: dict[str, WeightSpec | tuple[str, tuple[int, ...]]] = {}
    others = [name for name in tensors if name not in linears]
    for name in others:
        array = _dense(tensors[name], name)
        specs[name] = (container_name(array), array.shape)
    for name in linear_names(checkpoint.config):
        array = _dense(tensors[name], name)
        specs[name] = recipe.spec((array.shape[0], array.shape[1]), container_name(array))

    def stream() -> Iterator[tuple[str, SparseWeight | Array]]:
        for name in others:
            yield name, tensors[name]
        for name, packed in prune_blocks(checkpoint, recipe, samples):
            summary.add(packed)
            yield name, packed
            progress(name)

    with new_folder(target) as folder:
        save_model(folder, specs, stream())
        write_side_files(folder, checkpoint.config.raw, checkpoint.folder)
    return summary


def _linears(layer: int) -> list[str]:
    return [f"model.layers.{layer}.{kind}.weight" for kind in LINEAR_KINDS]


def _block_weights(checkpoint: Checkpoint, layer: int) -> dict[str, SparseWeight | Array]:
    """The dense float32 weights of one block; its linears are finite."""
    tensors, linears = checkpoint.tensors, _linears(layer)
    weights: dict[str, SparseWeight | Array] = {}
    for name in tensors:
        if name.startswith(f"model.layers.{layer}."):
            weights[name] = wide = widen(_dense(tensors[name], name))
            if name in linears:
                check_finite(wide, name)
    return weights


def _calibrate(
    weights: llama.Weights, config: LlamaConfig, layer: int, streams: list[F32]
) -> ColumnNorms:
    taps = {llama.input_tap(name) for name in _linears(layer)}
    norms = ColumnNorms(taps, len(streams))
    for x in streams:
        llama.block(weights, config, layer, x, tap=norms, ops=FAST)
    return norms


def _dense(tensor: SparseWeight | Array, name: str) -> Array:
    if isinstance(tensor, SparseWeight):
        raise NmrefError(Code.T_TENSOR, name, "a packed weight", "a dense checkpoint")
    return tensor
