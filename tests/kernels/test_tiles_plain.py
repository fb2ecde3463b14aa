"""The plain tiles against Intel's description of the instructions; the configuration of both."""

import struct
from collections.abc import Iterator
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from nmref.dtypes import Array
from nmref.kernels import tiles_plain
from nmref.kernels.vector_amx import CONFIG

BF16 = ml_dtypes.bfloat16


@pytest.fixture
def tiles() -> Iterator[None]:
    tiles_plain.load_config(CONFIG)
    yield
    tiles_plain.release()


def bits(values: Array) -> Array:
    return np.asarray(values, dtype=BF16).view(np.uint16)


def loaded(tile: int, array: Array) -> None:
    tiles_plain.load_tile(tile, np.ascontiguousarray(array).reshape(-1), 0, 64)


def stored(tile: int) -> Array:
    out = np.full(256, np.nan, dtype=np.float32)
    tiles_plain.store_tile(tile, out, 0, 64)
    return out.reshape(16, 16)


def dot(c: Array, a: Array, b: Array) -> Array:
    """c + a b for whole tiles; b as [32 columns of a, 16]."""
    loaded(0, np.asarray(c, dtype=np.float32))
    loaded(1, bits(a))
    loaded(2, bits(b).reshape(16, 2, 16).transpose(0, 2, 1))
    tiles_plain.dot_tiles(0, 1, 2)
    return stored(0)


def test_config_block() -> None:
    """Palette 1, start row 0, 14 bytes of zeros, 16 widths, 16 heights (Intel: LDTILECFG)."""
    want = struct.pack("<BB14x16H16B", 1, 0, *[64] * 8, *[0] * 8, *[16] * 8, *[0] * 8)
    assert CONFIG.tobytes() == want
    assert CONFIG.dtype == np.uint8


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, 0), (0, 2), (1, 1), (2, 1), (15, 1), (16, 0), (16, 65), (17, 1), (48, 0), (48, 17),
     (32, 64), (56, 16)],
)  # fmt: skip
def test_wrong_config(place: int, value: int) -> None:
    block = CONFIG.copy()
    block[place] = value
    with pytest.raises(ValueError, match=r"^general protection fault: LDTILECFG$"):
        tiles_plain.load_config(block)
    assert not tiles_plain.configured()


def test_no_tiles_before_or_after() -> None:
    flat = np.zeros(512, dtype=np.uint16)
    for _ in range(2):
        for call in (
            lambda: tiles_plain.zero_tile(0),
            lambda: tiles_plain.load_tile(0, flat, 0, 64),
            lambda: tiles_plain.store_tile(0, flat, 0, 64),
            lambda: tiles_plain.dot_tiles(0, 1, 2),
        ):
            with pytest.raises(ValueError, match=r"^invalid opcode: tile 0$"):
                call()
        tiles_plain.load_config(CONFIG)
        tiles_plain.release()


@pytest.mark.usefixtures("tiles")
def test_load_and_store() -> None:
    source = np.arange(16 * 40, dtype=np.float32)
    tiles_plain.load_tile(3, source, 5, 4 * 39)
    want = source[5 + 39 * np.arange(16)[:, None] + np.arange(16)]
    assert np.array_equal(stored(3), want)
    tiles_plain.zero_tile(3)
    assert not stored(3).any()
    for index in (-1, 5 + 40):
        with pytest.raises(
            IndexError, match=rf"^a tile reaches outside its array: {index} of 640$"
        ):
            tiles_plain.load_tile(3, source, index, 4 * 39)


@pytest.mark.usefixtures("tiles")
def test_tiles_must_differ() -> None:
    for numbers in ((0, 0, 1), (0, 1, 0), (1, 2, 2)):
        with pytest.raises(ValueError, match=r"^invalid opcode: TDPBF16PS "):
            tiles_plain.dot_tiles(*numbers)


@pytest.mark.usefixtures("tiles")
def test_dot_is_a_matrix_product() -> None:
    rng = np.random.default_rng(7)
    c, a, b = (rng.integers(-99, 99, shape) for shape in ((16, 16), (16, 32), (32, 16)))
    assert np.array_equal(dot(c, a, b), c + a @ b)


def test_dot_of_smaller_tiles() -> None:
    block = CONFIG.copy()
    block[48:51], block[16:22:2] = (3, 3, 5), (28, 20, 28)  # 3 x 7 += (3 x 10) (10 x 7)
    tiles_plain.load_config(block)
    rng = np.random.default_rng(8)
    a, b = rng.integers(-9, 9, (3, 10)), rng.integers(-9, 9, (10, 7))
    tiles_plain.load_tile(1, bits(a).reshape(-1), 0, 20)
    tiles_plain.load_tile(2, bits(b).reshape(5, 2, 7).transpose(0, 2, 1).reshape(-1), 0, 28)
    tiles_plain.dot_tiles(0, 1, 2)
    out = np.zeros(21, dtype=np.float32)
    tiles_plain.store_tile(0, out, 0, 28)
    tiles_plain.release()
    assert np.array_equal(out.reshape(3, 7), a @ b)


def one(c: float, pairs: dict[int, tuple[float, float]]) -> float:
    """Element (0, 0) for a row and a column that are zero but where `pairs` says."""
    a, b = np.zeros((16, 32)), np.zeros((32, 16))
    for k, (left, right) in pairs.items():
        a[0, k], b[k, 0] = left, right
    return float(dot(np.full((16, 16), c), a, b)[0, 0])


@pytest.mark.usefixtures("tiles")
def test_rounding_of_dot() -> None:
    """Even and odd columns apart, then together, then the sum: each rounded to nearest even."""
    small = 2.0**-24
    assert one(0, {0: (1, 1), 2: (1, small), 4: (1, small)}) == 1  # each of them half an ulp
    assert one(0, {2: (1, small), 4: (1, small), 6: (1, 1)}) == 1 + 2 * small
    assert one(0, {0: (1, 1), 1: (1, small), 3: (1, small)}) == 1 + 2 * small
    assert one(1, {0: (1, small), 2: (1, small)}) == 1 + 2 * small
    assert one(1 + 2 * small, {0: (1, small)}) == 1 + 4 * small  # to even
    assert one(0, {0: (1, 1), 2: (1 + 2.0**-7, small)}) == 1 + 2 * small  # one rounding: an FMA


@pytest.mark.usefixtures("tiles")
def test_subnormals_of_dot_are_zeros() -> None:
    tiny = 2.0**-126
    assert one(0, {0: (tiny / 2, 2.0**100)}) == 0
    assert one(0, {0: (2.0**100, tiny / 2)}) == 0
    assert one(0, {0: (tiny, 1)}) == tiny
    assert one(0, {0: (tiny, 0.5), 2: (tiny, 0.5)}) == 0
    assert one(tiny * 1.5, {0: (-tiny, 1)}) == 0
    assert one(tiny / 2, {}) == 0


def test_sum_rounds_once() -> None:
    """Against exact fractions, with addends far apart, where two roundings would differ."""
    rng = np.random.default_rng(9)
    a = (1 + rng.integers(0, 2**23, 500) * 2.0**-23) * rng.choice((-1, 1), 500)
    b = rng.choice((-1, 1), 500) * 2.0**-24 * (1 + rng.choice((0, 2.0**-15, 2.0**-30), 500))
    b[::2] *= 2.0 ** -rng.integers(0, 40, 250)
    for left, right, found in zip(a, b, tiles_plain._sum(a, b), strict=True):
        total = Fraction(left) + Fraction(right)
        near = np.float32(left + right)
        nearby = [np.nextafter(near, np.float32(end)) for end in (-np.inf, np.inf)] + [near]
        best = min(abs(Fraction(float(value)) - total) for value in nearby)
        ties = [v for v in nearby if abs(Fraction(float(v)) - total) == best]
        assert found == next(v for v in ties if len(ties) == 1 or not v.view(np.uint32) & 1)
