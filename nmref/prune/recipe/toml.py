"""A small writer of TOML 1.0; the standard library only reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nmref.errors import Code, NmrefError

_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_ESCAPES = dict(zip('"\\\b\t\n\f\r', '"\\btnfr', strict=True))
"""Character -> what stands for it behind a backslash."""

_SURROGATE = re.compile("[\ud800-\udfff]")


def dumps(document: Mapping[str, Any]) -> str:
    """Tables of strings, booleans, integers, floats, lists and tables -> TOML text.

    Keys keep their order, but a table's own values come before the tables inside it.  `tomllib`
    reads back equal values; a float keeps its bits.  Raises T_ARGUMENT (half a surrogate pair).

    >>> print(dumps({"a": 1, "b": {"c": [0.5, 1.0]}, "d": [{"e": True}]}), end="")
    a = 1
    <BLANKLINE>
    [b]
    c = [0.5, 1.0]
    <BLANKLINE>
    [[d]]
    e = true
    """
    return "\n".join(_sections(document, "", "")) or ""


def _sections(table: Mapping[str, Any], path: str, header: str) -> list[str]:
    """The text of a table and of all tables inside it, each ending in a line feed."""
    inner = {key: value for key, value in table.items() if _is_table(value)}
    lines = [f"{_key(key)} = {_scalar(value)}" for key, value in table.items() if key not in inner]
    sections = ["".join(f"{line}\n" for line in [header, *lines] if line)]
    for key, value in inner.items():
        place = f"{path}.{_key(key)}".removeprefix(".")
        if isinstance(value, Mapping):
            sections += _sections(value, place, f"[{place}]")
        else:
            for item in value:
                sections += _sections(item, place, f"[[{place}]]")
    return [section for section in sections if section]


def _is_table(value: object) -> bool:
    """A table, or a list of tables; an empty list is a value."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(item, Mapping) for item in value)
    return isinstance(value, Mapping)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _string(key)


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value)  # the shortest text that reads back as the same float
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_scalar, value))}]"
    raise TypeError(f"TOML has no {type(value).__name__}")


def _string(text: str) -> str:
    if _SURROGATE.search(text):
        raise NmrefError(Code.T_ARGUMENT, ascii(text)[:80], "half a surrogate pair", "Unicode text")
    return '"' + "".join(map(_character, text)) + '"'


def _character(character: str) -> str:
    if character in _ESCAPES:
        return f"\\{_ESCAPES[character]}"
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x20 or code == 0x7F else character
