"""Valid files that nmref's own writer and encoder never make, with what reading them gives."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nmref.conformance.suite.author import Nmref
from nmref.conformance.suite.chances import random_draft
from nmref.conformance.suite.values import Chance
from nmref.conformance.text import json_bytes
from nmref.container.atomic import new_folder
from nmref.container.metadata import SPEC_VERSION

SCHEMA = "urn:nmref:schema:corpus:1"
MANIFEST = "manifest.json"


def files(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file; they depend on the seed and on their numbers alone."""
    for i in range(count):
        yield f"{i:06d}.safetensors", random_draft(Chance(f"corpus {seed} {i}")).build()


def described(data: bytes, author: Nmref) -> dict[str, Any]:
    """What the manifest says of a file: its digest, and every tensor that reading it gives."""
    tensors = author.read({"file": data.hex()})["tensors"]
    return {
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "tensors": {
            name: {
                "dtype": value["dtype"],
                "shape": value["shape"],
                "sha256": hashlib.sha256(bytes.fromhex(value["hex"])).hexdigest(),
            }
            for name, value in tensors.items()
        },
    }


def write(folder: Path, seed: int, count: int) -> str:
    """Write the files and manifest.json into a new folder; the SHA-256 of the manifest.

    Raises T_FILE (a target that is not new or empty).
    """
    author = Nmref()
    with new_folder(folder) as place:
        listed = {}
        for name, data in files(seed, count):
            (place / name).write_bytes(data)
            listed[name] = described(data, author)
        text = json_bytes({"schema": SCHEMA, "spec": SPEC_VERSION, "seed": seed, "files": listed})
        (place / MANIFEST).write_bytes(text)
    return hashlib.sha256(text).hexdigest()
