"""Locks between processes: byte ranges of one file, which the system frees when a process dies.

Only used by a thread that has Numba's compiler lock, so by one thread of a process at a time.
Locks are taken in the order in which kernels call each other; there is no cycle, and if there were
one, the time limit would end it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

PLACES = 2**31
"""Locks of a file are numbered below this."""

_held: list[tuple[Path, int]] = []
_files: dict[Path, int] = {}

if sys.platform == "win32":
    import msvcrt

    def _try(file: int, number: int, take: bool) -> None:
        os.lseek(file, number, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK if take else msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try(file: int, number: int, take: bool) -> None:
        # POSIX locks, not flock: a forked child must not inherit them.
        kind = fcntl.LOCK_EX | fcntl.LOCK_NB if take else fcntl.LOCK_UN
        fcntl.lockf(file, kind, 1, number)


def held() -> int:
    """How many locks this process holds; the mark for `release_to`."""
    return len(_held)


def acquire(path: Path, number: int, seconds: float) -> bool:
    """Wait for lock `number` of the file, at most so long; False if it was not to be had.

    A lock that this process holds already is had.  Without locks on this file system: False.
    """
    if (path, number) in _held:
        return True
    try:
        file = _open(path)
    except OSError:
        return False
    end, pause = time.monotonic() + seconds, 0.005
    while True:
        try:
            _try(file, number, True)
        except (PermissionError, BlockingIOError):  # another process has it
            if time.monotonic() < end:
                time.sleep(pause)
                pause = min(2 * pause, 0.1)
                continue
        except OSError:
            pass
        else:
            _held.append((path, number))
            return True
        _close_unused(path)
        return False


def release_to(mark: int) -> None:
    """Free the locks taken since `held()` was `mark`."""
    while len(_held) > mark:
        path, number = _held.pop()
        with contextlib.suppress(OSError):  # closing frees it too
            _try(_files[path], number, False)
        _close_unused(path)


def _open(path: Path) -> int:
    """One descriptor a file: closing a second one would free every lock of the process."""
    if path not in _files:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        _files[path] = os.open(path, flags, 0o600)
    return _files[path]


def _close_unused(path: Path) -> None:
    """Not kept open: the folder may be removed, and the next lock is one of a new file then."""
    if all(path != other for other, _ in _held):
        os.close(_files.pop(path))
