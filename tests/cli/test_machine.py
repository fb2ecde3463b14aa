"""What doctor reads of the machine."""

import os

import pytest

from nmref.cli import machine


def files(monkeypatch, contents):
    """What the system's files say; others are not there."""
    monkeypatch.setattr(machine, "_read", lambda path: contents.get(str(path), ""))


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("/home/ada/.cache/nmref", "~/.cache/nmref"),
        ("/home/ada", "~"),
        ("/home/adam/x, /home/ada.b/x", "/home/adam/x, /home/ada.b/x"),
        ("a; not home (/home/ada/.cache: full)", "a; not home (~/.cache: full)"),
        ("/scratch/ada/x and /scratch/ada", "/scratch/USER/x and /scratch/USER"),
        ("no such names: ada", "no such names: ada"),
    ],
)
def test_private_names_no_user(monkeypatch, text, want):
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("USERPROFILE", "/home/ada")
    monkeypatch.setenv("USER", "ada")
    monkeypatch.delenv("LOGNAME", raising=False)
    assert machine.private(text) == want


def test_private_leaves_the_root_folder(monkeypatch):
    for name in ("USER", "LOGNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/")
    monkeypatch.setenv("USERPROFILE", "/")
    assert machine.private("/opt/x") == "/opt/x"


@pytest.mark.parametrize(
    ("contents", "want"),
    [
        ({}, None),
        ({machine._QUOTAS[0]: "max 100000"}, None),
        ({machine._QUOTAS[0]: "150000 100000"}, 1.5),
        ({machine._QUOTAS[1]: "-1", machine._PERIOD: "100000"}, None),
        ({machine._QUOTAS[1]: "50000", machine._PERIOD: "100000"}, 0.5),
        ({machine._QUOTAS[1]: "50000"}, None),
        ({machine._QUOTAS[0]: "1 0"}, None),
    ],
)
def test_quota_of_both_kinds_of_control_groups(monkeypatch, contents, want):
    files(monkeypatch, contents)
    assert machine.quota() == want


def test_cores_are_counted_by_their_threads(monkeypatch):
    place = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    pairs = {place.format(cpu): f"{cpu % 2},{cpu % 2 + 2}" for cpu in range(4)}
    files(monkeypatch, pairs)
    assert machine.cores(4) == 2
    files(monkeypatch, {})
    assert machine.cores(4) == 4


def test_memory_and_model(monkeypatch):
    files(monkeypatch, {"/proc/meminfo": "MemTotal:  8 kB\nMemFree: 1 kB\nMemAvailable:   2 kB"})
    assert machine.memory() == (8192, 2048)
    files(monkeypatch, {"/proc/cpuinfo": "processor\t: 0\nmodel name\t: Some CPU\n"})
    assert machine.cpu_model() == "Some CPU"
    files(monkeypatch, {})
    assert machine.memory() == (0, 0)
    assert isinstance(machine.cpu_model(), str)


def test_settings_are_those_that_matter(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("NMREF_CACHE_DIR", "/home/ada/cache")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("SECRET_TOKEN", "x")
    found = machine.settings()
    assert found["NMREF_CACHE_DIR"] == "~/cache"
    assert found["OMP_NUM_THREADS"] == "3"
    assert "SECRET_TOKEN" not in found


def test_versions_and_system():
    assert list(machine.versions()) == ["nmref", "python", "numpy", "numba", "llvmlite", "llvm"]
    assert os.uname().nodename not in machine.system().split()
