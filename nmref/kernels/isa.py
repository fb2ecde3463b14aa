"""Which vector instructions may be used: what CPU, system and Numba's target all offer.

portable < avx2 < avx512 < amx; each needs all of those before it.  NMREF_ISA can force a lower
one.  Where Numba compiles for another CPU (NUMBA_CPU_NAME, NUMBA_CPU_FEATURES), only
what its features name with a plus is offered; without such names that is `portable`, as nobody says
what the named CPU has.  NMREF_ISA then is believed, as far as this machine can run it and the
features do not rule it out.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from functools import cache

import llvmlite.binding as llvm
from numba import config
from numba.core.codegen import get_host_cpu_features

from nmref.errors import Code, NmrefError

_AVX2 = frozenset({"avx2", "fma", "f16c"})
_AVX512 = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vbmi", "avx512vbmi2"})
_AMX = frozenset({"amx-tile", "amx-bf16"})

_BELOW_AVX2 = frozenset({"sse", "sse2", "sse3", "ssse3", "sse4.1", "sse4.2", "avx"})
"""LLVM takes AVX2 away together with any of these."""

NEEDS = {
    "portable": frozenset[str](),
    "avx2": _AVX2,
    "avx512": _AVX2 | _AVX512,
    "amx": _AVX2 | _AVX512 | _AMX,
}
"""Features of each, by LLVM's names; amx needs the system's permission as well."""

_ARCH_PRCTL = 158  # system call, x86-64
_ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA = 0x1023, 18


@cache
def features() -> frozenset[str]:
    """What the CPU has and the system lets programs use, by LLVM's names; empty if unknown."""
    try:
        found = llvm.get_host_cpu_features()
    except RuntimeError:
        return frozenset()
    return frozenset(name for name, there in found.items() if there)


def cpu_name() -> str:
    """LLVM's name of this CPU; Numba may compile for another one."""
    return str(llvm.get_host_cpu_name())


def has(feature: str) -> bool:
    """Whether this machine has a feature (`avx512bf16`) and compiled code may use it."""
    return feature in _offered()


def available() -> tuple[str, ...]:
    """Every ISA that may be used here, `portable` first.  Asks for AMX where the CPU has it."""
    return tuple(name for name in NEEDS if not _lacks(name))


def chosen() -> str:
    """The ISA that NMREF_ISA names, or the best.  Raises T_ARGUMENT if it cannot be used here."""
    wanted = os.environ.get("NMREF_ISA", "")
    if not wanted:
        return available()[-1]
    if wanted not in NEEDS or _lacks(wanted, forced=True):
        want = "one of " + ", ".join(name for name in NEEDS if not _lacks(name, forced=True))
        raise NmrefError(Code.T_ARGUMENT, "NMREF_ISA", f"got {wanted!r}", want)
    return wanted


def why() -> str:
    """One line: what is chosen, and for what reason not more.  Raises as `chosen` does."""
    name = chosen()
    if os.environ.get("NMREF_ISA"):
        return f"{name}: NMREF_ISA says so"
    higher = [other for other in NEEDS if _lacks(other)]
    if not higher:
        return f"{name}: the best there is"
    return f"{name}: {higher[0]} cannot be used, {_lacks(higher[0])}"


def _lacks(name: str, forced: bool = False) -> str:
    """Why an ISA cannot be used, or empty.  Asks for AMX only when nothing else is missing."""
    if not NEEDS[name]:
        return ""
    if config.DISABLE_JIT:
        return "NUMBA_DISABLE_JIT is set"
    if not is_x86():
        return f"the machine is {platform.machine()}"
    if missing := NEEDS[name] - features():
        return f"the CPU or the system lacks {', '.join(sorted(missing))}"
    if missing := NEEDS[name] & _denied() if forced else NEEDS[name] - _offered():
        return f"Numba's target does not offer {', '.join(sorted(missing))}"
    return _amx_refusal() if NEEDS[name] & _AMX else ""


def is_x86() -> bool:
    """A 64-bit process on a 64-bit x86 CPU."""
    return platform.machine().lower() in ("x86_64", "amd64") and sys.maxsize > 2**32


def _target() -> list[str]:
    """Features of Numba's target, each with its sign."""
    text = config.CPU_FEATURES
    return str(get_host_cpu_features() if text is None else text).split(",")


def _offered() -> frozenset[str]:
    if config.DISABLE_JIT:
        return frozenset()
    return features() & {name[1:] for name in _target() if name.startswith("+")}


def _denied() -> frozenset[str]:
    """What the target certainly lacks: LLVM would end the process over an instruction of these."""
    if str(config.CPU_NAME).lower() == "generic":
        return features() - _offered()
    off = {name[1:] for name in _target() if name.startswith("-")}
    if off & _BELOW_AVX2:
        off |= _AVX2
    return frozenset(off)


@cache
def _amx_refusal() -> str:
    """Ask Linux once for the tile registers of this process; why not, or empty."""
    if not sys.platform.startswith("linux"):
        return "the tile registers are asked for on Linux only"
    code = _request_tiles()
    return f"Linux refuses the tile registers: {os.strerror(code)}" if code else ""


def _request_tiles() -> int:
    """The error number, 0 if they were granted."""
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    arguments = (_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA)
    return ctypes.get_errno() if call(*(ctypes.c_long(value) for value in arguments)) else 0
