"""What every contestant has in common.  NumPy only: a peer's interpreter may have nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Request = dict[str, Any]
Call = Callable[[], Any]
Array = Any  # of NumPy; BF16 as its bits


class Contestant:
    """Base of all: `load` a case, then `calls` for a number of tokens, one for each copy.

    Attributes
    ----------
    dtypes : that it multiplies.
    most_tokens, most_threads : above which it is left out; 0 for no limit.
    patterns : that it is measured on, empty for all.
    """

    dtypes: tuple[str, ...] = ("F32",)
    most_tokens = 0
    most_threads = 0
    patterns: tuple[str, ...] = ()

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.request: Request = {}
        self.x: Array = None

    def versions(self) -> dict[str, str]:
        """Package -> version, and what else its speed depends on."""
        return {"numpy": np.__version__}

    def load(self, request: Request) -> None:
        """Read the weights that the request names."""
        self.request = request
        self.x = self.read("x")

    def read(self, name: str) -> Array:
        """One array of the case; BF16 as uint16 bits."""
        return np.load(Path(self.request["folder"], f"{name}.npy"))

    def streamed(self) -> int:
        """Bytes of weights that one product reads."""
        raise NotImplementedError

    def calls(self, tokens: int, copies: int) -> list[Call]:
        """One call a copy of the weights; each gives the result [T, R] in its own type."""
        raise NotImplementedError

    def result(self, y: Any) -> Array:
        """What a call gave as float32 [T, R]."""
        return np.asarray(y, dtype=np.float32).reshape(-1, self.request["rows"])


class Dense(Contestant):
    """A contestant that multiplies the dense matrix."""

    dense: Array = None

    def load(self, request: Request) -> None:
        super().load(request)
        self.dense, self.held = self.read("dense"), []

    def streamed(self) -> int:
        return int(self.dense.nbytes)

    def copies(self, count: int) -> list[Array]:
        """The matrix `count` times, kept from one number of tokens to the next."""
        while len(self.held) < count:
            self.held.append(self.dense.copy())
        return self.held[:count]
