"""The example files of SPEC.md annex D: read from its text, verified, decoded, made again."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from nmref import container
from tests.cases import SIZES, bits
from tests.container.draft import Draft, minimal
from tests.witness import WITNESSES, Case, Witness, as_array, every_witness, rejection

TEXT = (Path(__file__).parents[2] / "SPEC.md").read_text(encoding="utf-8")
BLOCK = r"\n```{}\n((?:.*\n)*?)```"


def hexdump(block: str) -> bytes:
    found = b""
    for line in block.splitlines():
        match = re.fullmatch(r"([0-9a-f]{8}): ((?:[0-9a-f]{2,4} ?)+) +(\S.{,15}|.{16})", line)
        assert match is not None, line
        assert int(match[1], 16) == len(found)
        piece = bytes.fromhex(match[2])
        assert "".join(chr(c) if 0x20 <= c < 0x7F else "." for c in piece) == line[-len(piece) :]
        found += piece
    return found


FILES = {
    name: hexdump(block)
    for name, block in re.findall(r"^Example file: (\S+)" + BLOCK.format("hexdump"), TEXT, re.M)
}
MATRICES = re.findall(r"^Example W: (\S+) (\S+)" + BLOCK.format("bits"), TEXT, re.M)


def test_specification_has_the_examples_that_its_table_lists():
    rows = re.findall(r"^\| (\S+\.safetensors) \| .* \| (\d+) \| `([0-9a-f]{64})` \|$", TEXT, re.M)
    assert len(rows) == 3
    listed = {name: (int(size), digest) for name, size, digest in rows}
    found = {n: (len(data), hashlib.sha256(data).hexdigest()) for n, data in FILES.items()}
    assert found == listed
    assert [name for name, _, _ in MATRICES] == list(FILES)


@every_witness
@pytest.mark.parametrize("example", MATRICES, ids=lambda example: example[0])
def test_read_gives_the_bits_of_the_example(witness: Witness, example: tuple[str, str, str]):
    file, name, block = example
    rows = [line.partition(": ")[2].split() for line in block.splitlines()]
    dtype, array = witness.read(FILES[file])[name]
    assert {len(word) for row in rows for word in row} == {2 * SIZES[dtype]}
    assert array.tolist() == [[int(word, 16) for word in row] for row in rows]


@pytest.mark.parametrize("name", FILES)
def test_verify_accepts_the_example(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(FILES[name])
    (report,) = container.verify(tmp_path / name)
    assert (report.bytes, report.weights, report.warnings) == (len(FILES[name]), 1, [])
    digests = re.findall(r"\b[0-9a-f]{64}\b", FILES[name].decode("latin-1"))
    assert digests == [report.content_sha256]


def test_digest_text_of_the_examples_has_the_digest_of_the_file():
    texts = re.findall(r"```text\n((?:[0-9a-f]{64} \S+ \S+ \S+\n)+\{.*\}\n)```", TEXT)
    assert len(texts) == 3
    for text, data in zip(texts, FILES.values(), strict=True):
        assert hashlib.sha256(text.encode()).hexdigest().encode() in data


@every_witness
def test_read_refuses_the_example_with_a_bit_changed(witness: Witness):
    for data in FILES.values():
        spoiled = data[:-1] + bytes([data[-1] ^ 1])
        assert rejection(witness.read, spoiled).code in {"E_DIGEST", "E_TAIL", "E_INDEX_ORDER"}


@every_witness
def test_write_makes_the_examples(witness: Witness):
    assert minimal().build() == FILES["first.safetensors"]
    first = minimal()
    weights = {"w": (first.document["tensors"]["w"], first.parts("w"))}
    assert witness.write(weights, {}) == FILES["first.safetensors"]
    dense = [[int(word, 16) for word in line.split()[2:]] for line in MATRICES[1][2].splitlines()]
    base, outliers = bits("BF16", dense), np.zeros((2, 20), dtype=np.uint16)
    for place in ((0, 3), (0, 17), (1, 5)):
        outliers[place], base[place] = base[place], 0
    case = Case("BF16", base, "8:16", None, None, outliers, "BF16", "16:256")
    norm = ("F32", (3,), np.array([1, 0.5, -2], dtype="<f4").tobytes())
    assert as_array(norm).tolist() == [1, 0.5, -2]
    weights = {"w": (case.spec, witness.encode(case))}
    assert witness.write(weights, {"norm": norm}) == FILES["second.safetensors"]


@every_witness
def test_encode_makes_the_parts_of_the_example_with_an_extension(witness: Witness):
    base = bits("I8", [[127, 128, 0, 0, 3, 0, 0, 0, 249, 100]])
    outliers = bits("F16", [[0] * 6 + [0x4800] + [0] * 3])
    scale = bits("F32", [0x3C23D70A])
    case = Case("I8", base, "4:8", None, scale, outliers, "F16", "4:256", "colex")
    made = Draft({"layer.w": (case.spec, witness.encode(case))})
    made.document["x-note"] = 'a "quoted" \\ text'
    assert made.build() == FILES["third.safetensors"]
    assert witness.encode(case)["nm_out_codes"] == WITNESSES[0].encode(case)["nm_out_codes"]
