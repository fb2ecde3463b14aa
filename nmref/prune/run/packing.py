"""Pruned blocks -> packed model folder, with what is needed to interrupt, repeat and check it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from nmref.container.atomic import new_folder
from nmref.container.shards import save_model
from nmref.dtypes import Array, container_name
from nmref.errors import Code, NmrefError
from nmref.model.checkpoint import Checkpoint, write_side_files
from nmref.model.config import linear_names
from nmref.pattern import NMPattern
from nmref.prune.masks import maskfile
from nmref.prune.masks.maskfile import Mask
from nmref.prune.recipe.document import Calibration, Masks, Patterns, assign, dumps
from nmref.prune.recipe.origin import made_with
from nmref.prune.run.checks import (
    check_given,
    check_outputs,
    check_outside,
    check_packable,
    given_patterns,
)
from nmref.prune.run.pipeline import (
    Block,
    Report,
    Samples,
    dense_tensor,
    embed,
    layer_patterns,
    prune_blocks,
    stream_shape,
)
from nmref.prune.run.stages import rounded
from nmref.prune.run.streams import DiskStreams
from nmref.prune.run.work import RESULT, Work, working
from nmref.prune.settings import Recipe
from nmref.tensor import OutlierSpec, SparseWeight, WeightSpec

RECIPE_FILE = "nmref-recipe.toml"
"""Beside the packed weights: what was done, to be done again."""


def prune(
    checkpoint: Checkpoint,
    target: Path,
    recipe: Recipe,
    samples: Samples,
    *,
    calibration: Calibration | None = None,
    given: Mapping[str, Mask] = MappingProxyType({}),
    save_masks: Path | None = None,
    restart: bool = False,
    threads: int | None = None,
    report: Report = lambda layer, stage: None,
) -> None:
    """Write a packed model folder, whole or not at all; an interrupted run goes on where it was.

    Parameters
    ----------
    samples : windows of token ids, all of one length; not looked at where the recipe needs none.
    calibration : where they come from, for the recipe file.
    given : masks to take as they are, by name of weight, instead of choosing; a weight without one
        stays dense.  Not with a recipe that permutes.
    save_masks : write the masks to this file, too.
    restart : throw away what an interrupted run left.

    Raises T_FILE (target there already, another run's work), T_TENSOR (not a dense checkpoint, a
    weight that is not finite), T_SCORE (an activation that is not), T_ARGUMENT.
    """
    check_outputs(checkpoint.folder, target, save_masks)
    shape = stream_shape(checkpoint, recipe, samples, given)
    if not shape[0]:
        samples, calibration = [], None
    check_packable(recipe)
    check_given(checkpoint, recipe, given)
    check_outside(checkpoint)
    masks = Masks.of(given) if given else None
    text = dumps(recipe, calibration, made_with(recipe, checkpoint), masks)
    run = _digest(text, checkpoint, samples)
    with working(target, run, restart) as work:
        patterns = _patterns(checkpoint, recipe, samples, given, work, threads, report)
        if save_masks is not None and not any(base for base, _ in patterns.values()):
            raise NmrefError(Code.T_ARGUMENT, "masks", "none, all stays dense", "at least one")
        teacher = recipe.tune.teacher if recipe.tune else None
        streams = DiskStreams(work.folder, shape, teacher, work.done)
        if not work.done:
            embed(checkpoint, samples, streams)
        blocks = prune_blocks(
            *(checkpoint, recipe, streams, patterns, work.done, given),
            threads=threads,
            report=report,
        )
        for block in blocks:
            chosen = {name: one.mask for name, one in block.pruned.items()}
            work.commit(_packed(checkpoint, block), chosen, streams)
            del block, chosen  # gone before the next is pruned
        with new_folder(target, work.folder / RESULT) as folder:
            save_model(folder, _specs(checkpoint, patterns), _all(checkpoint, work.tensors()))
            write_side_files(folder, checkpoint.config.raw, checkpoint.folder)
            (folder / RECIPE_FILE).write_text(text, encoding="utf-8", newline="\n")
            if save_masks is not None:
                maskfile.write_stream(save_masks, work.mask_specs(), work.masks())


def _patterns(
    checkpoint: Checkpoint,
    recipe: Recipe,
    samples: Samples,
    given: Mapping[str, Mask],
    work: Work,
    threads: int | None,
    report: Report,
) -> dict[str, Patterns]:
    """Base and outlier pattern of every linear; OWL's are found once and kept with the work."""
    if given:
        return given_patterns(checkpoint, given)
    if recipe.allocate is None:
        return assign(recipe, linear_names(checkpoint.config))
    if "stored" not in work.notes:
        shape = stream_shape(checkpoint, recipe, samples)
        streams = DiskStreams(work.folder, shape, None)
        embed(checkpoint, samples, streams)
        found = layer_patterns(checkpoint, recipe, streams, threads, report)
        work.note(stored={name: str(base) for name, (base, _) in found.items() if base})
    stored = work.notes["stored"]
    assert isinstance(stored, dict)
    patterns = assign(recipe, linear_names(checkpoint.config))
    for name, base in stored.items():
        patterns[name] = NMPattern.parse(base), patterns[name][1]
    return patterns


def _packed(checkpoint: Checkpoint, block: Block) -> dict[str, SparseWeight | Array]:
    """The tensors of a block as the file has them."""
    done: dict[str, SparseWeight | Array] = {}
    for name, weight in block.others.items():
        done[name] = rounded(weight, dense_tensor(checkpoint, name).dtype, name)
    for name, one in block.pruned.items():
        done[name] = one.packed(dense_tensor(checkpoint, name), name)
    return done


def _specs(
    checkpoint: Checkpoint, patterns: Mapping[str, Patterns]
) -> dict[str, WeightSpec | tuple[str, tuple[int, ...]]]:
    """What the folder will hold: first what lies outside the blocks, then block after block."""
    specs: dict[str, WeightSpec | tuple[str, tuple[int, ...]]] = {}
    for name in _in_order(checkpoint):
        array = dense_tensor(checkpoint, name)
        dtype, (base, extra) = container_name(array), patterns.get(name, (None, None))
        if base is None:
            specs[name] = dtype, array.shape
        else:
            outliers = OutlierSpec(extra, dtype, "idx8") if extra else None
            specs[name] = WeightSpec((array.shape[0], array.shape[1]), base, dtype, outliers)
    return specs


def _in_order(checkpoint: Checkpoint) -> list[str]:
    """Names of all tensors: outside the blocks, then block by block, ascending within."""

    def key(name: str) -> tuple[int, str]:
        parts = name.split(".")
        return (int(parts[2]) if name.startswith("model.layers.") else -1), name

    return sorted(checkpoint.tensors, key=key)


def _all(
    checkpoint: Checkpoint, blocks: Iterator[tuple[str, SparseWeight | Array]]
) -> Iterator[tuple[str, SparseWeight | Array]]:
    for name in _in_order(checkpoint):
        if not name.startswith("model.layers."):
            yield name, checkpoint.tensors[name]
    yield from blocks


def _digest(text: str, checkpoint: Checkpoint, samples: Samples) -> str:
    """What must be the same for a run to go on: recipe, masks, source, versions; tokens."""
    total = hashlib.sha256(text.encode())
    total.update(json.dumps([checkpoint.config.raw, samples], sort_keys=True).encode())
    return total.hexdigest()
