"""Names of dot profiles (SPEC 8.6 to 8.15)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from nmref.errors import Code, NmrefError

Kind = Literal["exact", "f64.seq", "f32.seq", "f32.fma", "f32.lanes", "tc", "i32"]
Rounding = Literal["rz", "rd", "rne"]

_SIMPLE = ("exact", "f64.seq", "f32.seq", "f32.fma", "i32")
_LANES = re.compile(r"f32\.lanes(2|4|8|16|32|64)\.(mul|fma)")
_TC = re.compile(r"tc\.L(4|8|16|32)\.F([2-5][0-9]|60)\.(rz|rd|rne)\.(rz|rne)\.(col|slot)")


@dataclass(frozen=True)
class Profile:
    """How the terms of a dot are added up.

    Attributes
    ----------
    name : as in SPEC, without + and what follows.
    kind : the family that the name belongs to.
    split : base and outliers each by the profile, then one addition; else all terms together.
    size : lanes of f32.lanes, products a group of tc; else 0.
    fused : f32.lanes: fma or mul.
    fraction : F of tc.
    inner, outer : roundings of tc.
    slots : tc groups by slot, not by column.
    """

    name: str
    kind: Kind
    split: bool = False
    size: int = 0
    fused: bool = False
    fraction: int = 0
    inner: Rounding = "rz"
    outer: Rounding = "rz"
    slots: bool = False

    @classmethod
    def parse(cls, text: str) -> Profile:
        """A name or a full name.  Raises T_ARGUMENT.

        >>> str(Profile.parse("f64.seq")), Profile.parse("f32.lanes8.fma+split").size
        ('f64.seq+merged', 8)
        """
        name, plus, order = text.partition("+")
        found = _named(name)
        allowed = ("split",) if found and found.slots else ("merged", "split")
        if found is None or (plus and (order not in allowed or found.kind == "i32")):
            want = "a name of SPEC 8.15 such as f64.seq, f32.lanes8.fma+split or i32"
            raise NmrefError(Code.T_ARGUMENT, "profile", _shown(text), want)
        return found if not plus else found.with_order(order == "split")

    def with_order(self, split: bool) -> Profile:
        """The same profile, split or merged."""
        return Profile(**{**vars(self), "split": split})

    def __str__(self) -> str:
        if self.kind == "i32":
            return self.name
        return f"{self.name}+{'split' if self.split else 'merged'}"


def _shown(text: str) -> str:
    """The text on one line, and visible."""
    return text if text and text.isprintable() else repr(text)


def _named(name: str) -> Profile | None:
    if name in _SIMPLE:
        return Profile(name, name)  # type: ignore[arg-type]
    if lanes := _LANES.fullmatch(name):
        return Profile(name, "f32.lanes", size=int(lanes[1]), fused=lanes[2] == "fma")
    if (tc := _TC.fullmatch(name)) and int(tc[2]) >= 23:
        slots = tc[5] == "slot"
        return Profile(
            name,
            "tc",
            split=slots,
            size=int(tc[1]),
            fraction=int(tc[2]),
            inner=tc[3],  # type: ignore[arg-type]
            outer=tc[4],  # type: ignore[arg-type]
            slots=slots,
        )
    return None
