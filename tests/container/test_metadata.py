"""The nmref key: SPEC 5.12 to 5.18 and 6.3.  Every file has one fault; the digest fits the rest."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.container.draft import Draft, draft, minimal
from tests.witness import Witness, every_witness, rejection

ABSENT = object()
LONG = "9" * 6000
RESERVED = ("w.nm_x", "w.nm_", ".nm_x", "a.nm_b.nm_c", "__metadata__")


def changed(change: Callable[[str], str]) -> Draft:
    """A file whose S is changed; the digest is that of the unchanged one."""
    made = minimal()
    made.texts.append(change)
    return made


def text(old: str, new: str) -> Draft:
    """A file in whose S the one is replaced by the other."""

    def change(found: str) -> str:
        assert old in found
        return found.replace(old, new, 1)

    return changed(change)


def nmref(value: str) -> Draft:
    """A file with this S."""
    return changed(lambda found: value)


def pairs(change: Callable[[dict[str, Any]], object]) -> Draft:
    """A file whose `__metadata__` is changed."""
    made = minimal()
    made.pairs.append(change)
    return made


def member(where: str, key: str, value: Any) -> Draft:
    """A file in which one member of S, of a weight or of its outliers has another value."""
    made = draft()
    members = made.document
    if where != "S":
        members = members["tensors"]["b"]
    if where == "outliers":
        members = members["outliers"]
    members[key] = value
    if value is ABSENT:
        del members[key]
    return made


def renamed(name: str) -> Draft:
    """The minimal file with its weight called so, its parts too."""
    made = minimal()
    for suffix in ("nm_codes", "nm_values"):
        made.tensors[f"{name}.{suffix}"] = made.tensors.pop(f"w.{suffix}")
    made.document["tensors"][name] = made.document["tensors"].pop("w")
    return made


MEMBERS: list[tuple[str, str, list[Any]]] = [
    ("S", "content_sha256", [0, None, "", "0" * 63, "0" * 65, "0" * 63 + "A"]),
    ("S", "content_sha256", ["0" * 63 + "\n", "0" * 63 + "g", "\u0660" * 64]),
    ("S", "spec", [ABSENT, 1, 1.0, True, None, [], "", ".", "1", "1.", ".0", "1,0", "v1.0"]),
    ("S", "spec", ["01.0", "1.00", "1.0.0", " 1.0", "1.0 ", "1.0\n", "1.-1", "+1.0", "\u0661.0"]),
    ("S", "tensors", [ABSENT, None, [], False, 0, "", {"w": None}, {"w": []}, {"w": "x"}]),
    ("S", "more", ["x"]),
    ("S", "X-a", ["x"]),
    ("S", "x-", ["x"]),
    ("S", "x-a b", ["x"]),
    ("S", "x-\x7f", ["x"]),
    ("S", "x-a", ["\x7f", "\u00e9", "\n", 1, None, [], {}]),
    ("T", "coding", [ABSENT, None, 1, "", "idx8", "lex", "Colex"]),
    ("T", "dtype", [ABSENT, None, 16, "", "F64", "U8", "f16", ["F16"]]),
    ("T", "outliers", [ABSENT, False, 0, "", "null", [], {}]),
    ("T", "pattern", [ABSENT, None, 8, ["2:4"], "", "2", ":", "2:", "2:4:8", "4:4", "0:4", "5:4"]),
    ("T", "pattern", ["02:4", "2:04", "+2:4", "2:4 ", " 2:4", "2:4\n", "2 :4", "2:-4", "\u0662:4"]),
    ("T", "pattern", ["2:65", "8:256", "1:1", "1:" + LONG, LONG + ":4"]),
    ("T", "shape", [ABSENT, None, 12, "2,6", {}, [], [2], [2, 6, 1], [2, True], [False, 6]]),
    ("T", "shape", [[2, "6"], ["2", 6], [[2], 6], [2, []], [2, None], [2, 6.0]]),
    ("T", "more", ["x"]),
    ("T", 'x-"', ["x"]),
    ("T", "x-\\", ["x"]),
    ("T", "x-\u00e9", ["x"]),
    ("T", "x-a", ["\t", 1, True]),
    ("outliers", "coding", [ABSENT, None, 8, "", "idx16", "lex", "IDX8"]),
    ("outliers", "dtype", [ABSENT, None, 16, "", "I8", "F64"]),
    ("outliers", "pattern", [ABSENT, None, 4, "", "2:256", "5:256", "32:256", "8:16", "4:128"]),
    ("outliers", "pattern", ["04:256", "4:256 ", "4:0256"]),
    ("outliers", "more", ["x"]),
    ("outliers", "x-a", [{}, "\0"]),
]
TEXTS = {
    "cut": ("]}}}", "]}}"),
    "a brace too much": ("]}}}", "]}}}}"),
    "a space in it": ('"w":', '"w": '),
    "a space after it": ("]}}}", "]}}} "),
    "a line feed after it": ("]}}}", "]}}}\n"),
    "members out of order": ('"coding":"colex","dtype":"F16"', '"dtype":"F16","coding":"colex"'),
    "a member twice": ('"coding":"colex"', '"coding":"colex","coding":"colex"'),
    "an escape not needed": ('"w"', '"\\u0077"'),
    "an escaped solidus": ("}}}", '}},"x-a":"\\/"}'),
    "a character beyond ASCII": ("}}}", '}},"x-a":"\u00e9"}'),
    "an empty name": ('"w"', '""'),
    "a name with a space": ('"w"', '"a b"'),
    "a name with a quote": ('"w"', '"\\""'),
    "a name with a backslash": ('"w"', '"\\\\"'),
    "a name beyond ASCII": ('"w"', '"\\u00e9"'),
    "a name of 513 bytes": ('"w"', f'"{"a" * 513}"'),
    **{
        f"K = {digits[:20]}": ("[1,1]", f"[1,{digits}]")
        for digits in ("1.0", "1e0", "-0", "01", "NaN", "Infinity", "null", "0x1", "+1", LONG)
    },
    "K = 2^63": ("[1,1]", "[1,9223372036854775808]"),
    "K = -2^63": ("[1,1]", "[1,-9223372036854775808]"),
    "K = -10^20": ("[1,1]", "[1,-100000000000000000000]"),
}
BEFORE_VERSION = {
    "a member twice": '"a":1,"a":2',
    "a fraction": '"a":1.5',
    "a fraction of 0": '"a":1.0',
    "an exponent": '"a":1e3',
    "2^63": '"a":9223372036854775808',
    "-2^63": '"a":-9223372036854775808',
    "NaN": '"a":NaN',
    "a leading zero": '"a":01',
    "a lone surrogate": '"a":"\\ud800"',
    "a lone surrogate in an array": '"a":["\\ud800"]',
    "a lone surrogate in a deeper array": '"a":{"b":[["\\ud800"]]}',
    "a lone surrogate in a name": '"\\udc00":1',
    "depth 9": '"a":' + "[" * 8 + "]" * 8,
    "endless depth": '"a":' + "[" * 200_000,
    "a control character": '"a":"\t"',
    "no value": '"a":',
}
AFTER_VERSION = {
    "white space": " \n",
    "depth 8": ',"a":' + "[" * 7 + "]" * 7,
    "the largest number": ',"a":9223372036854775807',
    "the smallest number": ',"a":-9223372036854775807',
    "minus zero": ',"a":-0',
    "other types": ',"a":[true,false,null,{}]',
    "text beyond ASCII": ',"a":"\u00e9\\ud83d\\ude00"',
    "another digest": ',"x":"","x-":1',
}
OTHERS = {
    "no content_sha256": changed(lambda found: "{" + found.split(",", 1)[1]),
    "no __metadata__": pairs(lambda found: found.clear()),
    "empty __metadata__": pairs(lambda found: found["__metadata__"].clear()),
    "another key": pairs(lambda found: found["__metadata__"].update(format="pt")),
    "another name": pairs(lambda found: found.update(__metadata__={"NMREF": "{}"})),
    **{f"S is {value!r}": nmref(value) for value in ("", "[]", "null", '"x"', "1", "{}", "{} {}")},
    "version 2 after a space": nmref(' {"spec":"2.0"}'),
    "version 2 before a line feed": nmref('{"spec":"2.0"}\n'),
    **{f"weight {name}": renamed(name) for name in RESERVED},
}


def bad() -> dict[str, Draft]:
    made = {f"{id} in S": text(*change) for id, change in TEXTS.items()} | OTHERS
    for where, key, values in MEMBERS:
        for value in values:
            shown = "absent" if value is ABSENT else repr(value)[:20]
            made[f"{where} {key} {shown}"] = member(where, key, value)
    for what, more in BEFORE_VERSION.items():
        made[f"version 2 with {what}"] = text('"spec":"1.0"', f'"spec":"2.0",{more}')
    return made


def newer() -> dict[str, Draft]:
    versions = ("0.0", "0.1", "2.0", "10.0", "11.1", f"{LONG}.0", f"2.{LONG}")
    made = {f"version {version[:9]}": member("S", "spec", version) for version in versions}
    for what, more in AFTER_VERSION.items():
        made[f"version 2 with {what}"] = text('"spec":"1.0"', f'"spec":"2.0"{more}')
    return made | {"nothing else": nmref('{"spec":"2.0"} ')}


def named(drafts: dict[str, Draft]) -> Any:
    """One test for each draft, under its name as ASCII."""
    ids = [name.encode("unicode_escape").decode() for name in drafts]
    return pytest.mark.parametrize("made", list(drafts.values()), ids=ids)


@every_witness
@named(bad())
def test_read_refuses_bad_metadata(witness: Witness, made: Draft):
    assert rejection(witness.read, made.build()).code == "E_META"


@every_witness
@named(newer())
def test_read_refuses_another_major_before_what_it_does_not_know(witness: Witness, made: Draft):
    assert rejection(witness.read, made.build()).code == "E_VERSION"


@every_witness
@named(
    {
        "unknown minor": member("S", "spec", "1.7"),
        "large minor": member("S", "spec", f"1.{LONG}"),
        "extension": member("S", "x-a", 'a "quoted" \\ text / ~'),
        "long extension": member("S", "x-" + "a" * 10_000, "y" * 10_000),
        "empty extension": member("T", "x-!", ""),
        "extension of outliers": member("outliers", "x-x-x", "y"),
        "extension with the name of a member": member("T", "x-scale", "2"),
    }
)
def test_read_accepts_extensions_and_minors_without_a_change_of_values(
    witness: Witness, made: Draft
):
    plain, found = witness.read(draft().build()), witness.read(made.build())
    assert list(found) == list(plain)
    assert all(found[name][1].tolist() == plain[name][1].tolist() for name in plain)


@every_witness
@pytest.mark.parametrize("name", ["nm_values", "a.nm_x.y", "x-", "~", "a" * 502])
def test_read_accepts_unusual_names_of_weights(witness: Witness, name: str):
    plain, found = witness.read(minimal().build()), witness.read(renamed(name).build())
    assert list(found) == [name]
    assert found[name][0] == plain["w"][0]
    assert found[name][1].tolist() == plain["w"][1].tolist()


@every_witness
def test_read_accepts_a_file_without_weights(witness: Witness):
    assert witness.read(Draft({}).build()) == {}


@every_witness
def test_read_misses_the_parts_of_a_name_that_is_too_long(witness: Witness):
    made = minimal()
    made.document["tensors"]["a" * 512] = made.document["tensors"]["w"]
    assert rejection(witness.read, made.build()).code == "E_MISSING"
