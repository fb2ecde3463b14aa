"""Write a model as one file, or as shards with an index (SPEC part 5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from math import prod
from pathlib import Path

from nmref.container import strictjson
from nmref.container.folder import FILE_NAME, INDEX_NAME
from nmref.container.safetensors import TensorSpec, open_raw
from nmref.container.writer import save_stream
from nmref.dtypes import CONTAINER_DTYPES, Array
from nmref.errors import Code, NmrefError
from nmref.tensor import SparseWeight, WeightSpec

DEFAULT_SHARD_BYTES = 5_000_000_000

Specs = Mapping[str, WeightSpec | TensorSpec]


def save_model(
    folder: Path,
    specs: Specs,
    tensors: Iterable[tuple[str, SparseWeight | Array]],
    max_bytes: int = DEFAULT_SHARD_BYTES,
) -> list[Path]:
    """Write the weights of a model into a folder; return the files.

    `tensors` come in the order of `specs`, and one is in memory at a time.  A file holds at most
    `max_bytes` of data unless one weight alone has more; all parts of a weight share a file.
    Raises T_FILE where the folder has a model already, T_TENSOR, and what `save` raises.
    """
    for name in (FILE_NAME, INDEX_NAME):
        if (folder / name).exists():
            raise NmrefError(Code.T_FILE, str(folder / name), "there already", "a new folder")
    shards = list(_split(specs, max_bytes))
    if len(shards) == 1:
        save_stream(folder / FILE_NAME, specs, tensors)
        return [folder / FILE_NAME]
    coming = iter(tensors)
    files = []
    for number, names in enumerate(shards, start=1):
        file = folder / f"model-{number:05}-of-{len(shards):05}.nmref.safetensors"
        save_stream(file, {name: specs[name] for name in names}, islice(coming, len(names)))
        files.append(file)
    for name, _ in coming:
        raise NmrefError(Code.T_TENSOR, name, "one more tensor", "only those announced")
    write_index(folder / INDEX_NAME, files)
    return files


def write_index(path: Path, files: list[Path]) -> None:
    """The index of some files of the same folder: compact sorted JSON and a line feed."""
    weight_map: dict[str, str] = {}
    total = 0
    for file in files:
        entries = open_raw(file).entries
        weight_map |= dict.fromkeys(entries, file.name)
        total += sum(entry.nbytes for entry in entries.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    path.write_text(strictjson.dumps(index) + "\n", encoding="ascii", newline="\n")


def _split(specs: Specs, max_bytes: int) -> Iterator[list[str]]:
    names: list[str] = []
    filled = 0
    for name, spec in specs.items():
        size = _bytes(spec)
        if names and filled + size > max_bytes:
            yield names
            names, filled = [], 0
        names.append(name)
        filled += size
    yield names


def _bytes(spec: WeightSpec | TensorSpec) -> int:
    parts = spec.part_shapes().values() if isinstance(spec, WeightSpec) else [spec]
    return sum(prod(shape) * CONTAINER_DTYPES[dtype].itemsize for dtype, shape in parts)
