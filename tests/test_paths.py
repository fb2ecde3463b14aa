"""Where the cache is."""

import os

from nmref.paths import cache_home


def test_the_first_setting_that_is_there_names_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("NMREF_CACHE_DIR", str(tmp_path / "named"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    assert cache_home() == ("NMREF_CACHE_DIR", tmp_path / "named")
    monkeypatch.delenv("NMREF_CACHE_DIR")
    assert cache_home() == ("XDG_CACHE_HOME", tmp_path / "xdg" / "nmref")
    for useless in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", useless)
        assert cache_home() == ("home", tmp_path / "home" / ".cache" / "nmref")


def test_a_relative_name_is_meant_from_here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NMREF_CACHE_DIR", "here")
    assert cache_home() == ("NMREF_CACHE_DIR", tmp_path / "here")


def test_without_a_home_there_is_none(monkeypatch):
    for name in ("NMREF_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert cache_home() is None
