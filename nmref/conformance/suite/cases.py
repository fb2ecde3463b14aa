"""What a case is, and what an author does."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Protocol

Json = dict[str, Any]

NUMERIC = (
    *("dot", "exp", "silu", "softmax", "rms_norm", "rope_tables", "rope", "argmax", "splitmix64"),
    "trace",
)
OPS = ("unrank", "rank", "decode", "warnings", "encode", "read", "write", "read_model", *NUMERIC)
"""Every operation, by its name in the vectors."""

STRICT = ("warnings", "write")
"""Operations that only a strict run asks for: a SHOULD, and the canonical writer."""

ANY = ("ANY",)
"""`rejected` of a case that may be refused with any code, tools' own ones too."""

ID = re.compile(r"[a-z0-9_]+(/[a-z0-9.]+(-[a-z0-9.]+)*)+")


@dataclass(frozen=True)
class Case:
    """An input, before an author says what comes out.

    Attributes
    ----------
    id : its permanent name, beginning with the operation.
    op : one of OPS.
    clauses : of SPEC.
    given : the input.
    flags : the bugs it hunts (flags.py).
    rejected : the codes whose conditions hold, the one of an ordered implementation first; empty
        if the input is good, ANY if every code will do.
    """

    id: str
    op: str
    clauses: tuple[str, ...]
    given: Json = field(repr=False)
    flags: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()

    @property
    def level(self) -> str:
        """core, strict or numeric."""
        return "numeric" if self.op in NUMERIC else "strict" if self.op in STRICT else "core"


@dataclass(frozen=True)
class Part:
    """One file of vectors."""

    name: str
    cases: list[Case] = field(repr=False)


class Author(Protocol):
    """Where expected values come from: one method for each operation, input -> output.

    A refused input is an exception whose `code` is one of SPEC part 7.
    """

    def unrank(self, given: Json) -> Json:
        """Codes -> masks."""

    def rank(self, given: Json) -> Json:
        """Masks -> codes."""

    def decode(self, given: Json) -> Json:
        """Spec, parts -> W, after every check of one weight."""

    def warnings(self, given: Json) -> Json:
        """Spec, parts -> codes, sorted."""

    def encode(self, given: Json) -> Json:
        """Dense inputs -> parts."""

    def read(self, given: Json) -> Json:
        """File -> tensors, after every check."""

    def write(self, given: Json) -> Json:
        """Weights and other tensors -> the canonical file."""

    def read_model(self, given: Json) -> Json:
        """Files of a sharded model -> tensors, after every check."""

    def dot(self, given: Json) -> Json:
        """Profile, weight, x -> y."""

    def exp(self, given: Json) -> Json:
        """SPEC 8.17."""

    def silu(self, given: Json) -> Json:
        """SPEC 8.19."""

    def softmax(self, given: Json) -> Json:
        """SPEC 8.20."""

    def rms_norm(self, given: Json) -> Json:
        """SPEC 8.21."""

    def rope_tables(self, given: Json) -> Json:
        """SPEC 8.23."""

    def rope(self, given: Json) -> Json:
        """SPEC 8.24."""

    def argmax(self, given: Json) -> Json:
        """SPEC 8.25."""

    def splitmix64(self, given: Json) -> Json:
        """SPEC 8.26 and 8.27."""

    def trace(self, given: Json) -> Json:
        """SPEC 8.37 and 8.38."""


def rejection(error: Exception) -> str | None:
    """The code of SPEC part 7 that an exception bears, or None: then it is a crash."""
    code = getattr(error, "code", None)
    return str(code) if isinstance(code, str) and code[:2] in ("E_", "X_") else None
