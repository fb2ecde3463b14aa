"""content_sha256: what a file says, whatever the order of its bytes (SPEC part 5)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from nmref.container import strictjson
from nmref.container.safetensors import Entry


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
