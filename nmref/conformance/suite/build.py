"""From cases and an author to the bytes of the vectors, and their manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nmref.conformance.suite.cases import ANY, ID, Author, Case, Json, Part, rejection
from nmref.conformance.suite.clauses import clauses_of
from nmref.conformance.suite.codes import codes
from nmref.conformance.suite.dots import dot, dot_aimed, dot_i32
from nmref.conformance.suite.encode import encoding
from nmref.conformance.suite.files import files
from nmref.conformance.suite.flags import FLAGS
from nmref.conformance.suite.models import models
from nmref.conformance.suite.ops import ops, traces
from nmref.conformance.suite.outliers import outliers
from nmref.conformance.suite.schema import MANIFEST, VECTORS
from nmref.conformance.suite.special import dot_special
from nmref.conformance.suite.tensors import tensors
from nmref.conformance.text import json_bytes
from nmref.container.metadata import SPEC_VERSION
from nmref.errors import Code, NmrefError


def every_case() -> list[Part]:
    """The parts that need nothing else; those of rejected inputs come from nmref.testing."""
    return [codes(), tensors(), outliers(), encoding(), files(), models(), dot(), dot_i32(),
            dot_aimed(), dot_special(), ops(), traces()]  # fmt: skip


def expect(case: Case, author: Author) -> Json:
    """What comes out of a case.  Raises T_ARGUMENT if the author disagrees with its codes."""
    try:
        output = getattr(author, case.op)(case.given)
    except Exception as error:
        if case.rejected == ANY and isinstance(getattr(error, "code", None), str):
            return {"rejected": []}
        code = rejection(error)
        if code is None:
            raise
        if not case.rejected or code != case.rejected[0]:
            want = case.rejected[0] if case.rejected else "an output"
            raise NmrefError(Code.T_ARGUMENT, case.id, code, want) from error
        return {"rejected": list(case.rejected)}
    if case.rejected:
        raise NmrefError(Code.T_ARGUMENT, case.id, "an output", " or ".join(case.rejected))
    return {"output": output}


def document(case: Case, author: Author) -> dict[str, Any]:
    """A case as the vectors have it."""
    return {
        "id": case.id,
        "op": case.op,
        "clauses": clauses_of(case),
        "level": case.level,
        "flags": sorted(set(case.flags)),
        "input": case.given,
        "expect": expect(case, author),
    }


def vector_bytes(part: str, cases: Iterable[dict[str, Any]]) -> bytes:
    """A file of vectors: one case a line, members sorted; a changed case is a changed line."""
    head = {"part": part, "schema": VECTORS, "spec": SPEC_VERSION}
    lines = ",\n".join(json.dumps(case, sort_keys=True, separators=(",", ":")) for case in cases)
    return f'{json.dumps(head)[:-1]}, "cases": [\n{lines}\n]}}\n'.encode("ascii")


def part_bytes(part: Part, author: Author) -> bytes:
    """The file of a part."""
    return vector_bytes(part.name, (document(case, author) for case in part.cases))


def build(parts: Sequence[Part], author: Author) -> dict[str, bytes]:
    """File name -> bytes, flags.json and the manifest among them."""
    check(parts)
    return assemble(parts, {part.name: part_bytes(part, author) for part in parts})


def assemble(parts: Sequence[Part], made: Mapping[str, bytes]) -> dict[str, bytes]:
    """Name of a part -> its bytes, as files with flags.json and the manifest."""
    files = {f"vectors/{name}.json": content for name, content in made.items()}
    files["flags.json"] = json_bytes(FLAGS)
    counts = {f"vectors/{part.name}.json": len(part.cases) for part in parts}
    files["MANIFEST.json"] = manifest(files, counts)
    return files


def manifest(files: Mapping[str, bytes], counts: Mapping[str, int]) -> bytes:
    """Size, digest and number of cases of every file of vectors; of flags.json, without cases."""
    listed = {
        name: {
            "bytes": len(content),
            "cases": counts.get(name, 0),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        for name, content in files.items()
    }
    total = {
        "bytes": sum(len(content) for content in files.values()),
        "cases": sum(counts.values()),
    }
    return json_bytes({"schema": MANIFEST, "spec": SPEC_VERSION, "files": listed, "total": total})


def check(parts: Sequence[Part]) -> None:
    """Every id once and well formed, every flag known.  Raises T_ARGUMENT."""
    seen: set[str] = set()
    for case in (case for part in parts for case in part.cases):
        if case.id in seen or not ID.fullmatch(case.id):
            raise NmrefError(Code.T_ARGUMENT, "case", case.id, "an id of its own")
        seen.add(case.id)
        if unknown := set(case.flags) - FLAGS.keys():
            raise NmrefError(Code.T_ARGUMENT, case.id, min(unknown), "a flag of flags.py")
