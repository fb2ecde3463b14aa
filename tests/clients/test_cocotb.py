"""The cocotb examples under Icarus: they pass, and they notice a broken design."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN = ROOT / "conformance" / "examples" / "cocotb" / "run.py"
DESIGN = ROOT / "conformance" / "clients" / "sv"


@pytest.fixture(autouse=True, scope="module")
def _tools() -> None:
    missing = [tool for tool in ("iverilog", "vvp") if shutil.which(tool) is None]
    missing += ["cocotb"] if find_spec("cocotb") is None else []
    if missing:
        reason = f"{missing[0]} is not installed"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    # cocotb behaves otherwise where it finds itself under pytest.
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run(
        [sys.executable, RUN, *map(str, arguments)],
        cwd=ROOT,
        env=own | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.mark.parametrize(("top", "count"), [("nm_decode_8_16", 3), ("nm_mac_f32_seq", 4)])
def test_example_passes(top: str, count: int) -> None:
    done = run(top)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"{top}: {count} tests, 0 failed"


@pytest.mark.parametrize(
    ("top", "name", "old", "new", "result"),
    [
        ("nm_decode_8_16", "nm_decode_8_16.sv", "{high, low} :",
         "{low, high} :", "3 tests, 3 failed"),
        ("nm_mac_f32_seq", "nm_f32_add.sv", "aligned = {full >> move, sticky}",
         "aligned = {full >> move, 1'b0 & sticky}", "4 tests, 1 failed"),
    ],
)  # fmt: skip
def test_example_fails_on_a_broken_design(
    tmp_path: Path, top: str, name: str, old: str, new: str, result: str
) -> None:
    for path in DESIGN.glob("nm_*.sv"):
        shutil.copy(path, tmp_path)
    text = (DESIGN / name).read_text()
    assert text.count(old) == 1
    (tmp_path / name).write_text(text.replace(old, new))
    done = run(top, "--design", tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"{top}: {result}"
