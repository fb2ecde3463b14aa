"""Laws of ranks and bit streams (SPEC part 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from math import comb

from hypothesis import strategies as st

from nmref.testing import reference
from nmref.testing.law import Law, call, fail
from nmref.testing.recipes import (
    CORE_PATTERNS,
    LONG_PATTERNS,
    MORE_PATTERNS,
    OUT_PATTERNS,
    mix,
    parse,
    pick,
    width,
)

Rank = Callable[[list[int], int, int], int]
Unrank = Callable[[int, int, int], list[int]]
Pack = Callable[[list[int], int], bytes]
Unpack = Callable[[bytes, int, int], list[int]]

PATTERNS = (*CORE_PATTERNS, *MORE_PATTERNS, *LONG_PATTERNS, *OUT_PATTERNS)


@dataclass(frozen=True)
class Mask:
    """The stored positions of one block."""

    pattern: str
    positions: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.pattern} positions {' '.join(map(str, self.positions))}"


@dataclass(frozen=True)
class Row:
    """The codes of one row."""

    pattern: str
    codes: tuple[int, ...]

    @property
    def width(self) -> int:
        """Bits of a code."""
        return width(self.pattern)

    def __str__(self) -> str:
        return f"width {self.width} codes {' '.join(map(str, self.codes))}"


def _mask(pattern: str, kind: str, salt: int) -> Mask:
    n, m = parse(pattern)
    if kind == "lowest":
        chosen = list(range(n))
    elif kind == "highest":
        chosen = list(range(m - n, m))
    else:
        chosen = sorted(range(m), key=lambda i: mix(salt, i))[:n]
    return Mask(pattern, tuple(sorted(chosen)))


def _row(pattern: str, count: int, kind: str, salt: int) -> Row:
    n, m = parse(pattern)
    codes = [
        comb(m, n) - 1 if kind == "highest" else mix(salt, b) % comb(m, n) for b in range(count)
    ]
    if kind == "lowest":
        codes = [b % min(8, comb(m, n)) for b in range(count)]
    return Row(pattern, tuple(codes))


KINDS = ("lowest", "mixed", "highest")
_salts = st.integers(0, 999)
masks = st.builds(_mask, st.sampled_from(PATTERNS), st.sampled_from(KINDS), _salts)
_base_masks = masks.filter(lambda mask: not mask.pattern.endswith(":256"))
rows = st.builds(
    _row, st.sampled_from(PATTERNS), st.integers(1, 17), st.sampled_from(KINDS), _salts
)


def _mask_sweep(count: int) -> Iterator[Mask]:
    for pattern in PATTERNS:
        yield from (_mask(pattern, kind, 0) for kind in KINDS)
    for i in range(count):
        yield _mask(pick(PATTERNS, i, 1), "mixed", i)


def _base_sweep(count: int) -> Iterator[Mask]:
    return (mask for mask in _mask_sweep(count) if not mask.pattern.endswith(":256"))


def _row_sweep(count: int) -> Iterator[Row]:
    for pattern in PATTERNS:
        yield from (_row(pattern, 9, kind, 0) for kind in KINDS)
    for i in range(count):
        yield _row(pick(PATTERNS, i, 1), mix(i, 2) % 17 + 1, "mixed", i)


def rank_is_the_number_of_smaller_masks(rank: Rank, mask: Mask) -> None:
    """SPEC 2.5."""
    n, m = parse(mask.pattern)
    want = reference.rank(list(mask.positions), n, m)
    got = call(f"rank: {mask}", rank, list(mask.positions), n, m)
    if got != want:
        raise fail(f"rank: {mask}", f"code {got}", f"code {want}")


def rank_of_the_complement(rank: Rank, mask: Mask) -> None:
    """rank(~m) = C(M, N) - 1 - rank(m), because the order is numeric; for base patterns."""
    n, m = parse(mask.pattern)
    rest = [i for i in range(m) if i not in mask.positions]
    code = call(f"rank: {mask}", rank, list(mask.positions), n, m)
    got, want = call(f"rank: not {mask}", rank, rest, m - n, m), comb(m, n) - 1 - code
    if got != want:
        raise fail(f"rank: complement of {mask}", f"code {got}", f"code {want}")


def unrank_inverts_rank(unrank: Unrank, mask: Mask) -> None:
    """SPEC 2.14."""
    n, m = parse(mask.pattern)
    code = reference.rank(list(mask.positions), n, m)
    got = call(f"unrank: {mask.pattern} code {code}", unrank, code, n, m)
    if list(got) != list(mask.positions):
        want = " ".join(map(str, mask.positions))
        raise fail(f"unrank: {mask.pattern} code {code}", " ".join(map(str, got)), want)


def every_mask_of(rank: Rank, pattern: str) -> None:
    """All masks of a small pattern, ascending as integers, have the codes 0, 1, 2, ..."""
    n, m = parse(pattern)
    every = sorted(combinations(range(m), n), key=lambda chosen: sum(1 << i for i in chosen))
    for code, chosen in enumerate(every):
        got = call(f"rank: {Mask(pattern, chosen)}", rank, list(chosen), n, m)
        if got != code:
            raise fail(f"rank: {Mask(pattern, chosen)}", f"code {got}", f"code {code}")


def pack_puts_code_b_at_bit_bw(pack: Pack, row: Row) -> None:
    """SPEC 2.9, 2.10: LSB first, one row of whole bytes, the rest 0."""
    want = sum(code << b * row.width for b, code in enumerate(row.codes))
    size = -(-len(row.codes) * row.width // 8)
    got = bytes(call(f"pack: {row}", pack, list(row.codes), row.width))
    if got != want.to_bytes(size, "little"):
        raise fail(f"pack: {row}", got.hex(" "), want.to_bytes(size, "little").hex(" "))


def unpack_gives_the_codes(unpack: Unpack, row: Row) -> None:
    """SPEC 2.15."""
    stream = sum(code << b * row.width for b, code in enumerate(row.codes))
    data = stream.to_bytes(-(-len(row.codes) * row.width // 8), "little")
    got = call(f"unpack: {row}", unpack, data, len(row.codes), row.width)
    if list(got) != list(row.codes):
        raise fail(
            f"unpack: width {row.width} of {data.hex(' ')}", str(list(got)), str(list(row.codes))
        )


SMALL = ("2:4", "1:4", "3:4", "2:3", "4:8", "3:7")

CODE_LAWS = [
    Law("rank counts the smaller masks", "2.5", ("rank",), masks, _mask_sweep,
        rank_is_the_number_of_smaller_masks),
    Law("every mask of a small pattern in numeric order", "2.5", ("rank",),
        st.sampled_from(SMALL), lambda count: SMALL, every_mask_of, share=0.1),
    Law("rank of the complement", "2.5", ("rank",), _base_masks, _base_sweep,
        rank_of_the_complement),
    Law("unrank inverts rank", "2.14", ("unrank",), masks, _mask_sweep, unrank_inverts_rank),
    Law("pack puts code b at bit b * w", "2.9", ("pack",), rows, _row_sweep,
        pack_puts_code_b_at_bit_bw),
    Law("unpack inverts pack", "2.15", ("unpack",), rows, _row_sweep, unpack_gives_the_codes),
]  # fmt: skip
"""Laws of rank, unrank, pack and unpack."""
