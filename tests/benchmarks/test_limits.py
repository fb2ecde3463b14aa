"""The loops of the limits are what they say they are."""

import llvmlite.binding as llvm
import pytest

from benchmarks import limit_loops, limits

X86 = "x86_64-unknown-linux-gnu"


def assembly(ir: str, cpu: str) -> str:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple(X86).create_target_machine(cpu=cpu, opt=3)
    module = llvm.parse_assembly(ir + "attributes #0 = { nounwind }")
    module.verify()
    loop = str(target.emit_assembly(module)).split(".LBB0_1:")[1]
    return loop.split("\tjb\t")[0]


@pytest.mark.parametrize(("lanes", "cpu"), [(16, "znver5"), (8, "haswell")])
def test_multiply_adds_only(lanes: int, cpu: str) -> None:
    registers = assembly(limit_loops.fma(lanes, load=False), cpu)
    assert registers.count("vfmadd") == limit_loops.CHAINS
    assert "(%r" not in registers
    loads = assembly(limit_loops.fma(lanes, load=True), cpu)
    assert sum("vfmadd" in line and "(%r" in line for line in loads.splitlines()) == (
        limit_loops.CHAINS
    )


def test_dot_products_and_tiles() -> None:
    assert assembly(limit_loops.dot(), "znver5").count("vdpbf16ps") == limit_loops.CHAINS
    assert assembly(limit_loops.amx(), "sapphirerapids").count("tdpbf16ps") == 4


@pytest.mark.parametrize("streams", limits.STREAMS)
def test_every_line_is_read(streams: int) -> None:
    loop = assembly(limit_loops.read(streams), "znver5")
    assert sum("(%r" in line and "zmm" in line for line in loop.splitlines()) == 2 * streams


def test_reading_gives_the_sum() -> None:
    buffer = limits.aligned(1 << 12)
    buffer[:] = 0
    buffer.view("i8")[::8] = 3  # the first word of every line, whose sum the loop gives
    for streams in limits.STREAMS:
        kernel = limits.Compiler().kernel(limit_loops.read(streams))
        whole = kernel(buffer.ctypes.data, len(buffer) // 128 // streams)
        assert whole == 3 * len(buffer) // 64


def test_figures_for_every_isa() -> None:
    found = limits.measure((1,), small=True)
    assert found
    for counts in found.values():
        assert set(counts["1"]) >= {"read", "streams", "fma", "fma_load"}
