"""What a mask file says of its masks: the JSON of its one metadata key <-> specs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nmref.container import strictjson
from nmref.container.metadata import check_weight_name
from nmref.container.safetensors import Entry
from nmref.errors import Code, NmrefError
from nmref.pattern import NMPattern
from nmref.tensor import MAX_SIZE

KEY = "nmref_mask"
VERSION = 1

_MAX_DEPTH = 5
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class MaskSpec:
    """What a mask file says of one weight."""

    shape: tuple[int, int]
    pattern: NMPattern | None = None
    """What the base mask keeps to, at most N of every M columns; None: it has no pattern."""
    salient: bool = False
    """Whether outliers have a mask of their own."""
    outliers: NMPattern | None = None
    """What that mask keeps to."""

    def parts(self, name: str) -> dict[str, tuple[str, tuple[int, int]]]:
        """Tensor names -> container dtype and shape."""
        rows, columns = self.shape
        kinds = ("mask", "outlier_mask") if self.salient else ("mask",)
        return {f"{name}.{kind}": ("U8", (rows, -(-columns // 8))) for kind in kinds}


def document(specs: Mapping[str, MaskSpec], content_sha256: str) -> dict[str, Any]:
    """The JSON document of a file with these masks."""
    masks = {
        name: {
            "outliers": {"pattern": _text(spec.outliers)} if spec.salient else None,
            "pattern": _text(spec.pattern),
            "shape": list(spec.shape),
        }
        for name, spec in specs.items()
    }
    return {"content_sha256": content_sha256, "masks": masks, "version": VERSION}


def metadata(specs: Mapping[str, MaskSpec], content_sha256: str) -> dict[str, str]:
    """The document in canonical form, under its key."""
    return {KEY: strictjson.dumps(document(specs, content_sha256))}


def parse(found: Mapping[str, str] | None) -> tuple[dict[str, MaskSpec], dict[str, Any]]:
    """Read and check the key of a file: specs by weight, and the document (the digest covers it).

    Raises E_META, E_VERSION, E_LIMIT.
    """
    if found is None or set(found) != {KEY}:
        got = "none" if found is None else f"keys {sorted(found)}"
        raise _bad("__metadata__", got, f'exactly the key "{KEY}"')
    doc = _json_object(found[KEY])
    _check_keys(KEY, doc, {"content_sha256", "masks", "version"})
    sha256, masks = doc["content_sha256"], doc["masks"]
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise _bad("content_sha256", repr(sha256), "64 lower-case hex digits")
    if not isinstance(masks, dict) or not masks:
        raise _bad("masks", repr(masks), "an object with at least one mask")
    return {name: _read_spec(name, members) for name, members in masks.items()}, doc


def check_parts(specs: Mapping[str, MaskSpec], entries: Mapping[str, Entry]) -> None:
    """Every bitmap is there with its shape, and nothing else.

    Raises E_MISSING, E_DTYPE, E_SHAPE, E_UNEXPECTED.
    """
    wanted = {part: form for name in specs for part, form in specs[name].parts(name).items()}
    for part in sorted(wanted):
        dtype, shape = wanted[part]
        entry = entries.get(part)
        if entry is None:
            raise NmrefError(Code.E_MISSING, part, "no such tensor", f"{dtype} {list(shape)}")
        if entry.dtype != dtype:
            raise NmrefError(Code.E_DTYPE, part, f"dtype {entry.dtype}", dtype)
        if entry.shape != shape:
            raise NmrefError(Code.E_SHAPE, part, f"shape {list(entry.shape)}", str(list(shape)))
    for part in sorted(set(entries) - set(wanted)):
        raise NmrefError(Code.E_UNEXPECTED, part, "a tensor of no mask", "masks only")


def _json_object(text: str) -> dict[str, Any]:
    """The version is looked at before the rest, which another version may write otherwise."""
    try:
        doc, end = strictjson.loads(text, _MAX_DEPTH)
    except strictjson.StrictJSONError as error:
        raise _bad(KEY, str(error), "JSON") from None
    version = doc.get("version")
    if type(version) is not int:
        raise _bad("version", repr(version), "an integer")
    if version != VERSION:
        raise NmrefError(Code.E_VERSION, "version", str(version), str(VERSION))
    if text[end:] or strictjson.dumps(doc) != text:
        raise _bad(KEY, "JSON in another form", "the canonical form: sorted names, no spaces")
    return doc


def _read_spec(name: str, members: object) -> MaskSpec:
    """What the JSON says of one weight.  Raises E_META, E_LIMIT."""
    check_weight_name(name)
    _check_keys(name, members, {"outliers", "pattern", "shape"})
    assert isinstance(members, dict)
    shape, outliers = members["shape"], members["outliers"]
    if not (isinstance(shape, list) and [type(size) for size in shape] == [int, int]):
        raise _bad(name, f"shape {shape!r}", "[R, K]")
    if shape[0] > MAX_SIZE or not 1 <= shape[1] <= MAX_SIZE:
        got, want = f"shape {shape}", "R in 0..2^31-1, K in 1..2^31-1"
        raise NmrefError(Code.E_LIMIT, name, got, want)
    if outliers is not None:
        _check_keys(f"{name} outliers", outliers, {"pattern"})
    return MaskSpec(
        shape=(shape[0], shape[1]),
        pattern=_read_pattern(name, members["pattern"]),
        salient=outliers is not None,
        outliers=None if outliers is None else _read_pattern(name, outliers["pattern"]),
    )


def _text(pattern: NMPattern | None) -> str | None:
    return None if pattern is None else str(pattern)


def _read_pattern(name: str, text: object) -> NMPattern | None:
    if text is None:
        return None
    try:
        return NMPattern.parse(text if isinstance(text, str) else "")
    except NmrefError:
        raise _bad(name, f"pattern {text!r}", "N:M, as in 8:16, or null") from None


def _check_keys(where: str, members: object, wanted: set[str]) -> None:
    if not isinstance(members, dict) or set(members) != wanted:
        got = f"keys {sorted(members)}" if isinstance(members, dict) else repr(members)
        raise _bad(where, got, f"an object with {', '.join(sorted(wanted))}")


def _bad(where: str, got: str, want: str) -> NmrefError:
    return NmrefError(Code.E_META, where, got[:80], want)
