"""RESULTS.md from figures that are known."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import figures, report, tables

NOTES = "P4 was missed: the notes say why.\n"


def turns(*medians: float) -> dict:
    return {
        "rounds": [{"median": m, "p10": m * 0.9, "p90": m * 1.1, "runs": 7} for m in medians],
        "copies": 4,
        "deviation": 0.1,
    }


def row(tokens: int, threads: int = 1, shape: tuple[int, int] = (4096, 4096), **results) -> dict:
    rows, columns = shape
    sizes = {"packed_bytes": rows * columns * 17 // 8, "dense_bytes": rows * columns * 4}
    where = {"rows": rows, "columns": columns, "pattern": "8:16", "dtype": "F32", "T": tokens}
    return where | sizes | {"threads": threads, "results": results}


def run_of(cells: list[dict], **more) -> dict:
    peaks = {"read": 20e9, "streams": {"1": 20e9}, "fma": 220e9, "fma_load": 150e9}
    machine = {
        "cpu": "Some CPU", "llvm_cpu": "some", "cores": 2, "cores_online": 2, "hypervisor": False,
        "memory_bytes": 8 << 30, "caches": {"L1d": 49152}, "features": ["avx2"], "system": "Linux",
        "large_pages": "", "governor": "", "python": "3.11", "packages": {"numpy": "2.0"},
    }  # fmt: skip
    contestants = [
        {"name": "nmref", "threads": 1, "versions": {"isa": "avx512"}, "environment": {},
         "absent": ""},
        {"name": "torch", "threads": 1, "versions": {}, "environment": {}, "absent": "no torch"},
    ]  # fmt: skip
    return {
        "what": "matmul", "plan": "goals", "machine": machine, "contestants": contestants,
        "options": {"threads": [1], "rounds": 3, "seconds": 0.2, "runs": 7},
        "dropped_environment": ["OPENBLAS_CORETYPE"], "load": {"before": [0.1], "after": [1.5]},
        "turns": {"seconds": 9.0, "idle_workers_cpu": {"numpy 1": 0.0}, "other_processes_cpu": 0.5},
        "seconds": 120.0,
        "limits": {"avx2": {"1": peaks | {"fma_load": 75e9}}, "avx512": {"1": peaks}},
        "cells": cells, **more,
    }  # fmt: skip


def test_ratio_is_taken_round_by_round() -> None:
    one = row(1, nmref=turns(1, 2, 4), numpy=turns(3, 4, 4))
    assert figures.ratio(one, "numpy") == 2  # 3, 2, 1; of the medians it would be 2 / 2
    assert figures.seconds(one, "nmref") == 2
    assert figures.ratio(one, "torch") is None


def test_fastest_peer_and_wrong_ones() -> None:
    one = row(1, nmref=turns(1), numpy=turns(3), torch=turns(2),
              scipy=turns(1) | {"error": "wrong result"})  # fmt: skip
    assert figures.fastest(one) == "torch"
    assert figures.fastest(one, ("deepsparse",)) is None


def test_limit_is_bytes_then_arithmetic() -> None:
    report = run_of([])
    kind, seconds = figures.limit(row(1), report) or ("", 0)
    assert kind == "bytes"
    assert seconds == pytest.approx(4096 * 4096 * 17 / 8 / 20e9)
    kind, seconds = figures.limit(row(512), report) or ("", 0)
    assert kind == "FMA"
    assert seconds == pytest.approx(2 * 512 * 4096 * 4096 * 0.5 / 150e9)
    assert figures.limit(row(1, threads=2), report) is None


def test_bf16_is_bound_by_the_quicker_way() -> None:
    report, wide = run_of([]), row(512) | {"dtype": "BF16"}
    peaks = report["limits"]["avx512"]["1"]
    peaks |= {"bf16_dot": 200e9}
    assert (figures.limit(wide, report) or "")[0] == "FMA"
    peaks |= {"bf16_dot": 400e9, "amx": 2000e9}  # the forced contestant has neither
    assert (figures.limit(wide, report) or "")[0] == "amx"
    assert (figures.limit(wide, report, "nmref:avx2") or "")[0] == "FMA"


def test_limits_are_those_of_the_widest_isa_or_of_the_forced_one() -> None:
    found = run_of([])
    free, forced = (figures.limit(row(512), found, n) for n in ("nmref", "nmref:avx2"))
    assert free
    assert forced
    assert forced[1] == 2 * free[1]


def test_share_is_of_the_time() -> None:
    time = 4096 * 4096 * 17 / 8 / 20e9
    one = row(1, nmref=turns(2 * time))
    assert figures.share(one, run_of([one])) == pytest.approx(0.5)


def test_break_even() -> None:
    assert tables.break_even({1: 2.0, 4: 1.0}) == "all"
    assert tables.break_even({1: 0.5, 4: None}) == "none"
    assert tables.break_even({1: 2.0, 4: 1.2, 16: 0.9, 64: 1.1}) == "1 to 4, 64"


@pytest.mark.parametrize(
    ("cells", "state"),
    [
        ([row(1, nmref=turns(1), numpy=turns(2))], "met"),
        ([row(1, nmref=turns(1), numpy=turns(2), torch=turns(1.5))], "**missed**"),
        ([row(1, nmref=turns(1), numpy=turns(2)),
          row(1, shape=(11008, 4096), nmref=turns(1), numpy=turns(1.7))],
         "**missed** beside 4096x4096"),
        ([row(1, nmref=turns(1), numpy=turns(2)),
          row(1, shape=(576, 1536), nmref=turns(1), numpy=turns(0.1))], "met"),
        ([], "not measured"),
    ],
)  # fmt: skip
def test_state_of_a_goal(cells: list[dict], state: str) -> None:
    found = next(line for line in tables.goals(run_of(cells)).splitlines() if "| P1 |" in line)
    assert found.endswith(f"| {state} |")


def test_a_goal_that_was_measured_in_part_is_not_met() -> None:
    text = tables.goals(run_of([row(64, nmref=turns(1), numpy=turns(2))]))
    assert "incomplete: 1 of 3 cells" in text


def test_goals_beside_the_cells() -> None:
    more = {
        "codec": [{"pattern": "8:16", "rate": {"encode": 0.3, "decode": 0.2}}],
        "startup": {"first": {"compiled": 9, "loaded": 0, "seconds": 30.0},
                    "second": {"compiled": 0, "loaded": 9, "seconds": 1.0}},
        "exponents": {"rows": {"exponent": 0.95}, "tokens": {"exponent": 1.05}},
        "jitter": {"error": "no nmref"},
    }  # fmt: skip
    lines = tables.goals(run_of([], **more)).splitlines()
    state = {line.split(" | ")[0].strip("| "): line for line in lines}
    assert state["P10"].endswith("| 0.30x, 0.20x | **missed** |")
    assert state["P11"].endswith("the first compiled 9 in 30 s) | met |")
    assert state["P12"].endswith("| 0.95 (rows) to 1.05 (tokens) | met |")
    assert state["P13"].endswith("| no nmref | not measured |")


def test_page_of_two_runs(tmp_path: Path) -> None:
    empty = {"error": "no kernel", "rounds": []}
    first = run_of(
        [row(1, nmref=turns(0.002), numpy=turns(0.004)), row(256, nmref=empty, numpy=turns(0.05))]
    )
    second = run_of([row(1, nmref=turns(0.002), numpy=turns(0.001))])
    second["machine"]["cores"] = 1
    files = [tmp_path / "first.json", tmp_path / "second.json"]
    for file, run in zip(files, (first, second), strict=True):
        file.write_text(json.dumps(run), "utf-8")
    (tmp_path / "NOTES.md").write_text(NOTES, "utf-8")
    assert report.main([*map(str, files), "--folder", str(tmp_path)]) == 0
    text = (tmp_path / "RESULTS.md").read_text("utf-8")
    assert NOTES.strip() in text
    assert "absent: no torch" in text
    assert "- nmref: no kernel (1 cells)" in text
    assert "| F32 | 8:16 | 4096x4096 | 1 | 1 | 2.000 | 1.800 to 2.200 | 2.00 | - |" in text
    assert "Load average: [0.1] before, [1.5] after" in text
    assert "## Plan goals on 1 core\n" in text
    plot = tmp_path / "roofline.png"
    assert plot.exists() == (find_spec("matplotlib") is not None)
    assert not plot.exists() or plot.stat().st_size < 200_000
    assert ("roofline.png" in text) == plot.exists()


def test_variants_have_tables_of_their_own() -> None:
    forced = {"name": "nmref:avx2", "threads": 1, "versions": {}, "absent": "",
              "environment": {"NMREF_ISA": "avx2"}}  # fmt: skip
    run = run_of([row(1, **{"nmref": turns(1), "nmref:avx2": turns(2), "numpy": turns(3)})])
    run["contestants"] += [forced, forced | {"name": "numpy:avx2"}]
    text = report.variants(run)
    assert "## nmref:avx2\n\n`NMREF_ISA=avx2`" in text
    assert "x numpy:avx2" in text
    assert "| 1.50 |" in text
