"""Presets are recipes that can be run, packed and written."""

from dataclasses import replace

import pytest

from nmref.errors import NmrefError
from nmref.pattern import NMPattern
from nmref.prune.recipe.document import assign, check, dumps, loads
from nmref.prune.recipe.presets import PRESETS, preset


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_can_be_run_and_written(name):
    recipe = preset(name)
    assert check(recipe) == recipe
    assert loads(dumps(recipe), name) == (recipe, None)
    assert assign(recipe, ["w"]) == {"w": (recipe.pattern, recipe.outliers)}
    assert recipe.place == "structured"  # else it could not be packed


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("pattern", ["2:4", "4:8", "16:32"])
def test_a_preset_takes_another_pattern(name, pattern):
    recipe = replace(preset(name), pattern=NMPattern.parse(pattern))
    assert check(recipe) == recipe


def test_presets_have_the_stages_of_their_names():
    assert set(PRESETS) == {"paper", "fast", "sparsegpt", "best"}
    paper = preset("paper")
    assert paper.score == "ria"
    assert paper.equalize is not None
    assert paper.correct is not None
    assert paper.tune is not None
    assert paper.outliers == NMPattern(16, 256)
    assert preset("fast").tune is None
    assert preset("fast").solver.method == "none"
    assert preset("sparsegpt").solver.method == "sparsegpt"
    assert preset("sparsegpt").outliers is None


def test_an_unknown_preset():
    message = r"^T_ARGUMENT preset: 'quick', want one of paper, fast, sparsegpt, best$"
    with pytest.raises(NmrefError, match=message):
        preset("quick")


def test_presets_cannot_be_changed():
    with pytest.raises(TypeError):
        PRESETS["fast"] = preset("best")
