"""The tile kernel: on tiles in NumPy, on tiles that Numba compiles, as instructions, and for real.

Few machines have AMX.  The kernel runs everywhere on stand-ins for its instructions, between
forbidden pages as well; what LLVM makes of the instructions themselves is read, not run.  Run as a
program, this file does one of these in a process of its own.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, product
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from numba import config

from nmref import encode
from nmref.dtypes import Array
from nmref.kernels import activations, amx, isa, prepare, tiles_plain
from nmref.linear.prepared import Prepared, kernel_view
from nmref.tensor import fast, plain
from tests.kernels.test_rows import guarded

ROOT = Path(__file__).parents[2]
BF16 = ml_dtypes.bfloat16

PATTERNS = ("8:16", "2:4", "1:2", "4:8")
ROWS = (1, 31, 32, 33, 64)
TOKENS = (1, 15, 16, 17, 40)
COLUMNS = (16, 172, 17, 33, 1, 64, 100, 31, 65)
SLOTS = (0, 4, 16, 8)
TILINGS = ((32, 8, 2), (64, 16, 4), (128, 16, 32))
"""Rows of a block, steps of one, tiles of tokens of a chunk."""

Place = Callable[[Array], Array]


def same(array: Array) -> Array:
    """Ordinary memory."""
    return array


def worker(
    w: Prepared, x: Array, y: Array, tiling: tuple[int, int, int], place: Place = same
) -> Callable[[Array], None]:
    """The kernel with its buffers, all through `place`; call it with a counter."""
    height, depth, chunk = tiling
    x = place(kernel_view(x))
    packed = place(np.full(amx.packed_shape(*x.shape), 0x7FC0, dtype=np.uint16))
    amx.pack(x, packed, np.zeros(1, dtype=np.int64))
    outliers = place(w.out_values), place(w.out_index), w.slots
    head = (place(w.values), place(w.words), *outliers, packed, y)

    def work(counter: Array) -> None:
        block = place(np.full(amx.block_size(height, depth), 0x7FC0, dtype=np.uint16))
        sums = place(np.full(amx.sums_size(height, chunk), np.nan, dtype=np.float32))
        amx.amx(*head, block, sums, *tiling, counter)

    return work


def times(w: Prepared, x: Array, tiling: tuple[int, int, int], place: Place = same) -> Array:
    y = place(np.full((len(x), w.rows), np.nan, dtype=np.float32))
    worker(w, x, y, tiling, place)(place(np.zeros(1, dtype=np.int64)))
    return y


def ranks(rng: np.random.Generator, shape: tuple[int, int], block: int) -> Array:
    """Of every column in its block, a random order."""
    blocks = -(-shape[1] // block)
    order = rng.random((shape[0], blocks, block)).argsort(axis=2)
    return order.reshape(shape[0], blocks * block)[:, : shape[1]]


def operands(
    rng: np.random.Generator, shape: tuple[int, int], tokens: int, pattern: str, slots: int, twin
) -> tuple[Prepared, Array, Array]:
    """A weight, its dense form as float64, and x; some weights and outliers are zeros."""
    stored, block = map(int, pattern.split(":"))
    values = rng.standard_normal(shape).astype(BF16)
    chosen = (ranks(rng, shape, block) < stored) & (rng.random(shape) < 0.95)
    base, over = np.where(chosen, values, BF16(0)), None
    dense = base.astype(np.float64)
    if slots:
        over = np.where((ranks(rng, shape, 256) < slots) & ~chosen, 8 * values, BF16(0)).astype(
            BF16
        )
        dense += over.astype(np.float64)
    weight = encode(base, pattern, outliers=over, outlier_pattern=f"{slots or 4}:256", twin=twin)
    w = Prepared(weight)
    if slots and shape[1] % 256:  # unused slots at the last virtual column, as SPEC 3.8 allows
        w.out_index = w.out_index.copy()
        w.out_index[:, -slots:][w.out_values[:, -slots:] == 0] = 255
        w.out_index.flags.writeable = False
    return w, dense, rng.standard_normal((tokens, shape[1])).astype(BF16)


def assert_close(y: Array, dense: Array, x: Array) -> None:
    """|y - exact| <= gamma_K sum |w||x|, and what is flushed to zero."""
    columns, wide = dense.shape[1], x.astype(np.float64)
    gamma = columns * 2.0**-24 / (1 - columns * 2.0**-24)
    for t, r in np.ndindex(y.shape):
        terms = wide[t] * dense[r]  # exact in float64
        bound = gamma * math.fsum(abs(terms)) + columns * 2.0**-126
        assert abs(float(y[t, r]) - math.fsum(terms)) <= bound, (t, r, y[t, r])


def check_tails(twin=plain) -> None:
    """Every number of rows with every number of tokens; the rest takes turns."""
    rng = np.random.default_rng(1)
    turns = zip(cycle(COLUMNS), cycle(PATTERNS), cycle(SLOTS), cycle(TILINGS), strict=False)
    for (rows, tokens), (columns, pattern, slots, tiling) in zip(
        product(ROWS, TOKENS), turns, strict=False
    ):
        w, dense, x = operands(rng, (rows, columns), tokens, pattern, slots, twin)
        assert_close(times(w, x, tiling), dense, x)


def check_empty(twin=plain) -> None:
    """No rows, or no tokens: nothing to do, and the tiles are given back."""
    rng = np.random.default_rng(2)
    for rows, tokens in ((0, 3), (3, 0)):
        w, _, x = operands(rng, (rows, 20), tokens, "8:16", 4, twin)
        assert times(w, x, TILINGS[0]).shape == (tokens, rows)


def check_tilings(twin=plain) -> None:
    """y does not depend on how the work is cut."""
    rng = np.random.default_rng(3)
    w, dense, x = operands(rng, (70, 500), 40, "8:16", 16, twin)
    want = times(w, x, TILINGS[0])
    assert_close(want, dense, x)
    for tiling in TILINGS[1:]:
        assert np.array_equal(times(w, x, tiling), want)


def one_at_a_time(claim: Callable[[Array, int], int]) -> Callable[[Array, int], int]:
    """The stand-in for `claim` is not atomic."""
    lock = threading.Lock()

    def locked(counter: Array, step: int) -> int:
        with lock:
            return claim(counter, step)

    return locked


def check_threads(twin=plain) -> None:
    """Nor on how many share it, and each gives its tiles back."""
    rng = np.random.default_rng(4)
    w, _, x = operands(rng, (130, 100), 33, "8:16", 4, twin)
    want = times(w, x, TILINGS[0])
    y, counter = np.full_like(want, np.nan), np.zeros(1, dtype=np.int64)
    if config.DISABLE_JIT:
        amx.claim = one_at_a_time(amx.claim)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(worker(w, x, y, TILINGS[0]), [counter] * 3))
        assert not any(pool.map(lambda _: tiles_plain.configured(), range(6)))
    assert np.array_equal(y, want)


def check_guarded(twin=fast) -> None:
    """Every buffer between forbidden pages."""
    rng = np.random.default_rng(5)
    shapes = list(product((1, 33), (1, 18)))
    for columns, pattern, (rows, tokens), slots in zip(
        (1, 7, 16, 17, 60, 64, 172, 257, 300, 500) * 2,
        cycle(("8:16", "2:4", "1:2")),
        cycle(shapes),
        cycle(SLOTS),
        strict=False,
    ):
        w, _, x = operands(rng, (rows, columns), tokens, pattern, slots, twin)
        want = times(w, x, TILINGS[0])
        for at_end in (True, False):
            y = times(w, x, TILINGS[0], lambda array, end=at_end: guarded(array, end))
            assert np.array_equal(y, want)


def check_large(twin=fast) -> None:
    """More of everything than one block, one chunk and one strip."""
    rng = np.random.default_rng(6)
    for columns, slots in ((500, 16), (1100, 0)):
        w, dense, x = operands(rng, (200, columns), 70, "8:16", slots, twin)
        for tiling in ((128, 8, 2), (amx.height_for(200, 1), amx.DEPTH, amx.CHUNK)):
            assert_close(times(w, x, tiling), dense, x)


def compiled() -> None:
    """The kernel as Numba compiles it, on tiles that Numba compiles: all but the instructions."""
    state = compiled_tiles()
    for check in (check_tails, check_empty, check_tilings, check_large, check_guarded):
        check(twin=fast)
        assert state[THERE] == 0
        assert state[FAULT] == 0


THERE, FAULT = 8192, 8193
"""Behind the tiles: whether there are any; whether one was used wrongly."""


def compiled_tiles() -> Array:
    """Put them into nmref.kernels.amx; their memory.

    Called through addresses, since LLVM would take a minute to inline them everywhere.
    """
    from numba import carray, cfunc, njit, types
    from numba.extending import intrinsic

    state = np.zeros(8194, dtype=np.uint8)
    address = state.ctypes.data

    @intrinsic
    def memory(typing_context, place):
        def build(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

        return types.voidptr(types.intp), build

    @njit
    def tiles():
        return carray(memory(address), (8194,), np.uint8)

    @cfunc("void(i8, i8)")
    def set_tiles(there, wanted):
        tiles()[FAULT] |= tiles()[THERE] != wanted
        tiles()[THERE] = there

    @cfunc("void(i8, i8, i8, i8, i8, i8)")
    def move(out, tile, data, size, at, stride):
        held, array = tiles(), carray(memory(data), (size,), np.uint8)
        if held[THERE] != 1 or at < 0 or at + 15 * stride + 64 > size:
            held[FAULT] = 1
            return
        for r in range(16):
            rows, cells = array[at + r * stride :][:64], held[1024 * tile + 64 * r :][:64]
            if out:
                rows[:] = cells
            else:
                cells[:] = rows

    @cfunc("void(i8, i8, i8)")
    def dot(c, a, b):
        held = tiles()
        held[FAULT] |= held[THERE] != 1
        sums, words = held[:8192].view(np.float32), held[:8192].view(np.uint32)
        left, right = words[256 * a : 256 * a + 256], words[256 * b : 256 * b + 256]
        high, half = np.uint32(0xFFFF0000), np.uint32(16)
        for w, x in ((left << half, right << half), (left & high, right & high)):
            for m in range(16):
                for k in range(16):
                    for n in range(16):
                        term = w.view(np.float32)[16 * m + k] * x.view(np.float32)[16 * k + n]
                        sums[256 * c + 16 * m + n] += term

    moved, dotted, told = move.ctypes, dot.ctypes, set_tiles.ctypes
    none = np.zeros(1024, dtype=np.uint8)

    @njit
    def load_config(block):
        told(block[0], 0)

    @njit
    def release():
        told(0, 1)

    @njit
    def zero_tile(tile):
        moved(0, tile, none.ctypes.data, 1024, 0, 64)

    @njit
    def load_tile(tile, array, index, stride):
        size, at = array.size * array.itemsize, index * array.itemsize
        moved(0, tile, array.ctypes.data, size, at, stride)

    @njit
    def store_tile(tile, array, index, stride):
        size, at = array.size * array.itemsize, index * array.itemsize
        moved(1, tile, array.ctypes.data, size, at, stride)

    @njit
    def dot_tiles(c, a, b):
        dotted(c, a, b)

    for function in (load_config, release, zero_tile, load_tile, store_tile, dot_tiles):
        setattr(amx, function.__name__, function)
    compiled_tiles.kept = state, move, dot, set_tiles
    return state


def alone(*arguments: str, **environment: str) -> str:
    """Functions of this file in a process of its own."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-W", "error", __file__, *arguments]
    found = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, (found.returncode, found.stdout[-999:], found.stderr[-3000:])
    return found.stdout


def test_on_plain_tiles() -> None:
    alone("check_tails", "check_empty", "check_tilings", "check_threads", NUMBA_DISABLE_JIT="1")


def test_on_compiled_tiles(tmp_path: Path) -> None:
    if not all(isa.has(feature) for feature in isa.NEEDS["avx512"]):
        pytest.skip("spreading weights needs AVX-512 VBMI2")
    alone("compiled", NMREF_CACHE_DIR=str(tmp_path))


def test_on_real_tiles() -> None:
    if "amx" not in isa.available():
        pytest.skip("no AMX here")
    checks = "check_tails", "check_empty", "check_tilings", "check_threads", "check_large"
    alone(*checks, "check_guarded")


# The instructions


def compile_only() -> None:
    """Print the kernel's assembly; the argument types are those that nmref.linear has."""
    from numba import types

    def flat(kind, dimensions=1, readonly=False):
        return types.Array(kind, dimensions, "C", readonly=readonly)

    weight = (types.uint16, types.uint64, types.uint16, types.uint8)
    arrays = [flat(kind, 2, True) for kind in weight]
    others = flat(types.uint16, 3), flat(types.float32, 2), flat(types.uint16), flat(types.float32)
    integers = [types.int64] * 3
    amx.amx.compile((*arrays, types.int64, *others, *integers, flat(types.int64)))
    (text,) = amx.amx.inspect_asm().values()
    sys.stdout.write(text)


@pytest.fixture(scope="module")
def instructions(tmp_path_factory) -> list[str]:
    """Those of the function that uses tiles, and its labels, compiled for a CPU that has them."""
    if not isa.is_x86():
        pytest.skip("LLVM may know no x86 here")
    text = alone(
        "compile_only",
        NUMBA_CPU_NAME="sapphirerapids",
        NUMBA_CPU_FEATURES="+amx-tile,+amx-bf16",
        NMREF_CACHE_DIR=str(tmp_path_factory.mktemp("cache")),
    )
    (function,) = [part for part in text.split(".cfi_startproc") if "ldtilecfg" in part]
    lines = (" ".join(line.split()) for line in function.split(".cfi_endproc")[0].splitlines())
    return [line for line in lines if line and (line[0] != "." or re.match(r"\.LBB\w+:", line))]


TILE_WORK = re.compile(r"(tileloadd|tilestored|tilezero|tdpbf16ps)\b")


def test_every_instruction_is_there(instructions: list[str]) -> None:
    found = {line.split()[0] for line in instructions}
    want = {"ldtilecfg", "tilerelease", "tileloadd", "tilestored", "tilezero", "tdpbf16ps"}
    assert want | {"vpexpandw"} <= found
    spread = [line for line in instructions if line.startswith("vpexpandw")]
    assert all("%zmm" in line and "{z}" in line for line in spread)


def test_tile_numbers(instructions: list[str]) -> None:
    """Products come as they are written, whatever the loop around them became."""
    first = ["load 4", "load 6", "dot 6 4 0", "load 7", "dot 7 4 1"]  # AT&T order: x, W, sum
    step = [*first, "load 5", "dot 6 5 2", "dot 7 5 3"]
    names = {"tileloadd": "load", "tilestored": "store", "tilezero": "zero", "tdpbf16ps": "dot"}
    work = [
        " ".join([names[line.split()[0]], *re.findall(r"%tmm(\d)", line)])
        for line in instructions
        if TILE_WORK.match(line)
    ]
    assert {item for item in work if item[0] in "sz"} == {
        f"{kind} {tile}" for kind in ("store", "zero") for tile in range(4)
    }
    products = [item for item in work if item in step]
    assert products == step * (len(products) // 8)
    assert set(work) - set(step) == {
        f"{kind} {tile}" for kind in ("load", "store", "zero") for tile in range(4)
    }
    for kind in ("load", "store", "zero"):
        order = [item for item in work if item in {f"{kind} {tile}" for tile in range(4)}]
        assert order == [f"{kind} {tile}" for tile in range(4)] * (len(order) // 4)


def test_no_tile_is_spilled(instructions: list[str]) -> None:
    moves = [line for line in instructions if re.match("tileloadd|tilestored", line)]
    assert moves
    assert not [line for line in moves if "%rsp" in line]
    assert {line.split()[0] for line in instructions if "tmm" in line} == {
        "tileloadd", "tilestored", "tilezero", "tdpbf16ps",
    }  # fmt: skip


def reach(instructions: list[str], start: int, stop: str) -> Iterator[str]:
    """Every instruction that can follow `start` before one named `stop`."""
    labels = {line[:-1]: i for i, line in enumerate(instructions) if line.endswith(":")}
    todo, seen = [start], set()
    while todo:
        i = todo.pop()
        if i in seen:
            continue
        seen.add(i)
        line = instructions[i]
        name, _, operand = line.partition(" ")
        if name == stop and i != start:
            continue
        yield line
        if name.startswith("j"):
            todo.append(labels[operand])  # KeyError for a jump through a register: not expected
        if not re.match("jmp|ret|ud2", name):
            todo.append(i + 1)


def test_tiles_are_released_on_every_path(instructions: list[str]) -> None:
    for first in [i for i, line in enumerate(instructions) if line.startswith("ldtilecfg")]:
        held = list(reach(instructions, first, "tilerelease"))
        assert not [line for line in held if line.startswith("ret")]
    ends = [i for i, line in enumerate(instructions) if line.startswith("tilerelease")]
    for free in (0, *ends):
        rest = list(reach(instructions, free, "ldtilecfg"))
        assert any(line.startswith("ret") for line in rest)
        assert not [line for line in rest if TILE_WORK.match(line)]


def test_reach() -> None:
    """Of a function that forgets its tiles on one path."""
    start, label, end = ["ldtilecfg (%rax)", "jle .LBB0_2", "tilezero %tmm0"], ".LBB0_2:", "retq"
    bad = [*start, "tilerelease", label, end]
    assert "retq" in list(reach(bad, 0, "tilerelease"))
    good = [*start, label, "tilerelease", end]
    assert "retq" not in list(reach(good, 0, "tilerelease"))


# x, and what the kernel must not be given


@pytest.mark.parametrize(("tokens", "columns"), [*product(TOKENS, COLUMNS), (0, 5)])
def test_pack(tokens: int, columns: int) -> None:
    x = np.random.default_rng(tokens).integers(0x3F00, 0x4000, (tokens, columns), dtype=np.uint16)
    tiles, steps, _ = shape = amx.packed_shape(tokens, columns)
    packed = np.full(shape, 7, dtype=np.uint16)
    assert amx.pack(x, packed, np.zeros(1, dtype=np.int64)) == 0
    padded = np.zeros((16 * tiles, 32 * steps), dtype=np.uint16)
    padded[:tokens, :columns] = x
    want = padded.reshape(tiles, 16, steps, 16, 2).transpose(0, 2, 3, 1, 4)
    assert np.array_equal(packed, want.reshape(shape))
    assert tiles % 2 == 0
    assert tiles * 16 - 32 < tokens <= tiles * 16


def test_threads_pack_together() -> None:
    x = np.random.default_rng(10).integers(0, 2**16, (200, 70), dtype=np.uint16)
    want, found = (np.full(amx.packed_shape(200, 70), 7, dtype=np.uint16) for _ in range(2))
    counter = np.zeros(1, dtype=np.int64)
    traits = amx.pack(x, want, counter.copy())
    with ThreadPoolExecutor(3) as pool:
        seen = list(pool.map(lambda _: amx.pack(x, found, counter), range(3)))
    assert np.array_equal(found, want)
    assert np.bitwise_or.reduce(seen) == traits == activations.NOT_FINITE | activations.SUBNORMAL


@pytest.mark.parametrize(
    ("value", "traits"),
    [(0x0000, 0), (0x8000, 0), (0x0080, 0), (0xFF7F, 0)]
    + [(value, activations.SUBNORMAL) for value in (0x0001, 0x007F, 0x8001, 0x807F)]
    + [(value, activations.NOT_FINITE) for value in (0x7F80, 0xFF80, 0x7F81, 0xFFFF)],
)
def test_traits(value: int, traits: int) -> None:
    for places in ((0, 0), (16, 33), (19, 40)):
        x = np.full((20, 41), 0x3F80, dtype=np.uint16)
        x[places] = value
        packed = np.zeros(amx.packed_shape(20, 41), dtype=np.uint16)
        assert amx.pack(x, packed, np.zeros(1, dtype=np.int64)) == traits
        assert prepare.has_subnormals(x) == (traits == activations.SUBNORMAL)


def test_traits_add_up() -> None:
    x = np.array([[0x0001, 0x7F80]], dtype=np.uint16)
    packed = np.zeros(amx.packed_shape(1, 2), dtype=np.uint16)
    both = activations.NOT_FINITE | activations.SUBNORMAL
    assert amx.pack(x, packed, np.zeros(1, dtype=np.int64)) == both
    assert not prepare.has_subnormals(np.zeros((0, 4), dtype=np.uint16))


@pytest.mark.parametrize("threads", [1, 2, 64])
def test_height(threads: int) -> None:
    for rows in (0, 1, 32, 576, 4096, 1 << 20):
        height = amx.height_for(rows, threads)
        assert height % 32 == 0
        assert 32 <= height <= amx.HEIGHT
    assert amx.height_for(1 << 20, threads) == amx.HEIGHT


if __name__ == "__main__":
    for name in sys.argv[1:]:
        globals()[name]()
