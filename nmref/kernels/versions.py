"""Versions of what compiles the kernels."""

from __future__ import annotations

import llvmlite
import llvmlite.binding as llvm
import numba


def versions() -> dict[str, str]:
    """Of Numba, llvmlite and LLVM."""
    number = ".".join(map(str, llvm.llvm_version_info))
    return {"numba": numba.__version__, "llvmlite": llvmlite.__version__, "llvm": number}
