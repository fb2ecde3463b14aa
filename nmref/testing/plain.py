"""What laws and implementations exchange: plain data, nothing of nmref's own classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[Any]
"""Elements as unsigned integers of their own width; element [r, c] is a bit pattern."""

Bool = npt.NDArray[np.bool_]

Spec = dict[str, Any]
"""What a file's metadata says of one weight: coding, dtype, outliers, pattern, shape (SPEC 5.16).

>>> spec = {"coding": "colex", "dtype": "F16", "outliers": None, "pattern": "2:4", "shape": [1, 6]}
"""

Parts = dict[str, bytes]
"""The bytes of each part by suffix: nm_values, nm_codes, nm_scale, nm_out_values, nm_out_index,
nm_out_codes (SPEC 5.10)."""


@dataclass(frozen=True, eq=False)
class Dense:
    """A tensor as bits: the safetensors name of its dtype, and unsigned integers of its shape."""

    dtype: str
    bits: Bits

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.bits.shape)}"


@dataclass(frozen=True, eq=False)
class Input:
    """The inputs of `encode` (SPEC 3.10, 4.15).

    Attributes
    ----------
    base : [R, K] bits of the dense base.
    pattern : "N:M".
    mask, out_mask : [R, K] bool, or None.
    scale : [R] bits of F32, for I8.
    outliers : [R, K] bits of the dense outliers, or None.
    out_pattern, coding : of the outliers, "4:256" ... and "idx8" or "colex".
    """

    base: Dense
    pattern: str
    mask: Bool | None = None
    scale: Bits | None = None
    outliers: Dense | None = None
    out_pattern: str = "4:256"
    coding: str = "idx8"
    out_mask: Bool | None = None

    @property
    def spec(self) -> Spec:
        """What the metadata says of the encoded weight."""
        outliers = None
        if self.outliers is not None:
            outliers = {
                "coding": self.coding,
                "dtype": self.outliers.dtype,
                "pattern": self.out_pattern,
            }
        return {
            "coding": "colex",
            "dtype": self.base.dtype,
            "outliers": outliers,
            "pattern": self.pattern,
            "shape": [int(size) for size in self.base.bits.shape],
        }

    def __str__(self) -> str:
        masks = [
            name
            for name, mask in (("mask", self.mask), ("outlier mask", self.out_mask))
            if mask is not None
        ]
        return ", ".join([describe(self.spec), *masks])


def describe(spec: Spec) -> str:
    """One line for a message: pattern, dtype, shape, outliers."""
    out = spec["outliers"]
    text = f"{spec['pattern']} {spec['dtype']} {spec['shape']}"
    if out is None:
        return text
    return f"{text}, outliers {out['pattern']} {out['dtype']} {out['coding']}"


class Refused(Exception):
    """An implementation refuses its input, with a code of SPEC part 7."""

    def __init__(self, code: str, message: str = "") -> None:
        self.code = code
        super().__init__(message or code)


def code_of(error: Exception) -> str | None:
    """The code of an exception: its attribute `code`, else the first word of its text.

    >>> code_of(ValueError("E_PAD w row 0: bit 7 is 1")), code_of(KeyError("w"))
    ('E_PAD', None)
    """
    words = f"{getattr(error, 'code', '') or error}".split()
    return words[0] if words and words[0][:2] in ("E_", "X_") else None


@dataclass(frozen=True)
class Implementation:
    """The callables under test; laws that need a missing one are skipped.

    A callable refuses its input by an exception that bears a code of SPEC part 7, as `code_of`
    finds it; every other exception counts as a crash.

    Attributes
    ----------
    rank : (ascending positions, N, M) -> code.
    unrank : (code, N, M) -> ascending positions.
    pack : (codes, width) -> bytes of one row.
    unpack : (bytes of one row, count, width) -> codes.
    encode : (Input) -> Parts; refuses with X_ codes and E_SCALE.
    decode : (Spec, Parts) -> Dense, the W of SPEC 4.9.
    canonicalise : (Spec, Parts) -> Parts of the same content, encoded without masks.
    read_file : (bytes of a file) -> name -> Dense, every weight as W, every other tensor as it is.
    write_file : (name -> (Spec, Parts), name -> Dense) -> bytes of the canonical file.
    ordered : also ask for the first code in the order of SPEC 3.20 and part 6.
    decode_checks : `decode` itself refuses bad parts; SPEC asks that of file readers only.
    patterns, dtypes, out_patterns : what the callables handle, None for all of it; the laws about
        single weights keep to that.  Whole files hold everything.
    code_of : exception -> its code, or None for a crash.
    """

    rank: Callable[[list[int], int, int], int] | None = None
    unrank: Callable[[int, int, int], list[int]] | None = None
    pack: Callable[[list[int], int], bytes] | None = None
    unpack: Callable[[bytes, int, int], list[int]] | None = None
    encode: Callable[[Input], Parts] | None = None
    decode: Callable[[Spec, Parts], Dense] | None = None
    canonicalise: Callable[[Spec, Parts], Parts] | None = None
    read_file: Callable[[bytes], dict[str, Dense]] | None = None
    write_file: Callable[[dict[str, tuple[Spec, Parts]], dict[str, Dense]], bytes] | None = None
    ordered: bool = False
    decode_checks: bool = True
    patterns: tuple[str, ...] | None = None
    dtypes: tuple[str, ...] | None = None
    out_patterns: tuple[str, ...] | None = None
    code_of: Callable[[Exception], str | None] = code_of

    def callables(self) -> dict[str, Callable[..., Any]]:
        """The callables that are there, by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: item for name, item in found.items() if callable(item) and name != "code_of"}

    def handles(self, spec: Spec) -> bool:
        """Whether a weight is of the patterns and dtypes that the callables handle."""
        out = spec["outliers"]
        return (
            _among(spec["pattern"], self.patterns)
            and _among(spec["dtype"], self.dtypes)
            and (out is None or _among(out["pattern"], self.out_patterns))
        )

    def handles_pattern(self, pattern: str) -> bool:
        """Whether ranks and streams of a base or outlier pattern are handled."""
        outlier = pattern.endswith(":256")
        return _among(pattern, self.out_patterns if outlier else self.patterns)


def _among(item: str, known: tuple[str, ...] | None) -> bool:
    return known is None or item in known
