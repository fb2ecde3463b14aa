"""Broken authors, one or more for each flag of the vectors: the flag's cases have to catch them.

Those of the format are the mutants of tests/testing; those of the arithmetic are the naive witness
with one function replaced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from conformance import author as naive_author
from conformance.author import Naive, bits_of, rows_of
from conformance.naive import angles, decoder, dots, floats, functions, llama, splitmix
from conformance.naive.floats import add32, fma32, mul32, rn32

Json = dict[str, Any]
Patch = tuple[Any, str, Any]


@contextmanager
def patched(patches: list[Patch]) -> Iterator[None]:
    """Functions replaced for a while."""
    old = [(module, name, getattr(module, name)) for module, name, _ in patches]
    try:
        for module, name, value in patches:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in old:
            setattr(module, name, value)


class Patched:
    """The naive author under patches."""

    def __init__(self, *patches: Patch) -> None:
        self.patches = list(patches)

    def __getattr__(self, op: str) -> Callable[[Json], Json]:
        method = getattr(Naive(), op)

        def run(given: Json) -> Json:
            with patched(self.patches):
                found: Json = method(given)
            return found

        return run


# -- dots


def chain(fused: bool) -> Callable[..., float]:
    return lambda row, x, *_: dots_chain(row, x, fused)


dots_chain, dots_f64, dots_exact, dots_group = (
    dots.f32_chain, dots.f64_seq, dots.exact, dots.tc_group,
)  # fmt: skip
parse_profile, rounded = dots.parse_profile, floats.rounded


def last_first(function: Callable[..., float]) -> Callable[..., float]:
    return lambda row, x, *more: function(row[::-1], x, *more)


def with_profile(change: Callable[[Any], dict[str, Any]]) -> Patch:
    def parse(name: str) -> Any:
        found = parse_profile(name)
        return found._replace(**change(found)) if found.kind == "tc" else found

    return dots, "parse_profile", parse


def other_order(split: bool) -> Patch:
    return dots, "parse_profile", lambda name: parse_profile(name)._replace(split=split, slot=False)


def lanes_in_order(profile: Any, row: Any, x: list[float]) -> float:
    total = 0.0
    for lane in range(profile.lanes):
        terms = [term for term in row if term[1] % profile.lanes == lane]
        total = add32(total, dots_chain(terms, x, profile.fused))
    return total


def lanes_by_term(profile: Any, row: Any, x: list[float]) -> float:
    numbered = [(c, i, w) for i, (c, _, w) in enumerate(row)]
    return f32_lanes(profile, numbered, x)


f32_lanes = dots.f32_lanes


def plain_group(profile: Any, group: Any, x: list[float], acc: float) -> float:
    for c, _, w in group:
        acc = fma32(w, x[c], acc)
    return acc


def group_then_sum(profile: Any, group: Any, x: list[float], acc: float) -> float:
    return add32(acc, dots_group(profile, group, x, 0.0))


def each_rounded(profile: Any, group: Any, x: list[float], acc: float) -> float:
    for term in group:
        acc = dots_group(profile, [term], x, acc)
    return acc


def normalised(profile: Any, group: Any, x: list[float], acc: float) -> float:
    """Exponents of the products themselves."""
    decided = dots.special(group, x, acc)
    if decided is not None:
        return decided
    counts = [dots.units(w) * dots.units(x[c]) for c, _, w in group if x[c] != 0]
    counts += [dots.units(acc) << 149] if acc else []
    if not counts:
        return 0.0
    unit = max(dots.exponent_of(count, -298) for count in counts) - profile.fraction
    total = sum(dots.to_integer(count, unit + 298, profile.round_in) for count in counts)
    return rounded(total, unit, mode=profile.round_out)


def saturating(number: int, exponent: int, *form: Any, mode: str = "rne") -> float:
    found = rounded(number, exponent, *form, mode=mode)
    if mode == "rz" and math.isinf(found):
        return math.copysign((2.0 - 2.0**-23) * 2.0**127, found)
    return found


def double_fma(a: float, b: float, addend: float) -> float:
    return rn32(a * b + addend)


def double_exact(row: Any, x: list[float]) -> float:
    decided = dots.special(row, x)
    return rn32(math.fsum(w * x[c] for c, _, w in row)) if decided is None else decided


def flushed(number: int, exponent: int, *form: Any, mode: str = "rne") -> float:
    found = rounded(number, exponent, *form, mode=mode)
    return math.copysign(0.0, found) if abs(found) < 2.0**-126 else found


class ScaleAfter(Naive):
    """I8 without outliers: the sum of integers, then times the scale."""

    def dot(self, given: Json) -> Json:
        if given["weight"]["spec"]["dtype"] != "I8" or given["weight"]["spec"]["outliers"]:
            return super().dot(given)
        scale = [floats.value("F32", b) for b in bits_of(given["weight"]["parts"]["nm_scale"])]
        integers: list[Patch] = [
            (dots, "scaled", lambda b, s: floats.canonical_bits(float(dots.signed(b)))),
            (decoder, "scaled", lambda b, s: floats.canonical_bits(float(dots.signed(b)))),
        ]
        with patched(integers):
            found = super().dot(given)["y"]
        values = [floats.value("F32", b) for b in bits_of(found)]
        scaled = [mul32(v, scale[i % len(scale)]) for i, v in enumerate(values)]
        return {"y": naive_author.array("F32", found["shape"], [
            floats.canonical_bits(v) for v in scaled])}  # fmt: skip


class Saturating(Naive):
    def dot(self, given: Json) -> Json:
        with patched([(dots, "i32", clipped)]):
            return super().dot(given)


def clipped(weight: Any, x_dtype: str, x: list[int]) -> list[int]:
    base, _ = dots.slots(*weight)
    found = []
    for row in base:
        real = [(c, bits) for block in row for c, bits in block if c < len(x)]
        total = sum(dots.signed(bits) * dots.signed(x[c]) for c, bits in real)
        found.append(max(-(2**31), min(total, 2**31 - 1)) % 2**32)
    return found


# -- functions

exp_number, softmax_numbers = functions.exp_number, functions.softmax_numbers


def fresh() -> Patch:
    """Frequencies with a cache of their own."""
    return angles, "frequencies", lru_cache(maxsize=64)(angles.frequencies.__wrapped__)


cos_sin, enclose_power = angles.cos_sin, angles.enclose_power


def exp_by(make: Callable[[float], float]) -> Patch:
    """exp of finite numbers between the thresholds by another way."""

    def other(x: float) -> float:
        return exp_number(x) if not math.isfinite(x) or abs(x) > 80 else rn32(make(x))

    return functions, "exp_number", other


def reduced(x: float) -> float:
    k = math.floor(x / math.log(2) + 0.5)
    r = rn32(x - rn32(k * rn32(math.log(2))))
    return math.exp(r) * 2.0**k


def early(x: float) -> float:
    return math.inf if x > 88.5 else 0.0 if x < -87.5 else exp_number(x)


def softmax_by(without_max: bool = False, narrow: bool = False, reciprocal: bool = False) -> Patch:
    def softmax(xs: list[float]) -> list[float]:
        largest = 0.0 if without_max else max(xs)
        e = [functions.exp_number(add32(x, -largest)) for x in xs]
        total = 0.0
        for term in e:
            total = add32(total, term) if narrow else total + term
        total = rn32(total)
        if reciprocal:
            return [mul32(term, functions.div32(1.0, total)) for term in e]
        return [functions.div32(term, total) for term in e]

    return functions, "softmax_numbers", softmax


def rms_by(kind: str) -> Patch:
    def rms_norm(xs: list[float], gains: list[float], eps: float) -> list[float]:
        acc = 0.0
        for x in xs:
            acc = add32(acc, mul32(x, x)) if kind == "sum" else acc + x * x
        mean = acc / len(xs)
        inside = math.sqrt(mean) + eps if kind == "eps" else math.sqrt(mean + eps)
        if kind == "rsqrt":
            inside = rn32(inside)
        s = rn32(functions.ieee_divide(1.0, inside))
        if kind == "product":
            return [mul32(x, mul32(s, g)) for x, g in zip(xs, gains, strict=True)]
        return [mul32(mul32(x, s), g) for x, g in zip(xs, gains, strict=True)]

    return functions, "rms_norm_numbers", rms_norm


def sigmoid(x: float) -> float:
    return mul32(x, functions.div32(1.0, add32(1.0, exp_number(-x))))


def narrow_angles(theta: float, d: int, scaling: Any, position: int, i: int) -> tuple[int, int]:
    angle = rn32(position * rn32(theta ** (-2 * i / d)))
    return floats.canonical_bits(rn32(math.cos(angle))), floats.canonical_bits(
        rn32(math.sin(angle))
    )


def rope_by(kind: str) -> list[Patch]:
    def turn(v: list[float], cos: list[float], sin: list[float]) -> list[float]:
        half = len(v) // 2
        if kind == "interleaved":
            order = [*range(0, len(v), 2), *range(1, len(v), 2)]
            turned = rope_numbers([v[i] for i in order], cos, sin)
            return [turned[i // 2 + (i % 2) * half] for i in range(len(v))]
        if kind == "other way":
            return rope_numbers(v, cos, [-s for s in sin])
        low = [add32(mul32(v[i], cos[i]), -mul32(v[i + half], sin[i])) for i in range(half)]
        high = [add32(mul32(v[i + half], cos[i]), mul32(v[i], sin[i])) for i in range(half)]
        return low + high

    return [(angles, "rope_numbers", turn), (llama, "rope_numbers", turn)]


rope_numbers = angles.rope_numbers


class Argmax(Naive):
    def __init__(self, take: Callable[[list[int]], int]) -> None:
        self.take = take

    def argmax(self, given: Json) -> Json:
        return {"index": [self.take(row) for row in rows_of(given["x"])]}


def last(row: list[int]) -> int:
    numbers = [floats.value("F32", bits) for bits in row]
    return max(range(len(row)), key=lambda i: (numbers[i], i))


def as_integers(row: list[int]) -> int:
    signed = [bits - 2**32 if bits >> 31 else bits for bits in row]
    return signed.index(max(signed))


class OutputFirst(splitmix.SplitMix64):
    def next(self) -> int:
        old = splitmix.SplitMix64(0)
        old.state = (self.state - 0x9E3779B97F4A7C15) & splitmix.MASK
        self.state = (self.state + 0x9E3779B97F4A7C15) & splitmix.MASK
        return old.next()


def generator(**methods: Any) -> Patch:
    made = type("Other", (splitmix.SplitMix64,), methods)
    return naive_author.naive, "SplitMix64", made


# -- forward


def allowed(window: int, future: int) -> Patch:
    def seen(self: Any, t: int) -> range:
        size = self.config.get("sliding_window")
        first = 0 if size is None else max(0, t - size + 1 + window)
        return range(first, max(first + 1, t + 1 - future))

    return llama.Forward, "allowed", seen


def mixed_heads(self: Any, rows: list[Any], h: int) -> list[Any]:
    """Key/value head h mod G for query head h."""
    if len(rows[0]) == self.heads * self.size:
        self.asked = h
    else:
        h = self.asked % self.groups
    return [row[h * self.size : (h + 1) * self.size] for row in rows]


def lost(operation: Any, a: list[Any], b: list[Any]) -> list[Any]:
    return b if operation is add32 else each(operation, a, b)


each = llama.each

NUMERIC: dict[str, Any] = {
    "zero-times-inf": Patched((dots, "nonzero", list)),
    "nan-lost": Patched(
        (dots, "canonical_bits", lambda v: 0 if v != v else floats.canonical_bits(v)),
        (functions, "canonical_bits", lambda v: 0 if v != v else floats.canonical_bits(v)),
    ),
    "inf-minus-inf": Patched(
        (dots, "special", lambda row, x, a=0.0: next(
            (w * x[c] for c, _, w in row if not floats.finite(w, x[c])),
            None if floats.finite(a) else a)),
    ),
    "f64-accumulator": Patched(
        (dots, "exact", dots_f64), (dots, "f32_chain", lambda row, x, fused: dots_f64(row, x))
    ),
    "f32-accumulator": Patched((dots, "exact", chain(True)), (dots, "f64_seq", chain(True))),
    "pairwise-sum": Patched(
        (dots, "f64_seq", last_first(dots_f64)), (dots, "f32_chain", last_first(dots_chain))
    ),
    "fma-contracted": Patched((dots, "f32_chain", chain(True))),
    "fma-not-fused": Patched((dots, "f32_chain", chain(False))),
    "double-rounding": Patched((dots, "fma32", double_fma), (dots, "exact", double_exact)),
    "lanes-added-in-order": Patched((dots, "f32_lanes", lanes_in_order)),
    "lane-of-term": Patched((dots, "f32_lanes", lanes_by_term)),
    "sequential-for-lanes": Patched(
        (dots, "f32_lanes", lambda p, row, x: dots_chain(row, x, p.fused))
    ),
    "tc-by-f32-sums": Patched((dots, "tc_group", plain_group)),
    "tc-other-fraction": Patched(with_profile(lambda p: {"fraction": p.fraction + 1})),
    "tc-other-rounding": Patched(
        with_profile(lambda p: {"round_in": {"rz": "rne", "rne": "rz", "rd": "rz"}[p.round_in]})
    ),
    "tc-group-size": Patched(with_profile(lambda p: {"lanes": 2 * p.lanes})),
    "tc-terms-normalised": Patched((dots, "tc_group", normalised)),
    "tc-accumulator-last": Patched((dots, "tc_group", group_then_sum)),
    "tc-rz-saturates": Patched((dots, "rounded", saturating)),
    "tc-each-rounded": Patched((dots, "tc_group", each_rounded)),
    "slot-for-col": Patched(with_profile(lambda p: {"slot": True, "split": True})),
    "col-for-slot": Patched(with_profile(lambda p: {"slot": False})),
    "merged-for-split": Patched(other_order(False)),
    "split-for-merged": Patched(other_order(True)),
    "scale-after-sum": ScaleAfter(),
    "i32-scaled": Patched((dots, "signed", lambda bits: bits)),
    "i32-saturates": Saturating(),
    "exp-not-exact": Patched(exp_by(lambda x: math.exp(x) * (1 - 2.0**-25))),
    "exp-f32-reduction": Patched(exp_by(reduced)),
    "exp-in-f64-only": Patched(exp_by(lambda x: math.exp(x) * (1 + 2.0**-50))),
    "exp-early-overflow": Patched((functions, "exp_number", early)),
    "silu-by-sigmoid": Patched((functions, "silu_number", sigmoid)),
    "softmax-without-max": Patched(softmax_by(without_max=True)),
    "softmax-f32-sum": Patched(softmax_by(narrow=True)),
    "softmax-by-reciprocal": Patched(softmax_by(reciprocal=True)),
    "rms-f32-sum": Patched(rms_by("sum")),
    "rms-eps-outside": Patched(rms_by("eps")),
    "rms-one-product": Patched(rms_by("product")),
    "rms-by-rsqrt": Patched(rms_by("rsqrt")),
    "rope-f32-angles": Patched((angles, "cos_sin", narrow_angles)),
    "rope-position-from-one": Patched(
        (angles, "cos_sin", lambda t, d, s, p, i: cos_sin(t, d, s, p + 1, i))
    ),
    "rope-frequency-off": Patched(
        fresh(),
        (angles, "enclose_power", lambda t, e, b: enclose_power(t, e / 2, b))
    ),
    "rope-llama3-ignored": Patched(fresh(), (angles, "scale", lambda f, scaling, bits: f)),
    "rope-interleaved": Patched(*rope_by("interleaved")),
    "rope-f32-products": Patched(*rope_by("products")),
    "rope-other-way": Patched(*rope_by("other way")),
    "argmax-takes-the-last": Argmax(last),
    "argmax-of-bits": Argmax(as_integers),
    "splitmix-output-first": Patched((naive_author.naive, "SplitMix64", OutputFirst)),
    "centred-rounded": Patched(generator(centred_count=lambda s: (s.next() >> 41) * 2 - 2**23)),
    "uniform-of-32-bits": Patched(generator(uniform=lambda s: (s.next() >> 32) * 2.0**-32)),
    "attention-mask-off-by-one": Patched(allowed(0, 1)),
    "window-off-by-one": Patched(allowed(1, 0)),
    "kv-heads-mixed": Patched((llama.Forward, "head", mixed_heads)),
    "residual-lost": Patched((llama, "each", lost)),
}  # fmt: skip
"""Flag -> the naive author with that bug."""

FLUSH = Patched((floats, "rounded", flushed), (dots, "rounded", flushed))
"""subnormal-flushed, in arithmetic."""
