"""Random weights that fit their pattern."""

import numpy as np
import pytest

from nmref.errors import NmrefError
from nmref.linear.samples import TILE, as_loaded, large, sample, sealed
from nmref.tensor import check

KINDS = [
    (dtype, pattern, outliers)
    for dtype in ("F32", "F16", "BF16", "I8")
    for pattern in ("8:16", "2:4", "5:9")
    for outliers in ("", "4:256", "16:256")
]


@pytest.mark.parametrize(("dtype", "pattern", "outliers"), KINDS)
def test_a_sample_is_valid_and_full(dtype, pattern, outliers):
    weight = sample((5, 600), pattern, dtype, outliers)
    check(weight, "weight")
    assert weight.spec.dtype == dtype
    assert str(weight.base.pattern) == pattern
    n, m = map(int, pattern.split(":"))
    stored = (weight.base.to_dense_bits()[:, : 600 // m * m] != 0).reshape(5, -1, m).sum(-1)
    assert stored.max() <= n
    assert stored.mean() > 0.9 * n  # less what outliers took and what rounds to zero
    assert weight.outlier_count() == (5 * 3 * int(outliers.split(":")[0]) if outliers else 0)


def test_a_sample_is_the_same_each_time():
    a, b = (sample((3, 40), "8:16", "BF16", "16:256").to_dense() for _ in range(2))
    assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("rows", [1, TILE - 1, TILE, TILE + 1, 3 * TILE + 7])
def test_large_repeats_its_first_rows(rows):
    for dtype, outliers in (("BF16", "16:256"), ("I8", "")):
        weight = large((rows, 70), "2:4", dtype, outliers)
        check(weight, "weight")
        dense = weight.to_dense()
        few = sample((min(rows, TILE), 70), "2:4", dtype, outliers).to_dense()
        assert dense.shape == (rows, 70)
        assert all((dense[r] == few[r % TILE]).all() for r in range(rows))


def test_as_loaded_changes_nothing_and_cannot_be_changed():
    weight = sample((3, 40), "8:16", "I8", "16:256")
    loaded = as_loaded(weight)
    assert loaded.to_dense().tobytes() == weight.to_dense().tobytes()
    assert not any(part.flags.writeable for part in loaded.parts().values())
    array = np.zeros(3)
    assert not sealed(array).flags.writeable
    assert array.flags.writeable


@pytest.mark.parametrize(("pattern", "outliers"), [("3", ""), ("8:16", "3:256")])
def test_bad_patterns(pattern, outliers):
    with pytest.raises(NmrefError, match=r"^T_ARGUMENT .*, want "):
        sample((2, 32), pattern, "F32", outliers)
