"""nmref warmup."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from nmref.cli import main
from nmref.kernels import cache
from nmref.linear import jobs, workers
from nmref.linear.workers import Outcome

ROOT = Path(__file__).parents[2]
QUICK = ("dot i32", "exp and sums")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty cache, and only a few jobs."""
    some = [job for job in jobs.jobs() if job.name in QUICK]
    monkeypatch.setattr(jobs, "jobs", lambda: some)
    monkeypatch.setenv("NMREF_CACHE_DIR", str(tmp_path))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    cache.place.cache_clear()
    yield tmp_path / "kernels"
    cache.place.cache_clear()


def test_warmup_fills_the_cache_once(place, capsys):
    assert main(["warmup", "--json", "--threads", "1"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["compiled"] == first["files"] > 0
    assert Path(first["folder"]).parent == place
    assert first["wrong"] == {}
    assert main(["warmup"]) == 0
    text = capsys.readouterr().out.splitlines()
    assert text[0].startswith(f"0 kernels compiled for {first['isa']}, ")
    assert text[1].startswith(f"{first['folder']}: {first['files']} kernels, ")
    assert len(text) == 2


def test_warmup_tells_what_is_wrong(place, monkeypatch, capsys):
    found = [Outcome("a", "", 2, 1), Outcome("b", "is wrong")]
    monkeypatch.setattr(workers, "run_all", lambda names, processes: iter(found))
    assert main(["warmup"]) == 1
    text = capsys.readouterr().out.splitlines()
    assert text[0].startswith("2 kernels compiled for ")
    assert text[-1] == "FAILED b: is wrong"
    assert main(["warmup", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["wrong"] == {"b": "is wrong"}


def test_clear_removes_compiled_kernels_only(place, capsys):
    mine = cache.folder()
    stale = place / f"{'0' * 16}-cpu-{'0' * 8}"
    stale.mkdir()
    (place.parent / "model").mkdir()
    assert main(["warmup", "--clear", "stale"]) == 0
    assert capsys.readouterr().out == f"{stale}\n1 folder removed\n"
    assert mine.is_dir()
    assert main(["warmup", "--clear", "--json"]) == 0
    assert str(mine) in json.loads(capsys.readouterr().out)["removed"]
    assert not mine.exists()
    assert (place.parent / "model").is_dir()


def test_without_a_cache_there_is_nothing_to_warm(monkeypatch, capsys):
    monkeypatch.setattr(cache, "_bases", lambda: iter(()))
    cache.place.cache_clear()
    assert main(["warmup"]) == 1
    want = "T_FILE kernel cache: in memory, want a folder that can be written\n"
    assert capsys.readouterr().err == want
    cache.place.cache_clear()


def test_a_wrong_isa_is_one_line(monkeypatch, capsys):
    monkeypatch.setenv("NMREF_ISA", "mmx")
    assert main(["warmup"]) == 1
    assert capsys.readouterr().err.startswith("T_ARGUMENT NMREF_ISA: got 'mmx', want one of ")


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to a process group")
def test_ctrl_c_ends_it_and_its_compilers(tmp_path):
    environment = {**os.environ, "NMREF_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "nmref", "warmup"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not list(tmp_path.rglob("*.nmk")):  # compilers are at work
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out == ""
    assert err.endswith("interrupted\n")
    assert "Traceback" not in err
    assert _ends(process.pid)


def _ends(group: int) -> bool:
    """Whether nobody of a process group is left, soon."""
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False
