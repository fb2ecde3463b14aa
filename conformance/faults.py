"""The rejected inputs of the vectors: one fault each, from nmref.testing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from nmref.conformance.suite.cases import Case, Part
from nmref.conformance.suite.draft import Draft
from nmref.conformance.suite.values import Json, array, slug
from nmref.testing.contents import CONTAINER_SIZES, part_shapes
from nmref.testing.faults import Kind
from nmref.testing.header_faults import HEADER_FAULTS
from nmref.testing.input_faults import INPUT_FAULTS
from nmref.testing.meta_faults import META_FAULTS
from nmref.testing.part_faults import PART_FAULTS, Encoded
from nmref.testing.plain import Bits, Input
from nmref.testing.recipes import Recipe

HEADER_FLAGS = {
    "5.2": "header-length-unchecked",
    "5.4": "header-members",
    "5.5": "names-unchecked",
    "5.6": "size-unchecked",
    "5.7": "tiling-unchecked",
    "5.8": "dtype-unknown",
    "5.10": "parts-unchecked",
    "5.11": "reserved-unchecked",
    "5.12": "metadata-unchecked",
    "5.13": "json-lenient",
    "5.14": "version-unchecked",
    "5.15": "version-unchecked",
    "5.16": "members-unchecked",
    "5.17": "extensions-unchecked",
    "5.18": "canonical-form-unchecked",
    "5.20": "digest-unchecked",
    "5.24": "limits-unchecked",
}
"""Clause -> flag; 5.3 by the name of the fault."""

PART_FLAGS = {
    "2.8": "code-range-unchecked",
    "2.10": "padding-unchecked",
    "3.6": "scale-unchecked",
    "3.8": "tail-unchecked",
    "4.5": "index-order-unchecked",
    "4.7": "tail-unchecked",
    "4.13": "overlap-unchecked",
}

INPUT_FLAGS = {
    "3.15": "shapes-unchecked",
    "3.16": "dtypes-unchecked",
    "3.17": "scale-unchecked",
    "4.12": "overlap-unchecked",
    "4.14": "overfull-pruned",
}

LARGEST = 40_000
"""Bytes of a file of the vectors; two faults of 5.3 and 5.13 have larger ones."""

RECIPES = (
    Recipe(pattern="2:4", dtype="F16", rows=2, columns=9, crowd="full", salt=3),
    Recipe(pattern="8:16", dtype="BF16", rows=3, columns=37, crowd="some", place="mixed", salt=11),
)


def _dense(dtype: str, bits: Bits) -> Json:
    return array(dtype, list(bits.shape), bits.reshape(-1).tolist())


def _mask(mask: Bits | None) -> Json | None:
    return None if mask is None else _dense("BOOL", mask)


def _encode_input(given: Input) -> Json:
    """An input of encode as vectors have it."""
    over = given.outliers
    return {
        "base": _dense(given.base.dtype, given.base.bits),
        "pattern": given.pattern,
        "mask": _mask(given.mask),
        "scale": None if given.scale is None else _dense("F32", given.scale),
        "outliers": None if over is None else _dense(over.dtype, over.bits),
        "out_pattern": None if over is None else given.out_pattern,
        "out_coding": None if over is None else given.coding,
        "out_mask": _mask(given.out_mask),
    }


def _weight(encoded: Encoded) -> Json:
    """Spec and parts as vectors have them."""
    spec, parts = encoded
    found = {}
    for suffix, (dtype, shape) in part_shapes(spec).items():
        assert len(parts[suffix]) % CONTAINER_SIZES[dtype] == 0
        found[suffix] = {"dtype": dtype, "shape": shape, "hex": parts[suffix].hex()}
    return {"spec": spec, "parts": found}


def _input_flag(fault: str, clause: str) -> str:
    if clause in INPUT_FLAGS:
        return INPUT_FLAGS[clause]
    if "NaN" in fault:
        return "nan-pruned"
    if "subnormal" in fault:
        return "subnormal-flushed"
    return "negzero-dropped" if "-0" in fault else "overfull-pruned"


def _json_flag(fault: str) -> str:
    if "twice" in fault:
        return "json-duplicates"
    if "depth" in fault:
        return "json-depth"
    number = "number" in fault or fault in ("negative zero", "NaN")
    return "json-numbers" if number else "json-lenient"


def _both(name: str, kinds: Iterable[Kind[Encoded]]) -> Iterable[tuple[str, Kind[Encoded], Json]]:
    """Every fault in two weights."""
    for kind in kinds:
        for letter, recipe in zip("ab", RECIPES, strict=True):
            weight = _weight(kind.on(recipe).subject)
            yield f"{name}/{slug(kind.fault)}-{letter}", kind, weight


def decoding() -> Iterable[Case]:
    """Parts of one weight."""
    for name, kind, weight in _both("decode/reject", PART_FAULTS):
        flag = _part_flag(kind)
        yield Case(name, "decode", (kind.clause, "6.6"), weight, (flag,), kind.codes)


def _part_flag(kind: Kind[Encoded]) -> str:
    if kind.clause in PART_FLAGS:
        return PART_FLAGS[kind.clause]
    return "padding-unchecked" if "padding" in kind.fault else "code-range-unchecked"


def encoding() -> Iterable[Case]:
    """Inputs of encode."""
    for kind in INPUT_FAULTS:
        for letter, recipe in zip("ab", RECIPES, strict=True):
            name = f"encode/reject/{slug(kind.fault)}-{letter}"
            given = _encode_input(kind.on(recipe).subject)
            flags = [_input_flag(kind.fault, kind.clause)]
            if kind.codes[0] == "X_NEGZERO" or kind.fault == "N + 1 times -128":
                flags.append("negzero-counted")
            if kind.fault == "N + 1 times -128":
                flags.append("i8-minus-128")
            clauses = (kind.clause, "3.20")
            yield Case(name, "encode", clauses, given, tuple(flags), kind.codes)


def _header(layer: str, kinds: Iterable[Kind[bytes]]) -> Iterable[Case]:
    for kind in kinds:
        data = kind.on(replace(RECIPES[0], rows=1)).subject
        if len(data) > LARGEST:
            continue
        flag = HEADER_FLAGS.get(kind.clause) or _json_flag(kind.fault)
        if kind.clause == "5.13":
            flag = _json_flag(kind.fault)
        name = f"read/reject/{layer}/{slug(kind.fault)}"
        yield Case(name, "read", ("1.9", kind.clause), {"file": data.hex()}, (flag,), kind.codes)


def _data() -> Iterable[Case]:
    """The faults of parts, in files whose digest fits."""
    for name, kind, weight in _both("read/reject/data", PART_FAULTS):
        if name.endswith("-a"):
            file = Draft({"w": weight}).build()
            given, flag = {"file": file.hex()}, _part_flag(kind)
            yield Case(name, "read", ("1.9", kind.clause, "6.6"), given, (flag,), kind.codes)


def _deep() -> Iterable[Case]:
    """Nesting that ends a recursive parser."""
    made = Draft()
    data = made.build()
    header = data[8:].rstrip(b" ")
    deep = b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"," + header[1:]
    file = len(deep).to_bytes(8, "little") + deep
    yield Case("read/reject/header/depth-5000", "read", ("1.9", "5.3", "10.3"),
               {"file": file.hex()}, ("json-depth",), ("E_HEADER",))  # fmt: skip


def parts() -> list[Part]:
    """The parts `tensors-reject`, `encode-reject` and `files-reject`."""
    files = [*_header("header", HEADER_FAULTS), *_header("meta", META_FAULTS), *_data(), *_deep()]
    return [
        Part("tensors-reject", list(decoding())),
        Part("encode-reject", list(encoding())),
        Part("files-reject", files),
    ]
