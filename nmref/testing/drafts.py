"""Files before they are bytes: laid out canonically, with a digest that fits, open to changes."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from nmref.testing.contents import CONTAINER_SIZES, Weight, part_shapes, weight
from nmref.testing.faults import COLEX, IDX8
from nmref.testing.plain import Dense, Parts, Spec
from nmref.testing.recipes import Recipe

Entries = dict[str, dict[str, Any]]
"""name -> dtype, shape, data_offsets, as the header has them."""


def compact(value: Any, sort: bool = True) -> str:
    """The canonical JSON text of SPEC 5.18."""
    return json.dumps(value, sort_keys=sort, separators=(",", ":"))


class Draft:
    """Weights and other tensors, and the changes that make another file of them.

    Attributes
    ----------
    weights, others : what the file holds; `want` is what reading it gives.
    document : S without its digest; changes here are covered by the digest.
    layouts : (entries, data) -> data, before the digest; `late` likewise, after it.
    texts : S -> S; `headers` : header -> header; `files` : file -> file.
    align : H is a multiple of it.
    """

    def __init__(self, weights: dict[str, Weight], others: dict[str, Dense]) -> None:
        self.weights = weights
        self.others = others
        self.want = {name: item.dense for name, item in weights.items()} | others
        self.document: dict[str, Any] = {
            "spec": "1.0",
            "tensors": {name: dict(item.spec) for name, item in weights.items()},
        }
        self.layouts: list[Callable[[Entries, bytes], bytes]] = []
        self.late: list[Callable[[Entries, bytes], bytes]] = []
        self.pairs: list[Callable[[dict[str, Any]], object]] = []
        self.texts: list[Callable[[str], str]] = []
        self.headers: list[Callable[[str], str | bytes]] = []
        self.files: list[Callable[[bytes], bytes]] = []
        self.align = 8

    @property
    def encoded(self) -> dict[str, tuple[Spec, Parts]]:
        """What `write_file` takes."""
        return {name: (item.spec, item.parts) for name, item in self.weights.items()}

    def build(self) -> bytes:
        """The file."""
        entries, data = self._lay_out()
        for change in self.layouts:
            data = change(entries, data)
        document = dict(self.document)
        document.setdefault("content_sha256", digest(entries, data, document))
        for change in self.late:
            data = change(entries, data)
        text = compact(document)
        for reword in self.texts:
            text = reword(text)
        pairs: dict[str, Any] = {"__metadata__": {"nmref": text}}
        for alter in self.pairs:
            alter(pairs)
        header: str | bytes = compact(pairs | entries, sort=False)
        for rewrite in self.headers:
            assert isinstance(header, str)
            header = rewrite(header)
        raw = header.encode() if isinstance(header, str) else header
        file = frame(raw + b" " * (-len(raw) % self.align), data)
        for spoil in self.files:
            file = spoil(file)
        return file

    def _lay_out(self) -> tuple[Entries, bytes]:
        tensors = {
            name: (d.dtype, list(d.bits.shape), _bytes(d)) for name, d in self.others.items()
        }
        for name, item in self.weights.items():
            for suffix, (dtype, shape) in part_shapes(item.spec).items():
                tensors[f"{name}.{suffix}"] = (dtype, shape, item.parts[suffix])
        entries: Entries = {}
        data = b""
        for name in sorted(tensors, key=lambda name: (-CONTAINER_SIZES[tensors[name][0]], name)):
            dtype, shape, body = tensors[name]
            offsets = [len(data), len(data) + len(body)]
            entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
            data += body
        return entries, data


def _bytes(dense: Dense) -> bytes:
    return dense.bits.astype(dense.bits.dtype.newbyteorder("<")).tobytes()


def frame(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """H, the header, the data."""
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def digest(entries: Entries, data: bytes, document: dict[str, Any]) -> str:
    """content_sha256 (SPEC 5.20)."""
    lines = []
    for name in sorted(entries):
        begin, end = entries[name]["data_offsets"]
        sha256 = hashlib.sha256(data[begin:end]).hexdigest()
        shape = compact(entries[name]["shape"])
        lines.append(f"{sha256} {entries[name]['dtype']} {shape} {name}\n")
    rest = {key: value for key, value in document.items() if key != "content_sha256"}
    return hashlib.sha256("".join([*lines, compact(rest), "\n"]).encode()).hexdigest()


def _other(dtype: str, shape: tuple[int, ...], salt: int) -> Dense:
    size = CONTAINER_SIZES[dtype]
    count = int(np.prod(shape, dtype=np.int64)) * size
    top = 2 if dtype == "BOOL" else 251
    data = bytes((salt + 7 * i) % top for i in range(count))
    return Dense(dtype, np.frombuffer(data, f"<u{size}").reshape(shape))


def draft(recipe: Recipe) -> Draft:
    """Weights a (the recipe), b (I8, outliers by index), c (outliers by code), one (1 x 1).

    Others: norm BF16 [3], flag BOOL [1], empty F32 [0,7].
    """
    small: dict[str, Any] = {"rows": 2, "columns": 9, "pattern": "4:8"}
    other = replace(recipe, crowd="some", masked=False, special="none", **small)
    weights = {
        "a": weight(recipe),
        "b": weight(replace(other, dtype="I8", out=IDX8)),
        "c": weight(replace(other, dtype="F16", out=COLEX)),
        "one": weight(Recipe(salt=recipe.salt)),
    }
    others = {
        "norm": _other("BF16", (3,), recipe.salt),
        "flag": _other("BOOL", (1,), recipe.salt),
        "empty": _other("F32", (0, 7), 0),
    }
    return Draft(weights, others)


def every_dtype(salt: int) -> dict[str, Dense]:
    """An ordinary tensor of every container dtype, and one without dimensions."""
    tensors = {f"any.{dtype}": _other(dtype, (2, 3), salt) for dtype in CONTAINER_SIZES}
    return tensors | {"scalar": _other("I64", (), salt)}
