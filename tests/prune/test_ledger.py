"""The ledger counts what is stored and names what will run."""

import json
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

import nmref
from nmref.linear.choose import choose
from nmref.linear.prepared import prepared
from nmref.pattern import NMPattern
from nmref.prune.choose.mask import split
from nmref.prune.report.ledger import TOKENS, grouped, ledger

NAMES = ["q", "up", "odd", "kept"]


def packed(rows, columns, pattern, outliers=None, dtype=np.float32, seed=0):
    dense = np.random.default_rng(seed).standard_normal((rows, columns)).astype(dtype)
    dense[:, ::5] = 0  # stored zeros do not count
    base, extra = NMPattern.parse(pattern), NMPattern.parse(outliers) if outliers else None
    mask, salient = split(np.abs(dense.astype(np.float32)), base, extra)
    zero = np.zeros((), dtype=dtype)
    return nmref.encode(
        np.where(mask, dense, zero),
        pattern,
        mask=mask,
        outliers=None if salient is None else np.where(salient, dense, zero),
        outlier_pattern=outliers or "16:256",
        outlier_mask=salient,
    )


def tensors():
    dense = np.ones((4, 6), dtype=np.float32)
    dense[0, 0] = dense[1, 1] = -0.0
    return {
        "q": packed(8, 172, "8:16", "16:256"),
        "embed": np.ones((5, 3), dtype=np.float32),
        "up": packed(6, 40, "2:4", dtype=ml_dtypes.bfloat16),
        "odd": packed(6, 300, "3:4", "4:256"),
        "kept": dense,
        "norm": np.ones(7, dtype=ml_dtypes.bfloat16),
    }


def found():
    return ledger(tensors().items(), NAMES)


def test_every_weight_is_counted():
    kept = tensors()
    assert [entry.name for entry in found().weights] == NAMES
    for entry in found().weights:
        tensor = kept[entry.name]
        dense = tensor.to_dense() if isinstance(tensor, nmref.SparseWeight) else tensor
        assert entry.elements == dense.size
        assert entry.dense_nbytes == dense.nbytes
        assert entry.packed_nbytes == tensor.nbytes
        assert entry.nonzero == np.count_nonzero(dense.astype(np.float32))
        assert entry.shape == dense.shape


def test_other_tensors_are_one_line():
    assert (found().other_tensors, found().other_nbytes) == (2, 5 * 3 * 4 + 7 * 2)


def test_a_sparse_weight_counts_wherever_it_is():
    assert [entry.name for entry in ledger(tensors().items(), []).weights] == ["q", "up", "odd"]


def test_totals_are_sums():
    kept, total = found(), found().total()
    entries = kept.weights
    assert total["elements"] == sum(entry.elements for entry in entries)
    dense = sum(entry.dense_nbytes for entry in entries)
    assert total["dense_nbytes"] == total["dense_with_zeros_nbytes"] == dense
    assert total["packed_nbytes"] == sum(entry.packed_nbytes for entry in entries)
    assert total["density"] == sum(entry.nonzero for entry in entries) / total["elements"]
    assert total["bits_per_element"] == 8 * total["packed_nbytes"] / total["elements"]


@pytest.mark.parametrize("isa", [None, "portable"])
def test_kernels_are_those_that_matmul_chooses(monkeypatch, isa):
    if isa:
        monkeypatch.setenv("NMREF_ISA", isa)
    kept = tensors()
    for entry in found().weights:
        weight = kept[entry.name]
        for tokens in TOKENS:
            if isinstance(weight, nmref.SparseWeight):
                kernel = choose(prepared(weight), tokens, "F32").kernel
                assert entry.kernels[tokens] == kernel
                assert entry.runs(tokens).startswith("sparse") == (kernel != "dense")


def test_what_runs_is_said(monkeypatch):
    monkeypatch.setenv("NMREF_ISA", "portable")
    runs = {entry.name: [entry.runs(tokens) for tokens in TOKENS] for entry in found().weights}
    assert runs == {
        "q": ["sparse (rows)", "sparse (panel)"],
        "up": ["sparse (rows)", "sparse (panel)"],
        "odd": ["expanded to dense"] * 2,
        "kept": ["dense"] * 2,
    }


def test_text(monkeypatch):
    monkeypatch.setenv("NMREF_ISA", "portable")
    lines = found().text().splitlines()
    header = " ".join(lines[0].split())
    assert header == (
        "weight count pattern outliers dense bytes with zeros packed bytes density outlier rate "
        "bits/elem T = 1 T = 64"
    )
    entry, total = found().weights[0], found().total()
    assert lines[2].split() == [
        *("q", "1", "8:16", "16:256", "5504", "5504", str(entry.packed_nbytes)),
        f"{entry.nonzero / 1376:.4f}",
        f"{entry.outlier_nonzero / 1376:.4f}",
        f"{8 * entry.packed_nbytes / 1376:.4f}",
        *("sparse", "(rows)", "sparse", "(panel)"),
    ]
    assert lines[6].split() == [
        *("all", "4", str(total["dense_nbytes"]), str(total["dense_nbytes"])),
        str(total["packed_nbytes"]),
        *(f"{total[key]:.4f}" for key in ("density", "outlier_rate", "bits_per_element")),
    ]
    assert lines[7:] == [
        "",
        "2 other tensors: 74 bytes",
        "T = 1: 2 of 4 weights run sparse here",
        "T = 64: 2 of 4 weights run sparse here",
    ]


def kind(number, pattern="8:16", columns=172, dtype=np.float32, name="up"):
    return f"layers.{number}.{name}", packed(6, columns, pattern, dtype=dtype, seed=number)


def lines(found, **how):
    """Of the weights, as words."""
    return [line.split() for line in found.text(**how).split("\n\n")[0].splitlines()[2:]]


def test_one_line_for_a_kind(monkeypatch):
    """Bytes add up, and the density is that of all together."""
    monkeypatch.setenv("NMREF_ISA", "portable")
    same = dict(kind(number) for number in (0, 1, 12))
    same["layers.1.up"].base.values[:, :3] = 0  # fewer that are not zero
    kept = ledger([*same.items(), kind(3, name="gate")], [])
    total = ledger(same.items(), []).total()
    both, gate, everything = lines(kept)
    assert both == [
        *("layers.*.up", "3", "8:16", "none", "12384", "12384", f"{total['packed_nbytes']:.0f}"),
        *(f"{total['density']:.4f}", "0.0000", f"{total['bits_per_element']:.4f}"),
        *("sparse", "(rows)", "sparse", "(panel)"),
    ]
    assert gate[:3] == ["layers.3.gate", "1", "8:16"]
    assert everything[:2] == ["all", "4"]
    every = lines(kept, every=True)
    assert [line[:2] for line in every] == [*([name, "1"] for name in same), gate[:2], ["all", "4"]]
    densities = {line[7] for line in every[:3]}
    assert len(densities) > 1
    assert kept.text().splitlines()[-2:] == kept.text(every=True).splitlines()[-2:]


@pytest.mark.parametrize(
    "other",
    [
        kind(1, pattern="2:4"),
        kind(1, columns=176),
        kind(1, dtype=ml_dtypes.bfloat16),
        kind(1, name="down"),
        ("layers.1.up", packed(6, 172, "8:16", "16:256")),
        ("layers.1.up", np.ones((6, 172), dtype=np.float32)),
    ],
    ids=["pattern", "shape", "dtype", "name", "outliers", "dense"],
)
def test_what_differs_has_a_line_of_its_own(other):
    same = [kind(0), other]
    found = lines(ledger(same, [name for name, _ in same]))
    assert [line[:2] for line in found] == [*([name, "1"] for name, _ in same), ["all", "2"]]


def test_another_kernel_is_another_line():
    entry = ledger([kind(0)], []).weights[0]
    other = replace(entry, name="layers.1.up", kernels={**entry.kernels, 64: "other"})
    assert len(grouped([entry, other])) == 2
    assert grouped([entry, replace(other, kernels=entry.kernels)]) == [
        [entry, replace(other, kernels=entry.kernels)]
    ]


def test_json():
    read = json.loads(json.dumps(found().as_dict()))
    assert [row["name"] for row in read["weights"]] == NAMES
    for row, entry in zip(read["weights"], found().weights, strict=True):
        assert row["dense_with_zeros_nbytes"] == row["dense_nbytes"] == entry.dense_nbytes
        assert row["density"] == entry.nonzero / entry.elements
        assert row["outlier_rate"] == entry.outlier_nonzero / entry.elements
        assert row["bits_per_element"] == 8 * entry.packed_nbytes / entry.elements
        assert row["runs"] == {str(tokens): entry.runs(tokens) for tokens in TOKENS}
        assert row["kernels"] == {str(tokens): entry.kernels[tokens] for tokens in TOKENS}
    assert read["total"] == found().total()
    assert read["others"] == {"tensors": 2, "nbytes": 74}


def test_a_tail_has_as_many_outliers_as_a_block():
    """172 of 256 columns: 16 of them are 9.3 %, and the report says so."""
    (entry,) = ledger([("q", packed(8, 172, "8:16", "16:256"))], []).weights
    assert entry.outlier_nonzero == 8 * 16
    assert ledger([("q", packed(8, 172, "8:16"))], []).weights[0].outlier_nonzero == 0
    both = ledger([(n, packed(8, 172, "8:16", o)) for n, o in (("a", "16:256"), ("b", None))], [])
    assert both.total()["outlier_rate"] == 8 * 16 / (2 * 8 * 172)


def test_integers_stand_for_float32():
    small = nmref.encode(np.eye(4, 16, dtype=np.int8), "8:16", scale=np.ones(4, dtype=np.float32))
    (entry,) = ledger([("i", small)], []).weights
    assert entry.dense_nbytes == small.to_dense().nbytes == 4 * 16 * 4
    assert entry.nonzero == 4


def test_no_weights_at_all():
    empty = ledger([], [])
    assert empty.total()["density"] == empty.total()["bits_per_element"] == 0
    assert lines(empty)[0][:2] == ["all", "0"]
