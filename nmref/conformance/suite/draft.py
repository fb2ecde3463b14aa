"""Valid files that no canonical writer writes: order, white space, escapes, holes of no bytes."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import Any

from nmref.conformance.suite.values import SIZES, Chance, Json
from nmref.container import strictjson

_WHITE = (" ", "\t", "\n", "\r", "  ", "\r\n")


@dataclass
class Draft:
    """A file before it is bytes; each field is one liberty that SPEC part 5 gives.

    Attributes
    ----------
    weights : name -> spec and parts; others : name -> array.
    spec : the text of 5.14.
    extra : x- members of S; of_weights, of_outliers : those of every weight and its outliers.
    header : names in the order of the header, `__metadata__` among them; None: canonical.
    data : names in the order of the data; None: that of the header.
    white : a choice of white space between all tokens; None: none.
    escaped : a choice of characters of names and strings that are written as escapes; None: none.
    members : order of the members of entries.
    align : H is a multiple; spaces : more of them.
    empty_at : where tensors without bytes begin: "before", "start" or "end".
    """

    weights: dict[str, Json] = field(default_factory=dict)
    others: dict[str, Json] = field(default_factory=dict)
    spec: str = "1.0"
    extra: dict[str, str] = field(default_factory=dict)
    of_weights: dict[str, str] = field(default_factory=dict)
    of_outliers: dict[str, str] = field(default_factory=dict)
    header: list[str] | None = None
    data: list[str] | None = None
    white: Chance | None = None
    escaped: Chance | None = None
    members: tuple[str, ...] = ("dtype", "shape", "data_offsets")
    align: int = 8
    spaces: int = 0
    empty_at: str = "before"

    def tensors(self) -> dict[str, Json]:
        """Every tensor of the file."""
        found = dict(self.others)
        for name, weight in self.weights.items():
            found |= {f"{name}.{suffix}": part for suffix, part in weight["parts"].items()}
        return found

    def canonical_order(self) -> list[str]:
        """SPEC 5.19."""
        tensors = self.tensors()
        return sorted(tensors, key=lambda name: (-SIZES[tensors[name]["dtype"]], name))

    def build(self) -> bytes:
        """The bytes of the file."""
        order = self.header or ["__metadata__", *self.canonical_order()]
        entries, body = self._lay_out([n for n in order if n != "__metadata__"])
        entries["__metadata__"] = {"nmref": self._metadata()}
        header = self._object({name: entries[name] for name in order}).encode("ascii")
        header += b" " * (-len(header) % self.align + self.spaces)
        return struct.pack("<Q", len(header)) + header + body

    def _lay_out(self, order: list[str]) -> tuple[dict[str, Any], bytes]:
        tensors, places, body = self.tensors(), {}, b""
        for name in self.data or order:
            raw = bytes.fromhex(tensors[name]["hex"])
            places[name] = [len(body), len(body) + len(raw)]
            body += raw
        entries: dict[str, Any] = {}
        for name in order:
            begin, end = places[name]
            if begin == end and self.empty_at != "before":
                begin = end = 0 if self.empty_at == "start" else len(body)
            all_members = {
                "dtype": tensors[name]["dtype"],
                "shape": tensors[name]["shape"],
                "data_offsets": [begin, end],
            }
            entries[name] = {member: all_members[member] for member in self.members}
        return entries, body

    def _metadata(self) -> str:
        weights = {}
        for name, weight in self.weights.items():
            members = {**weight["spec"], **self.of_weights}
            if members["outliers"] is not None:
                members["outliers"] = {**members["outliers"], **self.of_outliers}
            weights[name] = members
        document = {**self.extra, "spec": self.spec, "tensors": weights}
        document["content_sha256"] = digest(self.tensors(), document)
        return strictjson.dumps(document)

    def _space(self) -> str:
        return "" if self.white is None else self.white.pick(("", "", *_WHITE))

    def _object(self, value: object, outer: bool = True) -> str:
        """JSON with white space between tokens, none before the first and after the last."""
        if isinstance(value, dict):
            inner = [f"{self._string(k)}{self._space()}:{self._space()}{self._object(v, False)}"
                     for k, v in value.items()]  # fmt: skip
            return "{" + self._list(inner) + "}"
        if isinstance(value, list):
            return "[" + self._list([self._object(item, False) for item in value]) + "]"
        return self._string(value) if isinstance(value, str) else str(value)

    def _list(self, items: list[str]) -> str:
        first, last = self._space(), self._space()
        return first + "".join(
            f"{self._space() + ',' + self._space() if i else ''}{item}"
            for i, item in enumerate(items)
        ) + last  # fmt: skip

    def _string(self, text: str) -> str:
        if self.escaped is None:
            return strictjson.dumps(text)
        return '"' + "".join(self._character(c) for c in text) + '"'

    def _character(self, c: str) -> str:
        assert self.escaped is not None
        if c == "/" and self.escaped.coin(2):
            return "\\/"
        if self.escaped.coin(12):
            code = f"{ord(c):04x}"
            return f"\\u{code.upper() if self.escaped.coin(2) else code}"
        return "\\" + c if c in '"\\' else c


def digest(tensors: dict[str, Json], document: dict[str, Any]) -> str:
    """content_sha256 (SPEC 5.20)."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        data = hashlib.sha256(bytes.fromhex(tensor["hex"])).hexdigest()
        shape = strictjson.dumps(tensor["shape"])
        total.update(f"{data} {tensor['dtype']} {shape} {name}\n".encode("ascii"))
    rest = {key: value for key, value in document.items() if key != "content_sha256"}
    total.update((strictjson.dumps(rest) + "\n").encode("ascii"))
    return total.hexdigest()
