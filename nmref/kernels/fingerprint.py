"""When compiled kernels are out of date: contents, versions, options and CPU, never times."""

from __future__ import annotations

import hashlib
import re
import sys
from functools import cache
from pathlib import Path

import llvmlite
import numba
import numpy as np
from numba import config
from numba.core.registry import cpu_target

PACKAGE = Path(__file__).resolve().parents[1]

_OPTIONS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT")
_OPTIONS += ("LLVM_REFPRUNE_PASS", "LLVM_REFPRUNE_FLAGS")
"""Settings of Numba that change the code it makes."""


def sources() -> list[Path]:
    """All that kernels can import: nmref/*.py, the layers below them, and nmref/kernels/."""
    return sorted([*PACKAGE.glob("*.py"), *(PACKAGE / "kernels").rglob("*.py")])


def covers(file: str) -> bool:
    """Whether the fingerprint notices an edit of this file."""
    path = Path(file).resolve()
    return path.parent == PACKAGE or PACKAGE / "kernels" in path.parents


@cache
def fingerprint() -> str:
    """SHA-256, 64 hex digits, of the sources' contents, the libraries' versions and the options."""
    found = hashlib.sha256()
    versions = (sys.version, numba.__version__, llvmlite.__version__, np.__version__)
    options = tuple(str(getattr(config, name, None)) for name in _OPTIONS)
    found.update(repr((versions, options)).encode())
    for path in sources():
        data = path.read_bytes()
        found.update(f"{path.relative_to(PACKAGE).as_posix()} {len(data)}\n".encode() + data)
    return found.hexdigest()


def folder_name() -> str:
    """Name of the folder for these sources and the CPU that Numba compiles for."""
    triple, cpu, features = cpu_target.target_context.codegen().magic_tuple()
    name = re.sub(r"[^A-Za-z0-9_.]", "_", cpu) or "cpu"
    kind = hashlib.sha256(repr((triple, cpu, features)).encode()).hexdigest()
    return f"{fingerprint()[:16]}-{name}-{kind[:8]}"
