"""Operands of dots that aim at one thing each, for hardware that adds binary32 numbers (SPEC 8.8).

They cancel, meet halfway between two numbers, underflow, overflow, and are infinite or NaN, also
where no term may arise (8.3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nmref.numerics import SplitMix64

Pair = tuple[int, int]
"""Bits of a weight and of its x."""


@dataclass(frozen=True)
class Floats:
    """Numbers of the upper `width` bits of binary32, as bits, from a generator."""

    rng: SplitMix64
    width: int

    def __call__(self, exponent: int, fraction: str = "any", negative: bool | None = None) -> int:
        """A number of an exponent field; it is moved into 0 ... 254, so the result is finite.

        The fraction is "any", "none", "full", or "few": at most its two highest bits.
        """
        room = self.width - 9
        mantissa = self.rng.below(1 << room)
        if fraction == "none":
            mantissa = 0
        elif fraction == "full":
            mantissa = (1 << room) - 1
        elif fraction == "few":
            mantissa &= 3 << (room - 2)
        sign = self.rng.below(2) if negative is None else int(negative)
        field = min(max(exponent, 0), 254)
        return sign << (self.width - 1) | field << room | mantissa

    def special(self, which: int) -> int:
        """A zero (0), an infinity (1) or a NaN (2) of any sign and payload."""
        room, top = self.width - 9, 255 << (self.width - 9)
        payload = 1 + self.rng.below((1 << room) - 1)
        return self.rng.below(2) << (self.width - 1) | (0, top, top | payload)[which]

    def any_special(self) -> int:
        """Any of them."""
        return self.special(self.rng.below(3))

    def near(self, middle: int, spread: int) -> int:
        """An integer of [middle - spread, middle + spread]."""
        return middle - spread + self.rng.below(2 * spread + 1)

    def negated(self, number: int) -> int:
        """The number of the other sign."""
        return number ^ 1 << (self.width - 1)


def ordinary(f: Floats, count: int) -> list[Pair]:
    """Operands of moderate size."""
    return [(f(f.near(127, 6)), f(f.near(127, 6))) for _ in range(count)]


def wide(f: Floats, count: int) -> list[Pair]:
    """Any finite operands."""
    return [(f(f.rng.below(255)), f(f.rng.below(255))) for _ in range(count)]


def underflow(f: Floats, count: int) -> list[Pair]:
    """Products about the subnormal numbers, and below; subnormal operands among them."""
    found = []
    for _ in range(count):
        both = f.near(127, 20) if f.rng.below(4) else f.rng.below(128)
        left = f.rng.below(both + 13) if f.rng.below(3) else 0
        found.append((f(left), f(both - left)))
    return found


def overflow(f: Floats, count: int) -> list[Pair]:
    """Products about the largest numbers, mostly of one sign."""
    negative = bool(f.rng.below(2))
    return [
        (f(left := f.near(190, 60), "full" if f.rng.below(2) else "any", negative),
         f(f.near(380, 1) - left, "full" if f.rng.below(2) else "any", f.rng.below(8) == 0))
        for _ in range(count)
    ]  # fmt: skip


def cancellation(f: Floats, count: int) -> list[Pair]:
    """Terms and, later, their negatives, with small ones between them."""
    found = [(f(f.near(127, 12)), f(f.near(127, 12))) for _ in range(-(-count // 3))]
    small = [(f(f.near(115, 12)), f(f.near(115, 12))) for _ in range(count - 2 * (count // 3))]
    return [*found, *small, *((f.negated(w), x) for w, x in found)][:count]


def ties(f: Floats, count: int) -> list[Pair]:
    """Few bits 23 to 26 places apart, so that sums fall on, beside and between the halves."""
    base = f.near(127, 40)
    found = []
    for i in range(count):
        far = 0 if i == 0 else f.near(-24, 2) if f.rng.below(4) else f.near(-12, 12)
        found.append((f(base + far, "few"), f(127, "none" if f.rng.below(2) else "few")))
    return found


def halves(f: Floats, count: int) -> list[Pair]:
    """A subnormal sum out of products that are exact halves of the smallest numbers."""
    found = []
    for _ in range(count):
        left = f.near(60, 50)
        found.append((f(left, "few"), f(f.near(105, 2) - left, "few")))
    return found


def carries(f: Floats, count: int) -> list[Pair]:
    """A sum of all ones; then a little more than half of the place that the carry makes last."""
    base, negative = f.near(127, 40), bool(f.rng.below(2))
    one = f(127, "none", False)
    places = range(0, 24, f.width - 8)  # 24 ones in all
    ones = [(f(base - place, "full", negative), one) for place in places]
    bit = f(base - 22, "none", negative) | 1 << f.rng.below(f.width - 12)
    return [*ones, (bit, one), *ordinary(f, count)][: max(count, 4)]


def special(f: Floats, count: int) -> list[Pair]:
    """Ordinary terms and one or two with infinities, NaN and zeros in either operand."""
    found = ordinary(f, count)
    for _ in range(1 + f.rng.below(2)):
        i = f.rng.below(count)
        w, x = found[i]
        infinity, nan, zero = f.special(1), f.special(2), f.special(0)
        choice = ((infinity, x), (w, infinity), (nan, x), (w, nan), (infinity, zero), (w, zero))
        found[i] = choice[f.rng.below(len(choice))]
    return found


def zeros(f: Floats, count: int) -> list[Pair]:
    """Zero weights, whose x may be anything, and few others."""
    found = ordinary(f, count)
    for i in range(count):
        if f.rng.below(4):
            found[i] = (f(0, "none"), f.any_special())
    return found


KINDS: tuple[Callable[[Floats, int], list[Pair]], ...] = (
    *(ordinary, wide, underflow, overflow, cancellation, ties, carries, halves, special, zeros),
)
"""What the dots are about, in turn."""
