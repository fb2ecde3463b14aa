"""What `nmref doctor` tells of the machine, the libraries and the settings."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from pathlib import Path

from nmref import __version__

FEATURES = (
    *("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vbmi"),
    *("avx512vbmi2", "avx512bf16", "amx-tile", "amx-bf16", "neon", "sve", "bf16"),
)
"""Those that kernels use or may use one day."""

SETTINGS = re.compile(
    r"(NMREF|NUMBA)_\w+|XDG_CACHE_HOME|(OMP|OPENBLAS|MKL|BLIS|VECLIB_MAXIMUM)_NUM_THREADS"
    r"|OPENBLAS_CORETYPE|NPY_DISABLE_CPU_FEATURES|OMP_(PROC_BIND|PLACES|WAIT_POLICY)|GOMP_\w+"
)

_QUOTAS = ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
_PERIOD = "/sys/fs/cgroup/cpu/cpu.cfs_period_us"


def private(text: str) -> str:
    """Without the home folder's and the user's name."""
    home = os.path.expanduser("~").rstrip("/")
    if os.path.isabs(home):
        text = re.sub(re.escape(home) + r"(?![\w.-])", "~", text)
    for user in {os.environ.get("USER", ""), os.environ.get("LOGNAME", ""), os.path.basename(home)}:
        if user:
            text = re.sub(rf"(?<=/){re.escape(user)}(?![\w.-])", "USER", text)
    return text


def versions() -> dict[str, str]:
    """nmref, Python and the libraries that kernels depend on."""
    import numpy as np

    from nmref.kernels.versions import versions as of_compilers

    return {
        "nmref": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": f"{np.__version__} ({_blas()})",
        **of_compilers(),
    }


def _blas() -> str:
    import numpy as np

    found = np.show_config(mode="dicts")
    blas = found.get("Build Dependencies", {}).get("blas", {}) if isinstance(found, dict) else {}
    return f"{blas.get('name', 'unknown BLAS')} {blas.get('version', '')}".strip()


def system() -> str:
    """Such as "Linux 6.18.5 x86_64, glibc 2.36"; no host name."""
    libc = " ".join(part for part in platform.libc_ver() if part)
    return ", ".join(
        filter(None, (f"{platform.system()} {platform.release()} {platform.machine()}", libc))
    )


def cpu_model() -> str:
    """As the system names it; empty if it does not."""
    lines = _read("/proc/cpuinfo").splitlines()
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def memory() -> tuple[int, int]:
    """Bytes: all, and what is available; 0 where that is not known."""
    found = dict(re.findall(r"(?m)^(MemTotal|MemAvailable): +(\d+) kB$", _read("/proc/meminfo")))
    return int(found.get("MemTotal", 0)) << 10, int(found.get("MemAvailable", 0)) << 10


def quota() -> float | None:
    """CPUs that the control group may use on average, or None: no limit."""
    words = _read(_QUOTAS[0]).split() or [_read(_QUOTAS[1]), _read(_PERIOD)]
    with contextlib.suppress(ValueError, IndexError, ZeroDivisionError):
        limit = int(words[0]) / int(words[1])
        return limit if limit > 0 else None
    return None


def cores(cpus: int) -> int:
    """Cores that the CPUs of this process belong to; `cpus` where that is not known."""
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # not on this system
        return cpus
    place = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    siblings = {_read(place.format(cpu)) for cpu in allowed}
    return cpus if "" in siblings else len(siblings)


def settings() -> dict[str, str]:
    """Variables that change what runs or how fast, as they are set."""
    return {name: private(os.environ[name]) for name in sorted(os.environ) if _counts(name)}


def _counts(name: str) -> bool:
    return SETTINGS.fullmatch(name) is not None


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text("utf-8", errors="replace").strip()
    except OSError:
        return ""
