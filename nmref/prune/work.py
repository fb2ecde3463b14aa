"""What a long prune has done so far, on disk, so that it can be interrupted and go on.

A folder beside the target: two files of activations, the input of the block to come and its
output, changing places; one or two more for what fine-tuning learns from; a packed file and a mask
file for every block that is done; and `state.json`, replaced last, so that a crash at any moment
leaves the state before the block or after it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from nmref.container import load, save
from nmref.container.atomic import new_file
from nmref.dtypes import Array
from nmref.errors import Code, NmrefError
from nmref.prune import maskfile
from nmref.prune.maskfile import Mask, MaskFile
from nmref.prune.maskmeta import MaskSpec
from nmref.tensor import SparseWeight

if sys.platform != "win32":
    import fcntl

F32 = npt.NDArray[np.float32]
Shape = tuple[int, int, int]
Teacher = Literal["pruned", "dense"]


class Streams:
    """Activations [S, T, D] of all samples between two blocks: `inputs` -> `outputs`, then swap.

    `teacher` None: no targets; "pruned": `targets` is a third array; "dense": the dense model's own
    activations are kept as well, `dense_inputs` -> `targets`, which change places too.
    """

    def __init__(self, shape: Shape, teacher: Teacher | None, first: int = 0) -> None:
        self._layer = first
        self._pair = (self._array("stream-0", shape), self._array("stream-1", shape))
        none = (0, *shape[1:])
        self._targets = (
            self._array("targets-0", shape if teacher is not None else none),
            self._array("targets-1", shape if teacher == "dense" else none),
        )
        self.teacher = teacher

    def _array(self, name: str, shape: Shape) -> F32:
        return np.zeros(shape, dtype=np.float32)

    @property
    def inputs(self) -> F32:
        """Of the block to come."""
        return self._pair[self._layer % 2]

    @property
    def outputs(self) -> F32:
        """Of that block, once it is pruned."""
        return self._pair[(self._layer + 1) % 2]

    @property
    def targets(self) -> F32 | None:
        """What the block to come should give; None where nothing is tuned."""
        if self.teacher is None:
            return None
        return self._targets[(self._layer + 1) % 2 if self.teacher == "dense" else 0]

    @property
    def dense_inputs(self) -> F32 | None:
        """Of the same block in the dense model; None unless that is the teacher."""
        return self._targets[self._layer % 2] if self.teacher == "dense" else None

    def advance(self) -> None:
        """The outputs become the inputs of the next block."""
        self._layer += 1


class DiskStreams(Streams):
    """The same in files, memory-mapped: the system keeps in memory what there is room for."""

    def __init__(self, folder: Path, shape: Shape, teacher: Teacher | None, first: int = 0) -> None:
        self._folder = folder
        self._old = first > 0
        super().__init__(shape, teacher, first)

    def _array(self, name: str, shape: Shape) -> F32:
        """All room is taken at once, so that a full disk is an OSError here, not a signal later.

        Raises T_FILE where a run that goes on does not find what it wrote.
        """
        path, size = self._folder / f"{name}.f32", int(np.prod(shape)) * 4
        if not size:
            return np.zeros(shape, dtype=np.float32)
        found = path.stat().st_size if path.is_file() else 0
        if self._old and found != size:
            want = f"the {size} that were there"
            raise NmrefError(Code.T_FILE, str(path), f"{found} bytes", want)
        with path.open("ab") as file:
            if file.tell() != size and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            file.truncate(size)
        return np.memmap(path, dtype="<f4", mode="r+", shape=shape)

    def flush(self) -> None:
        """The outputs are on disk when this returns, and the dense model's."""
        for array in (self.outputs, self.targets):
            if isinstance(array, np.memmap):
                array.flush()


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
        with new_file(self.folder / "state.json") as file:
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
    of the same left is gone on with; `restart` throws it away.  It stays when the run is
    interrupted or the system fails (a full disk), and goes when the input is found bad.

    Raises T_FILE for a folder that another run left, or that another process works in.
    """
    folder = work_folder(target)
    if restart and folder.is_dir():
        with _alone(folder):
            shutil.rmtree(folder)
    fresh = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if fresh:
        folder.mkdir(exist_ok=True)
    with _alone(folder):
        work = Work(folder, run)
        if not fresh:
            _continue(work, folder, run)
        try:
            if fresh:
                work.note()
            yield work
        except (OSError, KeyboardInterrupt):
            if not work.done and not work.notes:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two runs in one folder would overwrite each other's activations.  Raises T_FILE."""
    if sys.platform == "win32":
        yield  # folders cannot be locked there
        return
    file = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            got, want = "another process at work in it", "one at a time"
            raise NmrefError(Code.T_FILE, str(folder), got, want) from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(file)


def _continue(work: Work, folder: Path, run: str) -> None:
    """Where the run stood whose folder this is.  Raises T_FILE for anything else."""
    try:
        found = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        done, notes = found["done"], found["notes"]
        same = found["run"] == run and type(done) is int and isinstance(notes, dict)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        same = False
    if not same or not work.has(done):
        want = "the same command as before, --restart, or the folder removed"
        raise NmrefError(Code.T_FILE, str(folder), "what another run left", want)
    work.done, work.notes = done, notes
