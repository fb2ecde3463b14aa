"""What a fault is: a name, the codes that an implementation may report, and how it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from nmref.testing.recipes import CORE_PATTERNS, MORE_PATTERNS, Out, Recipe, parse

Subject = TypeVar("Subject")


@dataclass(frozen=True, eq=False)
class Faulty(Generic[Subject]):
    """An input with one fault.

    Attributes
    ----------
    fault : its name.
    clause : the clause of SPEC that it breaks.
    codes : every code whose condition holds; the first is what an ordered implementation reports.
    subject : the Input, the (Spec, Parts) or the bytes of the file.
    about : the rest of the input, in a few words.
    """

    fault: str
    clause: str
    codes: tuple[str, ...]
    subject: Subject
    about: str

    def __str__(self) -> str:
        return f"{self.fault}: {self.about}"


@dataclass(frozen=True)
class Kind(Generic[Subject]):
    """A fault and how to put it into what a recipe describes.

    `fixed` are fields of the recipe without which the fault cannot be made.
    """

    fault: str
    clause: str
    codes: tuple[str, ...]
    make: Callable[[Recipe], Subject] = field(repr=False)
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def on(self, recipe: Recipe) -> Faulty[Subject]:
        """The fault in this recipe."""
        recipe = fit(recipe, **self.fixed)
        about = str(recipe)
        return Faulty(self.fault, self.clause, self.codes, self.make(recipe), about)


def fit(recipe: Recipe, **fixed: Any) -> Recipe:
    """The recipe with these fields, one row and one full block at least.

    Pattern "core": its own if it is one of the four of formats/.  `tail`: so many columns in the
    third block.
    """
    if fixed.get("pattern") == "core":
        fixed["pattern"] = recipe.pattern if recipe.pattern in CORE_PATTERNS else "8:16"
    tail = fixed.pop("tail", None)
    recipe = replace(recipe, **fixed)
    _, m = parse(recipe.pattern)
    if tail is not None:
        recipe = replace(recipe, columns=2 * m + tail)
    elif "columns" not in fixed:
        recipe = replace(recipe, columns=max(recipe.columns, m))
    if recipe.out is not None and recipe.pattern not in (*CORE_PATTERNS, *MORE_PATTERNS):
        recipe = replace(recipe, pattern="8:16")  # one that leaves room for the outlier fill
    return replace(recipe, rows=max(recipe.rows, fixed.get("rows", 1)))


IDX8, COLEX = Out("8:256", "BF16", "idx8"), Out("16:256", "F16", "colex")
"""Outliers for faults that need some."""
