"""The digests of SmolLM2 traces, compared where the model has been fetched before."""

import json
import os
from pathlib import Path

import pytest

from nmref.conformance import smollm2
from nmref.conformance.smollm2 import MODEL, PATH, VARIANTS, golden_traces
from nmref.conformance.text import json_bytes
from nmref.model.fetch import cache_folder

FILE = Path(__file__).parents[2] / PATH


def test_the_file_has_every_variant():
    document = json.loads(FILE.read_bytes())
    assert set(document["variants"]) == set(VARIANTS)
    assert len(document["tokens"]) == 16
    taps = [set(variant["taps"]) for variant in document["variants"].values()]
    assert taps[0] == taps[1] == taps[2]
    assert len(taps[0]) == 3 + 30 * 17
    assert json_bytes(document) == FILE.read_bytes()


def test_the_digests_are_those_of_this_machine():
    models = list(cache_folder().glob(f"{MODEL}-bf16"))
    if not models:
        pytest.skip(f"needs `nmref fetch {MODEL}` before")
    threads = len(os.sched_getaffinity(0))
    assert json_bytes(golden_traces(models[0], threads)) == FILE.read_bytes()


def test_the_command_refuses_another_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(smollm2, "golden_traces", lambda *_, **__: {"a": 1})
    assert smollm2.main(["--root", str(tmp_path), "--model", "m"]) == 0
    assert smollm2.main(["--root", str(tmp_path), "--model", "m", "--check"]) == 0
    (tmp_path / PATH).write_text("{}")
    assert smollm2.main(["--root", str(tmp_path), "--model", "m", "--check"]) == 1
    want = "smollm2.json: differs, want the digests of this machine\n"
    assert capsys.readouterr().err.endswith(want)
