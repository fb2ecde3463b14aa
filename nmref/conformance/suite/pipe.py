"""Dots as lines of text, for simulators: operands out, results in (SPEC 8.3 to 8.15).

    # nmref dot profile=f32.seq+merged seed=1 n=2 k=2 dtype=F32
    0 2 3f800000 bf800000 40000000 3f800000

A line has the number of the dot, K, the K elements of W and the K of x.  The answer repeats the
comment and has `number result` lines, in any order; results are compared after the map of 8.4.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nmref.dtypes import CONTAINER_DTYPES, Array
from nmref.errors import Code, NmrefError
from nmref.linear import matmul
from nmref.numerics import Profile, SplitMix64, canonical

U64 = npt.NDArray[np.uint64]

_HEAD = re.compile(
    r"# nmref dot profile=([!-~]+) seed=([0-9]{1,20}) n=([0-9]{1,10}) k=([0-9]{1,6})"
    r" dtype=(F32|F16|BF16|I8)"
)
_LINE = re.compile("([0-9]{1,10}) ([0-9a-fA-F]{1,8})")

LONGEST = 64
"""K is 1 ... this where it is not given."""

_FIELDS = {"F32": (23, 127), "F16": (10, 15), "BF16": (7, 127)}
_SPREADS = (2, 3, 20, 126, 3, 3, 6, 126)
"""Of exponents, by kind of the dot; see `_numbers`."""


@dataclass(frozen=True)
class Order:
    """What a stream of dots is: the comment line says it."""

    profile: Profile
    seed: int
    n: int
    k: int
    dtype: str

    @classmethod
    def make(cls, profile: str, seed: int, n: int, k: int, dtype: str) -> Order:
        """Raises T_ARGUMENT: the profile, or a dtype that it cannot have."""
        found = Profile.parse(profile)
        if (found.kind == "i32") != (dtype == "I8"):
            raise NmrefError(Code.T_ARGUMENT, "dtype", dtype, "I8 for i32, a float for the others")
        SplitMix64(seed)
        return cls(found, seed, n, k, dtype)

    @classmethod
    def parse(cls, line: str) -> Order:
        """From the comment line.  Raises T_FILE, T_ARGUMENT."""
        match = _HEAD.fullmatch(line.strip())
        if match is None:
            want = "the comment line of nmref vectors dot"
            raise NmrefError(Code.T_FILE, "line 1", repr(line.strip()[:60]), want)
        profile, seed, n, k, dtype = match.groups()
        return cls.make(profile, int(seed), int(n), int(k), dtype)

    def __str__(self) -> str:
        about = f"seed={self.seed} n={self.n} k={self.k} dtype={self.dtype}"
        return f"# nmref dot profile={self.profile} {about}"

    @property
    def digits(self) -> int:
        """Hexadecimal digits of an operand."""
        return 2 * CONTAINER_DTYPES[self.dtype].itemsize


def _mixed(seed: int, count: int) -> U64:
    """The first `count` numbers of SplitMix64 (SPEC 8.26)."""
    state = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(
        0x9E3779B97F4A7C15
    )
    z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def operands(order: Order) -> Iterator[tuple[Array, Array]]:
    """W and x of every dot, as bits.  Each dot has a generator seeded by a number of the first."""
    chance = SplitMix64(order.seed)
    for _ in range(order.n):
        words = _mixed(chance.next(), 1 + 2 * (order.k or LONGEST))
        first = int(words[0])
        k = order.k or 1 + (first >> 32) % LONGEST
        w, x = words[1 : 1 + k], words[1 + k : 1 + 2 * k]
        if order.dtype == "I8":
            yield (w >> np.uint64(56)).astype(np.uint8), (x >> np.uint64(56)).astype(np.uint8)
        else:
            yield _numbers(order.dtype, first % 8, w, x)


def _numbers(dtype: str, kind: int, w: U64, x: U64) -> tuple[Array, Array]:
    """Kind 1 and 2 ordinary, 3 and 7 of the whole range, 4 of few bits, 5 with zeros, 6 with
    infinities and NaN, 0 cancelling: the second half of W is the first with the other sign.
    """
    bits = []
    for words in (w, x):
        made = _floats(dtype, words, _SPREADS[kind])
        fraction, bias = _FIELDS[dtype]
        sign, rare = made & _top(dtype), words % np.uint64(8)
        if kind == 4:
            made &= np.uint64(-1 << (fraction - 2) & (1 << 64) - 1)
        elif kind == 5:
            made = np.where(rare < 2, sign, made)
        elif kind == 6:
            infinity = np.uint64((2 * bias + 1) << fraction)
            made = np.where(rare == 0, sign | infinity, made)
            made = np.where(words % np.uint64(64) == 1, infinity | np.uint64(1), made)
        bits.append(made)
    half = len(w) // 2
    if kind == 0 and half:
        bits[0][-half:] = bits[0][:half] ^ _top(dtype)
        bits[1][-half:] = bits[1][:half]
    size = np.dtype(f"u{CONTAINER_DTYPES[dtype].itemsize}")
    return bits[0].astype(size), bits[1].astype(size)


def _top(dtype: str) -> np.uint64:
    """The sign bit."""
    return np.uint64(1 << (8 * CONTAINER_DTYPES[dtype].itemsize - 1))


def _floats(dtype: str, words: U64, spread: int) -> U64:
    """Finite bits: exponents from -spread to spread as far as there are such."""
    fraction, bias = _FIELDS[dtype]
    spread = min(spread, bias)
    low, count = np.uint64(bias - spread), np.uint64(2 * spread + 1)
    exponent = np.minimum(low + (words >> np.uint64(40)) % count, np.uint64(2 * bias))
    sign = np.where(words >> np.uint64(63) == 1, _top(dtype), np.uint64(0))
    part = (words >> np.uint64(8)) & np.uint64((1 << fraction) - 1)
    found: U64 = sign | exponent << np.uint64(fraction) | part
    return found


def lines(order: Order) -> Iterator[str]:
    """The comment, and one line for each dot."""
    yield str(order)
    form = f"{{:0{order.digits}x}}".format
    for number, (w, x) in enumerate(operands(order)):
        yield " ".join([f"{number} {len(w)}", *map(form, w.tolist()), *map(form, x.tolist())])


def results(order: Order) -> Iterator[int]:
    """The result of every dot, as 32 bits."""
    for w, x in operands(order):
        if order.dtype == "I8":
            product = w.view(np.int8).astype(np.int64) @ x.view(np.int8).astype(np.int64)
            yield int(product) & 0xFFFFFFFF
            continue
        dtype = CONTAINER_DTYPES[order.dtype]
        y = matmul(x.view(dtype)[None], w.view(dtype)[None], order.profile)
        yield int(canonical(y).view(np.uint32)[0, 0])


def check(text: Iterable[str]) -> Order:
    """Compare answers with the results.  Raises T_FILE: the first that differs or is missing."""
    source = iter(text)
    order = Order.parse(next(source, ""))
    found: dict[int, str] = {}
    for at, line in enumerate(source, start=2):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None or int(match[1]) >= order.n or int(match[1]) in found:
            got = repr(line.strip()[:60])
            want = f"NUMBER RESULT, each number below {order.n} once"
            raise NmrefError(Code.T_FILE, f"line {at}", got, want)
        found[int(match[1])] = match[2]
    for number, want_bits in enumerate(results(order)):
        if number not in found:
            raise NmrefError(Code.T_FILE, f"dot {number}", "no result", f"{want_bits:08x}")
        if _canonical(order, int(found[number], 16)) != want_bits:
            raise NmrefError(
                Code.T_FILE, f"dot {number}", found[number], f"{want_bits:08x} by {order.profile}"
            )
    return order


def _canonical(order: Order, bits: int) -> int:
    """SPEC 8.4 of a result."""
    if order.dtype == "I8":
        return bits
    if bits & 0x7FFFFFFF > 0x7F800000:
        return 0x7FC00000
    return 0 if bits == 0x80000000 else bits
