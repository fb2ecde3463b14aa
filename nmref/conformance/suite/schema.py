"""JSON Schemas of a file of vectors and of the manifest (draft 2020-12)."""

from __future__ import annotations

from typing import Any

from nmref.conformance.suite.cases import OPS
from nmref.conformance.suite.values import SIZES

VECTORS = "urn:nmref:schema:vectors:1"
MANIFEST = "urn:nmref:schema:manifest:1"

Schema = dict[str, Any]

_CODE = "^[EX]_[A-Z0-9_]+$"
_FLAG = "^[a-z0-9]+(-[a-z0-9]+)*$"


def _object(description: str, **members: Schema) -> Schema:
    return {
        "type": "object",
        "description": description,
        "properties": members,
        "required": sorted(members),
        "additionalProperties": False,
    }


def _text(description: str, pattern: str) -> Schema:
    return {"type": "string", "description": description, "pattern": pattern}


def _list(description: str, items: Schema, least: int = 0) -> Schema:
    return {"type": "array", "description": description, "items": items, "minItems": least}


def _count(description: str) -> Schema:
    return {"type": "integer", "description": description, "minimum": 0}


def _array() -> Schema:
    return _object(
        "An array: row-major, elements little-endian",
        dtype={"type": "string", "description": "A dtype of SPEC 5.8", "enum": sorted(SIZES)},
        shape=_list("Sizes of the axes", _count("A size")),
        hex=_text("The bytes", "^([0-9a-f]{2})*$"),
    )


def _io(description: str) -> Schema:
    """Members of input and output; every object with `hex` in it is an array."""
    return {"type": "object", "description": description,
            "additionalProperties": {"$ref": "#/$defs/value"}}  # fmt: skip


def vectors_schema() -> Schema:
    """The schema of conformance/vectors/*.json."""
    expect = {
        "description": "What comes out, or the codes with which the input may be refused",
        "oneOf": [
            _object("Good", output=_io("What the operation gives")),
            _object(
                "Refused",
                rejected=_list(
                    "Every code whose condition holds; an ordered implementation reports the "
                    "first. None: any code",
                    _text("A code of SPEC part 7", _CODE),
                ),
            ),
        ],
    }  # fmt: skip
    case = _object(
        "A case",
        id=_text("Its permanent name", "^[a-z0-9_]+(/[a-z0-9.]+(-[a-z0-9.]+)*)+$"),
        op={"type": "string", "description": "The operation", "enum": list(OPS)},
        clauses=_list("Clauses of SPEC.md", _text("A clause", r"^[0-9]+\.[0-9]+$"), 1),
        level={"type": "string", "description": "core: every implementation; strict: also the "
               "codes, warnings, the canonical writer; numeric: SPEC part 8",
               "enum": ["core", "strict", "numeric"]},
        flags=_list("Bugs that it hunts, by their names in flags.json", _text("A flag", _FLAG)),
        input=_io("What the implementation gets"),
        expect=expect,
    )  # fmt: skip
    value = {
        "description": "An array where there is `hex`; else plain JSON whose objects hold the same",
        "if": {"type": "object", "required": ["hex"]},
        "then": _array(),
        "else": {
            "type": ["object", "array", "string", "integer", "number", "null"],
            "additionalProperties": {"$ref": "#/$defs/value"},
        },
    }
    body = _object(
        "A part of the conformance vectors of nmref",
        schema={"const": VECTORS, "description": "Names this schema and its version"},
        spec=_text("Version of SPEC.md", r"^[0-9]+\.[0-9]+$"),
        part=_text("Name of the part", _FLAG),
        cases=_list("The cases", case, 1),
    )
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": VECTORS}
    return {**head, "title": "nmref vectors", "$defs": {"value": value}, **body}


def manifest_schema() -> Schema:
    """The schema of conformance/MANIFEST.json."""
    file = _object(
        "A file",
        bytes=_count("Its size"),
        cases=_count("How many cases it has; 0 for flags.json"),
        sha256=_text("Its SHA-256", "^[0-9a-f]{64}$"),
    )
    body = _object(
        "The files of the conformance vectors",
        schema={"const": MANIFEST, "description": "Names this schema and its version"},
        spec=_text("Version of SPEC.md", r"^[0-9]+\.[0-9]+$"),
        files={"type": "object", "description": "Path from the manifest's folder -> file",
               "propertyNames": {"pattern": "^[a-z0-9/-]+[.]json$"}, "additionalProperties": file},
        total=_object("All of them", bytes=_count("Size"), cases=_count("Cases")),
    )  # fmt: skip
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": MANIFEST}
    return {**head, "title": "Manifest of nmref vectors", **body}
