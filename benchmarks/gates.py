"""What decoders and operand selectors of N:M cost in gates; writes conformance/gates/RESULTS.md.

Needs yosys and iverilog.  Every design is checked before and after synthesis, over all its codes or
masks, and a wrong one ends the run.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks import netlist, results
from benchmarks.designs import DECODERS, MOVE, MOVERS, SERIAL, Design
from benchmarks.netlist import Figures

RESULTS = netlist.ROOT / "conformance" / "gates" / "RESULTS.md"


def check(design: Design, root: Path = netlist.ROOT) -> None:
    """Simulate a design as it is written; ToolError if it is wrong."""
    with tempfile.TemporaryDirectory() as name:
        _simulate(design, root, Path(name), netlist.designs(root))


def measure(design: Design, root: Path = netlist.ROOT) -> Figures:
    """Figures of a design; ToolError if its netlist is wrong."""
    with tempfile.TemporaryDirectory() as name:
        figures = netlist.synthesize(root, Path(name), design.top)
        check_netlist(design, root, Path(name))
    return figures


def check_netlist(design: Design, root: Path, folder: Path) -> None:
    """ToolError if folder/netlist.v is wrong.

    Simulation of a mover's netlist is slow, and a SAT proof of it is quick.
    """
    if design.bench == MOVE:
        netlist.prove(root, folder, design.top)
    else:
        _simulate(design, root, folder, [str(folder / "netlist.v")])


def _simulate(design: Design, root: Path, folder: Path, sources: list[str]) -> None:
    line = netlist.simulate(root, folder, design.bench, design.top, design.parameters, sources)
    if design.bench == SERIAL:
        clocks = int(line.split()[-1])
        if clocks != design.clocks * 16383:  # from the first of 16,384 codes to the last
            raise netlist.ToolError(f"{design.top}: {line}, want {design.clocks} clocks each")


def run(small: bool) -> list[dict[str, object]]:
    """Every design; with `small` those that are quick, without writing RESULTS.md."""
    for tool in ("yosys", "iverilog"):
        if shutil.which(tool) is None:
            sys.stdout.write(f"nothing measured: {tool} is not on PATH\n")
            return []
    chosen = [d for d in DECODERS + MOVERS if not (small and d.slow)]
    measured = {}
    for design in chosen:
        check(design)
        figures = measured[design.top] = measure(design)
        shown = f"{results.gates(figures.transistors)} gates, {figures.levels} levels"
        sys.stdout.write(f"{design.title:40} {shown}, {figures.rom_bits} ROM bits\n")
        sys.stdout.flush()
    if not small:
        text = results.page(measured)
        RESULTS.with_suffix(".tmp").write_text(text, "utf-8")
        RESULTS.with_suffix(".tmp").replace(RESULTS)
    versions = netlist.versions()
    return [
        {"top": design.top, "title": design.title, "tools": versions, "copies": design.copies,
         "clocks": design.clocks, **vars(measured[design.top])}
        for design in chosen
    ]  # fmt: skip
