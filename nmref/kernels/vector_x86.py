"""Vector operations that only some x86 CPUs have; LLVM stops where one is used on another CPU."""

from __future__ import annotations

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import config
from numba.core import types

from nmref.kernels import vector_plain
from nmref.kernels.lanes import (
    BIT,
    F32,
    HALF,
    LONG,
    WORD,
    Build,
    Lanes,
    call,
    constant,
    fetch,
    joined,
    pointer,
    primitive,
    spread,
    steps,
    widened,
)

COLUMNS = 64
"""Columns that one word of a mask describes."""

WEIGHTS = 32
"""Stored weights of a whole word: 8 of every 16 columns."""


@primitive
def expand(typing_context: Any, values: Any, index: Any, word: Any) -> tuple[Any, Build]:
    """32 weights from values[index] on, at the ones of a mask of 64 columns: 64 float32 lanes.

    8 of each 16 bits of the mask are ones.  A column without a one is +0.  For BF16, which is the
    cheaper so, each 32 columns come as the 16 even ones, then the 16 odd ones.  AVX-512 VBMI2.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        packed = ir.VectorType(context.get_value_type(values.dtype), WEIGHTS)
        found = fetch(context, builder, signature.args[0], arguments[0], arguments[1], packed)
        return _as_float32(builder, _expanded(builder, found, arguments[2]), values.dtype)

    return Lanes(types.float32, COLUMNS)(values, types.intp, types.uint64), build


@primitive
def expand_some(
    typing_context: Any, values: Any, index: Any, word: Any, count: Any
) -> tuple[Any, Build]:
    """The same at the end of a row: reads only `count` weights, 0 to 32."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found = _some(context, builder, signature, arguments)
        return _as_float32(builder, _expanded(builder, found, arguments[2]), values.dtype)

    kind = Lanes(types.float32, COLUMNS)
    return kind(values, types.intp, types.uint64, types.intp), build


@primitive
def expand_pairs(typing_context: Any, values: Any, index: Any, word: Any) -> tuple[Any, Build]:
    """BF16 as `expand` has it, not widened: 32 int32 lanes of two columns each, in order."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        packed = ir.VectorType(HALF, WEIGHTS)
        found = fetch(context, builder, signature.args[0], arguments[0], arguments[1], packed)
        return _as_pairs(builder, _expanded(builder, found, arguments[2]))

    return Lanes(types.int32, COLUMNS // 2)(values, types.intp, types.uint64), build


@primitive
def expand_some_pairs(
    typing_context: Any, values: Any, index: Any, word: Any, count: Any
) -> tuple[Any, Build]:
    """The same at the end of a row: reads only `count` weights, 0 to 32."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found = _some(context, builder, signature, arguments)
        return _as_pairs(builder, _expanded(builder, found, arguments[2]))

    kind = Lanes(types.int32, COLUMNS // 2)
    return kind(values, types.intp, types.uint64, types.intp), build


def _some(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """The first `count` of 32 weights, and zeros; nothing behind them is read."""
    array, index, _, count = arguments
    kind = signature.args[0].dtype
    vector = ir.VectorType(context.get_value_type(kind), WEIGHTS)
    start = pointer(context, builder, signature.args[0], array, index, vector)
    one = ir.Constant(LONG, 1)
    ones = builder.trunc(builder.sub(builder.shl(one, count), one), WORD)
    there = builder.bitcast(ones, ir.VectorType(BIT, WEIGHTS))
    align = ir.Constant(WORD, kind.bitwidth // 8)
    name = f"llvm.masked.load.v{WEIGHTS}{_short(vector.element)}.p0"
    return call(builder, name, vector, start, align, there, constant(vector, 0))


def _short(element: ir.Type) -> str:
    return "f32" if element == F32 else f"i{element.width}"


def _expanded(builder: Any, packed: Any, word: Any) -> list[Any]:
    """The 64 columns in parts of as many as fill a 512-bit register."""
    element = packed.type.element
    columns = 512 // (32 if element == F32 else element.width)
    parts = []
    for first in range(0, COLUMNS, columns):
        chosen = [first // 2 + i for i in range(columns // 2)] + [WEIGHTS] * (columns // 2)
        where = ir.Constant(ir.VectorType(WORD, columns), chosen)
        few = builder.shuffle_vector(packed, constant(packed.type, 0), where)
        bits = builder.trunc(builder.lshr(word, ir.Constant(LONG, first)), ir.IntType(columns))
        wide = ir.VectorType(element, columns)
        name = f"llvm.x86.avx512.mask.expand.v{columns}{_short(element)}"
        ones = builder.bitcast(bits, ir.VectorType(BIT, columns))
        parts.append(call(builder, name, wide, few, constant(wide, 0), ones))
    return parts


def _as_float32(builder: Any, parts: list[Any], kind: Any) -> Any:
    if kind == types.uint16:
        return joined(builder, *(_even_odd(builder, part) for part in parts))
    return widened(builder, joined(builder, *parts), kind, types.float32)


def _as_pairs(builder: Any, parts: list[Any]) -> Any:
    return joined(builder, *(builder.bitcast(part, ir.VectorType(WORD, 16)) for part in parts))


def _even_odd(builder: Any, vector: Any) -> Any:
    """32 BF16 -> float32, the even ones before the odd ones: a shift and an AND."""
    words = builder.bitcast(vector, ir.VectorType(WORD, 16))
    even = builder.shl(words, constant(words.type, 16))
    odd = builder.and_(words, constant(words.type, 0xFFFF0000))
    both = builder.shuffle_vector(even, odd, steps(32))
    return builder.bitcast(both, ir.VectorType(F32, 32))


class _Bfloat(ir.Type):  # type: ignore[misc]
    """LLVM's bfloat, which llvmlite does not name."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bfloat)

    def __hash__(self) -> int:
        return hash("bfloat")


@primitive
def dot_pairs(typing_context: Any, a: Any, b: Any, c: Any) -> tuple[Any, Build]:
    """c + the products of two pairs of BF16: a, b int32 lanes of two each, c float32.

    AVX-512 BF16.  Subnormal inputs and results count as zero.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pairs = ir.VectorType(_Bfloat(), 32)
        if llvmlite.binding.llvm_version_info < (16,):
            pairs = ir.VectorType(WORD, 16)
        results = []
        for first in range(0, c.count, 16):
            left, right, sums = (
                builder.shuffle_vector(value, value, steps(16, first)) for value in arguments
            )
            left, right = builder.bitcast(left, pairs), builder.bitcast(right, pairs)
            name = "llvm.x86.avx512bf16.dpbf16ps.512"
            results.append(call(builder, name, sums.type, sums, left, right))
        return joined(builder, *results)

    return c(a, b, c), build


@primitive
def pair(typing_context: Any, values: Any, index: Any, lanes: Any) -> tuple[Any, Build]:
    """values[index] and values[index + 1], BF16, as one int32 on every lane."""
    kind = Lanes(types.int32, lanes.literal_value)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found = fetch(context, builder, signature.args[0], arguments[0], arguments[1], WORD)
        return spread(builder, found, kind.count)

    return kind(values, types.intp, lanes), build


@primitive
def join(typing_context: Any, low: Any, high: Any) -> tuple[Any, Build]:
    """Two float32 vectors that are BF16 -> pairs of BF16, int32 lanes."""
    kind = Lanes(types.int32, low.count)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first, second = (builder.bitcast(value, kind.llvm) for value in arguments)
        return builder.or_(builder.lshr(first, constant(kind.llvm, 16)), second)

    return kind(low, high), build


if config.DISABLE_JIT:
    globals().update({name: getattr(vector_plain, name) for name in vector_plain.X86})
