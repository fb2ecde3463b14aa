"""JSON Schemas (draft 2020-12) of the JSON here: formats, side-cars of tables, traces."""

from __future__ import annotations

from typing import Any

from nmref.conformance import memh, pages, taps, trace, traces
from nmref.conformance.text import EXACT

Schema = dict[str, Any]

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_HEX = "^0x[0-9a-f]+$"
_BYTES = "^[0-9a-f]{2}( [0-9a-f]{2})*$"
_SHA256 = "^[0-9a-f]{64}$"
_CLAUSE = r"^([1-9][0-9]*|[A-Z])\.[1-9][0-9]*$"
_TAP = f"^({taps.NAME.pattern})$"
_FORMAT = "^(base|outliers)-[1-9][0-9]*-[1-9][0-9]*$"


def _object(description: str, **members: Schema) -> Schema:
    """Exactly these members."""
    return {
        "type": "object",
        "description": description,
        "properties": members,
        "required": sorted(members),
        "additionalProperties": False,
    }


def _text(description: str, pattern: str = "^[ -~]+$") -> Schema:
    return {"type": "string", "description": description, "pattern": pattern}


def _or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _integer(description: str, minimum: int = 0) -> Schema:
    return {"type": "integer", "description": description, "minimum": minimum}


def _rate(description: str) -> Schema:
    return {"type": "number", "description": description, "minimum": 0}


def _array(description: str, items: Schema, minimum: int = 1) -> Schema:
    return {"type": "array", "description": description, "items": items, "minItems": minimum}


def _one_of(description: str, *values: str) -> Schema:
    return {"type": "string", "description": description, "enum": list(values)}


def _big(description: str) -> Schema:
    """An integer, as text where a JSON number may lose digits."""
    return {
        "description": f"{description}; above 2^53 a string of decimals",
        "oneOf": [
            {"type": "integer", "minimum": 0, "maximum": EXACT},
            {"type": "string", "pattern": "^[1-9][0-9]{15,}$"},
        ],
    }


def _map(description: str, names: str, values: Schema) -> Schema:
    """Any members whose names match."""
    return {
        "type": "object",
        "description": description,
        "propertyNames": {"pattern": names},
        "additionalProperties": values,
        "minProperties": 1,
    }


def _document(name: str, title: str, schema: Schema) -> Schema:
    return {"$schema": _DRAFT, "$id": name, "title": title, **schema}


def _code_entry() -> Schema:
    return _object(
        "A code and what it names",
        code=_text("The code", _HEX),
        mask=_text("The mask: bit i is column i of the block (SPEC 2.4)", _HEX),
        columns=_array("The stored columns of the block, ascending", _integer("A column")),
    )


def _example() -> Schema:
    return _object(
        "One row of blocks",
        clause=_or_null(_text("The clause of SPEC.md that has the same example, or null", _CLAUSE)),
        masks=_array("The masks of the blocks, block 0 first", _text("A mask", _HEX)),
        codes=_array("The codes of the blocks, block 0 first", _text("A code", _HEX)),
        bytes=_text("The bytes of the row of codes, in file order (SPEC 2.9, 2.10)", _BYTES),
        padding_bits=_integer("Bits of the last byte after the last code; all are 0 (SPEC 2.10)"),
        idx8=_or_null(
            _text("The bytes of the same row in coding idx8 (SPEC 4.4); null for bases", _BYTES)
        ),
    )


def _rates() -> Schema:
    total = _object(
        "Positions and values together",
        coding=_one_of("How the positions are coded", "colex", "idx8"),
        value_bits={"type": "integer", "description": "Bits of one value", "enum": [8, 16, 32]},
        total=_rate("Positions and values, bits for each element"),
    )
    return _object(
        "Bits for each element of the dense matrix. Not counted, as in SPEC A.1: padding of rows, "
        "unfinished last blocks, the header, the scale of I8",
        entropy=_rate("log2 C(M, N) / M, rounded to 6 decimals: no code can need less"),
        code=_rate("width / M: positions as this format codes them"),
        index_list=_rate("N * ceil(log2 M) / M: positions as a list of indices"),
        bitmap=_rate("Positions as one bit for each column"),
        idx8=_or_null(_rate("N * 8 / M: positions in coding idx8; null for base patterns")),
        totals=_array("Rates of positions and values", total),
    )


def format_schema() -> Schema:
    """The schema of a page."""
    clause = _object(
        "A clause",
        clause=_text("Its number", _CLAUSE),
        title=_text("Its heading"),
    )
    table = _object(
        "A memory for hardware; the side-car beside it has more",
        file=_text(
            "The $readmemh file, from the folder of this page", "^tables/[0-9a-z-]+[.]memh$"
        ),
        title=_text("What the words are"),
        clause=_text("The clause of SPEC.md that defines it", _CLAUSE),
        width=_integer("Bits of a word", 1),
        depth=_integer("Number of words", 1),
        sha256=_text("SHA-256 of the $readmemh file", _SHA256),
    )
    body = _object(
        "One N:M format. N counts the positions that are STORED",
        schema={"const": pages.SCHEMA, "description": "Names this schema and its version"},
        id=_text("Name of the format and of its page", _FORMAT),
        role=_one_of("What the pattern is for", "base", "outliers"),
        pattern=_text("N:M", "^[1-9][0-9]*:[1-9][0-9]*$"),
        stored=_integer("N: stored positions of a block", 1),
        block=_integer("M: columns of a block", 2),
        count=_big("C(M, N): number of masks. Codes are 0 to count - 1"),
        width=_integer("Bits of a code: ceil(log2 C(M, N))", 1),
        unused_codes=_big("2^width - count: values of a code that are E_CODE_RANGE"),
        group=_object(
            "The shortest run of blocks that ends with a whole byte",
            blocks=_integer("Blocks of the run", 1),
            bytes=_integer("Bytes of the run", 1),
        ),
        most_bytes_of_one_code=_integer("The most bytes of the row that one code touches", 1),
        codings=_array(
            "How the positions can be coded",
            _one_of("A coding: colex is the code of SPEC 2.5, idx8 SPEC 4.4", "colex", "idx8"),
        ),
        dtypes=_array(
            "Element types of the values", _one_of("A dtype", "F32", "F16", "BF16", "I8")
        ),
        rates=_rates(),
        first_codes=_array("The codes 0, 1 and 2", _code_entry()),
        last_codes=_array("The three highest codes, ascending", _code_entry()),
        examples=_array("Worked examples", _example()),
        spec=_object(
            "Where SPEC.md defines the format",
            version=_text("Version of SPEC.md", r"^[0-9]+\.[0-9]+$"),
            clauses=_array("The clauses, in their order", clause),
        ),
        tables=_array("Hardware tables of the format", table, 0),
    )
    return _document(pages.SCHEMA, "Page of an nmref format", body)


def table_schema() -> Schema:
    """The schema of a side-car."""
    field = _object(
        "Some bits of a word",
        name=_text("Name of the bits"),
        high=_integer("Number of the highest bit"),
        low=_integer("Number of the lowest bit"),
        meaning=_text("What the bits say"),
    )
    body = _object(
        "What a $readmemh file cannot say of itself",
        schema={"const": memh.SCHEMA, "description": "Names this schema and its version"},
        file=_text("The $readmemh file, beside this one", "^[0-9a-z._-]+[.]memh$"),
        format=_text(
            "Id of the format that the table belongs to; trace for a tap, dot for vectors of dots",
            f"{_FORMAT}|^(trace|dot)$",
        ),
        title=_text("What the words are"),
        spec=_object(
            "Where SPEC.md defines the table",
            version=_text("Version of SPEC.md", r"^[0-9]+\.[0-9]+$"),
            clause=_text("The clause", _CLAUSE),
        ),
        width=_integer("Bits of a word", 1),
        depth=_integer("Number of words", 1),
        order=_text("What stands at which address"),
        fields=_array("The parts of a word, from the highest bit down", field),
        invalid=_or_null(
            _text("What an address that is no valid code gives; null if there is none")
        ),
        sha256=_text("SHA-256 of the $readmemh file", _SHA256),
        words=_object(
            "Digests of the words themselves: in order, each little-endian in bytes_per_word bytes",
            bytes_per_word=_integer("Bytes of a word: ceil(width / 8)", 1),
            crc32=_text("CRC-32 of the bytes (IEEE 802.3, as in zlib), 8 digits", "^[0-9a-f]{8}$"),
            sha256=_text("SHA-256 of the bytes", _SHA256),
        ),
    )
    return _document(memh.SCHEMA, "Side-car of an nmref hardware table", body)


def _version() -> Schema:
    return _text("Version of SPEC.md", r"^[0-9]+\.[0-9]+$")


def trace_schema() -> Schema:
    """The schema of index.json of a trace folder."""
    memory = _object(
        "The same tap for $readmemh, one 32-bit word an element",
        file=_text("The $readmemh file, beside this one", "[.]memh$"),
        sidecar=_text("Its side-car, which keeps to table.schema.json", "[.]json$"),
        sha256=_text("SHA-256 of the $readmemh file", _SHA256),
    )
    tap = _object(
        "One tap (SPEC 8.36)",
        name=_text("Its name", _TAP),
        file=_text("Its elements, beside this file: little-endian, row after row", "[.]f32$"),
        dtype={"const": "F32", "description": "The element type, by its container name"},
        shape=_array("Sizes of the axes, in elements", _integer("A size", 1), 2),
        sha256=_text("SHA-256 of the file", _SHA256),
        crc32=_text("CRC-32 of the file (IEEE 802.3, as in zlib), 8 digits", "^[0-9a-f]{8}$"),
        memh=_or_null(memory),
    )
    model = _object(
        "Whose forward it is",
        kind=_one_of("What the weights are", "golden", "packed", "dense"),
        name=_or_null(_text("Name of a golden model (SPEC 8.38); null for the others")),
        sha256=_or_null(
            _text(
                "Model digest of a packed model (SPEC 5.23); of a dense one the SHA-256 of the "
                "lines of its tensors (SPEC 5.20) alone; null for a golden one",
                _SHA256,
            )
        ),
    )
    body = _object(
        "The canonical results (SPEC 8.4) of taps of one forward from position 0",
        schema={"const": trace.SCHEMA, "description": "Names this schema and its version"},
        spec=_object(
            "Where SPEC.md defines a trace",
            version=_version(),
            clause=_text("The clause", _CLAUSE),
        ),
        profile=_text("Full name of the dot profile (SPEC 8.15)"),
        model=model,
        tokens=_array("The tokens of positions 0, 1, ...", _integer("A token")),
        taps=_array("The taps that are here, in the order in which they are computed", tap),
        digest=_text("The trace digest over these taps (SPEC 8.37)", _SHA256),
    )
    return _document(trace.SCHEMA, "Index of an nmref trace", body)


def golden_traces_schema() -> Schema:
    """The schema of the digests in conformance/traces/."""
    variant = _object(
        "One golden model",
        profiles=_map(
            "Full name of a profile (SPEC 8.15) -> the trace digest over all taps (SPEC 8.37)",
            "^[!-~]+[+](merged|split)$",
            _text("The trace digest", _SHA256),
        ),
        taps=_map(
            f"Tap -> SHA-256 of its elements as F32 little-endian, by {traces.DEFAULT}",
            _TAP,
            _text("SHA-256", _SHA256),
        ),
    )
    body = _object(
        "What every implementation has to find: digests of canonical results (SPEC 8.4)",
        schema={"const": traces.SCHEMA, "description": "Names this schema and its version"},
        spec=_object(
            "Where SPEC.md defines the models",
            version=_version(),
            clause=_text("The clause", _CLAUSE),
        ),
        tokens=_array("The tokens of positions 0, 1, ...", _integer("A token")),
        variants=_map("Name of a golden model (SPEC 8.38) -> its digests", "^[!-~]+$", variant),
    )
    return _document(traces.SCHEMA, "Digests of the nmref golden models", body)
