"""Generated text that is the same everywhere: JSON, hexadecimal, numbers that JSON cannot hold."""

from __future__ import annotations

import json
from collections.abc import Mapping

EXACT = 1 << 53
"""Up to here a JSON number is the same integer in every reader, double precision included."""

SHORT = 80
"""The longest object that `dumps` puts on one line."""


def dumps(document: object, indent: int = 0) -> str:
    """JSON with sorted keys and two spaces of indent; what is flat and short stays on one line.

    >>> print(dumps({"b": [1, 2], "a": {"y": 0, "x": [{}]}}))
    {
      "a": {
        "x": [
          {}
        ],
        "y": 0
      },
      "b": [1, 2]
    }
    """
    line = json.dumps(document, sort_keys=True)
    if _flat(document, line):
        return line
    pad, end = " " * (indent + 2), "\n" + " " * indent
    if isinstance(document, Mapping):
        inner = [f"{json.dumps(k)}: {dumps(v, indent + 2)}" for k, v in sorted(document.items())]
        return "{\n" + ",\n".join(pad + item for item in inner) + end + "}"
    assert isinstance(document, (list, tuple))
    inner = [dumps(item, indent + 2) for item in document]
    return "[\n" + ",\n".join(pad + item for item in inner) + end + "]"


def _flat(document: object, line: str) -> bool:
    """A scalar; an array of scalars; an object of scalars on a short line."""
    if isinstance(document, Mapping):
        return len(line) <= SHORT and not any(map(_container, document.values()))
    return not isinstance(document, (list, tuple)) or not any(map(_container, document))


def _container(item: object) -> bool:
    return isinstance(item, (Mapping, list, tuple))


def json_bytes(document: object) -> bytes:
    """The bytes of a generated JSON file: ASCII, LF at the end."""
    return (dumps(document) + "\n").encode("ascii")


def number(value: int) -> int | str:
    """The integer itself up to 2^53, above it a string of decimals.

    >>> number(1 << 53), number((1 << 53) + 1)
    (9007199254740992, '9007199254740993')
    """
    return value if value <= EXACT else str(value)


def hexadecimal(value: int, bits: int) -> str:
    """`0x` and ceil(bits / 4) lower-case digits, the most significant first.

    >>> hexadecimal(0x0FF, 14)
    '0x00ff'
    """
    return f"0x{value:0{-(-bits // 4)}x}"


def hex_bytes(data: bytes) -> str:
    """Bytes in file order, as SPEC writes them.

    >>> hex_bytes(bytes([0x88, 0xC6, 0xA2]))
    '88 c6 a2'
    """
    return data.hex(" ")
