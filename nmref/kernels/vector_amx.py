"""The tile registers of AMX: eight tiles, each 16 rows of 64 bytes.

Numbers of tiles are constants: LLVM puts them into the instructions and keeps no tile of its own.
An index is an element's, a stride is bytes.  A thread loads CONFIG before it touches a tile and
releases the tiles after, on every path; the system must have granted them (isa.py).  With
NUMBA_DISABLE_JIT=1 the plain tiles of tiles_plain.py stand in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import config
from numba.core import types

from nmref.dtypes import Array
from nmref.kernels import tiles_plain
from nmref.kernels.lanes import (
    BIT,
    BYTE,
    HALF,
    LONG,
    WORD,
    Build,
    call,
    constant,
    fetch,
    pointer,
    primitive,
    spread,
    steps,
)

TILES = 8
TILE_ROWS = 16
ROW_BYTES = 64

STEP = 32
"""BF16 elements of a row of a tile."""

STORED = 16
"""Stored weights of so many columns: 8 of every 16."""


def _config() -> Array:
    """The 64 bytes that describe palette 1 with all tiles whole.

    Byte 0 is the palette; 16 + 2i: bytes of a row of tile i, 2 bytes; 48 + i: its rows.
    """
    block = np.zeros(64, dtype=np.uint8)
    block[0] = 1
    block[16 : 16 + 2 * TILES : 2] = ROW_BYTES
    block[48 : 48 + TILES] = TILE_ROWS
    return block


CONFIG = _config()


def _number(tile: Any) -> ir.Constant:
    """The immediate operand of a literal type."""
    assert 0 <= tile.literal_value < TILES, tile
    return ir.Constant(BYTE, tile.literal_value)


@primitive
def load_config(typing_context: Any, block: Any) -> tuple[Any, Build]:
    """Describe the tiles by 64 bytes, and set them to zero."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zero, block = ir.Constant(LONG, 0), arguments[0]
        start = pointer(context, builder, signature.args[0], block, zero, BYTE)
        call(builder, "llvm.x86.ldtilecfg", ir.VoidType(), start)
        return context.get_dummy_value()

    return types.void(block), build


@primitive
def release(typing_context: Any) -> tuple[Any, Build]:
    """Give the tiles back: the system need not save them any more."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        call(builder, "llvm.x86.tilerelease", ir.VoidType())
        return context.get_dummy_value()

    return types.void(), build


@primitive
def zero_tile(typing_context: Any, tile: Any) -> tuple[Any, Build]:
    """Set a tile to zero."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        call(builder, "llvm.x86.tilezero", ir.VoidType(), _number(signature.args[0]))
        return context.get_dummy_value()

    return types.void(tile), build


def _moved(name: str, tile: Any, array: Any) -> tuple[Any, Build]:
    """A tile from or to memory."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, array, index, stride = arguments
        start = pointer(context, builder, signature.args[1], array, index, BYTE)
        call(builder, name, ir.VoidType(), _number(signature.args[0]), start, stride)
        return context.get_dummy_value()

    return types.void(tile, array, types.intp, types.int64), build


@primitive
def load_tile(
    typing_context: Any, tile: Any, array: Any, index: Any, stride: Any
) -> tuple[Any, Build]:
    """16 rows of 64 bytes, `stride` bytes apart, from array[index] on."""
    return _moved("llvm.x86.tileloadd64", tile, array)


@primitive
def store_tile(
    typing_context: Any, tile: Any, array: Any, index: Any, stride: Any
) -> tuple[Any, Build]:
    """The same, to memory."""
    return _moved("llvm.x86.tilestored64", tile, array)


@primitive
def dot_tiles(typing_context: Any, c: Any, a: Any, b: Any) -> tuple[Any, Build]:
    """Tile c += a b: c 16 x 16 float32, a 16 x 32 BF16, b 16 pairs of a's columns x 16, BF16.

    Row p of b has its elements (2p, n) and (2p + 1, n) side by side.  Subnormal inputs and results
    count as zero.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        numbers = [_number(tile) for tile in signature.args]
        call(builder, "llvm.x86.tdpbf16ps", ir.VoidType(), *numbers)
        return context.get_dummy_value()

    return types.void(c, a, b), build


def _spread(builder: Any, packed: Any, mask: Any, target: Any) -> None:
    """16 packed values, at the ones of a mask of 32 bits, zeros elsewhere, to 64 bytes."""
    wide = ir.VectorType(HALF, STEP)
    chosen = [min(i, STORED) for i in range(STEP)]
    few = builder.shuffle_vector(
        packed, constant(packed.type, 0), ir.Constant(ir.VectorType(WORD, STEP), chosen)
    )
    ones = builder.bitcast(builder.trunc(mask, WORD), ir.VectorType(BIT, STEP))
    name = f"llvm.x86.avx512.mask.expand.v{STEP}i16"
    found = call(builder, name, wide, few, constant(wide, 0), ones)
    builder.store(found, builder.bitcast(target, wide.as_pointer())).align = 2


@primitive
def expand_to(
    typing_context: Any, values: Any, index: Any, mask: Any, strip: Any, to: Any
) -> tuple[Any, Build]:
    """strip[to : to + 32] = values[index : index + 16] at the ones of a mask's low 32 bits.

    No more than 16 bits are ones; elements are 16 bits.  AVX-512 VBMI2.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, index, mask, strip, to = arguments
        packed = ir.VectorType(HALF, STORED)
        found = fetch(context, builder, signature.args[0], values, index, packed)
        target = pointer(context, builder, signature.args[3], strip, to, BYTE)
        _spread(builder, found, mask, target)
        return context.get_dummy_value()

    return types.void(values, types.intp, types.uint64, strip, types.intp), build


@primitive
def expand_some_to(
    typing_context: Any, values: Any, index: Any, mask: Any, strip: Any, to: Any, count: Any
) -> tuple[Any, Build]:
    """The same at the end of a row: reads only `count` values, 0 to 16."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, index, mask, strip, to, count = arguments
        packed = ir.VectorType(HALF, STORED)
        start = pointer(context, builder, signature.args[0], values, index, packed)
        limit = spread(builder, builder.trunc(count, WORD), STORED)
        there = builder.icmp_unsigned("<", steps(STORED), limit)
        name, size = f"llvm.masked.load.v{STORED}i16.p0", ir.Constant(WORD, 2)
        found = call(builder, name, packed, start, size, there, constant(packed, 0))
        target = pointer(context, builder, signature.args[3], strip, to, BYTE)
        _spread(builder, found, mask, target)
        return context.get_dummy_value()

    kinds = (values, types.intp, types.uint64, strip, types.intp, types.intp)
    return types.void(*kinds), build


if config.DISABLE_JIT:
    globals().update({name: getattr(tiles_plain, name) for name in tiles_plain.NAMES})
