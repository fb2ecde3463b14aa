"""Terms W * x that each aim at one rounding of SPEC 8.6 to 8.13."""

from __future__ import annotations

from collections.abc import Iterator

Pairs = list[tuple[float, float]]
"""(W, x), in columns 0, 1, ...."""

TOP = 2**24 - 1
_ABOVE, _BELOW = (8392705, 8384513), (2**23 + 1, 2**23 - 1)  # products 2^46 + 1 and 2^46 - 1


def two(k: int) -> float:
    """2^k, exact down to 2^-1074."""
    return float(2.0**k)


def power(m: int, k: int) -> tuple[float, float]:
    """Two F32 numbers whose product is m * 2^k, |m| < 2^24."""
    x = k if abs(k) < 24 else max(-149, min(k // 2, 100))
    return m * two(k - x), two(x)


def ties() -> Iterator[tuple[str, Pairs]]:
    """One product at half a unit of the accumulator, or a hair beside it."""
    for name, (a, b) in {"at": (2**23, 2**23), "above": _ABOVE, "below": _BELOW}.items():
        for last in (0, 1):
            for sign in (1, -1):
                half = (sign * a * two(-47), b * two(-23))
                kind = f"{name}-{'odd' if last else 'even'}-{'plus' if sign > 0 else 'minus'}"
                yield f"tie-{kind}", [(sign * (1 + last * two(-23)), 1.0), half]
        yield f"overflow-tie-{name}", [power(TOP, 104), (a * two(40), b * two(17))]
        yield f"subnormal-tie-{name}", [power(5, -149), (a * two(-98), b * two(-98))]
        yield f"lone-subnormal-tie-{name}", [(a * two(-98), b * two(-98))]


ONE = (1.0, 1.0)

AIMED: dict[str, Pairs] = {
    "spec-8.16-first": [(two(12), two(12)), ONE, (-two(12), two(12))],
    "spec-8.16-second": [(two(30), two(30)), ONE, (-two(30), two(30))],
    "no-term": [(0.0, 1.0), (-0.0, 5.0)],
    "terms-of-zero-x": [(1.0, 0.0), (1.0, -0.0), (-1.0, 0.0)],
    "zero-weights-between": [(0.0, 7.0), (3.0, 2.0), (-0.0, 7.0), (1.0, -0.0), (5.0, -1.0)],
    "product-overflows-sum-does-not": [(-two(127), 1.0), (two(64), two(64))],
    "products-overflow-both-ways": [(two(64), two(64)), (-two(64), two(64))],
    "products-underflow-sum-does-not": [power(1, -150)] * 4,
    "product-underflows-beside-odd": [power(1, -149), power(1, -150)],
    "products-of-three-quarters": [power(3, -151), power(3, -151)],
    "negative-underflow": [power(-1, -151)],
    "negative-underflows-then-one": [power(-1, -151), power(-3, -160), ONE],
    "smallest-and-largest": [
        (two(127), two(127)), (two(-149), 1.0), (-two(127), two(127)), (two(-149), two(-149)),
    ],
    "sticky-at-298": [ONE, power(1, -24), (two(-149), two(-149))],
    "negative-sticky-at-298": [(1 + two(-23), 1.0), power(1, -24), (-two(-149), two(-149))],
    "tie-of-three": [(1 + two(-23), 1.0), power(1, -25), power(1, -25)],
    "hair-lost-in-binary64": [ONE, power(1, -24), power(1, -60)],
    "hair-kept-in-binary64": [power(1, -60), ONE, power(1, -24)],
    "hair-at-the-end-of-binary64": [ONE, power(1, -24), power(1, -52)],
    "hair-at-half-the-end": [(1 + two(-23), 1.0), power(1, -24), power(-1, -53)],
    "exact-just-overflows": [power(TOP, 104), power(1, 103)],
    "exact-just-does-not": [power(TOP, 104), power(1, 103), power(-1, -298)],
    "overflow-and-back": [power(TOP, 104)] * 3 + [power(-TOP, 104)] * 2,
    "overflow-stays": [power(TOP, 104)] * 2 + [power(-1, 0)],
    "cancels-to-subnormal": [ONE, (-1.0, 1.0), power(5, -149)],
    "cancels-to-nothing": [(1.5, 3.0), (-4.5, 1.0)],
    "lanes-meet-in-halves": [(two(24), 1.0), ONE, ONE, (-two(24), 1.0), ONE, ONE],
    "many-sticky": [(two(24), 1.0), *[ONE] * 66],
    "alternating": [(two(23) * (-1) ** i + i, 1.0 + i * two(-23)) for i in range(67)],
    "round-after-each-product": [(1 + two(-12), 1 + two(-12)), (-1.0, 1.0), (-two(-11), 1.0)],
}  # fmt: skip
"""For every kind of profile."""


def groups() -> Iterator[tuple[str, Pairs]]:
    """For tc: what is cut, kept, tied, not normalised; the ends of the range."""
    back = (-1.0, 1.0)
    for k in (22, 23, 24, 25, 26, 40, 53, 59, 60, 61):
        yield f"cut-at-{k}", [ONE, power(3, -k - 1), back]
        yield f"negative-cut-at-{k}", [ONE, power(-3, -k - 1), back]
        yield f"tie-at-{k}", [ONE, power(1, -k - 1), power(1, -k), back]
        yield f"negative-tie-at-{k}", [ONE, power(-1, -k - 1), power(5, -k), back]
    for k in (23, 25, 60):
        first = power(2**23 + 1, -23 - k)
        yield f"accumulator-cut-at-{k}", [first, *[(1.0, 0.0)] * 31, ONE, back]
    wide = (TOP * two(-23), TOP * two(-23))
    for k in (4, 8, 32):
        yield f"{k}-widest-products", [wide] * k
        yield f"{k}-wide-and-one-small", [*[wide] * (k - 1), power(-1, -60)]
    gap = [(1.0, 0.0)] * 32
    for k in (23, 24, 25, 40, 60):
        yield f"not-normalised-at-{k}", [(1.5, 1.5), power(1, -k), (-1.5, 1.5)]
    yield "not-normalised", [(1.5, 1.5), power(1, -23), power(1, -24), power(-1, -24)]
    yield "subnormal-exponent", [(two(-140) * 3, two(100)), power(1, -62), power(1, -63)]
    yield "ends-subnormal", [power(2**23 + 1, -150), power(1, -150), power(-3, -152)]
    yield "ends-below-subnormal", [power(-3, -151)]
    yield "accumulator-dominates", [power(1, 40), *[power(1, 0)] * 40]
    yield "accumulator-is-dominated", [power(TOP, -30), *gap, power(3, 40)]
    yield "accumulator-cancels", [power(TOP, -10), *gap, power(-TOP, -10), power(1, -50)]
    yield "zero-accumulator-between", [ONE, (-1.0, 1.0), *gap, power(7, -99)]
    yield "zero-x-over-a-large-weight", [(two(127), 0.0), power(1, -40), power(1, -80)]
    yield "top-by-rz", [power(1, 128), power(-1, 102)]
    yield "negative-top-by-rz", [power(-1, 128), power(1, 102)]
    yield "top-at-the-tie", [power(1, 128), power(-1, 103)]
    yield "over-the-top-and-back", [power(1, 128), power(-1, 128), power(1, 3)]
    yield "over-the-top-later-back", [power(1, 128), *gap, power(-1, 128)]
    yield "largest-exponents", [(TOP * two(104), TOP * two(104)), (-TOP * two(104), TOP * two(104))]
    yield "smallest-exponents", [(two(-149), two(-149)), (two(-149), -two(-149))]
    yield "out-tie-to-even", [power(TOP, -23), power(1, -24), power(1, -48)]
    yield "out-tie-up", [power(2**23 + 1, -23), power(1, -24)]
    yield "out-tie-down", [power(2**23 + 2, -23), power(1, -24)]
    yield "out-tie-negative", [power(-(2**23) - 1, -23), power(-1, -24)]
    yield "out-above-the-tie", [power(2**23 + 2, -23), power(1, -24), power(1, -60)]
