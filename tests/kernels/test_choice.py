"""The kernel behind top_n by itself: edges of its tile, and without a compiler.

Its results are compared in tests/prune/test_mask.py.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nmref.kernels.choice import LANES, keep_largest

ROOT = Path(__file__).parents[2]

NOTHING = np.zeros((0, 0), dtype=bool)


def chosen(score, stored, block, excluded=NOTHING):
    """Written into memory that was all true, then all false: every element must be set."""
    found = []
    for before in (True, False):
        kept = np.full(score.shape, before)
        keep_largest(score.view(np.uint32), excluded, stored, block, kept)
        found.append(kept)
    assert np.array_equal(*found)
    return found[0]


def by_sorting(score, stored, block):
    order = np.argsort(-score, axis=1, kind="stable")
    kept = np.zeros(score.shape, dtype=bool)
    np.put_along_axis(kept, order[:, :stored], True, axis=1)
    return kept if score.shape[1] == block else None


def check_lanes():
    """Fewer, as many and more blocks than lanes; columns that are not counted in fours."""
    rng = np.random.default_rng(3)
    for rows in (1, LANES, LANES + 1):
        for stored, block in ((1, 2), (2, 3), (3, 5)):
            score = rng.integers(0, 4, (rows, block)).astype(np.float32)
            assert np.array_equal(chosen(score, stored, block), by_sorting(score, stored, block))


def check_rows_of_several_blocks():
    """A row whose blocks lie in two tiles, with a tail."""
    score = np.random.default_rng(4).random((3, 4 * LANES + 3)).astype(np.float32)
    kept = chosen(score, 2, 4)
    whole = score[:, : 4 * LANES].reshape(-1, 4)
    assert np.array_equal(kept[:, : 4 * LANES].reshape(-1, 4), by_sorting(whole, 2, 4))
    assert np.array_equal(kept[:, 4 * LANES :], by_sorting(score[:, 4 * LANES :], 2, 3))


CHECKS = [check_lanes, check_rows_of_several_blocks]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_choice(check):
    check()


def test_choice_without_compiler():
    """The same loops run by Python, which would notice an index outside an array."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_DISABLE_JIT": "1"}

    command = [sys.executable, "-W", "error", __file__]
    found = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, (found.stdout, found.stderr)


if __name__ == "__main__":
    for check in CHECKS:
        check()
