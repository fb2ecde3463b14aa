"""What a result was made from and with: kept in its recipe, so that a run can be repeated."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np
import scipy
import scipy.linalg  # it brings a BLAS of its own, which `_blas` is to see
from threadpoolctl import threadpool_info

import nmref
from nmref.container.digest import line
from nmref.errors import Code, NmrefError
from nmref.kernels.versions import versions
from nmref.model.checkpoint import Checkpoint, DenseTensors
from nmref.prune.settings import Recipe

_FILES = ("config.json", "tokenizer.json")
"""What shapes the activations, besides the tensors."""


@dataclass(frozen=True)
class MadeWith:
    """Versions, seeds and the source: where all are equal, the same machine gives the same bits."""

    nmref: str
    numpy: str
    scipy: str
    numba: str
    blas: str
    """Of NumPy and of SciPy, each with the CPU that it chose its kernels for."""
    source_sha256: str
    """Of the model that was pruned (`source_sha256`)."""
    seeds: Mapping[str, int] = field(default_factory=dict)
    """By what they are for."""

    def differences(self, other: MadeWith) -> list[str]:
        """One line for everything that is not the same in another."""
        pairs = [(f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self)]
        return [f"{name} {mine}, not {theirs}" for name, mine, theirs in pairs if mine != theirs]


def made_with(recipe: Recipe, checkpoint: Checkpoint) -> MadeWith:
    """What is at work now.  Reads all of the source; raises T_TENSOR (it is packed)."""
    return MadeWith(
        nmref=nmref.__version__,
        numpy=np.__version__,
        scipy=scipy.__version__,
        numba=versions()["numba"],
        blas=_blas(),
        source_sha256=source_sha256(checkpoint),
        seeds={} if recipe.tune is None else {"tune": recipe.tune.seed},
    )


def source_sha256(checkpoint: Checkpoint) -> str:
    """Digest of a dense model: a line for config.json and tokenizer.json and for each tensor.

    How the tensors are cut into shards does not matter.  Raises T_TENSOR (a packed model).
    """
    tensors = checkpoint.tensors
    if not isinstance(tensors, DenseTensors):
        got = "a packed model"
        raise NmrefError(Code.T_TENSOR, str(checkpoint.folder), got, "a dense checkpoint")
    total = hashlib.sha256()
    for name in _FILES:
        path = checkpoint.folder / name
        if path.is_file():
            total.update(f"{hashlib.sha256(path.read_bytes()).hexdigest()} {name}\n".encode())
    for name in sorted(tensors):
        file = tensors.home[name]
        data = hashlib.sha256(file.data(name)).hexdigest()
        tensors.release(name)
        total.update(line(file.entries[name], name, data))
    return total.hexdigest()


def _blas() -> str:
    """Such as "openblas 0.3.30 SkylakeX"; as NumPy was built where threadpoolctl knows none."""
    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    if not found:
        build = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        return f"{build['name']} {build['version']}"
    keys = ("internal_api", "version", "architecture")
    names = {" ".join(str(one[key]) for key in keys if one.get(key)) for one in found}
    return ", ".join(sorted(names))
