"""Reading one tensor at a time, and when the digest is compared: SPEC 6.12."""

import re
from pathlib import Path

import numpy as np
import pytest

import nmref
from nmref import NmrefError, SparseWeight, load, save, verify
from nmref.container import NMFile
from nmref.container.safetensors import RawFile
from tests.container.draft import draft, minimal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with the weights a, b, c and the tensors empty and norm."""
    (tmp_path / "f.safetensors").write_bytes(draft().build())
    return tmp_path / "f.safetensors"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tensors whose data have been asked for, in order, each once."""
    names: list[str] = []
    data = RawFile.data

    def record(self: RawFile, name: str) -> memoryview:
        if name not in names:
            names.append(name)
        return data(self, name)

    monkeypatch.setattr(RawFile, "data", record)
    return names


def spoiled(path: Path) -> Path:
    """The same file with another digest."""
    made = draft()
    made.document["content_sha256"] = "0" * 64
    path.write_bytes(made.build())
    return path


def code(call: object, *args: object) -> str:
    with pytest.raises(NmrefError) as caught:
        call(*args)  # type: ignore[operator]
    return caught.value.code


def test_load_reads_no_data(path: Path, read: list[str]):
    file = load(path)
    assert list(file) == ["a", "b", "c", "empty", "norm"]
    assert len(file) == 5
    assert isinstance(file, NMFile)
    assert file.weights["b"].shape == (2, 6)
    assert read == []


def test_getitem_reads_the_parts_of_one_weight_only(path: Path, read: list[str]):
    file = load(path)
    assert isinstance(file["b"], SparseWeight)
    assert set(read) == {f"b.{suffix}" for suffix in draft().parts("b")}
    read.clear()
    assert isinstance(file["norm"], np.ndarray)
    assert read == ["norm"]


def test_getitem_knows_no_parts_and_no_other_names(path: Path):
    file = load(path)
    for name in ("a.nm_values", "nothing", "b.nm_scale", ""):
        with pytest.raises(KeyError):
            file[name]
        assert name not in file
    assert "a" in file


def test_getitem_compares_the_digest_when_the_last_tensor_has_been_read(path: Path):
    names = ["norm", "c", "a", "empty", "b"]
    for last in range(5):
        order = names[last + 1 :] + names[: last + 1]
        file = load(spoiled(path))
        for name in order[:-1]:
            file[name]
            file[name]
        assert code(file.__getitem__, order[-1]) == "E_DIGEST"
    assert code(verify, path) == "E_DIGEST"


def test_getitem_checks_the_content_of_one_weight_only(path: Path):
    made = draft()
    made.patch("b.nm_codes", 0, 0x40, 0x40)
    path.write_bytes(made.build())
    file = load(path)
    for name in ("a", "c", "norm", "empty"):
        file[name]
    assert code(file.__getitem__, "b") == "E_PAD"
    assert code(verify, path) == "E_PAD"


def test_read_all_finds_faults_of_every_weight_before_the_digest(path: Path):
    made = draft()
    made.document["content_sha256"] = "0" * 64
    made.patch("c.nm_codes", 0, 0x40, 0x40)
    path.write_bytes(made.build())
    file, found = NMFile(path), []

    def read_all() -> None:
        for name, _ in file.read_all():
            found.append(name)

    assert code(read_all) == "E_PAD"
    assert found == ["a", "b"]


def test_verify_checks_the_digest_of_a_file_without_tensors(path: Path):
    made = minimal()
    made.tensors.clear()
    made.document["tensors"] = {}
    path.write_bytes(made.build())
    assert verify(path)[0].tensors == 0
    made.document["content_sha256"] = "0" * 64
    path.write_bytes(made.build())
    assert len(load(path)) == 0
    assert code(verify, path) == "E_DIGEST"


def test_verify_reports_each_file_with_its_warnings(path: Path):
    dense = np.array([[0, 0, 0, np.inf]], dtype=np.float32)
    mask = np.array([[False, False, True, True]])
    good = nmref.encode(np.eye(4, dtype=np.float32), "2:4")
    digest = save(path, {"w": nmref.encode(dense, "2:4", mask=mask), "v": good, "t": np.zeros(2)})
    seen: list[str] = []
    (report,) = verify(path, seen.append)
    assert (report.path, report.content_sha256) == (str(path), digest)
    assert (report.bytes, report.weights, report.tensors) == (path.stat().st_size, 2, 1)
    assert report.warnings == [
        "W_NONCANON w: slots differ from those of encoding without masks",
        "W_NONFINITE w: 1 stored values are infinite or NaN",
    ]
    assert seen == ["v", "w", "t"]
    assert [name for name, _ in NMFile(path).read_all()] == ["v", "w", "t"]


def test_load_says_what_cannot_be_opened(tmp_path: Path):
    for target in (tmp_path / "nothing", tmp_path / "no" / "nothing", tmp_path):
        with pytest.raises(NmrefError, match=rf"^T_FILE {re.escape(str(target))}: .*, want .*"):
            load(target)
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(NmrefError, match=r"^E_HEADER \S+empty: 0 bytes, want at least 8$"):
        load(tmp_path / "empty")


def test_arrays_of_a_file_cannot_be_written_to(path: Path):
    file = load(path)
    weight, norm = file["b"], file["norm"]
    assert isinstance(weight, SparseWeight)
    assert isinstance(norm, np.ndarray)
    for array in (weight.base.values, weight.base.codes, norm):
        assert not array.flags.writeable
    dense = weight.to_dense()
    dense[:] = 0
    assert weight.to_dense().any()
