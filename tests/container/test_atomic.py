"""Files and folders appear whole or not at all."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmref import NmrefError, load, save
from nmref.container import save_stream
from nmref.container.atomic import new_file, new_folder
from nmref.container.safetensors import write_raw

ONES = np.ones(3, np.float32)


class Interrupted(Exception):
    """Not an error of nmref."""


def breaking(tensors: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from tensors.items()
    raise Interrupted


@pytest.mark.parametrize("old", [None, b"old"])
def test_save_stream_leaves_the_old_file_and_nothing_else(tmp_path: Path, old: bytes | None):
    path = tmp_path / "f"
    if old is not None:
        path.write_bytes(old)
    specs = {"a": ("F32", (3,)), "b": ("F32", (3,))}
    with pytest.raises(Interrupted):
        save_stream(path, specs, breaking({"a": ONES}))
    with pytest.raises(Interrupted):
        save_stream(path, specs, breaking({"a": ONES, "b": ONES}))
    assert [p.name for p in tmp_path.iterdir()] == ([] if old is None else ["f"])
    assert old is None or path.read_bytes() == old
    save(path, {"a": ONES, "b": ONES})
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert list(load(path)) == ["a", "b"]


def test_save_shows_nothing_until_the_file_is_whole(tmp_path: Path):
    path = tmp_path / "f"

    def look() -> Iterator[tuple[str, Any]]:
        yield "a", ONES
        seen.append(path.exists())
        seen.append(len(list(tmp_path.iterdir())) == 1)
        yield "b", ONES

    seen: list[bool] = []
    save_stream(path, {"a": ("F32", (3,)), "b": ("F32", (3,))}, look())
    assert seen == [False, True]


def test_write_raw_refuses_before_it_makes_a_file(tmp_path: Path):
    with pytest.raises(NmrefError, match=r"^X_DTYPE "):
        write_raw(tmp_path / "f", {"a": ONES, "x": np.array(["text"])}, {})
    assert list(tmp_path.iterdir()) == []


def test_new_file_obeys_the_umask_and_replaces(tmp_path: Path):
    path, old = tmp_path / "f", os.umask(0o027)
    try:
        for text in (b"one", b"two"):
            with new_file(path) as file:
                file.write(text)
            assert path.read_bytes() == text
            assert path.stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(old)


def test_new_file_leaves_no_temporary_when_the_process_is_interrupted(tmp_path: Path):
    def write() -> None:
        with new_file(tmp_path / "f") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert list(tmp_path.iterdir()) == []


def test_new_folder_appears_whole_or_not_at_all(tmp_path: Path):
    def fill(target: Path, stop: bool) -> None:
        with new_folder(target) as folder:
            (folder / "a").write_text("a")
            assert not target.exists() or not any(target.iterdir())
            if stop:
                raise Interrupted

    target = tmp_path / "x"
    with pytest.raises(Interrupted):
        fill(target, stop=True)
    assert list(tmp_path.iterdir()) == []
    target.mkdir()
    fill(target, stop=False)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert (target / "a").read_text() == "a"
    for taken in (target, target / "a", tmp_path / "no" / "such"):
        with pytest.raises(NmrefError, match=r"^T_FILE "):
            fill(taken, stop=False)
    assert (target / "a").read_text() == "a"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
