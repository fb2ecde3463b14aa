"""vector_amx.py in NumPy, for NUMBA_DISABLE_JIT=1: tiles as Intel's manual describes them.

What a CPU answers with a fault is an error here: a wrong configuration, tiles without one, two
equal tiles in a product, memory outside the array.
"""

from __future__ import annotations

import threading

import numpy as np

from nmref.dtypes import Array

NAMES = ["load_config", "release", "zero_tile", "load_tile", "store_tile", "dot_tiles"]
NAMES += ["expand_to", "expand_some_to"]
"""The functions of vector_amx.py."""

TILES, ROWS, BYTES = 8, 16, 64
STORED, STEP = 16, 32
NORMAL = np.float32(2.0**-126)


class _State(threading.local):
    """The tiles of a thread: bytes; shapes (rows, bytes of a row), none unless configured."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int]] = []
        self.bytes = np.zeros((TILES, ROWS, BYTES), dtype=np.uint8)


_state = _State()


def configured() -> bool:
    """Whether this thread holds tiles."""
    return bool(_state.shapes)


def load_config(block: Array) -> None:
    """LDTILECFG of palette 1; raises ValueError where the CPU would fault."""
    assert block.nbytes == 64, block.nbytes
    data = block.view(np.uint8)
    rows, widths = data[48:64], data[16:48].view("<u2")
    whole = data[0] == 1 and not data[1:16].any()
    unused = rows[TILES:].any() or widths[TILES:].any()
    large = (rows > ROWS).any() or (widths > BYTES).any()
    if not whole or unused or large or ((rows == 0) != (widths == 0)).any():
        raise ValueError("general protection fault: LDTILECFG")
    _state.shapes = [(int(rows[i]), int(widths[i])) for i in range(TILES)]
    _state.bytes[:] = 0


def release() -> None:
    """TILERELEASE."""
    _state.shapes = []
    _state.bytes[:] = 0


def _shape(tile: int) -> tuple[int, int]:
    """(rows, bytes of a row); raises ValueError for a tile that there is not."""
    if not configured() or not 0 <= tile < TILES or not _state.shapes[tile][0]:
        raise ValueError(f"invalid opcode: tile {tile}")
    return _state.shapes[tile]


def _rows(array: Array, index: int, stride: int, shape: tuple[int, int]) -> Array:
    """[rows, bytes] places in the bytes of a flat array; raises IndexError outside of it."""
    start = int(index) * array.itemsize
    where = start + int(stride) * np.arange(shape[0])[:, None] + np.arange(shape[1])
    if where.min() < 0 or where.max() >= array.nbytes:
        raise IndexError(f"a tile reaches outside its array: {index} of {array.size}")
    return where


def zero_tile(tile: int) -> None:
    """TILEZERO."""
    _shape(tile)
    _state.bytes[tile] = 0


def load_tile(tile: int, array: Array, index: int, stride: int) -> None:
    """TILELOADD; what is past the tile's shape becomes zero."""
    rows, width = shape = _shape(tile)
    where = _rows(array, index, stride, shape)
    _state.bytes[tile] = 0
    _state.bytes[tile, :rows, :width] = array.view(np.uint8)[where]


def store_tile(tile: int, array: Array, index: int, stride: int) -> None:
    """TILESTORED."""
    rows, width = shape = _shape(tile)
    array.view(np.uint8)[_rows(array, index, stride, shape)] = _state.bytes[tile, :rows, :width]


def _flushed(values: Array) -> Array:
    """float32 with subnormals as zeros of their sign."""
    return np.where(np.abs(values) < NORMAL, np.copysign(np.float32(0), values), values)


def _widened(tile: int) -> Array:
    """[16, 16, 2] BF16 -> float64, subnormals as zeros."""
    bits = _state.bytes[tile].view("<u2").astype(np.uint32) << np.uint32(16)
    return _flushed(bits.view(np.float32)).astype(np.float64).reshape(ROWS, -1, 2)


def _sum(a: Array, b: Array) -> Array:
    """a + b of float64, rounded once to float32, nearest even.

    The float64 sum is made odd where it is not exact, so that the second rounding cannot err.
    """
    total = a + b
    other = total - a
    error = (a - (total - other)) + (b - other)
    even = total.view(np.uint64) & np.uint64(1) == 0
    away = np.where(error > 0, np.inf, -np.inf)
    odd = np.where((error != 0) & even, np.nextafter(total, away), total)
    return _flushed(odd.astype(np.float32))


def dot_tiles(c: int, a: int, b: int) -> None:
    """TDPBF16PS: sums of the even and of the odd columns by FMA, then the two, then c.

    Shapes must agree: c M x N float32, a M x K pairs, b K pairs x N.
    """
    (m, n), (rows, k), (pairs, width) = _shape(c), _shape(a), _shape(b)
    if len({c, a, b}) < 3 or (m, n, k) != (rows, width, 4 * pairs):
        raise ValueError(f"invalid opcode: TDPBF16PS {c}, {a}, {b}")
    left, right = _widened(a), _widened(b)
    with np.errstate(all="ignore"):
        sums = np.zeros((ROWS, ROWS, 2), dtype=np.float32)
        for p in range(pairs):
            sums = _sum(sums.astype(np.float64), left[:, p, None, :] * right[p])
        both = _sum(sums[..., 0].astype(np.float64), sums[..., 1].astype(np.float64))
        old = _flushed(_state.bytes[c].view("<f4")).astype(np.float64)
        _state.bytes[c] = _sum(old, both.astype(np.float64)).view(np.uint8)
    _state.bytes[c, m:] = 0
    _state.bytes[c, :, n:] = 0


def expand_to(values: Array, index: int, mask: int, strip: Array, to: int) -> None:
    """strip[to : to + 32] = values[index : index + 16] at the ones of a mask of 32 bits."""
    expand_some_to(values, index, mask, strip, to, STORED)


def expand_some_to(values: Array, index: int, mask: int, strip: Array, to: int, count: int) -> None:
    """The same; reads only `count` values."""
    assert 0 <= count <= STORED, count
    assert 0 <= index <= values.size - count, (index, count, values.size)
    assert 0 <= to <= strip.size - STEP, (to, strip.size)
    found = np.zeros(STEP, dtype=strip.dtype)
    found[:count] = values[index : index + count]
    ones = np.array([int(mask) >> i & 1 for i in range(STEP)], dtype=bool)
    assert ones.sum() <= STORED, mask
    strip[to : to + STEP] = 0
    strip[to : to + STEP][ones] = found[: ones.sum()]
