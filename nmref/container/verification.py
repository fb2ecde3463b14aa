"""Every check of SPEC part 6 over whole files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nmref.container import digest
from nmref.container.folder import files_of
from nmref.container.reader import NMFile
from nmref.tensor import SparseWeight, warnings


@dataclass(frozen=True)
class FileReport:
    """What `verify` found in one good file."""

    path: str
    content_sha256: str
    bytes: int
    weights: int
    tensors: int
    warnings: list[str] = field(default_factory=list)


def verify(
    path: str | Path, progress: Callable[[str], None] = lambda name: None
) -> list[FileReport]:
    """Check a file, or all files of a folder or index, to the last byte.

    Returns a report a file, warnings included.  Raises the first fault in the order of SPEC part 6.
    `progress` is called with the name of each tensor when it has been checked.
    """
    return [_verify_file(file, progress) for file in files_of(path)]


def model_digest(path: str | Path) -> str:
    """Digest of a model, whatever its shards; reads all data (SPEC part 5)."""
    files = [NMFile(file) for file in files_of(path)]
    for file in files:
        for name in file.raw.entries:
            file.hash(name)
        file.check_digest()
    return digest.model_sha256(
        (file.raw.entries, file.hashes, file.metadata.document) for file in files
    )


def _verify_file(path: Path, progress: Callable[[str], None]) -> FileReport:
    file = NMFile(path)
    found = []
    for name in sorted(file.weights):
        weight = file[name]
        if isinstance(weight, SparseWeight):
            found += warnings(weight, name)
        progress(name)
    for name in (name for name in file if name not in file.weights):
        file.hash(name)
        progress(name)
    file.check_digest()
    return FileReport(
        path=str(path),
        content_sha256=file.metadata.content_sha256,
        bytes=path.stat().st_size,
        weights=len(file.weights),
        tensors=len(file) - len(file.weights),
        warnings=found,
    )
