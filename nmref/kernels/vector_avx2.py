"""Vector operations of CPUs with AVX2; LLVM stops where one is used on another CPU."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import config
from numba.core import types

from nmref.kernels import vector_plain
from nmref.kernels.lanes import (
    F32,
    LONG,
    WORD,
    Build,
    Lanes,
    call,
    constant,
    fetch,
    pointer,
    primitive,
    spread,
    steps,
)

COLUMNS = 16
"""Columns of a group."""

STORED = 8
"""Stored columns of it: a register of float32."""


@primitive
def nibbles(typing_context: Any, codes: Any, index: Any, groups: Any) -> tuple[Any, Build]:
    """The 8 numbers of 4 bits of codes[index], of codes[index + 1], ...: 8 int32 lanes each.

    codes is uint32, the lowest 4 bits first.  What lies above a lane's 4 bits is arbitrary.
    """
    kind = Lanes(types.int32, STORED * groups.literal_value)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        shifts = ir.Constant(ir.VectorType(WORD, STORED), [4 * i for i in range(STORED)])
        parts = []
        for i in range(groups.literal_value):
            place = builder.add(arguments[1], ir.Constant(LONG, i))
            code = fetch(context, builder, signature.args[0], arguments[0], place, WORD)
            parts.append(builder.lshr(spread(builder, code, STORED), shifts))
        return _joined(builder, parts)

    return kind(codes, types.intp, groups), build


@primitive
def choose(
    typing_context: Any, x: Any, index: Any, stride: Any, columns: Any, tokens: Any
) -> tuple[Any, Build]:
    """x[index + 16 g + t stride + columns], as `nibbles` gives the columns of groups g.

    The lanes of token t follow those of t - 1.
    """
    count, groups = tokens.literal_value, columns.count // STORED
    kind = Lanes(types.float32, columns.count * count)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        flat, index, stride, columns, _ = arguments
        parts = []
        for t in range(count):
            token = builder.add(index, builder.mul(stride, ir.Constant(LONG, t)))
            for g in range(groups):
                place = builder.add(token, ir.Constant(LONG, COLUMNS * g))
                start = pointer(context, builder, signature.args[0], flat, place, F32)
                which = builder.shuffle_vector(columns, columns, steps(STORED, STORED * g))
                parts.append(_chosen(builder, start, which))
        return _joined(builder, parts)

    return kind(x, types.intp, types.intp, columns, tokens), build


def _chosen(builder: Any, start: Any, which: Any) -> Any:
    """8 of 16 float32: a permutation looks at 3 bits only, so one of each half; bit 3 decides."""
    eight = ir.VectorType(F32, STORED)
    halves = []
    for first in (0, STORED):
        place = builder.gep(start, [ir.Constant(LONG, first)])
        half = builder.load(builder.bitcast(place, eight.as_pointer()))
        half.align = 4
        halves.append(call(builder, "llvm.x86.avx2.permps", eight, half, which))
    sign = builder.shl(which, constant(which.type, 28))
    upper = builder.icmp_signed("<", sign, constant(which.type, 0))
    return builder.select(upper, halves[1], halves[0])


def _joined(builder: Any, parts: list[Any]) -> Any:
    """Vectors of one length, one after another."""
    lanes = parts[0].type.count
    joined = parts[0]
    for i, vector in enumerate(parts[1:], 1):
        have = i * lanes
        padding = [*range(lanes), *[0] * (have - lanes)]
        wide = ir.Constant(ir.VectorType(WORD, have), padding)
        longer = builder.shuffle_vector(vector, vector, wide)
        joined = builder.shuffle_vector(joined, longer, steps(have + lanes))
    return joined


if config.DISABLE_JIT:
    globals().update({name: getattr(vector_plain, name) for name in vector_plain.AVX2})
