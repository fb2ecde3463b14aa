"""Worked examples of a format: masks, codes and the bytes of a row (SPEC 2.5, 2.9, 4.4)."""

from __future__ import annotations

from math import gcd
from typing import Any

import numpy as np

from nmref import bits, colex
from nmref.conformance.text import hex_bytes, hexadecimal
from nmref.pattern import NMPattern

_OF_SPEC = {
    "2:4": (0b0011, 0b0101, 0b0110, 0b1001, 0b1010, 0b1100, 0b0011, 0b1100),
    "8:16": (0x00FF, 0xFF00, 0x5555, 0xAAAA),
}
"""The masks of clause 2.16."""


def mask_of(code: int, pattern: NMPattern) -> int:
    """The mask that has this code, bit i = column i of the block."""
    stored = colex.unrank(np.array([code], dtype=colex.code_dtype(pattern)), pattern)[0]
    return sum(1 << int(column) for column in np.flatnonzero(stored))


def columns_of(mask: int) -> list[int]:
    """The stored columns, ascending."""
    return [column for column in range(mask.bit_length()) if mask >> column & 1]


def code_entry(code: int, pattern: NMPattern) -> dict[str, Any]:
    """A code, its mask and its columns."""
    mask = mask_of(code, pattern)
    return {
        "code": hexadecimal(code, pattern.width),
        "mask": hexadecimal(mask, pattern.block),
        "columns": columns_of(mask),
    }


def examples(pattern: NMPattern, idx8: bool) -> list[dict[str, Any]]:
    """Two rows of blocks: one that ends with a byte, one with padding bits."""
    masks = _masks(pattern)
    group = 8 // gcd(pattern.width, 8)
    whole = _OF_SPEC.get(str(pattern), masks[:group])
    return [
        _example(whole, pattern, idx8, "2.16" if str(pattern) in _OF_SPEC else None),
        _example(masks[-3:], pattern, idx8, None),
    ]


def _masks(pattern: NMPattern) -> tuple[int, ...]:
    """Eight masks that differ in kind: a wrong bit, column or code order changes some code."""
    stored, block = pattern.stored, pattern.block
    low = (1 << stored) - 1
    half = stored // 2
    return (
        low,
        low << (block - stored),
        sum(1 << (j * block // stored) for j in range(stored)),  # even spread from column 0
        sum(1 << ((j + 1) * block // stored - 1) for j in range(stored)),  # from the last column
        (1 << half) - 1 | ((1 << (stored - half)) - 1) << (block - stored + half),  # both ends
        low << ((block - stored) // 2),
        mask_of(pattern.count // 2, pattern),
        mask_of(pattern.count // 3, pattern),
    )


def _example(
    masks: tuple[int, ...], pattern: NMPattern, idx8: bool, clause: str | None
) -> dict[str, Any]:
    stored = np.zeros((1, len(masks), pattern.block), dtype=np.bool_)
    for b, mask in enumerate(masks):
        stored[0, b, columns_of(mask)] = True
    codes = colex.rank(stored, pattern)
    packed = bits.pack(codes, pattern.width).tobytes()
    index = bytes(column for mask in masks for column in columns_of(mask)) if idx8 else None
    return {
        "clause": clause,
        "masks": [hexadecimal(mask, pattern.block) for mask in masks],
        "codes": [hexadecimal(int(code), pattern.width) for code in codes[0]],
        "bytes": hex_bytes(packed),
        "padding_bits": len(packed) * 8 - len(masks) * pattern.width,
        "idx8": None if index is None else hex_bytes(index),
    }
