"""Known failures: cases that an implementation fails, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from nmref.conformance.vectors import Case, read_json
from nmref.errors import Code, NmrefError

Known = Mapping[str, str]
"""Id or glob of cases -> the reason."""


def read(path: Path) -> Known:
    """A file of known failures.  Raises T_FILE.

    Text: a line is an id or a glob, space, the reason; empty lines and lines from # are comments.
    JSON: an object, id or glob -> reason.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        got = getattr(error, "strerror", None) or "invalid UTF-8"
        raise NmrefError(Code.T_FILE, str(path), got, "a file of known failures") from None
    if text.lstrip().startswith("{"):
        found = read_json(path, text.encode("utf-8"))
        if not all(isinstance(reason, str) and reason.strip() for reason in found.values()):
            raise NmrefError(Code.T_FILE, str(path), "an id without a reason", "a reason for each")
        return dict(found)
    known: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, _, reason = line.strip().partition(" ")
        if not name or name.startswith("#"):
            continue
        if not reason.strip() or name in known:
            got = f"{name} {'twice' if reason.strip() else 'without a reason'}"
            raise NmrefError(Code.T_FILE, f"{path} line {number}", got, "ID REASON, once")
        known[name] = reason.strip()
    return known


def check(known: Known, cases: Iterable[Case], where: str) -> None:
    """Every id and glob names a case of the suite.  Raises T_FILE."""
    ids = [case.id for case in cases]
    for name in known:
        if not any(_names(name, one) for one in ids):
            raise NmrefError(Code.T_FILE, where, f"{name}, which is no case", "cases of the suite")


def reason(known: Known, name: str) -> str | None:
    """Why a case is known to fail; None: it is not."""
    return next((why for pattern, why in known.items() if _names(pattern, name)), None)


def _names(pattern: str, name: str) -> bool:
    return pattern == name or fnmatchcase(name, pattern)
