"""The jobs of warm-up and self-test, and that nothing is left to compile after them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nmref.kernels import isa
from nmref.linear import jobs, multiply, workers
from nmref.linear.run import RUNS

ROOT = Path(__file__).parents[2]


def python(*arguments, **variables):
    """A process of its own; what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def warm():
    """`nmref warmup` has run, in the cache of these tests."""
    found = json.loads(python("-m", "nmref", "warmup", "--json"))
    assert found["wrong"] == {}
    return found


def test_every_job_is_right(warm):
    """Warm-up runs them all; a second one compiles nothing."""
    again = json.loads(python("-m", "nmref", "warmup", "--json"))
    assert again["compiled"] == 0
    assert again["wrong"] == {}
    assert again["files"] == warm["files"] > 0


def test_after_warm_up_nothing_is_compiled(warm, tmp_path):
    """Prune, pack, verify, generate, evaluate, load, multiply: all of it from the cache."""
    text = python("-m", "tests.linear.real_work", str(tmp_path))
    compiled, loaded, new = json.loads(text.splitlines()[-1])
    assert compiled == 0, new  # other tests fill the same cache: new files alone tell nothing
    assert loaded > 0


def test_names_are_unique():
    names = [job.name for job in jobs.jobs()]
    assert len(names) == len(set(names))
    assert set(names) >= {job.name for job in jobs.products()}


@pytest.mark.parametrize("name", isa.available())
def test_every_choice_has_a_kernel(monkeypatch, name):
    monkeypatch.setenv("NMREF_ISA", name)
    for job in jobs.products():
        choice = job.choice()
        assert choice.kernel in RUNS
        assert choice.why


def test_exact_sums_and_their_bound():
    rng = np.random.default_rng(2)
    x, w = (rng.standard_normal((n, 50)).astype(np.float32) for n in (3, 4))
    right, bound = jobs._exact(x, w)
    assert jobs._beyond((right + 0.9 * bound).astype(np.float64), right, bound) == ""
    wrong = right.copy()
    wrong[2, 1] += 1.1 * bound[2, 1]
    assert jobs._beyond(wrong, right, bound).startswith("1 of 12 wrong: y[2, 1] = ")
    wrong[0, 0] = np.nan
    assert jobs._beyond(wrong, right, bound).startswith("2 of 12 wrong: y[0, 0] = nan, want ")
    assert jobs._beyond(right[:2], right, bound) == "y [2, 4], want [3, 4]"


def test_a_product_sees_a_wrong_result(monkeypatch):
    job = next(job for job in jobs.products() if job.tokens == 2)
    assert job.run() == ""
    monkeypatch.setattr(jobs, "matmul", lambda x, w: multiply.matmul(x, w) * np.float32(1.01))
    assert "wrong: y[" in job.run()


@pytest.mark.parametrize("job", jobs.choices(), ids=lambda job: job.name)
def test_a_choice_sees_a_wrong_result(monkeypatch, job):
    assert job.run() == ""
    wanted = "others than the largest are chosen"

    def spoiled(bits, excluded, stored, block, kept):
        right(bits, excluded, stored, block, kept)
        kept[-1, -1] ^= True

    def without(bits, excluded, stored, block, kept):
        right(bits, excluded[:0], stored, block, kept)

    def higher(bits, excluded, stored, block, kept):
        """Ties to the higher column."""
        right(bits[:, ::-1].copy(), excluded[:, ::-1].copy(), stored, block, kept)
        kept[:] = kept[:, ::-1].copy()

    right = jobs.keep_largest
    for wrong in (spoiled, without, higher):
        monkeypatch.setattr(jobs, "keep_largest", wrong)
        assert job.run() == wanted


def test_run_one_tells_what_was_raised(monkeypatch):
    def fails():
        raise ValueError("first line\nsecond")

    monkeypatch.setattr(workers, "_by_name", lambda: {"bad": jobs.Task("bad", fails)})
    outcome = workers.run_one("bad")
    assert (outcome.name, outcome.wrong) == ("bad", "ValueError: first line")


def test_a_worker_that_dies_is_an_outcome(monkeypatch):
    monkeypatch.setattr(workers, "_leave_when_interrupted", _die)
    outcomes = list(workers.run_all(["dot i32", "exp and sums"], 1))
    assert {outcome.name for outcome in outcomes} == {"dot i32", "exp and sums"}
    assert {outcome.wrong for outcome in outcomes} == {"a process died"}


def _die():
    os._exit(1)
