"""The activations between two blocks of all samples, in memory or in files.

A block reads its inputs and writes its outputs; then both change places.  Fine-tuning has one or
two more arrays, for what it learns from.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from nmref.container.atomic import naming
from nmref.errors import Code, NmrefError

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
        with naming(path), path.open("ab") as file:
            if file.tell() != size and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            file.truncate(size)
        return np.memmap(path, dtype="<f4", mode="r+", shape=shape)

    def flush(self) -> None:
        """The outputs are on disk when this returns, and the dense model's."""
        for array in (self.outputs, self.targets):
            if isinstance(array, np.memmap):
                array.flush()
