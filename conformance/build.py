"""Write or check the vectors of the repository: `python -m conformance.build [--check]`.

The inputs are made by nmref.conformance.suite and conformance.faults, the expected values by
conformance.author, which is the naive witness. Same code, same bytes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from conformance import faults, order
from conformance.author import Naive
from nmref.conformance.suite import Part, every_case
from nmref.conformance.suite.build import assemble, check, part_bytes
from nmref.conformance.suite.schema import manifest_schema, vectors_schema
from nmref.conformance.text import json_bytes

HERE = Path(__file__).parent

OWNED = ("vectors",)
"""Folders in which every file is generated."""


def every_part() -> list[Part]:
    """The parts of the repository, in the order of their names."""
    found = sorted(
        [*every_case(), *faults.parts(), order.files_order()], key=lambda part: part.name
    )
    check(found)
    return found


def one_part(name: str) -> bytes:
    """The file of a part, by the naive author."""
    part = next(part for part in every_part() if part.name == name)
    return part_bytes(part, Naive())


def build(jobs: int = 1) -> dict[str, bytes]:
    """Path from this folder -> content of every generated file."""
    parts = every_part()
    names = [part.name for part in parts]
    if jobs > 1:
        slow = sorted(names, key=lambda name: (name not in ("codes", "traces", "dot-aimed"), name))
        with ProcessPoolExecutor(jobs) as pool:
            made = dict(zip(slow, pool.map(one_part, slow), strict=True))
    else:
        made = {part.name: part_bytes(part, Naive()) for part in parts}
    files = assemble(parts, {name: made[name] for name in names})
    files["schema/vectors.schema.json"] = json_bytes(vectors_schema())
    files["schema/manifest.schema.json"] = json_bytes(manifest_schema())
    return files


def differences(root: Path, files: Mapping[str, bytes]) -> dict[str, str]:
    """path -> "missing", "differs" or "extra"."""
    on_disk = {
        path.relative_to(root).as_posix()
        for folder in OWNED
        for path in (root / folder).rglob("*")
        if path.is_file()
    }
    found = dict.fromkeys(on_disk - files.keys(), "extra")
    for name, content in files.items():
        path = root / name
        if not path.is_file():
            found[name] = "missing"
        elif path.read_bytes() != content:
            found[name] = "differs"
    return dict(sorted(found.items()))


def write(root: Path, files: Mapping[str, bytes]) -> int:
    """Write what is missing or differs; how many files that were. Extra files stay."""
    changed = [name for name, what in differences(root, files).items() if what != "extra"]
    for name in changed:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(files[name])
        partial.replace(path)
    return len(changed)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Exit 0: the files are as generated; 1: one is not."""
    parser = argparse.ArgumentParser(prog="python -m conformance.build", description="The vectors.")
    parser.add_argument("--root", type=Path, default=HERE, help="the folder (default: this one)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 on difference")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    args = parser.parse_args(arguments)
    files = build(args.jobs)
    changed = 0 if args.check else write(args.root, files)
    wrong = differences(args.root, files)
    for name, what in wrong.items():
        want = "generated files only (remove it)" if what == "extra" else "as made (make vectors)"
        sys.stderr.write(f"T_FILE {name}: {what}, want {want}\n")
    total = sum(map(len, files.values()))
    sys.stdout.write(f"{len(files)} files, {total} bytes, {changed} written\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
