"""The page of a format: everything about one N:M pattern that a program may want to know."""

from __future__ import annotations

import hashlib
from math import gcd, log2
from typing import Any, Literal

from nmref.conformance.examples import code_entry, examples
from nmref.conformance.tables import tables
from nmref.conformance.text import number
from nmref.container.metadata import SPEC_VERSION
from nmref.dtypes import DTYPES, OUTLIER_DTYPES
from nmref.pattern import BASE_PATTERNS, OUTLIER_PATTERNS, NMPattern

Role = Literal["base", "outliers"]
Page = dict[str, Any]

SCHEMA = "urn:nmref:schema:format:1"
"""The `schema` member of a page, and the `$id` of formats/schema/format.schema.json."""

_CODE_CLAUSES = [
    ("2.4", "Mask"),
    ("2.5", "Code"),
    ("2.7", "Width"),
    ("2.8", "Code range"),
    ("2.9", "Stream"),
    ("2.10", "Row bytes and padding"),
]
_CLAUSES: dict[Role, list[tuple[str, str]]] = {
    "base": [
        ("2.1", "Base patterns"),
        ("2.2", "Blocks"),
        ("2.3", "Every block stores N"),
        *_CODE_CLAUSES,
        ("2.11", "nm_codes"),
        ("3.3", "nm_values"),
        ("3.8", "Virtual slots"),
        ("3.9", "Fill"),
    ],
    "outliers": [
        *_CODE_CLAUSES,
        ("4.1", "Outlier patterns"),
        ("4.2", "nm_out_values"),
        ("4.4", "Coding idx8"),
        ("4.5", "Order of indices"),
        ("4.6", "Coding colex"),
        ("4.7", "Virtual outlier slots"),
        ("4.14", "Outlier fill"),
    ],
}


def page_id(role: Role, pattern: NMPattern) -> str:
    """Such as base-8-16: the name of the page, without extension."""
    return f"{role}-{pattern.stored}-{pattern.block}"


def pages() -> list[Page]:
    """Every page, base patterns first."""
    base = [page("base", pattern) for pattern in BASE_PATTERNS]
    return base + [page("outliers", pattern) for pattern in OUTLIER_PATTERNS]


def page(role: Role, pattern: NMPattern) -> Page:
    """The page of one format, as formats/schema/format.schema.json describes it."""
    name, last = page_id(role, pattern), pattern.count - 1
    blocks = 8 // gcd(pattern.width, 8)
    return {
        "schema": SCHEMA,
        "id": name,
        "role": role,
        "pattern": str(pattern),
        "stored": pattern.stored,
        "block": pattern.block,
        "count": number(pattern.count),
        "width": pattern.width,
        "unused_codes": number((1 << pattern.width) - pattern.count),
        "group": {"blocks": blocks, "bytes": blocks * pattern.width // 8},
        "most_bytes_of_one_code": most_bytes(pattern.width),
        "codings": ["colex"] if role == "base" else ["idx8", "colex"],
        "dtypes": list(DTYPES if role == "base" else OUTLIER_DTYPES),
        "rates": _rates(role, pattern),
        "first_codes": [code_entry(code, pattern) for code in range(3)],
        "last_codes": [code_entry(last - back, pattern) for back in (2, 1, 0)],
        "examples": examples(pattern, idx8=role == "outliers"),
        "spec": {
            "version": SPEC_VERSION,
            "clauses": [{"clause": clause, "title": title} for clause, title in _CLAUSES[role]],
        },
        "tables": [
            {
                "file": f"tables/{table.name}.memh",
                "title": table.title,
                "clause": table.clause,
                "width": table.width,
                "depth": table.depth,
                "sha256": hashlib.sha256(table.text()).hexdigest(),
            }
            for table in tables()
            if table.format == name
        ],
    }


def most_bytes(width: int) -> int:
    """The most bytes that one code touches: a code begins at bit b * width mod 8 of a byte."""
    return max(-(-(b * width % 8 + width) // 8) for b in range(8))


def _rates(role: Role, pattern: NMPattern) -> Page:
    """Bits for each element of the dense matrix, counted as in annex A."""
    block, stored = pattern.block, pattern.stored
    outliers = role == "outliers"
    # divisions by a power of two, so every figure but the entropy is exact
    code, index = pattern.width / block, stored * (block - 1).bit_length() / block
    codings = {"idx8": stored * 8 / block, "colex": code} if outliers else {"colex": code}
    return {
        "entropy": round(log2(pattern.count) / block, 6),
        "code": code,
        "index_list": index,
        "bitmap": 1.0,
        "idx8": codings.get("idx8"),
        "totals": [
            {"coding": coding, "value_bits": bits, "total": rate + stored * bits / block}
            for coding, rate in codings.items()
            for bits in ((16, 32) if outliers else (8, 16, 32))
        ],
    }
