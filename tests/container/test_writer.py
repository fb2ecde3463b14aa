"""The canonical file: SPEC 5.19, 5.20 and 9.3."""

import json
import random
import re
from itertools import permutations
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors

import nmref
from nmref import NmrefError
from nmref.container import NMFile, save, save_stream
from nmref.dtypes import CONTAINER_DTYPES
from nmref.tensor import NMMatrix, SparseWeight
from tests.cases import BASE_PATTERNS, DTYPES, FLOATS, OUT_PATTERNS, dense_of, random_case
from tests.container.draft import SIZES, Draft, draft, minimal
from tests.witness import (
    WITNESSES,
    Part,
    Parts,
    Spec,
    Witness,
    as_array,
    every_witness,
)

Weights = dict[str, tuple[Spec, Parts]]


def contents(seed: int) -> tuple[Weights, Parts, dict[str, Any]]:
    """Weights, other tensors, and what each weight decodes to."""
    rng, chance = np.random.default_rng(seed), random.Random(seed)
    weights, others, dense = {}, {}, {}
    for number in range(chance.randrange(4)):
        out = None
        if chance.random() < 0.6:
            coding = chance.choice(["idx8", "colex"])
            out = (chance.choice(FLOATS), chance.choice(OUT_PATTERNS), coding)
        shape = (chance.randrange(4), chance.choice([1, 7, 33, 260]))
        dtype, pattern = chance.choice(DTYPES), chance.choice([*BASE_PATTERNS, "3:7"])
        case = random_case(rng, dtype, pattern, shape, out, chance.random() < 0.5)
        name = chance.choice(["layer.%d.w", "%d", "~w%d", "a/b/%d", "W.%d.nm_"]) % number + ".x"
        weights[name] = case.spec, WITNESSES[0].encode(case)
        dense[name] = dense_of(case)
    for number in range(chance.randrange(6)):
        part = random_part(chance, chance.choice([*SIZES]))
        others[chance.choice(["norm.%d", "A%d", "!%d", "nm_values%d"]) % number] = part
    return weights, others, dense


def random_part(chance: random.Random, dtype: str) -> Part:
    shape = tuple(chance.randrange(4) for _ in range(chance.randrange(4)))
    count = int(np.prod(shape, dtype=int))
    return dtype, shape, chance.randbytes(count * SIZES[dtype])


@pytest.mark.parametrize("seed", range(25))
def test_write_gives_the_same_bytes_as_the_text_of_the_specification(seed: int):
    weights, others, _ = contents(seed)
    want = Draft(weights, others).build()
    for witness in WITNESSES:
        assert witness.write(weights, others) == want, witness.name


@every_witness
@pytest.mark.parametrize("seed", range(25, 40))
def test_read_gives_back_what_was_written(witness: Witness, seed: int):
    weights, others, dense = contents(seed)
    found = witness.read(WITNESSES[0].write(weights, others))
    assert found.keys() == weights.keys() | others.keys()
    for name, (dtype, array) in dense.items():
        assert found[name][0] == dtype
        assert np.array_equal(found[name][1], array)
    for name, part in others.items():
        dtype, array = found[name]
        assert (dtype, array.shape, array.tobytes()) == part


@every_witness
@pytest.mark.parametrize("dtype", SIZES)
def test_read_keeps_all_bits_of_every_container_dtype(witness: Witness, dtype: str):
    chance = random.Random(dtype)
    others = {f"t{len(shape)}": random_part(chance, dtype) for shape in ((), (1,))}
    others["scalar"] = (dtype, (), bytes(range(200, 200 + SIZES[dtype])))
    others["all"] = (dtype, (256,), bytes(range(256)) * SIZES[dtype])
    others["none"] = (dtype, (3, 0, 2), b"")
    for writer in WITNESSES:
        found = witness.read(writer.write({}, others))
        assert {name: (d, a.shape, a.tobytes()) for name, (d, a) in found.items()} == others


def test_save_gives_equal_bytes_for_every_order_of_equal_content(tmp_path: Path):
    dense = np.eye(2, 16, dtype=np.float16)
    tensors = {
        "b": nmref.encode(dense),
        "a": nmref.encode(dense.astype(ml_dtypes.bfloat16), outliers=np.roll(dense, 1, axis=1)),
        "norm": np.ones(3, np.float32),
        "zero": np.zeros((2, 0), np.int64),
    }
    files, digests = set(), set()
    for number, names in enumerate(permutations(tensors)):
        path = tmp_path / str(number)
        digests.add(save(path, {name: tensors[name] for name in names}))
        files.add(path.read_bytes())
    assert len(files) == len(digests) == 1
    specs = {
        name: t.spec if isinstance(t, SparseWeight) else (n, t.shape)
        for (name, t), n in zip(tensors.items(), ("", "", "F32", "I64"), strict=True)
    }
    path = tmp_path / "stream"
    digests.add(save_stream(path, specs, reversed(tensors.items())))
    assert {path.read_bytes()} == files
    assert digests == {NMFile(path).metadata.content_sha256}


def test_save_copies_strided_and_foreign_memory(tmp_path: Path):
    wide = np.arange(24, dtype=np.float32).reshape(4, 6)
    save(tmp_path / "f", {"t": wide.T, "s": wide[:, ::2], "r": wide[::-1]})
    found = NMFile(tmp_path / "f")
    assert np.array_equal(found["t"], wide.T)
    assert np.array_equal(found["s"], wide[:, ::2])
    assert np.array_equal(found["r"], wide[::-1])
    sparse = np.zeros((16, 2), dtype=np.float32)
    sparse[3] = 7
    save(tmp_path / "g", {"w": nmref.encode(sparse.T)})
    assert np.array_equal(NMFile(tmp_path / "g")["w"].to_dense(), sparse.T)


@pytest.mark.parametrize("seed", range(10))
def test_save_aligns_every_tensor_and_orders_the_header(seed: int):
    weights, others, _ = contents(seed)
    data = WITNESSES[1].write(weights, others)
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    header = json.loads(data[8 : 8 + length])
    assert next(iter(header)) == "__metadata__"
    entries = list(header.items())[1:]
    assert entries == sorted(entries, key=lambda entry: (-SIZES[entry[1]["dtype"]], entry[0]))
    at = 0
    for _, entry in entries:
        assert list(entry) == ["dtype", "shape", "data_offsets"]
        assert entry["data_offsets"][0] == at
        assert (8 + length + at) % SIZES[entry["dtype"]] == 0
        at = entry["data_offsets"][1]
    assert 8 + length + at == len(data)


def test_safetensors_library_opens_what_save_writes(tmp_path: Path):
    made = draft()
    kept = {"scalar": ("U64", (), bytes(8)), "flags": ("BOOL", (2,), b"\0\1")}
    weights = {name: (made.document["tensors"][name], made.parts(name)) for name in "abc"}
    (tmp_path / "f").write_bytes(WITNESSES[1].write(weights, kept))
    with safetensors.safe_open(tmp_path / "f", "np") as opened:
        assert list(opened.metadata()) == ["nmref"]
        names = {f"{name}.{suffix}" for name in "abc" for suffix in made.parts(name)}
        assert set(opened.keys()) == names | kept.keys()
        for name in names:
            array = opened.get_tensor(name)
            assert (array.shape, array.tobytes()) == made.tensors[name][1:]


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("E_HEADER", ["a b"]),
        ("E_HEADER", [""]),
        ("E_HEADER", ["a" * 513]),
        ("E_HEADER", ["__metadata__"]),
        ("E_HEADER", ['a"b']),
        ("E_HEADER", ["\u00e9"]),
        ("E_HEADER", ['a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"b']),
        ("E_UNEXPECTED", ["a.nm_values"]),
        ("E_UNEXPECTED", ["x.nm_"]),
    ],
)
def test_save_refuses_tensors_that_no_reader_takes(tmp_path: Path, code: str, names: list[str]):
    (tmp_path / "f").write_text("old")
    with pytest.raises(NmrefError) as caught:
        save(tmp_path / "f", {name: np.zeros(1, np.uint8) for name in names})
    assert caught.value.code == code
    assert (tmp_path / "f").read_text() == "old"


@pytest.mark.parametrize("part", ["nm_codes", "nm_values", "nm_scale"])
def test_save_refuses_a_tensor_in_the_place_of_a_part(tmp_path: Path, part: str):
    weight = nmref.encode(np.eye(1, 4, dtype=np.float32), "2:4")
    other = weight.parts().get(part, np.zeros(1, np.float32)) + 1
    with pytest.raises(NmrefError) as caught:
        save(tmp_path / "f", {"w": weight, f"w.{part}": other})
    assert caught.value.code == "E_UNEXPECTED"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["w.nm_x", "a b", "\u00e9", "", "__metadata__", 'a"'])
def test_save_refuses_weights_that_no_reader_takes(tmp_path: Path, name: str):
    with pytest.raises(NmrefError) as caught:
        save(tmp_path / "f", {name: nmref.encode(np.eye(4, dtype=np.float32), "2:4")})
    assert caught.value.code in {"E_META", "E_HEADER"}
    assert list(tmp_path.iterdir()) == []


def test_save_refuses_arrays_of_no_container_dtype(tmp_path: Path):
    for array in (np.zeros(1, ">f4"), np.zeros(1, np.complex128), np.array(["x"])):
        with pytest.raises(NmrefError, match=r"^X_DTYPE array: dtype .*, want a safetensors dtype"):
            save(tmp_path / "f", {"x": array})
    assert list(tmp_path.iterdir()) == []


def spoiled(weight: SparseWeight, **change: Any) -> SparseWeight:
    base = weight.base
    members = {"values": base.values, "codes": base.codes} | change
    return SparseWeight(NMMatrix(base.pattern, base.columns, scale=base.scale, **members))


def test_save_refuses_weights_whose_parts_are_wrong(tmp_path: Path):
    good = nmref.encode(np.eye(2, 64, dtype=np.float16))
    wrong = {
        "E_CODE_RANGE": spoiled(good, codes=np.full_like(good.base.codes, 255)),
        "E_SHAPE": spoiled(good, codes=good.base.codes[:, :5]),
    }
    for code, weight in wrong.items():
        with pytest.raises(NmrefError, match=rf"^{code} w\b"):
            save(tmp_path / "f", {"w": weight})
    assert list(tmp_path.iterdir()) == []


def test_save_stream_refuses_what_was_not_announced(tmp_path: Path):
    specs = {"a": ("F32", (2,)), "b": ("F32", (1,))}
    one, two = np.zeros(1, np.float32), np.zeros(2, np.float32)
    for tensors, message in (
        ([("a", two)], "T_TENSOR b: nothing, want the tensor that was announced"),
        ([("a", one)], "T_TENSOR a: .*as announced"),
        ([("a", two), ("b", one), ("c", one)], "T_TENSOR c: .*, want None, as announced"),
        ([("a", two.astype(np.int32)), ("b", one)], "T_TENSOR a: .*as announced"),
    ):
        with pytest.raises(NmrefError) as caught:
            save_stream(tmp_path / "f", specs, iter(tensors))
        assert re.fullmatch(message, str(caught.value))
    assert list(tmp_path.iterdir()) == []


def test_container_dtypes_are_those_of_the_specification():
    assert {name: dtype.itemsize for name, dtype in CONTAINER_DTYPES.items()} == SIZES
    assert as_array(("F8_E4M3", (1,), b"\x7f")).dtype == ml_dtypes.float8_e4m3fn
    found = WITNESSES[1].read(minimal().build())["w"][1]
    assert found.tolist() == [[0x3C00]]
