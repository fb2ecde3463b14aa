"""The rows of docs/pruning.md and the page, from figures that are made up."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from copy import deepcopy
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from benchmarks.pruning import page as page_module
from benchmarks.pruning import run
from benchmarks.pruning.layer_tables import LAYER_TABLES
from benchmarks.pruning.page import TABLES, TEMPLATE, bits, page
from benchmarks.pruning.rows import HALF, METHODS, OUTLIERS, PATTERNS, rows
from nmref.pattern import NMPattern
from nmref.prune.choose.mask import split
from nmref.prune.recipe.document import assign, check, loads
from nmref.prune.settings import Recipe
from nmref.tensor import encode

ROWS = list(rows())
KEYS = [row.key for row in ROWS]
SHAPES = [(96, 512, 2), (512, 576, 1)]


def figures() -> dict:
    """Row number i has perplexity 10 + i and took i minutes."""
    found = {
        row.key: {"perplexity": 10.0 + i, "seconds": 60.0 * i, "recipe": ""}
        for i, row in enumerate(ROWS)
    }
    machine = {"cpu": "Some CPU", "python": "3.11", "packages": {"numpy": "2.0", "scipy": "1.13"}}
    return {"rows": found, "machine": machine, "shapes": SHAPES}


def layers() -> dict:
    """Two models, every figure another."""
    counted = count(1)

    def numbers(names: Iterable[str]) -> dict[str, float]:
        return {name: next(counted) / 64 for name in names}

    kinds = ("one", "rest", "dense", "power", "least")
    means = [f"{what} {kind}" for what in ("factor", "error") for kind in kinds]
    return {
        "models": {
            model: {
                "correction": {label: numbers(means) for label in ("2:4", "8:16 + 16:256")},
                "ties": numbers(("2:4", "8:16")),
                "equalization": numbers(("none", "divide")),
                "scan": {
                    **numbers(["dense"]),
                    "8:16": {"all": numbers(["0.98", "1.0"]), "q, k": numbers(["1.02", "1.06"])},
                },
            }
            for model in ("one", "two")
        }
    }


def cell(key: str) -> str:
    value = 10.0 + KEYS.index(key)
    return f"{value:.2f} ({value / 10:.2f}x)"


def rendered(name: str) -> str:
    found = figures()["rows"]
    return page_module.best(found, SHAPES) if name == "best" else TABLES[name](found)


def table(name: str) -> list[list[str]]:
    text = rendered(name)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_keys_are_unique() -> None:
    assert [key for key, count in Counter(KEYS).items() if count > 1] == []
    assert KEYS[0] == "dense"
    assert [row.key for row in ROWS if row.recipe is None] == ["dense"]


def test_the_recipes_are_valid_and_differ_within_a_table() -> None:
    for name in {row.table for row in ROWS} - {"dense"}:
        recipes = [row.recipe for row in ROWS if row.table == name]
        assert len(set(recipes)) == len(recipes), name
        for recipe in recipes:
            assert check(recipe) == recipe


def test_every_row_is_in_a_table() -> None:
    assert {row.table for row in ROWS} == {*TABLES, "best"}


def test_what_the_text_names_is_a_table() -> None:
    named = set(re.findall(r"\{(\w+)\}", TEMPLATE.read_text("utf-8")))
    assert named == {*TABLES, *LAYER_TABLES, "best", "machine"}
    assert not re.search(r"\{\w+\}", page(figures(), layers()))


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text with all of them."""
    path = tmp_path / "page.md"
    names = [*TABLES, *LAYER_TABLES, "best", "machine"]
    path.write_text("\n\n".join(f"## {name}\n\n{{{name}}}" for name in names), "utf-8")
    monkeypatch.setattr(page_module, "TEMPLATE", path)


@pytest.mark.usefixtures("template")
def test_page() -> None:
    text = page(figures(), layers())
    assert not re.search(r"\{\w+\}", text)
    assert "Some CPU, Python 3.11, numpy 2.0, scipy 1.13" in text
    assert "10.0000" in text  # the dense model
    for name in {*TABLES, "best"} - {"dense"}:
        assert rendered(name) in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith("|"), line


@pytest.mark.parametrize("name", sorted({*TABLES, "best"} - {"dense"}))
def test_a_table_has_as_many_cells_in_every_line(name: str) -> None:
    lines = table(name)
    assert len({len(line) for line in lines}) == 1
    assert lines[1] == ["---"] + ["---:"] * (len(lines[0]) - 1)
    assert len(lines) > 3


def test_a_row_without_a_figure_has_a_dash() -> None:
    found = figures()
    del found["rows"]["methods/RIA/8:16"]
    line = next(line for line in page(found, layers()).splitlines() if line.startswith("| RIA | "))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[3:] == ["-", "-"]
    assert cells[1] == cell("methods/RIA/2:4")


def test_a_table_that_the_text_leaves_out_is_an_error(tmp_path, monkeypatch) -> None:
    path = tmp_path / "page.md"
    path.write_text("{dense}", "utf-8")
    monkeypatch.setattr(page_module, "TEMPLATE", path)
    with pytest.raises(ValueError, match="methods"):
        page(figures(), layers())


def test_the_page_is_that_of_the_figures() -> None:
    found, single = (json.loads(path.read_text("utf-8")) for path in (run.FIGURES, run.LAYERS))
    assert run.PAGE.read_text("utf-8") == page(found, single)


def test_the_readme_says_what_the_figures_are() -> None:
    text = (run.HERE.parents[1] / "README.md").read_text("utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith("| pruning "))
    found = json.loads(run.FIGURES.read_text("utf-8"))["rows"]
    keys = ("best/best/8:16+16:256", "best/best/8:16", "best/ALPS/8:16+16:256", "methods/ALPS/8:16")
    ratios = [found[key]["perplexity"] / found["dense"]["perplexity"] for key in keys]
    assert re.findall(r"\d\.\d\d(?= times| and)", line) == [f"{ratio:.2f}" for ratio in ratios]
    longest = max(found[key]["seconds"] for key in keys)
    assert f"({longest / 60:.0f} minutes on 2 cores at most)" in line


@pytest.mark.usefixtures("template")
def test_every_figure_is_on_the_page() -> None:
    """A changed perplexity changes the text."""
    before = page(figures(), layers())
    for key in KEYS:
        found = figures()
        found["rows"][key]["perplexity"] = 5000.0
        assert page(found, layers()) != before, key


def leaves(found: dict, path: tuple[str, ...] = ()) -> Iterable[tuple[str, ...]]:
    for key, value in found.items():
        yield from leaves(value, (*path, key)) if isinstance(value, dict) else [(*path, key)]


@pytest.mark.usefixtures("template")
def test_every_figure_of_a_layer_is_on_the_page() -> None:
    before = page(figures(), layers())
    paths = [path for path in leaves(layers()) if path[-1] not in {"factor one", "error power"}]
    assert len(paths) == 50
    for path in paths:
        found = deepcopy(layers())
        inner = found
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = 5000.0
        assert page(figures(), found) != before, path


@pytest.mark.parametrize("name", sorted(LAYER_TABLES))
def test_a_table_of_layers_has_as_many_cells_in_every_line(name: str) -> None:
    lines = [line.split("|") for line in LAYER_TABLES[name](layers()["models"]).splitlines()]
    assert len({len(line) for line in lines}) == 1
    assert len(lines) >= 4


def test_methods_by_pattern() -> None:
    lines = table("methods")
    assert lines[0] == ["method", *map(str, PATTERNS), "time, 8:16"]
    assert [line[0] for line in lines[2:]] == list(METHODS)
    for line in lines[2:]:
        keys = [f"methods/{line[0]}/{pattern}" for pattern in PATTERNS]
        assert line[1:] == [*map(cell, keys), f"{KEYS.index(keys[-1]):.1f} min"]


def test_outliers_beside_their_own_method_without() -> None:
    lines = {line[0]: line[1:] for line in table("outliers")[2:]}
    assert lines["8:16, per row"] == [
        cell("methods/RIA+SQ/8:16"),
        *(cell(f"outliers/per row/8:16+{extra}") for extra in OUTLIERS),
    ]
    assert lines["2:4 by magnitude, n:256"][0] == cell("methods/magnitude/2:4")
    assert len(lines) == 7


def test_best_stands_beside_solvers_with_the_same_bits() -> None:
    lines = table("best")[2:]
    for line in lines:
        pattern, _, extra = line[0].partition(" + ")
        behind = pattern + (f"+{extra}" if extra else "")
        key, others = f"best/best/{behind}", "best" if extra else "methods"
        recipe = next(row.recipe for row in ROWS if row.key == key)
        assert recipe is not None
        cells = [cell(f"{others}/{method}/{behind}") for method in ("SparseGPT", "ALPS")]
        minutes = f"{KEYS.index(key):.1f} min"
        assert line[1:] == [f"{bits(recipe, SHAPES):.3f}", *cells, cell(key), minutes]
    assert [line[0] for line in lines][:2] == ["8:16", "8:16 + 4:256"]


def test_other_tables_are_their_rows() -> None:
    lines = table("others")[2:]
    want = [row for row in ROWS if row.table == "others"]
    for line, row in zip(lines, want, strict=True):
        assert row.recipe is not None
        minutes = f"{KEYS.index(row.key):.1f} min"
        assert line == [row.method, str(row.recipe.pattern), cell(row.key), minutes]


@pytest.mark.parametrize("extra", [None, *OUTLIERS])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_bits_are_those_of_a_file(pattern: NMPattern, extra: NMPattern | None) -> None:
    """Of weights that are packed, with a tail of 64 columns in one of them."""
    packed = elements = 0
    for rows_, columns, number in SHAPES:
        weight = np.random.default_rng(1).normal(size=(rows_, columns)).astype(np.float16)
        base, salient = split(np.abs(weight).astype(np.float32), pattern, extra)
        kept = np.where(base, weight, np.float16(0))
        outliers = None if salient is None else np.where(salient, weight, np.float16(0))
        shape = str(extra or "16:256")
        one = encode(
            *(kept, str(pattern)),
            mask=base,
            outliers=outliers,
            outlier_pattern=shape,
            outlier_mask=salient,
        )
        packed += number * one.nbytes
        elements += number * weight.size
    assert bits(Recipe(pattern, extra), SHAPES) == 8 * packed / elements
    assert bits(Recipe(HALF), [(8, 512, 1)]) == 8 + 14 / 16
    assert bits(Recipe(HALF, OUTLIERS[-1]), [(8, 512, 1)]) == 8.875 + 16 * 24 / 256


def test_the_list_of_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--list"]) == 0
    assert capsys.readouterr().out.splitlines() == KEYS
    assert run.main(["--list", "--rows", "best/*"]) == 0
    found = capsys.readouterr().out.splitlines()
    assert found == [key for key in KEYS if key.startswith("best/")]


def test_the_page_is_written_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "figures.json").write_text(json.dumps(figures()), "utf-8")
    (tmp_path / "layers.json").write_text(json.dumps(layers()), "utf-8")
    monkeypatch.setattr(run, "PAGE", tmp_path / "pruning.md")
    monkeypatch.setattr(run, "LAYERS", tmp_path / "layers.json")
    assert run.main(["--page", "--figures", str(tmp_path / "figures.json")]) == 0
    assert (tmp_path / "pruning.md").read_text("utf-8") == page_module.page(figures(), layers())


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEMPLATE.read_text("utf-8"), re.DOTALL)


def test_the_python_of_the_page_runs() -> None:
    (program,) = blocks("python")
    names: dict = {}
    exec(program, names)
    assert names["packed"].spec.pattern == HALF
    assert len(program.split("rng = ")[1].splitlines()) <= 15


def test_the_recipe_of_the_page_is_one() -> None:
    (text,) = blocks("toml")
    names = [f"model.layers.{i}.mlp.down_proj.weight" for i in range(6)]
    patterns = assign(loads(text, "page")[0], names)
    found = [str(patterns[name][0]) for name in names]
    assert found == ["None", "16:32", "16:32", "16:32", "16:32", "8:16"]
