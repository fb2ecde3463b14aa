"""Files made from parts that a test may spoil one by one, with a digest that fits the rest.

It shares no code with the witnesses: json, hashlib and the text of SPEC part 5.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from math import prod
from typing import Any

from tests.cases import ONE, bits
from tests.witness import WITNESSES, Case, Parts, Spec

SIZES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 8),
}


def compact(value: Any, sort: bool = True) -> str:
    """The canonical text of SPEC 5.18."""
    return json.dumps(value, sort_keys=sort, separators=(",", ":"))


def digest(tensors: Parts, document: dict[str, Any]) -> str:
    """SPEC 5.20."""
    lines = [
        f"{hashlib.sha256(data).hexdigest()} {dtype} {compact([*shape])} {name}\n"
        for name, (dtype, shape, data) in sorted(tensors.items())
    ]
    rest = {key: value for key, value in document.items() if key != "content_sha256"}
    return hashlib.sha256("".join([*lines, compact(rest), "\n"]).encode()).hexdigest()


def frame(header: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    """H, the header, the data."""
    return struct.pack("<Q", len(header) if length is None else length) + header + body


class Draft:
    """A file before it is bytes.  Tests change its members; `build` puts them together.

    `texts`, `headers`, `entries`, `files` are functions that change S, the header's text, the
    object of tensor entries, and the finished bytes.
    """

    def __init__(self, weights: dict[str, tuple[Spec, Parts]], others: Parts | None = None) -> None:
        self.tensors: Parts = dict(others or {})
        for name, (_, parts) in weights.items():
            self.tensors |= {f"{name}.{suffix}": part for suffix, part in parts.items()}
        self.document: dict[str, Any] = {
            "spec": "1.0",
            "tensors": {name: deepcopy(spec) for name, (spec, _) in weights.items()},
        }
        self.texts: list[Callable[[str], str]] = []
        self.pairs: list[Callable[[dict[str, Any]], object]] = []
        self.entries: list[Callable[[dict[str, Any]], object]] = []
        self.headers: list[Callable[[str], str | bytes]] = []
        self.files: list[Callable[[bytes], bytes]] = []

    def patch(self, name: str, at: int, mask: int, value: int) -> None:
        """Give some bits of one byte of a tensor new values."""
        dtype, shape, data = self.tensors[name]
        byte = data[at] & ~mask | value
        self.tensors[name] = dtype, shape, data[:at] + bytes([byte]) + data[at + 1 :]

    def parts(self, name: str) -> Parts:
        """The parts of a weight by suffix."""
        return {
            found.rpartition(".")[2]: part
            for found, part in self.tensors.items()
            if found.startswith(f"{name}.nm_")
        }

    def build(self) -> bytes:
        """The file; in canonical form as far as the changes allow."""
        if "content_sha256" not in self.document:
            self.document["content_sha256"] = digest(self.tensors, self.document)
        text = compact(self.document)
        for change in self.texts:
            text = change(text)
        pairs: dict[str, Any] = {"__metadata__": {"nmref": text}}
        for alter in self.pairs:
            alter(pairs)
        entries, body = {}, b""
        for name in sorted(self.tensors, key=lambda name: (-SIZES[self.tensors[name][0]], name)):
            dtype, shape, data = self.tensors[name]
            assert len(data) == prod(shape) * SIZES[dtype]
            offsets = [len(body), len(body) + len(data)]
            entries[name] = {"dtype": dtype, "shape": [*shape], "data_offsets": offsets}
            body += data
        for alter in self.entries:
            alter(entries)
        header: str | bytes = compact(pairs | entries, sort=False)
        for reword in self.headers:
            assert isinstance(header, str)
            header = reword(header)
        raw = header.encode("utf-8") if isinstance(header, str) else header
        data = frame(raw + b" " * (-len(raw) % 8), body)
        for spoil in self.files:
            data = spoil(data)
        return data


@cache
def float_weight() -> tuple[Spec, Parts]:
    """F16 2:4, two rows of six columns, no outliers; every slot of row 0 block 0 is used."""
    one = ONE["F16"]
    case = Case("F16", bits("F16", [[one, one, 0, 0, 0, one], [0, 0, 0x8000, 0, one, 0]]), "2:4")
    return case.spec, WITNESSES[0].encode(case)


@cache
def integer_weight(coding: str = "idx8") -> tuple[Spec, Parts]:
    """I8 2:4, two rows of six columns, outliers 4:256 of F16 at columns 1 2 3 4."""
    base = bits("I8", [[5, 0, 0, 0, 0, 6], [7, 0, 0, 0, 0, 8]])
    scale, outliers = bits("F32", [0x3F800000] * 2), bits("F16", [[0, 0, 0x4000, 0, 0, 0]] * 2)
    case = Case("I8", base, "2:4", None, scale, outliers, "F16", "4:256", coding)
    return case.spec, WITNESSES[0].encode(case)


def draft() -> Draft:
    """Weights a (F16), b (I8, outliers by index), c (I8, outliers by code); two other tensors."""
    weights = {"a": float_weight(), "b": integer_weight(), "c": integer_weight("colex")}
    others: Parts = {"empty": ("F32", (0, 7), b""), "norm": ("BF16", (3,), bytes(range(6)))}
    return Draft(weights, others)


def minimal() -> Draft:
    """One weight, the example of SPEC D.2."""
    case = Case("F16", bits("F16", [[ONE["F16"]]]), "2:4")
    return Draft({"w": (case.spec, WITNESSES[0].encode(case))})
