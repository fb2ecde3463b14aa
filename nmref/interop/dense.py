"""Packed -> dense: plain safetensors files and Hugging Face folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from nmref.container import load
from nmref.container.safetensors import write_raw
from nmref.dtypes import Array
from nmref.errors import Code, NmrefError
from nmref.model.checkpoint import open_checkpoint, write_checkpoint
from nmref.tensor import SparseWeight


class Dense(Mapping[str, Array]):
    """A packed file's tensors, each made dense when it is asked for."""

    def __init__(self, tensors: Mapping[str, SparseWeight | Array]) -> None:
        self._tensors = tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __getitem__(self, name: str) -> Array:
        tensor = self._tensors[name]
        return tensor.to_dense() if isinstance(tensor, SparseWeight) else tensor


def unpack_file(source: Path, target: Path) -> None:
    """Write the dense form of a packed file as a plain safetensors file."""
    write_raw(target, Dense(load(source)), {})


def unpack_folder(source: Path, target: Path) -> None:
    """Write the dense form of a packed model folder as a Hugging Face folder."""
    checkpoint = open_checkpoint(source)
    if not checkpoint.packed:
        raise NmrefError(Code.T_FILE, str(source), "a dense model", "a packed one")
    write_checkpoint(target, checkpoint.config.raw, Dense(checkpoint.tensors), source)
