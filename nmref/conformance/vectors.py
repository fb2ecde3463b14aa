"""The cases of a folder of vectors, whole and as its manifest says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from nmref.conformance.protocol import OPS
from nmref.errors import Code, NmrefError

SCHEMA = "urn:nmref:schema:vectors:1"
"""The `schema` member of a file of vectors."""

MANIFEST, FLAGS = "MANIFEST.json", "flags.json"

LEVELS = ("core", "strict", "numeric")


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes
    ----------
    id : its permanent name.
    part : of the suite, such as "codes".
    level : core, strict or numeric.
    input : what a client gets.
    output : what it has to answer; None where it has to refuse.
    rejected : the codes with which it may refuse, that of an ordered reader first; empty where it
        has to answer or may refuse with any code.
    """

    id: str
    part: str
    op: str
    level: str
    clauses: tuple[str, ...]
    flags: tuple[str, ...]
    input: dict[str, Any]
    output: dict[str, Any] | None
    rejected: tuple[str, ...] = ()

    @property
    def profile(self) -> str | None:
        """Of a dot or a trace."""
        return self.input.get("profile")


@dataclass(frozen=True)
class Suite:
    """All cases of a folder, and slug -> what bug it stands for."""

    cases: tuple[Case, ...]
    flags: dict[str, str]

    @property
    def parts(self) -> list[str]:
        """Names of the parts, in order."""
        return list(dict.fromkeys(case.part for case in self.cases))

    @property
    def clauses(self) -> set[str]:
        """Every clause of SPEC that a case tests."""
        return {clause for case in self.cases for clause in case.clauses}


def load(folder: Path) -> Suite:
    """Read the vectors of a folder and check them against the manifest.

    MANIFEST.json and flags.json lie in the folder or in the one above it; paths in the manifest
    count from its own folder.  Raises T_FILE: a file is missing, changed, extra or malformed.
    """
    if not folder.is_dir():
        raise NmrefError(Code.T_FILE, str(folder), "no such folder", "a folder of vectors")
    manifest = _beside(folder, MANIFEST)
    if manifest is None:
        raise NmrefError(Code.T_FILE, str(folder / MANIFEST), "no such file", "the manifest")
    listed = _listed(manifest)
    flags = _beside(folder, FLAGS)
    paths = sorted(path for path in folder.rglob("*.json") if path.name not in (MANIFEST, FLAGS))
    for path in listed:
        if folder.resolve() in path.parents and path.suffix == ".json" and not path.exists():
            raise NmrefError(Code.T_FILE, str(path), "no such file", "the file of the manifest")
    cases: dict[str, Case] = {}
    for path in paths:
        for case in _cases(path, _checked(path, listed)):
            if case.id in cases:
                raise _bad(path, f"case {case.id} twice", "every id once")
            cases[case.id] = case
    said = {} if flags is None else _flags(flags, listed)
    return Suite(tuple(cases.values()), said)


def select(
    suite: Suite,
    levels: Collection[str] = LEVELS,
    parts: Collection[str] = (),
    glob: str | None = None,
) -> list[Case]:
    """The cases of some levels, parts (none named: all) and ids; strict takes core in.

    Raises T_ARGUMENT: an unknown part, no case at all.
    """
    for part in parts:
        if part not in suite.parts:
            want = f"one of {', '.join(suite.parts)}"
            raise NmrefError(Code.T_ARGUMENT, "part", repr(part), want)
    wanted = {*levels, "core"} if "strict" in levels else set(levels)
    found = [
        case
        for case in suite.cases
        if case.level in wanted
        and (not parts or case.part in parts)
        and (glob is None or fnmatchcase(case.id, glob))
    ]
    if not found:
        raise NmrefError(Code.T_ARGUMENT, "cases", "none with these options", "at least one")
    return found


def read_json(path: Path, data: bytes | None = None) -> Any:
    """A JSON document.  Raises T_FILE."""
    try:
        return json.loads(path.read_bytes() if data is None else data)
    except OSError as error:
        raise _bad(path, error.strerror or str(error), "a JSON file") from None
    except (ValueError, RecursionError) as error:
        raise _bad(path, str(error), "JSON") from None


def _bad(path: Path, got: str, want: str) -> NmrefError:
    return NmrefError(Code.T_FILE, str(path), got, want)


def _beside(folder: Path, name: str) -> Path | None:
    places = (folder / name, folder.resolve().parent / name)
    return next((path for path in places if path.is_file()), None)


def _listed(manifest: Path) -> dict[Path, str]:
    """Path -> SHA-256 of every file of the manifest."""
    document = read_json(manifest)
    try:
        files = document["files"].items()
        return {(manifest.parent / name).resolve(): str(said["sha256"]) for name, said in files}
    except (AttributeError, KeyError, TypeError):
        raise _bad(manifest, "another form", '{"files": {PATH: {"sha256": ...}}}') from None


def _checked(path: Path, listed: dict[Path, str]) -> bytes:
    want = listed.get(path.resolve())
    if want is None:
        raise _bad(path, "a file that the manifest does not list", "its files only")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _bad(path, error.strerror or str(error), "a file of vectors") from None
    got = hashlib.sha256(data).hexdigest()
    if got != want:
        raise _bad(path, f"sha256 {got}", f"{want} of the manifest")
    return data


def _flags(path: Path, listed: dict[Path, str]) -> dict[str, str]:
    data = _checked(path, listed) if path.resolve() in listed else None
    document = read_json(path, data)
    if not isinstance(document, dict):
        raise _bad(path, "another form", "{FLAG: DESCRIPTION}")
    return {name: said for name, said in document.items() if isinstance(said, str)}


def _cases(path: Path, data: bytes) -> Iterator[Case]:
    document = read_json(path, data)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise _bad(path, "another schema", SCHEMA)
    cases = document.get("cases")
    if not isinstance(document.get("part"), str) or not isinstance(cases, list):
        raise _bad(path, "no part or no cases", "both")
    for number, members in enumerate(cases):
        try:
            yield _case(document["part"], members)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            got = f"case {number} with a fault at {error}"
            raise _bad(path, got, "id, op, clauses, level, flags, input, expect") from None


def _case(part: str, members: Any) -> Case:
    expect, level = members["expect"], members["level"]
    if level not in LEVELS or members["op"] not in OPS:
        raise ValueError("level or op")
    if sorted(expect) not in (["output"], ["rejected"]) or expect.get("output") == {}:
        raise ValueError("expect")
    if not isinstance(expect.get("rejected", []), list):
        raise ValueError("rejected")
    if not isinstance(members["id"], str) or not isinstance(members["input"], dict):
        raise ValueError("id or input")
    return Case(
        members["id"],
        part,
        members["op"],
        level,
        tuple(members["clauses"]),
        tuple(members["flags"]),
        members["input"],
        expect.get("output"),
        tuple(expect.get("rejected", ())),
    )
