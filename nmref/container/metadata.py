"""The one metadata key `nmref`: JSON in canonical form <-> weight specs (SPEC part 5)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from nmref import pattern as patterns
from nmref.container import strictjson
from nmref.container.safetensors import NAME
from nmref.dtypes import DTYPES, OUTLIER_DTYPES
from nmref.errors import Code, NmrefError
from nmref.tensor import OutlierSpec, WeightSpec

KEY = "nmref"
SPEC_VERSION = "1.0"
MAX_DEPTH = 8
RESERVED = re.compile(r"\.nm_[^.]*$")
"""Names that end so belong to the parts of weights."""

_VERSION = re.compile(r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_EXTRA_KEY = re.compile(r"x-[!#-\[\]-~]+", re.ASCII)
_EXTRA_VALUE = re.compile(r"[ -~]*", re.ASCII)


@dataclass(frozen=True)
class Metadata:
    """What the key says: weights by name, and the document itself (the digest covers it)."""

    weights: dict[str, WeightSpec]
    document: dict[str, Any]

    @property
    def content_sha256(self) -> str:
        """The digest that the file claims."""
        return str(self.document["content_sha256"])


def document(weights: dict[str, WeightSpec], content_sha256: str) -> dict[str, Any]:
    """The JSON document of a file with these weights."""
    tensors = {name: _weight_members(spec) for name, spec in weights.items()}
    return {"content_sha256": content_sha256, "spec": SPEC_VERSION, "tensors": tensors}


def _weight_members(spec: WeightSpec) -> dict[str, Any]:
    out = spec.outliers
    return {
        "coding": "colex",
        "dtype": spec.dtype,
        "outliers": out and {"coding": out.coding, "dtype": out.dtype, "pattern": str(out.pattern)},
        "pattern": str(spec.pattern),
        "shape": list(spec.shape),
    }


def parse(metadata: dict[str, str] | None) -> Metadata:
    """Read and check the key.  Raises E_META, E_VERSION; sizes are judged later."""
    if metadata is None or set(metadata) != {KEY}:
        got = "none" if metadata is None else f"keys {sorted(metadata)}"[:80]
        raise _bad("__metadata__", got, f'exactly the key "{KEY}"')
    text = metadata[KEY]
    doc = _json_object(text)
    _check_version(doc.get("spec"))
    if strictjson.dumps(doc) != text:
        raise _bad(KEY, "JSON in another form", "the canonical form: sorted names, no spaces")
    _check_keys(KEY, doc, {"content_sha256", "spec", "tensors"})
    if not _matches(_SHA256, doc["content_sha256"]):
        raise _bad("content_sha256", repr(doc["content_sha256"])[:80], "64 lower-case hex digits")
    if not isinstance(doc["tensors"], dict):
        raise _bad("tensors", "something else", "an object")
    return Metadata({name: _weight(name, members) for name, members in doc["tensors"].items()}, doc)


def _bad(where: str, got: str, want: str) -> NmrefError:
    return NmrefError(Code.E_META, where, got, want)


def _json_object(text: str) -> dict[str, Any]:
    try:
        doc, end = strictjson.loads(text, MAX_DEPTH, signed=True)
    except strictjson.StrictJSONError as error:
        raise _bad(KEY, str(error), "JSON") from None
    if text[end:].strip(" "):
        raise _bad(KEY, "bytes after the object", "one JSON object")
    return doc


def _check_version(spec: object) -> None:
    match = _VERSION.fullmatch(spec) if isinstance(spec, str) else None
    if match is None:
        raise _bad("spec", repr(spec)[:80], '"MAJOR.MINOR"')
    if match[1] != SPEC_VERSION.split(".")[0]:
        raise NmrefError(Code.E_VERSION, "spec", f"version {spec}"[:80], f"{SPEC_VERSION[0]}.x")


def check_weight_name(name: str) -> None:
    """A tensor name without a reserved suffix.  Raises E_META."""
    if not NAME.fullmatch(name) or RESERVED.search(name) or name == "__metadata__":
        raise _bad(repr(name)[:80], "a weight's name", "a tensor name without a reserved suffix")


def _weight(name: str, members: object) -> WeightSpec:
    check_weight_name(name)
    if not isinstance(members, dict):
        raise _bad(name, "something else", "an object")
    _check_keys(name, members, {"coding", "dtype", "outliers", "pattern", "shape"})
    if members["coding"] != "colex":
        raise _bad(name, f"coding {members['coding']!r}"[:80], '"colex"')
    shape = members["shape"]
    if not (isinstance(shape, list) and [type(size) for size in shape] == [int, int]):
        raise _bad(name, f"shape {shape!r}"[:80], "[R, K]")
    pattern = _pattern(name, members["pattern"], outliers=False)
    dtype = _dtype(name, members["dtype"], set(DTYPES))
    return WeightSpec((shape[0], shape[1]), pattern, dtype, _outliers(name, members["outliers"]))


def _outliers(name: str, members: object) -> OutlierSpec | None:
    if members is None:
        return None
    if not isinstance(members, dict):
        raise _bad(name, "outliers of another form", "null or an object")
    _check_keys(f"{name} outliers", members, {"coding", "dtype", "pattern"})
    coding = members["coding"]
    if coding != "idx8" and coding != "colex":
        raise _bad(f"{name} outliers", f"coding {coding!r}"[:80], '"idx8" or "colex"')
    pattern = _pattern(name, members["pattern"], outliers=True)
    return OutlierSpec(pattern, _dtype(name, members["dtype"], set(OUTLIER_DTYPES)), coding)


def _pattern(name: str, text: object, *, outliers: bool) -> patterns.NMPattern:
    read = patterns.outlier_pattern if outliers else patterns.base_pattern
    try:
        return read(text if isinstance(text, str) else "")
    except NmrefError as error:
        raise _bad(name, f"pattern {text!r}"[:80], error.want) from None


def _dtype(name: str, dtype: object, allowed: set[str]) -> str:
    if not isinstance(dtype, str) or dtype not in allowed:
        raise _bad(name, f"dtype {dtype!r}"[:80], f"one of {', '.join(sorted(allowed))}")
    return dtype


def _check_keys(where: str, members: dict[str, Any], wanted: set[str]) -> None:
    """Exactly the wanted keys; besides them only x- keys with printable ASCII strings."""
    extra = {key: value for key, value in members.items() if key.startswith("x-")}
    if set(members) - set(extra) != wanted:
        raise _bad(where, f"keys {sorted(set(members) - set(extra))}"[:80], str(sorted(wanted)))
    for key, value in extra.items():
        if not _EXTRA_KEY.fullmatch(key) or not _matches(_EXTRA_VALUE, value):
            raise _bad(where, f"extra key {key!r}"[:80], "x-NAME with a printable ASCII string")


def _matches(form: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and form.fullmatch(value) is not None
