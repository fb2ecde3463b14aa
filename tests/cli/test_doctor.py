"""nmref doctor."""

import json

import pytest

from nmref.cli import doctor, machine, main
from nmref.kernels import cache
from nmref.linear import jobs, pool, workers
from nmref.linear.workers import Outcome


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder with an empty cache."""
    for name in ("NMREF_CACHE_DIR", "XDG_CACHE_HOME", "NMREF_ISA", "NMREF_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    cache.place.cache_clear()
    yield tmp_path
    cache.place.cache_clear()


def page(capsys, *arguments, code=0):
    assert main(["doctor", *arguments]) == code
    return capsys.readouterr().out


def test_the_page_has_everything_and_names_no_home(home, capsys):
    text = page(capsys, "--no-test")
    labels = [line.split()[0] for line in text.splitlines() if line[:1].strip()]
    want = "nmref python numpy numba llvmlite llvm system memory cpu features isa settings threads"
    assert labels[: len(want.split()) + 1] == [*want.split(), "cache"]
    assert "cache     ~/.cache/nmref/kernels/" in text
    assert str(home) not in text
    assert "0 kernels, 0.0 MB; by home" in text
    assert "self-test" not in text
    assert all(f"T={job.tokens}" in text for job in jobs.products())
    for job in jobs.products():
        assert job.choice().why in " ".join(text.split())
    assert len(text.splitlines()) <= 60


def test_json_has_the_same(home, capsys):
    found = json.loads(page(capsys, "--no-test", "--json"))
    assert found["cache"]["folder"].startswith("~/.cache/nmref/kernels/")
    assert found["cache"]["writable"] is True
    assert found["isa"]["chosen"] in found["isa"]["available"]
    for job in jobs.products():
        cell = found["kernels"][job.operands][str(job.tokens)]
        assert cell.split("/")[0] == job.choice().kernel
        assert job.choice().why in found["why"][job.choice().kernel]


def test_outliers_that_change_nothing_are_in_brackets():
    same, other = {"1": "a"}, {"1": "b"}
    found = {"F32 x F32": same, "F32 16:256 x F32": same}
    found |= {"BF16 x F32": same, "BF16 16:256 x F32": other, "I8 x I8": other}
    assert doctor._rows(found) == [
        ("F32 [+16:256] x F32", "a"),
        ("BF16 x F32", "a"),
        ("BF16 16:256 x F32", "b"),
        ("I8 x I8", "b"),
    ]


def test_the_self_test_runs_products(monkeypatch, capsys):
    some = [job for job in jobs.products() if job.operands == "I8 x I8" and job.tokens < 4]
    monkeypatch.setattr(jobs, "products", lambda: some)
    assert "self-test ok: 2 products in " in page(capsys)
    found = json.loads(page(capsys, "--json"))["test"]
    assert (found["ok"], found["products"], found["wrong"]) == (True, 2, {})


def test_a_wrong_product_exits_1(home, monkeypatch, capsys):
    found = [Outcome("a", ""), Outcome("b", f"OSError: {home}/x")]
    monkeypatch.setattr(workers, "run_all", lambda names, processes: iter(found))
    text = page(capsys, code=1)
    assert "self-test 1 FAILED: 2 products in " in text
    assert text.endswith("          b: OSError: ~/x\n")
    assert json.loads(page(capsys, "--json", code=1))["test"]["wrong"] == {"b": "OSError: ~/x"}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("NMREF_ISA", "mmx", "T_ARGUMENT NMREF_ISA: got 'mmx', want one of portable"),
        ("NMREF_THREADS", "0", "T_ARGUMENT NMREF_THREADS: '0', want 1 or more"),
    ],
)
def test_wrong_settings_are_one_line(monkeypatch, capsys, name, value, message):
    monkeypatch.setenv(name, value)
    assert main(["doctor"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(message)
    assert captured.err.count("\n") == 1


def test_a_cache_that_cannot_be_used_is_said(home, monkeypatch, capsys):
    (home / ".cache").write_text("a file")
    text = " ".join(page(capsys, "--no-test").split())
    assert "not home (~/.cache/nmref/kernels: " in text
    monkeypatch.setattr(cache, "_bases", lambda: iter(()))
    cache.place.cache_clear()
    text = " ".join(page(capsys, "--no-test").split())
    assert "cache no folder, nothing can be kept 0 kernels, 0.0 MB; by in memory" in text


def test_trouble_and_stale_folders_are_said(home, capsys):
    stale = cache.folder().parent / f"{'0' * 16}-cpu-{'0' * 8}"
    stale.mkdir()
    cache.report("entry: damaged")
    text = page(capsys, "--no-test")
    assert "1 folders of other versions" in text
    assert "trouble: entry: damaged" in text
    cache._trouble.clear()


@pytest.mark.parametrize(
    ("threads", "cpus", "quota", "cores", "settings", "words"),
    [
        (2, 2, None, 2, {"OMP_NUM_THREADS": "1"}, []),
        (4, 4, 1.5, 4, {"OMP_NUM_THREADS": "1"}, ["allows 1.5 CPUs", "NMREF_THREADS=1"]),
        (4, 4, 0.5, 4, {"OMP_NUM_THREADS": "1"}, ["NMREF_THREADS=1"]),
        (8, 2, None, 2, {"OMP_NUM_THREADS": "1"}, ["NMREF_THREADS is 8", "may use 2 CPUs"]),
        (4, 4, None, 2, {"OMP_NUM_THREADS": "1"}, ["4 CPUs are 2 cores", "NMREF_THREADS=2"]),
        (2, 2, None, 2, {}, ["OPENBLAS_NUM_THREADS=1"]),
        (1, 1, None, 1, {}, []),
    ],
)
def test_advice(monkeypatch, threads, cpus, quota, cores, settings, words):
    monkeypatch.setattr(pool, "default_threads", lambda: threads)
    monkeypatch.setattr(doctor, "cpus", lambda: cpus)
    monkeypatch.setattr(machine, "quota", lambda: quota)
    monkeypatch.setattr(machine, "cores", lambda allowed: cores)
    monkeypatch.setattr(machine, "settings", lambda: settings)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    found = doctor.advice()
    assert all(word in " ".join(found) for word in words)
    assert bool(found) == bool(words)


def test_advice_on_threads_that_never_sleep(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert any("OMP_WAIT_POLICY=active" in text for text in doctor.advice())
