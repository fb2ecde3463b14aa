"""The vector type of compiled kernels, and how LLVM is told what its operations do.

Numba has no vector type.  `Lanes` is one: a value of any number of float32 or int32 lanes, which
LLVM spreads over as many registers as it takes: 128 lanes are eight of AVX-512, sixteen of AVX2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

from nmref.kernels import isa

Build = Callable[..., Any]

BIT, BYTE, HALF, WORD, LONG = (ir.IntType(width) for width in (1, 8, 16, 32, 64))
F16, F32 = ir.HalfType(), ir.FloatType()


class Lanes(types.Type):
    """The type of a vector value: `element` is float32 or int32."""

    def __init__(self, element: Any, count: int) -> None:
        self.element, self.count = element, count
        self.llvm = ir.VectorType(F32 if element == types.float32 else WORD, count)
        super().__init__(name=f"{element}x{count}")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        super().__init__(manager, kind, kind.llvm)


def primitive(describe: Callable[..., Any]) -> Any:
    """An operation that kernels call; `describe` says its types and how LLVM does it."""
    return intrinsic(prefer_literal=True)(describe)


def constant(kind: ir.VectorType, value: float) -> ir.Constant:
    """The same number in every lane."""
    return ir.Constant(kind, [value] * kind.count)


def steps(count: int, first: int = 0) -> ir.Constant:
    """first, first + 1, ...: the lanes that a shuffle takes."""
    return ir.Constant(ir.VectorType(WORD, count), [first + i for i in range(count)])


def call(builder: Any, name: str, result: ir.Type, *arguments: Any) -> Any:
    """A call of one of LLVM's own functions."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any, to: ir.Type) -> Any:
    """The address of array[index] as one of a `to`."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), to.as_pointer())


def fetch(context: Any, builder: Any, kind: Any, array: Any, index: Any, to: ir.Type) -> Any:
    """A `to` from the address of any element."""
    value = builder.load(pointer(context, builder, kind, array, index, to))
    value.align = kind.dtype.bitwidth // 8
    return value


def spread(builder: Any, scalar: Any, count: int) -> Any:
    """One scalar on every lane."""
    undefined = ir.Constant(ir.VectorType(scalar.type, count), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(WORD, 0))
    return builder.shuffle_vector(first, undefined, constant(ir.VectorType(WORD, count), 0))


def joined(builder: Any, *vectors: Any) -> Any:
    """Vectors of one element type, one behind the other."""
    if len(vectors) > 2:
        half = len(vectors) // 2
        vectors = joined(builder, *vectors[:half]), joined(builder, *vectors[half:])
    if len(vectors) == 1:
        return vectors[0]
    counts = [vector.type.count for vector in vectors]
    size = max(counts)
    grown = [
        vector
        if count == size
        else builder.shuffle_vector(
            vector,
            vector,
            ir.Constant(ir.VectorType(WORD, size), [min(i, count - 1) for i in range(size)]),
        )
        for vector, count in zip(vectors, counts, strict=True)
    ]
    chosen = [*range(counts[0]), *range(size, size + counts[1])]
    return builder.shuffle_vector(*grown, ir.Constant(ir.VectorType(WORD, len(chosen)), chosen))


def shaped(element: ir.Type, like: ir.Type) -> ir.Type:
    """`element` as a scalar or a vector, whichever `like` is."""
    return ir.VectorType(element, like.count) if isinstance(like, ir.VectorType) else element


def widened(builder: Any, weights: Any, kind: Any, element: Any) -> Any:
    """Weights of an array type's element `kind`, scalar or vector, as float32 or int32, exactly."""
    target = shaped(F32 if element == types.float32 else WORD, weights.type)
    if kind == element:
        return weights
    if kind == types.int8:
        wide = shaped(WORD, weights.type)
        integers = builder.sext(weights, wide)
        return integers if element == types.int32 else builder.sitofp(integers, target)
    if kind == types.int16:
        if isa.has("f16c") or not isa.is_x86():
            return builder.fpext(builder.bitcast(weights, shaped(F16, weights.type)), target)
        return half(builder, weights)
    assert kind == types.uint16, kind
    words = builder.zext(weights, shaped(WORD, weights.type))
    sixteen = constant(words.type, 16) if words.type != WORD else ir.Constant(WORD, 16)
    return builder.bitcast(builder.shl(words, sixteen), target)


def half(builder: Any, bits: Any) -> Any:
    """F16 -> float32 without F16C, where LLVM would call a function that is not there.

    Its fields, moved up, are a float32 that is 2^112 too small: exact, for subnormals too.
    """
    kind, target = shaped(WORD, bits.type), shaped(F32, bits.type)
    value = {name: _same(kind, number) for name, number in _HALF.items()}
    words = builder.zext(bits, kind)
    fields = builder.shl(builder.and_(words, value["fields"]), value["up"])
    scaled = builder.fmul(builder.bitcast(fields, target), _same(target, 2.0**112))
    found = builder.bitcast(scaled, kind)
    special = builder.icmp_unsigned(">=", fields, value["infinity"])
    found = builder.or_(found, builder.select(special, value["exponent"], _same(kind, 0)))
    sign = builder.shl(builder.and_(words, value["sign"]), value["high"])
    return builder.bitcast(builder.or_(found, sign), target)


_HALF = {
    "fields": 0x7FFF,
    "up": 13,
    "infinity": 0x7C00 << 13,
    "exponent": 0x7F800000,
    "sign": 0x8000,
    "high": 16,
}


def _same(kind: ir.Type, value: float) -> ir.Constant:
    return constant(kind, value) if isinstance(kind, ir.VectorType) else ir.Constant(kind, value)
