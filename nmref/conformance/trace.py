"""Traces: the taps of one forward as files that hardware is compared with (SPEC 8.36, 8.37).

A trace is a folder: `<tap>.f32` for every tap, its canonical results (8.4) little-endian, row
after row, and index.json, whose schema is formats/schema/trace.schema.json.  `trace_files` reads
such folders, `trace_compare` compares them.
"""

from __future__ import annotations

import hashlib
import zlib
from array import array
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nmref import container, numerics
from nmref.conformance.memh import Field, Memory
from nmref.conformance.taps import AXES, tap_names
from nmref.conformance.text import json_bytes
from nmref.container import digest as container_digest
from nmref.container import strictjson
from nmref.container.atomic import new_folder
from nmref.container.metadata import SPEC_VERSION
from nmref.model.checkpoint import Checkpoint, DenseTensors
from nmref.model.config import LlamaConfig
from nmref.model.llama import Tokens, Weights, check_tokens, forward
from nmref.model.taps import Tap as TapFunction
from nmref.numerics.ops import Golden

SCHEMA = "urn:nmref:schema:trace:1"
"""The `schema` member of an index, and the `$id` of formats/schema/trace.schema.json."""

INDEX = "index.json"
CLAUSE = "8.37"

_FIELDS = (
    Field("sign", 31, 31, "binary32 sign"),
    Field("exponent", 30, 23, "binary32 exponent, biased by 127"),
    Field("fraction", 22, 0, "binary32 fraction"),
)

Bits = npt.NDArray[np.uint32]
F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Tap:
    """What an index says of one tap; digests are hexadecimal and of the F32 file.

    `memh` is the SHA-256 of the $readmemh file, None if there is none.
    """

    name: str
    shape: tuple[int, ...]
    sha256: str
    crc32: str
    memh: str | None = None

    def line(self) -> bytes:
        """The line of a trace digest (8.37)."""
        shape = strictjson.dumps(list(self.shape))
        return f"{self.sha256} F32 {shape} {self.name}\n".encode("ascii")

    def document(self) -> dict[str, Any]:
        """The member of `taps` in an index."""
        memh = {"file": f"{self.name}.memh", "sidecar": f"{self.name}.json", "sha256": self.memh}
        return {
            "name": self.name,
            "file": f"{self.name}.f32",
            "dtype": "F32",
            "shape": list(self.shape),
            "sha256": self.sha256,
            "crc32": self.crc32,
            "memh": memh if self.memh else None,
        }


@dataclass(frozen=True)
class Identity:
    """Whose forward a trace is; no names of folders.

    Attributes
    ----------
    kind : "golden" (a model of 8.38), "packed" or "dense".
    name : of a golden model, else None.
    sha256 : of a packed model its digest (5.23), of a dense one `dense_digest`, else None.
    """

    kind: str
    name: str | None = None
    sha256: str | None = None


def canonical(values: F32) -> Bits:
    """The bits of the canonical results (8.4), little-endian, in one piece of memory; a copy."""
    return np.ascontiguousarray(numerics.canonical(values), dtype="<f4").view("<u4")


def trace_digest(taps: Iterable[Tap]) -> str:
    """The digest of a trace (8.37), in hexadecimal."""
    lines = (tap.line() for tap in sorted(taps, key=lambda tap: tap.name))
    return hashlib.sha256(b"".join(lines)).hexdigest()


def digests(
    weights: Weights, config: LlamaConfig, tokens: Tokens, ops: Golden
) -> tuple[str, dict[str, str]]:
    """The trace digest over all taps, and tap -> SHA-256 in their order; no file is written."""
    taps: list[Tap] = []
    forward(
        weights, config, tokens, tap=lambda name, x: taps.append(_tap(name, canonical(x))), ops=ops
    )
    return trace_digest(taps), {tap.name: tap.sha256 for tap in taps}


def write(
    target: Path,
    weights: Weights,
    config: LlamaConfig,
    tokens: Sequence[int],
    ops: Golden,
    model: Identity,
    names: Collection[str] | None = None,
    memh: bool = False,
    progress: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Write the taps `names` (all of them if None) of a forward into a new folder; its index.

    The folder appears whole or not at all.  A tap is written when it is seen, and the forward ends
    with the last one.  `memh` adds a $readmemh file and its side-car for every tap.  `progress` is
    called with the name of every tap that was computed.
    Raises T_ARGUMENT (tokens), T_FILE (a target that is not new or empty).
    """
    check_tokens(config, tokens)
    missing = set(tap_names(config) if names is None else names)
    taps: list[Tap] = []

    def tap(name: str, values: F32) -> None:
        if name in missing:
            missing.remove(name)
            taps.append(_write_tap(folder, name, values, memh))
        progress(name)
        if not missing:
            raise _Enough

    with new_folder(target) as folder:
        _until_enough(weights, config, tokens, ops, tap)
        index = {
            "schema": SCHEMA,
            "spec": {"version": SPEC_VERSION, "clause": CLAUSE},
            "profile": str(ops.dots),
            "model": vars(model),
            "tokens": [int(token) for token in tokens],
            "taps": [tap.document() for tap in taps],
            "digest": trace_digest(taps),
        }
        (folder / INDEX).write_bytes(json_bytes(index))
    return index


class _Enough(Exception):
    """The last tap that was asked for is written."""


def _until_enough(
    weights: Weights, config: LlamaConfig, tokens: Tokens, ops: Golden, tap: TapFunction
) -> None:
    try:
        forward(weights, config, tokens, tap=tap, ops=ops)
    except _Enough:
        return


def _tap(name: str, bits: Bits) -> Tap:
    data = bits.tobytes()
    return Tap(name, bits.shape, hashlib.sha256(data).hexdigest(), f"{zlib.crc32(data):08x}")


def _write_tap(folder: Path, name: str, values: F32, memh: bool) -> Tap:
    bits = canonical(values)
    (folder / f"{name}.f32").write_bytes(bits.tobytes())
    tap = _tap(name, bits)
    if not memh:
        return tap
    memory = _memory(tap, bits)
    text = memory.text()
    (folder / f"{name}.memh").write_bytes(text)
    (folder / f"{name}.json").write_bytes(memory.sidecar())
    return replace(tap, memh=hashlib.sha256(text).hexdigest())


def _memory(tap: Tap, bits: Bits) -> Memory:
    """A tap as a memory of one word an element."""
    first, second, *third = AXES[len(tap.shape)]
    address = f"{first} * {tap.shape[1]} + {second}"
    for axis in third:
        address = f"({address}) * {tap.shape[2]} + {axis}"
    return Memory(
        name=tap.name,
        format="trace",
        title=f"tap {tap.name}, shape {strictjson.dumps(list(tap.shape))}, binary32",
        clause="8.36",
        order=f"row after row; the address is {address}",
        fields=_FIELDS,
        invalid=None,
        width=32,
        words=array("I", bits.astype("=u4").tobytes()),
    )


def identity(checkpoint: Checkpoint) -> Identity:
    """A packed model's digest (5.23), or a dense one's; reads all data."""
    if checkpoint.packed:
        return Identity("packed", sha256=container.model_digest(checkpoint.folder))
    return Identity("dense", sha256=dense_digest(checkpoint))


def dense_digest(checkpoint: Checkpoint) -> str:
    """SHA-256 of the lines of all tensors of a dense model, in ascending name order.

    A line is that of 5.20: hex SHA-256 of the tensor's data bytes, dtype, shape, name.
    """
    assert isinstance(checkpoint.tensors, DenseTensors)
    found = hashlib.sha256()
    for name, raw in sorted(checkpoint.tensors.home.items()):
        data = hashlib.sha256(raw.data(name)).hexdigest()
        found.update(container_digest.line(raw.entries[name], name, data))
    return found.hexdigest()
