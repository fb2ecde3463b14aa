"""Files with two faults: an ordered reader names the earlier one (SPEC 1.10 and 6.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

from nmref.conformance.suite.cases import Case, Part
from nmref.testing.drafts import Draft, Entries, draft
from nmref.testing.header_faults import Change, entry, file, recast
from nmref.testing.meta_faults import doc, spec
from nmref.testing.recipes import Recipe

RECIPE = Recipe(pattern="2:4", dtype="F16", rows=2, columns=9, crowd="full", salt=3)

FAR = 5
"""How far apart two faults are taken, besides neighbours and the digest."""


class Fault(NamedTuple):
    """A fault: a slug, its codes (what an ordered reader reports first), what it touches, how."""

    name: str
    codes: str
    touches: str
    change: Change


def _data(name: str, at: int, change: Callable[[int], int]) -> Change:
    """Change a byte of a tensor, covered by the digest."""

    def patch(entries: Entries, data: bytes) -> bytes:
        place = entries[name]["data_offsets"][0] + at
        return data[:place] + bytes([change(data[place])]) + data[place + 1 :]

    return lambda made: made.layouts.append(patch)


def _equal_indices(entries: Entries, data: bytes) -> bytes:
    place = entries["b.nm_out_index"]["data_offsets"][0]
    return data[: place + 1] + data[place : place + 1] + data[place + 2 :]


def _gone(name: str) -> Change:
    """A tensor and its bytes taken away."""

    def remove(entries: Entries, data: bytes) -> bytes:
        begin, end = entries.pop(name)["data_offsets"]
        for item in entries.values():
            if item["data_offsets"][0] >= end:
                item["data_offsets"] = [at - (end - begin) for at in item["data_offsets"]]
        return data[:begin] + data[end:]

    return lambda made: made.layouts.append(remove)


def _more(name: str) -> Change:
    """A tensor without bytes."""

    def add(entries: Entries, data: bytes) -> bytes:
        entries[name] = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
        return data

    return lambda made: made.layouts.append(add)


def _deeper(name: str) -> Change:
    """One more dimension."""

    def reshape(entries: Entries, data: bytes) -> bytes:
        entries[name]["shape"] = [1, *entries[name]["shape"]]
        return data

    return lambda made: made.layouts.append(reshape)


def _second_key(made: Draft) -> None:
    made.pairs.append(lambda pairs: pairs["__metadata__"].update(format="pt"))


FAULTS = [
    Fault("trailing-data", "E_HEADER", "file", file(lambda data: data + b"\0")),
    Fault("unknown-dtype", "E_DTYPE", "empty", entry("empty", dtype="F4")),
    Fault("second-key", "E_META", "pairs", _second_key),
    Fault("version", "E_VERSION", "spec", doc(spec="2.0")),
    Fault("new-member", "E_META", "member", doc(more="1")),
    Fault("k-limit", "E_LIMIT E_SHAPE", "a", spec("a", shape=[2, 1 << 31])),
    Fault("dense-beside-weight", "E_UNEXPECTED", "b", _more("b")),
    Fault("no-codes", "E_MISSING", "b.nm_codes", _gone("b.nm_codes")),
    Fault("dtype-of-values", "E_DTYPE", "c.nm_values", recast("c.nm_values", "U16")),
    Fault("shape-of-outliers", "E_SHAPE", "c.nm_out_values", _deeper("c.nm_out_values")),
    Fault("part-of-no-weight", "E_UNEXPECTED", "d", _more("d.nm_values")),
    Fault("padding", "E_PAD", "a", _data("a.nm_codes", 1, lambda byte: byte | 0x80)),
    Fault("code-range", "E_CODE_RANGE", "a", _data("a.nm_codes", 0, lambda byte: byte | 7)),
    Fault("tail", "E_TAIL", "a", _data("a.nm_values", 23, lambda byte: byte | 0x80)),
    Fault("scale", "E_SCALE", "b.nm_scale", _data("b.nm_scale", 3, lambda byte: byte | 0x80)),
    Fault("padding-of-b", "E_PAD", "b.nm_codes", _data("b.nm_codes", 3, lambda byte: byte | 0x80)),
    Fault("indices", "E_INDEX_ORDER", "b.nm_out_index",
          lambda made: made.layouts.append(_equal_indices)),
    Fault("padding-of-outliers", "E_PAD", "c.nm_out_codes",
          _data("c.nm_out_codes", 10, lambda byte: byte | 0x80)),
    Fault("digest", "E_DIGEST", "digest", doc(content_sha256="0" * 64)),
]  # fmt: skip
"""In the order of SPEC part 6."""

DATA = ("padding", "code-range", "tail")
"""Faults in the data of weight a, which go together."""


def _apart(first: Fault, second: Fault) -> bool:
    """Whether the two can be told apart and do not hide each other."""
    if first.codes.split()[0] in second.codes or second.codes in first.codes.split():
        return False
    return first.touches != second.touches or (first.name in DATA and second.name in DATA)


def pairs() -> Iterable[tuple[Fault, Fault]]:
    """Neighbours, faults some way apart, and each with the digest."""
    last = len(FAULTS) - 1
    for (i, first), (j, second) in combinations(enumerate(FAULTS), 2):
        if (j - i in (1, 2, FAR) or j == last) and _apart(first, second):
            yield first, second


def files_order() -> Part:
    """Part `files-order`."""
    return Part("files-order", [_case(*pair) for pair in pairs()])


def _case(first: Fault, second: Fault) -> Case:
    made = draft(replace(RECIPE))
    for change in (first.change, second.change):
        change(made)
    codes = tuple(dict.fromkeys(f"{first.codes} {second.codes}".split()))
    name = f"read/order/{first.name}-before-{second.name}"
    clauses = ("1.9", "1.10", "6.1")
    given = {"file": made.build().hex()}
    return Case(name, "read", clauses, given, ("order-of-checks",), codes)
