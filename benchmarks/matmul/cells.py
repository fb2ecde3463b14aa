"""What is measured: cells (shape, pattern, dtype, T, threads) and the plans that choose them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

LARGE = ((4096, 4096), (11008, 4096), (4096, 11008))
SMALL = ((576, 1536), (1536, 576))
TOKENS = (1, 4, 16, 32, 64, 256, 512)
PATTERNS = ("8:16", "2:4", "8:16+16:256")
DTYPES = ("F32", "BF16")
ELEMENT = {"F32": 4, "BF16": 2}
"""Bytes of a value."""


@dataclass(frozen=True)
class Case:
    """Weights [rows, columns], which every contestant gets alike.

    Attributes
    ----------
    pattern : N:M, or N:M+n:256 with outliers.
    dtype : of the weights and of x, F32 or BF16.
    """

    rows: int
    columns: int
    pattern: str
    dtype: str

    @property
    def base(self) -> str:
        """The pattern without outliers."""
        return self.pattern.split("+")[0]

    @property
    def outliers(self) -> str | None:
        """n:256, or None."""
        return self.pattern.partition("+")[2] or None

    @property
    def density(self) -> float:
        """Stored elements over all elements."""
        return sum(int(n) / int(m) for n, m in (p.split(":") for p in self.pattern.split("+")))

    @property
    def stored_bytes(self) -> int:
        """Bytes of the stored values."""
        return round(self.rows * self.columns * self.density * ELEMENT[self.dtype])


@dataclass(frozen=True)
class Cell:
    """A case with a number of tokens and of threads."""

    case: Case
    tokens: int
    threads: int


def _goal_cells() -> Iterator[tuple[Case, int]]:
    """The cells of P1 to P7 (benchmarks/figures.py)."""
    for rows, columns in LARGE:
        f32, bf16 = (Case(rows, columns, "8:16", dtype) for dtype in DTYPES)
        yield f32, 1
        yield bf16, 1
        yield Case(rows, columns, "8:16+16:256", "BF16"), 1
        if (rows, columns) == LARGE[0]:
            yield from ((f32, tokens) for tokens in (64, 256, 512))
            yield from ((bf16, tokens) for tokens in (4, 16, 32, 64, 256, 512))


def _full_cells() -> Iterator[tuple[Case, int]]:
    for rows, columns in LARGE + SMALL:
        for pattern in PATTERNS:
            for dtype in DTYPES:
                yield from ((Case(rows, columns, pattern, dtype), tokens) for tokens in TOKENS)


def _small_cells() -> Iterator[tuple[Case, int]]:
    for pattern in ("8:16", "8:16+16:256"):
        for dtype in DTYPES:
            yield from ((Case(64, 512, pattern, dtype), tokens) for tokens in (1, 16))


PLANS = {"goals": _goal_cells, "full": _full_cells, "small": _small_cells}


def plan(name: str, threads: Sequence[int], keep: Callable[[Cell], bool] = bool) -> list[Cell]:
    """Cells of a plan that `keep` keeps; those with the same weights stand together."""
    chosen = sorted(PLANS[name](), key=lambda pair: _order(pair[0]))
    made = (Cell(case, tokens, count) for case, tokens in chosen for count in threads)
    return [cell for cell in made if keep(cell)]


def _order(case: Case) -> tuple[int, ...]:
    shapes = (*LARGE, *SMALL)
    shape = (case.rows, case.columns)
    place = shapes.index(shape) if shape in shapes else len(shapes)
    return place, PATTERNS.index(case.pattern), DTYPES.index(case.dtype)
