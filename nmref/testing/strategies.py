"""Hypothesis strategies: patterns, shapes, masks, dense bits, inputs, weights, files, and faults.

Everything drawn shrinks to one row, one column, 2:4 and F32.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from nmref.testing.contents import Weight, weight
from nmref.testing.faults import Faulty, Kind
from nmref.testing.file_variants import VARIANTS, File, Variant
from nmref.testing.header_faults import HEADER_FAULTS
from nmref.testing.input_faults import INPUT_FAULTS
from nmref.testing.meta_faults import META_FAULTS
from nmref.testing.part_faults import PART_FAULTS, Encoded
from nmref.testing.plain import Bool, Dense, Input
from nmref.testing.recipes import (
    CORE_PATTERNS,
    CROWDS,
    DTYPES,
    FILLS,
    FLOATS,
    LONG_PATTERNS,
    MORE_PATTERNS,
    OUT_PATTERNS,
    PLACES,
    ROWS,
    SPECIALS,
    Out,
    Recipe,
    build,
    tails,
)


def base_patterns(longest: int = 64) -> SearchStrategy[str]:
    """ "N:M" with 1 <= N < M <= longest; the four of formats/ are frequent (SPEC 2.1)."""
    known = [*CORE_PATTERNS, *MORE_PATTERNS, *LONG_PATTERNS]
    any_pattern = st.integers(2, longest).flatmap(
        lambda m: st.integers(1, m - 1).map(lambda n: f"{n}:{m}")
    )
    known = [pattern for pattern in known if int(pattern.split(":")[1]) <= longest]
    return st.sampled_from(known) | any_pattern if known else any_pattern


def outlier_patterns() -> SearchStrategy[str]:
    """4:256, 8:256, 16:256 (SPEC 4.1)."""
    return st.sampled_from(OUT_PATTERNS)


def dtypes() -> SearchStrategy[str]:
    """F32, F16, BF16, I8 (SPEC 3.1)."""
    return st.sampled_from(DTYPES)


def outlier_dtypes() -> SearchStrategy[str]:
    """F32, F16, BF16 (SPEC 4.3)."""
    return st.sampled_from(FLOATS)


@st.composite
def shapes(draw: DrawFn, pattern: str, outliers: bool = False) -> tuple[int, int]:
    """[R, K] with full and unfinished last blocks on purpose, and now and then no rows."""
    return draw(st.sampled_from(ROWS)), draw(st.sampled_from(tails(pattern, outliers)))


@st.composite
def recipes(draw: DrawFn, /, **fixed: Any) -> Recipe:
    """Descriptions of valid inputs; `fixed` fields keep their value."""
    out = draw(_outs()) if "out" not in fixed else fixed["out"]
    some = st.sampled_from((*CORE_PATTERNS, *MORE_PATTERNS))
    pattern = fixed.get("pattern") or draw(some if out else base_patterns())
    rows, columns = draw(shapes(pattern, out is not None))
    fields: dict[str, Any] = {
        "pattern": pattern,
        "dtype": draw(dtypes()),
        "rows": rows,
        "columns": columns,
        "crowd": draw(st.sampled_from(CROWDS)),
        "place": draw(st.sampled_from(PLACES)),
        "special": draw(st.sampled_from(SPECIALS)),
        "masked": draw(st.booleans()),
        "out": out,
        "fills": draw(st.sampled_from(FILLS)),
        "salt": draw(st.integers(0, 999)),
    }
    return Recipe(**(fields | fixed))


def _outs() -> SearchStrategy[Out | None]:
    coding = st.sampled_from(("idx8", "colex"))
    return st.none() | st.builds(Out, outlier_patterns(), outlier_dtypes(), coding, st.booleans())


def dense(**fixed: Any) -> SearchStrategy[Dense]:
    """A base that fits its pattern, with -0, NaN payloads, infinities and subnormals."""
    return recipes(**fixed).map(lambda recipe: build(recipe).base)


def masks(pattern: str, **fixed: Any) -> SearchStrategy[Bool]:
    """[R, K] with at most N of every M columns."""

    def mask(recipe: Recipe) -> Bool:
        found = build(recipe).mask
        assert found is not None
        return found

    return recipes(**(fixed | {"pattern": pattern, "masked": True, "out": None})).map(mask)


def inputs(**fixed: Any) -> SearchStrategy[Input]:
    """What `encode` accepts."""
    return recipes(**fixed).map(build)


def weights(**fixed: Any) -> SearchStrategy[Weight]:
    """Valid encoded weights, canonical and not, with the W they stand for."""
    return recipes(**fixed).map(weight)


def files(variants: list[Variant] = VARIANTS) -> SearchStrategy[File]:
    """Valid files, canonical and unusual ones."""
    return st.builds(Variant.on, st.sampled_from(variants), small_recipes())


def small_recipes() -> SearchStrategy[Recipe]:
    """Recipes without outliers, for the changing weight of a file."""
    return recipes(out=None)


def faulty_inputs(kinds: list[Kind[Input]] = INPUT_FAULTS) -> SearchStrategy[Faulty[Input]]:
    """What `encode` must refuse, each with its codes."""
    return st.builds(Kind.on, st.sampled_from(kinds), recipes())


def faulty_weights(kinds: list[Kind[Encoded]] = PART_FAULTS) -> SearchStrategy[Faulty[Encoded]]:
    """Spec and parts of a weight that a reader must refuse."""
    return st.builds(Kind.on, st.sampled_from(kinds), recipes())


def faulty_files(
    kinds: list[Kind[bytes]] = HEADER_FAULTS + META_FAULTS,
) -> SearchStrategy[Faulty[bytes]]:
    """Files that a reader must refuse, each with one fault, its name and its codes."""
    return st.builds(Kind.on, st.sampled_from(kinds), small_recipes())
