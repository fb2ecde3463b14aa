"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from nmref.errors import Code, NmrefError

_NO_ROOM = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write; it takes the place of `path` when the block ends without an exception.

    A crash leaves the old file or none.  The temporary file lies in the same folder.
    Raises T_FILE where there is no such folder.
    """
    if not path.parent.is_dir():
        raise NmrefError(Code.T_FILE, str(path.parent), "no such folder", "one to write in")
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    temporary = Path(name)
    try:
        with naming(path), os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(path: Path, temporary: Path | None = None) -> Iterator[Path]:
    """An empty folder to fill; it becomes `path` when the block ends without an exception.

    `temporary` is where it lies until then, on the same file system; what is there already goes.
    Else it lies beside `path`, under a name of its own.
    Raises T_FILE where `path` exists already, unless it is an empty folder.
    """
    check_new(path)
    if temporary is None:
        temporary = Path(tempfile.mkdtemp(".part", f".{path.name}.", path.parent))
    else:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
    try:
        with naming(path):
            yield temporary
        temporary.chmod(0o777 & ~_umask())
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A full disk is told with the file that had no room; a write by number does not say it."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _NO_ROOM:
            error.filename = str(path)
        raise


def check_new(path: Path) -> None:
    """Whether a folder can be made there; asked before long work begins.  Raises T_FILE."""
    taken = path.exists() and (not path.is_dir() or any(path.iterdir()))
    if taken or path.is_symlink():  # a folder cannot take the place of a link
        raise NmrefError(Code.T_FILE, str(path), "something that is there already", "a new folder")
    if not path.parent.is_dir():
        raise NmrefError(Code.T_FILE, str(path.parent), "no such folder", "one to make OUT in")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
