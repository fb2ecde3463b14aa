"""docs/pruning.md from the figures: `python -m benchmarks pruning --page`.

The text around the tables is benchmarks/pruning/page.md, written by hand; each {name} in it is a
table of this module or of layer_tables.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.pruning.layer_tables import LAYER_TABLES, markdown
from benchmarks.pruning.rows import HALF, OUTLIERS, PATTERNS, SOLVERS, Row, rows
from nmref.prune.settings import Recipe
from nmref.tensor.spec import OutlierSpec, WeightSpec

TEMPLATE = Path(__file__).with_name("page.md")
MISSING = "-"

Found = dict[str, Any]
Shapes = list[tuple[int, int, int]]
"""R, K and how many of them, of the linears of a model."""


def page(figures: Found, layers: Found) -> str:
    """The whole page, of figures.json and layers.json; a row without a figure has a dash."""
    found: Found = figures["rows"]
    parts = {name: table(found) for name, table in TABLES.items()}
    parts["best"] = best(found, figures["shapes"])
    parts |= {name: table(layers["models"]) for name, table in LAYER_TABLES.items()}
    machine = figures["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    parts["machine"] = f"{machine['cpu']}, Python {machine['python']}, {versions}"
    text = TEMPLATE.read_text("utf-8")
    for name, part in parts.items():
        if "{" + name + "}" not in text:
            raise ValueError(f"{TEMPLATE.name} leaves out {name}")
        text = text.replace("{" + name + "}", part)
    return text


def bits(recipe: Recipe, shapes: Shapes) -> float:
    """Bits of an element of the model's linears, packed in BF16; tails of blocks are in them."""
    out = None if recipe.outliers is None else OutlierSpec(recipe.outliers, "BF16", "idx8")
    specs = [(WeightSpec((r, k), recipe.pattern, "BF16", out), count) for r, k, count in shapes]
    packed = sum(spec.nbytes * count for spec, count in specs)
    return 8 * packed / sum(r * k * count for r, k, count in shapes)


def _cell(found: Found, key: str) -> str:
    if key not in found:
        return MISSING
    value: float = found[key]["perplexity"]
    return f"{value:.2f} ({value / found['dense']['perplexity']:.2f}x)"


def _time(found: Found, key: str) -> str:
    if key not in found:
        return MISSING
    return f"{found[key]['seconds'] / 60:.1f} min"


def _by_method(table: str) -> list[Row]:
    return [row for row in rows() if row.table == table]


def methods(found: Found) -> str:
    """Method by pattern; the time is that of 8:16."""
    names = list(dict.fromkeys(row.method for row in _by_method("methods")))
    lines = []
    for name in names:
        keys = [f"methods/{name}/{pattern}" for pattern in PATTERNS]
        lines.append([name, *(_cell(found, key) for key in keys), _time(found, keys[-1])])
    return markdown(["method", *map(str, PATTERNS), "time, 8:16"], lines)


def outliers(found: Found) -> str:
    """RIA+SQ with outliers, structured and not."""
    lines = []
    for pattern in (PATTERNS[0], HALF):
        for place in ("n:256", "per row", "per matrix"):
            keys = [f"outliers/{place}/{pattern}+{extra}" for extra in OUTLIERS]
            none = _cell(found, f"methods/RIA+SQ/{pattern}")
            lines.append([f"{pattern}, {place}", none, *(_cell(found, key) for key in keys)])
    keys = [f"outliers/magnitude, n:256/2:4+{extra}" for extra in OUTLIERS]
    none = _cell(found, "methods/magnitude/2:4")
    lines.append(["2:4 by magnitude, n:256", none, *(_cell(found, key) for key in keys)])
    return markdown(["RIA+SQ", "none", *map(str, OUTLIERS)], lines)


def best(found: Found, shapes: Shapes) -> str:
    """Bits of an element against perplexity: SparseGPT and ours."""
    lines = []
    for row in _by_method("best"):
        if row.method != "best" or row.recipe is None:
            continue
        name = f"{row.recipe.pattern}" + (
            f" + {row.recipe.outliers}" if row.recipe.outliers else ""
        )
        table = "best" if row.recipe.outliers else "methods"
        others = [row.key.replace("best/best", f"{table}/{method}") for method in SOLVERS]
        cells = [
            f"{bits(row.recipe, shapes):.3f}",
            *(_cell(found, key) for key in (*others, row.key)),
        ]
        lines.append([name, *cells, _time(found, row.key)])
    return markdown(["pattern", "bits/element", *SOLVERS, "best", "time of best"], lines)


def _simple(table: str, head: str) -> Callable[[Found], str]:
    def render(found: Found) -> str:
        lines = []
        for row in _by_method(table):
            assert row.recipe is not None
            extra = f" + {row.recipe.outliers}" if row.recipe.outliers else ""
            cells = [row.method, f"{row.recipe.pattern}{extra}", _cell(found, row.key)]
            lines.append([*cells, _time(found, row.key)])
        return markdown([head, "pattern", "perplexity", "time"], lines)

    return render


def _dense(found: Found) -> str:
    return f"{found['dense']['perplexity']:.4f}"


TABLES: dict[str, Callable[[Found], str]] = {
    "dense": _dense,
    "methods": methods,
    "outliers": outliers,
    "tuned": _simple("tuned", "method"),
    "correction": _simple("correction", "RIA, variance correction"),
    "equalization": _simple("equalization", "RIA, equalization"),
    "permutation": _simple("permutation", "RIA, permutation"),
    "others": _simple("others", "method"),
}
