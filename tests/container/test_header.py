"""The safetensors layer: SPEC 5.1 to 5.8 and 6.2.  Every file here is wrong in one way."""

import struct
from typing import Any

import pytest

from tests.container.draft import draft, frame, minimal
from tests.witness import Witness, every_witness, rejection

ENTRY = '{"dtype":"U8","shape":[2],"data_offsets":[0,2]}'
EMPTY = '{"dtype":"U8","shape":[0],"data_offsets":[%d,%d]}'
DEEP = 200_000


def one(entry: str = ENTRY, name: str = "a") -> str:
    return f'{{"{name}":{entry}}}'


def entry(old: str, new: str) -> str:
    assert old in ENTRY
    return one(ENTRY.replace(old, new))


HEADERS: dict[str, str | bytes] = {
    "empty": "",
    "white space first": " {}",
    "byte order mark": "\ufeff{}",
    "array": "[]",
    "line feed after": one() + "\n",
    "tab after": one() + " \t ",
    "zero byte after": one() + "\0",
    "object after": one() + "{}",
    "open": one()[:-1],
    "open string": '{"a',
    "open escape": '{"a\\',
    "comma last": one()[:-1] + ",}",
    "comma first": "{," + one()[1:],
    "no colon": '{"a" ' + ENTRY + "}",
    "comment": "{/**/" + one()[1:],
    "single quotes": "{'a':" + ENTRY + "}",
    "name not quoted": "{a:" + ENTRY + "}",
    "name twice": '{"a":' + ENTRY + ',"a":' + ENTRY + "}",
    "name twice, escaped": '{"a":' + ENTRY + ',"\\u0061":' + ENTRY + "}",
    "member twice": entry('{"dtype', '{"dtype":"U8","dtype'),
    "metadata twice": '{"__metadata__":{},"__metadata__":{},' + one()[1:],
    "pair twice": '{"__metadata__":{"x":"","x":""},' + one()[1:],
    "another member": entry("}", ',"x":1}'),
    "no shape": entry('"shape":[2],', ""),
    "no dtype": entry('"dtype":"U8",', ""),
    "no offsets": entry(',"data_offsets":[0,2]', ""),
    "entry is an array": one("[]"),
    "entry is null": one("null"),
    "dtype is null": entry('"U8"', "null"),
    "dtype is an array": entry('"U8"', '["U8"]'),
    "shape is a number": entry("[2]", "2"),
    "shape of text": entry("[2]", '["2"]'),
    "shape of true": entry("[2]", "[2,true]"),
    "shape of null": entry("[2]", "[2,null]"),
    "shape of arrays": entry("[2]", "[[2]]"),
    "fraction": entry("[2]", "[2.0]"),
    "exponent": entry("[2]", "[2e0]"),
    "leading zero": entry("[2]", "[02]"),
    "plus": entry("[2]", "[+2]"),
    "hexadecimal": entry("[2]", "[0x2]"),
    "other digits": entry("[2]", "[\u0662]"),
    "negative": entry("[2]", "[-1,-2]"),
    "minus zero": entry("[0,", "[-0,"),
    "NaN": entry("[2]", "[NaN]"),
    "Infinity": entry("[2]", "[Infinity]"),
    "2^63": entry("[2]", "[9223372036854775808,0]"),
    "2^64 + 2": entry("[2]", "[18446744073709551618]"),
    "a very long number": entry("[2]", "[" + "9" * 6000 + "]"),
    "size overflows": entry("[2]", "[9223372036854775807,2]"),
    "size overflows before 0": one()[:-1]
    + ',"b":'
    + (EMPTY % (2, 2)).replace("[0]", "[4294967296,4294967296,0]")
    + "}",
    "size wraps to 2": entry("[2]", "[4294967297,8589934594]"),
    "size too small": entry("[2]", "[1]"),
    "size too large": entry("[2]", "[3]"),
    "empty shape": entry("[2]", "[]"),
    "offsets backwards": entry("[0,2]", "[2,0]"),
    "offsets past the end": entry("[0,2]", "[1,3]"),
    "one offset": entry("[0,2]", "[2]"),
    "three offsets": entry("[0,2]", "[0,2,2]"),
    "hole at the start": one('{"dtype":"U8","shape":[1],"data_offsets":[1,2]}'),
    "rest at the end": one('{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'),
    "no tensors": "{}",
    "overlap": one()[:-1] + ',"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}',
    "same place": one()[:-1] + ',"b":' + ENTRY + "}",
    "empty tensor inside": one()[:-1] + ',"b":' + EMPTY % (1, 1) + "}",
    "empty tensor outside": one()[:-1] + ',"b":' + EMPTY % (3, 3) + "}",
    "empty name": one(name=""),
    "name of 513 bytes": one(name="a" * 513),
    "name with a space": one(name="a b"),
    "name with a quote": one(name='a\\"'),
    "name with a backslash": one(name="a\\\\"),
    "name with a control character": one(name="a\\u0000"),
    "name not of ASCII": one(name="\u00e9"),
    "name not of ASCII, escaped": one(name="\\u00e9"),
    "metadata is null": one()[:-1] + ',"__metadata__":null}',
    "metadata is an array": one()[:-1] + ',"__metadata__":[]}',
    "metadata is text": one()[:-1] + ',"__metadata__":""}',
    "metadata of numbers": one()[:-1] + ',"__metadata__":{"nmref":1}}',
    "metadata is a tensor": one(name="__metadata__"),
    "lone surrogate": one()[:-1] + ',"__metadata__":{"x":"\\ud800"}}',
    "surrogates swapped": one()[:-1] + ',"__metadata__":{"x":"\\udc00\\ud800"}}',
    "surrogate in a name": one()[:-1] + ',"__metadata__":{"\\udfff":""}}',
    "half an escape": one()[:-1] + ',"__metadata__":{"x":"\\u00zz"}}',
    "unknown escape": one()[:-1] + ',"__metadata__":{"x":"\\x41"}}',
    "raw control character": one()[:-1] + ',"__metadata__":{"x":"\t"}}',
    "invalid UTF-8": one()[:-1].encode() + b',"__metadata__":{"x":"\xff"}}',
    "surrogate in UTF-8": one()[:-1].encode() + b',"__metadata__":{"x":"\xed\xa0\x80"}}',
    "long form of UTF-8": one()[:-1].encode() + b',"__metadata__":{"x":"\xc0\x80"}}',
    "nested 5 deep": entry("[2]", "[[[2]]]"),
    "objects nested very deep": '{"a":' * DEEP,
    "arrays nested very deep": '{"a":' + "[" * DEEP + "]" * DEEP + "}",
}


@every_witness
@pytest.mark.parametrize("header", [pytest.param(h, id=i) for i, h in HEADERS.items()])
def test_read_refuses_a_bad_header(witness: Witness, header: str | bytes):
    raw = header.encode("utf-8") if isinstance(header, str) else header
    assert rejection(witness.read, frame(raw, b"\0\0")).code == "E_HEADER"


@every_witness
def test_read_finds_nothing_wrong_in_the_header_that_these_change(witness: Witness):
    empty = one()[:-1] + ',"b":' + EMPTY % (2, 2) + "}"
    large = empty.replace("[0]", "[0,9223372036854775807,9223372036854775807]")
    for header in (one(), one() + "  ", empty, large):
        assert rejection(witness.read, frame(header.encode(), b"\0\0")).code == "E_META"


@every_witness
def test_read_refuses_lengths_before_the_header(witness: Witness):
    for size in range(8):
        assert rejection(witness.read, b"\0" * size).code == "E_HEADER"
    for length, code in (
        (1, "E_HEADER"),
        (100_000_000, "E_HEADER"),
        (100_000_001, "E_LIMIT"),
        ((1 << 63) - 8, "E_LIMIT"),
        ((1 << 64) - 8, "E_LIMIT"),
        ((1 << 64) - 1, "E_LIMIT"),
    ):
        assert rejection(witness.read, struct.pack("<Q", length)).code == code
    good = minimal().build()
    assert rejection(witness.read, good[:-1]).code == "E_HEADER"
    assert rejection(witness.read, good + b"\0").code == "E_HEADER"


def reorder(entries: dict[str, Any]) -> None:
    for name in sorted(entries, reverse=True):
        value = entries.pop(name)
        entries[name] = {key: value[key] for key in sorted(value)}


@every_witness
def test_read_accepts_every_form_that_the_syntax_allows(witness: Witness):
    def same(change: str, spoil: Any) -> None:
        made = draft()
        getattr(made, change).append(spoil)
        found = witness.read(made.build())
        assert found.keys() == want.keys()
        for name, (dtype, array) in want.items():
            assert found[name][0] == dtype
            assert found[name][1].tolist() == array.tolist()

    want = witness.read(draft().build())
    same("entries", reorder)
    same("headers", lambda text: text + " " * 13)
    same("headers", lambda text: text.replace('"a.nm_codes":', '"\\u0061.nm_c\\u006Fdes" \r\n:\t'))
    same("headers", lambda text: text.replace(',"', ' , "').replace('offsets":[', 'offsets" : [ '))
    same("headers", lambda text: text.replace("{", "{\n", 1))
    same("headers", lambda text: text.replace("a.nm_", "\\u0061.nm_").replace("/", "\\/"))
    for at in (0, 8, 16):
        same("entries", lambda entries, at=at: entries["empty"].update(data_offsets=[at, at]))


@every_witness
def test_read_refuses_unknown_dtypes_after_the_header_before_the_metadata(witness: Witness):
    for dtype in ("F4", "f16", "FP16", "", "F16 ", "I4", "C128", "F8_E4M3FN", "\\u00e9"):
        header = entry("[2]", "[77]").replace("U8", dtype)
        assert rejection(witness.read, frame(header.encode(), b"\0\0")).code == "E_DTYPE"
    made = draft()
    made.entries.append(lambda entries: entries["norm"].update(dtype="F12", shape=[1 << 62, 8]))
    assert rejection(witness.read, made.build()).code == "E_DTYPE"


@every_witness
def test_read_accepts_names_up_to_512_bytes(witness: Witness):
    every = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"\\')
    for name in ("a" * 512, every, "~", "..", "a/../b", "nm_x", "a.nm_.x", ".nm_x."):
        made = minimal()
        made.tensors[name] = ("U8", (1,), b"\7")
        assert witness.read(made.build())[name][1].tolist() == [7]
