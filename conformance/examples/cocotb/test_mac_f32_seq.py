"""nm_mac_f32_seq against nmref.matmul: dots of BF16 numbers of every kind."""

import cocotb
import ml_dtypes
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

import nmref
from nmref.conformance.dot_operands import KINDS, Floats
from nmref.numerics import SplitMix64, plain

BF16 = np.dtype(ml_dtypes.bfloat16)


async def start(dut):
    """Clock and reset."""
    Clock(dut.clk, 10, "ns").start()
    dut.rst.value = 1
    dut.in_valid.value = 0
    for _ in range(2):
        await FallingEdge(dut.clk)
    dut.rst.value = 0


async def dot(dut, w, x):
    """Bits of the result of one dot of BF16 numbers."""
    for k in range(len(w)):
        dut.in_valid.value = 1
        dut.in_first.value = int(k == 0)
        dut.in_last.value = int(k == len(w) - 1)
        dut.w.value = int(w.view(np.uint16)[k])
        dut.x.value = int(x.view(np.uint16)[k])
        await FallingEdge(dut.clk)
    dut.in_valid.value = 0
    while not dut.out_valid.value:
        await FallingEdge(dut.clk)
    return dut.out.value.to_unsigned()


async def check(dut, w, x):
    """One dot against the profile, by the twin that compiles nothing: there are few."""
    want = int(nmref.matmul(x, w[None, :], "f32.seq", twin=plain).view(np.uint32)[0])
    got = await dot(dut, w, x)
    assert got == want, f"w {w.tolist()} x {x.tolist()}: {got:08x}, want {want:08x}"


@cocotb.test()
async def numbers(dut):
    """Moderate numbers, a third of the weights zero."""
    await start(dut)
    rng = np.random.default_rng(8)
    for _ in range(60):
        w, x = rng.standard_normal((2, rng.integers(1, 40)))
        w[rng.random(len(w)) < 1 / 3] = 0
        await check(dut, w.astype(BF16), x.astype(BF16))


@cocotb.test()
async def any_bits(dut):
    """Random bits: subnormal numbers, infinities and NaN too."""
    await start(dut)
    rng = np.random.default_rng(9)
    for _ in range(60):
        w, x = rng.integers(0, 1 << 16, (2, rng.integers(1, 8)), np.uint16).view(BF16)
        await check(dut, w, x)


@cocotb.test()
async def aimed(dut):
    """Dots that cancel, tie, carry, underflow and overflow, as in the files of dot_memh."""
    await start(dut)
    floats = Floats(SplitMix64(10), 16)
    for i in range(12 * len(KINDS)):
        w, x = np.array(KINDS[i % len(KINDS)](floats, 1 + i % 9), np.uint16).T.copy().view(BF16)
        await check(dut, w, x)


@cocotb.test()
async def worked_examples(dut):
    """Rows of SPEC 8.16, and zero weights under infinities (SPEC 8.3)."""
    await start(dut)
    for w, x in [
        ([2.0**12, 1, -(2.0**12)], [2.0**12, 1, 2.0**12]),
        ([0, -0.0, 1], [np.inf, np.nan, 3]),
        ([0.0], [np.inf]),
        ([2.0**-133], [2.0**-17]),
    ]:
        await check(dut, np.array(w, BF16), np.array(x, BF16))
