"""Figures of single layers, against the outputs themselves."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.pruning import layers
from benchmarks.pruning.layer_tables import LAYER_TABLES
from benchmarks.pruning.layers import Layer, corrected
from benchmarks.pruning.rows import HALF, OUTLIERS, equalizations
from nmref.model.checkpoint import open_checkpoint
from nmref.prune.choose.mask import split
from nmref.prune.run.calibrate import Statistics
from nmref.prune.run.stages import importance
from nmref.prune.settings import Correction, Recipe
from nmref.prune.update import variance
from tests.prune.conftest import make_model


def layer(white: bool = False) -> tuple[Layer, np.ndarray]:
    rng = np.random.default_rng(3)
    w = rng.normal(size=(40, 512)).astype(np.float32)
    x = rng.normal(size=(600, 512)) @ (np.eye(512) if white else rng.normal(size=(512, 512)))
    if white:
        x = np.linalg.qr(x)[0]
    x = x.astype(np.float32)
    return Layer("w", w, Statistics.of(x, gram=True)), x


@pytest.mark.parametrize("outliers", [None, OUTLIERS[-1]])
def test_errors_are_those_of_the_outputs(outliers) -> None:
    one, x = layer()
    found = corrected(one, HALF, outliers)
    score = importance(one.weight, one.inputs, Recipe(HALF), "w")
    base, salient = split(score, HALF, outliers)
    kept = np.where(base, one.weight, 0)
    rest = one.weight if salient is None else np.where(salient, 0, one.weight)
    extra = one.weight - rest
    y = x.astype(np.float64) @ one.weight.T
    for numerator in ("rest", "dense"):
        want = variance.factor(one.weight, base, salient, Correction(numerator))
        assert found[f"factor {numerator}"] == want
    for name in ("one", "rest", "dense", "power", "least"):
        made = x.astype(np.float64) @ (found[f"factor {name}"] * kept + extra).T
        want = ((made - y) ** 2).sum() / (y**2).sum()
        assert found[f"error {name}"] == pytest.approx(want, rel=1e-4), name
    made = x.astype(np.float64) @ (found["factor power"] * kept).T
    assert (made**2).sum() == pytest.approx(((x.astype(np.float64) @ rest.T) ** 2).sum(), rel=1e-4)
    c = found["factor least"]
    for other in (c - 0.01, c + 0.01):  # what least means
        made = x.astype(np.float64) @ (other * kept + extra).T
        assert ((made - y) ** 2).sum() / (y**2).sum() > found["error least"]


def test_the_least_error_is_at_factor_1_where_inputs_are_white() -> None:
    """What variance.py says: lost and kept weights are orthogonal then."""
    one, _ = layer(white=True)
    for outliers in (None, OUTLIERS[-1]):
        assert corrected(one, HALF, outliers)["factor least"] == pytest.approx(1, abs=1e-5)


def test_ties_are_where_n_ends() -> None:
    weight = np.array([[1, 2, -2, 3], [5, 1, 1, 4], [1, 2, 3, 4]], dtype=np.float32)
    tail = np.full((3, 2), 7, dtype=np.float32)  # no whole block
    seen = Statistics.of(np.ones((2, 6), dtype=np.float32))
    found = layers.ties([Layer("w", np.concatenate((weight, tail), axis=1), seen)] * 2)
    assert found["2:4"] == round(1 / 3, 5)  # 2 and -2; not 1 and 1


def test_equalization_has_every_reading_and_none() -> None:
    one, _ = layer()
    found = layers.equalization([one])
    assert list(found) == ["none", *equalizations()]
    assert len(set(found.values())) > 4


@pytest.fixture
def model(tmp_path, monkeypatch) -> Path:
    """A tiny folder with a begin-of-text token, and windows as short."""
    monkeypatch.setattr(layers, "LENGTH", 16)
    monkeypatch.setattr(layers, "SAMPLES", 2)
    monkeypatch.setattr(layers, "TEST_WINDOWS", 2)
    folder = make_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"bos_token_id": 1}), "utf-8")
    return folder


def test_its_own_text_begins_again_after_each_window(model) -> None:
    ids = layers.own_text(open_checkpoint(model), 40)
    assert len(ids) == 40
    assert [ids[i] for i in (0, 16, 32)] == [1, 1, 1]
    assert ids[1:8] != ids[17:24]  # another seed


def test_models_are_kept_beside_each_other(model, tmp_path, capsys) -> None:
    figures = tmp_path / "layers.json"
    for name in ("b", "a"):
        args = ["--model", str(model), "--name", name, "--figures", str(figures)]
        assert layers.main(args) == 0
    found = json.loads(figures.read_text("utf-8"))["models"]
    assert list(found) == ["a", "b"]
    assert found["a"] == found["b"]
    assert found["a"]["linears"] == 21
    for render in LAYER_TABLES.values():
        assert "| a" in render(found)
    scan = found["a"]["scan"]
    assert set(scan) == {"dense", "8:16", "8:16 + 16:256"}
    assert len(set(scan["8:16"]["all"].values())) == len(layers.FACTORS)
    assert '"8:16 + 16:256"' in capsys.readouterr().out


def test_a_factor_leaves_outliers_and_other_linears(model) -> None:
    checkpoint = open_checkpoint(model)
    recipe = Recipe(HALF, OUTLIERS[0])
    weights, bases = layers.pruned(checkpoint, recipe, layers.windows([1, 2, 3, 4] * 8, 2, 16))
    found = layers.scaled(weights, bases, ("q_proj",), 2.0)
    assert {name.split(".")[-2] for name in found} == {"q_proj"}
    assert len(found) == 3
    for name, weight in found.items():
        np.testing.assert_array_equal(weight[bases[name]], 2 * weights[name][bases[name]])
        np.testing.assert_array_equal(weight[~bases[name]], weights[name][~bases[name]])
        assert weight[~bases[name]].any()  # the outliers
