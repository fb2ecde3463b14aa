"""What can be refused before any work: places to write to, masks, recipes that nothing can hold."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nmref.container.atomic import check_new
from nmref.errors import Code, NmrefError
from nmref.model.checkpoint import Checkpoint, DenseTensors
from nmref.model.config import linear_names
from nmref.prune.masks import maskfile
from nmref.prune.masks.maskfile import Mask
from nmref.prune.recipe.document import Patterns
from nmref.prune.run.block import check_unpermuted
from nmref.prune.run.pipeline import dense_tensor
from nmref.prune.run.work import work_folder
from nmref.prune.settings import Recipe

ROWS = 4096
"""Of a tensor that are looked at together."""


def check_outputs(source: Path, target: Path, save_masks: Path | None) -> None:
    """Whether the folder `target` and the mask file can be made.

    Raises T_FILE: something is at `target`, or it has no name or lies in the source; `save_masks`
    is in no folder, lies in the source, the target or the work folder, or would take the place of
    what is no mask file; one of them lies in a folder that cannot be written to.
    """
    if not target.name:
        raise NmrefError(Code.T_FILE, str(target), "a path without a name", "a new folder")
    unfinished = work_folder(target)
    try:
        check_new(target)
    except NmrefError as error:
        if not unfinished.exists():
            raise
        want = f"{error.want}; {unfinished} is what an interrupted run left"
        raise NmrefError(error.code, error.where, error.got, want) from None
    if (target.parent.resolve() / target.name).is_relative_to(source.resolve()):
        raise NmrefError(Code.T_FILE, str(target), f"a path in {source}", "one outside it")
    _check_writable(target)
    if save_masks is None:
        return
    if not save_masks.parent.is_dir():
        raise NmrefError(Code.T_FILE, str(save_masks), "no such folder", "one to write in")
    _check_writable(save_masks)
    place = save_masks.parent.resolve() / save_masks.name
    for folder in (source, target, unfinished):
        if place.is_relative_to(folder.resolve()):
            got, want = f"a path in {folder}", "one outside it"
            raise NmrefError(Code.T_FILE, str(save_masks), got, want)
    if save_masks.is_symlink() or save_masks.exists():
        _check_is_mask_file(save_masks)


def check_outside(checkpoint: Checkpoint) -> None:
    """Whether the weights outside the blocks, which no stage looks at, are finite.  T_TENSOR."""
    for name in checkpoint.tensors:
        if name.startswith("model.layers."):
            continue
        tensor = np.atleast_1d(dense_tensor(checkpoint, name))
        for start in range(0, len(tensor), ROWS):  # in pieces: an embedding is large
            piece = tensor[start : start + ROWS]
            for place in np.argwhere(~np.isfinite(piece))[:1].tolist():
                axes = ("row", "column") if len(place) == 2 else ("element",)
                at = (start + place[0], *place[1:])
                where = " ".join((name, *(f"{a} {i}" for a, i in zip(axes, at, strict=True))))
                got = str(piece[tuple(place)])
                raise NmrefError(Code.T_TENSOR, where, got, "a finite weight")
        if isinstance(checkpoint.tensors, DenseTensors):
            checkpoint.tensors.release(name)


def check_packable(recipe: Recipe) -> None:
    """Whether a packed file can hold what the recipe makes.  Raises T_ARGUMENT."""
    for bad, what in (
        (recipe.place != "structured", "unstructured outliers"),
        (recipe.permute_all, "masks of permuted inputs"),
    ):
        if bad:
            raise NmrefError(Code.T_ARGUMENT, "recipe", what, "what a packed file can hold")


def check_given(checkpoint: Checkpoint, recipe: Recipe, given: Mapping[str, Mask]) -> None:
    """Masks of linears of this model, of their shapes and in their order.

    Raises T_ARGUMENT, also for what a recipe says of patterns that the masks have already.
    """
    check_unpermuted(recipe, given)
    doubled = {"rules": len(recipe.rules), "allocate": recipe.allocate is not None}
    for what, there in doubled.items():
        if given and there:
            raise NmrefError(Code.T_ARGUMENT, what, "some, with given masks", "none")
    linears, found = set(linear_names(checkpoint.config)), checkpoint.tensors
    for name in given:
        if name not in linears:
            raise NmrefError(Code.T_ARGUMENT, f"mask {name}", "no such weight", "one to prune")
        got, want = given[name].base.shape, found[name].shape
        if got != want:
            raise NmrefError(Code.T_ARGUMENT, f"mask {name}", f"shape {list(got)}", f"{list(want)}")


def given_patterns(checkpoint: Checkpoint, given: Mapping[str, Mask]) -> dict[str, Patterns]:
    """Those of the masks; a linear without one stays dense.  Raises T_ARGUMENT (no patterns)."""
    patterns: dict[str, Patterns] = dict.fromkeys(linear_names(checkpoint.config), (None, None))
    for name, mask in given.items():
        if mask.pattern is None or (mask.salient is not None and mask.outliers is None):
            raise NmrefError(Code.T_ARGUMENT, name, "a mask without N:M", "one to pack")
        patterns[name] = mask.pattern, mask.outliers
    return patterns


def _check_writable(path: Path) -> None:
    """As far as can be told before it is tried.  Raises T_FILE."""
    if not os.access(path.parent, os.W_OK):
        raise NmrefError(Code.T_FILE, str(path), "a folder that cannot be written to", "another")


def _check_is_mask_file(path: Path) -> None:
    want = "a new file, or one of masks"
    if not path.is_file():
        got = "a folder" if path.is_dir() else "something that is no file"
        raise NmrefError(Code.T_FILE, str(path), got, want)
    try:
        maskfile.read(path)
    except NmrefError:
        raise NmrefError(Code.T_FILE, str(path), "a file that is no mask file", want) from None
