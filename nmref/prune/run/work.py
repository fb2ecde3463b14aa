"""What a long prune has done so far, on disk, so that it can be interrupted and go on.

A folder beside the target: the files of activations (`streams.py`), a packed file and a mask file
for every block that is done, and `state.json`, replaced last, so that a crash at any moment leaves
the state before the block or after it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nmref.container import load, save
from nmref.container.atomic import new_file
from nmref.dtypes import Array
from nmref.errors import Code, NmrefError
from nmref.kernels.lock import _try as lock_byte
from nmref.prune.masks import maskfile
from nmref.prune.masks.maskfile import Mask, MaskFile
from nmref.prune.masks.maskmeta import MaskSpec
from nmref.prune.run.streams import DiskStreams
from nmref.tensor import SparseWeight

STATE, LOCK = "state.json", "lock"
WINDOWS = sys.platform == "win32"

RESULT = ".result.part"
"""The folder that becomes the target, until it is whole."""

_EARLY = re.compile(r"lock|\.state\.json\..*\.part")
_OURS = re.compile(
    r"(stream|targets)-[01]\.f32|block-\d{4,}(\.mask|\.nmref)\.safetensors|state\.json"
    r"|\.(block-\d{4,}|state)\..*\.part"
)
"""Names that a run gives to its files; the others in the folder are not touched."""

_inside: set[tuple[int, Path]] = set()
"""Process and folder of every run here; a forked child is in none of its parent's."""
_entering = threading.Lock()


class Work:
    """The folder, opened; `done` blocks of it are finished."""

    def __init__(self, folder: Path, run: str) -> None:
        self.folder = folder
        self._run = run
        self.done = 0
        self.notes: dict[str, object] = {}

    def commit(
        self,
        tensors: Mapping[str, SparseWeight | Array],
        masks: Mapping[str, Mask],
        streams: DiskStreams,
    ) -> None:
        """One block more is done: its tensors, masks and the activations behind it are safe."""
        save(self._block(self.done), tensors)
        if masks:
            maskfile.write(self._mask(self.done), masks)
        streams.flush()
        self.done += 1
        self.note()

    def note(self, **found: object) -> None:
        """Write the state; `found` is kept for a run that goes on."""
        self.notes |= found
        state = {"run": self._run, "done": self.done, "notes": self.notes}
        with new_file(self.folder / STATE) as file:
            file.write(json.dumps(state, sort_keys=True).encode())

    def has(self, done: int) -> bool:
        """Whether the files of so many blocks are there."""
        return done >= 0 and all(self._block(number).is_file() for number in range(done))

    def tensors(self) -> Iterator[tuple[str, SparseWeight | Array]]:
        """Those of all blocks that are done, read and checked one after the other."""
        for number in range(self.done):
            yield from load(self._block(number)).items()

    def masks(self) -> Iterator[tuple[str, Mask]]:
        """Those of all blocks that are done."""
        for file in self._mask_files():
            yield from file.items()

    def mask_specs(self) -> dict[str, MaskSpec]:
        """What `masks` will bring."""
        return {name: spec for file in self._mask_files() for name, spec in file.specs.items()}

    def _mask_files(self) -> Iterator[MaskFile]:
        paths = map(self._mask, range(self.done))
        return (maskfile.read(path) for path in paths if path.exists())

    def _mask(self, number: int) -> Path:
        return self.folder / f"block-{number:04}.mask.safetensors"

    def _block(self, number: int) -> Path:
        return self.folder / f"block-{number:04}.nmref.safetensors"


def work_folder(target: Path) -> Path:
    """Beside the target, with a name of its own."""
    return target.with_name(f"{target.name}.unfinished")


@contextmanager
def working(target: Path, run: str, restart: bool = False) -> Iterator[Work]:
    """The work folder of a target; gone at the end, but for a run that can go on.

    `run` says what makes two runs the same (sources, recipe, texts, versions).  A folder that a run
    of the same left is gone on with; `restart` throws away what any run left.  Whatever ends the
    run, the folder stays once a block is done or a note is written, with one exception: bad input
    (an NmrefError but T_FILE) would only be found again, and leaves nothing.

    Raises T_FILE for a folder that another run left, that is somebody else's, or that another
    process works in.
    """
    folder = work_folder(target)
    _opened(folder, run, restart)  # before anything is written in somebody else's folder
    folder.mkdir(exist_ok=True)
    with _alone(folder):
        work = _opened(folder, run, restart)
        if restart or _is_new(folder):
            _clear(folder)
        try:
            if not (folder / STATE).exists():
                work.note()
            yield work
        except BaseException as error:
            bad = isinstance(error, NmrefError) and error.code is not Code.T_FILE
            if bad or not (work.done or work.notes):
                _clear(folder)
            raise
        _clear(folder)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two runs in one folder would overwrite each other's activations.  Raises T_FILE.

    A lock of this process, which a forked child does not inherit and the system frees when the
    process dies.  On a file system without locks two processes are not kept apart.
    """
    path, mine = folder / LOCK, (os.getpid(), folder.resolve())
    busy = NmrefError(Code.T_FILE, str(folder), "another process at work in it", "one at a time")
    with _entering:
        if mine in _inside:  # the system's lock does not keep threads of a process apart
            raise busy
        _inside.add(mine)
    try:
        with path.open("ab") as file:
            if not _locked(file.fileno(), path):
                raise busy
            try:
                yield
            finally:
                if not WINDOWS:  # while nobody else can begin
                    _remove_unused(folder)
        if WINDOWS:  # an open file cannot be removed there
            _remove_unused(folder)
    finally:
        _inside.discard(mine)


def _locked(file: int, path: Path) -> bool:
    """Whether the lock is ours now, or there are no locks here, and it is still that of the path:
    the run that had it may have removed the file."""
    try:
        lock_byte(file, 0, True)
    except (PermissionError, BlockingIOError):  # another process has it
        return False
    except OSError:
        pass  # a file system without locks
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _opened(folder: Path, run: str, restart: bool) -> Work:
    """Where the run stands whose folder this is.  Raises T_FILE for anything else."""
    work, state = Work(folder, run), _state(folder)
    if _is_new(folder) or (restart and state is not None):
        return work
    got, want = "what another run left", "the same command as before, --restart, or the folder"
    if state is not None and state["run"] == run:
        done, notes = state["done"], state["notes"]
        if type(done) is int and isinstance(notes, dict) and work.has(done):
            work.done, work.notes = done, notes
            return work
    if state is None or restart:
        got, want = f"something without {STATE} of a run", "it"
    raise NmrefError(Code.T_FILE, str(folder), got, f"{want} removed")


def _state(folder: Path) -> dict[str, Any] | None:
    """What `note` wrote; None where there is nothing of the kind."""
    try:
        found = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and {"run", "done", "notes"} <= set(found) else None


def _is_new(folder: Path) -> bool:
    """Nothing there, or what a run leaves that ended before its first state was written."""
    if not folder.is_dir():
        return not folder.exists() and not folder.is_symlink()
    return all(_EARLY.fullmatch(path.name) for path in folder.iterdir())


def _clear(folder: Path) -> None:
    """Remove the files of a run but the lock.

    Blocks go first, so that none goes on with half of it, and the state last, without which the
    folder is nobody's.
    """
    if (folder / RESULT).is_dir() and not (folder / RESULT).is_symlink():
        shutil.rmtree(folder / RESULT)
    ours = (path for path in folder.iterdir() if _OURS.fullmatch(path.name))
    for path in sorted(ours, key=lambda path: (path.name == STATE, "nmref" not in path.name)):
        path.unlink()


def _remove_unused(folder: Path) -> None:
    """The lock and the folder, where nothing is left to go on with."""
    if not (folder / STATE).exists():
        (folder / LOCK).unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
