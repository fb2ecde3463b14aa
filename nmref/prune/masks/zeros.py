"""Whether weights are zero wherever their mask says so, whoever wrote them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nmref import container
from nmref.container import NMFile, files_of
from nmref.container.metadata import KEY
from nmref.container.safetensors import RawFile, open_raw
from nmref.dtypes import Array
from nmref.errors import Code, NmrefError
from nmref.model.checkpoint import DENSE_FILE
from nmref.prune.masks.maskfile import Mask
from nmref.tensor import SparseWeight


@dataclass(frozen=True)
class ZeroReport:
    """What `check_zeros` found: counts over the weights that have a mask."""

    weights: int
    elements: int
    kept: int
    """Elements that the masks keep."""
    nonzero: int
    """Elements that are not zero, all of them kept."""


class StoredWeights(Mapping[str, Array]):
    """The tensors of some safetensors files as dense arrays, packed weights too.

    `path` is a file, an index of shards, or a folder with model.safetensors or
    model.nmref.safetensors (or their index); config.json is not needed.  A tensor is read when it
    is asked for.

    Raises T_FILE (nothing there, both kinds, a name in two files) and what opening the files
    raises; reading a packed weight, what NMFile raises.
    """

    def __init__(self, path: Path) -> None:
        self._home: dict[str, NMFile | RawFile] = {}
        self.packed = False
        """Whether one of the files is packed."""
        for file in files_of(_weights_of(Path(path))):
            raw = open_raw(file)
            packed = raw.metadata is not None and KEY in raw.metadata
            self.packed |= packed
            opened = NMFile(file) if packed else raw
            for name in opened if isinstance(opened, NMFile) else raw.entries:
                if name in self._home:
                    raise NmrefError(Code.T_FILE, f"{path} {name}", "in two files", "one")
                self._home[name] = opened

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._home))

    def __len__(self) -> int:
        return len(self._home)

    def __getitem__(self, name: str) -> Array:
        home = self._home[name]
        if isinstance(home, RawFile):
            return home.array(name)
        tensor = home[name]
        return tensor.to_dense() if isinstance(tensor, SparseWeight) else tensor

    def release(self, name: str) -> None:
        """Let go of the memory that reading a dense tensor took."""
        home = self._home[name]
        if isinstance(home, RawFile):
            home.release(name)


def check_zeros(
    weights: Mapping[str, Array],
    masks: Mapping[str, Mask],
    progress: Callable[[str], None] = lambda name: None,
) -> ZeroReport:
    """Every weight that has a mask is zero (+0 or -0) outside it; NaN is not zero.

    One weight and its mask are in memory at a time; `progress` gets each name when it is checked.
    Other weights are not looked at.

    Raises T_TENSOR for the first weight, by name, that is missing, has another shape, or has an
    element that should be zero: the first by row and column, and how many there are.
    """
    elements = kept = nonzero = 0
    for name in sorted(masks):
        if name not in weights:
            raise NmrefError(Code.T_TENSOR, name, "missing", "the weight of this mask")
        weight, mask = weights[name], masks[name].kept
        if weight.shape != mask.shape:
            got, want = f"shape {list(weight.shape)}", f"{list(mask.shape)} as the mask"
            raise NmrefError(Code.T_TENSOR, name, got, want)
        filled = weight != 0
        outside = np.argwhere(filled & ~mask)
        for row, column in outside[:1].tolist():
            where = f"{name} row {row} column {column}"
            got = f"{weight[row, column]} outside the mask, {len(outside)} such in this weight"
            raise NmrefError(Code.T_TENSOR, where, got, "0")
        elements += mask.size
        kept += int(np.count_nonzero(mask))
        nonzero += int(np.count_nonzero(filled))
        if isinstance(weights, StoredWeights):
            weights.release(name)
        progress(name)
    return ZeroReport(len(masks), elements, kept, nonzero)


def _weights_of(path: Path) -> Path:
    """The file or index of a folder's weights; any other path as it is."""
    if not path.is_dir():
        return path
    kinds = (DENSE_FILE, f"{DENSE_FILE}.index.json"), (container.FILE_NAME, container.INDEX_NAME)
    found = [
        [path / name for name in names if (path / name).is_file()][:1] for names in kinds
    ]  # one file goes before an index
    match [file for names in found for file in names]:
        case [only]:
            return only
        case []:
            got = "no weights"
        case _:
            got = "both dense and packed weights"
    want = f"{DENSE_FILE} or {container.FILE_NAME}"
    raise NmrefError(Code.T_FILE, str(path), got, want)
