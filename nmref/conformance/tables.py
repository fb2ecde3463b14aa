"""The hardware tables of formats/tables/ (SPEC annex B)."""

from __future__ import annotations

from functools import cache
from math import comb

from nmref import colex
from nmref.conformance.memh import Field, Memory
from nmref.pattern import NMPattern

_BYTES = range(256)


@cache
def tables() -> tuple[Memory, ...]:
    """Every table, in the order in which the index lists them."""
    return (
        _decode_with_valid(NMPattern(2, 4)),
        _decode_with_valid(NMPattern(4, 8)),
        _decode_rom(),
        _split_s(),
        _split_r8(),
        _split_l8(),
        _split_a(),
        _serial(),
    )


def _masks(pattern: NMPattern) -> tuple[int, ...]:
    """Every mask in the order of the codes."""
    return tuple(int(mask) for mask in colex.mask_table(pattern))


def _decode_with_valid(pattern: NMPattern) -> Memory:
    """One word for every value of a code, with a bit that says whether it is one (2.8)."""
    masks, depth, block = _masks(pattern), 1 << pattern.width, pattern.block
    words = [mask | 1 << block for mask in masks] + [0] * (depth - len(masks))
    return Memory(
        name=f"{pattern.stored}-{block}-decode",
        format=f"base-{pattern.stored}-{block}",
        title=f"the mask of every code of {pattern}, with a valid bit",
        clause="2.5",
        order=f"ascending; the address is the {pattern.width}-bit code",
        fields=(
            Field("valid", block, block, f"1 when the code is smaller than {pattern.count}"),
            Field("mask", block - 1, 0, "bit i is 1 when column i of the block is stored"),
        ),
        invalid=f"the words {pattern.count} to {depth - 1} are 0: valid bit 0 and an empty mask",
        width=block + 1,
        words=tuple(words),
    )


def _decode_rom() -> Memory:
    """B.1."""
    return Memory(
        name="8-16-decode",
        format="base-8-16",
        title="the mask of every code of 8:16",
        clause="B.1",
        order="ascending; the address is the 14-bit code",
        fields=(Field("mask", 15, 0, "bit i is 1 when column i of the block is stored"),),
        invalid="the codes 12870 to 16383 have no word: compare the code with 12870 (B.4)",
        width=16,
        words=_masks(NMPattern(8, 16)),
    )


def _split_s() -> Memory:
    """B.2: masks whose high byte is smaller than h."""
    per_high_byte = [comb(8, 8 - h.bit_count()) for h in _BYTES]
    return Memory(
        name="8-16-split-s",
        format="base-8-16",
        title="S of the byte-split tables: code = S[h] + R8[l], h the mask's high byte",
        clause="B.2",
        order="ascending; the address is the high byte h of the mask",
        fields=(Field("s", 13, 0, "the number of 8:16 masks whose high byte is smaller than h"),),
        invalid=None,
        width=14,
        words=tuple(sum(per_high_byte[:h]) for h in _BYTES),
    )


def _split_r8() -> Memory:
    """B.2: rank of a byte in its class."""
    return Memory(
        name="8-16-split-r8",
        format="base-8-16",
        title="R8 of the byte-split tables: code = S[h] + R8[l], l the mask's low byte",
        clause="B.2",
        order="ascending; the address is the low byte l of the mask",
        fields=(Field("r8", 6, 0, "the number of bytes below l with as many one bits as l"),),
        invalid=None,
        width=7,
        words=tuple(sum(x.bit_count() == b.bit_count() for x in range(b)) for b in _BYTES),
    )


def _split_l8() -> Memory:
    """B.2: the bytes class by class."""
    return Memory(
        name="8-16-split-l8",
        format="base-8-16",
        title="L8 of the byte-split tables: low byte = L8[A[q] + code - S[h]], q = 8 - pop(h)",
        clause="B.2",
        order="ascending; the 256 bytes by number of one bits, then by value",
        fields=(Field("byte", 7, 0, "a byte"),),
        invalid=None,
        width=8,
        words=tuple(sorted(_BYTES, key=lambda b: (b.bit_count(), b))),
    )


def _split_a() -> Memory:
    """B.2: where a class begins in L8."""
    return Memory(
        name="8-16-split-a",
        format="base-8-16",
        title="A of the byte-split tables: the first address of each class in L8",
        clause="B.2",
        order="ascending; the address is the number q of one bits, 0 to 8",
        fields=(Field("a", 7, 0, "the address in L8 of the first byte with q one bits"),),
        invalid=None,
        width=8,
        words=tuple(sum(comb(8, i) for i in range(q)) for q in range(9)),
    )


def _serial() -> Memory:
    """B.3."""
    return Memory(
        name="8-16-serial-c",
        format="base-8-16",
        title="C(p, j), the constants of the 16 compare-and-subtract steps",
        clause="B.3",
        order="ascending; the address is 9 * p + j, p = 0 to 15, j = 0 to 8",
        fields=(Field("c", 12, 0, "the binomial coefficient C(p, j), 0 when p < j"),),
        invalid=None,
        width=13,
        words=tuple(comb(p, j) for p in range(16) for j in range(9)),
    )
