"""Outputs of a client against the expected ones, to the bit.

F32 results of arithmetic are compared as canonical results (SPEC 8.4).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nmref.conformance.arrays import BYTES, MEMBERS, Malformed, read_array, shown
from nmref.conformance.taps import NAME, place
from nmref.dtypes import Array
from nmref.numerics import canonical

_NUMBER = re.compile("[0-9a-f]{1,64}")
_NUMBERS = ("masks", "codes", "next")
"""Members that are lists of hexadecimal numbers; leading zeros do not count."""

_AXES = {1: ("element",), 2: ("row", "column")}


@dataclass(frozen=True)
class Difference:
    """The first difference of two outputs.

    Attributes
    ----------
    where : the member, such as "y" or "parts.nm_codes", with row and column in an array.
    got, want : what is there and what is expected: bits and value of an element.
    index : of the element; None where the difference is not one of elements.
    count, size : how many elements differ, and of how many; 0 as above.
    """

    where: str
    got: str
    want: str
    index: tuple[int, ...] | None = None
    count: int = 0
    size: int = 0

    def __str__(self) -> str:
        more = f"; {self.count} of {self.size} elements differ" if self.size else ""
        return f"{self.where}: {self.got}, want {self.want}{more}"


def difference(op: str, level: str, got: Any, want: Mapping[str, Any]) -> Difference | None:
    """The first difference of an output, None if there is none.  Raises Malformed for `want`.

    A client's trace may have more members than are expected.
    """
    if op == "trace":
        got = {name: value for name, value in got.items() if name in want}
    return _compare("", op, level == "numeric", got, want)


def _compare(where: str, op: str, numeric: bool, got: Any, want: Any) -> Difference | None:
    if isinstance(want, Mapping):
        if set(want) == MEMBERS and isinstance(want["hex"], str):
            return _arrays(where, numeric, got, want)
        return _members(where, op, numeric, got, want)
    name = where.rpartition(".")[2]
    if op == "write" and name == "file":
        return _files(where, got, want)
    if isinstance(want, list):
        return _lists(where, name in _NUMBERS, got, want)
    if type(got) is type(want) and got == want:
        return None
    return Difference(where, shown(got), shown(want))


def _members(
    where: str, op: str, numeric: bool, got: Any, want: Mapping[str, Any]
) -> Difference | None:
    at = where or "output"
    if not isinstance(got, dict):
        return Difference(at, shown(got), "an object")
    if set(got) != set(want):
        missing, extra = sorted(set(want) - set(got)), sorted(set(got) - set(want))
        return Difference(at, f"without {shown(missing)}, with {shown(extra)}", "neither")
    found = []
    for name in sorted(want, key=_order):
        inner = f"{where}.{name}" if where else name
        if (one := _compare(inner, op, numeric, got[name], want[name])) is not None:
            found.append(one)
    if found and where == "taps":
        return replace(found[0], count=len(found), size=len(want))
    return found[0] if found else None


def _order(name: str) -> tuple[int, int, int]:
    """Taps as they are computed, so that the first difference is the cause; the digest last."""
    if NAME.fullmatch(name):
        return place(name)
    return (9, 0, 0) if name == "digest" else (0, 0, 0)


def _arrays(where: str, numeric: bool, got: Any, want: Any) -> Difference | None:
    expected = read_array(want, where)
    try:
        found = read_array(got, where)
    except Malformed as error:
        return Difference(error.where, error.got, error.want)
    for member in ("dtype", "shape"):
        if got[member] != want[member]:
            return Difference(where, f"{member} {got[member]}", str(want[member]))
    if numeric and want["dtype"] == "F32":
        found, expected = canonical(found), canonical(expected)
    a, b = (_bytes(array) for array in (found, expected))
    differing = np.flatnonzero((a != b).any(axis=-1))
    if not len(differing):
        return None
    first = int(differing[0])
    index = tuple(int(i) for i in np.unravel_index(first, expected.shape))
    return Difference(
        " ".join((where, _position(index))).rstrip(),
        _element(found.reshape(-1)[first], a[first]),
        _element(expected.reshape(-1)[first], b[first]),
        index,
        len(differing),
        expected.size,
    )


def _bytes(array: Array) -> Array:
    """[elements, bytes of one]."""
    raw = np.frombuffer(array.tobytes(), dtype=np.uint8)
    return raw.reshape(array.size, array.itemsize)


def _position(index: tuple[int, ...]) -> str:
    axes = _AXES.get(len(index))
    if axes is None:
        return str(list(index))
    return " ".join(f"{axis} {i}" for axis, i in zip(axes, index, strict=True))


def _element(value: Any, raw: Array) -> str:
    """Bits and value: 0x3f800000 (1.0)."""
    return f"0x{raw.tobytes()[::-1].hex()} ({value!s})"


def _lists(where: str, numbers: bool, got: Any, want: list[Any]) -> Difference | None:
    if not isinstance(got, list) or len(got) != len(want):
        what = f"{len(got)} elements" if isinstance(got, list) else shown(got)
        return Difference(where, what, f"an array of {len(want)}")
    same = _same_number if numbers else _same
    differing = [i for i, pair in enumerate(zip(got, want, strict=True)) if not same(*pair)]
    if not differing:
        return None
    first = differing[0]
    at, a, b = f"{where} element {first}", shown(got[first]), shown(want[first])
    return Difference(at, a, b, (first,), len(differing), len(want))


def _same(got: Any, want: Any) -> bool:
    return type(got) is type(want) and bool(got == want)


def _same_number(got: Any, want: Any) -> bool:
    if want is None or not isinstance(got, str) or not _NUMBER.fullmatch(got):
        return want is None and got is None
    return int(got, 16) == int(want, 16)


def _files(where: str, got: Any, want: str) -> Difference | None:
    """Bytes of a file: the first offset that differs."""
    if not isinstance(got, str) or not BYTES.fullmatch(got):
        return Difference(where, f"hex {shown(got)}", "two lower-case digits for every byte")
    a, b = bytes.fromhex(got), bytes.fromhex(want)
    first = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    if first is not None:
        at = f"{where} byte {first}"
        return Difference(at, f"0x{a[first]:02x}", f"0x{b[first]:02x}", (first,))
    return None if len(a) == len(b) else Difference(where, f"{len(a)} bytes", f"{len(b)}")
