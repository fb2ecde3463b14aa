"""Strict JSON (RFC 8259) with a limit on nesting, and the canonical text (SPEC part 5).

Numbers stay text, so that no number is too large to be read.
"""

from typing import NamedTuple, TypeAlias

from .codes import is_decimal


class JsonError(Exception):
    """The text breaks a rule of strict JSON."""


class Number(NamedTuple):
    """A JSON number as it is written."""

    text: str


Json: TypeAlias = "bool | str | int | Number | list[Json] | dict[str, Json] | None"
"""A value. The parser gives Number for every number, the writer also takes int."""

HUGE = 10**30
"""Stands for every integer of more than 30 digits; all limits are far below it."""

ESCAPES = {
    '"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t",
}  # fmt: skip
WHITE = " \t\n\r"
DIGITS = "0123456789"
HEX = "0123456789abcdefABCDEF"


def integer(value: Json) -> int | None:
    """Give the integer a Number stands for when it is written as one; else None."""
    if not isinstance(value, Number):
        return None
    digits = value.text.removeprefix("-")
    if not is_decimal(digits):
        return None
    size = int(digits) if len(digits) <= 30 else HUGE
    return -size if value.text.startswith("-") else size


def parse(text: str, depth: int) -> Json:
    """Read one value with white space around it; arrays and objects nest at most `depth`."""
    parser = Parser(text)
    value = parser.value(depth)
    parser.skip_white()
    if parser.at != len(text):
        raise JsonError("text after the value")
    return value


class Parser:
    """Recursive descent over a text; `at` is the next character."""

    def __init__(self, text: str) -> None:
        """Start at the first character."""
        self.text = text
        self.at = 0

    def peek(self) -> str:
        """Give the next character, empty at the end."""
        return self.text[self.at : self.at + 1]

    def take(self, expected: str) -> None:
        """Step over exactly this text."""
        if not self.text.startswith(expected, self.at):
            raise JsonError(f"no {expected!r} at {self.at}")
        self.at += len(expected)

    def skip_white(self) -> None:
        """Step over white space."""
        while self.peek() != "" and self.peek() in WHITE:
            self.at += 1

    def value(self, depth: int) -> Json:
        """Read any value with white space before it; `depth` more levels may open."""
        self.skip_white()
        first = self.peek()
        if first in ("{", "["):
            if depth == 0:
                raise JsonError("nested too deeply")
            return self.object(depth - 1) if first == "{" else self.array(depth - 1)
        if first == '"':
            return self.string()
        for word, meaning in (("true", True), ("false", False), ("null", None)):
            if self.text.startswith(word, self.at):
                self.at += len(word)
                return meaning
        return self.number()

    def object(self, depth: int) -> dict[str, Json]:
        """Read an object without duplicate names."""
        self.take("{")
        members: dict[str, Json] = {}
        self.skip_white()
        while self.peek() != "}":
            if members:
                self.take(",")
                self.skip_white()
            name = self.string()
            if name in members:
                raise JsonError("duplicate name")
            self.skip_white()
            self.take(":")
            members[name] = self.value(depth)
            self.skip_white()
        self.take("}")
        return members

    def array(self, depth: int) -> list[Json]:
        """Read an array."""
        self.take("[")
        items: list[Json] = []
        self.skip_white()
        while self.peek() != "]":
            if items:
                self.take(",")
            items.append(self.value(depth))
            self.skip_white()
        self.take("]")
        return items

    def number(self) -> Number:
        """Read -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?, kept as text."""
        start = self.at
        if self.peek() == "-":
            self.at += 1
        if not is_decimal(self.digits()):
            raise JsonError(f"no value at {start}")
        if self.peek() == ".":
            self.at += 1
            self.digits()
        if self.peek() in ("e", "E"):
            self.at += 1
            if self.peek() in ("+", "-"):
                self.at += 1
            self.digits()
        return Number(self.text[start : self.at])

    def digits(self) -> str:
        """Read one digit or more."""
        start = self.at
        while self.peek() != "" and self.peek() in DIGITS:
            self.at += 1
        if self.at == start:
            raise JsonError(f"no digit at {start}")
        return self.text[start : self.at]

    def string(self) -> str:
        """Read a string: no control characters, no lone surrogates."""
        self.take('"')
        read: list[str] = []
        while self.peek() != '"':
            c = self.peek()
            if c < " ":  # the end of the text is "" and smaller too
                raise JsonError(f"control character or end in a string at {self.at}")
            self.at += 1
            read.append(c if c != "\\" else self.escape())
        self.take('"')
        return "".join(read)

    def escape(self) -> str:
        """Read what follows a backslash; two surrogates make one character."""
        c = self.peek()
        self.at += 1
        if c in ESCAPES:
            return ESCAPES[c]
        if c != "u":
            raise JsonError(f"unknown escape at {self.at}")
        unit = self.hex4()
        if 0xD800 <= unit < 0xDC00:
            self.take("\\u")
            low = self.hex4()
            if not 0xDC00 <= low < 0xE000:
                raise JsonError("lone surrogate")
            unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)
        elif 0xDC00 <= unit < 0xE000:
            raise JsonError("lone surrogate")
        return chr(unit)

    def hex4(self) -> int:
        """Read four hexadecimal digits."""
        digits = self.text[self.at : self.at + 4]
        if len(digits) != 4 or any(d not in HEX for d in digits):
            raise JsonError(f"no four hexadecimal digits at {self.at}")
        self.at += 4
        return int(digits, 16)


def is_printable(text: str) -> bool:
    """Whether every character is 0x20 .. 0x7E."""
    return all(" " <= c <= "~" for c in text)


def is_name(text: str) -> bool:
    """Whether the text is one or more of 0x21 .. 0x7E without the quote and the backslash."""
    return text != "" and all("!" <= c <= "~" and c not in '"\\' for c in text)


def compact(value: Json, sort: bool = True) -> str:
    """Canonical text: names sorted, no white space, plain integers, printable ASCII strings.

    JsonError when the value has no canonical text. Without `sort` names keep their order.
    """
    if isinstance(value, dict):
        names = sorted(value) if sort else list(value)
        members = [f"{compact(name)}:{compact(value[name], sort)}" for name in names]
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(compact(item, sort) for item in value) + "]"
    if isinstance(value, str):
        if not is_printable(value):
            raise JsonError("not a printable ASCII string")
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, Number):
        if integer(value) is None or value.text == "-0":
            raise JsonError("not a plain integer")
        return value.text
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
