"""Dots and exp as SPEC part 8 states them: the readable twin.  `fast` has the same functions.

Sequential profiles are loops over the columns, with NumPy for all outputs at once; the order
within one output is what counts.  `exact` and `tc` are Python integers, as large as they get.

Arguments: weight [R, K] and x [T, K] float32; terms exist for begin[t] <= column < end[t]
(begin, end [T]); results are [T, R] float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from nmref.numerics import fixed
from nmref.numerics.profile import Profile, Rounding

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int8]
I32 = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]

Floats = F32 | F64
Add = Callable[[Any, F32, F32], Any]
Terms = list[tuple[np.float32, np.float32]]
"""(weight, x) of every term of a sum."""

Number = tuple[int, int]
"""A finite number, significand * 2^exponent, its significand having 24 bits; zero is (0, 0)."""


def dots(weight: F32, x: F32, begin: Ints, end: Ints, profile: Profile, threads: int) -> F32:
    """y[t, r] = the dot of row r of W and x[t], of every profile but i32."""
    if profile.kind == "tc":
        columns = np.arange(weight.shape[1])[None, :]
        return tc(weight, columns, x, begin, end, profile, threads)
    if profile.kind == "exact":
        return _each(weight, x, begin, end, _exact)
    wide = profile.kind == "f64.seq"
    zero = np.zeros((len(x), len(weight)), dtype=np.float64 if wide else np.float32)  # [T, R]
    if profile.kind == "f32.lanes":
        return _lanes(weight, x, begin, end, zero, profile)
    add = _add_f64 if wide else _add_fma if profile.kind == "f32.fma" else _add_f32
    with np.errstate(over="ignore"):
        acc = _sequential(weight, x, begin, end, zero, add, slice(None))
        return acc.astype(np.float32)


def _sequential(
    weight: F32, x: F32, begin: Ints, end: Ints, zero: Floats, add: Add, columns: slice
) -> Floats:
    """One accumulator an output, columns ascending (SPEC 8.7 to 8.9)."""
    acc = zero
    with np.errstate(all="ignore"):  # infinities and NaN are results like others
        for c in range(weight.shape[1])[columns]:
            term = (weight[:, c] != 0) & ((begin <= c) & (c < end))[:, None]  # [T, R]
            acc = np.where(term, add(acc, weight[:, c], x[:, c, None]), acc)
    return acc


def _add_f64(acc: Floats, w: F32, x: F32) -> Floats:
    return acc + w.astype(np.float64) * x.astype(np.float64)


def _add_f32(acc: Floats, w: F32, x: F32) -> Floats:
    return acc + w * x


def _add_fma(acc: Floats, w: F32, x: F32) -> Floats:
    """RN32(acc + w * x): the exact sum is s + e in binary64, and s is made odd if e is not 0."""
    p, a = w.astype(np.float64) * x.astype(np.float64), acc.astype(np.float64)
    s = p + a
    b = s - p
    e = (p - (s - b)) + (a - b)
    even = s.view(np.int64) % 2 == 0
    odd = np.nextafter(s, np.where(e > 0, np.inf, -np.inf))
    return np.where(even & ((e > 0) | (e < 0)), odd, s).astype(np.float32)


def _lanes(weight: F32, x: F32, begin: Ints, end: Ints, zero: Floats, profile: Profile) -> F32:
    """SPEC 8.10."""
    add = _add_fma if profile.fused else _add_f32
    lanes = [
        _sequential(weight, x, begin, end, zero, add, slice(lane, None, profile.size))
        for lane in range(profile.size)
    ]
    with np.errstate(all="ignore"):
        while len(lanes) > 1:
            half = len(lanes) // 2
            lanes = [low + high for low, high in zip(lanes[:half], lanes[half:], strict=True)]
    return lanes[0].astype(np.float32)


def _each(weight: F32, x: F32, begin: Ints, end: Ints, dot: Callable[[Terms], np.float32]) -> F32:
    """One output after the other: dot(its terms)."""
    y = np.zeros((len(x), len(weight)), dtype=np.float32)
    for t in range(len(x)):
        for r in range(len(weight)):
            chosen = range(int(begin[t]), int(end[t]))
            y[t, r] = dot([(weight[r, c], x[t, c]) for c in chosen if weight[r, c] != 0])
    return y


def _exact(terms: Terms) -> np.float32:
    """SPEC 8.6: all products as integers, in units of 2^-298."""
    special = _special_rule(terms, np.float32(0))
    if special is not None:
        return special
    total = 0
    for w, x in terms:
        (m, e), (n, f) = _number(w), _number(x)
        total += _shifted(m * n, e + f + 298)
    return _rounded(total, -298, "rne")


def _special_rule(terms: Terms, accumulator: np.float32) -> np.float32 | None:
    """SPEC 8.5; None where every operand is finite."""
    if all(np.isfinite(w) and np.isfinite(x) for w, x in terms) and np.isfinite(accumulator):
        return None
    with np.errstate(invalid="ignore"):  # products of numbers with sign and class kept
        classes = [_class(w) * _class(x) for w, x in terms]
        return np.float32(sum([*classes, _class(accumulator)]))


def _class(value: np.float32) -> float:
    """The value, if it is zero, infinite or NaN; else 1 or -1, so that nothing can overflow."""
    return math.copysign(1.0, value) if np.isfinite(value) and value != 0 else float(value)


def tc(
    values: F32, columns: Ints, x: F32, begin: Ints, end: Ints, profile: Profile, threads: int
) -> F32:
    """SPEC 8.12, over slots: values [R, S], columns [R, S] or [1, S]."""
    y = np.zeros((len(x), len(values)), dtype=np.float32)
    where = np.broadcast_to(columns, values.shape)
    for t in range(len(x)):
        for r in range(len(values)):
            for first in range(0, values.shape[1], profile.size):
                group = slice(first, first + profile.size)
                terms = [
                    (w, x[t, c])
                    for w, c in zip(values[r, group], where[r, group], strict=True)
                    if w != 0 and begin[t] <= c < end[t]
                ]
                if terms:
                    y[t, r] = _group(terms, y[t, r], profile)
    return y


def _group(terms: Terms, a: np.float32, profile: Profile) -> np.float32:
    """SPEC 8.13: the accumulator after one group."""
    special = _special_rule(terms, a)
    if special is not None:
        return special
    parts = []  # significand * 2^exponent, and the exponent E that counts
    for w, x in terms:
        (m, e), (n, f) = _number(w), _number(x)
        if n:
            parts.append((m * n, e + f, e + f + 46))
    m, e = _number(a)
    if m:
        parts.append((m, e, e + 23))
    if not parts:
        return np.float32(0)
    unit = max(exponent for _, _, exponent in parts) - profile.fraction
    total = sum(_in_units(m, e - unit, profile.inner) for m, e, _ in parts)
    return _rounded(total, unit, profile.outer)


def _number(value: np.float32) -> Number:
    """A finite number as significand and exponent: 24 bits, subnormals too."""
    significand, exponent = math.frexp(value)  # 0.5 <= |significand| < 1
    return (int(significand * 2**24), exponent - 24) if significand else (0, 0)


def _shifted(m: int, shift: int) -> int:
    """m * 2^shift, an integer."""
    return m << shift if shift >= 0 else m >> -shift


def _in_units(m: int, shift: int, rounding: Rounding) -> int:
    """m * 2^shift rounded to an integer."""
    if shift >= 0:
        return m << shift
    if rounding == "rd":
        return m >> -shift
    whole, rest = divmod(abs(m), 1 << -shift)
    half = 1 << (-shift - 1)
    if rounding == "rne" and (rest > half or (rest == half and whole % 2)):
        whole += 1
    return whole if m > 0 else -whole


def _rounded(total: int, unit: int, rounding: Rounding) -> np.float32:
    """total * 2^unit as binary32; infinite if the rounded number needs an exponent above 127."""
    if total == 0:
        return np.float32(0)
    leading = unit + abs(total).bit_length() - 1
    quantum = max(leading, -126) - 23
    value = (
        _in_units(total, unit - quantum, rounding) * 2.0**quantum if leading <= 127 else math.inf
    )
    with np.errstate(over="ignore"):
        return np.float32(math.copysign(value, total))


def i32(weight: I8, x: I8) -> I32:
    """SPEC 8.14: weight [R, K], x [T, K] -> [T, R]."""
    total = np.zeros((len(x), len(weight)), dtype=np.int64)
    for c in range(weight.shape[1]):
        total += weight[:, c].astype(np.int64) * x[:, c, None].astype(np.int64)
    return (total & 0xFFFFFFFF).astype(np.uint32).view(np.int32)


def sums(x: F32) -> F64:
    """x [..., n] -> [...]: binary64 sums, ascending (SPEC 8.20)."""
    acc = np.zeros(x.shape[:-1])
    for i in range(x.shape[-1]):
        acc = acc + x[..., i].astype(np.float64)
    return acc


def squares(x: F32) -> F64:
    """x [..., n] -> [...]: binary64 sums of the exact squares, ascending (SPEC 8.21)."""
    acc = np.zeros(x.shape[:-1])
    for i in range(x.shape[-1]):
        acc = acc + np.square(x[..., i].astype(np.float64))
    return acc


def exp(x: F32) -> F32:
    """SPEC 8.17, by integers."""
    return np.array([_exp(value) for value in x.ravel()], dtype=np.float32).reshape(x.shape)


def _exp(x: np.float32) -> np.float32:
    if np.isnan(x) or x > 89 or x < -104:
        return x if np.isnan(x) else np.float32(np.inf if x > 0 else 0)
    m, e = _number(x)
    if m == 0:
        return np.float32(1)
    value, power = fixed.exp(_shifted(m, e + fixed.BITS))  # exact: x is a multiple of 2^-149
    return fixed.nearest_scaled(value, power)
