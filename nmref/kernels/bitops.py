"""The few operations that Numba lacks, as LLVM's own portable ones.

No CPU is named here.  LLVM makes of each what the machine has: one instruction (tzcnt, popcnt,
vpexpandw and vpcompressw of AVX-512 VBMI2), or a short loop that gives the same.  With
NUMBA_DISABLE_JIT=1 plain Python stands in for them.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config
from numba.core import cgutils, types
from numba.extending import intrinsic

from nmref.dtypes import Array

LANES = 16
WORD = 64


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


def _lowest_bit(typing_context: Any, word: Any) -> Any:
    """Position of the lowest 1 of a uint64 that is not 0.

    Taking the 1s off one by one has a fixed trip count; testing all M bits mispredicts half.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), build


def _count_bits(typing_context: Any, word: Any) -> Any:
    """How many bits of a uint64 are 1."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), build


def _nonzero_word(typing_context: Any, flat: Any, index: Any) -> Any:
    """Bit i is 1 where flat[index + i] is not 0, i < 64; the caller has 64 elements there."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], *arguments)
        vector = ir.VectorType(context.get_data_type(signature.args[0].dtype), WORD)
        lanes = builder.load(builder.bitcast(address, vector.as_pointer()))
        lanes.align = 1
        found = builder.icmp_unsigned("!=", lanes, ir.Constant(vector, [0] * WORD))
        return builder.bitcast(found, ir.IntType(WORD))

    return types.uint64(flat, types.uint64), build


def _load_word(typing_context: Any, flat: Any, index: Any) -> Any:
    """The 8 bytes flat[index...] as one uint64, the first one lowest, at any address."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], *arguments)
        word = builder.load(builder.bitcast(address, ir.IntType(WORD).as_pointer()))
        word.align = 1
        return word if sys.byteorder == "little" else builder.bswap(word)

    return types.uint64(flat, types.uint64), build


def _expand(typing_context: Any, source: Any, at: Any, mask: Any, target: Any, to: Any) -> Any:
    """target[to + i], i < 16 = the next of source[at...] where bit i of the mask is 1, else 0.

    Reads only as many elements as the mask has ones; writes 16.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = _address(context, builder, signature.args[0], *arguments[:2])
        end = _address(context, builder, signature.args[3], *arguments[3:])
        element = context.get_data_type(signature.args[0].dtype)
        vector, lanes = ir.VectorType(element, LANES), ir.VectorType(ir.IntType(1), LANES)
        name = f"llvm.masked.expandload.v{LANES}i{element.width}"
        kind = ir.FunctionType(vector, [start.type, lanes, vector])
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        chosen = builder.bitcast(builder.trunc(arguments[2], ir.IntType(LANES)), lanes)
        found = builder.call(function, [start, chosen, ir.Constant(vector, [0] * LANES)])
        builder.store(found, builder.bitcast(end, vector.as_pointer())).align = 1
        return context.get_dummy_value()

    return types.void(source, types.uint64, types.uint64, target, types.uint64), build


def _compress(typing_context: Any, source: Any, at: Any, mask: Any, target: Any, to: Any) -> Any:
    """target[to...] = source[at + i], i < 16, where bit i of the mask is 1, one after another.

    Reads 16 elements; writes only as many as the mask has ones.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = _address(context, builder, signature.args[0], *arguments[:2])
        end = _address(context, builder, signature.args[3], *arguments[3:])
        element = context.get_data_type(signature.args[0].dtype)
        vector, lanes = ir.VectorType(element, LANES), ir.VectorType(ir.IntType(1), LANES)
        name = f"llvm.masked.compressstore.v{LANES}i{element.width}"
        kind = ir.FunctionType(ir.VoidType(), [vector, end.type, lanes])
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        chosen = builder.bitcast(builder.trunc(arguments[2], ir.IntType(LANES)), lanes)
        found = builder.load(builder.bitcast(start, vector.as_pointer()))
        found.align = 1
        builder.call(function, [found, end, chosen])
        return context.get_dummy_value()

    return types.void(source, types.uint64, types.uint64, target, types.uint64), build


lowest_bit: Any = intrinsic(_lowest_bit)
count_bits: Any = intrinsic(_count_bits)
nonzero_word: Any = intrinsic(_nonzero_word)
load_word: Any = intrinsic(_load_word)
expand: Any = intrinsic(_expand)
compress: Any = intrinsic(_compress)


def _plain_lowest_bit(word: np.uint64) -> np.uint64:
    return np.uint64((int(word) & -int(word)).bit_length() - 1)


def _plain_count_bits(word: np.uint64) -> np.uint64:
    return np.uint64(int(word).bit_count())


def _plain_nonzero_word(flat: Array, index: int) -> np.uint64:
    found = np.flatnonzero(flat[int(index) : int(index) + WORD])
    return np.uint64(sum(1 << int(i) for i in found))


def _plain_load_word(flat: Array, index: int) -> np.uint64:
    return np.uint64(int.from_bytes(flat[int(index) : int(index) + 8].tobytes(), "little"))


def _ones(mask: int) -> list[int]:
    return [i for i in range(LANES) if int(mask) >> i & 1]


def _plain_expand(source: Array, at: int, mask: int, target: Array, to: int) -> None:
    lanes, start = _ones(mask), int(at)
    target[int(to) : int(to) + LANES] = 0
    target[[int(to) + i for i in lanes]] = source[start : start + len(lanes)]


def _plain_compress(source: Array, at: int, mask: int, target: Array, to: int) -> None:
    lanes, end = _ones(mask), int(to)
    target[end : end + len(lanes)] = source[[int(at) + i for i in lanes]]


if config.DISABLE_JIT:
    lowest_bit, count_bits, nonzero_word = _plain_lowest_bit, _plain_count_bits, _plain_nonzero_word
    load_word, expand, compress = _plain_load_word, _plain_expand, _plain_compress
