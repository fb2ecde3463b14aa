"""Ranks, streams and rows of codes: SPEC part 2 and annexes A, B and D."""

import hashlib
import random
import re
from math import comb
from pathlib import Path

import numpy as np
import pytest

from conformance import naive
from nmref import NMPattern, colex
from nmref.bits import pack, unpack
from tests.cases import BASE_PATTERNS, ONE, OUT_PATTERNS, bits, mask_bits, masks
from tests.witness import Case, Witness, every_witness, rejection

SPEC_TEXT = (Path(__file__).parents[2] / "SPEC.md").read_text(encoding="utf-8")
WIDE = ("16:32", "1:64", "32:64", "63:64", "7:33", *OUT_PATTERNS)


def base_of(block_masks: list[int], block: int) -> Case:
    """One row whose blocks hold nonzero values exactly at these masks."""
    stored = mask_bits(block_masks, block)
    row = bits("F16", np.where(stored, ONE["F16"], 0)).reshape(1, -1)
    return Case("F16", row, f"{int(stored[0].sum())}:{block}")


def spec_of(pattern: str, shape: list[int], dtype: str = "I8") -> dict[str, object]:
    members = {"coding": "colex", "dtype": dtype, "outliers": None, "pattern": pattern}
    return {**members, "shape": shape}


def one_code(pattern: str, code: int, outlier: bool = False) -> tuple[dict, dict]:
    """Spec and parts of one row of one block with this code, all elements 1."""
    stored, block = (int(word) for word in pattern.split(":"))
    width = (comb(block, stored) - 1).bit_length()
    data = code.to_bytes(-(-width // 8), "little")
    values, codes = ("F16", (1, stored), b"\x00\x3c" * stored), ("U8", (1, len(data)), data)
    if not outlier:
        return spec_of(pattern, [1, block], "F16"), {"nm_values": values, "nm_codes": codes}
    spec = spec_of("1:64", [1, 256], "F16")
    spec["outliers"] = {"coding": "colex", "dtype": "F16", "pattern": pattern}
    base = {"nm_values": ("F16", (1, 4), bytes(8)), "nm_codes": ("U8", (1, 3), bytes(3))}
    return spec, base | {"nm_out_values": values, "nm_out_codes": codes}


@every_witness
@pytest.mark.parametrize(
    ("block", "block_masks", "stream"),
    [
        (4, [0b0011, 0b0101, 0b0110, 0b1001, 0b1010, 0b1100, 0b0011, 0b1100], "88c6a2"),
        (16, [0x00FF, 0xFF00, 0x5555, 0xAAAA], "0040911cff5089"),
        (16, [0x9A35, 0x00FF], "911e0000"),
        (16, [0x40BF, 0x00FF], "bc0b0000"),
        (8, [0b00010111, 0b00001111], "0100"),
    ],
)
def test_encode_gives_the_worked_streams(
    witness: Witness, block: int, block_masks: list[int], stream: str
):
    case = base_of(block_masks, block)
    parts = witness.encode(case)
    assert parts["nm_codes"] == ("U8", (1, len(stream) // 2), bytes.fromhex(stream))
    assert np.array_equal(witness.decode(case.spec, parts)[1], case.base)


@every_witness
@pytest.mark.parametrize("pattern", ["1:2", "2:4", "3:7", "4:8", "8:16"])
def test_encode_and_decode_know_every_mask(witness: Witness, pattern: str):
    stored, block = (int(word) for word in pattern.split(":"))
    every = masks(pattern)
    width = (len(every) - 1).bit_length()
    size = -(-width // 8)
    dense = bits("I8", mask_bits(every, block).astype(int))
    case = Case("I8", dense, pattern, scale=bits("F32", [0x3F800000] * len(every)))
    parts = witness.encode(case)
    codes = parts["nm_codes"][2]
    assert codes == b"".join(code.to_bytes(size, "little") for code in range(len(every)))
    assert parts["nm_values"] == ("I8", (len(every), stored), b"\1" * (len(every) * stored))
    dtype, decoded = witness.decode(case.spec, parts)
    assert dtype == "F32"
    assert np.array_equal(decoded, np.where(dense, ONE["F32"], 0))


@every_witness
@pytest.mark.parametrize("pattern", ["2:4", "3:7", "4:8", "8:16"])
def test_decode_refuses_every_code_out_of_range(witness: Witness, pattern: str):
    count = len(masks(pattern))
    for code in range(count, 1 << (count - 1).bit_length()):
        assert rejection(witness.decode, *one_code(pattern, code)).code == "E_CODE_RANGE"


@pytest.mark.parametrize("pattern", ["2:4", "4:8", "8:16"])
def test_rank_of_the_complement_counts_from_the_end(pattern: str):
    nm = NMPattern.parse(pattern)
    stored = mask_bits(masks(pattern), nm.block)
    codes = colex.rank(stored, nm).astype(int)
    assert codes.tolist() == list(range(nm.count))
    assert colex.rank(~stored, nm).tolist() == codes[::-1].tolist()
    assert [naive.rank(mask ^ ((1 << nm.block) - 1)) for mask in masks(pattern)] == [*codes[::-1]]


@every_witness
@pytest.mark.parametrize("pattern", WIDE)
def test_decode_of_a_wide_code_stores_the_mask_of_that_rank(witness: Witness, pattern: str):
    stored, block = (int(word) for word in pattern.split(":"))
    count, outlier = comb(block, stored), block == 256
    chance = random.Random(pattern)
    for code in {
        0,
        1,
        count // 2,
        count - 2,
        count - 1,
        *(chance.randrange(count) for _ in "x" * 20),
    }:
        spec, parts = one_code(pattern, code, outlier)
        _, dense = witness.decode(spec, parts)
        columns = np.flatnonzero(dense[0]).tolist()
        assert len(columns) == stored
        assert sum(comb(p, j) for j, p in enumerate(columns, start=1)) == code
        case = Case("F16", dense, pattern)
        if outlier:
            zero = np.zeros_like(dense)
            case = Case("F16", zero, "1:64", None, None, dense, "F16", pattern, "colex")
        assert witness.encode(case) == parts
    top = 1 << (count - 1).bit_length()
    for code in sorted({count, top - 1} - {count - 1}):
        if code < top:
            fault = rejection(witness.decode, *one_code(pattern, code, outlier))
            assert fault.code == "E_CODE_RANGE"


@every_witness
@pytest.mark.parametrize("pattern", ["8:16", "16:32", "32:64", "7:33", *OUT_PATTERNS])
def test_encode_gives_codes_at_every_offset_of_a_word(witness: Witness, pattern: str):
    stored, block = (int(word) for word in pattern.split(":"))
    count, chance = comb(block, stored), random.Random(pattern)
    width, blocks = (count - 1).bit_length(), 34
    chosen = [sorted(chance.sample(range(block), stored)) for _ in range(blocks - 2)]
    chosen += [[*range(block - stored, block)]] * 2  # the last code, its high bits 1
    dense = np.zeros((1, blocks * block), dtype=np.uint16)
    for b, columns in enumerate(chosen):
        dense[0, [b * block + p for p in columns]] = ONE["F16"]
    stream = 0
    for b, columns in enumerate(chosen):
        stream |= sum(comb(p, j) for j, p in enumerate(columns, start=1)) << (b * width)
    case, part = Case("F16", dense, pattern), "nm_codes"
    if block == 256:
        zero = np.zeros_like(dense)
        case = Case("F16", zero, "1:64", None, None, dense, "F16", pattern, "colex")
        part = "nm_out_codes"
    parts = witness.encode(case)
    assert parts[part][2] == stream.to_bytes(-(-blocks * width // 8), "little")
    assert np.array_equal(witness.decode(case.spec, parts)[1], dense)


@every_witness
def test_decode_agrees_with_the_ranks_of_the_specification(witness: Witness):
    rows = re.findall(r"^\| (\d+:\d+) \| ([\d ]+) \| (\d+) = 0x[0-9a-f]+ \|$", SPEC_TEXT, re.M)
    assert len(rows) == 10
    for pattern, columns, code in rows:
        spec, parts = one_code(pattern, int(code), pattern.endswith(":256"))
        assert np.flatnonzero(witness.decode(spec, parts)[1][0]).tolist() == [
            int(column) for column in columns.split()
        ]


@every_witness
def test_encode_gives_rows_of_the_bytes_in_annex_a(witness: Witness):
    header, *rows = re.findall(r"^\| ([\w:]+) \| (\d+(?: \| \d+){8}) \|$", SPEC_TEXT, re.M)
    sizes = [int(word) for word in header[1].split(" | ")]
    assert (header[0], len(rows)) == ("K", 7)
    for pattern, line in rows:
        found = []
        for columns in sizes:
            zero = np.zeros((1, columns), dtype=np.uint16)
            case, part = Case("F16", zero, pattern), "nm_codes"
            if pattern.endswith(":256"):
                case = Case("F16", zero, "2:4", None, None, zero, "F16", pattern, "colex")
                part = "nm_out_codes"
            found.append(witness.encode(case)[part][1][1])
        assert found == [int(word) for word in line.split(" | ")]


def test_mask_table_is_the_rom_of_annex_b():
    table = colex.mask_table(NMPattern(8, 16))
    assert table.tolist() == masks("8:16")
    digest = hashlib.sha256(table.astype("<u2").tobytes()).hexdigest()
    assert digest in SPEC_TEXT
    assert colex.mask_table(NMPattern(16, 32)).size == 0


@pytest.mark.parametrize("width", [1, 3, 7, 8, 14, 30, 49, 61])
def test_pack_is_one_little_endian_number_a_row(width: int):
    rng = np.random.default_rng(width)
    for count in (*range(1, 10), 40):
        codes = rng.integers(0, 1 << width, (3, count), dtype=np.uint64)
        packed = pack(codes, width)
        for row, data in zip(codes.tolist(), packed, strict=True):
            number = sum(code << (b * width) for b, code in enumerate(row))
            assert data.tobytes() == number.to_bytes(-(-count * width // 8), "little")
            assert data.tobytes() == naive.pack(row, width)
        assert np.array_equal(unpack(packed, count, width, np.dtype(np.uint64)), codes)


@pytest.mark.parametrize("pattern", [*BASE_PATTERNS, *WIDE])
def test_width_is_the_smallest_that_holds_every_code(pattern: str):
    nm = NMPattern.parse(pattern)
    assert 2 ** (nm.width - 1) < nm.count <= 2**nm.width
    assert nm.count == comb(nm.block, nm.stored)
