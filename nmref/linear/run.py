"""Each kernel with its buffers: x packed, y allocated, the work shared out among threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from nmref.dtypes import Array
from nmref.kernels import activations
from nmref.kernels import amx as tiles
from nmref.kernels import dots512 as dots
from nmref.kernels.pairs import pairs, table_size
from nmref.kernels.panel import panel
from nmref.kernels.rows256 import rows256
from nmref.kernels.rows512 import rows512, scratch_size, size
from nmref.kernels.rows_portable import rows_portable
from nmref.linear.choose import panel_sums
from nmref.linear.pool import share
from nmref.linear.prepared import BLOCK, GROUP, Prepared

F32 = npt.NDArray[np.float32]
Seen = int
"""Traits of x (activations.NOT_FINITE, SUBNORMAL)."""

ALIGNMENT = 64
"""Bytes of a cache line and of the widest vector."""

TILE = 1024
"""Rows of W for which one thread holds sums: 256 KB of them for 64 tokens."""


KEPT = 1 << 25
"""Bytes up to which a buffer is kept for the next call."""


class _Kept(threading.local):
    def __init__(self) -> None:
        self.buffers: dict[str, npt.NDArray[np.uint8]] = {}


_kept = _Kept()


def buffer(name: str, count: int, dtype: type[np.generic] = np.float32) -> Array:
    """`count` elements that begin on a cache line; not set.

    This thread's buffer of that name: new memory would cost a page fault every 4 KB.
    """
    size = count * np.dtype(dtype).itemsize
    raw = _kept.buffers.get(name)
    if raw is None or raw.size < size + ALIGNMENT:
        raw = np.empty(size + ALIGNMENT, dtype=np.uint8)
        if size <= KEPT:
            _kept.buffers[name] = raw
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype)


def counter() -> npt.NDArray[np.int64]:
    """What threads claim from."""
    return np.zeros(1, dtype=np.int64)


def by_rows512(weight: Prepared, x: Array, tokens: int, threads: int) -> tuple[Array, Seen]:
    """Few tokens on AVX-512: x [T, K], T <= tokens -> y [T, R]."""
    packed = buffer("x", weight.words.shape[1] * 64 * tokens)
    halves = int(weight.dtype == "BF16")
    seen = activations.interleave(x, packed, tokens, size(tokens), halves)
    natural = np.zeros((0, 0), dtype=np.float32)
    if weight.slots:
        natural, _ = _natural(weight, x, tokens)
    y = np.empty((tokens, weight.rows), dtype=np.float32)
    kernel, next_row = rows512(tokens, weight.slots), counter()

    def work(_: int) -> None:
        kernel(
            weight.values,
            weight.words,
            weight.scale,
            weight.out_values,
            weight.out_index,
            packed,
            natural,
            y,
            buffer("sums", scratch_size(tokens)),
            next_row,
        )

    share(work, threads)
    return y[: len(x)], seen


def by_dots512(weight: Prepared, x: Array, tokens: int, threads: int) -> tuple[Array, Seen]:
    """Few tokens, W and x BF16, on AVX-512 BF16."""
    packed = buffer("x", weight.words.shape[1] * 32 * tokens, np.int32)
    seen = activations.pair_up(x, packed, tokens)
    natural = np.zeros((0, 0), dtype=np.float32)
    if weight.slots:
        natural, _ = _natural(weight, x, tokens)
    y, next_row = np.empty((tokens, weight.rows), dtype=np.float32), counter()
    kernel = dots.dots512(tokens, weight.slots)

    def work(_: int) -> None:
        kernel(
            weight.values,
            weight.words,
            weight.out_values,
            weight.out_index,
            packed,
            natural,
            y,
            buffer("sums", dots.scratch_size(tokens)),
            next_row,
        )

    share(work, threads)
    return y[: len(x)], seen


def by_rows256(weight: Prepared, x: Array, tokens: int, threads: int) -> tuple[Array, Seen]:
    """Few tokens on AVX2."""
    natural, seen = _natural(weight, x, tokens)
    y, next_row = np.empty((tokens, weight.rows), dtype=np.float32), counter()
    kernel = rows256(tokens, weight.slots)

    def work(_: int) -> None:
        kernel(
            weight.values,
            weight.stored_columns,
            weight.scale,
            weight.out_values,
            weight.out_index,
            natural,
            y,
            next_row,
        )

    share(work, threads)
    return y[: len(x)], seen


def by_rows(weight: Prepared, x: Array, tokens: int, threads: int) -> tuple[Array, Seen]:
    """Few tokens on any CPU."""
    natural, seen = _natural(weight, x, tokens)
    y, next_row = np.empty((tokens, weight.rows), dtype=np.float32), counter()

    def work(_: int) -> None:
        rows_portable()(
            weight.values,
            weight.stored_columns,
            weight.scale,
            weight.out_values,
            weight.out_index,
            weight.slots,
            natural,
            y,
            next_row,
        )

    share(work, threads)
    return y, seen


def _natural(weight: Prepared, x: Array, tokens: int) -> tuple[F32, Seen]:
    """x in the order of its columns, [tokens, whole blocks of 256], zeros behind; its traits."""
    natural = np.zeros((tokens, -(-weight.columns // BLOCK) * BLOCK), dtype=np.float32)
    return natural, activations.widen(x, natural)


def by_panel(weight: Prepared, x: Array, lanes: int, threads: int) -> tuple[Array, Seen]:
    """Many tokens: x [T, K] -> y [T, R], only stored weights multiplied."""
    integers = x.dtype == np.int8
    kind = np.int32 if integers else np.float32
    packed, seen = _panels(weight, x, lanes, threads, kind)
    y, next_tile = np.empty((len(x), weight.rows), dtype=kind), counter()
    tile = _tile(weight, len(x), lanes, threads)
    over = np.zeros((weight.rows, 0), dtype=np.int32) if integers else weight.out_values
    scale = None if integers else weight.scale

    def work(_: int) -> None:
        panel(lanes, panel_sums(lanes))(
            weight.values,
            weight.stored_columns,
            scale,
            over,
            weight.out_index,
            weight.slots,
            packed,
            y,
            buffer("sums", tile * lanes, kind),
            tile,
            next_tile,
        )

    share(work, threads)
    return y, seen


def by_pairs(weight: Prepared, x: Array, lanes: int, threads: int) -> tuple[Array, Seen]:
    """Many tokens, W and x BF16, on AVX-512 BF16."""
    packed, seen = _panels(weight, x, lanes, threads, np.float32)
    y, next_tile = np.empty((len(x), weight.rows), dtype=np.float32), counter()
    tile = _tile(weight, len(x), lanes, threads)

    def work(_: int) -> None:
        pairs(lanes)(
            weight.values,
            weight.pairs,
            weight.out_values,
            weight.out_index,
            weight.slots,
            packed,
            y,
            buffer("sums", tile * lanes),
            buffer("table", table_size(lanes), np.int32),
            tile,
            next_tile,
        )

    share(work, threads)
    return y, seen


def by_amx(weight: Prepared, x: Array, tokens: int, threads: int) -> tuple[Array, Seen]:
    """Many tokens, W, outliers and x BF16, on the tiles of AMX."""
    shape = tiles.packed_shape(len(x), weight.columns)
    packed = buffer("x", int(np.prod(shape)), np.uint16).reshape(shape)
    next_tokens, seen = counter(), [0] * threads

    def pack(thread: int) -> None:
        seen[thread] = tiles.pack(x, packed, next_tokens)

    share(pack, threads)
    y, next_block = np.empty((len(x), weight.rows), dtype=np.float32), counter()
    height = tiles.height_for(weight.rows, threads)

    def work(_: int) -> None:
        tiles.amx(
            weight.values,
            weight.words,
            weight.out_values,
            weight.out_index,
            weight.slots,
            packed,
            y,
            buffer("block", tiles.block_size(height), np.uint16),
            buffer("sums", tiles.sums_size(height)),
            height,
            tiles.DEPTH,
            tiles.CHUNK,
            next_block,
        )

    share(work, threads)
    return y, int(np.bitwise_or.reduce(seen))


def _panels(
    weight: Prepared, x: Array, lanes: int, threads: int, kind: type[np.generic]
) -> tuple[Array, Seen]:
    """x [T, K] -> [panels][16 G][lanes], and its traits."""
    height = weight.groups * GROUP
    packed = buffer("x", -(-len(x) // lanes) * lanes * height, kind)
    next_tokens, seen = counter(), [0] * threads

    def work(thread: int) -> None:
        seen[thread] = activations.panels(x, packed, lanes, height, next_tokens)

    share(work, threads)
    return packed, int(np.bitwise_or.reduce(seen))


def _tile(weight: Prepared, tokens: int, lanes: int, threads: int) -> int:
    """Rows of a tile: no more than TILE, and enough tiles that every thread has some."""
    panels = -(-tokens // lanes)
    tiles = max(1, -(-2 * threads // panels)) if threads > 1 else 1
    wanted = -(-weight.rows // tiles)
    return min(TILE, wanted + -wanted % GROUP)


Run = Callable[[Prepared, Array, int, int], tuple[Array, Seen]]

RUNS: dict[str, Run] = {
    "rows512": by_rows512,
    "dots512": by_dots512,
    "rows256": by_rows256,
    "rows": by_rows,
    "panel": by_panel,
    "pairs": by_pairs,
    "amx": by_amx,
}
"""By the names of `choose.Choice`."""
