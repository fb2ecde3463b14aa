"""Files of the cache: one a compiled kernel, with its own check sum, read only if they are ours.

The contents are pickled, so whoever can write them can run code as us: a file is opened without
following a link, and read only if it belongs to us or root and nobody else may write it.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
from pathlib import Path

MAGIC = b"nmref kernel 1\n"
_HEAD = len(MAGIC) + 32
_numbers = itertools.count()


def owned(info: os.stat_result, private: bool = False) -> bool:
    """Nobody but us and root can change it; `private`: it is ours and nobody else's to look at."""
    if not hasattr(os, "geteuid"):
        return True  # Windows: user folders are private there
    owners, forbidden = ({os.geteuid()}, 0o077) if private else ({os.geteuid(), 0}, 0o022)
    return info.st_uid in owners and not info.st_mode & forbidden


def read(path: Path) -> bytes | None:
    """The contents of an entry; None if there is none, it is damaged, or others may write it."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode) or not owned(info):
                return None
            data = file.read()
    except OSError:
        return None
    body = data[_HEAD:]
    good = data[:_HEAD] == MAGIC + hashlib.sha256(body).digest()
    return body if good else None


def write(path: Path, body: bytes) -> None:
    """Whole or not at all.  Raises OSError."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.{next(_numbers)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(fresh, flags, 0o600), "wb") as file:
            file.write(MAGIC + hashlib.sha256(body).digest() + body)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
