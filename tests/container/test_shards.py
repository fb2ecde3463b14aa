"""Files of one model and their index: SPEC 5.21 and 5.22."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmref import NmrefError, SparseWeight, encode, load, save, verify
from nmref.container import (
    FILE_NAME,
    INDEX_NAME,
    NMFile,
    NMShards,
    files_of,
    model_digest,
    save_model,
)
from tests.container.draft import Draft, compact, digest, draft

EYE = np.eye(4, 32, dtype=np.float16)
FIRST, SECOND = "model-1-of-2.safetensors", "model-2-of-2.safetensors"


def index_of(folder: Path, *names: str) -> dict[str, Any]:
    """The index of SPEC 5.22, made from the files' headers."""
    files = {name: NMFile(folder / name).raw for name in names}
    total = sum(entry.nbytes for raw in files.values() for entry in raw.entries.values())
    found = {tensor: name for name, raw in files.items() for tensor in raw.entries}
    return {"metadata": {"total_size": total}, "weight_map": found}


def put(folder: Path, index: Any) -> Path:
    path = folder / INDEX_NAME
    path.write_text(compact(index) + "\n")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards with an index: the weights a, b, the tensors norm, embed."""
    save(tmp_path / FIRST, {"b": encode(EYE), "norm": np.ones(3, np.float32)})
    save(tmp_path / SECOND, {"a": encode(EYE * 2, outliers=EYE * 0), "embed": EYE})
    put(tmp_path, index_of(tmp_path, FIRST, SECOND))
    return tmp_path


def refused(path: Path) -> str:
    with pytest.raises(NmrefError) as caught:
        dict(load(path))
    assert caught.value.code == "T_FILE"
    return str(caught.value)


def test_load_gives_all_tensors_of_all_shards(folder: Path):
    for path in (folder, folder / INDEX_NAME, str(folder)):
        model = load(path)
        assert isinstance(model, NMShards)
        assert list(model) == ["a", "b", "embed", "norm"]
        assert len(model) == 4
        weight = model["a"]
        assert isinstance(weight, SparseWeight)
        assert np.array_equal(weight.to_dense(), EYE * 2)
        assert np.array_equal(model["norm"], np.ones(3))
        with pytest.raises(KeyError):
            model["a.nm_values"]


def test_load_checks_the_digest_of_each_shard_alone(folder: Path):
    raw = bytearray((folder / SECOND).read_bytes())
    at = NMFile(folder / SECOND).raw
    raw[at.data_start + at.entries["embed"].begin] ^= 1
    (folder / SECOND).write_bytes(raw)
    model = load(folder)
    assert sorted([*model["b"].parts(), *np.shape(model["norm"])], key=str)
    model["a"]
    with pytest.raises(NmrefError, match=r"^E_DIGEST \S+model-2-of-2"):
        model["embed"]
    with pytest.raises(NmrefError, match=r"^E_DIGEST "):
        verify(folder)


def test_files_of_finds_one_file_a_folder_or_the_shards(folder: Path):
    assert files_of(folder / FIRST) == [folder / FIRST]
    assert files_of(folder) == files_of(folder / INDEX_NAME) == [folder / FIRST, folder / SECOND]
    assert [report.path for report in verify(folder)] == [str(folder / FIRST), str(folder / SECOND)]
    save(folder / FILE_NAME, {"x": EYE})
    assert files_of(folder) == [folder / FILE_NAME]
    found = load(folder)
    assert isinstance(found, NMFile)
    assert list(found) == ["x"]


def test_load_needs_a_file_or_an_index(tmp_path: Path):
    assert FILE_NAME in refused(tmp_path)
    assert "index of shards" in refused(tmp_path / INDEX_NAME)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b"null",
        b'"weight_map"',
        b"{}",
        b'{"weight_map":null}',
        b'{"weight_map":[]}',
        b'{"weight_map":["model-1-of-2.safetensors"]}',
        b'{"weight_map":{"norm":null}}',
        b'{"weight_map":{"norm":1}}',
        b'{"weight_map":{"norm":["x"]}}',
        b'{"weight_map":{"norm":""}}',
        b"\xff\xfe{}",
        b'{"weight_map":' + b"[" * 100_000,
    ],
)
def test_load_refuses_an_index_of_another_form(folder: Path, text: bytes):
    (folder / INDEX_NAME).write_bytes(text)
    assert INDEX_NAME in refused(folder)


@pytest.mark.parametrize(
    "name", [".", "..", "../x", "/etc/passwd", "a/b", "./x", "a\\b", "..\\x", "a\0b", "\0"]
)
def test_load_opens_no_file_outside_the_folder(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    index = index_of(folder, FIRST, SECOND)
    index["weight_map"]["norm"] = name
    put(folder, index)
    opened: list[Path] = []
    real = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *a, **k: opened.append(self) or real(self, *a, **k)
    )
    assert INDEX_NAME in refused(folder)
    assert {path.name for path in opened} <= {INDEX_NAME}


def test_load_refuses_an_index_that_does_not_fit_its_files(folder: Path):
    def changed(**weight_map: Any) -> str:
        index = index_of(folder, FIRST, SECOND)
        for name, file in weight_map.items():
            index["weight_map"][name.replace("_nm", ".nm")] = file
            if file is None:
                del index["weight_map"][name.replace("_nm", ".nm")]
        put(folder, index)
        return refused(folder)

    assert "norm: in model-1-of-2.safetensors, want model-2-of-2" in changed(norm=SECOND)
    assert "norm: in model-1-of-2.safetensors, want None" in changed(norm=None)
    assert "more: in None, want model-1-of-2" in changed(more=FIRST)
    assert "a.nm_codes: in model-2-of-2.safetensors, want None" in changed(a_nm_codes=None)
    assert "b.nm_codes: in model-1" in changed(b_nm_codes=SECOND)
    assert "model-3-of-2.safetensors: No such file" in changed(norm="model-3-of-2.safetensors")


def test_load_refuses_a_name_in_two_shards(folder: Path):
    save(folder / SECOND, {"norm": EYE})
    put(folder, index_of(folder, FIRST, SECOND))
    assert "norm: in model-2-of-2.safetensors too, want one shard" in refused(folder)
    save(folder / SECOND, {"b": EYE})
    put(folder, index_of(folder, FIRST, SECOND))
    assert "b: in model-2-of-2.safetensors too, want one shard" in refused(folder)


def test_load_refuses_a_weight_split_over_two_files(folder: Path):
    made = index_of(folder, FIRST, SECOND)
    made["weight_map"]["a.nm_codes"] = FIRST
    put(folder, made)
    assert "a.nm_codes: in model-2-of-2.safetensors, want model-1-of-2" in refused(folder)


def test_an_index_is_json_of_any_form(folder: Path):
    index = json.loads((folder / INDEX_NAME).read_text())
    (folder / INDEX_NAME).write_text(json.dumps(dict(reversed(index.items())), indent=2))
    assert len(load(folder)) == 4


TENSORS = {"b": encode(EYE), "norm": np.ones(3, np.float32), "a": encode(EYE * 2, outliers=EYE * 0)}
SPECS = {
    name: tensor.spec if isinstance(tensor, SparseWeight) else ("F32", tensor.shape)
    for name, tensor in TENSORS.items()
}


@pytest.mark.parametrize(("most", "count"), [(10**6, 1), (400, 2), (1, 3)])
def test_save_model_splits_by_size_and_writes_the_index(tmp_path: Path, most: int, count: int):
    files = save_model(tmp_path, SPECS, TENSORS.items(), most)
    names = [file.name for file in files]
    assert len(files) == count
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        names if count == 1 else [*names, INDEX_NAME]
    )
    if count > 1:
        text = (tmp_path / INDEX_NAME).read_bytes()
        assert text == (compact(index_of(tmp_path, *names)) + "\n").encode()
    assert [report.path for report in verify(tmp_path)] == [str(file) for file in files]
    found = load(tmp_path)
    assert list(found) == sorted(TENSORS)
    weight = found["a"]
    assert isinstance(weight, SparseWeight)
    assert np.array_equal(weight.to_dense(), EYE * 2)
    for file in files:
        raw = NMFile(file).raw
        assert sum(entry.nbytes for entry in raw.entries.values()) <= most or len(NMFile(file)) == 1


def test_save_model_refuses_tensors_in_another_order(tmp_path: Path):
    with pytest.raises(NmrefError, match=r"^T_TENSOR "):
        save_model(tmp_path, SPECS, reversed(TENSORS.items()), 1)
    with pytest.raises(NmrefError, match=r"^T_TENSOR "):
        save_model(tmp_path, SPECS, list(TENSORS.items())[:-1], 1)
    assert not (tmp_path / INDEX_NAME).exists()


def test_model_digest_is_that_of_the_union_however_it_is_split(tmp_path: Path):
    whole = draft()
    whole.document["x-a"] = "y"
    want = digest(whole.tensors, whole.document)
    names = ["a", "b", "c", "empty", "norm"]
    for cut in (1, 2, 4):
        folder = tmp_path / str(cut)
        folder.mkdir()
        for file, chosen in ((FIRST, names[:cut]), (SECOND, names[cut:])):
            part = Draft({})
            part.document["tensors"] = {
                n: whole.document["tensors"][n] for n in chosen if n in "abc"
            }
            part.document |= {"x-a": "y"} if file == FIRST else {}
            part.tensors = {n: t for n, t in whole.tensors.items() if n.split(".")[0] in chosen}
            (folder / file).write_bytes(part.build())
        put(folder, index_of(folder, FIRST, SECOND))
        assert model_digest(folder) == want


@pytest.mark.parametrize(
    "change",
    [{"spec": "1.1"}, {"x-a": "z"}],
    ids=["another version", "another extension"],
)
def test_model_digest_is_not_defined_for_files_that_differ(tmp_path: Path, change: dict[str, str]):
    for file, more in ((FIRST, {"x-a": "y"}), (SECOND, {"x-a": "y"} | change)):
        part = Draft({}, {file: ("U8", (1,), b"\0")})
        part.document |= more
        (tmp_path / file).write_bytes(part.build())
    put(tmp_path, index_of(tmp_path, FIRST, SECOND))
    with pytest.raises(NmrefError, match=r"^T_FILE "):
        model_digest(tmp_path)
