"""Dots in SystemVerilog: expected values from nmref, checked against the naive witness."""

import hashlib
import json
import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import nmref
from conformance import naive
from nmref.conformance import dot_memh
from nmref.conformance.dot_operands import KINDS
from nmref.conformance.suite import pipe
from tests.clients.test_sv_client import (  # noqa: F401  # the fixture skips or fails as there
    SOURCES,
    _simulator,
    assert_fail,
    assert_pass,
)

DESIGN = (
    *("nm_f32_add.sv", "nm_f32_mul.sv", "nm_mac_f32_seq.sv", "nm_mac_i32.sv", "nm_dot_8_16.sv"),
    *("nm_decode_8_16.sv", "nm_lanes.sv"),
)
COUNT = 24 * len(KINDS)
SETS = {  # operands and results -> bench, bits of an operand
    "dot-bf16": ("tb_nm_mac_f32_seq", "terms", 16),
    "dot-f32": ("tb_nm_mac_f32_seq", "terms", 32),
    "dot-8-16-bf16": ("tb_nm_dot_8_16", "blocks", 16),
    "dot-8-16-i8": ("tb_nm_dot_8_16", "blocks", 8),
}


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dots")
    assert dot_memh.main([str(folder), "--seed", "1", "--count", str(COUNT)]) == 0
    return folder


def entries(vectors: Path, name: str) -> list[dict[str, int]]:
    """The words of a file, taken apart as its side-car says."""
    sidecar = json.loads((vectors / f"{name}.json").read_text())
    lines = (vectors / f"{name}.memh").read_text().splitlines()
    words = [int(line, 16) for line in lines if not line.startswith("//")]
    assert len(words) == sidecar["depth"]
    return [
        {
            field["name"]: word >> field["low"] & (1 << field["high"] - field["low"] + 1) - 1
            for field in sidecar["fields"]
        }
        for word in words
    ]


def grouped(words: list[dict[str, int]]) -> Iterator[list[dict[str, int]]]:
    dot = []
    for word in words:
        assert word["first"] == (not dot)
        dot.append(word)
        if word["last"]:
            yield dot
            dot = []
    assert not dot


def split(word: int, width: int, count: int) -> list[int]:
    return [word >> i * width & (1 << width) - 1 for i in range(count)]


# --------------------------------------------------------------------------- the vectors


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_terms_are_those_of_the_witness(vectors: Path, dtype: str) -> None:
    name = f"dot-{dtype.lower()}"
    dots = [word["dot"] for word in entries(vectors, f"{name}-dots")]
    rows = list(grouped(entries(vectors, f"{name}-terms")))
    for row, dot in zip(rows, dots, strict=True):
        w, x = [word["w"] for word in row], [word["x"] for word in row]
        assert naive.linear("f32.seq", ("dense", dtype, [w]), dtype, x) == [dot]
    assert {len(row) for row in rows} >= {1, 2, 3, dot_memh.TERMS}


@pytest.mark.parametrize(("dtype", "width"), [("BF16", 16), ("I8", 8)])
def test_blocks_are_those_of_the_witness(vectors: Path, dtype: str, width: int) -> None:
    name = f"dot-8-16-{dtype.lower()}"
    rows = list(grouped(entries(vectors, f"{name}-blocks")))
    for row, result in zip(rows, entries(vectors, f"{name}-dots"), strict=True):
        w, x, error = [], [], 0
        for block in row:
            lanes = [0] * 16
            if block["code"] < 12870:
                columns = naive.positions(naive.unrank(block["code"], 8, 16))
                for column, value in zip(columns, split(block["values"], width, 8), strict=True):
                    lanes[column] = value
            else:
                error = 1
            w += lanes
            x += split(block["x"], width, 16)
        assert result["error"] == error
        if dtype == "I8":
            pairs = zip(w, x, strict=True)
            total = sum(((a ^ 128) - 128) * ((b ^ 128) - 128) for a, b in pairs)
            assert result["dot"] == total % 2**32
        else:
            assert [result["dot"]] == naive.linear("f32.seq", ("dense", dtype, [w]), dtype, x)


@pytest.mark.parametrize("name", ["dot-bf16", "dot-f32", "dot-8-16-bf16"])
def test_every_class_of_result_occurs(vectors: Path, name: str) -> None:
    dots = [word["dot"] for word in entries(vectors, f"{name}-dots")]
    floats = [struct.unpack("<f", struct.pack("<I", dot))[0] for dot in dots]
    subnormal = sum(0 < abs(value) < 2.0**-126 for value in floats)
    some = (dots.count(0), dots.count(0x7FC00000), dots.count(0x7F800000), dots.count(0xFF800000))
    assert min(*some, subnormal) >= 5
    assert 0x80000000 not in dots
    assert sum(value != value for value in floats) == dots.count(0x7FC00000)


def test_errors_occur(vectors: Path) -> None:
    for name in ("dot-8-16-bf16", "dot-8-16-i8"):
        errors = [word["error"] for word in entries(vectors, f"{name}-dots")]
        assert 0.05 < sum(errors) / len(errors) < 0.2


def test_sidecars_and_bytes(vectors: Path, tmp_path: Path) -> None:
    """The same seed gives the same bytes, another seed others."""
    names = sorted(path.name for path in vectors.iterdir())
    assert names == sorted(
        f"{name}-{part}{suffix}"
        for name, (_, operands, _) in SETS.items()
        for part in (operands, "dots")
        for suffix in (".json", ".memh")
    )
    for name in names:
        if name.endswith(".json"):
            sidecar = json.loads((vectors / name).read_bytes())
            content = (vectors / sidecar["file"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == sidecar["sha256"]
    few = {memory.name: memory.text() for memory in dot_memh.memories(1, 9)}
    assert few == {memory.name: memory.text() for memory in dot_memh.memories(1, 9)}
    other = {memory.name: memory.text() for memory in dot_memh.memories(2, 9)}
    assert all(few[name] != other[name] for name in few)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dot_memh.main([str(tmp_path / "a" / "b"), "--count", "2"]) == 0
    assert "dot-bf16-terms 34 bits" in capsys.readouterr().out
    assert dot_memh.main([str(tmp_path), "--count", "0"]) == 1
    assert dot_memh.main([str(tmp_path), "--seed", "-1"]) == 1
    (tmp_path / "file").write_text("")
    assert dot_memh.main([str(tmp_path / "file")]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert [error.split()[0] for error in errors] == ["T_ARGUMENT", "T_ARGUMENT", "T_FILE"]


# --------------------------------------------------------------------------- the design


def build(
    folder: Path,
    bench: str,
    mutant: tuple[str, str, str] | None = None,
    **parameters: int,
) -> None:
    """Compile a bench with the design, one file of it perhaps changed."""
    sources = [SOURCES / f"{bench}.sv"]
    for name in DESIGN:
        sources.append(SOURCES / name)
        if mutant is not None and mutant[0] == name:
            text = sources[-1].read_text()
            assert text.count(mutant[1]) == 1, f"{mutant[1]!r} is not once in {name}"
            sources[-1] = folder / name
            sources[-1].write_text(text.replace(mutant[1], mutant[2]))
    overrides = [f"-P{bench}.{name}={value}" for name, value in parameters.items()]
    command = ["iverilog", "-g2012", "-Wall", *overrides, "-s", bench, "-o", "bench.vvp"]
    built = subprocess.run(
        [*command, *map(str, sources)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (built.returncode, built.stdout, built.stderr) == (0, "", "")


def run(folder: Path, *plusargs: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["vvp", "-n", "bench.vvp", *plusargs],
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def depth(path: Path) -> int:
    return int(re.search(r"depth (\d+)", path.read_text())[1])


def simulate(
    folder: Path, vectors: Path, name: str, mutant: tuple[str, str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    bench, operands, width = SETS[name]
    files = {part: vectors / f"{name}-{part}.memh" for part in (operands, "dots")}
    sizes = {part.upper(): depth(path) for part, path in files.items()}
    build(folder, bench, mutant, W=width, **sizes)
    return run(folder, *(f"+{part}={path}" for part, path in files.items()))


@pytest.mark.parametrize("name", SETS)
def test_dots(tmp_path: Path, vectors: Path, name: str) -> None:
    assert_pass(simulate(tmp_path, vectors, name), COUNT)


@pytest.mark.parametrize("name", SETS)
def test_wrong_truncated_or_missing_vectors_fail(tmp_path: Path, vectors: Path, name: str) -> None:
    bench, operands, width = SETS[name]
    files = {part: vectors / f"{name}-{part}.memh" for part in (operands, "dots")}
    build(tmp_path, bench, W=width, **{part.upper(): depth(path) for part, path in files.items()})

    def outcome(**changed: Path | None) -> subprocess.CompletedProcess[str]:
        chosen = {part: path for part, path in (files | changed).items() if path is not None}
        return run(tmp_path, *(f"+{part}={path}" for part, path in chosen.items()))

    assert_pass(outcome(), COUNT)
    for part, path in files.items():
        lines = path.read_text().splitlines()
        short = tmp_path / f"short-{part}.memh"
        short.write_text("".join(f"{line}\n" for line in lines[:-1]))
        assert_fail(outcome(**{part: short}), "1")
        assert_fail(outcome(**{part: None}))
    lines[-1] = lines[-1][:-1] + f"{int(lines[-1][-1], 16) ^ 1:x}"
    wrong = tmp_path / "wrong.memh"
    wrong.write_text("".join(f"{line}\n" for line in lines))
    assert_fail(outcome(dots=wrong), "1")


ADD, MUL, MAC, DOT, I32 = (
    *("nm_f32_add.sv", "nm_f32_mul.sv", "nm_mac_f32_seq.sv", "nm_dot_8_16.sv", "nm_mac_i32.sv"),
)
TIES_ADD = "norm[2] && (norm[1] || norm[0] || norm[3])"
TIES_MUL = "guard && (sticky || moved[X-24])"

MUTANTS = {
    # The sum: rounding.
    "sum truncated": ("dot-bf16", (ADD, TIES_ADD, "1'b0")),
    "sum: ties away from zero": ("dot-bf16", (ADD, TIES_ADD, "norm[2]")),
    "sum: ties to odd": ("dot-bf16", (ADD, "norm[0] || norm[3]", "norm[0] || !norm[3]")),
    "sum: ties down": ("dot-bf16", (ADD, "norm[0] || norm[3]", "norm[0]")),
    "sum without sticky bit": ("dot-bf16", (ADD, "aligned = {full >> move, sticky}",
                                            "aligned = {full >> move, 1'b0 & sticky}")),
    "sum: sticky bit lost by the carry": ("dot-bf16", (ADD, "total[1] | total[0]", "total[1]")),
    "sum: shift stops too early": ("dot-bf16", (ADD, "8'd26 ? 5'd26", "8'd24 ? 5'd24")),
    "sum: shift modulo 32": ("dot-bf16", (ADD, "apart > 8'd26 ? 5'd26 : apart[4:0]",
                                          "apart[4:0]")),
    # The sum: range and special numbers.
    "sum: subnormal results flushed": ("dot-bf16", (ADD, "norm[25:3]} +",
                                                    "norm[26] ? norm[25:3] : 23'd0} +")),
    "sum: subnormal operands flushed": ("dot-bf16", (ADD, "{little[30:23] != 8'd0, little[22:0]}",
                                                     "little[30:23] != 8'd0 ? {1'b1, little[22:0]}"
                                                     " : 24'd0")),
    "sum: subnormal exponent": ("dot-bf16", (ADD, "8'(little[30:23] == 8'd0)", "8'd0")),
    "sum: normalised below the range": ("dot-bf16", (ADD, "8'(lead) > room ? room[4:0] : lead",
                                                     "lead")),
    "sum: overflow is no infinity": ("dot-bf16", (ADD, "norm[26] && e == 8'hff ", "1'b0 ")),
    "sum: Inf - Inf": ("dot-bf16", (ADD, "|| (a_top && b_top && a[31] != b[31])", "")),
    "sum: NaN is infinity": ("dot-bf16", (ADD, "32'h7fc00000", "32'h7f800000")),
    "sum: NaN with a sign": ("dot-bf16", (ADD, "32'h7fc00000", "32'hffc00000")),
    "sum: sign of the accumulator": ("dot-bf16", (ADD, "swap ? b[31] : a[31];", "a[31];")),
    "sum: zero is negative": ("dot-bf16", (ADD, "a[31] & b[31], 31'd0", "a[31] | b[31], 31'd0")),
    # The product.
    "product truncated": ("dot-bf16", (MUL, TIES_MUL, "1'b0")),
    "product: ties away from zero": ("dot-bf16", (MUL, TIES_MUL, "guard")),
    "product: ties down": ("dot-bf16", (MUL, TIES_MUL, "guard && sticky")),
    "product: ties to odd": ("dot-bf16", (MUL, "sticky || moved[X-24]", "sticky || !moved[X-24]")),
    "product without sticky bit": ("dot-bf16", (MUL, "(sticky || moved[X-24])", "moved[X-24]")),
    "product: shifted bits forgotten": ("dot-bf16", (MUL, "!= '0 || lost", "!= '0")),
    "F32 product: low bits forgotten": ("dot-f32", (MUL, "moved[X-26:0] != '0 || lost", "lost")),
    "product: subnormal results flushed": ("dot-bf16", (MUL, ": a_zero || b_zero  ",
                                                        ": a_zero || b_zero || !normal  ")),
    "product: subnormal w flushed": ("dot-bf16", (MUL, "{ea != 8'd0, a[S-2:0]}",
                                                  "ea != 8'd0 ? {1'b1, a[S-2:0]} : {S{1'b0}}")),
    "product: subnormal x flushed": ("dot-bf16", (MUL, "{eb != 8'd0, b[S-2:0]}",
                                                  "eb != 8'd0 ? {1'b1, b[S-2:0]} : {S{1'b0}}")),
    "product: exponent of subnormal x": ("dot-bf16", (MUL, "+ $signed({10'd0, eb == 8'd0})", "")),
    "product: shift modulo 64": ("dot-bf16", (MUL, "below > 11'd63 ? 6'd63 : ", "")),
    "product: overflow": ("dot-bf16", (MUL, "e >= 11'sd255", "e >= 11'sd256")),
    "product: Inf times zero": ("dot-bf16", (MUL, "|| (a_top && b_zero)", "")),
    "product: NaN in w": ("dot-bf16", (MUL, "(a_top && a[S-2:0] != '0) ||", "")),
    "product: NaN in x": ("dot-bf16", (MUL, "|| (b_top && b[S-2:0] != '0)", "")),
    "product: sign": ("dot-bf16", (MUL, "a[W-1] ^ b[W-1]", "a[W-1]")),
    # The unit.
    "zero weights make terms": ("dot-bf16", (MAC, "p_term ? sum", "1'b1 ? sum")),
    "-0 makes a term": ("dot-bf16", (MAC, "w[W-2:0] != '0", "w != '0")),
    "zero x makes no term": ("dot-bf16", (MAC, "w[W-2:0] != '0",
                                          "w[W-2:0] != '0 && x[W-2:0] != '0")),
    "accumulator not cleared": ("dot-bf16", (MAC, "p_first ? 32'd0 : acc", "acc")),
    "clocks without a term count": ("dot-bf16", (MAC, "if (p_valid) acc", "acc")),
    "results without in_last": ("dot-bf16", (MAC, "p_valid && p_last", "p_valid")),
    # The dot of blocks.
    "values stand still": ("dot-8-16-bf16", (DOT, "slots >> W", "slots")),
    "x of the highest column": ("dot-8-16-bf16", (DOT, "rest & (~rest + 16'd1)", "rest")),
    "x stands still": ("dot-8-16-i8", (DOT, "rest & (rest - 16'd1)", "rest")),
    "invalid codes make terms": ("dot-8-16-bf16", (DOT, "code_valid ? values : '0", "values")),
    "errors stay": ("dot-8-16-i8", (DOT, "(error && !in_first)", "error")),
    "errors of the last block only": ("dot-8-16-i8", (DOT, "|| (error && !in_first)", "")),
    "error too early": ("dot-8-16-i8", (DOT, "out_error = error_2", "out_error = error_1")),
    "first for a whole block": ("dot-8-16-bf16", (DOT, "first && slot == 3'd0", "first")),
    "last at any slot": ("dot-8-16-bf16", (DOT, "last && at_end", "last")),
    "always ready": ("dot-8-16-i8", (DOT, "!busy || at_end", "1'b1")),
    "a block again in a pause": ("dot-8-16-i8", (DOT, "busy && !at_end", "busy")),
    "i32: unsigned": ("dot-8-16-i8", (I32, "$signed(w) * $signed(x)", "w * x")),
    "i32: 24 bits": ("dot-8-16-i8", (I32, "{{16{p[15]}}, p}", "{8'd0, {8{p[15]}}, p}")),
    "i32: not cleared": ("dot-8-16-i8", (I32, "p_first ? 32'd0 : acc", "acc")),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_mutated_design_fails(tmp_path: Path, vectors: Path, name: str) -> None:
    vector_set, mutant = MUTANTS[name]
    assert_fail(simulate(tmp_path, vectors, vector_set, mutant))


# --------------------------------------------------------------------------- the text pipe


@pytest.mark.parametrize(("dtype", "width"), [("F32", 32), ("BF16", 16)])
def test_text_pipe(tmp_path: Path, dtype: str, width: int) -> None:
    """nmref vectors dot | vvp | nmref vectors check."""
    build(tmp_path, "tb_nm_dot_text", W=width)
    order = pipe.Order.make("f32.seq", 3, 400, 0, dtype)
    text = "".join(f"{line}\n" for line in pipe.lines(order))
    done = run(tmp_path, stdin=text)
    assert (done.returncode, done.stderr) == (0, "")
    assert pipe.check(done.stdout.splitlines()) == order
    changed = done.stdout.replace("\n9 ", "\n9 1")
    assert changed != done.stdout
    with pytest.raises(nmref.NmrefError):
        pipe.check(changed.splitlines())


def test_text_pipe_notices_a_mutant(tmp_path: Path) -> None:
    build(tmp_path, "tb_nm_dot_text", (ADD, TIES_ADD, "norm[2]"))
    order = pipe.Order.make("f32.seq", 3, 400, 0, "F32")
    done = run(tmp_path, stdin="".join(f"{line}\n" for line in pipe.lines(order)))
    with pytest.raises(nmref.NmrefError):
        pipe.check(done.stdout.splitlines())


def test_text_pipe_lines(tmp_path: Path) -> None:
    """No columns; any number; white space; comments; from a file; lines that are wrong."""
    build(tmp_path, "tb_nm_dot_text")
    text = "# one\n 7  2 3f800000 40000000\t40400000 40800000\r\n\n8 0\n# two\n9 1 0 7f800000"
    want = "# one\n7 41300000\n8 00000000\n# two\n9 00000000\n"
    done = run(tmp_path, stdin=text)
    assert (done.returncode, done.stdout, done.stderr) == (0, want, "")
    (tmp_path / "dots.txt").write_text(text)
    assert run(tmp_path, "+file=dots.txt").stdout == want
    assert run(tmp_path, stdin="").stdout == ""
    for wrong in ("1", "1 x", "1 2 3f800000", "1 -1", "1 65537", "1 1 xyz 0", "1 1 0 x"):
        done = run(tmp_path, stdin=wrong)
        assert done.returncode != 0, wrong
        assert "FATAL" in done.stdout + done.stderr
    assert run(tmp_path, "+file=absent").returncode != 0
