"""Folders and files of the kernel cache, within one process."""

import ast
import errno
import os
import time
from pathlib import Path

import numpy as np
import pytest

from nmref.kernels import cache, entries, fingerprint
from nmref.kernels.cache import Base
from nmref.kernels.compile import kernel, stats
from tests.test_house import imports_of

root_only = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file away"
)
OTHER = 12345


@pytest.fixture(autouse=True)
def place_of_its_own(monkeypatch, tmp_path):
    """The cache under tmp_path, chosen anew, and chosen anew after the test."""
    monkeypatch.setenv("NMREF_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cache.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cache, "_trouble", [])
    cache.place.cache_clear()
    yield
    cache.place.cache_clear()


def base_names():
    return [(base.name, base.path) for base in cache._bases()]


# --- fingerprint


def test_the_fingerprint_covers_all_that_kernels_import():
    for path in (fingerprint.PACKAGE / "kernels").rglob("*.py"):
        assert fingerprint.covers(str(path))
        for name in imports_of(path):
            parts = name.split(".")[1:]
            module = fingerprint.PACKAGE.joinpath(*parts).with_suffix(".py")
            attribute_of = fingerprint.PACKAGE.joinpath(*parts[:-1])  # `from nmref import name`
            assert module in fingerprint.sources() or attribute_of == fingerprint.PACKAGE
    assert not fingerprint.covers(__file__)
    assert not fingerprint.covers(str(fingerprint.PACKAGE / "tensor" / "fast.py"))


def test_the_fingerprint_depends_on_contents_names_and_versions(monkeypatch, tmp_path):
    package = tmp_path / "nmref"
    (package / "kernels").mkdir(parents=True)
    (package / "a.py").write_text("x = 1")
    monkeypatch.setattr(fingerprint, "PACKAGE", package)

    def found():
        fingerprint.fingerprint.cache_clear()
        return fingerprint.fingerprint()

    seen = [found()]
    os.utime(package / "a.py", (1, 1))
    assert found() == seen[0]
    (package / "a.py").write_text("x = 2")
    seen.append(found())
    (package / "a.py").rename(package / "b.py")
    seen.append(found())
    (package / "kernels" / "c.py").write_text("")
    seen.append(found())
    for module in ("numba", "llvmlite", "np"):
        monkeypatch.setattr(getattr(fingerprint, module), "__version__", "0")
        seen.append(found())
    monkeypatch.setattr(fingerprint.sys, "version", "4")
    seen.append(found())
    monkeypatch.setattr(fingerprint.config, "BOUNDSCHECK", 1)
    seen.append(found())
    assert len(set(seen)) == len(seen)
    monkeypatch.undo()
    fingerprint.fingerprint.cache_clear()


def test_sources_that_cannot_be_read_mean_no_cache(monkeypatch):
    def refuse(self):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))

    fingerprint.fingerprint.cache_clear()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    want = "in memory; sources cannot be read: Not a directory"
    assert cache.place() == cache.Place(None, want)


# --- places


def test_order_of_the_folders(monkeypatch, tmp_path):
    last = ("temporary directory", tmp_path / f"nmref-{os.getuid()}" / "kernels")
    assert base_names() == [("NMREF_CACHE_DIR", tmp_path / "cache" / "kernels"), last]
    monkeypatch.delenv("NMREF_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert base_names() == [("XDG_CACHE_HOME", tmp_path / "xdg" / "nmref" / "kernels"), last]
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for useless in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", useless)
        want = ("home", tmp_path / "home" / ".cache" / "nmref" / "kernels")
        assert base_names() == [want, last]


def test_the_folder_is_ours_alone_and_names_the_cpu():
    found = cache.place().folder
    assert found.name == fingerprint.folder_name()
    assert cache._FOLDER.fullmatch(found.name)
    assert found.stat().st_mode & 0o777 == 0o700
    assert found.parent.stat().st_mode & 0o777 == 0o700


def refused(path: Path, private: Path | None = None) -> str:
    return cache._prepare(Base(path, "test", private), path / fingerprint.folder_name())


def test_a_folder_that_others_can_write_is_refused(tmp_path):
    for mode in (0o770, 0o777, 0o702):
        path = tmp_path / f"open {mode:o}"
        path.mkdir()
        path.chmod(mode)
        assert refused(path) == f"others own {path} or can write it"
        assert not cache._may_read(Base(path, "test"), path)


@root_only
def test_a_folder_of_somebody_else_is_refused(tmp_path):
    path = tmp_path / "theirs"
    path.mkdir(mode=0o700)
    os.chown(path, OTHER, OTHER)
    assert refused(path) == f"others own {path} or can write it"


def test_a_temporary_folder_has_to_be_ours_alone(tmp_path):
    real = tmp_path / "real"
    real.mkdir(mode=0o700)
    assert refused(real / "kernels", real) == ""
    link = tmp_path / "link"
    link.symlink_to(real)
    assert refused(link / "kernels", link) == f"{link} is a link or a file"
    real.chmod(0o755)
    assert refused(real / "kernels", real) == f"{real} is not ours alone"


@root_only
def test_a_temporary_folder_of_somebody_else_is_refused(tmp_path):
    path = tmp_path / "theirs"
    path.mkdir(mode=0o700)
    os.chown(path, OTHER, OTHER)
    assert refused(path / "kernels", path) == f"{path} is not ours alone"


def test_a_planted_temporary_folder_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setenv("NMREF_CACHE_DIR", "/proc/nmref")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / f"nmref-{os.getuid()}").symlink_to(elsewhere)
    found = cache.state()
    assert (found.folder, found.writable, found.files) == (None, False, 0)
    assert "is a link or a file" in found.why
    assert not list(elsewhere.iterdir())


# --- files


def test_entries_come_back_whole(tmp_path):
    path = tmp_path / "a.nmk"
    for body in (b"", b"x", bytes(range(256)) * 1000):
        entries.write(path, body)
        assert entries.read(path) == body
    assert [p.name for p in tmp_path.iterdir()] == ["a.nmk"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_damaged_entries_are_none(tmp_path):
    path = tmp_path / "a.nmk"
    assert entries.read(path) is None
    entries.write(path, b"contents")
    data = path.read_bytes()
    for i in range(len(data)):
        path.write_bytes(data[:i])
        assert entries.read(path) is None
        path.write_bytes(data[:i] + bytes([data[i] ^ 4]) + data[i + 1 :])
        assert entries.read(path) is None


def test_entries_that_others_could_have_made_are_none(tmp_path):
    path, link = tmp_path / "a.nmk", tmp_path / "b.nmk"
    entries.write(path, b"contents")
    link.symlink_to(path)
    assert entries.read(link) is None
    (tmp_path / "c.nmk").mkdir()
    assert entries.read(tmp_path / "c.nmk") is None
    path.chmod(0o620)
    assert entries.read(path) is None


@root_only
def test_entries_of_somebody_else_are_none(tmp_path):
    path = tmp_path / "a.nmk"
    entries.write(path, b"contents")
    os.chown(path, OTHER, OTHER)
    assert entries.read(path) is None


def test_a_failed_write_leaves_the_old_entry(monkeypatch, tmp_path):
    path = tmp_path / "a.nmk"
    entries.write(path, b"old")

    def refuse(self, target):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="full"):
        entries.write(path, b"new")
    assert entries.read(path) == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.nmk"]


# --- state and clearing


def sibling(name: str, days: float = 0) -> Path:
    path = cache.place().folder.parent / name
    path.mkdir()
    (path / "x.nmk").write_bytes(b"123")
    os.utime(path, (time.time() - days * 86400,) * 2)
    return path


STALE = "0123456789abcdef-znver5-01234567"
OLDER = "0123456789abcdef-haswell-01234567"


def test_state_counts_files_bytes_and_stale_folders():
    own = cache.place().folder
    entries.write(own / "a.nmk", b"1234")
    (own / "lock").touch()
    stale = sibling(STALE)
    other_cpu = sibling(f"{fingerprint.fingerprint()[:16]}-haswell-01234567")
    found = cache.state()
    assert (found.folder, found.why, found.writable) == (own, "NMREF_CACHE_DIR", True)
    assert (found.files, found.bytes) == (1, (own / "a.nmk").stat().st_size)
    assert found.stale == (stale,)
    assert other_cpu not in found.stale
    assert found.trouble == ""
    cache.report("first")
    cache.report("last")
    assert cache.state().trouble == "last"


def test_clear_removes_the_cache_and_nothing_else():
    own, stale, mine = cache.place().folder, sibling(STALE), sibling("mine")
    assert cache.clear(stale_only=True) == (stale,)
    assert own.exists()
    stale = sibling(STALE)
    assert cache.clear() == tuple(sorted([own, stale]))
    assert mine.exists()
    assert cache.folder() == own
    assert own.exists()


def test_clear_does_not_follow_links(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (cache.place().folder.parent / STALE).symlink_to(target)
    assert cache.state().stale == ()
    cache.clear()
    assert target.exists()


def test_a_new_folder_removes_old_siblings():
    own, stale, older, mine = (
        cache.place().folder,
        sibling(STALE, 29),
        sibling(OLDER, 31),
        sibling("mine", 31),
    )
    cache.place.cache_clear()
    cache.place()
    assert older.exists()  # ours is not new
    own.rename(own.with_name("gone"))
    cache.place.cache_clear()
    cache.place()
    assert stale.exists()
    assert mine.exists()
    assert not older.exists()


def test_use_keeps_a_folder_young():
    own = cache.place().folder
    os.utime(own, (0, 0))
    cache.place.cache_clear()
    assert cache.place().folder.stat().st_mtime > time.time() - 3600


# --- the decorator


def test_a_kernel_that_the_fingerprint_does_not_cover_is_not_kept(tmp_path):
    @kernel
    def twice(x):
        return x + x

    before = stats()
    assert twice(21) == 42
    assert not (tmp_path / "cache").exists()  # not even looked for
    assert (stats().compiled, stats().loaded) == (before.compiled + 1, before.loaded)
    assert cache.state().files == 0


def test_options_are_those_of_njit():
    @kernel(error_model="numpy")
    def divide(x, y):
        return x / y

    @kernel
    def plain(x, y):
        return x / y

    assert np.isinf(divide(1.0, 0.0))
    with pytest.raises(ZeroDivisionError):
        plain(1.0, 0.0)
    assert divide.targetoptions["nogil"]
    assert not kernel(nogil=False)(lambda x: x).targetoptions["nogil"]
    assert kernel(lambda x: x, forceinline=True).targetoptions["forceinline"]


def test_every_kernel_of_the_package_uses_our_cache():
    """Numba's own would run stale kernels."""
    for path in (fingerprint.PACKAGE / "kernels").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(node, "attr", getattr(node, "id", ""))
            assert name not in ("njit", "jit") or path.stem == "compile", path
