"""Error codes and the one exception class of nmref (SPEC part 7).

A message is one line: code, what, where, got, want::

    E_CODE_RANGE model.layers.0.mlp.up_proj.weight row 5 block 3: code 12870, want < 12870
"""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """Every code that nmref can report.  E_, W_, X_ are normative (SPEC part 7), T_ the tools' own.

    E_ a file or its parts break a rule, W_ a valid file deserves a look, X_ `encode` refuses its
    input, T_ a checkpoint, text, download or argument around the format is not usable.
    """

    E_LIMIT = "E_LIMIT"
    E_HEADER = "E_HEADER"
    E_DTYPE = "E_DTYPE"
    E_META = "E_META"
    E_VERSION = "E_VERSION"
    E_UNEXPECTED = "E_UNEXPECTED"
    E_MISSING = "E_MISSING"
    E_SHAPE = "E_SHAPE"
    E_SCALE = "E_SCALE"
    E_PAD = "E_PAD"
    E_CODE_RANGE = "E_CODE_RANGE"
    E_TAIL = "E_TAIL"
    E_INDEX_ORDER = "E_INDEX_ORDER"
    E_OVERLAP = "E_OVERLAP"
    E_DIGEST = "E_DIGEST"

    X_SHAPE = "X_SHAPE"
    X_DTYPE = "X_DTYPE"
    X_OVERLAP = "X_OVERLAP"
    X_OVERFULL = "X_OVERFULL"
    X_NEGZERO = "X_NEGZERO"

    W_NONCANON = "W_NONCANON"
    W_NONFINITE = "W_NONFINITE"

    T_ARGUMENT = "T_ARGUMENT"
    T_FILE = "T_FILE"
    T_CONFIG = "T_CONFIG"
    T_TENSOR = "T_TENSOR"
    T_TEXT = "T_TEXT"
    T_SCORE = "T_SCORE"
    T_FETCH = "T_FETCH"


class NmrefError(ValueError):
    """An input breaks a rule.  `str(error)` starts with the code.

    Parameters
    ----------
    code : which rule.
    where : the tensor, file or argument, with row and block where there are any.
    got, want : what was found and what the rule asks for.
    """

    def __init__(self, code: Code, where: str, got: str, want: str) -> None:
        self.code = code
        self.where = where
        self.got = got
        self.want = want
        super().__init__(f"{code} {where}: {got}, want {want}")

    def __reduce__(self) -> tuple[type[NmrefError], tuple[Code, str, str, str]]:
        return type(self), (self.code, self.where, self.got, self.want)

    def inside(self, place: str) -> NmrefError:
        """The same error with `place` (a tensor or file name) put before its own place."""
        return NmrefError(self.code, f"{place} {self.where}".rstrip(), self.got, self.want)
