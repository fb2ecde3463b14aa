"""Write a canonical file, one tensor at a time (SPEC part 5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nmref.container import digest, strictjson
from nmref.container import metadata as meta
from nmref.container.atomic import new_file
from nmref.container.reader import check_structure
from nmref.container.safetensors import (
    Entry,
    TensorSpec,
    check_name,
    layout,
    parse_header,
    write_tensors,
)
from nmref.dtypes import Array, container_name
from nmref.errors import Code, NmrefError
from nmref.tensor import SparseWeight, WeightSpec, check

_NO_DIGEST = "0" * 64


def save(path: str | Path, tensors: Mapping[str, SparseWeight | Array]) -> str:
    """Write weights and other tensors to one file; return its content digest.

    Equal content gives equal bytes.  A crash leaves the old file or none.

    Raises the codes that reading the file would raise, X_DTYPE for arrays that no container holds.
    """
    specs: dict[str, WeightSpec | TensorSpec] = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, SparseWeight):
            specs[name] = tensor.spec
        else:
            specs[name] = (container_name(tensor), tensor.shape)
    return save_stream(path, specs, tensors.items())


def save_stream(
    path: str | Path,
    specs: Mapping[str, WeightSpec | TensorSpec],
    tensors: Iterable[tuple[str, SparseWeight | Array]],
) -> str:
    """The same from an iterator, in any order: one tensor is in memory at a time.

    `specs` says beforehand what will come; T_TENSOR when something else comes or is missing.
    """
    weights = {name: spec for name, spec in specs.items() if isinstance(spec, WeightSpec)}
    header, entries = _plan(weights, specs)
    parts = (part for name, tensor in tensors for part in _parts(name, tensor, specs).items())
    with new_file(Path(path)) as file:
        hashes = write_tensors(file, header, entries, parts)
        if missing := sorted(set(entries) - set(hashes)):
            raise NmrefError(Code.T_TENSOR, missing[0], "nothing", "the tensor that was announced")
        found = digest.content_sha256(entries, hashes, meta.document(weights, _NO_DIGEST))
        file.seek(0)
        file.write(layout(_shapes(entries), _metadata(weights, found))[0])
    return found


def _metadata(weights: dict[str, WeightSpec], content_sha256: str) -> dict[str, str]:
    return {meta.KEY: strictjson.dumps(meta.document(weights, content_sha256))}


def _shapes(entries: Mapping[str, Entry]) -> dict[str, TensorSpec]:
    return {name: (entry.dtype, entry.shape) for name, entry in entries.items()}


def _plan(
    weights: dict[str, WeightSpec], specs: Mapping[str, WeightSpec | TensorSpec]
) -> tuple[bytes, dict[str, Entry]]:
    """Header with a digest of zeros, and entries; passed through the reader's own checks."""
    shapes: dict[str, TensorSpec] = {}
    for name, spec in specs.items():
        if isinstance(spec, WeightSpec):
            shapes |= {f"{name}.{suffix}": part for suffix, part in spec.part_shapes().items()}
        elif meta.RESERVED.search(name):
            raise NmrefError(Code.E_UNEXPECTED, name, "a part of no weight", "no such tensor")
        else:
            shapes[name] = spec
    for name in weights:
        meta.check_weight_name(name)
    for name in shapes:
        check_name(name)
    header, entries = layout(shapes, _metadata(weights, _NO_DIGEST))
    size = max((entry.end for entry in entries.values()), default=0)
    checked, metadata = parse_header(header[8:], size)
    meta.parse(metadata)
    check_structure(weights, checked)
    return header, entries


def _parts(name: str, tensor: SparseWeight | Array, specs: Mapping[str, Any]) -> dict[str, Array]:
    """Full name -> array, as announced."""
    if isinstance(tensor, SparseWeight):
        spec: Any = tensor.spec
        check(tensor, name)
        parts = {f"{name}.{suffix}": array for suffix, array in tensor.parts().items()}
    else:
        spec = (container_name(tensor), tensor.shape)
        parts = {name: tensor}
    if specs.get(name) != spec:
        raise NmrefError(Code.T_TENSOR, name, f"{spec}", f"{specs.get(name)}, as announced")
    return parts
