"""python -m benchmarks [NAME ...] [--json FILE]: run measurements.

Each prints a table and gives one JSON document: what, where, versions, figures.  Without a name all
measurements of speed run; `gates` takes minutes, needs yosys and iverilog, and writes a page.

Four have options of their own: `matmul --help` (products against peers), `report --help` (its JSON
to benchmarks/RESULTS.md), `pruning --help` (perplexities of docs/pruning.md) and `layers --help`
(errors of single layers, for the same page).
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path

from benchmarks.machine import machine

SPEED = ("codec", "packing", "profiles")
NAMES = (*SPEED, "gates")
COMMANDS = {
    "layers": "benchmarks.pruning.layers",
    "matmul": "benchmarks.matmul.run",
    "pruning": "benchmarks.pruning.run",
    "report": "benchmarks.report",
}


def main() -> int:
    if sys.argv[1:] and sys.argv[1] in COMMANDS:
        code: int = import_module(COMMANDS[sys.argv[1]]).main(sys.argv[2:])
        return code
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
