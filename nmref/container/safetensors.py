"""The safetensors layer: header in, views out; arrays in, canonical file out (SPEC part 5).

Stricter than the safetensors library, which lets duplicate names and extra keys pass and orders
tensors by an enum of its own; what is written here opens there.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nmref.container import strictjson
from nmref.container.atomic import new_file
from nmref.dtypes import CONTAINER_DTYPES, Array, container_name
from nmref.errors import Code, NmrefError

MAX_HEADER = 100_000_000
MAX_DEPTH = 4
NAME = re.compile(r"[!#-\[\]-~]{1,512}", re.ASCII)
NAME_RULE = '1 to 512 bytes of 0x21..0x7E without " and \\'


@dataclass(frozen=True)
class Entry:
    """One tensor of a header: container dtype, shape, and its bytes [begin, end) of the data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return self.end - self.begin


@dataclass(frozen=True)
class RawFile:
    """An open file: checked header, and data that is read when it is asked for."""

    path: Path
    entries: dict[str, Entry]
    metadata: dict[str, str] | None
    data_start: int

    @cached_property
    def _map(self) -> mmap.mmap:
        with self.path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def data(self, name: str) -> memoryview:
        """The bytes of a tensor, not copied."""
        entry = self.entries[name]
        start = self.data_start
        return memoryview(self._map)[start + entry.begin : start + entry.end]

    def array(self, name: str) -> Array:
        """A tensor as a read-only view of the file."""
        entry = self.entries[name]
        dtype = CONTAINER_DTYPES[entry.dtype]
        try:
            return np.frombuffer(self.data(name), dtype=dtype).reshape(entry.shape)
        except ValueError:  # more than 64 dimensions, or no elements in an enormous shape
            got, want = f"shape {list(entry.shape)}"[:80], "one that a NumPy array can have"
            raise NmrefError(Code.T_TENSOR, name, got, want) from None

    def release(self, name: str) -> None:
        """Let go of the memory that reading a tensor took; reading it again works."""
        if not hasattr(mmap, "MADV_DONTNEED"):
            return
        entry, page = self.entries[name], mmap.PAGESIZE
        first = -(-(self.data_start + entry.begin) // page) * page
        length = (self.data_start + entry.end) // page * page - first
        if length > 0:
            self._map.madvise(mmap.MADV_DONTNEED, first, length)


def open_raw(path: Path) -> RawFile:
    """Read and check the header of a safetensors file.

    Raises T_FILE (cannot be opened), E_HEADER, E_LIMIT, E_DTYPE.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            length = _header_length(file.read(8), size, path)
            header = file.read(length)
    except OSError as error:
        raise NmrefError(
            Code.T_FILE, str(path), error.strerror or str(error), "a readable file"
        ) from None
    try:
        entries, metadata = parse_header(header, size - 8 - length)
    except NmrefError as error:
        raise error.inside(str(path)) from None
    return RawFile(path, entries, metadata, 8 + length)


def _header_length(prefix: bytes, size: int, path: Path) -> int:
    if len(prefix) < 8:
        raise NmrefError(Code.E_HEADER, str(path), f"{size} bytes", "at least 8")
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER:
        raise NmrefError(Code.E_LIMIT, str(path), f"header of {length} bytes", f"<= {MAX_HEADER}")
    if 8 + length > size:
        raise NmrefError(
            Code.E_HEADER, str(path), f"header of {length} bytes in a file of {size}", "all of it"
        )
    return length


def parse_header(header: bytes, data_size: int) -> tuple[dict[str, Entry], dict[str, str] | None]:
    """Header bytes -> entries and metadata (None when absent).  Raises E_HEADER, E_DTYPE."""
    members = _header_object(header)
    metadata = members.pop("__metadata__", None) if "__metadata__" in members else None
    entries = {name: _entry(name, value) for name, value in members.items()}
    _check_tiling(entries, data_size)
    for name in sorted(entries):
        if entries[name].dtype not in CONTAINER_DTYPES:
            raise NmrefError(
                Code.E_DTYPE, name, f"dtype {entries[name].dtype!r}", "a known container dtype"
            )
    return entries, metadata


def _bad(where: str, got: str, want: str) -> NmrefError:
    return NmrefError(Code.E_HEADER, where, got, want)


def _header_object(header: bytes) -> dict[str, Any]:
    if not header.startswith(b"{"):
        raise _bad("header", f"first byte {header[:1].hex() or 'missing'}", "7b, an opening brace")
    try:
        text = header.decode("utf-8")
        members, end = strictjson.loads(text, MAX_DEPTH)
    except UnicodeDecodeError as error:
        raise _bad("header", f"invalid UTF-8 at byte {error.start}", "UTF-8") from None
    except strictjson.StrictJSONError as error:
        raise _bad("header", str(error), "strict JSON") from None
    if text[end:].strip(" "):
        raise _bad("header", "bytes after the object", "only 0x20")
    if "__metadata__" in members:
        metadata = members["__metadata__"]
        if not isinstance(metadata, dict) or not all(
            isinstance(value, str) for value in metadata.values()
        ):
            raise _bad("__metadata__", "something else", "an object of strings")
    return members


def check_name(name: str) -> None:
    """Raises E_HEADER."""
    if not NAME.fullmatch(name) or name == "__metadata__":
        raise _bad(repr(name)[:80], "a tensor name", NAME_RULE)


def _entry(name: str, value: object) -> Entry:
    check_name(name)
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise _bad(name, "an entry with other keys", "exactly dtype, shape, data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str):
        raise _bad(name, f"dtype {dtype!r}"[:80], "a string")
    if not _is_integers(shape) or not _is_integers(offsets) or len(offsets) != 2:
        raise _bad(name, "a shape or data_offsets of another form", "[integers], [begin, end]")
    begin, end = offsets
    if begin > end:
        raise _bad(name, f"data_offsets {offsets}", "begin <= end")
    if dtype in CONTAINER_DTYPES:
        size = _byte_size(name, shape, CONTAINER_DTYPES[dtype].itemsize)
        if size != end - begin:
            raise _bad(name, f"{end - begin} bytes", f"{size} for {dtype} {shape}")
    return Entry(dtype, tuple(shape), begin, end)


def _byte_size(name: str, shape: list[int], itemsize: int) -> int:
    """As a reader in 64 bits computes it: an overflow counts even when a later dimension is 0."""
    size = 1
    for factor in (*shape, itemsize):
        size *= factor
        if size > strictjson.MAX_INTEGER:
            raise _bad(name, f"shape {shape}"[:80], "at most 2^63 - 1 bytes")
    return size


def _is_integers(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)


def _check_tiling(entries: dict[str, Entry], data_size: int) -> None:
    """Non-empty tensors cover the data exactly; empty ones sit where two of them meet."""
    boundaries, at = {0}, 0
    filled = [(entry.begin, entry.end, name) for name, entry in entries.items()]
    for begin, end, name in sorted(item for item in filled if item[0] < item[1]):
        if begin != at:
            raise _bad(name, f"data from byte {begin}", f"from byte {at}: no hole, no overlap")
        at = end
        boundaries.add(end)
    if at != data_size:
        raise _bad("header", f"tensors of {at} bytes", f"the file's {data_size} bytes of data")
    for begin, end, name in sorted(filled):
        if begin == end and begin not in boundaries:
            raise _bad(name, f"an empty tensor at byte {begin}", "the boundary of two tensors")


TensorSpec = tuple[str, tuple[int, ...]]
"""Container dtype and shape."""


def layout(
    tensors: Mapping[str, TensorSpec], metadata: Mapping[str, str]
) -> tuple[bytes, dict[str, Entry]]:
    """Canonical header bytes (length prefix included) and entries of name -> (dtype, shape).

    Order: element size descending, then name bytes ascending; the data in that order without
    holes; spaces up to a multiple of 8, so that every tensor is aligned to its element.
    """
    order = sorted(tensors, key=lambda name: (-CONTAINER_DTYPES[tensors[name][0]].itemsize, name))
    entries, at = {}, 0
    for name in order:
        dtype, shape = tensors[name]
        end = at + prod(shape) * CONTAINER_DTYPES[dtype].itemsize
        entries[name] = Entry(dtype, shape, at, end)
        at = end
    members = [f'"__metadata__":{strictjson.dumps(metadata)}'] if metadata else []
    members += [
        f'"{name}":{{"dtype":"{e.dtype}","shape":{strictjson.dumps(list(e.shape))},'
        f'"data_offsets":[{e.begin},{e.end}]}}'
        for name, e in entries.items()
    ]
    text = ("{" + ",".join(members) + "}").encode("ascii")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, entries


def write_raw(path: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write a plain safetensors file; it appears whole or not at all.  Raises X_DTYPE."""
    specs = {name: (container_name(array), array.shape) for name, array in tensors.items()}
    header, entries = layout(specs, metadata)
    with new_file(path) as file:
        write_tensors(file, header, entries, tensors.items())


def write_tensors(
    file: BinaryIO,
    header: bytes,
    entries: Mapping[str, Entry],
    tensors: Iterable[tuple[str, Array]],
) -> dict[str, str]:
    """Put the header and then each tensor in its place, in any order; return their hex SHA-256."""
    file.write(header)
    file.truncate(len(header) + max((entry.end for entry in entries.values()), default=0))
    hashes = {}
    for name, array in tensors:
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        file.seek(len(header) + entries[name].begin)
        file.write(data)
        hashes[name] = hashlib.sha256(data).hexdigest()
    return hashes
