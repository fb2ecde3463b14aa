"""Clauses that a case tests by what it is: its operation and what may come out."""

from __future__ import annotations

from nmref.conformance.suite.cases import NUMERIC, Case

_BY_OPERATION = {
    "write": ("1.13", "9.3"),
    **dict.fromkeys(NUMERIC, ("8.1",)),
}

_BY_NAME = {
    "read/reject/meta/base-dtype-f64": "3.1",
    "read/reject/meta/outlier-pattern-": "4.1",
    "read/reject/meta/outlier-dtype-i8": "4.3",
    "read/reject/meta/codes-of-another-": "2.11",
    "read/reject/header/h-": "6.10 10.1",
    "read/reject/header/size-": "6.10 10.1",
    "read/reject/header/cut-in-the-header": "10.1",
    "read/reject/header/begin-after-end": "10.1",
    "read/reject/header/last-byte-missing": "10.1",
    "read/reject/meta/k-2-to-the-31": "6.10",
    "read/reject/meta/r-2-to-the-31": "6.10",
    "read/reject/data/outlier-past-column-k": "10.1",
    "read/reject/data/outlier-code-": "10.1",
    "read/reject/data/code-": "10.1",
}
"""Beginning of an id -> more clauses."""


def clauses_of(case: Case) -> list[str]:
    """Its own clauses, then those of its kind, each once."""
    found = [*case.clauses, *_BY_OPERATION.get(case.op, ())]
    if case.op == "decode" and not case.rejected:
        found.append("1.11")
    if case.op == "encode" and case.rejected:
        found.append("1.12")
    if case.op == "read" and len(case.rejected) > 1:
        found += ["1.10", "6.1"]
    if case.op in ("read", "read_model") and case.rejected == ("E_DIGEST",):
        found.append("6.12")
    for start, more in _BY_NAME.items():
        if case.id.startswith(start):
            found += more.split()
    return list(dict.fromkeys(found))
