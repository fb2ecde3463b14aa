"""Run the cocotb tests under Icarus Verilog: `python conformance/examples/cocotb/run.py`.

Needs cocotb 2 and iverilog.  Exit 0: every test passed.
"""

import argparse
import tempfile
from pathlib import Path

from cocotb_tools.check_results import get_results
from cocotb_tools.runner import get_runner

HERE = Path(__file__).resolve().parent
DESIGN = HERE.parents[1] / "clients" / "sv"

TESTS = {  # top level -> its sources and the module of its tests
    "nm_decode_8_16": (["nm_decode_8_16.sv", "nm_lanes.sv"], "test_decode_8_16"),
    "nm_mac_f32_seq": (
        ["nm_mac_f32_seq.sv", "nm_f32_mul.sv", "nm_f32_add.sv"],
        "test_mac_f32_seq",
    ),
}


def run(top: str, design: Path, folder: Path) -> tuple[int, int]:
    """Build one design in a folder and run its tests: how many there were, how many failed."""
    sources, module = TESTS[top]
    runner = get_runner("icarus")
    runner.build(
        sources=[design / name for name in sources],
        hdl_toplevel=top,
        build_dir=folder,
        build_args=["-g2012", "-Wall"],
        timescale=("1ns", "1ps"),
        always=True,
    )
    results = runner.test(hdl_toplevel=top, test_module=module, build_dir=folder, test_dir=folder)
    return get_results(Path(results))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("top", nargs="*", default=list(TESTS), help="top levels (default: all)")
    parser.add_argument("--design", type=Path, default=DESIGN, help="folder of the sources")
    args = parser.parse_args()
    bad = 0
    for top in args.top:
        with tempfile.TemporaryDirectory() as folder:
            count, failed = run(top, args.design, Path(folder))
        print(f"{top}: {count} tests, {failed} failed")
        bad += failed + (count == 0)
    return int(bad > 0)


if __name__ == "__main__":
    raise SystemExit(main())
