"""Models of several files and their index (SPEC 5.21 and 5.22)."""

from __future__ import annotations

from nmref.conformance.suite.cases import ANY, Case, Json, Part
from nmref.conformance.suite.draft import Draft
from nmref.conformance.suite.files import other
from nmref.conformance.suite.values import Chance
from nmref.conformance.suite.weights import Form, Out, random_weight
from nmref.container import strictjson

INDEX = "model.nmref.safetensors.index.json"
FIRST, SECOND = "model-1-of-2.safetensors", "model-2-of-2.safetensors"

_PATHS = {
    "slash": f"below/{SECOND}",
    "parent": f"../{SECOND}",
    "absolute": f"/{SECOND}",
    "backslash": f"below\\{SECOND}",
    "zero-byte": f"{SECOND}\0",
    "dot": ".",
    "dot-dot": "..",
    "empty": "",
}
"""Names that an index may not give a file."""


def shards() -> dict[str, Draft]:
    """Two files with a weight and another tensor each."""
    chance = Chance("model")
    first = {"b": random_weight(chance, Form("2:4", "F16", 2, 9))}
    second = {"a": random_weight(chance, Form("8:16", "I8", 2, 17, Out("4:256", "BF16", "idx8")))}
    return {
        FIRST: Draft(first, {"norm": other(chance, "F32", [3])}),
        SECOND: Draft(second, {"embed": other(chance, "BF16", [2, 4])}),
    }


def index(files: dict[str, Draft], **names: str | None) -> str:
    """The index of files; `names` gives tensors another file, or None."""
    homes: dict[str, str | None] = {}
    total = 0
    for file, draft in files.items():
        for name, tensor in draft.tensors().items():
            homes[name] = file
            total += len(tensor["hex"]) // 2
    kept = {name: file for name, file in (homes | names).items() if file is not None}
    return strictjson.dumps({"metadata": {"total_size": total}, "weight_map": kept}) + "\n"


def _given(text: str, files: dict[str, str]) -> Json:
    return {"files": {INDEX: text.encode("ascii").hex(), **files}}


def _built(files: dict[str, Draft]) -> dict[str, str]:
    return {name: draft.build().hex() for name, draft in files.items()}


def _case(name: str, clauses: str, given: Json, flag: str, codes: tuple[str, ...] = ()) -> Case:
    return Case(f"read_model/{name}", "read_model", tuple(clauses.split()), given, (flag,), codes)


def _valid() -> list[Case]:
    two, unchecked = shards(), "shard-index-unchecked"
    one = {FIRST: two[FIRST]}
    chance = Chance("third file")
    three = {**two, "other.bin": Draft({}, {"more": other(chance, "U8", [5])})}
    empty = {**two, SECOND: Draft({"e": random_weight(chance, Form("4:8", "F32", 0, 9))})}
    made = {"one-file": one, "two-files": two, "three-files": three, "no-rows": empty}
    return [
        _case(name, "5.21 5.22", _given(index(files), _built(files)), unchecked)
        for name, files in made.items()
    ]


def _split(whole: Draft) -> dict[str, str]:
    """The codes of a weight beside another weight, its values where it is announced."""
    codes = whole.weights["b"]["parts"]["nm_codes"]
    values = {"b.nm_values": whole.weights["b"]["parts"]["nm_values"]}
    announced = Draft({"b": {**whole.weights["b"], "parts": {}}}, values)
    return _built({FIRST: announced, SECOND: Draft({}, {"b.nm_codes": codes})})


def _flipped(file: str) -> str:
    """A bit of the first tensor, an ordinary one, after the digest."""
    data = bytearray.fromhex(file)
    data[8 + int.from_bytes(data[:8], "little")] ^= 1
    return data.hex()


def _rejected() -> list[Case]:
    two = shards()
    files = _built(two)
    opened, unchecked = "shard-path-opened", "shard-index-unchecked"
    found = []
    for name, path in _PATHS.items():
        moved = dict.fromkeys(two[SECOND].tensors(), path)
        there = {path: files[SECOND]} if name in ("slash", "parent", "backslash") else {}
        given = _given(index(two, **moved), {**files, **there})
        found.append(_case(f"reject/path-{name}", "5.22 10.5", given, opened, ANY))
    text = index(two)
    split = _given(index(two, **{"b.nm_codes": SECOND}), {**files, **_split(two[FIRST])})
    wrong = {**files, FIRST: _flipped(files[FIRST])}
    more = {
        "missing-file": _given(text, {FIRST: files[FIRST]}),
        "tensor-in-another-file": _given(index(two, norm=SECOND), files),
        "part-in-another-file": _given(index(two, **{"b.nm_codes": SECOND}), files),
        "tensor-in-no-file": _given(index(two, nothing=FIRST), files),
        "no-weight-map": _given('{"metadata":{"total_size":0}}\n', files),
        "weight-map-is-a-list": _given('{"weight_map":[]}\n', files),
        "file-is-a-number": _given('{"weight_map":{"norm":1}}\n', files),
        "index-is-no-json": _given(text[:-3], files),
    }
    found += [
        _case(f"reject/{name}", "5.22", given, unchecked, ANY) for name, given in more.items()
    ]
    codes = ("E_MISSING", "E_UNEXPECTED")
    found.append(_case("reject/weight-in-two-files", "5.21", split, "weight-in-two-files", codes))
    digest = _given(text, wrong)
    found.append(
        _case("reject/digest-of-one-file", "5.20 5.21", digest, "digest-unchecked", ("E_DIGEST",))
    )
    return found


def models() -> Part:
    """Part `models`."""
    return Part("models", [*_valid(), *_rejected()])
