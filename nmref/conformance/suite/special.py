"""Dots with NaN, infinities and zeros in W and in x: part `dot-special` (SPEC 8.3 to 8.5)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from nmref.conformance.suite.cases import Case, Part
from nmref.conformance.suite.dots import FEW, SOME, dots
from nmref.conformance.suite.values import Chance, Json, matrix
from nmref.conformance.suite.weights import Block, Out, dense, weight_of

ONE, MINUS, INF, NAN, LARGE = 0x3F800000, 0x80000000, 0x7F800000, 0x7FC00000, 0x7F7FFFFF
NONFINITE_X = "nonfinite-x"
_FLAGS = ("zero-times-inf", "nan-lost", "inf-minus-inf")

_PAIRS: dict[str, tuple[list[int], list[int]]] = {
    "zero-weight-infinite-x": ([0, ONE], [INF, ONE]),
    "zero-weight-nan-x": ([0, ONE], [NAN, ONE]),
    "minus-zero-weight-infinite-x": ([MINUS, ONE], [INF, ONE]),
    "only-zero-weights": ([0, MINUS, 0], [INF, NAN, INF | MINUS]),
    "infinite-weight-zero-x": ([INF, ONE], [0, ONE]),
    "infinite-weight": ([INF, ONE], [ONE, ONE]),
    "infinite-weights-of-both-signs": ([INF, ONE, INF | MINUS], [ONE, ONE, ONE]),
    "infinities-agree": ([INF, ONE, INF | MINUS], [ONE, ONE, ONE | MINUS]),
    "nan-weight": ([0x7F800001, ONE], [ONE, ONE]),
    "nan-weight-zero-x": ([NAN, ONE], [0, ONE]),
    "nan-x": ([ONE, ONE], [ONE, 0xFFC00123]),
    "infinite-x": ([ONE, ONE], [INF | MINUS, ONE]),
    "infinite-x-of-both-signs": ([ONE, ONE, ONE], [INF, ONE, INF | MINUS]),
    "infinity-after-overflow": ([LARGE, LARGE, INF | MINUS], [LARGE, ONE, ONE]),
    "overflow-before-minus-infinity": ([LARGE, LARGE, ONE], [ONE, ONE, INF | MINUS]),
    "minus-zero-sum": ([ONE, ONE], [MINUS, MINUS]),
    "minus-zero-product-underflow": ([0x00000001 | MINUS], [0x00000001]),
}


def _flags(x: list[int]) -> tuple[str, ...]:
    infinite = any(bits & INF == INF for bits in x)
    return (*_FLAGS, NONFINITE_X) if infinite else _FLAGS


def _stored(pairs: Iterable[tuple[int, int]], fill: int) -> Json:
    """2:4 whose blocks hold one of the elements each and a stored zero at column `fill`."""
    row: list[Block] = [sorted([(2, bits), (fill, 0)]) for bits, _ in pairs]
    return weight_of([row], "2:4", "F32", 4 * len(row))


def _dense() -> Iterable[Case]:
    for name, (w, x) in _PAIRS.items():
        yield from dots(f"special/{name}", SOME, dense("F32", [w]), matrix("F32", [x]), _flags(x))


def _sparse() -> Iterable[Case]:
    """Infinite x at stored zeros, at columns without a slot, under outliers."""
    ones: list[Block] = [[(0, 0), (1, ONE)], [(2, ONE), (3, 0)]]
    finite, flags = [ONE] * 8, (*_FLAGS, NONFINITE_X)
    weight = weight_of([ones], "2:4", "F32", 8)
    for name, column in {"stored-zero": 0, "no-slot": 2, "stored-zero-last": 7}.items():
        x = [INF if c == column else bits for c, bits in enumerate(finite)]
        yield from dots(f"special/{name}", SOME, weight, matrix("F32", [x]), flags)
    over: list[Block] = [[(0, ONE | MINUS), (2, 0), (4, 0), (5, ONE)]]
    out = Out("4:256", "F32", "idx8")
    weight = weight_of([ones], "2:4", "F32", 8, None, out, [over])
    for name, column in {"zero-outlier": 2, "base-under-outlier": 0, "no-slot-at-all": 3}.items():
        x = [NAN if c == column else bits for c, bits in enumerate(finite)]
        yield from dots(f"special/outliers-{name}", SOME, weight, matrix("F32", [x]), flags)
    top: list[Block] = [[(0, 0), (1, INF)], [(2, ONE), (3, 0)]]
    over = [[(0, INF | MINUS), (2, 0), (4, 0), (5, ONE)]]
    weight = weight_of([top], "2:4", "F32", 8, None, out, [over])
    yield from dots("special/base-and-outlier-infinite", SOME, weight, matrix("F32", [finite]),
                    ("inf-minus-inf",))  # fmt: skip
    short = weight_of([[[(0, ONE), (1, 0), (2, 0), (3, 0)]]], "4:8", "F32", 1)
    yield from dots("special/virtual-slots", SOME, short, matrix("F32", [[ONE]]), ())


def _random() -> Iterable[Case]:
    values = [0, MINUS, ONE, ONE | MINUS, INF, INF | MINUS, NAN, LARGE, 1]
    for at, columns in product(range(3), (3, 17)):
        chance = Chance(f"dot special {at} {columns}")
        w = [[chance.pick(values[: 9 - 3 * (at % 2)]) for _ in range(columns)] for _ in range(4)]
        x = [chance.pick(values[: 9 if at == 2 else 4]) for _ in range(columns)]
        name = f"special/random-{at}-k{columns}"
        yield from dots(name, FEW, dense("F32", w), matrix("F32", [x]), _flags(x))


def dot_special() -> Part:
    """Part `dot-special`."""
    return Part("dot-special", [*_dense(), *_sparse(), *_random()])
