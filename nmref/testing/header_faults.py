"""Files whose safetensors layer breaks a rule (SPEC 5.1 to 5.8)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from nmref.testing.drafts import Draft, Entries, draft
from nmref.testing.faults import Kind
from nmref.testing.recipes import Recipe

Change = Callable[[Draft], object]

_BIG = 1 << 62


def file_kind(fault: str, clause: str, codes: str, change: Change, **fixed: Any) -> Kind[bytes]:
    """A fault of a file: `change` prepares the draft."""

    def make(recipe: Recipe) -> bytes:
        made = draft(recipe)
        change(made)
        return made.build()

    return Kind(fault, clause, tuple(codes.split()), make, fixed)


def file(spoil: Callable[[bytes], bytes]) -> Change:
    """Change the finished bytes."""
    return lambda made: made.files.append(spoil)


def swap(old: str, new: str) -> Change:
    """Replace the last place of a text in the header (S comes first, entries follow)."""

    def change(header: str) -> str:
        assert old in header, old
        return new.join(header.rsplit(old, 1))

    return lambda made: made.headers.append(change)


def entry(name: str, **members: Any) -> Change:
    """Give an entry of the header other members; None takes one away."""

    def change(entries: Entries, data: bytes) -> bytes:
        item = entries.setdefault(name, {})
        item.update(members)
        entries[name] = {key: value for key, value in item.items() if value is not None}
        return data

    return lambda made: made.late.append(change)


def recast(name: str, dtype: str) -> Change:
    """Another dtype, covered by the digest."""

    def change(entries: Entries, data: bytes) -> bytes:
        entries[name]["dtype"] = dtype
        return data

    return lambda made: made.layouts.append(change)


def _raw(old: bytes, new: bytes) -> Change:
    """As `swap`, for bytes that are no text."""

    def change(header: str) -> bytes:
        assert old in header.encode()
        return new.join(header.encode().rsplit(old, 1))

    return lambda made: made.headers.append(change)


def _length(length: int) -> Change:
    return file(lambda data: struct.pack("<Q", length) + data[8:])


def _longer(data: bytes) -> bytes:
    (length,) = struct.unpack("<Q", data[:8])
    rest = len(data) - 8 - length
    return struct.pack("<Q", length + rest + 1) + data[8:]


def _bare(made: Draft) -> None:
    """No tensors, no data; H counts eight bytes that are not there."""
    made.weights, made.others, made.document["tensors"] = {}, {}, {}
    made.files.append(lambda data: struct.pack("<Q", len(data)) + data[8:])


def _utf16(header: str) -> bytes:
    return (header + " " * (-len(header) % 4)).encode("utf-16-le")


def _hole(entries: Entries, data: bytes) -> bytes:
    """Eight bytes of no tensor before the last one."""
    name = max(entries, key=lambda name: tuple(entries[name]["data_offsets"]))
    begin, end = entries[name]["data_offsets"]
    entries[name]["data_offsets"] = [begin + 8, end + 8]
    return data[:begin] + bytes(8) + data[begin:]


def _alias(entries: Entries, data: bytes) -> bytes:
    """A second tensor over the bytes of another."""
    entries["zz"] = dict(entries["norm"])
    return data


def _partial(entries: Entries, data: bytes) -> bytes:
    """The last tensor begins inside the one before."""
    name = max(entries, key=lambda name: tuple(entries[name]["data_offsets"]))
    begin, end = entries[name]["data_offsets"]
    entries["zz"] = {"dtype": "U8", "shape": [end - begin + 1], "data_offsets": [begin, end + 1]}
    return data + b"\0"


def _layout(change: Callable[[Entries, bytes], bytes]) -> Change:
    return lambda made: made.layouts.append(change)


def _empty_inside(entries: Entries, data: bytes) -> bytes:
    entries["empty"]["data_offsets"] = [1, 1]
    return data


NORM = '"norm":{"dtype":"BF16","shape":[3],'
_FLAG = '"flag":{"dtype":"BOOL","shape":[1],'
_H = "E_HEADER"


def _norm(shape: str) -> Change:
    return swap('"shape":[3],', f'"shape":{shape},')


HEADER_FAULTS: list[Kind[bytes]] = [
    file_kind("empty file", "5.2", _H, file(lambda data: b"")),
    file_kind("seven bytes", "5.2", _H, file(lambda data: data[:7])),
    file_kind("H = 0", "5.3", _H, _length(0)),
    file_kind("H past the end", "5.2", _H, file(_longer)),
    file_kind("H past the end of a file without data", "5.2", _H, _bare),
    file_kind("H above its limit", "5.2", "E_LIMIT E_HEADER", _length(100_000_001)),
    file_kind("H = 2^64 - 8", "5.2", "E_LIMIT E_HEADER", _length(2**64 - 8)),
    file_kind("cut in the header", "5.2", _H, file(lambda data: data[:40])),
    file_kind(
        "white space before the brace", "5.3", _H, _raw(b'{"__metadata__', b' {"__metadata__')
    ),
    file_kind("byte order mark", "5.3", _H, _raw(b'{"__meta', b'\xef\xbb\xbf{"__meta')),
    file_kind("UTF-16", "5.3", _H, lambda made: made.headers.append(_utf16)),
    file_kind("invalid UTF-8", "5.3", _H, _raw(b'"norm"', b'"no\xffrm"')),
    file_kind("overlong UTF-8", "5.3", _H, _raw(b'"norm"', b'"\xc1\xaeorm"')),
    file_kind("NUL after the object", "5.3", _H, _raw(b"]}}", b"]}}\0")),
    file_kind("newline after the object", "5.3", _H, _raw(b"]}}", b"]}}\n")),
    file_kind("object after the object", "5.3", _H, _raw(b"]}}", b"]}}{}")),
    file_kind("comma before the brace", "5.3", _H, _raw(b"]}}", b"]},}")),
    file_kind("comma before the bracket", "5.3", _H, _norm("[3,]")),
    file_kind("comment", "5.3", _H, _norm("[3/**/]")),
    file_kind("single quotes", "5.3", _H, swap('"norm"', "'norm'")),
    file_kind("control character in a string", "5.3", _H, swap('"norm"', '"no\trm"')),
    file_kind("unknown escape", "5.3", _H, swap('"norm"', '"n\\orm"')),
    file_kind("lone surrogate", "5.3", _H + " E_DTYPE", swap('"BOOL"', '"\\ud800BOOL"')),
    file_kind("a tensor twice", "5.3", _H, swap(NORM, NORM + '"data_offsets":[0,6]},' + NORM)),
    file_kind("a member twice", "5.3", _H, swap(NORM, NORM + '"shape":[3],')),
    file_kind("a member twice by escape", "5.3", _H, swap(NORM, NORM + '"sh\\u0061pe":[3],')),
    file_kind("a key twice", "5.3", _H, swap('{"nmref":', '{"nmref":"","nmref":')),
    file_kind("depth 5", "5.3", _H, _norm("[[[3]]]")),
    file_kind("depth 100,000", "5.3", _H, _norm("[" * 100_000 + "]" * 100_000)),
    file_kind("number with fraction", "5.3", _H, _norm("[3.0]")),
    file_kind("number with exponent", "5.3", _H, _norm("[3e0]")),
    file_kind("number with leading zero", "5.3", _H, _norm("[03]")),
    file_kind("number with plus", "5.3", _H, _norm("[+3]")),
    file_kind("negative zero", "5.3", _H, swap('"shape":[0,7]', '"shape":[-0,7]')),
    file_kind("number 2^63", "5.3", _H, swap('"shape":[0,7]', f'"shape":[0,{2**63}]')),
    file_kind("number of 5000 digits", "5.3", _H, _norm(f"[{'3' * 5000}]")),
    file_kind("NaN", "5.3", _H, _norm("[NaN]")),
    file_kind("true as a size", "5.4", _H, swap(_FLAG, _FLAG.replace("[1]", "[true]"))),
    file_kind("string as a size", "5.4", _H, _norm('["3"]')),
    file_kind("size without array", "5.4", _H, _norm("3")),
    file_kind("dtype is null", "5.4", _H, swap('"BF16","shape":[3]', 'null,"shape":[3]')),
    file_kind("another member", "5.4", _H, entry("norm", extra=[])),
    file_kind("no dtype", "5.4", _H, entry("norm", dtype=None)),
    file_kind("no shape", "5.4", _H, entry("flag", shape=None)),
    file_kind("three offsets", "5.4", _H, entry("empty", data_offsets=[0, 0, 0])),
    file_kind("begin after end", "5.4", _H, entry("empty", data_offsets=[4, 0])),
    file_kind("entry is a list", "5.4", _H, swap(NORM, '"list":[],' + NORM)),
    file_kind("metadata is a list", "5.4", _H, lambda made: made.pairs.append(_metadata("nmref"))),
    file_kind(
        "metadata value is a number", "5.4", _H, lambda made: made.pairs.append(_metadata(1))
    ),
    file_kind("empty name", "5.5", _H, swap('"norm"', '""')),
    file_kind("name of 513 bytes", "5.5", _H, swap('"norm"', f'"{"n" * 513}"')),
    file_kind("name with a space", "5.5", _H, swap('"norm"', '"no rm"')),
    file_kind("name with a quote", "5.5", _H, swap('"norm"', '"no\\"rm"')),
    file_kind("name with a backslash", "5.5", _H, swap('"norm"', '"no\\\\rm"')),
    file_kind("name with DEL", "5.5", _H, swap('"norm"', '"no\x7frm"')),
    file_kind("name beyond ASCII", "5.5", _H, swap('"norm"', '"nôrm"')),
    file_kind("size of another shape", "5.6", _H, _norm("[4]")),
    file_kind("size beyond 2^63 times 0", "5.6", _H, swap("[0,7]", f"[{_BIG},7,0]")),
    file_kind("size 0 modulo 2^64", "5.6", _H, swap("[0,7]", f"[{1 << 32},{1 << 32}]")),
    file_kind("hole", "5.7", _H, _layout(_hole)),
    file_kind("two tensors on the same bytes", "5.7", _H, _layout(_alias)),
    file_kind("tensors that overlap", "5.7", _H, _layout(_partial)),
    file_kind("data after the last tensor", "5.7", _H, file(lambda data: data + bytes(8))),
    file_kind("last byte missing", "5.7", _H, file(lambda data: data[:-1])),
    file_kind("empty tensor inside another", "5.7", _H, _layout(_empty_inside)),
    file_kind("unknown dtype", "5.8", "E_DTYPE", recast("norm", "F6")),
    file_kind("lower-case dtype", "5.8", "E_DTYPE", recast("norm", "bf16")),
    file_kind("unknown dtype without data", "5.8", "E_DTYPE", recast("empty", "F128")),
]
"""Every way in which the header or the layout is wrong."""


def _metadata(value: object) -> Callable[[dict[str, Any]], None]:
    def change(pairs: dict[str, Any]) -> None:
        if isinstance(value, str):
            pairs["__metadata__"] = [value]
        else:
            pairs["__metadata__"]["other"] = value

    return change
