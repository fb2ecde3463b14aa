"""Locks within one process; between processes: test_cache_processes.py."""

import errno
import os
import subprocess
import sys

import pytest

from nmref.kernels import lock

TRY = """
import pathlib, sys
from nmref.kernels import lock
print(lock.acquire(pathlib.Path(sys.argv[1]), int(sys.argv[2]), 0.0))
"""


def others_get(path, number) -> bool:
    found = subprocess.run(
        [sys.executable, "-c", TRY, str(path), str(number)],
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout == "True\n"


def test_others_wait_for_what_is_held_only(tmp_path):
    path, mark = tmp_path / "lock", lock.held()
    assert lock.acquire(path, 1, 0)
    assert lock.acquire(path, lock.PLACES - 1, 0)
    assert [others_get(path, n) for n in (1, 2, lock.PLACES - 1)] == [False, True, False]
    lock.release_to(mark + 1)
    assert [others_get(path, n) for n in (1, lock.PLACES - 1)] == [False, True]
    lock.release_to(mark)
    assert others_get(path, 1)
    assert path not in lock._files
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_lock_that_is_held_is_had_and_freed_once(tmp_path):
    path, mark = tmp_path / "lock", lock.held()
    assert lock.acquire(path, 7, 0)
    assert lock.acquire(path, 7, 0)
    assert lock.held() == mark + 1
    lock.release_to(mark)
    lock.release_to(mark)
    assert others_get(path, 7)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_does_not_inherit_locks(tmp_path):
    path, mark = tmp_path / "lock", lock.held()
    assert lock.acquire(path, 3, 0)
    reading, writing = os.pipe()
    child = subprocess.Popen(  # has the descriptor, as a forked one would
        [sys.executable, "-c", "import os; os.read(0, 1)"],
        stdin=reading,
        pass_fds=[lock._files[path]],
    )
    lock.release_to(mark)
    assert others_get(path, 3)
    os.write(writing, b"x")
    assert child.wait(60) == 0
    os.close(reading)
    os.close(writing)


def test_without_a_file_there_is_no_lock(tmp_path):
    mark = lock.held()
    assert not lock.acquire(tmp_path / "none" / "lock", 1, 0)
    (tmp_path / "link").symlink_to(tmp_path / "target")
    assert not lock.acquire(tmp_path / "link", 1, 0)
    assert lock.held() == mark


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EACCES, errno.EAGAIN])
def test_without_locks_on_the_file_system_work_goes_on(monkeypatch, tmp_path, number):
    def refuse(file, place, take):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock, "_try", refuse)
    mark = lock.held()
    assert not lock.acquire(tmp_path / "lock", 1, 0.02)
    assert lock.held() == mark
    assert tmp_path / "lock" not in lock._files
