"""exp over all 2^32 inputs (docs/exp.md)."""

import os
from pathlib import Path

import numpy as np
import pytest

from nmref.conformance.exhaustive import check_exp
from nmref.kernels import exhaustive
from nmref.numerics import fast, plain

HARD = "377eff81 38e69cc1 39c6be5b 4001b249 40315b33 b3000000 bae0e25c bbf0edf1 c16912cd"


def test_exp_is_correctly_rounded_for_all_inputs():
    scan = check_exp(threads=len(os.sched_getaffinity(0)))
    assert scan.wrong == ()
    assert " ".join(f"{bits:08x}" for bits in scan.hard) == HARD


def test_the_page_names_the_hard_inputs():
    page = Path(__file__).parents[2] / "docs" / "exp.md"
    assert HARD in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("x", [-104.0, -103.97, -95.0, -87.34, -87.33, -1.0, 0.3, 88.72, 89.0])
def test_the_scan_finds_what_lies_close(x):
    """With a wide limit it lists exactly the inputs whose exact results are that close."""
    first = int(np.float32(x).view(np.uint32)) & ~1023
    bits = np.arange(first, first + 1024, dtype=np.uint32)
    hard, limit = np.zeros(1024, dtype=np.int64), 2.0**-30
    count = exhaustive.scan_exp(first, first + 1024, limit, hard)
    y = np.exp(bits.view(np.float32).astype(np.float64))
    with np.errstate(all="ignore"):  # results past the largest number
        down = y.astype(np.float32)
        below, above = (np.nextafter(down, np.float32(way)) for way in (0, np.inf))
        halves = [(down.astype(np.float64) + n.astype(np.float64)) / 2 for n in (below, above)]
        distance = np.minimum(*(np.abs(y - half) / y for half in halves))
    inside = (bits.view(np.float32) >= -104) & (bits.view(np.float32) <= 89) & (y < 2.0**128)
    want = bits[inside & (distance < limit)]
    found = hard[:count][np.isin(hard[:count], bits[inside])]
    assert set(found) ^ set(want) <= set(bits[np.abs(distance - limit) < 2.0**-45])


def test_twins_agree_on_what_the_scan_calls_hard():
    x = np.array([int(text, 16) for text in HARD.split()], dtype=np.uint32).view(np.float32)
    np.testing.assert_array_equal(fast.exp(x), plain.exp(x))
