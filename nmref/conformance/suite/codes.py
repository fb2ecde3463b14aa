"""Ranks: every code of three patterns, and codes of the others that aim at a mistake."""

from __future__ import annotations

from collections.abc import Iterable
from math import comb

from nmref.conformance.suite.cases import Case, Part
from nmref.conformance.suite.values import OUTS, Chance, parse
from nmref.conformance.suite.weights import rank, width

COMPLETE = ("2:4", "4:8", "8:16")
SOME = ("16:32", *OUTS, "1:2", "5:9", "31:64", "32:64", "63:64", "1:64", "3:4")
RANDOM = 200
_CHUNK = 4096
_ORDER = ("lex-order", "mask-mirrored", "rank-descending", "positions-from-one")


def _unrank(name: str, pattern: str, codes: Iterable[int], flags: tuple[str, ...]) -> Case:
    given = {"pattern": pattern, "codes": [f"{code:x}" for code in codes]}
    return Case(f"unrank/{pattern.replace(':', '-')}/{name}", "unrank", ("2.5", "2.14"), given,
                flags)  # fmt: skip


def _rank(name: str, pattern: str, masks: Iterable[int], flags: tuple[str, ...]) -> Case:
    given = {"pattern": pattern, "masks": [f"{mask:x}" for mask in masks]}
    return Case(f"rank/{pattern.replace(':', '-')}/{name}", "rank", ("2.4", "2.5"), given, flags)


def _complete(pattern: str) -> Iterable[Case]:
    """Every integer of w bits as a code, the invalid ones too; every mask, ascending."""
    n, m = parse(pattern)
    codes = range(1 << width(pattern))
    masks = [mask for mask in range(1 << m) if mask.bit_count() == n]
    for kind, items in (("unrank", codes), ("rank", masks)):
        for at in range(0, len(items), _CHUNK):
            chunk = items[at : at + _CHUNK]
            name = "all" if len(items) <= _CHUNK else f"from-{chunk[0]:x}"
            flags: tuple[str, ...] = _ORDER
            if kind == "unrank":
                if chunk[-1] >= comb(m, n):
                    flags = (*flags, "code-range-unchecked")
                yield _unrank(name, pattern, chunk, flags)
            else:
                yield _rank(name, pattern, chunk, flags)


def edge_codes(pattern: str) -> list[int]:
    """Ends, the steps of every position of the highest columns, powers of two, and invalid ones."""
    n, m = parse(pattern)
    count = comb(m, n)
    steps = [comb(p, j) for j in range(1, n + 1) for p in {n, m // 2, m - 1} if p >= j]
    powers = [1 << k for k in range(width(pattern))]
    near = {value + d for value in (*steps, *powers, count) for d in (-1, 0, 1)}
    near |= {0, 1, 2, count - 2, (1 << width(pattern)) - 1}
    return sorted(code for code in near if 0 <= code < 1 << width(pattern))


def some_masks(chance: Chance, pattern: str, count: int) -> list[int]:
    """Runs of ones at every place, combs, and random ones."""
    n, m = parse(pattern)
    lowest = (1 << n) - 1
    masks = {lowest << at for at in range(0, m - n + 1, max(1, (m - n) // 24))}
    masks |= {lowest << m - n, 1 << m - 1 | lowest >> 1}
    if n > 1:
        masks |= {sum(1 << i * step for i in range(n)) for step in range(2, (m - 1) // (n - 1) + 1)}
    everything = list(range(m))
    masks |= {sum(1 << p for p in chance.sample(everything, n)) for _ in range(count)}
    return sorted(masks)


def some(pattern: str, count: int, seed: str = "") -> Iterable[Case]:
    """Edges and random codes of a long pattern."""
    n, m = parse(pattern)
    flags = ("lex-order", "code-in-32-bits") if width(pattern) > 32 else ("lex-order",)
    if 2 * n != m:
        flags = (*flags, "n-means-pruned")
    if width(pattern) > 53:
        flags = (*flags, "code-through-f64")
    if width(pattern) > 64:
        flags = (*flags, "code-in-64-bits")
    chance = Chance(f"codes {pattern}{seed}")
    random = [chance.next() << 64 | chance.next() for _ in range(count)]
    yield _unrank(f"random{seed}", pattern, [r % comb(m, n) for r in random], flags)
    masks = some_masks(chance, pattern, count)
    yield _rank(f"edges-and-random{seed}", pattern, masks, flags)
    if not seed:
        yield _unrank("edges", pattern, edge_codes(pattern), (*flags, "code-range-unchecked"))
        bits = [rank([p for p in range(m) if mask >> p & 1]) for mask in masks[:: 1 + count // 100]]
        yield _unrank("of-those-masks", pattern, bits, flags)


def codes() -> Part:
    """Part `codes`."""
    found = [case for pattern in COMPLETE for case in _complete(pattern)]
    found += [case for pattern in SOME for case in some(pattern, RANDOM)]
    return Part("codes", found)
