"""The structures of conformance/gates: right before and after synthesis; RESULTS.md is theirs."""

import os
import re
import shutil
from pathlib import Path

import pytest

from benchmarks import gates, netlist, results
from benchmarks.designs import DECODERS, FRONT_ENDS, MOVERS, Design
from benchmarks.netlist import ToolError

EVERY = DECODERS + MOVERS
QUICK = [design for design in EVERY if not design.slow]
BY_TOP = {design.top: design for design in EVERY}


def top_of(design: Design) -> str:
    return design.top


@pytest.fixture(autouse=True, scope="module")
def _tools() -> None:
    for tool in ("iverilog", "vvp", "yosys"):
        if shutil.which(tool) is None:
            reason = f"{tool} is not on PATH; Debian has it in the packages iverilog and yosys"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)


@pytest.fixture
def copy(tmp_path) -> Path:
    """What the tools read, to be changed: designs, benches and tables."""
    for folder in (netlist.CLIENT_FOLDER, netlist.GATES_FOLDER, "formats/tables"):
        shutil.copytree(netlist.ROOT / folder, tmp_path / "root" / folder)
    return tmp_path / "root"


# The slow decoders are slow in Yosys only.
@pytest.mark.parametrize("design", [d for d in EVERY if d in DECODERS or not d.slow], ids=top_of)
def test_design_over_all_codes(design):
    gates.check(design)


@pytest.mark.parametrize("design", QUICK, ids=top_of)
def test_netlist_and_results(design):
    figures = gates.measure(design)  # checks the netlist
    page = gates.RESULTS.read_text("utf-8").splitlines()
    if f"Tools: {netlist.versions()}" in page:
        row = results.decoder_row if design in DECODERS else results.mover_row
        assert row(design, figures) in page
        assert results.cell_row(design, figures) in page


def test_results_have_every_design_and_its_sums():
    page = gates.RESULTS.read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|.* (\d+) \|$", page, re.MULTILINE))
    assert list(rows) == [design.top for design in EVERY]
    for row in results.front_end_rows({top: int(count) for top, count in rows.items()}):
        assert f"{row}\n" in page


def test_results_have_the_transistors_that_the_page_names():
    """The sum over NAND ... XNOR and flip-flops, in the order of the table of cells."""
    each = (4, 4, 2, 6, 6, 8, 8, 12, 10, 12, 12, 16)
    page = gates.RESULTS.read_text("utf-8").split("## Cells")[1]
    rows = re.findall(r"^\| `\w+` \| ([\d |]+) \|$", page, re.MULTILINE)
    for row in rows:
        *counts, cells, transistors = map(int, row.split(" | "))
        assert sum(counts) == cells
        assert sum(a * b for a, b in zip(counts, each, strict=True)) == transistors
    assert len(rows) == len(EVERY)


def test_readme_quotes_results():
    """A row of a table of figures in README.md is a row of RESULTS.md."""
    page = gates.RESULTS.read_text("utf-8").splitlines()
    readme = gates.RESULTS.with_name("README.md").read_text("utf-8")
    figures = readme.split("## Figures")[1].split("\n## ")[0]
    rows = [line for line in figures.splitlines() if re.match(r"\| \d:\d", line)]
    assert len(rows) >= len(FRONT_ENDS)
    assert not set(rows) - set(page)


MUTANTS = {
    "ROM, one word": ("nm_rom_8_16", "tables/8-16-decode.memh", "\n0f0f\n", "\n0f1e\n"),
    "ROM, one code too few": ("nm_rom_8_16", "nm_rom_8_16.sv", "14'd12870;", "14'd12869;"),
    "half ROM, no complement": (
        "nm_half_rom_8_16", "nm_half_rom_8_16.sv", "^ {15{upper}}", "^ 15'd0"
    ),
    "half ROM, wrong half": (
        "nm_half_rom_8_16", "nm_half_rom_8_16.sv", "code >= 14'(HALF)", "code > 14'(HALF)"
    ),
    "bytes, one word of L8": ("nm_split_8_16", "tables/8-16-split-l8.memh", "\n8b\n", "\n87\n"),
    "bytes, one word of A": ("nm_split_8_16", "tables/8-16-split-a.memh", "\n5d\n", "\n5c\n"),
    "steps, one binomial": (
        "top_8_16_steps", "nm_steps.sv", "32 +: 32] = choose(p, j)",
        "32 +: 32] = choose(p, j) + 32'(p == 9 && j == 3)",
    ),
    "steps, too narrow": (
        "top_8_16_steps", "nm_steps.sv", "$clog2(top)", "$clog2(top) - 32'(p == 9)"
    ),
    "steps, invalid codes": ("top_8_16_steps", "tops.sv", "? taken : 16'd0", "? taken : taken"),
    "nibbles, one threshold": (
        "nm_nibbles_8_16", "nm_nibble.sv", "IW'(threshold(x, j))",
        "IW'(threshold(x, j) + 32'(x == 11 && j == 6))",
    ),
    "serial, one binomial": ("nm_serial_8_16", "tables/8-16-serial-c.memh", "\n0d68\n", "\n0d69\n"),
    "serial, last step": (
        "nm_serial_8_16", "nm_serial_8_16.sv", "address < 8'd8", "address < 8'd10"
    ),
    "serial, not ready in the last step": (
        "nm_serial_8_16", "nm_serial_8_16.sv", "!busy || last", "!busy"
    ),
    "serial, reset": ("nm_serial_8_16", "nm_serial_8_16.sv", "<= !reset && (", "<= ("),
    "4:8, one code too many": ("top_4_8_steps", "tops.sv", "7'd70", "7'd71"),
    "2:4, one mask": ("top_2_4_table", "nm_decode_2_4.sv", "4'b0101", "4'b1010"),
    "gather, count": ("top_gather_2_4", "nm_gather.sv", "j < i - (M - N)", "j <= i - (M - N)"),
    "gather, reach": ("top_gather_4_8", "nm_gather.sv", "i <= j + M - N", "i < j + M - N"),
    "metadata, order": ("top_gather_2_4_meta", "nm_gather_2_4_meta.sv", "meta[j*2", "meta[(1-j)*2"),
}  # fmt: skip


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text, f"{old!r} is not in {path.name}"
    path.write_text(text.replace(old, new, 1), "utf-8")


@pytest.mark.parametrize("name", MUTANTS)
def test_mutated_design_fails(copy, name):
    top, file, old, new = MUTANTS[name]
    (path,) = copy.rglob(file) if "/" not in file else [copy / "formats" / file]
    change(path, old, new)
    with pytest.raises(ToolError):
        gates.check(BY_TOP[top], copy)


@pytest.mark.parametrize("top", ["top_2_4_table", "top_gather_2_4"])
def test_mutated_netlist_fails(tmp_path, top):
    netlist.synthesize(netlist.ROOT, tmp_path, top)
    gates.check_netlist(BY_TOP[top], netlist.ROOT, tmp_path)
    change(tmp_path / "netlist.v", " & ", " | ")
    with pytest.raises(ToolError):
        gates.check_netlist(BY_TOP[top], netlist.ROOT, tmp_path)
