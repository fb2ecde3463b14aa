"""Bad input: one line with the code, exit 1, nothing left behind, the source untouched."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from nmref.cli import main
from nmref.container.safetensors import open_raw, write_raw
from tests.cli.conftest import edit_config


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refuse(arguments: list[object], capsys) -> str:
    """Run a command that has to fail; return its one line."""
    capsys.readouterr()
    assert main([str(word) for word in arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if re.match(r"[ETXW]_", line)]
    assert len(lines) == 1, captured.err
    assert "Traceback" not in captured.err
    return lines[0]


def edit_tensors(folder: Path, change) -> None:
    path = folder / "model.safetensors"
    raw = open_raw(path)
    tensors = {name: raw.array(name).copy() for name in raw.entries}
    change(tensors)
    write_raw(path, tensors, {"format": "pt"})


def drop(name):
    return lambda tensors: tensors.pop(name)


def reshape(name):
    return lambda tensors: tensors.update({name: tensors[name][:-1].copy()})


def poison(name):
    return lambda tensors: tensors[name].__setitem__((2, 3), np.nan)


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


Q = "model.layers.1.self_attn.q_proj.weight"

FAULTS = {
    "no folder": (lambda f: None, ["--"], r"T_FILE .*nowhere: "),
    "no config": (lambda f: (f / "config.json").unlink(), [], r"T_FILE .*config\.json: "),
    "config is no JSON": (
        lambda f: (f / "config.json").write_text("{"),
        [],
        r"T_CONFIG .*config\.json",
    ),
    "a key is missing": (
        lambda f: edit_config(f, hidden_size=...),
        [],
        r"T_CONFIG .*config\.json.*hidden_size",
    ),
    "another architecture": (
        lambda f: edit_config(f, architectures=["GPT2LMHeadModel"], model_type="gpt2"),
        [],
        r"T_CONFIG .*gpt2|T_CONFIG .*GPT2LMHeadModel",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), [], r"T_FILE .*model: "),
    "truncated weights": (truncate, [], r"E_HEADER .*model\.safetensors header: tensors of \d+"),
    "a tensor is missing": (lambda f: edit_tensors(f, drop(Q)), [], rf"T_TENSOR .*{Q}: missing"),
    "a tensor of another shape": (
        lambda f: edit_tensors(f, reshape(Q)),
        [],
        rf"T_TENSOR .*{Q}: shape \[23, 24\], want \[24, 24\]",
    ),
    "a weight is NaN": (
        lambda f: edit_tensors(f, poison(Q)),
        [],
        rf"T_TENSOR {Q} row 2 column 3: nan, want a finite weight",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), [], r"T_FILE .*tokenizer\.json: "),
    "text too short": (lambda f: None, ["--samples", "100"], r"T_TEXT .*400 tokens, want 100 x 32"),
    "no text": (lambda f: None, ["--calibration", "nofile.txt"], r"T_FILE nofile\.txt: "),
    "window too long": (
        lambda f: None,
        ["--seqlen", "65", "--samples", "1"],
        r"T_ARGUMENT context: 65 positions, want at most 64",
    ),
    "no pattern": (lambda f: None, ["--pattern", "8-16"], r"T_ARGUMENT pattern: '8-16', want N:M"),
    "N is M": (lambda f: None, ["--pattern", "4:4"], r"T_ARGUMENT pattern: 4:4, want N:M with 1"),
    "block too long": (lambda f: None, ["--pattern", "8:128"], r"T_ARGUMENT base pattern: 8:128"),
    "outliers unknown": (lambda f: None, ["--outliers", "5:256"], r"T_ARGUMENT outlier pattern: 5"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_prune_refuses(fault, model, text, tmp_path, capsys):
    spoil, options, message = FAULTS[fault]
    spoil(model)
    before = snapshot(tmp_path)
    source = tmp_path / "nowhere" if options == ["--"] else model
    command = ["prune", source, tmp_path / "out", "--calibration", text, "--samples", 2]
    line = refuse([*command, "--seqlen", 32, *(options if options != ["--"] else [])], capsys)
    assert re.match(message, line), line
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_prune_needs_a_text_for_ria(model, tmp_path, capsys):
    line = refuse(["prune", model, tmp_path / "out"], capsys)
    assert line == "T_ARGUMENT --calibration: nothing, want a text, for ria"


def test_prune_does_not_overwrite(model, tmp_path, capsys):
    line = refuse(["prune", model, model, "--score", "magnitude"], capsys)
    assert re.match(r"T_FILE .*model: something that is there already, want a new folder", line)


def test_interrupted_prune_leaves_nothing(model, text, tmp_path, monkeypatch, capsys):
    import nmref.prune.run.pipeline as pipeline

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "advance", stop)
    command = ["prune", model, tmp_path / "out", "--calibration", text, "--samples", 1]
    assert main([str(word) for word in [*command, "--seqlen", 8]]) == 130
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "text.txt"]


def test_a_packed_model_is_not_pruned_again(model, tmp_path, capsys):
    assert main(["prune", str(model), str(tmp_path / "p"), "--score", "magnitude"]) == 0
    line = refuse(["prune", tmp_path / "p", tmp_path / "pp", "--score", "magnitude"], capsys)
    assert re.match(r"T_TENSOR .*: a packed model, want a dense checkpoint", line)
    assert not (tmp_path / "pp").exists()


def test_a_damaged_file_is_refused_by_every_command(model, text, tmp_path, capsys):
    assert main(["prune", str(model), str(tmp_path / "p"), "--score", "magnitude"]) == 0
    path = tmp_path / "p" / "model.nmref.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 0x80  # a padding bit or a code
    path.write_bytes(data)
    for command in (
        ["verify", tmp_path / "p"],
        ["unpack", tmp_path / "p", tmp_path / "d"],
        ["generate", tmp_path / "p", "--prompt", "a"],
        ["eval", tmp_path / "p", "--perplexity", text, "--window", 8],
    ):
        assert refuse(command, capsys)[:2] == "E_"
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_json_says_what_is_wrong(command, tmp_path, capsys):
    (tmp_path / "bad.safetensors").write_bytes(b"1234567")
    assert main([command, str(tmp_path / "bad.safetensors"), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["valid"] is False
    assert report["code"] == "E_HEADER"
    assert report["message"].startswith("E_HEADER ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--temperature", "-1"], r"T_ARGUMENT temperature: -1\.0, want 0"),
        (["--seed", "-1"], r"T_ARGUMENT seed: -1, want 0 to 2\^64 - 1"),
    ],
)
def test_generate_refuses(options, message, model, capsys):
    assert re.match(message, refuse(["generate", model, "--prompt", "a", *options], capsys))


def test_generate_refuses_a_prompt_longer_than_the_context(model, capsys):
    line = refuse(["generate", model, "--prompt", "a" * 65], capsys)
    assert re.match(r"T_ARGUMENT prompt context: 65 positions, want at most 64", line)


def test_eval_refuses_a_short_text(model, text, capsys):
    line = refuse(["eval", model, "--perplexity", text, "--window", 64, "--windows", 9], capsys)
    assert re.match(r"T_TEXT .*text\.txt text: 400 tokens, want at least 576: 9 x 64", line)


def test_a_full_disk_is_one_line(model, tmp_path, monkeypatch, capsys):
    import errno

    import nmref.container.writer as writer

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer, "write_tensors", full)
    line = refuse(["prune", model, tmp_path / "out", "--score", "magnitude"], capsys)
    assert "No space left on device" in line
    assert not (tmp_path / "out").exists()
