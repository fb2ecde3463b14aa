"""JSON as the container allows it: no duplicate names, shallow, integers in plain decimals."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

MAX_INTEGER = 2**63 - 1

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.DOTALL)
"""A string (to the end of the text where it has none) or a bracket: linear on any text."""


class StrictJSONError(Exception):
    """What is wrong with the text, in a few words; callers turn it into their own code."""


def loads(text: str, max_depth: int, *, signed: bool = False) -> tuple[dict[str, Any], int]:
    """Parse the JSON object that `text` starts with; return it and the index after it.

    Refuses what RFC 8259 forbids, another first character than the brace, duplicate names, nesting
    deeper than `max_depth`, lone surrogates, and numbers that are not plain decimals up to
    2^63 - 1; a minus sign is allowed with `signed`.
    """
    if not text.startswith("{"):
        raise StrictJSONError(f"first character {text[:1]!r}")
    _check_depth(text, max_depth)

    def refuse(digits: str) -> NoReturn:
        raise StrictJSONError(f"number {digits[:24]}")

    def integer(digits: str) -> int:
        plain = digits.removeprefix("-") if signed else digits
        if not plain.isdigit() or len(plain) > 19 or int(plain) > MAX_INTEGER:
            refuse(digits)
        return int(digits)

    decoder = json.JSONDecoder(
        object_pairs_hook=_object, parse_int=integer, parse_float=refuse, parse_constant=refuse
    )
    try:
        value, end = decoder.raw_decode(text)
    except json.JSONDecodeError as error:
        raise StrictJSONError(f"{error.msg} at character {error.pos}") from None
    if _SURROGATE.search(text):
        _check_unicode(value)
    return value, end


def dumps(value: object) -> str:
    """Canonical text: sorted names, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _check_depth(text: str, max_depth: int) -> None:
    """Before the recursive parser sees the text, so that hostile nesting costs nothing."""
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth > max_depth:
                raise StrictJSONError(f"nesting deeper than {max_depth}")
        elif token[0] in "]}":
            depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise StrictJSONError("a name twice in one object")
    return members


def _check_unicode(value: object) -> None:
    """Every string is made of Unicode scalar values; nesting has been checked."""
    if isinstance(value, dict):
        for name, member in value.items():
            _check_unicode(name)
            _check_unicode(member)
    elif isinstance(value, list):
        for item in value:
            _check_unicode(item)
    elif isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise StrictJSONError("a lone surrogate")
