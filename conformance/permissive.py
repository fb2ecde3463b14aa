"""Which rejected files other readers accept: `python -m conformance.permissive`.

Measured with the safetensors library that is installed: `safe_open` with the shape of every tensor,
and `deserialize`, which is what `load` calls, before NumPy sees a dtype that it lacks. A new
version of the library needs a new measurement, so this is no part of `conformance.build`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LAYER = ("5.2", "5.3", "5.4", "5.5", "5.6", "5.7", "5.8")
"""Clauses about the safetensors layer; what lies above it no safetensors reader can know."""

HEAD = """# What readers in the wild accept

Files that SPEC part 5 rejects and that the safetensors library {version} (Python, NumPy) opens
without complaint. An nmref reader that accepts one does not conform: other readers refuse the file
or read something else from it. The library is no validator of this format and does not claim to be
one (SPEC 10.3); the table says what a reader built on top of it has to check itself.

Measured by `python -m conformance.permissive` over the cases `read/reject/...` of clauses 5.2 to
5.8: {accepted} of {total} are accepted.

`safe_open`: opens a file and asks for the shape and dtype of every tensor. `deserialize`: reads all
tensors from bytes, as `load` does. Both accept all {valid} valid files of `files-valid`.

| case | clause | SPEC | `safe_open` | `deserialize` |
|---|---|---|---|---|
"""

TAIL = """
Cases of other clauses (the nmref key, parts, their content, the digest) concern what the library
does not know; it accepts {above} of those {rest}.
"""


def opens(path: Path) -> str:
    """What safe_open makes of a file."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                file.get_slice(name).get_shape()
                file.get_slice(name).get_dtype()
    except BaseException as error:  # a Rust panic is no Exception
        return refusal(error)
    return "accepts"


def loads(data: bytes) -> str:
    """What load makes of bytes."""
    from safetensors import deserialize

    try:
        deserialize(data)
    except BaseException as error:
        return refusal(error)
    return "accepts"


def refusal(error: BaseException) -> str:
    """How it refuses, in a word."""
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        raise error
    return "refuses" if type(error).__name__ == "SafetensorError" else type(error).__name__


def measure(part: str) -> list[tuple[dict[str, Any], str, str]]:
    """Every file that a part reads, with the two verdicts."""
    text = (HERE / "vectors" / f"{part}.json").read_text("utf-8")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "w.safetensors")
        for case in json.loads(text)["cases"]:
            if case["op"] == "read":
                data = bytes.fromhex(case["input"]["file"])
                path.write_bytes(data)
                found.append((case, opens(path), loads(data)))
    return found


def page() -> str:
    """The text of PERMISSIVE.md."""
    import safetensors

    good = measure("files-valid")
    for case, *verdicts in good:
        if verdicts != ["accepts", "accepts"]:
            raise SystemExit(f"T_FILE {case['id']}: {verdicts}, want a file that is accepted")
    rows, lines = measure("files-reject"), []
    layer = [row for row in rows if row[0]["clauses"][1] in LAYER]
    above = [row for row in rows if row[0]["clauses"][1] not in LAYER]
    for case, one, other in layer:
        if "accepts" in (one, other):
            name = case["id"].removeprefix("read/reject/")
            codes = ", ".join(case["expect"]["rejected"])
            lines.append(f"| {name} | {case['clauses'][1]} | {codes} | {one} | {other} |\n")
    head = HEAD.format(
        version=safetensors.__version__, accepted=len(lines), total=len(layer), valid=len(good)
    )
    accepted = sum("accepts" in verdicts for _, *verdicts in above)
    return head + "".join(lines) + TAIL.format(above=accepted, rest=len(above))


def main() -> int:
    """Write PERMISSIVE.md."""
    text = page()
    (HERE / "PERMISSIVE.md").write_text(text, "utf-8")
    sys.stdout.write(f"{len(text.splitlines())} lines\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
