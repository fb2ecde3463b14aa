"""SIMD operations inside compiled kernels, on vectors of any length (lanes.Lanes).

So a kernel says `acc = fma(w, load(x, i, 128), acc)` and has eight accumulators.

The element type of an array of weights says how to read it: float32 is F32, uint16 BF16, int16 the
bits of F16, int8 I8.  Indices count elements; nothing is checked; a vector is read and written as a
whole.  `lanes` must be a constant.  All here runs on every CPU; vector_x86.py has the rest.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import config
from numba.core import cgutils, types

from nmref.kernels import vector_plain
from nmref.kernels.lanes import (
    BYTE,
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


@primitive
def zeros(typing_context: Any, like: Any, lanes: Any) -> tuple[Any, Build]:
    """+0 of the array's element type."""
    kind = Lanes(like.dtype, lanes.literal_value)
    return kind(like, lanes), lambda context, builder, signature, arguments: constant(kind.llvm, 0)


@primitive
def load(typing_context: Any, array: Any, index: Any, lanes: Any) -> tuple[Any, Build]:
    """array[index : index + lanes], float32 or int32."""
    kind = Lanes(array.dtype, lanes.literal_value)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return fetch(context, builder, signature.args[0], arguments[0], arguments[1], kind.llvm)

    return kind(array, types.intp, lanes), build


@primitive
def store(typing_context: Any, array: Any, index: Any, value: Any) -> tuple[Any, Build]:
    """array[index : index + lanes] = value."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target = pointer(
            context, builder, signature.args[0], arguments[0], arguments[1], value.llvm
        )
        builder.store(arguments[2], target).align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, value), build


@primitive
def weights(
    typing_context: Any, values: Any, index: Any, like: Any, lanes: Any
) -> tuple[Any, Build]:
    """values[index : index + lanes], widened exactly to the element type of `like`."""
    kind, element = Lanes(like.dtype, lanes.literal_value), values.dtype

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        packed = ir.VectorType(context.get_value_type(element), kind.count)
        found = fetch(context, builder, signature.args[0], arguments[0], arguments[1], packed)
        return widened(builder, found, element, kind.element)

    return kind(values, types.intp, like, lanes), build


@primitive
def scalar(typing_context: Any, values: Any, index: Any, like: Any) -> tuple[Any, Build]:
    """values[index], widened exactly to the element type of `like`."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        one = context.get_value_type(values.dtype)
        found = fetch(context, builder, signature.args[0], arguments[0], arguments[1], one)
        return widened(builder, found, values.dtype, like.dtype)

    return like.dtype(values, types.intp, like), build


@primitive
def item(typing_context: Any, array: Any, index: Any) -> tuple[Any, Build]:
    """array[index] as it is; an index is not negative, which Numba would test for each time."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(array.dtype)
        return fetch(context, builder, signature.args[0], arguments[0], arguments[1], kind)

    return array.dtype(array, types.intp), build


@primitive
def broadcast(typing_context: Any, value: Any, lanes: Any) -> tuple[Any, Build]:
    """A float32 or an int32 on every lane."""
    kind = Lanes(value, lanes.literal_value)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return spread(builder, arguments[0], kind.count)

    return kind(value, lanes), build


@primitive
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> tuple[Any, Build]:
    """a b + c, rounded once where the CPU can; modulo 2^32 for integers."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if c.element == types.int32:
            return builder.add(builder.mul(arguments[0], arguments[1]), arguments[2])
        return call(builder, f"llvm.fmuladd.v{c.count}f32", c.llvm, *arguments)

    return c(a, b, c), build


@primitive
def add(typing_context: Any, a: Any, b: Any) -> tuple[Any, Build]:
    """a + b, rounded; modulo 2^32 for integers."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return (builder.add if a.element == types.int32 else builder.fadd)(*arguments)

    return a(a, b), build


@primitive
def mul(typing_context: Any, a: Any, b: Any) -> tuple[Any, Build]:
    """a b, rounded."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fmul(*arguments)

    return a(a, b), build


@primitive
def tile(typing_context: Any, a: Any, times: Any) -> tuple[Any, Build]:
    """The vector, again and again; costs nothing, since registers are named more than once."""
    kind = Lanes(a.element, a.count * times.literal_value)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        chosen = [i % a.count for i in range(kind.count)]
        where = ir.Constant(ir.VectorType(WORD, kind.count), chosen)
        return builder.shuffle_vector(arguments[0], arguments[0], where)

    return kind(a, times), build


@primitive
def cat(typing_context: Any, a: Any, b: Any) -> tuple[Any, Build]:
    """The lanes of one vector behind those of the other; costs nothing either."""
    kind = Lanes(a.element, a.count + b.count)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return joined(builder, *arguments)

    return kind(a, b), build


@primitive
def part(typing_context: Any, a: Any, first: Any, lanes: Any) -> tuple[Any, Build]:
    """Lanes first, first + 1, ...; both are constants."""
    kind = Lanes(a.element, lanes.literal_value)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        where = steps(kind.count, first.literal_value)
        return builder.shuffle_vector(arguments[0], arguments[0], where)

    return kind(a, first, lanes), build


@primitive
def total(typing_context: Any, a: Any) -> tuple[Any, Build]:
    """The sum of the lanes, a power of two of them: halves are added until one is left."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rest, count = arguments[0], a.count
        add = builder.add if a.element == types.int32 else builder.fadd
        while count > 1:
            count //= 2
            first = builder.shuffle_vector(rest, rest, steps(count))
            last = builder.shuffle_vector(rest, rest, steps(count, count))
            rest = add(first, last)
        return builder.extract_element(rest, ir.Constant(WORD, 0))

    return a.element(a), build


@primitive
def gather(
    typing_context: Any, array: Any, index: Any, offsets: Any, at: Any, lanes: Any
) -> tuple[Any, Build]:
    """array[index + offsets[at + i]] in lane i; offsets are uint8."""
    kind = Lanes(array.dtype, lanes.literal_value)
    count = kind.count

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        flat, index, where, at, _ = arguments
        found = fetch(context, builder, signature.args[2], where, at, ir.VectorType(BYTE, count))
        start = pointer(context, builder, signature.args[0], flat, index, kind.llvm.element)
        result = ir.Constant(kind.llvm, ir.Undefined)
        for i in range(count):
            place = ir.Constant(WORD, i)
            offset = builder.zext(builder.extract_element(found, place), LONG)
            value = builder.load(builder.gep(start, [offset]))
            value.align = 4
            result = builder.insert_element(result, value, place)
        return result

    return kind(array, types.intp, offsets, types.intp, lanes), build


@primitive
def transpose(
    typing_context: Any, source: Any, at: Any, stride: Any, target: Any, to: Any, step: Any
) -> tuple[Any, Build]:
    """target[to + j step + i] = source[at + i stride + j], i and j < 16; 32-bit elements."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        flat, at, stride, out, to, step = arguments
        rows = ir.VectorType(context.get_value_type(source.dtype), 16)
        vectors = []
        for i in range(16):
            where = builder.add(at, builder.mul(stride, ir.Constant(LONG, i)))
            found = fetch(context, builder, signature.args[0], flat, where, rows)
            vectors.append(widened(builder, found, source.dtype, target.dtype))
        for i, vector in enumerate(_transposed(builder, vectors)):
            where = builder.add(to, builder.mul(step, ir.Constant(LONG, i)))
            place = pointer(context, builder, signature.args[3], out, where, vector.type)
            builder.store(vector, place).align = 4
        return context.get_dummy_value()

    indices = (types.intp, types.intp)
    return types.void(source, *indices, target, *indices), build


def _transposed(builder: Any, vectors: list[Any]) -> list[Any]:
    """16 vectors of 16 -> their transpose: row bits and lane bits change places one by one."""
    for bit in (1, 2, 4, 8):
        lower = [i if not i & bit else 16 + (i ^ bit) for i in range(16)]
        upper = [i | bit if not i & bit else 16 + i for i in range(16)]
        masks = [ir.Constant(ir.VectorType(WORD, 16), chosen) for chosen in (lower, upper)]
        mixed = list(vectors)
        for i in range(16):
            if not i & bit:
                pair = vectors[i], vectors[i | bit]
                mixed[i] = builder.shuffle_vector(*pair, masks[0])
                mixed[i | bit] = builder.shuffle_vector(*pair, masks[1])
        vectors = mixed
    return vectors


@primitive
def prefetch(typing_context: Any, array: Any, index: Any, near: Any) -> tuple[Any, Build]:
    """Ask for the cache line of array[index], 3: first-level cache, 2: second."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = pointer(context, builder, signature.args[0], arguments[0], arguments[1], BYTE)
        kind = ir.FunctionType(ir.VoidType(), [start.type, WORD, WORD, WORD])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        for_reading, keep, data = (ir.Constant(WORD, value) for value in (0, near.literal_value, 1))
        builder.call(function, [start, for_reading, keep, data])
        return context.get_dummy_value()

    return types.void(array, types.intp, near), build


@primitive
def claim(typing_context: Any, counter: Any, step: Any) -> tuple[Any, Build]:
    """counter[0] as it was before `step` was added: no other thread gets the same."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zero = ir.Constant(LONG, 0)
        place = pointer(context, builder, signature.args[0], arguments[0], zero, LONG)
        return builder.atomic_rmw("add", place, arguments[1], "seq_cst")

    return types.int64(counter, types.int64), build


if config.DISABLE_JIT:
    globals().update({name: getattr(vector_plain, name) for name in vector_plain.VECTOR})
