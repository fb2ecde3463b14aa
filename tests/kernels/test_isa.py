"""Which ISA is chosen, on machines that are made up here, and on this one."""

import errno
import os
import subprocess
import sys

import pytest

from nmref.errors import NmrefError
from nmref.kernels import isa

SKYLAKE = isa.NEEDS["avx512"] - {"avx512vbmi", "avx512vbmi2"}
ALL = tuple(isa.NEEDS)


@pytest.fixture
def machine(monkeypatch):
    """Set up a machine: features of the CPU, those of Numba's target, what Linux says to AMX."""
    monkeypatch.delenv("NMREF_ISA", raising=False)
    asked = []

    def set_up(has, target=None, name=None, refusal=0, kind="x86_64", system="linux", jit=True):
        text = ",".join(f"+{feature}" for feature in sorted(has)) if target is None else target
        monkeypatch.setattr(isa, "features", lambda: frozenset(has))
        monkeypatch.setattr(isa, "get_host_cpu_features", lambda: text)
        monkeypatch.setattr(isa.config, "CPU_FEATURES", target)
        monkeypatch.setattr(isa.config, "CPU_NAME", name)
        monkeypatch.setattr(isa.config, "DISABLE_JIT", not jit)
        monkeypatch.setattr(isa.platform, "machine", lambda: kind)
        monkeypatch.setattr(isa.sys, "platform", system)
        monkeypatch.setattr(isa, "_request_tiles", lambda: asked.append(1) or refusal)
        isa._amx_refusal.cache_clear()
        return asked

    yield set_up
    isa._amx_refusal.cache_clear()


LADDER = {
    "nothing": (set(), 1),
    "no f16c": (isa.NEEDS["avx2"] - {"f16c"}, 1),
    "AVX2": (isa.NEEDS["avx2"], 2),
    "AVX-512 without VBMI": (SKYLAKE, 2),
    "AVX-512 without FMA": (isa.NEEDS["avx512"] - {"fma"}, 1),
    "AVX-512": (isa.NEEDS["avx512"], 3),
    "AMX without bf16": (isa.NEEDS["amx"] - {"amx-bf16"}, 3),
    "AMX": (isa.NEEDS["amx"], 4),
}


@pytest.mark.parametrize(("has", "count"), LADDER.values(), ids=LADDER)
def test_ladder(machine, has, count):
    machine(has)
    assert isa.available() == ALL[:count]
    assert isa.chosen() == ALL[count - 1]
    assert isa.why().startswith(ALL[count - 1] + ": ")


def test_reasons(machine):
    machine(isa.NEEDS["amx"])
    assert isa.why() == "amx: the best there is"
    machine(SKYLAKE)
    want = "avx2: avx512 cannot be used, the CPU or the system lacks avx512vbmi, avx512vbmi2"
    assert isa.why() == want
    machine(isa.NEEDS["amx"], kind="aarch64")
    assert isa.why() == "portable: avx2 cannot be used, the machine is aarch64"
    machine(isa.NEEDS["amx"], jit=False)
    assert isa.why() == "portable: avx2 cannot be used, NUMBA_DISABLE_JIT is set"
    machine(isa.NEEDS["amx"], target="-avx512f", name="haswell")
    assert isa.why() == (
        "portable: avx2 cannot be used, Numba's target does not offer avx2, f16c, fma"
    )


def test_amx_is_asked_for_once_and_only_when_it_matters(machine, monkeypatch):
    asked = machine(isa.NEEDS["amx"])
    assert isa.has("amx-bf16")
    for name in ALL[:3]:
        monkeypatch.setenv("NMREF_ISA", name)
        assert isa.chosen() == name
    assert not asked
    monkeypatch.setenv("NMREF_ISA", "amx")
    assert isa.chosen() == isa.chosen() == "amx"
    assert isa.available() == ALL
    assert len(asked) == 1


def test_a_refusal_of_amx_is_told(machine, monkeypatch):
    asked = machine(isa.NEEDS["amx"], refusal=errno.EOPNOTSUPP)
    assert isa.chosen() == "avx512"
    reason = os.strerror(errno.EOPNOTSUPP)
    assert isa.why() == f"avx512: amx cannot be used, Linux refuses the tile registers: {reason}"
    assert len(asked) == 1
    monkeypatch.setenv("NMREF_ISA", "amx")
    with pytest.raises(NmrefError, match=r"want one of portable, avx2, avx512$"):
        isa.chosen()
    monkeypatch.delenv("NMREF_ISA")
    machine(isa.NEEDS["amx"], system="darwin")
    assert isa.why().endswith("the tile registers are asked for on Linux only")
    assert len(asked) == 1


def test_amx_is_not_asked_for_where_the_cpu_lacks_it(machine):
    asked = machine(isa.NEEDS["avx512"])
    assert isa.chosen() == "avx512"
    assert isa.why() == (
        "avx512: amx cannot be used, the CPU or the system lacks amx-bf16, amx-tile"
    )
    assert not asked


@pytest.mark.parametrize("name", ["foo", "AVX2", "avx512", "amx", " avx2"])
def test_an_isa_that_cannot_be_used_is_refused(machine, monkeypatch, name):
    machine(isa.NEEDS["avx2"])
    monkeypatch.setenv("NMREF_ISA", name)
    want = f"T_ARGUMENT NMREF_ISA: got {name!r}, want one of portable, avx2"
    for ask in (isa.chosen, isa.why):
        with pytest.raises(NmrefError) as caught:
            ask()
        assert str(caught.value) == want


def test_the_environment_is_read_at_each_call(machine, monkeypatch):
    machine(isa.NEEDS["avx512"])
    assert isa.chosen() == "avx512"
    monkeypatch.setenv("NMREF_ISA", "avx2")
    assert (isa.chosen(), isa.why()) == ("avx2", "avx2: NMREF_ISA says so")
    monkeypatch.setenv("NMREF_ISA", "")
    assert isa.chosen() == "avx512"


WITHOUT_JIT = {"jit": False}
NOT_X86 = {"kind": "aarch64"}


@pytest.mark.parametrize("other", [WITHOUT_JIT, NOT_X86])
def test_no_compiler_and_no_x86_mean_portable(machine, monkeypatch, other):
    machine(isa.NEEDS["amx"], **other)
    assert isa.available() == ("portable",)
    monkeypatch.setenv("NMREF_ISA", "avx2")
    with pytest.raises(NmrefError, match=r"want one of portable$"):
        isa.chosen()


AVX512_TEXT = ",".join(f"+{name}" for name in isa.NEEDS["avx512"])
TARGETS = {
    "the host's features named": (AVX512_TEXT, "haswell", "avx512", ALL[:3]),
    "nothing named": ("", "haswell", "portable", ALL[:3]),
    "nothing named, generic": ("", "generic", "portable", ALL[:1]),
    "no AVX-512F": ("-avx512f", "haswell", "portable", ALL[:2]),
    "no VBMI": ("-avx512vbmi", None, "portable", ALL[:2]),
    "no AVX2": ("-avx2", None, "portable", ALL[:1]),
    "no AVX": ("-avx", "nehalem", "portable", ALL[:1]),
    "no SSE4.2": ("-sse4.2", None, "portable", ALL[:1]),
    "no SSE4A": ("-sse4a", "haswell", "portable", ALL[:3]),
    "no FMA": ("-fma", "haswell", "portable", ALL[:1]),
    "AVX2 named": ("+avx2,+fma,+f16c,-avx512f", "haswell", "avx2", ALL[:2]),
    "more than the host has": (AVX512_TEXT + ",+amx-tile,+amx-bf16", None, "avx512", ALL[:3]),
}


@pytest.mark.parametrize(("text", "name", "best", "forced"), TARGETS.values(), ids=TARGETS)
def test_code_for_another_cpu(machine, monkeypatch, text, name, best, forced):
    """The best without NMREF_ISA, and what NMREF_ISA may ask for."""
    machine(isa.NEEDS["avx512"], target=text, name=name)
    assert isa.chosen() == best
    for wanted in ALL:
        monkeypatch.setenv("NMREF_ISA", wanted)
        if wanted in forced:
            assert isa.chosen() == wanted
        else:
            with pytest.raises(NmrefError, match=f"want one of {', '.join(forced)}$"):
                isa.chosen()


def test_single_features(machine):
    machine({"avx512bf16", "avx2"}, target="+avx2")
    assert isa.has("avx2")
    assert not isa.has("avx512bf16")
    machine({"avx512bf16"})
    assert isa.has("avx512bf16")
    machine({"avx512bf16"}, jit=False)
    assert not isa.has("avx512bf16")


def test_a_host_that_llvm_does_not_know_has_no_features(monkeypatch):
    def refuse():
        raise RuntimeError

    isa.features.cache_clear()
    monkeypatch.setattr(isa.llvm, "get_host_cpu_features", refuse)
    assert isa.features() == frozenset()
    isa.features.cache_clear()


def test_this_machine():
    assert isa.available()[0] == "portable"
    assert isa.available() == ALL[: len(isa.available())]
    assert isa.chosen() in ALL
    assert isa.cpu_name()
    assert all(isinstance(name, str) for name in isa.features())


CHILD = "from nmref.kernels import isa; print(isa.chosen(), isa.available())"


@pytest.mark.parametrize(
    "variables",
    [
        {"NUMBA_DISABLE_JIT": "1"},
        {"NUMBA_CPU_NAME": "generic"},
        {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""},
    ],
    ids=lambda variables: " ".join(variables),
)
def test_in_a_process_of_its_own(variables):
    environment = {k: v for k, v in os.environ.items() if k != "NMREF_ISA"} | variables
    found = subprocess.run(
        [sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout == "portable ('portable',)\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a system call of Linux")
def test_the_system_call_answers():
    """Granted, or one of the errors that Linux and its sandboxes give."""
    if isa.is_x86():
        known = (0, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ENOSPC)
        assert isa._request_tiles() in known
