"""conformance/gates/RESULTS.md from the figures of every design."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import netlist
from benchmarks.designs import COPIES, DECODERS, FRONT_ENDS, MOVERS, Design
from benchmarks.netlist import Figures

PAGE = """# What 8:16 costs in gates: figures

Written by `python -m benchmarks gates`. [README.md](README.md) explains the structures.

Tools: {versions}

**gates** are NAND2 equivalents: the number of transistors that Yosys's `stat -tech cmos` estimates
for the cells after `abc -g cmos`, divided by 4. The cells and their transistors: NOT 2, NAND and
NOR 4, AOI3 and OAI3 6, AOI4 and OAI4 8, NMUX 10, MUX, XOR and XNOR 12, flip-flop 16. Flip-flops
have neither reset nor enable; those are gates. **levels** are the most cells on a path between
ports or flip-flops, each cell being one level (`ltp -noff`).

What the figures do not say: no technology, no area of wires, no fan-out, no buffers, no drive
strengths, no time, no power. Levels are not a clock rate: they are those of the netlist that ABC's
default script gives, and its heuristics move figures by some percent when nothing but the order of
the source files changes. A ROM's bits are bits: the address decoder and the sense amplifiers of a
ROM macro are not counted, and every ROM here is read without a clock.

Each netlist gives what its design gives: decoders and the multiplier were simulated over all
inputs, invalid codes too; gathers and spreads were proved by SAT for every input.

## Decoders: code to mask and valid

{decoders}

A code per clock presupposes a clock that is slow enough for the levels, or registers between the
steps; such registers are not counted.

## Operands

A gather takes the operands of the stored columns (8 of 16, 2 of 4) from those of all columns. A
spread puts the stored values on the lanes of all columns, the other lanes being 0. An operand has
16 bits where nothing else is said.

{movers}

## From position bits to operands

The gates for 16 columns and 16-bit operands: the decoders and gathers of the tables above, added.

{fronts}

## Cells

With the ROMs as gates.

{cells}
"""


def gates(transistors: int) -> str:
    """Transistors in NAND2 equivalents."""
    return f"{transistors / netlist.TRANSISTORS_PER_GATE:,.1f}".removesuffix(".0")


def decoder_row(design: Design, figures: Figures) -> str:
    """One line of the table of decoders."""
    rom = f"{figures.rom_bits:,}" if figures.rom_bits else "-"
    beside = "-" if figures.beside is None else gates(figures.beside)
    rate = f"1/{design.clocks}" if design.clocks > 1 else "1"
    shown = (design.title, f"`{design.top}`", rom, beside, gates(figures.transistors),
             figures.flip_flops, figures.levels, design.clocks, rate, design.copies,
             gates(figures.transistors * design.copies))  # fmt: skip
    return _row(shown)


def mover_row(design: Design, figures: Figures) -> str:
    """One line of the table of movers."""
    total = gates(figures.transistors * design.copies)
    shown = (design.title, f"`{design.top}`", gates(figures.transistors), figures.levels)
    return _row((*shown, design.copies, total))


def cell_row(design: Design, figures: Figures) -> str:
    """One line of the table of cells."""
    counts = [figures.cells.get(f"$_{name}_", 0) for name in netlist.GATES]
    total = sum(figures.cells.values())
    return _row((f"`{design.top}`", *counts, figures.flip_flops, total, figures.transistors))


def _row(cells: tuple[object, ...]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _table(head: str, rows: list[str]) -> str:
    return "\n".join([f"| {head} |", f"|{'---|' * (head.count('|') + 1)}", *rows])


def front_end_rows(transistors: Mapping[str, int]) -> list[str]:
    """Lines of the table of front ends, from the transistors of one copy of each module."""
    rows = []
    for title, bits, decoder, gather in FRONT_ENDS:
        cost = [transistors[top] * COPIES[top] if top else 0 for top in (decoder, gather)]
        rows.append(_row((title, bits, *map(gates, cost), gates(sum(cost)))))
    return rows


def page(measured: Mapping[str, Figures]) -> str:
    """RESULTS.md."""
    every = DECODERS + MOVERS
    decoders = _table(
        "decoder of one block | module | ROM bits | gates beside the ROMs | gates, ROMs as gates | "
        "flip-flops | levels | clocks per code | codes per clock | copies for 16 columns | "
        "gates for 16 columns",
        [decoder_row(design, measured[design.top]) for design in DECODERS],
    )
    movers = _table(
        "operands of 16 bits | module | gates | levels | copies for 16 columns | "
        "gates for 16 columns",
        [mover_row(design, measured[design.top]) for design in MOVERS],
    )
    fronts = _table(
        "16 columns | position bits | decoder | gather | both",
        front_end_rows({top: figures.transistors for top, figures in measured.items()}),
    )
    cells = _table(
        f"module | {' | '.join(netlist.GATES)} | DFF | cells | transistors",
        [cell_row(design, measured[design.top]) for design in every],
    )
    return PAGE.format(
        versions=netlist.versions(), decoders=decoders, movers=movers, fronts=fronts, cells=cells
    )
