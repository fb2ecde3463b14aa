"""The harness on a tiny shape, with real processes.  Nothing here depends on a time."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import nmref
from benchmarks import figures, tables
from benchmarks.figures import GOALS
from benchmarks.matmul import extras, run, weights
from benchmarks.matmul.cells import LARGE, TOKENS, Case, Cell, plan
from benchmarks.matmul.contestant import Contestant
from benchmarks.matmul.contestants import KINDS
from benchmarks.matmul.packed import Nmref
from benchmarks.matmul.team import Entry, Member, entries, environment_for
from benchmarks.matmul.worker import FEW, Worker

QUICK = ["--small", "--no-extras", "--threads", "1", "--rounds", "2", "--seconds", "0.001"]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A run of nmref and NumPy, and of a peer whose interpreter does not exist."""
    path = tmp_path_factory.mktemp("run") / "run.json"
    only = ["--dtypes", "F32", "--only", "nmref", "numpy", "deepsparse"]
    assert run.main([*QUICK, *only, "--deepsparse", "/nowhere/python", "--json", str(path)]) == 0
    found: dict = json.loads(path.read_text("utf-8"))
    return found


def test_every_cell_has_every_round(report: dict) -> None:
    assert [(row["pattern"], row["T"]) for row in report["cells"]] == [
        ("8:16", 1), ("8:16", 16), ("8:16+16:256", 1), ("8:16+16:256", 16),
    ]  # fmt: skip
    for row in report["cells"]:
        for name in ("nmref", "numpy"):
            result = row["results"][name]
            assert "error" not in result
            assert result["deviation"] <= 1
            assert len(result["rounds"]) == 2
            assert all(turn["runs"] >= 7 for turn in result["rounds"])
            assert all(turn["p10"] <= turn["median"] <= turn["p90"] for turn in result["rounds"])


def test_absent_peers_are_listed(report: dict) -> None:
    absent = {c["name"]: c["absent"] for c in report["contestants"]}
    assert absent["nmref"] == absent["numpy"] == ""
    assert "/nowhere/python" in absent["deepsparse"]
    assert "absent: " in tables.contestants(report)
    assert "deepsparse: " in tables.problems(report)
    assert "/nowhere/python" in report["cells"][0]["results"]["deepsparse"]["error"]


def test_the_run_says_where_it_was(report: dict) -> None:
    assert report["machine"]["packages"]["numpy"] == np.__version__
    assert report["machine"]["cores"] >= 1
    assert set(report["load"]) == {"before", "after"}
    assert set(report["turns"]["idle_workers_cpu"]) == {"nmref 1", "numpy 1", "deepsparse 1"}
    for counts in report["limits"].values():
        assert counts["1"]["read"] > 0
        assert counts["1"]["fma_load"] > 0


def test_a_package_that_cannot_be_imported_is_absent() -> None:
    member = Member(Entry("deepsparse", "deepsparse", sys.executable), 1)
    try:
        if not member.absent:
            pytest.skip("deepsparse is here")
        assert "No module named" in member.absent
        assert member.ask(do="load") == {"error": member.absent}
    finally:
        member.close()


def test_a_worker_goes_on_after_an_error_and_its_end_is_seen() -> None:
    member = Member(Entry("numpy", "numpy", sys.executable), 1)
    try:
        assert member.absent == ""
        assert member.ask(do="load", folder="/nowhere")["error"].startswith("FileNotFoundError")
        assert member.ask(do="sing")["error"].startswith("AttributeError")
        assert member.process is not None
        member.process.kill()
        assert member.ask(do="load", folder="/nowhere")["error"].startswith("ended: ")
        assert member.absent
    finally:
        member.close()


def test_measure_stops_at_few_runs_when_calls_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(1000))
    monkeypatch.setattr("benchmarks.matmul.worker.time.perf_counter", lambda: float(next(now)))
    turns: list[int] = []
    worker = Worker(Contestant(1))
    worker.calls = [lambda i=i: turns.append(i) for i in range(3)]
    assert worker.measure({"seconds": 0.01, "runs": 7})["runs"] == FEW
    assert turns == [1, 2, 0, 1, 2]  # two calls to warm up; the copies take turns
    assert worker.measure({"seconds": 10, "runs": 7})["runs"] == 10


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
@pytest.mark.parametrize("pattern", ["8:16", "2:4", "8:16+16:256"])
def test_all_contestants_get_the_same_weights(tmp_path: Path, pattern: str, dtype: str) -> None:
    written = weights.write(Case(8, 512, pattern, dtype), tmp_path / "case", 3)
    contestant = Nmref(1)
    contestant.load(written.request)
    weight, dense = contestant.weight_of(written.request), np.load(tmp_path / "case" / "dense.npy")
    assert np.array_equal(weight.to_dense().view(dense.dtype), dense)
    assert weight.nbytes == written.packed_bytes
    assert dense.nbytes == written.dense_bytes
    assert weight.outlier_count() == (8 * 32 if "256" in pattern else 0)


def test_a_wrong_result_has_no_figure(tmp_path: Path) -> None:
    written = weights.write(Case(8, 64, "8:16", "F32"), tmp_path, 4)
    right = written.right.astype(np.float32)
    assert written.deviation(right) <= 1
    wrong = right.copy()
    wrong[2, 3] += 1
    assert written.deviation(wrong) > 1
    wrong[2, 3] = np.nan
    assert not written.deviation(wrong) <= 1


def test_the_goals_plan_has_every_cell_of_the_goals() -> None:
    cells = plan("goals", (1, 2))
    for goal in GOALS:
        for tokens in goal.tokens:
            for threads in (1, 2):
                assert Cell(Case(*LARGE[0], goal.pattern, goal.dtype), tokens, threads) in cells


def test_the_full_plan_has_every_cell_once() -> None:
    cells = plan("full", (1, 2))
    assert len(cells) == len(set(cells)) == 5 * 3 * 2 * len(TOKENS) * 2
    assert len(plan("full", (1,), lambda cell: cell.tokens == 1)) == 5 * 3 * 2


def test_who_takes_which_cell() -> None:
    cell = Cell(Case(64, 64, "8:16", "BF16"), 32, 2)
    by_kind = {entry.kind: entry for entry in entries({}, [], [])}
    assert set(by_kind) == set(KINDS)
    assert {kind for kind, e in by_kind.items() if e.takes(cell)} == {"nmref", "torch", "openvino"}
    few = Cell(Case(64, 64, "2:4", "F32"), 16, 1)
    assert {kind for kind, e in by_kind.items() if not e.takes(few)} == {"deepsparse"}


def test_variants_are_further_contestants() -> None:
    names = [entry.name for entry in entries({}, ["avx2", "portable"], ["nmref", "torch"])]
    assert names == ["nmref", "nmref:avx2", "nmref:portable", "torch", "torch:avx2"]


def test_threads_are_in_the_environment_and_openblas_chooses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    environment = environment_for(2, {"NMREF_ISA": "avx2"})
    assert environment["OMP_NUM_THREADS"] == environment["OPENBLAS_NUM_THREADS"] == "2"
    assert environment["NMREF_ISA"] == "avx2"
    assert "OPENBLAS_CORETYPE" not in environment


def test_random_weights_fit_their_pattern() -> None:
    weight = extras.random_weight(1030, 512, "8:16+16:256", "BF16")
    assert weight.shape == (1030, 512)
    assert isinstance(weight, nmref.SparseWeight)
    dense = weight.to_dense()
    assert np.array_equal(dense[512:1024], dense[:512])


def test_slope_of_a_power() -> None:
    assert extras._slope([1, 2, 4, 8], [3, 12, 48, 192])["exponent"] == pytest.approx(2)


def test_a_job_that_fails_says_why() -> None:
    assert extras._process("dance", True, 1, {})["error"] == "KeyError: 'dance'"


def test_jitter_start_and_exponents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "DTYPES", ("F32",))
    jitter = extras.jitter(True, 1)["F32"]
    assert jitter["ratio"] == jitter["p90"] / jitter["median"]
    assert set(extras.start(True, 1)) == {"compiled", "loaded"}
    monkeypatch.setattr(extras, "_seconds", lambda call, shape, tokens, dtype: shape[0] * shape[1])
    slopes = {axis: found["exponent"] for axis, found in extras.exponents(True, 1).items()}
    assert slopes.pop("F32 tokens") == pytest.approx(0, abs=1e-9)
    assert list(slopes.values()) == pytest.approx([1, 1, 1, 1])


def test_times_of_growth_are_taken() -> None:
    assert extras._seconds(nmref.matmul, (64, 128), 2, "F32", 1) > 0


def test_limits_are_the_highest_seen() -> None:
    one, other = {"a": {"1": {"read": 2, "amx": None}}}, {"a": {"1": {"read": 3, "amx": None}}}
    assert run.highest(one, other) == {"a": {"1": {"read": 3, "amx": None}}}
    assert run.highest(one, {}) == one


def test_line_of_a_row(report: dict) -> None:
    text = figures.line(report["cells"][0])
    assert text.startswith("64x512      8:16        F32  T=1   1 thr: nmref ")
    assert "deepsparse: " in text
