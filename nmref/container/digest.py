"""content_sha256: what a file says, whatever the order of its bytes (SPEC part 5)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from nmref.container import strictjson
from nmref.container.safetensors import Entry
from nmref.errors import Code, NmrefError


def line(entry: Entry, name: str, sha256: str) -> bytes:
    """The line of one tensor."""
    return f"{sha256} {entry.dtype} {strictjson.dumps(list(entry.shape))} {name}\n".encode("ascii")


def content_sha256(
    entries: Mapping[str, Entry], hashes: Mapping[str, str], document: Mapping[str, Any]
) -> str:
    """Digest of a file: a line per tensor by ascending name, then the nmref JSON without it.

    `hashes` holds the hex SHA-256 of each tensor's data bytes.
    """
    digest = hashlib.sha256()
    for name in sorted(entries):
        digest.update(line(entries[name], name, hashes[name]))
    rest = {key: value for key, value in document.items() if key != "content_sha256"}
    digest.update(strictjson.dumps(rest).encode("ascii") + b"\n")
    return digest.hexdigest()


FileContent = tuple[Mapping[str, Entry], Mapping[str, str], Mapping[str, Any]]
"""Entries, hashes and document of one file."""


def model_sha256(files: Iterable[FileContent]) -> str:
    """Digest of a model over all its files; how it is cut into shards does not matter.

    Raises T_FILE where the union is not defined: a name in two files, or different versions.
    """
    entries: dict[str, Entry] = {}
    hashes: dict[str, str] = {}
    union: dict[str, Any] = {"tensors": {}}
    for file_entries, file_hashes, document in files:
        for name in set(entries) & set(file_entries):
            raise NmrefError(Code.T_FILE, name, "in two files", "one")
        entries |= file_entries
        hashes |= file_hashes
        for key, value in document.items():
            if key == "tensors":
                union[key] |= value
            elif key != "content_sha256" and union.setdefault(key, value) != value:
                raise NmrefError(Code.T_FILE, key, "different values", "the same in every file")
    return content_sha256(entries, hashes, union)
