"""matmul by every kernel that this machine has: within the bound, and the same for all threads."""

import contextlib
import gc
import math
import weakref

import ml_dtypes
import numpy as np
import pytest
from scipy.sparse.linalg import aslinearoperator

import nmref
from nmref.errors import NmrefError
from nmref.kernels import isa
from nmref.linear import choose, matmul, multiply, pool, prepared
from nmref.pattern import NMPattern
from nmref.prune.choose.mask import split

BF16 = ml_dtypes.bfloat16
FLOATS = [np.float32, np.float16, BF16]
TOKENS = [1, 2, 3, 5, 8, 9, 17, 40, 130]
UNIT = 2.0**-24


def weight(rng, rows, columns, pattern="8:16", dtype=np.float32, outliers=None):
    """A random weight; `outliers` is "n:256" or None."""
    score = rng.random((rows, columns)).astype(np.float32)
    chosen = NMPattern.parse(outliers) if outliers else None
    mask, salient = split(score, NMPattern.parse(pattern), chosen)
    values = rng.standard_normal((rows, columns)) * (30 if dtype == np.int8 else 1)
    over = np.float32 if dtype == np.int8 else dtype
    return nmref.encode(
        np.where(mask, values, 0).astype(dtype),
        pattern,
        mask=mask,
        scale=(rng.random(rows) + 0.1).astype(np.float32) if dtype == np.int8 else None,
        outliers=None if salient is None else np.where(salient, values, 0).astype(over),
    )


def assert_within_bound(y, x, dense):
    """|y - exact| <= gamma_K sum |w| |x|, and what underflow can add."""
    columns = dense.shape[1]
    gamma = columns * UNIT / (1 - columns * UNIT)
    wide, x = dense.astype(np.float64), x.astype(np.float64)
    for t in range(len(x)):
        for r in range(len(wide)):
            terms = (wide[r] * x[t]).tolist()
            bound = gamma * math.fsum(map(abs, terms)) + columns * 2.0**-126
            assert abs(float(y[t, r]) - math.fsum(terms)) <= bound, (t, r)


def isas():
    """Every ISA that may be forced here."""
    return [name for name in isa.NEEDS if name in isa.available()]


@pytest.fixture(params=["portable", "avx2", "avx512", "amx"])
def forced(request, monkeypatch):
    if request.param not in isas():
        pytest.skip(f"this machine has no {request.param}")
    monkeypatch.setenv("NMREF_ISA", request.param)
    return request.param


@pytest.mark.parametrize("outliers", [None, "16:256"])
@pytest.mark.parametrize("dtype", [*FLOATS, np.int8], ids=lambda dtype: np.dtype(dtype).name)
def test_every_kernel_keeps_the_bound(forced, dtype, outliers):
    rng = np.random.default_rng(3)
    packed = weight(rng, 35, 300, "8:16", dtype, outliers)
    dense = packed.to_dense().astype(np.float32)
    for x_dtype in (np.float32, BF16):
        for tokens in TOKENS:
            x = rng.standard_normal((tokens, 300)).astype(x_dtype)
            y = matmul(x, packed)
            assert y.shape == (tokens, 35)
            assert y.dtype == np.float32
            assert_within_bound(y, x, dense)


@pytest.mark.parametrize("pattern", ["1:2", "2:4", "4:8"])
@pytest.mark.parametrize("columns", [1, 2, 15, 34, 64, 65, 172])
def test_patterns_of_one_half_and_their_tails(forced, pattern, columns):
    rng = np.random.default_rng(columns)
    for dtype in (np.float32, BF16):
        packed = weight(rng, 5, columns, pattern, dtype)
        for tokens in (1, 4, 20):
            x = rng.standard_normal((tokens, columns)).astype(dtype)
            assert_within_bound(matmul(x, packed), x, packed.to_dense().astype(np.float32))


@pytest.mark.parametrize("scale", [1e-30, 1e-38, 1e30])
def test_magnitudes_near_the_limits(forced, scale):
    rng = np.random.default_rng(5)
    for dtype in (np.float32, BF16):
        dense = weight(rng, 20, 160, dtype=dtype).to_dense().astype(np.float32)
        packed = nmref.encode((dense * np.float32(scale)).astype(dtype), "8:16")
        for tokens in (1, 4, 40):
            for factor in (1.0, 1e4, 1e-6):
                x = (rng.standard_normal((tokens, 160)) * factor).astype(dtype)
                y = matmul(x, packed)
                assert_within_bound(y, x, packed.to_dense().astype(np.float32))


@pytest.mark.parametrize("tokens", [1, 3, 8, 20, 70])
def test_subnormal_weights_and_activations_are_not_lost(forced, tokens):
    dense = np.zeros((3, 64), dtype=BF16)
    dense[:, 5] = [1.0, 3e-39, 1.0]
    x = np.full((tokens, 64), 2e-39, dtype=BF16)
    x[:, 5] = 1e30
    assert_within_bound(matmul(x, nmref.encode(dense)), x, dense.astype(np.float32))
    x[:, 5] = 2e-39
    dense[:, 5] = [1e30, 1.0, 3e30]
    y = matmul(x, nmref.encode(dense))
    assert (y[:, 0] > 1e-9).all()
    assert_within_bound(y, x, dense.astype(np.float32))


@pytest.mark.parametrize("tokens", [1, 2, 8, 33, 200])
@pytest.mark.parametrize("x_dtype", [np.float32, BF16], ids=["float32", "bfloat16"])
def test_threads_change_nothing(forced, tokens, x_dtype, monkeypatch):
    monkeypatch.setattr(multiply, "WORTH_A_THREAD", 1e-6)
    rng = np.random.default_rng(tokens)
    for outliers in (None, "4:256"):
        packed = weight(rng, 150, 172, dtype=BF16, outliers=outliers)
        x = rng.standard_normal((tokens, 172)).astype(x_dtype)
        one = matmul(x, packed, threads=1).view(np.uint32)
        for threads in (2, 5):
            assert np.array_equal(matmul(x, packed, threads=threads).view(np.uint32), one)


@pytest.mark.parametrize("tokens", [1, 7, 16, 65])
@pytest.mark.parametrize("pattern", ["8:16", "2:4", "5:9"])
def test_int8_is_the_profile_to_the_bit(forced, tokens, pattern):
    rng = np.random.default_rng(1)
    packed = weight(rng, 21, 172, pattern, np.int8)
    x = rng.integers(-128, 128, (tokens, 172)).astype(np.int8)
    y = matmul(x, packed)
    assert y.dtype == np.int32
    assert np.array_equal(y, matmul(x, packed, "i32"))


def test_int8_is_modulo_2_to_the_32(forced):
    columns = 280_000
    packed = nmref.encode(
        np.tile(np.array([[-128, 0]], np.int8), (1, columns // 2)), "1:2", scale=np.ones(1, "f4")
    )
    x = np.full((1, columns), -128, dtype=np.int8)
    want = (128 * 128 * columns // 2 + 2**31) % 2**32 - 2**31
    assert want < 0
    assert matmul(x, packed).tolist() == [[want]]


@pytest.mark.parametrize("tokens", [1, 4, 40])
@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan])
def test_terms_of_zero_weights_never_exist(forced, tokens, special):
    rng = np.random.default_rng(2)
    for dtype in (np.float32, BF16):
        packed = weight(rng, 9, 64, dtype=dtype)
        dense = packed.to_dense().astype(np.float32)
        x = rng.standard_normal((tokens, 64)).astype(dtype)
        x[-1, 3] = special
        y, there = matmul(x, packed), dense[:, 3] != 0
        assert there.any()
        assert not there.all()
        assert not np.isfinite(y[-1, there]).any()
        finite = x.copy()
        finite[-1, 3] = 0
        assert_within_bound(y[:, ~there], finite, dense[~there])


@pytest.mark.parametrize("tokens", [1, 4, 40])
def test_a_weight_that_is_not_finite_spoils_its_row_only(forced, tokens):
    dense = np.zeros((3, 32), dtype=np.float32)
    dense[0, 1], dense[1, 2], dense[2, 3] = np.inf, np.nan, 2
    y = matmul(np.ones((tokens, 32), np.float32), nmref.encode(dense))
    assert (y[:, 0] == np.inf).all()
    assert np.isnan(y[:, 1]).all()
    assert (y[:, 2] == 2).all()


@pytest.mark.parametrize("tokens", [1, 4, 40])
def test_x_may_lie_anyhow(forced, tokens):
    rng = np.random.default_rng(6)
    packed = weight(rng, 10, 48)
    x = rng.standard_normal((tokens, 48)).astype(np.float32)
    want = matmul(x, packed)
    frozen = x.copy()
    frozen.flags.writeable = False
    for other in (np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2], x[::-1][::-1], frozen):
        assert np.array_equal(matmul(other, packed), want)
    assert np.array_equal(matmul(x.astype(">f4").astype("<f4"), packed), want)


def test_weights_may_be_read_only_and_strided(forced):
    rng = np.random.default_rng(7)
    packed = weight(rng, 12, 80)
    base = packed.base
    values = np.repeat(base.values, 2, axis=0)[::2]
    codes = np.asfortranarray(base.codes)
    values.flags.writeable = codes.flags.writeable = False
    other = nmref.SparseWeight(nmref.NMMatrix(base.pattern, 80, values, codes))
    x = rng.standard_normal((5, 80)).astype(np.float32)
    assert np.array_equal(matmul(x, other), matmul(x, packed))


@pytest.mark.parametrize(("rows", "tokens"), [(0, 3), (4, 0), (0, 0)])
def test_nothing_times_something(forced, rows, tokens):
    for dtype in (np.float32, BF16, np.int8):
        packed = weight(np.random.default_rng(0), rows, 32, dtype=dtype)
        assert matmul(np.zeros((tokens, 32), np.float32), packed).shape == (tokens, rows)
        if dtype == np.int8:
            y = matmul(np.zeros((tokens, 32), np.int8), packed)
            assert y.shape == (tokens, rows)
            assert y.dtype == np.int32


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((1, 32)), "^X_DTYPE x: dtype float64, want float32 or float16 or bfloat16$"),
        (np.zeros((1, 32), np.int8), "^X_DTYPE x: dtype int8, want float32"),
        (np.zeros((1, 31), np.float32), r"^X_SHAPE matmul: x \[1, 31\] and W \[4, 32\], want"),
        (np.zeros((), np.float32), r"^X_SHAPE matmul: x \[\] and W \[4, 32\]"),
    ],
)
def test_refusals(x, message):
    packed = nmref.encode(np.zeros((4, 32), np.float32))
    with pytest.raises(NmrefError, match=message):
        matmul(x, packed)


def test_threads_are_a_positive_number(monkeypatch):
    packed, x = nmref.encode(np.eye(4, 32, dtype=np.float32)), np.ones((1, 32), np.float32)
    with pytest.raises(NmrefError, match=r"^T_ARGUMENT threads: 0, want 1 or more$"):
        matmul(x, packed, threads=0)
    for wrong in ("0", "two", "-1", "1.5"):
        monkeypatch.setenv("NMREF_THREADS", wrong)
        with pytest.raises(NmrefError, match=f"^T_ARGUMENT NMREF_THREADS: '{wrong}', want 1"):
            matmul(x, packed)
    monkeypatch.setenv("NMREF_THREADS", "3")
    assert pool.default_threads() == 3
    assert matmul(x, packed).tolist() == [[1, 1, 1, 1]]


def test_an_error_of_any_thread_is_raised_after_all_have_ended():
    ended = []

    def work(thread):
        if thread == 1:
            raise RuntimeError("one")
        while not ended and thread == 0:
            ended.append(thread)

    for _ in range(50):  # the pool may be late: then thread 1 is never begun
        with contextlib.suppress(RuntimeError):
            pool.share(work, 2)
    with pytest.raises(RuntimeError, match="zero"):
        pool.share(lambda thread: (_ for _ in ()).throw(RuntimeError("zero")), 1)


def test_prepared_forms_are_kept_counted_and_let_go():
    for dtype, limit in ((np.float32, 0.4), (BF16, 0.7), (np.float16, 0.7), (np.int8, 1.1)):
        packed = weight(np.random.default_rng(0), 64, 1024, dtype=dtype)
        ready = prepared.prepared(packed)
        assert ready.nbytes == 0
        for tokens in (1, 8, 40):
            matmul(np.ones((tokens, 1024), np.float32), packed)
            matmul(np.ones((tokens, 1024), BF16), packed)
        assert ready is prepared.prepared(packed)
        assert 0 < ready.nbytes <= limit * packed.nbytes
        gone = weakref.ref(packed)
        del packed, ready
        gc.collect()
        assert gone() is None
    assert len(prepared._PREPARED) < 50


@pytest.mark.parametrize("pattern", ["1:2", "2:4", "4:8", "8:16"])
@pytest.mark.parametrize("columns", [1, 16, 40, 172, 300])
def test_words_columns_and_pairs_name_the_stored_columns(pattern, columns):
    packed = weight(np.random.default_rng(columns), 6, columns, pattern)
    ready, pattern = prepared.prepared(packed), packed.base.pattern
    blocks = pattern.blocks(columns)
    for r in range(6):
        word = sum(int(word) << 64 * i for i, word in enumerate(ready.words[r]))
        stored = [c for c in range(64 * ready.words.shape[1]) if word >> c & 1]
        assert len(stored) == blocks * pattern.stored == ready.values.shape[1]
        assert (packed.to_dense()[r, [c for c in range(columns) if c not in stored]] == 0).all()
        values = np.zeros(64 * ready.words.shape[1], np.float32)
        values[stored] = ready.values[r]
        assert np.array_equal(values[:columns], packed.to_dense()[r])
        for i, c in enumerate(stored):
            assert int(ready.stored_columns[r, i // 8]) >> 4 * (i % 8) & 15 == c % 16
        for i in range(0, len(stored) // 2 * 2, 2):
            if stored[i] // 16 == stored[i + 1] // 16:
                code = int(ready.pairs[r, i // 8]) >> 8 * (i % 8 // 2) & 255
                pair = [stored[i] % 16, stored[i + 1] % 16]
                assert prepared.prepare.PAIRS[code].tolist() == pair


def test_kernels_are_chosen_by_the_isa(forced):
    packed = prepared.prepared(weight(np.random.default_rng(0), 4, 64, dtype=BF16))
    few = choose.choose(packed, 1, "F32").kernel
    assert few == {"portable": "rows", "avx2": "rows256"}.get(forced, "rows512")
    many = choose.choose(packed, 100, "F32")
    assert many.kernel == "panel"
    assert many.tokens == choose.WIDEST[forced]
    if forced == "avx512" and isa.has("avx512bf16"):
        assert choose.choose(packed, 1, "BF16").kernel == "dots512"
        assert choose.choose(packed, 100, "BF16").kernel == "pairs"
        assert choose.choose(packed, 100, "BF16", plain_x=False).kernel == "panel"
    other = prepared.prepared(weight(np.random.default_rng(0), 4, 64, "16:32"))
    dense = choose.choose(other, 1, "F32")
    assert dense.kernel == "dense"
    assert "16:32" in dense.why


def test_an_isa_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setenv("NMREF_ISA", "sse9")
    with pytest.raises(
        NmrefError, match=r"^T_ARGUMENT NMREF_ISA: got 'sse9', want one of portable"
    ):
        matmul(np.ones((1, 32), np.float32), nmref.encode(np.eye(4, 32, dtype=np.float32)))


@pytest.mark.parametrize("outliers", [None, "16:256"])
def test_linear_operator(outliers):
    rng = np.random.default_rng(9)
    packed = weight(rng, 20, 272, outliers=outliers)
    dense = packed.to_dense().astype(np.float64)
    operator = nmref.linear_operator(packed)
    assert operator.shape == (20, 272)
    assert operator.dtype == np.float32
    for v in (rng.standard_normal(272), rng.standard_normal((272, 1)), rng.integers(0, 9, 272)):
        assert np.allclose(operator @ v, dense @ v, rtol=1e-4, atol=1e-4)
    many = rng.standard_normal((272, 5)).astype(np.float32)
    assert np.allclose(operator @ many, dense @ many, rtol=1e-4, atol=1e-4)
    back = rng.standard_normal((20, 3)).astype(np.float32)
    assert np.allclose(operator.T @ back, dense.T @ back, rtol=1e-4, atol=1e-4)
    assert np.allclose(operator.H @ back[:, 0], dense.T @ back[:, 0], rtol=1e-4, atol=1e-4)
    both = aslinearoperator(operator) * 2
    assert np.allclose(both @ many[:, 0], 2 * dense @ many[:, 0], rtol=1e-4, atol=1e-4)
    with pytest.raises(TypeError):
        operator @ np.ones(272, dtype=np.complex64)
