"""Memories for hardware: $readmemh text, with a side-car for what the text cannot say.

$readmemh knows neither the width of a word nor a checksum, and leaves words unchanged where a file
is short.  So width, depth and order stand in the file's comments, and in JSON beside it together
with digests.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nmref.conformance.text import json_bytes
from nmref.container.metadata import SPEC_VERSION
from nmref.errors import Code, NmrefError

SCHEMA = "urn:nmref:schema:table:1"
"""The `schema` member of a side-car, and the `$id` of formats/schema/table.schema.json."""

_CHUNK = 1 << 16  # words that are text or Python integers at once: a tap may have millions


@dataclass(frozen=True)
class Field:
    """Some bits of a word.

    Attributes
    ----------
    name, meaning : what the bits are.
    high, low : the numbers of the highest and the lowest bit, as in Verilog's [high:low].
    """

    name: str
    high: int
    low: int
    meaning: str


@dataclass(frozen=True)
class Memory:
    """One memory of `len(words)` words of `width` bits, in ascending order of addresses.

    Attributes
    ----------
    name : the file name without extension.
    format : id of the page in formats/ that it belongs to, such as base-8-16, or "trace".
    title : one line: what the words are.
    clause : the clause of SPEC.md that defines them.
    order : one line: what stands at which address.
    fields : the parts of a word, from the highest bit down.
    invalid : one line: what an address that is no valid code gives; None if there is none.
    width : bits of a word.
    words : the content; an array.array of a trace stays one.
    """

    name: str
    format: str
    title: str
    clause: str
    order: str
    fields: tuple[Field, ...]
    invalid: str | None
    width: int
    words: Sequence[int]

    def __post_init__(self) -> None:
        for address, word in enumerate(self.words):
            if not 0 <= word < 1 << self.width:
                where, want = f"{self.name} word {address}", f"{self.width} bits"
                raise NmrefError(Code.T_ARGUMENT, where, str(word), want)

    @property
    def depth(self) -> int:
        """Number of words."""
        return len(self.words)

    @property
    def word_bytes(self) -> int:
        """Bytes of a word in `raw`: the smallest whole number."""
        return -(-self.width // 8)

    def text(self) -> bytes:
        """The $readmemh file: comments, then one word a line, most significant digit first."""
        digits = -(-self.width // 4)
        source = f"{self.format}, SPEC {SPEC_VERSION} clause {self.clause}"
        lines = [
            f"// nmref {self.name} ({source}): {self.title}",
            f"// width {self.width} bits, depth {self.depth} words, one word a line, "
            "most significant digit first",
            f"// order: {self.order}",
            *([f"// invalid codes: {self.invalid}"] if self.invalid else []),
            f"// declare: reg [{self.width - 1}:0] memory [0:{self.depth - 1}];",
        ]
        words = ("".join(f"{word:0{digits}x}\n" for word in chunk) for chunk in self._chunks())
        return b"".join(part.encode("ascii") for part in ("\n".join(lines) + "\n", *words))

    def raw(self) -> bytes:
        """The words in order, each little-endian in `word_bytes` bytes, the bits above it 0."""
        size = self.word_bytes
        return b"".join(
            b"".join(word.to_bytes(size, "little") for word in chunk) for chunk in self._chunks()
        )

    def _chunks(self) -> Iterator[Sequence[int]]:
        return (self.words[i : i + _CHUNK] for i in range(0, self.depth, _CHUNK))

    def sidecar(self) -> bytes:
        """The JSON beside the file: see formats/schema/table.schema.json."""
        raw = self.raw()
        return json_bytes(
            {
                "schema": SCHEMA,
                "file": f"{self.name}.memh",
                "format": self.format,
                "title": self.title,
                "spec": {"version": SPEC_VERSION, "clause": self.clause},
                "width": self.width,
                "depth": self.depth,
                "order": self.order,
                "fields": [vars(field) for field in self.fields],
                "invalid": self.invalid,
                "sha256": hashlib.sha256(self.text()).hexdigest(),
                "words": {
                    "bytes_per_word": self.word_bytes,
                    "crc32": f"{zlib.crc32(raw):08x}",
                    "sha256": hashlib.sha256(raw).hexdigest(),
                },
            }
        )
