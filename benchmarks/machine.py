"""What a figure depends on: CPU, caches, features, system, versions, load."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("nmref", "numpy", "numba", "llvmlite", "ml_dtypes")
FEATURES = (
    *("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vbmi"),
    *("avx512vbmi2", "avx512bf16", "avx512vnni", "avx512fp16", "amx-tile", "amx-bf16", "amx-int8"),
    *("neon", "sve", "sve2", "bf16", "i8mm"),
)
L3_DEFAULT = 32 << 20


def machine() -> dict[str, object]:
    """CPU and versions that a figure depends on."""
    packages = {name: found for name in PACKAGES if (found := _version(name))}
    return {"cpu": cpu_name(), "python": platform.python_version(), "packages": packages}


def describe() -> dict[str, object]:
    """`machine`, and what the products' speed depends on beyond."""
    return machine() | {
        "cores": len(os.sched_getaffinity(0)),
        "cores_online": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "caches": caches(),
        "features": features(),
        "llvm_cpu": llvm_cpu(),
        "system": f"{platform.system()} {platform.release()}",
        "large_pages": _read("/sys/kernel/mm/transparent_hugepage/enabled"),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "hypervisor": "hypervisor" in _cpuinfo("flags").split(),
    }


def cpu_name() -> str:
    """The model as the system names it."""
    return _cpuinfo("model name") or platform.processor()


def llvm_cpu() -> str:
    """The model as the compiler names it."""
    import llvmlite.binding as llvm

    return str(llvm.get_host_cpu_name())


def features() -> list[str]:
    """Of FEATURES, those that CPU and system offer."""
    import llvmlite.binding as llvm

    try:
        found = llvm.get_host_cpu_features()
    except RuntimeError:  # not known for this kind of CPU
        return []
    return [name for name in FEATURES if found.get(name, False)]


def caches() -> dict[str, int]:
    """ "L1d", "L2", "L3" -> bytes, of the first core."""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind = _read(folder / "level"), _read(folder / "type")
        size = _read(folder / "size")
        if kind != "Instruction" and size.endswith("K"):
            found[f"L{level}{'d' if kind == 'Data' else ''}"] = int(size[:-1]) << 10
    return found


def last_cache() -> int:
    """Bytes of the largest cache, or a guess where the system does not tell."""
    return max(caches().values(), default=L3_DEFAULT)


def load_average() -> list[float]:
    """Of the last 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def busy_seconds() -> float:
    """CPU time that all processes have used, and what the host took away."""
    fields = _read("/proc/stat").splitlines()[0].split()[1:]
    user, nice, system, _, _, irq, softirq, steal = (int(field) for field in fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _cpuinfo(key: str) -> str:
    lines = _read("/proc/cpuinfo").splitlines()
    return next((line.split(": ", 1)[1] for line in lines if line.startswith(f"{key}\t")), "")


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text("utf-8").strip()
    except OSError:
        return ""
