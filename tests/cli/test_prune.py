"""nmref prune: its options, what it repeats, what it leaves alone, how it ends."""

import json
import os
import re
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nmref.cli.prune as command
from nmref.cli import _parser, main
from nmref.cli.recipe import PRESETS as NAMES
from nmref.cli.recipe import recipe_of
from nmref.container.safetensors import open_raw, write_raw
from nmref.model.checkpoint import open_checkpoint
from nmref.model.config import linear_names
from nmref.pattern import NMPattern
from nmref.prune.masks import maskfile
from nmref.prune.recipe.document import Calibration, dumps, read
from nmref.prune.recipe.presets import PRESETS
from nmref.prune.run.packing import RECIPE_FILE
from nmref.prune.run.work import work_folder
from nmref.prune.settings import (
    Allocation,
    Correction,
    Equalization,
    Recipe,
    Solver,
    Tuning,
)
from tests.cli.test_bad_input import refuse, snapshot

HALF, SALIENT = NMPattern(8, 16), NMPattern(16, 256)
DEFAULT = Recipe(HALF, SALIENT)
MAGNITUDE = ["--score", "magnitude"]


def parsed(*words):
    return recipe_of(_parser("prune").parse_args(["prune", "SRC", "OUT", *map(str, words)]))


def recipe(*words):
    return parsed(*words).recipe


def run(*words):
    return main(["prune", *map(str, words)])


@pytest.fixture
def calibration(text):
    return ["--calibration", text, "--samples", "2", "--seqlen", "16"]


# Options of the recipe

OPTIONS = {
    "": DEFAULT,
    "--preset best": PRESETS["best"],
    "--pattern 2:4": replace(DEFAULT, pattern=NMPattern(2, 4)),
    "--outliers 4:256": replace(DEFAULT, outliers=NMPattern(4, 256)),
    "--outliers none": replace(DEFAULT, outliers=None),
    "--exponent 0": replace(DEFAULT, exponent=0.0),
    "--owl 0": replace(DEFAULT, allocate=Allocation(span=0.0)),
    **{
        f"--score {name}": replace(DEFAULT, score=name)
        for name in ("magnitude", "wanda", "relative", "ria", "gradient")
    },
    "--exponent 0.25": replace(DEFAULT, exponent=0.25),
    "--equalize": replace(DEFAULT, equalize=Equalization()),
    "--equalize multiply": replace(DEFAULT, equalize=Equalization()),
    "--equalize divide": replace(DEFAULT, equalize=Equalization("divide")),
    "--preset paper --equalize none": replace(PRESETS["paper"], equalize=None),
    "--permute none": DEFAULT,
    "--permute heuristic": replace(DEFAULT, permute="heuristic"),
    "--permute hungarian": replace(DEFAULT, permute="hungarian"),
    "--owl 1.5": replace(DEFAULT, allocate=Allocation(span=1.5)),
    "--solver sparsegpt": replace(DEFAULT, solver=Solver("sparsegpt")),
    "--solver alps": replace(DEFAULT, solver=Solver("alps")),
    "--preset best --solver none": replace(PRESETS["best"], solver=Solver()),
    "--variance-correction": replace(DEFAULT, correct=Correction()),
    "--variance-correction rest": replace(DEFAULT, correct=Correction()),
    "--variance-correction dense": replace(DEFAULT, correct=Correction("dense")),
    "--preset paper --variance-correction none": replace(PRESETS["paper"], correct=None),
    "--ebft": replace(DEFAULT, tune=Tuning()),
    "--ebft --epochs 7 --rate 0.5": replace(DEFAULT, tune=Tuning(epochs=7, rate=0.5)),
    "--preset paper --epochs 2": replace(
        PRESETS["paper"], tune=replace(PRESETS["paper"].tune, epochs=2)
    ),
    "--preset paper --ebft": PRESETS["paper"],
    "--preset paper --no-ebft": replace(PRESETS["paper"], tune=None),
}


@pytest.mark.parametrize("words", OPTIONS)
def test_options_reach_the_recipe(words):
    assert recipe(*words.split()) == OPTIONS[words]


def test_every_option_of_the_recipe_is_tried():
    parser = _parser("prune")._subparsers._group_actions[0].choices["prune"]
    (group,) = (group for group in parser._action_groups if group.title == "recipe")
    known = {option for action in group._group_actions for option in action.option_strings}
    tried = {word for words in OPTIONS for word in words.split() if word.startswith("--")}
    assert known - tried == {"--recipe"}


def test_presets_are_those_of_the_library():
    assert tuple(PRESETS) == NAMES
    for name in NAMES:
        assert recipe("--preset", name) == PRESETS[name]


def other_recipe():
    """Every stage, with settings that are nobody's default."""
    return Recipe(
        NMPattern(4, 8),
        NMPattern(8, 256),
        equalize=Equalization("divide", 0.75, scale_activation=True),
        allocate=Allocation(multiple=7.0, span=1.0),
        solver=Solver("alps", damping=0.03, iterations=11),
        correct=Correction("dense", "row"),
        tune=Tuning(epochs=9, rate=0.125, loss="normalized", seed=5),
    )


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(dumps(other_recipe()), "utf-8")
    return path


def test_options_change_what_a_recipe_says_and_nothing_else(saved):
    base = other_recipe()
    assert recipe("--recipe", saved) == base
    for words, want in {
        "--equalize": replace(base, equalize=replace(base.equalize, direction="multiply")),
        "--owl 2": replace(base, allocate=replace(base.allocate, span=2.0)),
        "--solver sparsegpt": replace(base, solver=replace(base.solver, method="sparsegpt")),
        "--variance-correction": replace(base, correct=replace(base.correct, numerator="rest")),
        "--ebft --rate 0.5": replace(base, tune=replace(base.tune, rate=0.5)),
        "--outliers none": replace(base, outliers=None),
    }.items():
        assert recipe("--recipe", saved, *words.split()) == want, words


def test_a_recipe_keeps_where_it_came_from(tmp_path):
    text = Calibration("text.txt", "0" * 64, 3, 5)
    (tmp_path / "recipe.toml").write_text(dumps(DEFAULT, text), "utf-8")
    assert parsed("--recipe", tmp_path / "recipe.toml").calibration == text
    assert parsed("--preset", "best").calibration is None


BAD = {
    "--epochs 3": r"T_ARGUMENT --epochs: no fine-tuning, want --ebft with it",
    "--rate 0.5": r"T_ARGUMENT --rate: no fine-tuning, want --ebft with it",
    "--preset paper --no-ebft --rate 1": r"T_ARGUMENT --rate: no fine-tuning, want --ebft with it",
    "--pattern 8-16": r"T_ARGUMENT pattern: '8-16', want N:M",
    "--pattern 16:256": r"T_ARGUMENT base pattern: 16:256",
    "--outliers 5:256": r"T_ARGUMENT outlier pattern: 5:256",
    "--exponent -1": r"T_ARGUMENT exponent: -1\.0, want a number from 0 to 3\.403e\+38",
    "--exponent nan": r"T_ARGUMENT exponent: nan",
    "--mask m --pattern 2:4": r"T_ARGUMENT --pattern: given with --mask, want one of them",
    "--mask m --outliers none": r"T_ARGUMENT --outliers: given with --mask",
    "--mask m --score ria": r"T_ARGUMENT --score: given with --mask",
    "--mask m --equalize": r"T_ARGUMENT --equalize: given with --mask",
    "--mask m --permute none": r"T_ARGUMENT --permute: given with --mask",
    "--mask m --owl 2": r"T_ARGUMENT --owl: given with --mask",
    "--owl -1": r"T_ARGUMENT allocate\.span: -1\.0, want a number from 0 up",
    "--ebft --rate 0": r"T_ARGUMENT tune\.rate: 0\.0, want a number above 0",
    "--ebft --rate nan": r"T_ARGUMENT tune\.rate: nan",
    "--recipe nowhere.toml": r"T_FILE nowhere\.toml: No such file or directory, want a recipe",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_options_are_one_line(words, model, tmp_path, capsys):
    before = snapshot(tmp_path)
    line = refuse(["prune", model, tmp_path / "out", *words.split()], capsys)
    assert re.match(BAD[words], line), line
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "words",
    ["--preset none", "--preset best --recipe x.toml", "--score l2", "--epochs 0", "--samples 0",
     "--seqlen -3", "--threads 0", "--threads 1025", "--permute best", "--equalize both",
     "--solver admm", "--threads 9999999999"],
)  # fmt: skip
def test_usage(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        run("SRC", "OUT", *words.split())
    assert stopped.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.replace("version = 1", "version = 2"), r"T_ARGUMENT .*toml version: 2, want"),
        (lambda t: t + "[other]\n", r"T_ARGUMENT .*toml other: an unknown key"),
        (lambda t: t + "[", r"T_ARGUMENT .*toml: .*, want TOML"),
        (lambda t: t.encode("utf-16"), r"T_FILE .*toml: invalid UTF-8 at byte 0, want a recipe in"),
    ],
)
def test_a_bad_recipe_is_one_line(spoil, message, saved, model, tmp_path, capsys):
    data = spoil(saved.read_text("utf-8"))
    saved.write_bytes(data if isinstance(data, bytes) else data.encode())
    line = refuse(["prune", model, tmp_path / "out", "--recipe", saved], capsys)
    assert re.match(message, line), line


# A run again

STAGES = {
    "default": [],
    "paper": ["--preset", "paper", "--epochs", "1", "--permute", "hungarian"],
    "best": ["--preset", "best", "--pattern", "2:4", "--epochs", "1"],
    "owl": ["--score", "wanda", "--owl", "3"],
    "weights alone": [*MAGNITUDE, "--variance-correction"],
}


@pytest.mark.parametrize("name", STAGES)
def test_the_recipe_beside_the_weights_repeats_the_run(
    name, model, calibration, text, tmp_path, capsys
):
    assert run(model, tmp_path / "out", *calibration, *STAGES[name]) == 0
    capsys.readouterr()
    saved = tmp_path / "out" / RECIPE_FILE
    need = ["--calibration", text]  # samples and length are in the recipe
    assert run(model, tmp_path / "again", "--recipe", saved, *need) == 0
    assert "may differ" not in capsys.readouterr().err
    assert snapshot(tmp_path / "again") == snapshot(tmp_path / "out")
    kept = read(saved.read_text("utf-8"), "recipe")
    alone = name == "weights alone"
    assert kept.calibration == (None if alone else Calibration.of(text, 2, 16))
    assert kept.recipe == recipe(*STAGES[name])


def test_other_texts_and_versions_are_told(model, calibration, text, tmp_path, capsys):
    assert run(model, tmp_path / "out", *calibration) == 0
    saved = tmp_path / "recipe.toml"
    line = (tmp_path / "out" / RECIPE_FILE).read_text("utf-8")
    saved.write_text(line.replace('scipy = "', 'scipy = "0.'), "utf-8")
    other = tmp_path / "other.txt"
    other.write_text(text.read_text("utf-8") + "!", "utf-8")
    words = ["prune", model, tmp_path / "again", "--recipe", saved, "--calibration"]
    found = refuse([*words, other], capsys)
    assert re.match(r"T_TEXT .*other\.txt: sha256 \w{64}, want \w{64}, the text of the rec", found)
    assert main([str(word) for word in [*words, text]]) == 0
    assert re.search(
        r"(?m)^the recipe was made with scipy 0\.\S+, not \S+: the bits may differ$",
        capsys.readouterr().err,
    )


def test_samples_and_length_of_a_recipe_may_be_changed(model, calibration, text, tmp_path):
    assert run(model, tmp_path / "out", *calibration) == 0
    words = ["--recipe", tmp_path / "out" / RECIPE_FILE, "--calibration", text, "--samples", 3]
    assert run(model, tmp_path / "more", *words) == 0
    found = read((tmp_path / "more" / RECIPE_FILE).read_text("utf-8"), "recipe").calibration
    assert found == Calibration.of(text, 3, 16)


def test_threads_change_no_bit(model, calibration, tmp_path):
    for count in (1, 3):
        words = [*STAGES["best"], "--threads", count]
        assert run(model, tmp_path / str(count), *calibration, *words) == 0
    assert snapshot(tmp_path / "1") == snapshot(tmp_path / "3")


# The plan


@pytest.mark.parametrize("words", [[], ["--preset", "best"], MAGNITUDE, ["--json"]])
def test_a_plan_writes_nothing(words, model, tmp_path, capsys):
    """Nor does it need the text."""
    before = snapshot(tmp_path)
    assert run(model, tmp_path / "out", "--plan", "--samples", 2, "--seqlen", 16, *words) == 0
    out = capsys.readouterr().out
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "out").exists()
    if words == ["--json"]:
        found = json.loads(out)
        assert (found["samples"], found["length"]) == (2, 16)
        assert len(found["linears"]) == 14
    else:
        assert "14 weights: dense " in out
        count = "none" if words == MAGNITUDE else "2 x 16 tokens"
        assert f"calibration: {count}" in out


def test_a_plan_is_what_will_be_packed(model, calibration, tmp_path, capsys):
    assert run(model, tmp_path / "out", *calibration, "--plan", "--json") == 0
    want = json.loads(capsys.readouterr().out)["totals"]["linears"]["packed_nbytes"]
    assert run(model, tmp_path / "out", *calibration, "--json") == 0
    found = json.loads(capsys.readouterr().out)["total"]["packed_nbytes"]
    assert found == want


def test_a_plan_refuses_what_the_run_refuses(model, saved, tmp_path, capsys):
    plan = ["prune", model, tmp_path / "out", "--plan"]
    saved.write_text(dumps(replace(DEFAULT, place="row")), "utf-8")
    line = refuse([*plan, "--recipe", saved], capsys)
    assert line == "T_ARGUMENT recipe: unstructured outliers, want what a packed file can hold"
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    for words in (plan, [*plan[:-1], "--calibration", tmp_path / "no text"]):
        line = refuse(words, capsys)
        want = f"T_FILE {tmp_path / 'out'}: something that is there already, want a new folder"
        assert line == want
    assert (tmp_path / "out").is_symlink()


def test_a_text_from_a_pipe(model, calibration, text, tmp_path):
    """It can be read only once."""
    assert run(model, tmp_path / "file", *calibration) == 0
    for words in (calibration[2:], ["--recipe", tmp_path / "file" / RECIPE_FILE]):
        pipe = tmp_path / f"pipe{len(words)}" / text.name
        pipe.parent.mkdir()
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=(text.read_bytes(),))
        writer.start()
        target = tmp_path / f"out{len(words)}"
        assert run(model, target, "--calibration", pipe, *words) == 0
        writer.join()
        assert snapshot(target) == snapshot(tmp_path / "file")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--exponent 1e39", r"T_ARGUMENT exponent: 1e\+39, want a number from 0 to 3\.403e\+38"),
        ("--owl 1e300", r"T_ARGUMENT allocate\.span: 1e\+300, want at most 16, M"),
        ("--recipe damped", r"T_ARGUMENT layers\.0\.attn_norm damping: 1e\+40 of a mean of "),
        ("--ebft --rate 1e39", r"T_SCORE model\.layers\.0"),
    ],
)
def test_numbers_that_overflow_are_one_line(words, message, model, calibration, tmp_path, capsys):
    some = replace(DEFAULT, solver=Solver("alps", damping=1e40))
    (tmp_path / "damped").write_text(dumps(some), "utf-8")
    words = words.replace("damped", str(tmp_path / "damped")).split()
    line = refuse(["prune", model, tmp_path / "out", *calibration, *words], capsys)
    assert re.match(message, line), line
    assert not work_folder(tmp_path / "out").exists()


def test_defaults_of_the_text(model, tmp_path, capsys):
    assert run(model, tmp_path / "out", "--plan", "--seqlen", 16, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["samples"], found["length"]) == (command.SAMPLES, 16)
    args = _parser("prune").parse_args(["prune", "A", "B", "--samples", "3"])
    assert command._windows(args, None) == (3, command.LENGTH)
    assert command._windows(args, Calibration("t", "", 5, 7)) == (3, 7)


# Output


def test_json_is_the_ledger(model, calibration, tmp_path, capsys):
    target = tmp_path / "out"
    assert run(model, target, *calibration, "--json") == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    packed = open_checkpoint(target).tensors
    assert found["folder"] == str(target)
    assert [row["name"] for row in found["weights"]] == [
        name for name in packed if name in set(linear_names(open_checkpoint(target).config))
    ]
    for row in found["weights"]:
        assert row["packed_nbytes"] == packed[row["name"]].nbytes
    assert f"wrote {target}" in captured.err


def test_the_table_has_a_line_for_every_kind(model, tmp_path, capsys):
    assert run(model, tmp_path / "out", *MAGNITUDE) == 0
    out = capsys.readouterr().out
    lines = [line.split()[:2] for line in out.splitlines()[2:9]]
    assert sorted(lines) == sorted(
        [name.replace("layers.0.", "layers.*."), "2"]
        for name in linear_names(open_checkpoint(model).config)
        if ".0." in name
    )


# Masks


def test_masks_are_saved_and_used_again(model, calibration, tmp_path):
    masks = tmp_path / "masks"
    assert run(model, tmp_path / "out", *calibration, "--save-mask", masks) == 0
    assert set(maskfile.read(masks)) == set(linear_names(open_checkpoint(model).config))
    words = ["--mask", masks]  # and no text
    assert run(model, tmp_path / "again", *words, "--save-mask", tmp_path / "other") == 0
    assert (tmp_path / "other").read_bytes() == masks.read_bytes()
    files = [(tmp_path / name / "model.nmref.safetensors") for name in ("out", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()


def q(number):
    return f"model.layers.{number}.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        (q(7), (24, 24), f"T_ARGUMENT mask {q(7)}: no such weight, want one to prune"),
        ("model.embed_tokens.weight", (256, 24), "T_ARGUMENT mask model.embed_tokens.weight: no s"),
        (q(1), (1, 24), f"T_ARGUMENT mask {q(1)}: shape [1, 24], want [24, 24]"),
    ],
)
def test_masks_of_another_model(name, shape, message, model, tmp_path, capsys):
    base = np.zeros(shape, dtype=bool)
    maskfile.write(tmp_path / "masks", {name: maskfile.Mask(base, None, HALF)})
    before = snapshot(tmp_path)
    words = ["prune", model, tmp_path / "out", "--mask", tmp_path / "masks"]
    assert refuse(words, capsys).startswith(message)
    assert snapshot(tmp_path) == before
    assert not work_folder(tmp_path / "out").exists()


def test_a_recipe_with_masks_needs_the_same(model, text, calibration, tmp_path, capsys):
    masks, other = tmp_path / "masks", tmp_path / "other"
    assert run(model, tmp_path / "a", *calibration, "--save-mask", masks) == 0
    assert run(model, tmp_path / "b", *MAGNITUDE, "--save-mask", other) == 0
    words = [*calibration, "--solver", "alps", "--mask", masks]
    assert run(model, tmp_path / "out", *words) == 0
    saved = tmp_path / "out" / RECIPE_FILE
    digest = maskfile.read(masks).content_sha256
    assert f'[masks]\ncontent_sha256 = "{digest}"\nfile = "masks"\n' in saved.read_text("utf-8")
    again = ["prune", model, tmp_path / "again", "--recipe", saved, "--calibration", text]
    line = refuse(again, capsys)
    want = f"{digest}, the masks of the recipe"
    assert line == f"T_ARGUMENT --mask: nothing, want masks with content {want}"
    line = refuse([*again, "--mask", other], capsys)
    assert line.startswith(f"T_ARGUMENT --mask {other}: content ")
    assert line.endswith(f", want {want}")
    assert main([str(word) for word in [*again, "--mask", masks]]) == 0
    assert snapshot(tmp_path / "again") == snapshot(tmp_path / "out")


def test_weights_without_a_mask_stay_dense(model, calibration, tmp_path, capsys):
    masks, some = tmp_path / "masks", tmp_path / "some"
    assert run(model, tmp_path / "a", *calibration, "--save-mask", masks) == 0
    file = maskfile.read(masks)
    maskfile.write(some, {q(0): file[q(0)], q(1): file[q(1)]})
    capsys.readouterr()
    assert run(model, tmp_path / "out", "--mask", some, "--plan", "--json") == 0
    captured = capsys.readouterr()
    patterns = [row["pattern"] for row in json.loads(captured.out)["linears"]]
    assert sorted(patterns) == ["8:16"] * 2 + ["dense"] * 12
    assert captured.err.splitlines() == ["weights without a mask stay dense: 12"]
    assert run(model, tmp_path / "out", "--mask", some) == 0
    assert "weights without a mask stay dense: 12" in capsys.readouterr().err.splitlines()
    assert run(model, tmp_path / "b", "--mask", masks) == 0
    assert "stay dense" not in capsys.readouterr().err


@pytest.mark.parametrize(("option", "need"), [("--solver alps", "alps"), ("--ebft", "fine-tuning")])
def test_masks_and_a_stage_that_needs_a_text(option, need, model, calibration, tmp_path, capsys):
    masks = tmp_path / "masks"
    assert run(model, tmp_path / "a", *calibration, "--save-mask", masks) == 0
    line = refuse(["prune", model, tmp_path / "b", "--mask", masks, *option.split()], capsys)
    assert line == f"T_ARGUMENT --calibration: nothing, want a text, for {need}"


def test_masks_of_a_recipe_that_permutes(model, calibration, saved, tmp_path, capsys):
    masks = tmp_path / "masks"
    assert run(model, tmp_path / "a", *calibration, "--save-mask", masks) == 0
    saved.write_text(dumps(replace(DEFAULT, permute="heuristic")), "utf-8")
    line = refuse(["prune", model, tmp_path / "b", "--recipe", saved, "--mask", masks], capsys)
    assert line == 'T_ARGUMENT permute: "heuristic" with given masks, want "none"'


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("model/masks", "a path in {0}/model, want one outside it"),
        ("model/../model/masks", "a path in {0}/model, want one outside it"),
        ("out", "a path in {0}/out, want one outside it"),
        ("work", "a folder, want a new file, or one of masks"),
        ("text.txt", "a file that is no mask file, want a new file, or one of masks"),
        ("model/model.safetensors", "a path in {0}/model, want one outside it"),
        ("gone", "something that is no file, want a new file, or one of masks"),
    ],
)
@pytest.mark.parametrize("plan", [False, True])
def test_where_masks_cannot_be_saved(plan, place, message, model, calibration, tmp_path, capsys):
    (tmp_path / "work").mkdir()
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    before, path = snapshot(tmp_path), f"{tmp_path}/{place}"
    words = ["prune", model, tmp_path / "out", *calibration, "--save-mask", path]
    line = refuse([*words, "--plan"] if plan else words, capsys)
    assert line == f"T_FILE {Path(path)}: {message.format(tmp_path)}"
    assert snapshot(tmp_path) == before


def test_masks_are_not_saved_in_what_an_interrupted_run_left(
    model, calibration, tmp_path, monkeypatch, capsys
):
    target = tmp_path / "out"
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1, "calibrate")
        assert run(model, target, *calibration) == 130
    path = work_folder(target) / "masks"
    line = refuse(["prune", model, target, *calibration, "--save-mask", path], capsys)
    assert line == f"T_FILE {path}: a path in {work_folder(target)}, want one outside it"


def test_no_folder_for_the_masks_is_said_before_the_work(model, tmp_path, capsys):
    path = tmp_path / "nowhere" / "masks"
    line = refuse(["prune", model, tmp_path / "out", *MAGNITUDE, "--save-mask", path], capsys)
    assert line == f"T_FILE {path}: no such folder, want one to write in"
    assert not (tmp_path / "out").exists()


def test_no_masks_to_save(model, tmp_path, capsys):
    text = dumps(DEFAULT).replace('score = "ria"', 'score = "magnitude"')
    rule = '\n[[rules]]\nmatch = "*"\npattern = "dense"\noutliers = "none"\n'
    (tmp_path / "dense.toml").write_text(text + rule, "utf-8")
    words = ["prune", model, tmp_path / "out", "--recipe", tmp_path / "dense.toml"]
    line = refuse([*words, "--save-mask", tmp_path / "masks"], capsys)
    assert line == "T_ARGUMENT masks: none, all stays dense, want at least one"
    assert main([str(word) for word in words]) == 0
    assert not (tmp_path / "masks").exists()


# The source


@pytest.fixture
def sharded(model):
    """The model in two shards with an index."""
    raw = open_raw(model / "model.safetensors")
    tensors = {name: raw.array(name).copy() for name in raw.entries}
    names = sorted(tensors)
    parts = {"model-1.safetensors": names[:9], "model-2.safetensors": names[9:]}
    for file, some in parts.items():
        write_raw(model / file, {name: tensors[name] for name in some}, {"format": "pt"})
    index = {"weight_map": {name: file for file, some in parts.items() for name in some}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    (model / "model.safetensors").unlink()
    return model


def test_shards_are_a_model(sharded, calibration, tmp_path):
    assert run(sharded, tmp_path / "out", *calibration) == 0


def gone(path):
    path.unlink()


def folder(path):
    """Not readable, even for root."""
    path.unlink()
    path.mkdir()


def cut(path):
    path.write_bytes(path.read_bytes()[:-10])


def cut_in_header(path):
    path.write_bytes(path.read_bytes()[:100])


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (gone, r"T_FILE \S+model-2\.safetensors: No such file or directory, want a readable file"),
        (folder, r"T_FILE \S+model-2\.safetensors: Is a directory, want a readable file"),
        (cut, r"E_HEADER \S+model-2\.safetensors header: tensors of \d+ bytes, want the f"),
        (cut_in_header, r"E_HEADER \S+model-2\.safetensors: header of \d+ bytes in a file of 100"),
        (empty, r"E_HEADER \S+model-2\.safetensors: 0 bytes, want at least 8"),
    ],
)
@pytest.mark.parametrize("words", [[], ["--plan"]])
def test_a_bad_shard_is_one_line(spoil, message, words, sharded, calibration, tmp_path, capsys):
    spoil(sharded / "model-2.safetensors")
    before = snapshot(tmp_path)
    line = refuse(["prune", sharded, tmp_path / "out", *calibration, *words], capsys)
    assert re.match(message, line), line
    assert snapshot(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "text.txt"]


def test_json_of_an_error(model, tmp_path, capsys):
    assert run(model, tmp_path / "out", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "valid": False,
        "code": "T_ARGUMENT",
        "message": "T_ARGUMENT --calibration: nothing, want a text, for ria",
    }


# Interrupted


def interrupt_at(monkeypatch, layer, stage):
    """Ctrl-C as the terminal sends it."""
    show = command._progress

    def progress(bar):
        inner = show(bar)

        def report(number, said):
            inner(number, said)
            if (number, said) == (layer, stage):
                signal.raise_signal(signal.SIGINT)

        return report

    monkeypatch.setattr(command, "_progress", progress)


@pytest.mark.parametrize("stage", ["calibrate", "o_proj done", "tune, epoch 1 of 1", "next inputs"])
def test_an_interrupted_run_goes_on(stage, model, calibration, tmp_path, monkeypatch, capsys):
    target, words = tmp_path / "out", [*calibration, *STAGES["best"]]
    assert run(model, tmp_path / "whole", *words) == 0
    before = snapshot(model)
    capsys.readouterr()
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1, stage)
        assert run(model, target, *words) == 130
    captured = capsys.readouterr()
    last = captured.err.splitlines()[-2:]
    assert last == [f"the same command goes on from {work_folder(target)}", "interrupted"]
    assert captured.out == ""
    assert not target.exists()
    assert snapshot(model) == before
    line = refuse(["prune", model, target, *calibration], capsys)  # another command does not
    assert line.startswith(f"T_FILE {work_folder(target)}: what another run left, want the same")
    assert run(model, target, *words) == 0
    assert snapshot(target) == snapshot(tmp_path / "whole")
    assert not work_folder(target).exists()


def test_interrupted_in_the_first_block_nothing_is_left(
    model, calibration, tmp_path, monkeypatch, capsys
):
    interrupt_at(monkeypatch, 0, "o_proj done")
    assert run(model, tmp_path / "out", *calibration) == 130
    err = capsys.readouterr().err
    assert err.splitlines()[-1] == "interrupted"
    assert "goes on" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "text.txt"]


def test_what_owl_found_is_not_looked_for_again(model, calibration, tmp_path, monkeypatch, capsys):
    target, words = tmp_path / "out", [*calibration, *STAGES["owl"]]
    assert run(model, tmp_path / "whole", *words) == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, 0, "calibrate")
        assert run(model, target, *words) == 130
    assert "the same command goes on" in capsys.readouterr().err
    interrupt_at(monkeypatch, 0, "allocate")
    assert run(model, target, *words) == 0
    assert snapshot(target) == snapshot(tmp_path / "whole")


def test_masks_of_another_pattern_are_another_run(
    model, calibration, tmp_path, monkeypatch, capsys
):
    """The same bits in blocks of another length make another file."""
    target, words = tmp_path / "out", [*calibration, "--solver", "sparsegpt", "--mask"]
    empty = {
        name: maskfile.Mask(np.zeros(tensor.shape, dtype=bool), None, HALF)
        for name, tensor in open_checkpoint(model).tensors.items()
        if "proj" in name
    }
    maskfile.write(tmp_path / "masks", empty)
    other = {name: replace(mask, pattern=NMPattern(2, 4)) for name, mask in empty.items()}
    maskfile.write(tmp_path / "other", other)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1, "calibrate")
        assert run(model, target, *words, tmp_path / "masks") == 130
    assert work_folder(target).exists()
    line = refuse(["prune", model, target, *words, tmp_path / "other"], capsys)
    assert line.startswith(f"T_FILE {work_folder(target)}: what another run left")
    assert run(model, target, *words, tmp_path / "masks") == 0


def test_restart_begins_anew(model, calibration, tmp_path, monkeypatch, capsys):
    target = tmp_path / "out"
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1, "calibrate")
        assert run(model, target, *calibration) == 130
    words = [*calibration, "--exponent", "1"]
    assert run(model, target, *words, "--restart") == 0
    assert run(model, tmp_path / "fresh", *words) == 0
    assert snapshot(target) == snapshot(tmp_path / "fresh")


def test_the_bar_counts_blocks(model, calibration, tmp_path, monkeypatch, capsys):
    counts = []
    show = command._progress

    def progress(bar):
        inner = show(bar)

        def report(number, said):
            inner(number, said)
            counts.append((number, said, bar.n, bar.postfix))

        return report

    monkeypatch.setattr(command, "_progress", progress)
    assert run(model, tmp_path / "out", *calibration, *STAGES["owl"]) == 0
    for number, said, n, postfix in counts:
        if said == "allocate":
            assert (n, postfix) == (0, f"allocate, block {number}")
        else:
            assert n == number + (said == "done")
            assert said in ("done", postfix)
    assert counts[-1][2] == 2


def test_a_packed_source_is_refused_by_a_plan_too(model, tmp_path, capsys):
    assert run(model, tmp_path / "packed", *MAGNITUDE) == 0
    line = refuse(["prune", tmp_path / "packed", tmp_path / "out", *MAGNITUDE, "--plan"], capsys)
    assert line.endswith("packed: a packed model, want a dense checkpoint")


def test_as_many_threads_as_asked_for(model, calibration, tmp_path, monkeypatch, capsys):
    args = _parser("prune").parse_args(["prune", "A", "B", "--threads", "1024"])
    assert args.threads == command.MOST_THREADS == 1024
    words = [model, tmp_path / "out", *calibration, *STAGES["best"]]
    assert run(*words, "--plan", "--json", "--threads", 3) == 0
    assert json.loads(capsys.readouterr().out)["threads"] == 3
    monkeypatch.delattr("nmref.linear.parallel.default_threads")  # nothing asks for them
    assert run(*words, "--threads", 1) == 0


def test_a_plan_is_of_the_text_of_its_recipe(model, tmp_path, capsys):
    path = tmp_path / "recipe.toml"
    path.write_text(dumps(DEFAULT, Calibration("text.txt", "0" * 64, 3, 5)), "utf-8")
    assert run(model, tmp_path / "out", "--recipe", path, "--plan", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["samples"], found["length"]) == (3, 5)


def test_whatever_ends_a_run_that_can_go_on_it_is_said(
    model, calibration, tmp_path, monkeypatch, capsys
):
    def progress(bar):
        def report(layer, stage):
            if layer == 1:
                raise MemoryError

        return report

    with monkeypatch.context() as patch:
        patch.setattr(command, "_progress", progress)
        with pytest.raises(MemoryError):
            run(model, tmp_path / "out", *calibration)
    said = f"the same command goes on from {work_folder(tmp_path / 'out')}"
    assert said in capsys.readouterr().err.splitlines()


def test_the_bar_catches_up_with_what_was_done(model, calibration, tmp_path, monkeypatch):
    target, show, seen = tmp_path / "out", command._progress, []
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1, "calibrate")
        assert run(model, target, *calibration) == 130

    def progress(bar):
        inner = show(bar)

        def report(number, said):
            inner(number, said)
            seen.append((number, said == "done", bar.n))

        return report

    monkeypatch.setattr(command, "_progress", progress)
    assert run(model, target, *calibration) == 0
    assert seen
    assert all((number, n) == (1, 1 + done) for number, done, n in seen)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"short", r"T_TEXT {0} calibration text: 5 tokens, want 2 x 16 = 32$"),
        (b"x" * 40 + b"\xff", r"T_FILE {0}: invalid UTF-8 at byte 40, want a calibration text in "),
        (None, r"T_FILE {0}: No such file or directory, want a calibration text$"),
    ],
)
def test_a_bad_text_is_one_line(data, message, model, text, calibration, tmp_path, capsys):
    text.unlink() if data is None else text.write_bytes(data)
    line = refuse(["prune", model, tmp_path / "out", *calibration], capsys)
    assert re.match(message.format(re.escape(str(text))), line), line
    assert not work_folder(tmp_path / "out").exists()


def test_lines_may_end_in_either_way(model, text, calibration, tmp_path):
    """The same tokens, whatever system the text was written on."""
    files = []
    for name, end in (("lf", b"\n"), ("crlf", b"\r\n")):
        text.write_bytes(end.join([b"the quick brown fox"] * 9))
        assert run(model, tmp_path / name, *calibration) == 0
        files.append((tmp_path / name / "model.nmref.safetensors").read_bytes())
    assert files[0] == files[1]


def test_no_special_tokens_in_the_calibration(model, text, calibration, tmp_path):
    assert run(model, tmp_path / "plain", *calibration) == 0
    path = model / "tokenizer.json"
    tokenizer = json.loads(path.read_text("utf-8"))
    first = {"SpecialToken": {"id": "!", "type_id": 0}}
    rest = {"Sequence": {"id": "A", "type_id": 0}}
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [first, rest],
        "pair": [first, rest, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"!": {"id": "!", "ids": [0], "tokens": ["!"]}},
    }
    path.write_text(json.dumps(tokenizer), "utf-8")
    assert run(model, tmp_path / "template", *calibration) == 0
    files = [tmp_path / name / "model.nmref.safetensors" for name in ("plain", "template")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_masks_are_not_saved_in_the_source_by_way_of_a_link(model, calibration, tmp_path, capsys):
    """Neither is a link in it one to write through: the file would take the link's place."""
    masks, link = tmp_path / "masks", tmp_path / "link"
    assert run(model, tmp_path / "a", *calibration, "--save-mask", masks) == 0
    link.symlink_to(model)
    (model / "masks").symlink_to(masks)
    before = snapshot(tmp_path)
    for source, path in ((link, model / "new"), (model, link / "new"), (model, model / "masks")):
        words = ["prune", source, tmp_path / "out", *calibration, "--save-mask", path]
        line = refuse(words, capsys)
        assert line == f"T_FILE {path}: a path in {source}, want one outside it"
    assert snapshot(tmp_path) == before
    assert (model / "masks").is_symlink()


def test_a_plan_refuses_masks_with_a_permutation(model, calibration, saved, tmp_path, capsys):
    masks = tmp_path / "masks"
    assert run(model, tmp_path / "a", *calibration, "--save-mask", masks) == 0
    saved.write_text(dumps(replace(DEFAULT, permute="heuristic")), "utf-8")
    words = ["prune", model, tmp_path / "b", "--recipe", saved, "--mask", masks, "--plan"]
    assert refuse(words, capsys) == 'T_ARGUMENT permute: "heuristic" with given masks, want "none"'


def test_bad_masks_are_refused_before_the_text_is_read(model, tmp_path, capsys):
    name = "model.layers.0.mlp.up_proj.weight"
    base = np.zeros((1, 24), dtype=bool)
    maskfile.write(tmp_path / "masks", {name: maskfile.Mask(base, None, HALF)})
    words = ["prune", model, tmp_path / "out", "--mask", tmp_path / "masks", "--ebft"]
    for more in ([], ["--plan"], ["--calibration", tmp_path / "nowhere"]):
        line = refuse([*words, *more], capsys)
        assert line == f"T_ARGUMENT mask {name}: shape [1, 24], want [44, 24]"


def test_a_plan_counts_the_text(model, text, calibration, tmp_path, capsys):
    text.write_text("the quick brown fox " * 10**5, "utf-8")
    assert run(model, tmp_path / "out", *calibration, "--plan", "--json") == 0
    assert json.loads(capsys.readouterr().out)["peak_memory_nbytes"] > 140 * 2 * 10**6
    text.unlink()
    line = refuse(["prune", model, tmp_path / "out", *calibration, "--plan"], capsys)
    assert line == f"T_FILE {text}: No such file or directory, want it to work"
