"""matmul against exact sums, for every way a weight can be stored."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

import nmref
from nmref.errors import NmrefError
from nmref.linear import matmul
from nmref.numerics import expand
from nmref.pattern import NMPattern
from nmref.prune.choose.mask import split

BF16 = ml_dtypes.bfloat16
STORED = [
    (np.float32, None),
    (np.float16, None),
    (BF16, BF16),
    (BF16, np.float32),
    (np.float16, BF16),
    (np.int8, None),
    (np.int8, np.float16),
]


def packed(rng, rows, columns, pattern, dtype, out_dtype, coding):
    """A random weight of the pattern, 16:256 outliers where out_dtype is given."""
    score = rng.random((rows, columns)).astype(np.float32)
    outliers = NMPattern(16, 256) if out_dtype else None
    mask, salient = split(score, NMPattern.parse(pattern), outliers)
    values = rng.standard_normal((rows, columns)) * (20 if dtype == np.int8 else 1)
    return nmref.encode(
        np.where(mask, values, 0).astype(dtype),
        pattern,
        mask=mask,
        scale=(rng.random(rows) + 0.1).astype(np.float32) if dtype == np.int8 else None,
        outliers=None if salient is None else np.where(salient, values, 0).astype(out_dtype),
        coding=coding,
    )


def exact_bound(x, dense):
    """Exact y [T, R] as Fractions, and the bound of any float32 summation order."""
    columns = dense.shape[1]
    unit = Fraction(1, 2**24)
    gamma = columns * unit / (1 - columns * unit)
    xs = [[Fraction(float(value)) for value in token] for token in x]
    ws = [[Fraction(float(value)) for value in row] for row in dense]
    terms = [[[a * b for a, b in zip(t, w, strict=True)] for w in ws] for t in xs]
    return [[(sum(p), gamma * sum(map(abs, p))) for p in row] for row in terms]


@pytest.mark.parametrize(("dtype", "out_dtype"), STORED, ids=str)
@pytest.mark.parametrize("pattern", ["2:4", "8:16", "16:32", "5:9", "31:64"])
@pytest.mark.parametrize("tokens", [1, 3, 9])
def test_matmul_is_the_exact_sum_within_the_bound(dtype, out_dtype, pattern, tokens):
    rng = np.random.default_rng(11)
    for columns, coding in ((1, "idx8"), (43, "colex"), (258, "idx8")):
        weight = packed(rng, 3, columns, pattern, dtype, out_dtype, coding)
        x = rng.standard_normal((tokens, columns)).astype(np.float32)
        y = matmul(x, weight)
        assert y.shape == (tokens, 3)
        assert y.dtype == np.float32
        want = exact_bound(x, weight.to_dense().astype(np.float32))
        for t, row in enumerate(want):
            for r, (exact, bound) in enumerate(row):
                assert abs(Fraction(float(y[t, r])) - exact) <= bound


@pytest.mark.parametrize(("dtype", "out_dtype"), STORED, ids=str)
def test_expand_is_to_dense(dtype, out_dtype):
    rng = np.random.default_rng(5)
    for columns in (1, 172, 300):
        weight = packed(rng, 4, columns, "8:16", dtype, out_dtype, "idx8")
        assert np.array_equal(expand(weight), weight.to_dense().astype(np.float32))


@pytest.mark.parametrize("tokens", [1, 20])
@pytest.mark.parametrize("dense", [True, False])
def test_a_zero_weight_makes_no_term(tokens, dense):
    matrix = np.zeros((2, 16), dtype=np.float32)
    matrix[0, 3] = 2
    x = np.ones((tokens, 16), dtype=np.float32)
    x[:, 5] = np.inf
    x[:, 6] = np.nan
    y = matmul(x, matrix if dense else nmref.encode(matrix))
    assert (y == [2, 0]).all()


def test_matmul_takes_a_vector():
    weight = np.eye(3, dtype=np.float32)
    assert matmul(np.arange(3, dtype=np.float32), weight).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 3)), "^X_DTYPE x: dtype float64, want float32 or float16 or bfloat16$"),
        (np.zeros((2, 3), np.float32), r"^X_SHAPE matmul: x \[2, 3\] and W \[2, 4\], want"),
        (np.zeros((1, 2, 4), np.float32), "^X_SHAPE matmul: "),
    ],
)
def test_matmul_refuses(x, message):
    with pytest.raises(NmrefError, match=message):
        matmul(x, np.zeros((2, 4), np.float32))


def test_matmul_of_no_tokens_and_no_rows():
    weight = nmref.encode(np.zeros((0, 16), np.float32))
    assert matmul(np.zeros((2, 16), np.float32), weight).shape == (2, 0)
    assert matmul(np.zeros((0, 16), np.float32), np.zeros((3, 16), np.float32)).shape == (0, 3)
