"""Looking at what a forward pass computes on the way.

`tap(name, array)` is called with every intermediate; calibration and traces are taps.  A tap must
not change or keep what it gets without a copy.  One that has a set `names` gets only those.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
Tap = Callable[[str, F32], None]


class Inside:
    """A tap for the inside of a block: names get the block's before them."""

    def __init__(self, tap: Tap, prefix: str) -> None:
        self._tap, self._prefix = tap, prefix
        names: frozenset[str] | None = getattr(tap, "names", None)
        if names is not None:
            self.names = {n.removeprefix(prefix) for n in names if n.startswith(prefix)}

    def __call__(self, name: str, array: F32) -> None:
        """`name` is that inside the block."""
        self._tap(self._prefix + name, array)


def wants(tap: Tap | None, *names: str) -> bool:
    """Whether a tap looks at any of these."""
    if tap is None:
        return False
    asked: Collection[str] | None = getattr(tap, "names", None)
    return asked is None or any(name in asked for name in names)


def seen(tap: Tap | None, name: str, array: F32) -> F32:
    """The array itself, after the tap looked at it."""
    if tap is not None and wants(tap, name):
        tap(name, array)
    return array
