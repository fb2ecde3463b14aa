"""Write or check every generated file of the repository: `python -m nmref.conformance.generate`.

Same code, same bytes: sorted keys, LF, no time stamps, no places.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from nmref.conformance import traces
from nmref.conformance.pages import pages
from nmref.conformance.readme import readme
from nmref.conformance.schema import (
    format_schema,
    golden_traces_schema,
    table_schema,
    trace_schema,
)
from nmref.conformance.tables import tables
from nmref.conformance.text import json_bytes
from nmref.container.atomic import new_file
from nmref.errors import Code, NmrefError

OWNED = ("formats", "conformance/traces")
"""Folders in which every file is generated; any other file in them is an error."""

KEPT = ("conformance/traces/smollm2.json",)
"""Files in these folders that are not made here: they need a model that is not in the repository.
"""


def build() -> dict[str, bytes]:
    """Every generated file: path from the repository, with `/` -> content."""
    described = pages()
    files = {"formats/README.md": readme(described, tables())}
    for page in described:
        files[f"formats/{page['id']}.json"] = json_bytes(page)
    for table in tables():
        files[f"formats/tables/{table.name}.memh"] = table.text()
        files[f"formats/tables/{table.name}.json"] = table.sidecar()
    files["formats/schema/format.schema.json"] = json_bytes(format_schema())
    files["formats/schema/table.schema.json"] = json_bytes(table_schema())
    files["formats/schema/trace.schema.json"] = json_bytes(trace_schema())
    files["formats/schema/golden-traces.schema.json"] = json_bytes(golden_traces_schema())
    files[traces.PATH] = json_bytes(traces.golden_traces())
    return files


def differences(root: Path, files: Mapping[str, bytes]) -> dict[str, str]:
    """path -> "missing", "differs" or "extra", in the order of the paths."""
    on_disk = {
        path.relative_to(root).as_posix()
        for folder in OWNED
        for path in (root / folder).rglob("*")
        if not path.is_dir()
    }
    found = dict.fromkeys(on_disk - files.keys() - set(KEPT), "extra")
    for name, content in files.items():
        if name not in on_disk:
            found[name] = "missing"
        elif (root / name).read_bytes() != content:
            found[name] = "differs"
    return dict(sorted(found.items()))


def write(root: Path, files: Mapping[str, bytes]) -> list[str]:
    """Write the files that are missing or differ, and name them.  Extra files stay."""
    changed = [path for path, what in differences(root, files).items() if what != "extra"]
    for name in changed:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path) as file:
            file.write(files[name])
    return changed


def _refuse(root: Path, files: Mapping[str, bytes]) -> None:
    """Raise T_FILE for the first file that is not as generated."""
    advice = {
        "missing": "the generated file (make vectors)",
        "differs": "what the code generates (make vectors)",
        "extra": "generated files only (remove it)",
    }
    for path, what in differences(root, files).items():
        raise NmrefError(Code.T_FILE, path, what, advice[what])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command.  Exit 0: the files are as generated; 1: one is not, or cannot be written."""
    parser = argparse.ArgumentParser(
        prog="python -m nmref.conformance.generate", description="Write the generated files."
    )
    parser.add_argument("--root", type=Path, default=Path(), help="the repository (default: here)")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 on a difference"
    )
    args = parser.parse_args(arguments)
    try:
        if not args.root.is_dir():
            raise NmrefError(Code.T_FILE, str(args.root), "no such folder", "the repository")
        files = build()
        changed = [] if args.check else write(args.root, files)
        _refuse(args.root, files)
    except NmrefError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        what = error.strerror or str(error)
        sys.stderr.write(f"T_FILE {error.filename or args.root}: {what}, want it to work\n")
        return 1
    sys.stdout.write(f"{len(files)} generated files, {len(changed)} written\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
