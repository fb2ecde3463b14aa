"""Whole files: the safetensors layer, reading in the normative order, writing (SPEC parts 5, 6)."""

import struct
from typing import Any, NamedTuple

from .codes import Fault
from .decoder import Spec, check_limits, check_parts, expected_parts, read_slots
from .encoder import Parts
from .metadata import digest, is_reserved, is_tensor_name, read_metadata
from .numbers import SIZES
from .strictjson import Json, JsonError, Number, compact, integer, parse

Weights = dict[str, tuple[Spec, Parts]]
MAX_HEADER = 100_000_000
MAX_INTEGER = (1 << 63) - 1
HEADER_DEPTH = 4


class File(NamedTuple):
    """What a file holds: weights by name, other tensors, the nmref metadata with its digest."""

    weights: Weights
    others: Parts
    metadata: dict[str, Any]


class Entry(NamedTuple):
    """One tensor of a header."""

    dtype: str
    shape: list[int]
    begin: int
    end: int


def require(condition: bool, what: str) -> None:
    """E_HEADER unless the condition holds."""
    if not condition:
        raise Fault("E_HEADER", what)


def read(data: bytes) -> File:
    """Read a file with every check of SPEC part 6, in its order, the digest last."""
    tensors, pairs = read_safetensors(data)
    if pairs is None or list(pairs) != ["nmref"]:
        raise Fault("E_META", "__metadata__")
    metadata = read_metadata(pairs["nmref"])
    weights: Weights = {}
    known = []
    for name in sorted(metadata["tensors"]):
        spec = metadata["tensors"][name]
        check_limits(name, spec)
        if name in tensors:
            raise Fault("E_UNEXPECTED", name)
        suffixes = [suffix for suffix, _, _ in expected_parts(spec)]
        parts = {s: tensors[f"{name}.{s}"] for s in suffixes if f"{name}.{s}" in tensors}
        check_parts(name, spec, parts)
        weights[name] = (spec, parts)
        known += [f"{name}.{s}" for s in suffixes]
    others = {name: tensors[name] for name in sorted(tensors) if name not in known}
    for name in others:
        if is_reserved(name):
            raise Fault("E_UNEXPECTED", name)
    for name, (spec, parts) in weights.items():
        read_slots(name, spec, parts)
    if digest(tensors, metadata) != metadata["content_sha256"]:
        raise Fault("E_DIGEST", "file")
    return File(weights, others, metadata)


def names(data: bytes) -> list[str]:
    """All tensors of a file, parts included."""
    return list(read_safetensors(data)[0])


def read_safetensors(data: bytes) -> tuple[Parts, dict[str, str] | None]:
    """Tensors by name, and the pairs of __metadata__: E_HEADER, E_LIMIT, E_HEADER, E_DTYPE."""
    require(len(data) >= 8, "length")
    (length,) = struct.unpack("<Q", data[:8])
    if length > MAX_HEADER:
        raise Fault("E_LIMIT", "header")
    require(8 + length <= len(data), "length")
    header, body = data[8 : 8 + length], data[8 + length :]
    found = parse_header(header)

    pairs = None
    if "__metadata__" in found:
        pairs = read_pairs(found.pop("__metadata__"))
    entries = {}
    for name, value in found.items():
        require(is_tensor_name(name), "tensor name")
        entries[name] = read_entry(name, value)
    check_tiling(entries, len(body))
    for name in sorted(entries):
        if entries[name].dtype not in SIZES:
            raise Fault("E_DTYPE", name)
    return {name: (e.dtype, e.shape, body[e.begin : e.end]) for name, e in entries.items()}, pairs


def parse_header(header: bytes) -> dict[str, Json]:
    """Read the object of a header: { first, only spaces after the closing brace."""
    require(header[:1] == b"{", "first byte")
    trimmed = header.rstrip(b" ")
    require(trimmed.endswith(b"}"), "bytes after the object")
    try:
        found = parse(trimmed.decode("utf-8", "strict"), HEADER_DEPTH)
    except UnicodeDecodeError:
        raise Fault("E_HEADER", "not UTF-8") from None
    except JsonError as error:
        raise Fault("E_HEADER", str(error)) from None
    assert isinstance(found, dict)
    return found


def read_pairs(value: Json) -> dict[str, str]:
    """Read the value of __metadata__, an object of strings."""
    require(isinstance(value, dict), "__metadata__")
    assert isinstance(value, dict)
    pairs = {}
    for key, text in value.items():
        require(isinstance(text, str), "__metadata__")
        pairs[key] = str(text)
    return pairs


def read_sizes(value: Json, where: str) -> list[int]:
    """Read an array of plain decimals up to 2^63-1."""
    require(isinstance(value, list), where)
    assert isinstance(value, list)
    sizes = []
    for item in value:
        size = integer(item)
        require(size is not None, where)
        assert isinstance(item, Number)
        assert size is not None
        require("-" not in item.text and size <= MAX_INTEGER, where)
        sizes.append(size)
    return sizes


def read_entry(name: str, value: Json) -> Entry:
    """Read one tensor entry; the size of its data is right if its dtype is known."""
    require(isinstance(value, dict), name)
    assert isinstance(value, dict)
    require(sorted(value) == ["data_offsets", "dtype", "shape"], name)
    dtype = value["dtype"]
    require(isinstance(dtype, str), name)
    shape = read_sizes(value["shape"], name)
    offsets = read_sizes(value["data_offsets"], name)
    require(len(offsets) == 2 and offsets[0] <= offsets[1], name)
    entry = Entry(str(dtype), shape, offsets[0], offsets[1])
    if entry.dtype in SIZES:
        count = 1
        for size in shape:
            count *= size
            require(count <= MAX_INTEGER, name)
        require(entry.end - entry.begin == count * SIZES[entry.dtype], name)
    return entry


def check_tiling(entries: dict[str, Entry], size: int) -> None:
    """Tensors with bytes tile the data exactly; one without bytes lies on a boundary."""
    full = sorted((e.begin, e.end) for e in entries.values() if e.begin != e.end)
    boundaries = [0]
    for begin, end in full:
        require(begin == boundaries[-1], "data_offsets")
        boundaries.append(end)
    require(boundaries[-1] == size, "data_offsets")
    allowed = set(boundaries)
    for name, entry in entries.items():
        require(entry.begin != entry.end or entry.begin in allowed, name)


def write(
    weights: Weights,
    others: Parts,
    *,
    spec: str = "1.0",
    extra: dict[str, str] | None = None,
) -> bytes:
    """Canonical file. `extra` are x- keys of the top level.

    Nothing is checked: files that must be rejected are written with it too, with a right digest.
    """
    tensors = dict(others)
    for name, (_, parts) in weights.items():
        tensors |= {f"{name}.{suffix}": part for suffix, part in parts.items()}
    entries = {name: entry for name, (entry, _) in weights.items()}
    metadata: dict[str, Any] = {**(extra or {}), "spec": spec, "tensors": entries}
    metadata["content_sha256"] = digest(tensors, metadata)
    return assemble(tensors, {"nmref": compact(metadata)})


def assemble(tensors: Parts, pairs: dict[str, str] | None) -> bytes:
    """Canonical safetensors file of these tensors and __metadata__ pairs (None: no such key)."""
    header: dict[str, Json] = {}
    if pairs is not None:
        header["__metadata__"] = {**pairs}
    body = b""
    for name in sorted(tensors, key=lambda name: (-SIZES[tensors[name][0]], name)):
        dtype, shape, data = tensors[name]
        offsets: list[Json] = [len(body), len(body) + len(data)]
        header[name] = {"dtype": dtype, "shape": [*shape], "data_offsets": offsets}
        body += data
    return frame(compact(header, sort=False).encode("ascii"), body)


def frame(header: bytes, body: bytes) -> bytes:
    """Length, header with spaces up to a multiple of 8, data."""
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + body
