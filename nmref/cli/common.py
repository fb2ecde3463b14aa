"""What several commands share: output, arguments, texts."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from nmref.errors import Code, NmrefError
from nmref.tables import aligned


def add_json(parser: argparse.ArgumentParser) -> None:
    """The switch of every command that prints results."""
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def print_json(document: object) -> None:
    """One JSON document on stdout."""
    print(json.dumps(document, indent=2))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """As `tables.aligned` lays it out."""
    print(aligned(header, rows))


def read_text(path: Path, what: str) -> str:
    """A UTF-8 text file.  Raises T_FILE."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise NmrefError(
            Code.T_FILE, str(path), error.strerror or str(error), f"a {what}"
        ) from None
    except UnicodeDecodeError as error:
        got = f"invalid UTF-8 at byte {error.start}"
        raise NmrefError(Code.T_FILE, str(path), got, f"a {what} in UTF-8") from None


def note(text: str) -> None:
    """A message for the person, apart from the results."""
    print(text, file=sys.stderr)


def positive(text: str) -> int:
    """Argument type: a whole number, at least 1."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def cpus() -> int:
    """CPUs that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1
