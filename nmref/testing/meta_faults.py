"""Files whose nmref key, weights or digest break a rule (SPEC 5.10 to 5.24)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nmref.testing.contents import Weight
from nmref.testing.drafts import Draft, Entries
from nmref.testing.faults import Kind
from nmref.testing.header_faults import NORM, Change, entry, file_kind, recast, swap


def doc(**members: Any) -> Change:
    """Other members of S, covered by the digest; None takes one away."""

    def change(made: Draft) -> None:
        made.document.update(members)
        made.document = {k: v for k, v in made.document.items() if v is not None}

    return change


def spec(name: str, **members: Any) -> Change:
    """Other members of a weight; `...` takes one away."""

    def change(made: Draft) -> None:
        item = made.document["tensors"][name]
        item.update(members)
        for key in [key for key, value in item.items() if value is ...]:
            del item[key]

    return change


def out(**members: Any) -> Change:
    """Other members of the outliers of c."""

    def change(made: Draft) -> None:
        item = made.document["tensors"]["c"]
        item["outliers"] = item["outliers"] | members

    return change


def text(old: str, new: str) -> Change:
    """Replace in S, behind the back of the digest."""

    def change(before: str) -> str:
        assert old in before, old
        return before.replace(old, new, 1)

    return lambda made: made.texts.append(change)


def _pairs(change: Callable[[dict[str, Any]], object]) -> Change:
    return lambda made: made.pairs.append(change)


def _rename(old: str, new: str) -> Change:
    def change(entries: Entries, data: bytes) -> bytes:
        entries[new] = entries.pop(old)
        return data

    return lambda made: made.layouts.append(change)


def _add(name: str, dtype: str = "U8") -> Change:
    """One more tensor without data."""

    def change(entries: Entries, data: bytes) -> bytes:
        entries[name] = {"dtype": dtype, "shape": [0], "data_offsets": [0, 0]}
        return data

    return lambda made: made.layouts.append(change)


def _remove(name: str) -> Change:
    """A tensor and its data, without a hole."""

    def change(entries: Entries, data: bytes) -> bytes:
        begin, end = entries.pop(name)["data_offsets"]
        for item in entries.values():
            if item["data_offsets"][0] >= end:
                item["data_offsets"] = [at - (end - begin) for at in item["data_offsets"]]
        return data[:begin] + data[end:]

    return lambda made: made.layouts.append(change)


def _reshape(name: str) -> Change:
    """The same bytes in one more dimension, covered by the digest."""

    def change(entries: Entries, data: bytes) -> bytes:
        entries[name]["shape"] = [1, *entries[name]["shape"]]
        return data

    return lambda made: made.layouts.append(change)


def _announce(name: str) -> Change:
    """Another name for the weight `one`, whose parts keep theirs."""

    def change(made: Draft) -> None:
        made.document["tensors"][name] = made.document["tensors"].pop("one")

    return change


def _rename_weight(old: str, new: str) -> Change:
    """Another name of a weight and its parts."""

    def change(made: Draft) -> None:
        made.weights[new] = made.weights.pop(old)
        made.document["tensors"][new] = made.document["tensors"].pop(old)

    return change


def _no_rows(columns: int) -> Change:
    """R = 0, so that the parts fit any K."""

    def change(made: Draft) -> None:
        old = made.weights["one"]
        new = old.spec | {"shape": [0, columns]}
        parts = dict.fromkeys(old.parts, b"")
        made.weights["one"] = Weight(new, parts, old.dense, old.content)
        made.document["tensors"]["one"] = dict(new)

    return change


def _flip(name: str) -> Change:
    """One bit of a tensor, after the digest."""

    def change(entries: Entries, data: bytes) -> bytes:
        at = entries[name]["data_offsets"][0]
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    return lambda made: made.late.append(change)


def _both(*changes: Change) -> Change:
    return lambda made: [change(made) for change in changes]


_M, _U = "E_META", "E_UNEXPECTED"
_SHAPE = '"shape":[1,1]'

META_FAULTS: list[Kind[bytes]] = [
    file_kind("no metadata", "5.12", _M, _pairs(lambda pairs: pairs.pop("__metadata__"))),
    file_kind(
        "no nmref key",
        "5.12",
        _M,
        _pairs(lambda pairs: pairs.update(__metadata__={"format": "pt"})),
    ),
    file_kind(
        "a second key", "5.12", _M, _pairs(lambda pairs: pairs["__metadata__"].update(format="pt"))
    ),
    file_kind("S is empty", "5.13", _M, lambda made: made.texts.append(lambda _: "")),
    file_kind("S is a list", "5.13", _M, lambda made: made.texts.append(lambda s: f"[{s}]")),
    file_kind("S with a NaN", "5.13", _M, text('"spec"', '"x-a":NaN,"spec"')),
    file_kind("S with a name twice", "5.13", _M, text('"spec":', '"spec":"1.0","spec":')),
    file_kind("S with depth 9", "5.13", _M, text('"spec"', '"x-a":[[[[[[[[0]]]]]]]],"spec"')),
    file_kind(
        "S with depth 100,000",
        "5.13",
        _M,
        text('"spec"', f'"x-a":{"[" * 99999}{"]" * 99999},"spec"'),
    ),
    file_kind(
        "S with text after it", "5.13", _M, lambda made: made.texts.append(lambda s: s + "{}")
    ),
    file_kind("no spec", "5.14", _M, doc(spec=None)),
    file_kind("spec is a number", "5.14", _M, doc(spec=1)),
    file_kind("spec 1", "5.14", _M, doc(spec="1")),
    file_kind("spec 1.0.0", "5.14", _M, doc(spec="1.0.0")),
    file_kind("spec 1.00", "5.14", _M, doc(spec="1.00")),
    file_kind("spec 01.0", "5.14", _M, doc(spec="01.0")),
    file_kind("spec with a newline", "5.14", _M, doc(spec="1.0\n")),
    file_kind("spec 2.0", "5.15", "E_VERSION", doc(spec="2.0")),
    file_kind("spec 0.9", "5.15", "E_VERSION", doc(spec="0.9")),
    file_kind("spec 10.0", "5.15", "E_VERSION", doc(spec="10.0")),
    file_kind("spec 2.0 and a new member", "5.15", "E_VERSION E_META", doc(spec="2.0", more=1)),
    file_kind("digest of 63 digits", "5.16", "E_META E_DIGEST", doc(content_sha256="a" * 63)),
    file_kind("digest in capitals", "5.16", "E_META E_DIGEST", doc(content_sha256="A" * 64)),
    file_kind("tensors is a list", "5.16", "E_META E_UNEXPECTED", doc(tensors=[])),
    file_kind("a member more in S", "5.16", _M, doc(more="1")),
    file_kind("a member more in a weight", "5.16", _M, spec("a", permutation="1")),
    file_kind("a member more in outliers", "5.16", _M, out(scale="1")),
    file_kind("a member less in a weight", "5.16", _M, spec("one", outliers=...)),
    file_kind("coding lex", "5.16", _M, spec("a", coding="lex")),
    file_kind("base dtype F64", "5.16", _M, spec("a", dtype="F64")),
    file_kind("outliers false", "5.16", _M, spec("one", outliers=False)),
    file_kind("outlier dtype I8", "5.16", _M, out(dtype="I8")),
    file_kind("outlier coding idx16", "5.16", _M, out(coding="idx16")),
    *(
        file_kind(f"outlier pattern {pattern}", "5.16", _M, out(pattern=pattern))
        for pattern in ("2:256", "32:256", "4:128", "16:0256")
    ),
    *(
        file_kind(f"pattern {pattern!r}", "5.16", _M, spec("one", pattern=pattern))
        for pattern in ("0:4", "4:4", "8:65", "02:4", "2:4 ", "2/4", "2:4\n", 24)
    ),
    *(
        file_kind(f"shape {shape}", "5.16", _M, spec("one", shape=shape))
        for shape in ([1], [1, 1, 1], [True, 1], [1.0, 1], ["1", "1"], None)
    ),
    file_kind("shape [1,01]", "5.13", _M, text(_SHAPE, '"shape":[1,01]')),
    file_kind("shape [-0,1]", "5.18", "E_META E_SHAPE", text(_SHAPE, '"shape":[-0,1]')),
    file_kind(
        "weight name with a space", "5.16", f"{_M} E_UNEXPECTED E_MISSING", _announce("o ne")
    ),
    file_kind(
        "weight named __metadata__",
        "5.16",
        f"{_M} E_UNEXPECTED E_MISSING",
        _announce("__metadata__"),
    ),
    file_kind("reserved weight name", "5.16", _M, _rename_weight("one", "one.nm_x")),
    file_kind("extension that is a number", "5.17", _M, spec("a", **{"x-a": 1})),
    file_kind("extension beyond ASCII", "5.17", _M, doc(**{"x-a": "\u00e9"})),
    file_kind("extension with a newline", "5.17", _M, doc(**{"x-a": "\n"})),
    file_kind("extension without a name", "5.17", _M, doc(**{"x-": ""})),
    file_kind("extension name with a space", "5.17", _M, out(**{"x-a b": ""})),
    file_kind("S with white space", "5.18", _M, text('"spec":', '"spec": ')),
    file_kind(
        "S with a space after it", "5.18", _M, lambda made: made.texts.append(lambda s: s + " ")
    ),
    file_kind(
        "S in another order",
        "5.18",
        _M,
        _both(doc(**{"x-a": "", "x-b": ""}), text('"x-a":"","x-b":""', '"x-b":"","x-a":""')),
    ),
    file_kind("S with an escape", "5.18", _M, text('"spec"', '"sp\\u0065c"')),
    file_kind(
        "S with an escaped slash", "5.18", _M, _both(doc(**{"x-a": "/"}), text('"/"', '"\\/"'))
    ),
    file_kind("R < 0", "5.24", "E_LIMIT E_SHAPE", spec("one", shape=[-1, 1])),
    file_kind("R = 2^31", "5.24", "E_LIMIT E_SHAPE", spec("one", shape=[2**31, 1])),
    file_kind("K = 0", "5.24", "E_LIMIT E_SHAPE", spec("one", shape=[1, 0])),
    file_kind("K = 2^31", "5.24", "E_LIMIT E_SHAPE", spec("one", shape=[1, 2**31])),
    file_kind("K = 0 without rows", "5.24", "E_LIMIT", _no_rows(0)),
    file_kind("K = 2^31 without rows", "5.24", "E_LIMIT", _no_rows(2**31)),
    file_kind("tensor with the name of a weight", "5.11", _U, _add("b")),
    file_kind("part of no weight", "5.11", _U, _add("d.nm_values", "F16")),
    file_kind("part of no kind", "5.11", _U, _add("a.nm_perm")),
    file_kind("name that ends in .nm_", "5.11", _U, _add("norm.nm_")),
    file_kind("scale of a base that is not I8", "5.11", _U, _add("c.nm_scale", "F32")),
    file_kind("index beside codes", "5.11", _U, _add("c.nm_out_index")),
    file_kind("outliers that are not announced", "5.11", _U, spec("c", outliers=None)),
    *(
        file_kind(f"no {part}", "5.10", "E_MISSING", _remove(part))
        for part in (
            "b.nm_values",
            "b.nm_codes",
            "b.nm_scale",
            "b.nm_out_values",
            "b.nm_out_index",
            "c.nm_out_codes",
        )
    ),
    file_kind("another coding", "5.10", "E_MISSING E_UNEXPECTED", out(coding="idx8")),
    file_kind(
        "misspelt part", "5.10", "E_MISSING E_UNEXPECTED", _rename("c.nm_codes", "c.nm_code")
    ),
    file_kind("values of another dtype", "5.10", "E_DTYPE", recast("c.nm_values", "BF16")),
    file_kind("codes of another dtype", "5.10", "E_DTYPE", recast("c.nm_codes", "I8")),
    file_kind("scale of another dtype", "5.10", "E_DTYPE", recast("b.nm_scale", "I32")),
    file_kind("index of another dtype", "5.10", "E_DTYPE", recast("b.nm_out_index", "I8")),
    file_kind("values of another shape", "5.10", "E_SHAPE", _reshape("c.nm_values")),
    file_kind("codes of another shape", "5.10", "E_SHAPE", _reshape("c.nm_codes")),
    file_kind("outliers of another shape", "5.10", "E_SHAPE", _reshape("b.nm_out_values")),
    file_kind("another pattern", "5.10", "E_SHAPE", spec("c", pattern="2:4")),
    file_kind("one row less", "5.10", "E_SHAPE", spec("c", shape=[1, 9])),
    file_kind("another digest", "5.20", "E_DIGEST", doc(content_sha256="0" * 64)),
    file_kind("a bit of an ordinary tensor", "5.20", "E_DIGEST", _flip("norm")),
    file_kind("a bit of a value", "5.20", "E_DIGEST", _flip("one.nm_values")),
    file_kind("dtype behind the digest", "5.20", "E_DIGEST", entry("norm", dtype="U16")),
    file_kind("shape behind the digest", "5.20", "E_DIGEST", entry("norm", shape=[1, 3])),
    file_kind(
        "name behind the digest", "5.20", "E_DIGEST", swap(NORM, NORM.replace("norm", "worm"))
    ),
    file_kind(
        "extension behind the digest",
        "5.20",
        "E_DIGEST",
        _both(doc(**{"x-a": "1"}), text('"x-a":"1"', '"x-a":"2"')),
    ),
    file_kind(
        "version behind the digest", "5.20", "E_DIGEST", text('"spec":"1.0"', '"spec":"1.1"')
    ),
]
"""Every way in which the metadata, the set of parts or the digest is wrong."""
