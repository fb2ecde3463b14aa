"""nmref bench."""

import json
import os

import pytest

from nmref.cli import bench, main
from nmref.kernels import isa

TINY = ["bench", "--shape", "40x600", "--tokens", "1"]


def test_rows_name_the_kernel_and_compare(capsys):
    words = [*TINY, "2", "--dtype", "F32", "I8", "--pattern", "2:4", "--threads", "1", "--json"]
    before = dict(os.environ)
    assert main(words) == 0
    assert dict(os.environ) == before
    found = json.loads(capsys.readouterr().out)
    assert (found["isa"], found["threads"]) == (isa.chosen(), 1)
    assert [(row["dtype"], row["tokens"]) for row in found["rows"]] == [
        *(("F32", 1), ("F32", 2), ("I8", 1), ("I8", 2))
    ]
    for row in found["rows"]:
        assert row["shape"] == [40, 600]
        assert row["kernel"].partition("/")[0]
        assert row["ratio"] == pytest.approx(row["numpy_seconds"] / row["seconds"])
        flops = 2 * 40 * 600 * row["tokens"]
        assert row["gflop_per_second"] * 1e9 == pytest.approx(flops / row["seconds"])
        assert row["gb_per_second"] > 0


def test_the_table_says_what_was_chosen(capsys, monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert main([*TINY, "--dtype", "BF16", "--pattern", "8:16+16:256"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{isa.why()}; ")
    assert "OPENBLAS_CORETYPE=Haswell" in lines[1]
    assert lines[3].split()[:5] == ["W", "pattern", "dtype", "T", "kernel"]
    assert lines[5].split()[:4] == ["40x600", "8:16+16:256", "BF16", "1"]
    assert len(lines) == 6


def test_a_pattern_without_kernels_is_measured_too():
    cell = bench.Cell((20, 30), "5:9", "F32", 3)
    assert bench.time_sparse(cell, 1).kernel == "dense"
    assert bench.time_sparse(cell, 1).seconds > 0
    assert bench.time_dense(cell).bytes == 20 * 30 * 4


@pytest.mark.parametrize("pattern", ["3", "8:16+3:256", "8:16+", "300:400"])
def test_bad_patterns_are_one_line(capsys, pattern):
    assert main([*TINY, "--pattern", pattern]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("T_ARGUMENT ")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("words", [["--shape", "40"], ["--shape", "0x3"], ["--tokens", "0"]])
def test_bad_words_are_usage(capsys, words):
    with pytest.raises(SystemExit) as stop:
        main(["bench", *words])
    assert stop.value.code == 2
    if words[0] == "--shape":
        assert "is not a shape such as 4096x11008" in capsys.readouterr().err
