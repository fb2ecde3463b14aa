"""The SystemVerilog client, written from SPEC.md alone, against vectors made with nmref."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest

import nmref
from nmref import NMPattern, bits, colex

SOURCES = Path(__file__).parents[2] / "conformance" / "clients" / "sv"
DESIGN = (
    "nm_lanes.sv",
    "nm_decode_8_16.sv",
    "nm_unrank_8_16_serial.sv",
    "nm_decode_2_4.sv",
    "nm_unpack.sv",
)
P816, P24 = NMPattern(8, 16), NMPattern(2, 4)
ALL_8_16 = np.arange(1 << P816.width, dtype=np.uint64)
FEW_8_16 = np.r_[0:400, 4000:4400, 12700:13000, 16300:16384].astype(np.uint64)

Files = dict[str, list[str]]


@pytest.fixture(autouse=True, scope="module")
def _simulator() -> None:
    for tool in ("iverilog", "vvp"):
        if shutil.which(tool) is None:
            reason = f"{tool} is not on PATH; Debian's package iverilog has it"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)


def words(elements: np.ndarray) -> list[str]:
    """One hexadecimal word per row, element 0 in its lowest bits."""
    reversed_rows = np.ascontiguousarray(elements[:, ::-1])
    return [row.astype(row.dtype.newbyteorder(">")).tobytes().hex() for row in reversed_rows]


def raw(elements: np.ndarray) -> np.ndarray:
    """The elements as unsigned integers of their size."""
    return elements.view(f"u{elements.itemsize}")


def decode_files(pattern: NMPattern, codes: np.ndarray, value_dtype: str) -> Files:
    """Vectors of a block decoder: random values for every code; mask and lanes 0 if it is none."""
    rng = np.random.default_rng(816)
    high = np.iinfo(value_dtype).max
    values = rng.integers(0, high, (codes.size, pattern.stored), value_dtype, endpoint=True)
    valid = codes < pattern.count
    stored = np.zeros((codes.size, pattern.block), dtype=bool)
    stored[valid] = colex.unrank(codes[valid], pattern)
    np.testing.assert_array_equal(colex.rank(stored[valid], pattern), codes[valid])
    lanes = np.zeros(stored.shape, value_dtype)
    lanes[stored] = values[valid].ravel()
    masks = stored @ (1 << np.arange(pattern.block))
    return {
        "codes": [f"{code:x}" for code in codes.tolist()],
        "values": words(values),
        "masks": [f"{mask:x}" for mask in masks.tolist()],
        "lanes": words(lanes),
    }


def unpack_files(pattern: NMPattern, groups: int, size: int) -> Files:
    """Vectors of the unpacker: rows of random codes as `bits.pack` writes them."""
    codes = np.random.default_rng(56).integers(0, pattern.count, (groups, size), np.uint64)
    return {
        "groups": words(bits.pack(codes, pattern.width)),
        "codes": [f"{code:x}" for code in codes.ravel().tolist()],
    }


def group_files(dtype: str, groups: int) -> Files:
    """Vectors of a whole group: rows of 64 columns from `nmref.encode`, lanes from the input."""
    rng = np.random.default_rng(64)
    dense = rng.integers(-128, 128, (groups, 4, 16)).astype(dtype)
    dropped = rng.random(dense.shape).argsort(axis=-1).argsort(axis=-1) >= 8
    dense = np.where(dropped, np.zeros((), dtype), dense).reshape(groups, 64)
    scale = np.ones(groups, np.float32) if dtype == "int8" else None
    base = nmref.encode(dense, "8:16", scale=scale).base
    return {
        "groups": words(base.codes),
        "values": words(raw(base.values)),
        "lanes": words(raw(dense)),
    }


def simulate(
    folder: Path,
    bench: str,
    files: Mapping[str, Iterable[str]],
    mutant: tuple[str, str, str] | None = None,
    **parameters: int,
) -> subprocess.CompletedProcess[str]:
    """Compile a bench with the design, one file of it perhaps changed, and run it on the files."""
    sources = [SOURCES / f"{bench}.sv"]
    for name in DESIGN:
        sources.append(SOURCES / name)
        if mutant is not None and mutant[0] == name:
            text = sources[-1].read_text()
            assert text.count(mutant[1]) == 1, f"{mutant[1]!r} is not once in {name}"
            sources[-1] = folder / name
            sources[-1].write_text(text.replace(mutant[1], mutant[2]))
    for name, lines in files.items():
        (folder / f"{name}.memh").write_text("".join(f"{line}\n" for line in lines))
    overrides = [f"-P{bench}.{name}={value}" for name, value in parameters.items()]
    command = ["iverilog", "-g2012", "-Wall", *overrides, "-s", bench, "-o", "bench.vvp"]
    built = subprocess.run(
        [*command, *map(str, sources)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (built.returncode, built.stdout, built.stderr) == (0, "", "")
    return subprocess.run(
        ["vvp", "-n", "bench.vvp", *(f"+{name}={name}.memh" for name in files)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def assert_pass(run: subprocess.CompletedProcess[str], count: int) -> None:
    assert (run.returncode, run.stdout, run.stderr) == (0, f"PASS {count}\n", "")


def assert_fail(run: subprocess.CompletedProcess[str], count: str = r"\d+") -> None:
    last = run.stdout.splitlines()[-1]
    assert re.fullmatch(rf"FAIL {count} first \d+ got [0-9a-fxX]+ want [0-9a-fxX]+", last), last
    assert run.returncode != 0


def test_8_16_all_codes(tmp_path):
    files = decode_files(P816, ALL_8_16, "uint16")
    assert_pass(simulate(tmp_path, "tb_nm_decode_8_16", files), 16384)


def test_8_16_order_without_vectors(tmp_path):
    assert_pass(simulate(tmp_path, "tb_nm_order_8_16", {}), 16384)


@pytest.mark.parametrize("width", [8, 32])
def test_8_16_other_value_widths(tmp_path, width):
    files = decode_files(P816, FEW_8_16, f"uint{width}")
    run = simulate(tmp_path, "tb_nm_decode_8_16", files, COUNT=FEW_8_16.size, W=width)
    assert_pass(run, FEW_8_16.size)


@pytest.mark.parametrize("width", [8, 16])
def test_2_4_all_codes(tmp_path, width):
    files = decode_files(P24, np.tile(np.arange(8, dtype=np.uint64), 32), f"uint{width}")
    assert_pass(simulate(tmp_path, "tb_nm_decode_2_4", files, COUNT=256, W=width), 256)


@pytest.mark.parametrize(("pattern", "size"), [(P816, 4), (P24, 8)], ids=str)
def test_unpack(tmp_path, pattern, size):
    files = unpack_files(pattern, 256, size)
    run = simulate(tmp_path, "tb_nm_unpack", files, SIZE=size, WIDTH=pattern.width)
    assert_pass(run, 256)


@pytest.mark.parametrize("dtype", ["int8", "float16", "float32"])
def test_group_of_encoded_rows(tmp_path, dtype):
    files, width = group_files(dtype, 64), 8 * np.dtype(dtype).itemsize
    assert_pass(simulate(tmp_path, "tb_nm_group_8_16", files, W=width), 64)


def bench_8_16() -> tuple[str, Files, dict[str, int]]:
    return "tb_nm_decode_8_16", decode_files(P816, FEW_8_16, "uint16"), {"COUNT": FEW_8_16.size}


def bench_2_4() -> tuple[str, Files, dict[str, int]]:
    codes = np.arange(8, dtype=np.uint64)
    return "tb_nm_decode_2_4", decode_files(P24, codes, "uint16"), {"COUNT": 8}


def bench_unpack() -> tuple[str, Files, dict[str, int]]:
    return "tb_nm_unpack", unpack_files(P816, 16, 4), {"COUNT": 16}


def bench_group() -> tuple[str, Files, dict[str, int]]:
    return "tb_nm_group_8_16", group_files("float16", 16), {"COUNT": 16}


BENCHES = [bench_8_16, bench_2_4, bench_unpack, bench_group]
BENCH_FILES = [(make, name) for make in BENCHES for name in make()[1]]


@pytest.mark.parametrize(("make", "name"), BENCH_FILES)
def test_wrong_truncated_or_missing_vectors_fail(tmp_path, make, name):
    bench, files, parameters = make()
    word = files[name][0]
    wrong = [word[:-1] + f"{int(word[-1], 16) ^ 1:x}", *files[name][1:]]
    assert_fail(simulate(tmp_path, bench, files | {name: wrong}, **parameters), "1")
    assert_fail(simulate(tmp_path, bench, files | {name: files[name][:-1]}, **parameters), "1")
    del files[name]
    assert_fail(simulate(tmp_path, bench, files, **parameters), str(parameters["COUNT"]))


REVERSED = "{" + ", ".join(f"{byte}[{i}]" for byte in ("low", "high") for i in range(8)) + "}"

MUTANTS = {
    "one entry of S": (
        bench_8_16,
        ("nm_decode_8_16.sv", "S  = table_s();", "S  = table_s() ^ (4096'd1 << (16 * 'h55));"),
    ),
    "one entry of L8": (
        bench_8_16,
        ("nm_decode_8_16.sv", "L8 = table_l8();", "L8 = table_l8() ^ (2048'd1 << (8 * 128));"),
    ),
    "one code too many": (bench_8_16, ("nm_decode_8_16.sv", "14'd12870", "14'd12871")),
    "one code too few": (bench_8_16, ("nm_decode_8_16.sv", "14'd12870", "14'd12869")),
    "invalid codes with a mask": (
        bench_8_16,
        ("nm_decode_8_16.sv", "valid ? {high, low} : 16'd0", "{high, low}"),
    ),
    "bytes swapped": (bench_8_16, ("nm_decode_8_16.sv", "{high, low}", "{low, high}")),
    "descending order": (
        bench_8_16,
        ("nm_decode_8_16.sv", "{high, low} :", "~{high, low} :"),
    ),
    "lexicographic order": (  # columns and the order of the codes both reversed
        bench_8_16,
        ("nm_decode_8_16.sv", "{high, low} :", f"~{REVERSED} :"),
    ),
    "bit order of the mask": (
        bench_8_16,
        ("nm_decode_8_16.sv", "{high, low} :", f"{REVERSED} :"),
    ),
    "serial: <= for <": (
        bench_8_16,
        ("nm_unrank_8_16_serial.sv", "rest >= below", "rest > below"),
    ),
    "serial: one binomial": (
        bench_8_16,
        ("nm_unrank_8_16_serial.sv", "C = table_c();", "C = table_c() ^ (2304'd1 << 16 * 115);"),
    ),
    "slots descending": (
        bench_8_16,
        ("nm_lanes.sv", "values[slot*W +: W]", "values[(N-1-slot)*W +: W]"),
    ),
    "value at an empty column": (
        bench_8_16,
        ("nm_lanes.sv", "mask[i] ? values[slot*W +: W] : '0", "values[slot*W +: W]"),
    ),
    "2:4 in lexicographic order": (
        bench_2_4,
        ("nm_decode_2_4.sv", "4'b0110;\n            3'd3:    mask_of = 4'b1001;",
         "4'b1001;\n            3'd3:    mask_of = 4'b0110;"),
    ),
    "2:4, one mask": (bench_2_4, ("nm_decode_2_4.sv", "4'b0101", "4'b1010")),
    "2:4, code 6 valid": (bench_2_4, ("nm_decode_2_4.sv", "code < 3'd6", "code < 3'd7")),
    "codes from the top": (
        bench_unpack,
        ("nm_unpack.sv", "group[b*WIDTH +: WIDTH]", "group[(COUNT-1-b)*WIDTH +: WIDTH]"),
    ),
    "codes most significant bit first": (
        bench_unpack,
        ("nm_unpack.sv", "assign codes[b*WIDTH +: WIDTH] = group[b*WIDTH +: WIDTH];",
         "for (genvar k = 0; k < WIDTH; k = k + 1) begin : g_bit\n"
         "assign codes[b*WIDTH + k] = group[b*WIDTH + WIDTH - 1 - k]; end"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_mutated_design_fails(tmp_path, name):
    make, mutant = MUTANTS[name]
    bench, files, parameters = make()
    assert_fail(simulate(tmp_path, bench, files, mutant, **parameters))
