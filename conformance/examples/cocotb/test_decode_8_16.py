"""nm_decode_8_16 against nmref: random codes and values, and every boundary of the codes."""

import cocotb
import numpy as np
from cocotb.triggers import Timer

import nmref
from nmref import colex
from nmref.tensor import plain

PATTERN = nmref.NMPattern(8, 16)


def joined(elements):
    """Array of unsigned integers -> one integer, element 0 in its lowest bits."""
    return int.from_bytes(elements.astype(elements.dtype.newbyteorder("<")).tobytes(), "little")


async def check(dut, code, values):
    """Drive one block and compare valid, mask and lanes."""
    lanes = np.zeros(16, np.uint16)
    stored = np.zeros(16, np.bool_)
    if code < PATTERN.count:
        stored = colex.unrank(np.array([code], np.uint64), PATTERN)[0]
        lanes[stored] = values
    dut.code.value = code
    dut.values.value = joined(values)
    await Timer(1, "ns")
    assert dut.valid.value == int(code < PATTERN.count), f"valid of code {code}"
    mask = int(np.packbits(stored, bitorder="little").view("<u2")[0])
    assert dut.mask.value.to_unsigned() == mask, f"mask of code {code}"
    assert dut.lanes.value.to_unsigned() == joined(lanes), f"lanes of code {code}"


@cocotb.test()
async def random_blocks(dut):
    """Codes of all 14-bit numbers, invalid ones among them."""
    rng = np.random.default_rng(816)
    for code in rng.integers(0, 1 << PATTERN.width, 400):
        await check(dut, int(code), rng.integers(0, 1 << 16, 8, np.uint16))


@cocotb.test()
async def boundaries(dut):
    """The first and the last codes, and the first that are none."""
    values = np.arange(1, 9, dtype=np.uint16)
    for code in (0, 1, 12868, 12869, 12870, 12871, 16383):
        await check(dut, code, values)


@cocotb.test()
async def a_row_of_a_weight(dut):
    """A row as nmref.encode stores it, block for block."""
    rng = np.random.default_rng(2)
    dense = rng.standard_normal((1, 160)).astype(np.float16)
    dropped = rng.random((10, 16)).argsort(axis=1).argsort(axis=1) >= 8
    dense[0, dropped.ravel()] = 0
    base = nmref.encode(dense, "8:16", twin=plain).base  # compiles nothing
    codes = nmref.bits.unpack(base.codes, 10, PATTERN.width, np.dtype(np.uint64))[0]
    for b, code in enumerate(codes):
        await check(dut, int(code), base.values[0, 8 * b : 8 * b + 8].view(np.uint16))
        assert dut.lanes.value.to_unsigned() == joined(dense[0, 16 * b : 16 * b + 16].view("<u2"))
