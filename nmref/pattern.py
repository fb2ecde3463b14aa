"""N:M patterns: how many of every M consecutive columns are stored (SPEC part 2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import comb

from nmref.errors import Code, NmrefError

_TEXT = re.compile(r"([1-9][0-9]{0,3}):([1-9][0-9]{0,3})", re.ASCII)

MAX_BASE_BLOCK = 64
"""The longest block of a base pattern, so that a code fits 61 bits."""


@dataclass(frozen=True)
class NMPattern:
    """Exactly `stored` of every `block` consecutive columns of a row are stored.

    N is the number of positions STORED, never the number pruned.

    >>> p = NMPattern.parse("8:16")
    >>> p.count, p.width, p.blocks(172), p.row_bytes(64)
    (12870, 14, 11, 7)
    """

    stored: int
    block: int

    def __post_init__(self) -> None:
        if not 1 <= self.stored < self.block:
            raise NmrefError(
                Code.T_ARGUMENT, "pattern", f"{self.stored}:{self.block}", "N:M with 1 <= N < M"
            )

    @classmethod
    def parse(cls, text: str) -> NMPattern:
        """Read "N:M" in plain decimals.  Raises T_ARGUMENT."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise NmrefError(Code.T_ARGUMENT, "pattern", repr(text), "N:M, as in 8:16")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.stored}:{self.block}"

    @property
    def count(self) -> int:
        """C(M, N), the number of masks: codes are 0 .. count - 1."""
        return comb(self.block, self.stored)

    @property
    def width(self) -> int:
        """Bits of one code, ceil(log2 C(M, N))."""
        return (self.count - 1).bit_length()

    def blocks(self, columns: int) -> int:
        """Blocks of a row of K columns, the unfinished last one included."""
        return -(-columns // self.block)

    def slots(self, columns: int) -> int:
        """Stored positions of a row of K columns."""
        return self.blocks(columns) * self.stored

    def row_bytes(self, columns: int) -> int:
        """Bytes of the codes of a row of K columns."""
        return -(-self.blocks(columns) * self.width // 8)


BASE_PATTERNS = tuple(NMPattern(n, m) for n, m in ((2, 4), (4, 8), (8, 16), (16, 32)))
"""The base patterns that formats/ describes; any N:M with M <= 64 follows the same rule."""

OUTLIER_PATTERNS = tuple(NMPattern(n, 256) for n in (4, 8, 16))
"""The only patterns of outliers (SPEC part 4)."""


def base_pattern(text: str) -> NMPattern:
    """A pattern fit for the base matrix: 1 <= N < M <= 64.  Raises T_ARGUMENT."""
    pattern = NMPattern.parse(text)
    if pattern.block > MAX_BASE_BLOCK:
        raise NmrefError(
            Code.T_ARGUMENT, "base pattern", text, f"a block of at most {MAX_BASE_BLOCK}"
        )
    return pattern


def outlier_pattern(text: str) -> NMPattern:
    """A pattern fit for outliers: 4:256, 8:256 or 16:256.  Raises T_ARGUMENT."""
    pattern = NMPattern.parse(text)
    if pattern not in OUTLIER_PATTERNS:
        known = ", ".join(map(str, OUTLIER_PATTERNS))
        raise NmrefError(Code.T_ARGUMENT, "outlier pattern", text, f"one of {known}")
    return pattern
