"""Yosys and Icarus Verilog on the designs of conformance/gates: figures, netlists and their proof.

Both run at the root of a repository (a copy, in tests), because the designs name their table files
from there.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
GATES_FOLDER = "conformance/gates"
CLIENT_FOLDER = "conformance/clients/sv"
CLIENT_DESIGNS = (  # named, because ABC's results move when further files are read
    "nm_decode_2_4",
    "nm_decode_8_16",
    "nm_lanes",
    "nm_unpack",
    "nm_unrank_8_16_serial",
)
TRANSISTORS_PER_GATE = 4  # of a NAND2 in static CMOS
FLIP_FLOP = "$_DFF_P_"
GATES = ("NAND", "NOR", "NOT", "AOI3", "OAI3", "AOI4", "OAI4", "MUX", "NMUX", "XOR", "XNOR")
ROM = "$mem_v2"

MAP = f"""
dfflegalize -cell {FLIP_FLOP} x
opt_expr -mux_undef
opt_merge
opt_clean
abc -g cmos
opt_clean
"""
READ = """
read_verilog -sv -defer {sources}
hierarchy -check -top {top}
"""
AS_GATES = f"""
{READ}
proc
flatten
opt_clean
tee -q -o {{folder}}/roms.json stat -json
synth -flatten -noabc -top {{top}}
{MAP}
tee -q -o {{folder}}/gates.json stat -json -tech cmos
tee -q -o {{folder}}/levels.txt ltp -noff
write_verilog -noattr {{folder}}/netlist.v
"""
# The step `fine` of synth makes gates of the ROMs; this is the rest of it.
BESIDE_ROMS = f"""
{READ}
synth -flatten -noabc -top {{top}} -run :fine
opt -fast -full
techmap
opt -fast
{MAP}
tee -q -o {{folder}}/beside.json stat -json -tech cmos
"""
# The netlist, as written, gives what the design gives for every input, by SAT.
PROOF = """
read_verilog -sv -defer {sources}
prep -flatten -top {top}
rename {top} design
read_verilog {folder}/netlist.v
rename {top} netlist
proc
miter -equiv -flatten -make_assert design netlist miter
sat -verify -prove-asserts -set-def-inputs miter
"""


class ToolError(RuntimeError):
    """A tool failed, or a bench found a difference."""


@dataclass(frozen=True)
class Figures:
    """What Yosys says of one design.

    Attributes
    ----------
    rom_bits : bits of its tables.
    beside : transistors of the rest, with the tables left as ROMs; None without tables.
    transistors : of everything, with the tables as gates.
    flip_flops : included in both.
    levels : the most cells on a path between ports or flip-flops.
    cells : number of cells of each type, with the tables as gates.
    """

    rom_bits: int
    beside: int | None
    transistors: int
    flip_flops: int
    levels: int
    cells: Mapping[str, int]


def run(command: Sequence[str], cwd: Path) -> str:
    """Output of a command; its last lines in the error if it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()
        raise ToolError("\n".join([" ".join(command), *lines[-12:]]))
    return done.stdout


def versions() -> str:
    """Yosys and the ABC that it calls: the figures depend on both."""
    yosys = run(["yosys", "-V"], ROOT).strip()
    named = re.search(r'instead of "(.*?)" to', run(["yosys", "-h", "abc"], ROOT))
    abc = named[1].replace("<yosys-bindir>/", "") if named else "yosys-abc"
    return f"{yosys}; {run([abc, '-q', 'version'], ROOT).strip()}"


def designs(root: Path) -> list[str]:
    """Every design file, without the benches, relative to the root."""
    own = sorted(path.name for path in (root / GATES_FOLDER).glob("*.sv"))
    clients = [f"{CLIENT_FOLDER}/{name}.sv" for name in CLIENT_DESIGNS]
    return clients + [f"{GATES_FOLDER}/{name}" for name in own if not name.startswith("tb_")]


def simulate(
    root: Path,
    folder: Path,
    bench: str,
    top: str,
    parameters: Mapping[str, object],
    sources: Sequence[str],
) -> str:
    """The line PASS ... of a bench around the module `top` of the sources; ToolError if none."""
    values = {k: f'"{v}"' if isinstance(v, str) else v for k, v in parameters.items()}
    overrides = [f"-P{bench}.{name}={value}" for name, value in values.items()]
    program = str(folder / "bench.vvp")
    options = ["-g2012", "-Wall", f"-DDUT={top}", "-s", bench, *overrides, "-o", program]
    run(["iverilog", *options, f"conformance/gates/{bench}.sv", *sources], root)
    out = run(["vvp", "-n", program], root)
    last = out.splitlines()[-1] if out else ""
    if not last.startswith("PASS "):
        raise ToolError(f"{bench} with {top}: {last!r}, want PASS")
    return last


def prove(root: Path, folder: Path, top: str) -> None:
    """ToolError if folder/netlist.v is not the combinational design `top`, for any input."""
    _yosys(PROOF, root, folder, top)


def synthesize(root: Path, folder: Path, top: str) -> Figures:
    """Figures of the module `top`; leaves folder/netlist.v."""
    _yosys(AS_GATES, root, folder, top)
    rom_bits = _stat(folder / "roms.json")["num_memory_bits"]
    gates, beside = _stat(folder / "gates.json"), None
    if rom_bits:
        _yosys(BESIDE_ROMS, root, folder, top)
        beside = _transistors(_stat(folder / "beside.json"), {ROM})
    longest = re.search(r"\(length=(\d+)\)", (folder / "levels.txt").read_text("utf-8"))
    assert longest is not None
    cells = gates["num_cells_by_type"]
    return Figures(
        rom_bits=rom_bits,
        beside=beside,
        transistors=_transistors(gates, set()),
        flip_flops=cells.get(FLIP_FLOP, 0),
        levels=int(longest[1]),
        cells=cells,
    )


def _yosys(script: str, root: Path, folder: Path, top: str) -> None:
    """Run a script on the designs of the root."""
    sources = " ".join(designs(root))
    text = script.format(sources=sources, top=top, folder=folder)
    (folder / "script.ys").write_text(text, "utf-8")
    run(["yosys", "-q", str(folder / "script.ys")], root)


def _stat(path: Path) -> dict:
    return json.loads(path.read_text("utf-8"))["design"]


def _transistors(stat: dict, others: set[str]) -> int:
    """Yosys's estimate.  A + after it means cells that it does not know: only ROMs may be such."""
    unknown = set(stat["num_cells_by_type"]) - {f"$_{g}_" for g in GATES} - {FLIP_FLOP}
    if unknown - others:
        raise ToolError(f"cells without a number of transistors: {sorted(unknown)}")
    return int(stat["estimated_num_transistors"].removesuffix("+"))
