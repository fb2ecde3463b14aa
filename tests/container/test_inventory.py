"""What files cost, against the bits of each element that SPEC annex A lists."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from nmref import encode, save
from nmref.container.inventory import inventory
from nmref.dtypes import CONTAINER_DTYPES

TEXT = (Path(__file__).parents[2] / "SPEC.md").read_text(encoding="utf-8")
RATES = re.findall(
    r"^\| (\d+:\d+) \| (F16, BF16|I8) \| ([\d.]+)((?: \| [\d.]+ / [\d.]+){3}) \|$", TEXT, re.M
)


def zeros(dtype: str, pattern: str, columns: int = 512, **more: object) -> object:
    dense = np.zeros((4, columns), dtype=CONTAINER_DTYPES[dtype])
    scale = np.ones(4, dtype=np.float32) if dtype == "I8" else None
    return encode(dense, pattern, scale=scale, **more)


@pytest.mark.parametrize("line", RATES, ids=lambda line: " ".join(line[:2]))
def test_bits_are_the_rates_of_annex_a(tmp_path: Path, line: tuple[str, str, str, str]):
    pattern, dtypes, plain, rest = line
    outliers = np.zeros((4, 2048), dtype=np.float16)  # whole bytes for every pattern
    for dtype in dtypes.split(", "):
        tensors = {"plain": zeros(dtype, pattern, 2048)}
        want = {"plain": float(plain)}
        pairs = [pair.split(" / ") for pair in rest.split(" | ")[1:]]
        for out, rates in zip(("4:256", "8:256", "16:256"), pairs, strict=True):
            for coding, rate in zip(("idx8", "colex"), rates, strict=True):
                more = {"outliers": outliers, "outlier_pattern": out, "coding": coding}
                tensors[f"{out}.{coding}"] = zeros(dtype, pattern, 2048, **more)
                want[f"{out}.{coding}"] = float(rate)
        save(tmp_path / "f", tensors)
        for row in inventory(tmp_path / "f").weights:
            scale = 32 / 2048 if dtype == "I8" else 0
            assert row.bits()[-1] - scale == pytest.approx(want[row.name], abs=5e-5)


def test_annex_a_lists_every_pattern_twice():
    assert len(RATES) == 8


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two layers of one kind, one of another kind, two other tensors."""
    out = {"outliers": np.zeros((4, 512), np.float32), "outlier_pattern": "8:256"}
    tensors = {
        "model.layers.0.up.weight": zeros("BF16", "8:16", **out),
        "model.layers.11.up.weight": zeros("BF16", "8:16", **out),
        "model.layers.0.down.weight": zeros("I8", "2:4"),
        "norm": np.zeros(3, np.float32),
        "embed": np.zeros((5, 7), np.int8),
    }
    save(tmp_path / "f", tensors)
    return tmp_path / "f"


def test_inventory_counts_the_bytes_of_every_part(path: Path):
    found = inventory(path)
    assert [row.name for row in found.weights] == sorted(row.name for row in found.weights)
    down, up, _ = found.weights
    assert (down.pattern, down.outliers, down.dtype, down.shape) == ("2:4", "none", "I8", (4, 512))
    assert (down.codes, down.values, down.positions, down.outlier_values) == (4 * 48, 4 * 260, 0, 0)
    assert down.dense_nbytes == 4 * 512 * 4
    assert (up.pattern, up.outliers, up.dtype) == ("8:16", "8:256 idx8", "BF16")
    assert (up.codes, up.values, up.positions) == (4 * 56, 4 * 512, 4 * 16)
    assert up.outlier_values == 4 * 16 * 4
    assert up.dense_nbytes == 4 * 512 * 2
    assert (found.other_tensors, found.other_nbytes) == (2, 12 + 35)
    assert found.file_nbytes == path.stat().st_size
    total = sum(row.nbytes for row in found.weights) + found.other_nbytes
    length = int.from_bytes(path.read_bytes()[:8], "little")
    assert found.file_nbytes == 8 + length + total


def test_groups_add_up_the_layers_of_one_kind(path: Path):
    down, up = inventory(path).groups()
    assert (down.name, down.count) == ("model.layers.*.down.weight", 1)
    assert (up.name, up.count) == ("model.layers.*.up.weight", 2)
    one = inventory(path).weights[1]
    assert up.elements == 2 * one.elements
    assert up.nbytes == 2 * one.nbytes
    assert up.bits() == one.bits()


def test_summary_and_as_dict_tell_the_same_figures(path: Path):
    found = inventory(path)
    packed = sum(row.nbytes for row in found.weights)
    dense = sum(row.dense_nbytes for row in found.weights)
    assert found.summary() == (
        f"3 sparse weights: {packed} bytes, dense {dense} bytes ({packed / dense:.4f} of dense)\n"
        f"2 other tensors: 47 bytes; files: {found.file_nbytes} bytes"
    )
    members = json.loads(json.dumps(found.as_dict()))
    assert members["weights"][0]["bits_per_element"]["total"] == found.weights[0].bits()[-1]
    assert members["other_tensors"] == 2


def test_inventory_of_nothing(tmp_path: Path):
    save(tmp_path / "f", {"w": encode(np.zeros((0, 16), np.float16))})
    (row,) = inventory(tmp_path / "f").weights
    assert row.bits() == [0.0] * 5
    save(tmp_path / "f", {})
    assert (
        inventory(tmp_path / "f").summary().startswith("0 sparse weights: 0 bytes, dense 0 bytes\n")
    )
