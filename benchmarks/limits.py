"""python -m benchmarks.limits: what this machine can do at most, as one JSON document.

Read bandwidth from memory, and the peak rates of fused multiply-adds from registers, with one load
from L1 each, of BF16 dot products and of AMX tiles, with one and two threads.  The loops are
written as LLVM IR, so that nothing but the instruction in question is in them; ctypes calls them
without the interpreter's lock.
"""

from __future__ import annotations

import ctypes
import json
import sys
import threading
import time
from collections.abc import Callable, Sequence

import llvmlite.binding as llvm
import numpy as np

from benchmarks import limit_loops
from benchmarks.limit_loops import CHAINS, L1_BYTES

STREAMS = (1, 2, 4, 8)
READ_BYTES = 512 << 20
SECONDS, SMALL_SECONDS = 0.3, 0.005
"""Of calls, for one figure."""

TILE_FLOPS = 2 * 16 * 16 * 32
"""Of one tdpbf16ps: 16 x 16 results of 32 products."""

Kernel = Callable[[int, int], float]


class Compiler:
    """Compiles the loops for this CPU, and runs them for `seconds` a figure."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self.features = llvm.get_host_cpu_features()

    def has(self, *names: str) -> bool:
        """Whether CPU and system offer all these features."""
        return all(self.features.get(name, False) for name in names)

    def kernel(self, ir: str) -> Kernel:
        """kernel(address, n) of a module."""
        module = llvm.parse_assembly(ir + 'attributes #0 = { nounwind "no-trapping-math"="true" }')
        module.verify()
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=self.features.flatten(), opt=3
        )  # one each: an engine ends the machine that it was made of
        engine = llvm.create_mcjit_compiler(module, machine)
        engine.finalize_object()
        address = engine.get_function_address("kernel")
        function = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_void_p, ctypes.c_int64)(address)
        function.engine = engine  # the code lives as long as its engine
        return function

    def rate(self, ir: str, addresses: Sequence[int], steps: int, work: float) -> float:
        """Work a second, a thread for each address: the best of three calls or more."""
        kernel, total, best, calls = self.kernel(ir), 0.0, 0.0, 0
        while total < self.seconds or calls < 3:
            took = _together(kernel, addresses, steps)
            best, total, calls = max(best, work * len(addresses) / took), total + took, calls + 1
        return best


def _together(kernel: Kernel, addresses: Sequence[int], steps: int) -> float:
    """Seconds from the first thread's start to the last one's end."""
    barrier, clock = threading.Barrier(len(addresses)), time.perf_counter
    spans: list[tuple[float, float]] = []

    def run(address: int) -> None:
        barrier.wait()
        start = clock()
        kernel(address, steps)
        spans.append((start, clock()))

    threads = [threading.Thread(target=run, args=(address,)) for address in addresses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    starts, ends = zip(*spans, strict=True)
    return max(ends) - min(starts)


def aligned(size: int) -> np.ndarray:
    """Bytes that begin on a line of the cache, all of them touched."""
    raw = np.ones(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]


def bandwidth(compiler: Compiler, threads: int, size: int) -> dict[str, float]:
    """streams -> bytes a second."""
    buffer, found = aligned(size), {}
    share = size // threads
    addresses = [buffer.ctypes.data + share * t for t in range(threads)]
    for streams in STREAMS:
        steps = share // streams // 128
        work = float(steps * streams * 128)
        found[str(streams)] = compiler.rate(limit_loops.read(streams), addresses, steps, work)
    return found


def peaks(compiler: Compiler, lanes: int, threads: int, steps: int) -> dict[str, float]:
    """FLOP a second of the multiply-adds of so many lanes."""
    buffers = [aligned(L1_BYTES) for _ in range(threads)]
    for buffer in buffers:
        buffer.view(np.float32)[:] = 0.5
    addresses = [buffer.ctypes.data for buffer in buffers]
    flops = 2.0 * lanes * CHAINS * steps
    kernels = {
        "fma": limit_loops.fma(lanes, load=False),
        "fma_load": limit_loops.fma(lanes, load=True),
    }
    found = {k: compiler.rate(ir, addresses, steps, flops) for k, ir in kernels.items()}
    if lanes == 16 and compiler.has("avx512bf16"):
        found["bf16_dot"] = compiler.rate(limit_loops.dot(), addresses, steps, 2 * flops)
    return found


def amx(compiler: Compiler, threads: int, steps: int) -> float | None:
    """FLOP a second of tdpbf16ps; None without AMX or without the system's permission."""
    if not (compiler.has("amx-tile", "amx-bf16") and _tiles_permitted()):
        return None
    config = aligned(64)
    config[:] = 0
    config[0] = 1
    config[16:32].view(np.uint16)[:] = 64
    config[48:56] = 16
    work = float(TILE_FLOPS * 4 * steps)
    return compiler.rate(limit_loops.amx(), [config.ctypes.data] * threads, steps, work)


def _tiles_permitted() -> bool:
    """Ask Linux for tile data: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)."""
    return sys.platform == "linux" and ctypes.CDLL(None).syscall(158, 0x1023, 18) == 0


def measure(threads: Sequence[int], small: bool = False) -> dict[str, object]:
    """ISA -> threads -> figures (bytes or FLOP a second), for the ISAs that a product may use."""
    compiler = Compiler(SMALL_SECONDS if small else SECONDS)
    size, steps = (16 << 20, 10_000) if small else (READ_BYTES, 500_000)
    widths = {"avx512": 16} if compiler.has("avx512f") else {}
    widths |= {"avx2": 8} if compiler.has("avx2", "fma") else {}
    widths = widths or {"portable": 4}
    found: dict[str, object] = {}
    reads = {count: bandwidth(compiler, count, size) for count in threads}
    for isa, lanes in widths.items():
        found[isa] = {
            str(count): {
                "read": max(reads[count].values()),
                "streams": reads[count],
                **peaks(compiler, lanes, count, steps),
                **({"amx": amx(compiler, count, steps // 10)} if lanes == 16 else {}),
            }
            for count in threads
        }
    return found


def main() -> int:
    small, counts = "--small" in sys.argv, [int(a) for a in sys.argv[1:] if a.isdigit()]
    sys.stdout.write(json.dumps(measure(counts or [1], small)) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
