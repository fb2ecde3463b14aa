"""Checkpoint -> pruned blocks, one after the other; `packing.py` makes a model folder of them.

The inputs of a block come from the already pruned blocks before it, so memory is one block and
what its stages need, and the activations, which may lie in files (`streams.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from nmref.dtypes import Array, widen
from nmref.errors import Code, NmrefError
from nmref.model import llama
from nmref.model.checkpoint import Checkpoint, DenseTensors
from nmref.model.config import linear_names
from nmref.pattern import NMPattern
from nmref.prune.choose import allocate
from nmref.prune.choose.score import wanda
from nmref.prune.masks.maskfile import Mask
from nmref.prune.recipe.document import Patterns, assign, check, rule_of
from nmref.prune.run.block import needs_activations, prune_block
from nmref.prune.run.calibrate import advance, calibrate
from nmref.prune.run.stages import Pruned, rounded
from nmref.prune.run.streams import Streams
from nmref.prune.settings import Recipe
from nmref.tensor import SparseWeight

F32 = npt.NDArray[np.float32]
Samples = list[list[int]]
Report = Callable[[int, str], None]
"""Called with the number of the block and what begins there; "done" when it has ended."""


@dataclass(frozen=True, eq=False)
class Block:
    """A pruned block: its linears, and its other weights as they are afterwards (float32)."""

    layer: int
    pruned: Mapping[str, Pruned]
    others: Mapping[str, F32]


def prune_blocks(
    checkpoint: Checkpoint,
    recipe: Recipe,
    streams: Streams,
    patterns: Mapping[str, Patterns],
    first: int = 0,
    given: Mapping[str, Mask] = MappingProxyType({}),
    threads: int | None = None,
    report: Report = lambda layer, stage: None,
) -> Iterator[Block]:
    """Prune block after block from `first` on; `given` masks are taken as they are.

    `streams` holds its inputs; those of the next block are in `streams.outputs` when a block is
    yielded, and change places with them when the next is asked for.
    """
    for layer in range(first, checkpoint.config.num_hidden_layers):

        def said(stage: str, layer: int = layer) -> None:
            report(layer, stage)

        # no name holds the block here, so that it is gone before the next is read
        yield _pruned_block(checkpoint, layer, recipe, streams, patterns, given, threads, said)
        streams.advance()
        report(layer, "done")


def _pruned_block(
    checkpoint: Checkpoint,
    layer: int,
    recipe: Recipe,
    streams: Streams,
    patterns: Mapping[str, Patterns],
    given: Mapping[str, Mask],
    threads: int | None,
    report: Callable[[str], None],
) -> Block:
    """One block, with the inputs of the next in `streams.outputs`."""
    config, dense = checkpoint.config, _block_weights(checkpoint, layer)
    names = [name for name in patterns if name in dense]
    if streams.dense_inputs is not None and streams.targets is not None:
        report("targets")
        advance(dense, config, layer, streams.dense_inputs, streams.targets, threads)
    pruned, others = prune_block(
        dense,
        config,
        layer,
        recipe,
        {name: patterns[name] for name in names},
        streams.inputs,
        streams.targets,
        {name: given[name] for name in names if name in given},
        threads,
        report,
    )
    after = {name: _as_stored(checkpoint, name, one.weight) for name, one in pruned.items()}
    # a copy: what is not tuned may still lie in the source's file
    others = {name: _as_stored(checkpoint, name, weight.copy()) for name, weight in others.items()}
    if len(streams.inputs):
        report("next inputs")
        advance(after | others, config, layer, streams.inputs, streams.outputs, threads)
    _release(checkpoint, dense)
    return Block(layer, pruned, others)


def layer_patterns(
    checkpoint: Checkpoint,
    recipe: Recipe,
    streams: Streams,
    threads: int | None = None,
    report: Report = lambda layer, stage: None,
) -> dict[str, Patterns]:
    """Base and outlier pattern of every linear: rules, and OWL's N of every layer if asked for.

    OWL's N is for the weights that no rule matches, and by their scores alone.  It looks at the
    dense model: the samples go through all of it once.  Uses up `streams`.
    """
    config = checkpoint.config
    patterns = assign(recipe, linear_names(config))
    how = recipe.allocate
    if how is None:
        return patterns
    shares: dict[int, float] = {}
    for layer in range(config.num_hidden_layers):
        report(layer, "allocate")
        dense = _block_weights(checkpoint, layer)
        seen = calibrate(
            *(dense, config, layer, streams.inputs),
            put=streams.outputs.__setitem__,
            threads=threads,
        )
        names = [name for name in patterns if name in dense and rule_of(recipe, name) is None]
        scores = [wanda(dense[name], seen[llama.input_tap(name)].norm) for name in names]
        if scores:
            shares[layer] = allocate.owl_shares(scores, how.multiple)
        streams.advance()
        _release(checkpoint, dense)
        del dense, seen, scores  # gone before the next layer is read
    if not shares:  # rules match every weight
        return patterns
    counts = allocate.stored(shares, recipe.pattern, how.span)
    for name, (_, outliers) in patterns.items():
        if rule_of(recipe, name) is None:
            layer = int(name.split(".")[2])
            patterns[name] = NMPattern(counts[layer], recipe.pattern.block), outliers
    return patterns


def embed(checkpoint: Checkpoint, samples: Samples, streams: Streams) -> None:
    """The inputs of the first block.  Raises T_ARGUMENT for bad tokens."""
    for i, ids in enumerate(samples):
        llama.check_tokens(checkpoint.config, ids)
        streams.inputs[i] = x = llama.embed(checkpoint.tensors, ids)
        if streams.dense_inputs is not None:
            streams.dense_inputs[i] = x


def stream_shape(
    checkpoint: Checkpoint,
    recipe: Recipe,
    samples: Samples,
    given: Mapping[str, Mask] = MappingProxyType({}),
) -> tuple[int, int, int]:
    """[S, T, D] of the calibration activations; S = 0 where the recipe needs none."""
    if not needs_activations(recipe, given):
        return 0, 0, checkpoint.config.D
    if not samples:
        raise NmrefError(Code.T_ARGUMENT, "calibration", "no samples", "some, for this recipe")
    lengths = {len(ids) for ids in samples}
    if len(lengths) > 1:
        raise NmrefError(
            Code.T_ARGUMENT, "calibration", f"samples of {sorted(lengths)} tokens", "one length"
        )
    return len(samples), lengths.pop(), checkpoint.config.D


def prune_weights(
    checkpoint: Checkpoint,
    recipe: Recipe,
    samples: Samples,
    threads: int | None = None,
    report: Report = lambda layer, stage: None,
) -> dict[str, F32]:
    """All weights of the pruned model as dense float32: to measure what cannot be packed, too.

    Raises T_TENSOR, T_SCORE, T_ARGUMENT as `prune` does.
    """
    recipe = check(recipe)
    shape = stream_shape(checkpoint, recipe, samples)
    if not shape[0]:
        samples = []
    weights = {
        name: widen(dense_tensor(checkpoint, name))
        for name in checkpoint.tensors
        if not name.startswith("model.layers.")
    }
    if recipe.allocate is not None:
        streams = Streams(shape, None)
        embed(checkpoint, samples, streams)
        patterns = layer_patterns(checkpoint, recipe, streams, threads, report)
    else:
        patterns = assign(recipe, linear_names(checkpoint.config))
    streams = Streams(shape, recipe.tune.teacher if recipe.tune else None)
    embed(checkpoint, samples, streams)
    for block in prune_blocks(
        checkpoint, recipe, streams, patterns, threads=threads, report=report
    ):
        weights |= block.others
        for name, one in block.pruned.items():
            weights[name] = _as_stored(checkpoint, name, one.weight)
        del block
    return weights


def _block_weights(checkpoint: Checkpoint, layer: int) -> dict[str, F32]:
    """All float32 weights of one block."""
    return {
        name: np.require(widen(dense_tensor(checkpoint, name)), requirements=["C", "A"])
        for name in checkpoint.tensors
        if name.startswith(f"model.layers.{layer}.")
    }


def _as_stored(checkpoint: Checkpoint, name: str, weight: F32) -> F32:
    """Rounded as the file will have it, and float32 again.  Raises T_TENSOR (it overflows)."""
    return widen(rounded(weight, dense_tensor(checkpoint, name).dtype, name))


def _release(checkpoint: Checkpoint, names: Iterable[str]) -> None:
    """Let go of the memory that reading these tensors took."""
    if isinstance(checkpoint.tensors, DenseTensors):
        for name in names:
            checkpoint.tensors.release(name)


def dense_tensor(checkpoint: Checkpoint, name: str) -> Array:
    """A tensor as it is stored.  Raises T_TENSOR if it is packed."""
    tensor = checkpoint.tensors[name]
    if isinstance(tensor, SparseWeight):
        raise NmrefError(Code.T_TENSOR, name, "a packed weight", "a dense checkpoint")
    return tensor
