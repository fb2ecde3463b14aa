"""Every row of the tables: a recipe and the names of what it compares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from nmref.pattern import NMPattern
from nmref.prune.recipe.presets import PRESETS
from nmref.prune.settings import Allocation, Correction, Equalization, Recipe, Solver, Tuning

PATTERNS = tuple(map(NMPattern.parse, ("2:4", "4:8", "8:16")))
HALF = NMPattern(8, 16)
OUTLIERS = tuple(map(NMPattern.parse, ("4:256", "8:256", "16:256")))

SQ, VC, EBFT = Equalization(), Correction(), Tuning()
LITERAL_VC = Correction(numerator="dense")


@dataclass(frozen=True)
class Row:
    """One measurement.  `table` it belongs to, `method` is its line, the recipe says the rest."""

    table: str
    method: str
    recipe: Recipe | None
    """None: the dense model."""

    @property
    def key(self) -> str:
        """Unlike that of any other row."""
        if self.recipe is None:
            return "dense"
        outliers = f"+{self.recipe.outliers}" if self.recipe.outliers else ""
        return f"{self.table}/{self.method}/{self.recipe.pattern}{outliers}"


BASE = Recipe(HALF)

METHODS: dict[str, Recipe] = {
    "magnitude": replace(BASE, score="magnitude"),
    "Wanda": replace(BASE, score="wanda"),
    "RIA": BASE,
    "RIA+SQ": replace(BASE, equalize=SQ),
    "RIA+VC": replace(BASE, correct=VC),
    "RIA+SQ+VC": replace(BASE, equalize=SQ, correct=VC),
    "SparseGPT": replace(BASE, solver=Solver("sparsegpt")),
    "ALPS": replace(BASE, solver=Solver("alps")),
}
"""The paper's stages and what it is compared to, each at every pattern."""

SOLVERS = ("SparseGPT", "ALPS")
"""Those of them that are measured with outliers too."""


def rows() -> Iterator[Row]:
    """All of them, the quick ones that everything hangs on first."""
    yield Row("dense", "dense", None)
    yield from _methods()
    yield from _best()
    yield from _outliers()
    yield from _correction()
    yield from _equalization()
    yield from _permutation()
    yield from _others()
    yield from _tuned()


def _methods() -> Iterator[Row]:
    for pattern in reversed(PATTERNS):
        for method, recipe in METHODS.items():
            yield Row("methods", method, replace(recipe, pattern=pattern))


def _tuned() -> Iterator[Row]:
    """The paper's whole pipeline."""
    full = replace(METHODS["RIA+SQ+VC"], tune=EBFT)
    for outliers in (None, OUTLIERS[-1]):
        yield Row("tuned", "RIA+SQ+VC+EBFT", replace(full, outliers=outliers))
    yield Row("tuned", "RIA+SQ+VC+EBFT", replace(full, pattern=PATTERNS[0]))
    yield Row("tuned", "RIA+SQ+EBFT", replace(METHODS["RIA+SQ"], tune=EBFT))
    yield Row("tuned", "SparseGPT+EBFT", replace(METHODS["SparseGPT"], tune=EBFT))


def _best() -> Iterator[Row]:
    """Ours, beside plain SparseGPT and ALPS with the same bits."""
    best = PRESETS["best"]
    for outliers in (None, *OUTLIERS):
        yield Row("best", "best", replace(best, outliers=outliers))
    for outliers in OUTLIERS:
        for method in SOLVERS:
            yield Row("best", method, replace(METHODS[method], outliers=outliers))
    for pattern in PATTERNS[:2]:
        yield Row("best", "best", replace(best, pattern=pattern, outliers=None))


def _outliers() -> Iterator[Row]:
    """Structured against unstructured at an equal count (the paper's Tables 5, 6 and 8)."""
    for pattern in (HALF, PATTERNS[0]):
        for outliers in OUTLIERS:
            some = replace(METHODS["RIA+SQ"], pattern=pattern, outliers=outliers)
            yield Row("outliers", "n:256", some)
            yield Row("outliers", "per row", replace(some, place="row"))
            yield Row("outliers", "per matrix", replace(some, place="matrix"))
    for outliers in OUTLIERS:
        plain = replace(METHODS["magnitude"], pattern=PATTERNS[0], outliers=outliers)
        yield Row("outliers", "magnitude, n:256", plain)


def _correction() -> Iterator[Row]:
    """Variance correction: both numerators, per matrix and per row, with and without outliers."""
    for outliers in (None, OUTLIERS[-1]):
        some = replace(BASE, outliers=outliers)
        yield Row("correction", "none", some)
        for how in (
            VC,
            LITERAL_VC,
            Correction("rest", "row"),
            Correction("dense", "row"),
        ):
            if outliers is None and how.numerator == "dense":
                continue  # the same: there are no outliers
            label = f"{how.numerator}, {how.scope}"
            yield Row("correction", label, replace(some, correct=how))


def equalizations() -> dict[str, Equalization]:
    """Eq. 1 in all its readings, by what the tables call them."""
    return {
        f"{direction}, power {power:g}" + (", norms too" if scaled else ""): Equalization(
            direction, power, scaled
        )
        for direction in ("multiply", "divide")
        for power in (0.5, 1.0)
        for scaled in (False, True)
    }


def _equalization() -> Iterator[Row]:
    for label, how in equalizations().items():
        yield Row("equalization", label, replace(BASE, equalize=how))


def _permutation() -> Iterator[Row]:
    for pattern in (HALF, PATTERNS[0]):
        some = replace(BASE, pattern=pattern)
        yield Row("permutation", "folded, heuristic", replace(some, permute="heuristic"))
        yield Row("permutation", "folded, Hungarian", replace(some, permute="hungarian"))
        everywhere = replace(some, permute="hungarian", permute_all=True)
        yield Row("permutation", "everywhere, Hungarian (not packed)", everywhere)


def _others() -> Iterator[Row]:
    """Scores and allocations that the paper does not have."""
    yield Row("others", "relative importance alone", replace(BASE, score="relative"))
    yield Row("others", "gradient score", replace(BASE, score="gradient"))
    yield Row("others", "Wanda+OWL", replace(METHODS["Wanda"], allocate=Allocation()))
    kept = Solver("sparsegpt", keep_mask=True)
    yield Row("others", "RIA's mask, SparseGPT's update", replace(BASE, solver=kept))
    wide = NMPattern(16, 32)
    yield Row("others", "RIA", replace(BASE, pattern=wide))
