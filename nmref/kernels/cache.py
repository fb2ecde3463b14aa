"""Where compiled kernels are kept.

$NMREF_CACHE_DIR/kernels, or nmref/kernels in $XDG_CACHE_HOME or ~/.cache, or else a private folder
of the temporary directory.  In it one folder a fingerprint and CPU: what was compiled from other
sources, by other libraries or for another CPU is never seen.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nmref.kernels.entries import owned
from nmref.kernels.fingerprint import fingerprint, folder_name
from nmref.paths import cache_home

STALE_DAYS = 30
SUFFIX = ".nmk"
LOCK = "lock"

_FOLDER = re.compile(r"[0-9a-f]{16}-[\w.-]+-[0-9a-f]{8}")


@dataclass(frozen=True)
class Base:
    """A folder that may hold the fingerprints' folders."""

    path: Path
    name: str
    """The setting that names it."""
    private: Path | None = None
    """A folder above it that must be ours alone: the temporary directory is everybody's."""


@dataclass(frozen=True)
class Place:
    """The folder in use; None: nothing is kept."""

    folder: Path | None
    why: str
    prepared: Path | None = None
    """A folder that can only be read, looked at as well."""


@dataclass(frozen=True)
class State:
    """The cache as `nmref doctor` shows it."""

    folder: Path | None
    why: str
    writable: bool
    files: int
    """Compiled kernels in `folder`."""
    bytes: int
    stale: tuple[Path, ...]
    """Folders of other sources or libraries, beside `folder`."""
    trouble: str
    """What went wrong last with a file of the cache in this process, or empty."""


_trouble: list[str] = []


@cache
def place() -> Place:
    """Found out when the first kernel is wanted."""
    try:
        name = folder_name()
    except OSError as error:  # in a zip file, say
        return Place(None, f"in memory; sources cannot be read: {_reason(error)}")
    refused: list[str] = []
    prepared = None
    for base in _bases():
        folder = base.path / name
        problem = _prepare(base, folder)
        if not problem:
            why = "; ".join([base.name, *(f"not {text}" for text in refused)])
            return Place(folder, why, prepared)
        refused.append(f"{base.name} ({base.path}: {problem})")
        if prepared is None and _may_read(base, folder):
            prepared = folder
    return Place(None, "; ".join(["in memory", *(f"not {text}" for text in refused)]), prepared)


def folder() -> Path | None:
    """The folder in use, found anew if somebody removed it."""
    if (found := place().folder) and not found.is_dir():
        place.cache_clear()
        found = place().folder
    return found


def _bases() -> Iterator[Base]:
    """In the order in which they are tried."""
    if found := cache_home():
        yield Base(found[1] / "kernels", found[0])
    user = f"nmref-{os.getuid()}" if hasattr(os, "getuid") else "nmref"
    try:
        private = Path(tempfile.gettempdir()).absolute() / user
    except OSError:  # there is none that can be written
        return
    yield Base(private / "kernels", "temporary directory", private)


def _prepare(base: Base, folder: Path) -> str:
    """Make the folder, ours alone, and see that it can be written; or what is wrong with it."""
    try:
        if base.private:
            _make(base.private)
            if problem := _distrust_private(base.private):
                return problem  # nothing is put there
        base.path.parent.mkdir(parents=True, exist_ok=True)
        new = False
        for path in (base.path, folder):
            new = _make(path)
            if problem := _distrust(path):
                return problem
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
        os.utime(folder)
    except OSError as error:
        return _reason(error)
    if new:
        _prune(folder)
    return ""


def _make(folder: Path) -> bool:
    """Whether it is new."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return False
    return True


def _distrust_private(folder: Path) -> str:
    """Why a folder in a place where everybody may make one is not ours.  Raises OSError."""
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode):
        return f"{folder} is a link or a file"
    return "" if owned(info, private=True) else f"{folder} is not ours alone"


def _distrust(folder: Path) -> str:
    """Why what lies in a folder could be somebody else's, or empty.  Raises OSError."""
    info = folder.stat()
    if not stat.S_ISDIR(info.st_mode):
        return f"{folder} is not a folder"
    return "" if owned(info) else f"others own {folder} or can write it"


def _may_read(base: Base, folder: Path) -> bool:
    try:
        if base.private and _distrust_private(base.private):
            return False
        return not any(map(_distrust, (base.path, folder)))
    except OSError:
        return False


def _prune(folder: Path) -> None:
    """Remove sibling folders that nobody has used for STALE_DAYS."""
    oldest = time.time() - STALE_DAYS * 86400
    for path in _folders(folder.parent):
        try:
            old = path.stat().st_mtime < oldest
        except OSError:
            continue
        if old and path != folder:
            shutil.rmtree(path, ignore_errors=True)


def _folders(base: Path) -> list[Path]:
    """Fingerprints' folders there: nothing else is ever removed."""
    try:
        return [p for p in sorted(base.iterdir()) if _FOLDER.fullmatch(p.name) and is_folder(p)]
    except OSError:
        return []


def is_folder(path: Path) -> bool:
    """A real one, no link."""
    return path.is_dir() and not path.is_symlink()


def _is_stale(path: Path) -> bool:
    return not path.name.startswith(fingerprint()[:16])


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def report(text: str) -> None:
    """Remember what went wrong with a file; kernels go on without it."""
    _trouble[:] = [text]


def state() -> State:
    """The cache now.  Makes the folder when there is none."""
    here = place()
    files = []
    if here.folder:
        try:
            files = [p.stat().st_size for p in here.folder.iterdir() if p.suffix == SUFFIX]
        except OSError as error:
            report(f"{here.folder}: {_reason(error)}")
    stale = [p for p in _folders(here.folder.parent) if _is_stale(p)] if here.folder else []
    return State(
        folder=here.folder or here.prepared,
        why=here.why,
        writable=here.folder is not None,
        files=len(files),
        bytes=sum(files),
        stale=tuple(stale),
        trouble="".join(_trouble),
    )


def clear(stale_only: bool = False) -> tuple[Path, ...]:
    """Remove compiled kernels, or only those of other sources or libraries; what was removed."""
    removed = []
    for base in _bases():
        for path in _folders(base.path):
            if stale_only and not _is_stale(path):
                continue
            shutil.rmtree(path, ignore_errors=True)
            if not path.exists():
                removed.append(path)
    place.cache_clear()
    return tuple(removed)
