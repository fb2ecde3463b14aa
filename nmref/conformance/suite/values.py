"""Arrays as vectors have them, elements as bits, and choices made by SplitMix64."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, TypeVar

from nmref.numerics.random import SplitMix64

Item = TypeVar("Item")
Json = dict[str, Any]

SIZES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 8),
}
"""Bytes of an element of every container dtype (SPEC 5.8)."""

FLOATS = ("F32", "F16", "BF16")
DTYPES = (*FLOATS, "I8")
BASES = ("2:4", "4:8", "8:16", "16:32")
OUTS = ("4:256", "8:256", "16:256")
FRACTION = {"F32": 23, "F16": 10, "BF16": 7}
ONE = {"F32": 0x3F800000, "F16": 0x3C00, "BF16": 0x3F80, "I8": 1}
SCALES = (0x3F800000, 0x00000001, 0x7B800000, 0x3DCCCCCD, 0x007FFFFF, 0x3F7FFFFF, 0x00800000)
"""1, the smallest number, 2^120, 0.1, the largest subnormal, just below 1, the smallest normal."""


class Chance(SplitMix64):
    """Random choices that follow from a text, so that a case does not depend on the others.

    The seed is made of the first 8 bytes of the text's SHA-256, little-endian.
    """

    def __init__(self, text: str) -> None:
        digest = hashlib.sha256(text.encode("ascii")).digest()
        super().__init__(int.from_bytes(digest[:8], "little"))

    def pick(self, options: Sequence[Item]) -> Item:
        """One of them."""
        return options[self.below(len(options))]

    def sample(self, options: Sequence[Item], count: int) -> list[Item]:
        """`count` different ones, in any order."""
        left, found = list(options), []
        for _ in range(count):
            found.append(left.pop(self.below(len(left))))
        return found

    def coin(self, sides: int) -> bool:
        """True once in so many times."""
        return self.below(sides) == 0


def data(dtype: str, bits: Iterable[int]) -> bytes:
    """Little-endian bytes of elements."""
    size = SIZES[dtype]
    return b"".join(element.to_bytes(size, "little") for element in bits)


def array(dtype: str, shape: Sequence[int], bits: Iterable[int]) -> Json:
    """An array of a vector.

    >>> array("BF16", [1, 2], [0x3F80, 0xC000])
    {'dtype': 'BF16', 'shape': [1, 2], 'hex': '803f00c0'}
    """
    raw = data(dtype, bits)
    assert len(raw) == prod(shape) * SIZES[dtype]
    return {"dtype": dtype, "shape": list(shape), "hex": raw.hex()}


def matrix(dtype: str, rows: Sequence[Sequence[int]], columns: int | None = None) -> Json:
    """Rows of bits; `columns` where there are no rows."""
    width = columns if columns is not None else len(rows[0])
    return array(dtype, [len(rows), width], (element for row in rows for element in row))


def f32(value: float) -> int:
    """Bits of a number that binary32 holds."""
    bits: int = struct.unpack("<I", struct.pack("<f", value))[0]
    assert struct.unpack("<f", struct.pack("<I", bits))[0] == value or value != value
    return bits


def parse(pattern: str) -> tuple[int, int]:
    """ "8:16" -> (8, 16)."""
    n, m = pattern.split(":")
    return int(n), int(m)


def minus_zero(dtype: str) -> int:
    """Bits of -0; for I8, which has none, of -128."""
    return 1 << (8 * SIZES[dtype] - 1)


def specials(dtype: str) -> list[int]:
    """-0, NaN signalling, quiet and with payloads, infinities, subnormals, limits; both signs."""
    sign = minus_zero(dtype)
    if dtype == "I8":
        return [sign, 1, 0x7F, 0xFF, 0x81]
    fraction = FRACTION[dtype]
    infinity = sign - (1 << fraction)
    quiet = infinity | 1 << (fraction - 1)
    nans = [infinity | 1, quiet, quiet | 1, infinity | 5 << (fraction - 3), sign - 1]
    positive = [*nans, infinity, 1, (1 << fraction) - 1, 1 << fraction, infinity - 1]
    return [sign, *positive, *(sign | bits for bits in positive)]


def element(chance: Chance, dtype: str, special: int = 4) -> int:
    """Bits that are not all zero; one in `special` is a special one (0: none)."""
    if special and chance.coin(special):
        return chance.pick(specials(dtype))
    return 1 + chance.below((1 << 8 * SIZES[dtype]) - 1)


def number(chance: Chance, dtype: str, spread: int) -> int:
    """Bits of a finite number of either sign with an exponent in -spread ... spread."""
    fraction = FRACTION[dtype]
    bias = ONE[dtype] >> fraction
    exponent = bias + chance.below(2 * spread + 1) - spread
    sign = chance.below(2) * minus_zero(dtype)
    return sign | max(1, min(exponent, 2 * bias)) << fraction | chance.below(1 << fraction)


def slug(text: str) -> str:
    r"""A text as a part of an id: lower case, digits, `-` and `.`.

    >>> slug("pattern '2:4\\n'"), slug("-0 past K")
    ('pattern-2-4-newline', 'minus-0-past-k')
    """
    if text.endswith(" '"):
        text += " space"
    for sign, word in WORDS.items():
        text = text.replace(sign, word)
    kept = "".join(c if c.isascii() and (c.isalnum() or c == ".") else "-" for c in text.lower())
    return "-".join(word for word in kept.split("-") if word.strip("."))


WORDS = {
    "\\n": " newline",
    "-0": "minus 0",
    "[-": "[minus ",
    "^": " to the ",
    "<": " below ",
    "/": " slash ",
}
