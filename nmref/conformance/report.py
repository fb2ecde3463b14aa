"""A run for people (text), for CI (JUnit XML) and for programs (JSON)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nmref.conformance.protocol import clean
from nmref.conformance.runner import BAD, VERDICTS, Result, Run
from nmref.container.metadata import SPEC_VERSION

SCHEMA = "urn:nmref:schema:conformance-report:1"
"""The `schema` member of the JSON report."""

_SHOWN = 6  # ids on one line
_MOST = 10  # failures of one part and operation that are shown
_WORDS = {"fail": "FAIL", "errored": "ERROR", "unexpected-pass": "UNEXPECTED PASS"}


def text(run: Run, flags: Mapping[str, str]) -> list[str]:
    """Lines of the whole report: table, what was skipped or known, failures, the sum."""
    lines = [*_client(run), "", *table(run.results), *_reasons(run)]
    for of_op in _failures(run.results).values():
        for group in of_op[:_MOST]:
            lines += ["", *_failure(group, flags)]
        if rest := of_op[_MOST:]:
            case = rest[0][0].case
            lines += ["", f"{sum(map(len, rest))} more of {case.part} {case.op} (--json has all)"]
    lines += ["", *(f"FAULT {fault}" for fault in run.faults)]
    return [*lines, summary(run)]


def _client(run: Run) -> list[str]:
    if run.claims is None:
        return ["the client never started"] if run.results else ["no case was run"]
    claims = run.claims
    return [f"{claims.name} {claims.version}, SPEC {SPEC_VERSION}: {', '.join(claims.ops)}"]


def table(results: Sequence[Result]) -> list[str]:
    """How many of each verdict: a row for every part and operation, and the totals."""
    rows: dict[tuple[str, str], Counter[str]] = {}
    for result in results:
        row = rows.setdefault((result.case.part, result.case.op), Counter())
        row[result.verdict] += 1
    total = sum(rows.values(), Counter[str]())
    cells: list[Sequence[str]] = [("part", "op", *VERDICTS, "cases")]
    for (part, op), counts in [*rows.items(), (("total", ""), total)]:
        numbers = (str(counts[verdict]) for verdict in VERDICTS)
        cells.append((part, op, *numbers, str(counts.total())))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, tuple("-" * width for width in widths))
    return [_row(row, widths) for row in cells]


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    """The first two to the left, the numbers to the right."""
    padded = (
        cell.rjust(width) if i > 1 else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join(padded).rstrip()


def _reasons(run: Run) -> list[str]:
    """Why cases were skipped or are known failures, each reason once."""
    lines = []
    for verdict in ("skipped", "known"):
        reasons = Counter(r.message for r in run.results if r.verdict == verdict)
        lines += [f"{verdict} {count}: {reason}" for reason, count in reasons.items()]
    return ["", *lines] if lines else []


def _failures(results: Iterable[Result]) -> dict[tuple[str, str], list[list[Result]]]:
    """The failures by part and operation; errors with the same message together."""
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        if result.verdict in BAD:
            own = "" if result.verdict == "errored" else result.case.id
            groups.setdefault((result.verdict, result.message, own), []).append(result)
    found: dict[tuple[str, str], list[list[Result]]] = {}
    for group in groups.values():
        found.setdefault((group[0].case.part, group[0].case.op), []).append(group)
    return found


def _failure(group: list[Result], flags: Mapping[str, str]) -> list[str]:
    """A case, what was wrong, what its flags stand for, and further cases of the kind."""
    first, *others = group
    case = first.case
    where = f"{case.part} {case.op}, SPEC {', '.join(case.clauses)}"
    lines = [f"{_WORDS[first.verdict]} {case.id} ({where})", f"    {first.message}"]
    lines += [f"    hunts {flag}: {flags[flag]}" for flag in case.flags if flag in flags]
    if others:
        names = [other.case.id for other in others[:_SHOWN]]
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        lines.append(f"    the same: {', '.join(names)}{more}")
    return lines


def summary(run: Run) -> str:
    """The last line."""
    counts = {verdict: run.count(verdict) for verdict in VERDICTS}
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    if run.interrupted:
        return f"INTERRUPTED after {len(run.results)} of {run.selected} cases: {said or 'none'}"
    if run.ok:
        return f"OK: {said}"
    if not (run.faults or run.count(*BAD)):
        return f"FAILED: nothing was checked: {said}"
    return f"FAILED: {said}" + (f", {len(run.faults)} fault" if run.faults else "")


def document(run: Run, levels: Sequence[str]) -> dict[str, Any]:
    """The JSON report."""
    return {
        "schema": SCHEMA,
        "spec": SPEC_VERSION,
        "levels": list(levels),
        "client": run.claims and asdict(run.claims),
        "ok": run.ok,
        "interrupted": run.interrupted,
        "faults": run.faults,
        "selected": run.selected,
        "totals": {verdict: run.count(verdict) for verdict in VERDICTS},
        "cases": [_case(result) for result in run.results],
    }


def _case(result: Result) -> dict[str, Any]:
    return {
        "id": result.case.id,
        "part": result.case.part,
        "op": result.case.op,
        "level": result.case.level,
        "clauses": list(result.case.clauses),
        "flags": list(result.case.flags),
        "verdict": result.verdict,
        "message": result.message,
        "difference": result.difference and asdict(result.difference),
        "seconds": round(result.seconds, 6),
    }


def junit(run: Run) -> bytes:
    """JUnit XML: a suite for every part; known failures are skipped, faults errors of the last."""
    root = ET.Element("testsuites", name="nmref conformance")
    parts: dict[str, ET.Element] = {}
    for result in run.results:
        part = result.case.part
        if part not in parts:
            parts[part] = ET.SubElement(root, "testsuite", name=part)
        _testcase(parts[part], result)
    if run.faults or run.interrupted:
        suite = ET.SubElement(root, "testsuite", name="protocol")
        for fault in [*run.faults, *(["interrupted"] if run.interrupted else [])]:
            test = ET.SubElement(suite, "testcase", classname="nmref.protocol", name="stop")
            ET.SubElement(test, "error", message=fault)
    for suite in root:
        _count(suite, list(suite))
    _count(root, [test for suite in root for test in suite])
    ET.indent(root)
    data: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return data + b"\n"


def _testcase(suite: ET.Element, result: Result) -> None:
    case = result.case
    test = ET.SubElement(suite, "testcase", classname=f"nmref.{case.part}.{case.op}", name=case.id)
    test.set("time", f"{result.seconds:.3f}")
    kind = {"fail": "failure", "unexpected-pass": "failure", "errored": "error"}
    kind |= {"skipped": "skipped", "known": "skipped"}
    if result.verdict == "pass":
        return
    what = f"known failure: {result.message}" if result.verdict == "known" else result.message
    found = ET.SubElement(test, kind[result.verdict], message=what)
    if result.verdict in BAD:
        found.set("type", result.verdict)
        found.text = f"{what}\nSPEC {', '.join(case.clauses)}; flags: {', '.join(case.flags)}"
    if result.stderr:
        lines = (clean(line, 1000) for line in result.stderr.splitlines())
        ET.SubElement(test, "system-err").text = "\n".join(lines)


def _count(element: ET.Element, tests: Sequence[ET.Element]) -> None:
    element.set("tests", str(len(tests)))
    for name, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(name, str(sum(test.find(kind) is not None for test in tests)))
    element.set("time", f"{sum(float(test.get('time', 0)) for test in tests):.3f}")
