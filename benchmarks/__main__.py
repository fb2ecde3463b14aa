"""python -m benchmarks [NAME ...] [--json FILE]: run measurements.

Each prints a table and gives one JSON document: what, where, versions, figures.  Without a name all
measurements of speed run; `gates` takes minutes, needs yosys and iverilog, and writes a page.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

SPEED = ("codec", "packing", "profiles")
NAMES = (*SPEED, "gates")


def machine() -> dict[str, object]:
    """CPU and versions that a figure depends on."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    model = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), "")
    packages = {name: version(name) for name in ("numpy", "numba", "nmref")}
    return {"cpu": model, "python": platform.python_version(), "packages": packages}


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help=f"of {', '.join(NAMES)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--small", action="store_true", help="a quick run of small sizes")
    args = parser.parse_args()
    report = {"machine": machine(), "small": args.small, "results": {}}
    for name in args.names or SPEED:
        sys.stdout.write(f"== {name}\n")
        report["results"][name] = import_module(f"benchmarks.{name}").run(args.small)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2, sort_keys=True) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
