"""Both twins over every K from 1 to 600, every named pattern, every bit."""

import numpy as np
import pytest

from nmref.dtypes import bits_of
from nmref.pattern import BASE_PATTERNS, OUTLIER_PATTERNS
from nmref.prune.choose.mask import split
from nmref.tensor import encode, fast, plain

PAIRS = [(str(base), None) for base in BASE_PATTERNS] + [
    ("8:16", str(outliers)) for outliers in OUTLIER_PATTERNS
]


def random_case(columns: int, base: str, outliers: str | None, coding: str):
    """A random matrix that fits, F16 with NaN, infinities and -0 among the values."""
    rng = np.random.default_rng(columns)
    score = rng.random((2, columns)).astype(np.float32)
    patterns = {str(p): p for p in (*BASE_PATTERNS, *OUTLIER_PATTERNS)}
    mask, salient = split(score, patterns[base], patterns[outliers] if outliers else None)
    if columns % 2:  # blocks with room, so that the fill rule works
        mask &= rng.random(mask.shape) < 0.6
    values = rng.integers(1, 1 << 16, (2, columns)).astype(np.uint16)
    more = {}
    if salient is not None:
        over = np.where(salient, values, np.uint16(0)).view(np.float16)
        more = {"outliers": over, "outlier_pattern": outliers, "coding": coding}
    return np.where(mask, values, np.uint16(0)).view(np.float16), base, more


@pytest.mark.parametrize(("base", "outliers"), PAIRS, ids=str)
def test_twins_agree_and_round_trip(base: str, outliers: str | None):
    for columns in range(1, 601):
        coding = "idx8" if columns % 3 else "colex"
        dense, pattern, more = random_case(columns, base, outliers, coding)
        weight = encode(dense, pattern, **more)
        reference = encode(dense, pattern, twin=plain, **more)
        for part, array in reference.parts().items():
            assert np.array_equal(bits_of(weight.parts()[part]), bits_of(array)), (columns, part)
        want = bits_of(dense) | (bits_of(more["outliers"]) if more else np.uint16(0))
        assert np.array_equal(bits_of(weight.to_dense(fast)), want), columns
        assert np.array_equal(bits_of(weight.to_dense(plain)), want), columns
