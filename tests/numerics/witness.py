"""One interface over the witnesses of SPEC part 8, in plain data: arrays of bits in and out.

Every result is canonical (8.4). A test that takes `witness` runs over all of them:

    @every_numeric_witness
    def test_x(witness): ...
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import pytest

from conformance import naive
from nmref import NmrefError, SparseWeight, tensor
from nmref.dtypes import CONTAINER_DTYPES, Array
from nmref.linear import matmul
from nmref.numerics import fast, functions, plain, rope
from nmref.numerics.random import SplitMix64
from tests.witness import Bits, Parts, Rejected, Spec, as_array, weight_spec

NAN = 0x7FC00000
Scaling = tuple[float, float, float, int]
"""factor, low_freq_factor, high_freq_factor, original_max_position_embeddings."""


@dataclass(frozen=True, eq=False)
class Dense:
    """A weight that was never sparse: bits [R, K]."""

    dtype: str
    bits: Array


@dataclass(frozen=True, eq=False)
class Stored:
    """A sparse weight: what the metadata says of it, and its parts."""

    spec: Spec
    parts: Parts


Weight = Dense | Stored


def canonical(bits: Array) -> Array:
    """F32 bits by SPEC 8.4."""
    out = np.where(bits == 0x80000000, np.uint32(0), bits)
    return np.where(bits & 0x7FFFFFFF > 0x7F800000, np.uint32(NAN), out)


class Random(Protocol):
    """SPEC 8.26 and 8.27; centred gives the bits of its number."""

    def next(self) -> int: ...

    def uniform(self) -> float: ...

    def centred(self) -> int: ...

    def below(self, n: int) -> int: ...


class NumericWitness(Protocol):
    """What every witness can do. All arrays are of F32 bits, but for x of linear and its result
    with "i32". Each method raises Rejected and nothing else."""

    name: str

    def linear(self, profile: str, weight: Weight, x: Bits, threads: int = 1) -> Array:
        """[T, K] -> [T, R]; "i32" gives two's complement as unsigned integers."""

    def exp(self, x: Array) -> Array:
        """[n] -> [n]."""

    def silu(self, x: Array) -> Array:
        """[n] -> [n]."""

    def softmax(self, x: Array) -> Array:
        """[T, n] -> [T, n]."""

    def rms_norm(self, x: Array, gain: Array, eps: float) -> Array:
        """[T, n] and [n] -> [T, n]."""

    def tables(
        self, theta: float, d: int, start: int, count: int, scaling: Scaling | None = None
    ) -> tuple[Array, Array]:
        """Cosines and sines, each [count, d/2], of the positions start, start + 1, ...."""

    def turn(self, v: Array, cos: Array, sin: Array) -> Array:
        """[T, d] and two [T, d/2] -> [T, d]."""

    def random(self, seed: int) -> Random:
        """A generator of random numbers."""


class Naive:
    """conformance.naive: Python integers."""

    name = "naive"

    def linear(self, profile: str, weight: Weight, x: Bits, threads: int = 1) -> Array:
        dtype, tokens = x
        rows = self._weight(weight)
        with self._rejecting():
            got = [naive.linear(profile, rows, dtype, token) for token in tokens.tolist()]
        count = len(weight.bits) if isinstance(weight, Dense) else weight.spec["shape"][0]
        return np.array(got, dtype=np.uint32).reshape(len(tokens), count)

    def exp(self, x: Array) -> Array:
        return _u32([naive.exp(bits) for bits in x.tolist()])

    def silu(self, x: Array) -> Array:
        return _u32([naive.silu(bits) for bits in x.tolist()])

    def softmax(self, x: Array) -> Array:
        return _u32([naive.softmax(row) for row in x.tolist()])

    def rms_norm(self, x: Array, gain: Array, eps: float) -> Array:
        return _u32([naive.rms_norm(row, gain.tolist(), eps) for row in x.tolist()])

    def tables(
        self, theta: float, d: int, start: int, count: int, scaling: Scaling | None = None
    ) -> tuple[Array, Array]:
        cos, sin = naive.rope_tables(theta, d, start, count, scaling)
        return _u32(cos).reshape(count, d // 2), _u32(sin).reshape(count, d // 2)

    def turn(self, v: Array, cos: Array, sin: Array) -> Array:
        rows = zip(v.tolist(), cos.tolist(), sin.tolist(), strict=True)
        return _u32([naive.rope(*row) for row in rows])

    def random(self, seed: int) -> Random:
        generator: Random = naive.SplitMix64(seed)
        return generator

    def _weight(self, weight: Weight) -> Any:
        if isinstance(weight, Dense):
            return "dense", weight.dtype, weight.bits.tolist()
        return weight.spec, {s: (d, list(n), data) for s, (d, n, data) in weight.parts.items()}

    @contextmanager
    def _rejecting(self) -> Iterator[None]:
        try:
            yield
        except naive.Fault as fault:
            raise Rejected(fault.code, str(fault)) from None
        except ValueError as error:  # not a name of a profile
            raise Rejected("T_ARGUMENT", str(error)) from None


class Numba:
    """nmref as its callers get it: compiled loops (nmref.numerics.fast)."""

    name = "numba"
    twin: ModuleType = fast

    def linear(self, profile: str, weight: Weight, x: Bits, threads: int = 1) -> Array:
        dtype, tokens = x
        with self._rejecting():
            y = matmul(
                tokens.view(CONTAINER_DTYPES[dtype]),
                as_operand(weight),
                profile,
                twin=self.twin,
                threads=threads,
            )
        assert y.dtype == (np.int32 if profile == "i32" else np.float32)
        bits = np.ascontiguousarray(y).view(np.uint32)
        return bits if profile == "i32" else canonical(bits)

    def exp(self, x: Array) -> Array:
        return _bits(functions.exp(x.view(np.float32), twin=self.twin))

    def silu(self, x: Array) -> Array:
        return _bits(functions.silu(x.view(np.float32), twin=self.twin))

    def softmax(self, x: Array) -> Array:
        return _bits(functions.softmax(x.view(np.float32), twin=self.twin))

    def rms_norm(self, x: Array, gain: Array, eps: float) -> Array:
        values, gains = x.view(np.float32), gain.view(np.float32)
        return _bits(functions.rms_norm(values, gains, eps, twin=self.twin))

    def tables(
        self, theta: float, d: int, start: int, count: int, scaling: Scaling | None = None
    ) -> tuple[Array, Array]:
        cos, sin = rope.tables(as_rope(theta, d, scaling), start, count)
        return _bits(cos), _bits(sin)

    def turn(self, v: Array, cos: Array, sin: Array) -> Array:
        turned = rope.turn(v.view(np.float32)[None], cos.view(np.float32), sin.view(np.float32))
        return _bits(turned[0])

    def random(self, seed: int) -> Random:
        return _Bits(SplitMix64(seed))

    @contextmanager
    def _rejecting(self) -> Iterator[None]:
        try:
            yield
        except NmrefError as error:
            raise Rejected(str(error.code), str(error)) from error


class Numpy(Numba):
    """The readable twin (nmref.numerics.plain)."""

    name = "numpy"
    twin = plain


class _Bits:
    """nmref's generator with centred as bits."""

    def __init__(self, generator: SplitMix64) -> None:
        self.next, self.uniform, self.below = generator.next, generator.uniform, generator.below
        self._centred = generator.centred

    def centred(self) -> int:
        value = self._centred()
        assert isinstance(value, np.float32)
        return int(value.view(np.uint32))


NUMERIC_WITNESSES: list[NumericWitness] = [Naive(), Numpy(), Numba()]
every_numeric_witness = pytest.mark.parametrize(
    "witness", NUMERIC_WITNESSES, ids=[witness.name for witness in NUMERIC_WITNESSES]
)
naive_and_nmref = pytest.mark.parametrize("witness", [Naive(), Numba()], ids=["naive", "nmref"])
"""For what has no twins."""


def as_operand(weight: Weight) -> Array | SparseWeight:
    """A weight as matmul takes it."""
    if isinstance(weight, Dense):
        return weight.bits.view(CONTAINER_DTYPES[weight.dtype])
    arrays = {suffix: as_array(part) for suffix, part in weight.parts.items()}
    return tensor.from_parts(weight_spec(weight.spec), arrays)


def as_rope(theta: float, d: int, scaling: Scaling | None) -> rope.Rope:
    """A rope of nmref."""
    return rope.Rope(theta, d, None if scaling is None else rope.Llama3Scaling(*scaling))


def _u32(bits: Any) -> Array:
    return canonical(np.array(bits, dtype=np.uint32))


def _bits(values: Array) -> Array:
    assert values.dtype == np.float32
    return canonical(np.ascontiguousarray(values).view(np.uint32))
