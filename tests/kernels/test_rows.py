"""The kernels that multiply by stored weights, against exact sums, inside guarded memory.

Run as a program, this file checks some of them in a process of its own.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import subprocess
import sys
from itertools import cycle
from pathlib import Path
from types import ModuleType

import ml_dtypes
import numpy as np
import pytest
from numba import config
from numba.core.extending import _Intrinsic

from nmref import encode, normalise_zero
from nmref.dtypes import DTYPES, Array, widen
from nmref.kernels import activations, isa, vector, vector_avx2, vector_plain, vector_x86
from nmref.linear import run
from nmref.linear.prepared import Prepared, kernel_view
from nmref.tensor import SparseWeight, fast, plain

ROOT = Path(__file__).parents[2]
FEATURES = {
    "rows512": isa.NEEDS["avx512"],
    "rows256": isa.NEEDS["avx2"],
    "rows": frozenset(),
    "panel": frozenset(),
    "dots512": isa.NEEDS["avx512"] | {"avx512bf16"},
    "pairs": isa.NEEDS["avx512"] | {"avx512bf16"},
}
"""Kernel -> what it needs."""

PAIRED = ("dots512", "pairs")
"""Their x is BF16, and they take subnormals for zeros."""

LANES = {"rows512": 1, "dots512": 1, "rows256": 1, "rows": 1, "panel": 16, "pairs": 16}
"""The least of each."""

PLANS = {
    ("rows512", "F32"): [(1, 0), (2, 4), (4, 8), (8, 16)],
    ("rows512", "BF16"): [(1, 16), (4, 0), (8, 8)],
    ("rows512", "F16"): [(2, 0), (1, 4)],
    ("rows512", "I8"): [(1, 0), (8, 16)],
    ("rows256", "F32"): [(1, 0), (2, 4), (4, 8)],
    ("rows256", "BF16"): [(1, 16), (2, 0)],
    ("rows256", "F16"): [(1, 4), (4, 0)],
    ("rows256", "I8"): [(1, 0), (2, 8)],
    **{("rows", dtype): [(1, 0), (3, 4), (2, 8), (1, 16)] for dtype in DTYPES},
    ("panel", "F32"): [(16, 0), (16, 4), (64, 16)],
    ("panel", "BF16"): [(16, 0), (128, 8)],
    ("panel", "F16"): [(16, 4), (16, 0)],
    ("panel", "I8"): [(16, 0), (64, 16)],
    ("dots512", "BF16"): [(1, 0), (2, 16), (4, 0), (8, 4)],
    ("pairs", "BF16"): [(64, 0), (16, 8), (64, 16)],
}
"""Kernel, element type -> tokens (of a panel, its lanes) and outliers of a block."""

PATTERNS = ("8:16", "2:4", "1:2", "4:8")
COLUMNS = (1, 7, 16, 17, 63, 64, 65, 172, 300)
ROWS = (33, 0, 1)
KINDS = ("random", "cancelling", "huge", "tiny", "subnormal")


def product(name: str, w: Prepared, x: Array, lanes: int, threads: int = 1) -> Array:
    """y [T, R] by one kernel."""
    y: Array = run.RUNS[name](w, kernel_view(x), lanes, threads)[0]
    return y


def magnitudes(rng: np.random.Generator, shape: tuple[int, int], kind: str, dtype: str) -> Array:
    """Weights (or, with the element type of x, activations) of some kind, float64."""
    z = rng.standard_normal(shape)
    if kind == "cancelling":
        return (1 + z / 256) * (rng.choice((-64, 64), shape) if dtype != "x" else 1)
    if kind == "random" or dtype == "F16":
        return z
    if kind == "subnormal":
        return z * 2.0 ** (-128 if dtype != "x" else rng.choice((-130, 0, 30)))
    return z * 2.0 ** (55 if kind == "huge" else -70)


def matrix(
    rng: np.random.Generator,
    shape: tuple[int, int],
    pattern: str,
    dtype: str,
    slots: int,
    kind: str,
    twin=fast,
) -> tuple[SparseWeight, Array, Array | None]:
    """A weight, and its base and outliers as float64 [R, K]; the base without its scale."""
    stored, block = map(int, pattern.split(":"))
    rows, columns = shape
    order = rng.random((rows, -(-columns // block), block)).argsort(axis=2)
    base = magnitudes(rng, shape, kind, dtype) * (
        (order < stored).reshape(rows, order.shape[1] * block)[:, :columns]
        & (rng.random(shape) < 0.97)
    )
    if dtype == "I8":
        base = (
            np.clip(np.rint(base * 40), -128, 127)
            if kind in ("random", "cancelling")
            else (np.sign(base) * rng.integers(1, 128, shape))
        )
    base = normalise_zero(base.astype(DTYPES[dtype]))
    scale = rng.uniform(2**-9, 1, rows).astype(np.float32) if dtype == "I8" else None
    if not slots:
        return encode(base, pattern, scale=scale, twin=twin), base.astype(np.float64), None
    over = magnitudes(rng, shape, kind, dtype) * 8 * (base == 0)
    order = np.concatenate([rng.random((rows, 256)).argsort(axis=1) for _ in range(2)], axis=1)
    over[order[:, :columns] >= slots] = 0
    over = normalise_zero(over.astype(DTYPES["F32" if dtype == "I8" else dtype]))
    weight = encode(
        base, pattern, scale=scale, outliers=over, outlier_pattern=f"{slots}:256", twin=twin
    )
    return weight, base.astype(np.float64), over.astype(np.float64)


def assert_close(y: Array, w: Prepared, x: Array, base: Array, over: Array | None) -> None:
    """|y - exact| <= gamma_K sum |w||x|, and underflow; a scale is one more rounding."""
    steps = (w.columns + (w.scale is not None)) * 2.0**-24
    gamma = steps / (1 - steps)
    for t, r in np.ndindex(y.shape):
        terms = base[r] * x[t]  # exact in float64
        scale = 1.0 if w.scale is None else float(w.scale[r])
        exact, most = scale * math.fsum(terms), scale * math.fsum(abs(terms))
        if over is not None:
            terms = over[r] * x[t]
            exact, most = exact + math.fsum(terms), most + math.fsum(abs(terms))
        bound = gamma * most * (1 + 1e-6) + w.columns * 2.0**-149
        assert abs(float(y[t, r]) - exact) <= bound, (t, r, y[t, r], exact, bound)


def activations_of(rng: np.random.Generator, name: str, shape: tuple[int, int], kind: str) -> Array:
    x = magnitudes(rng, shape, kind, "x")
    return x.astype(ml_dtypes.bfloat16 if name in PAIRED else np.float32)


def check(name: str, dtype: str, columns=COLUMNS, plan=None, rows=ROWS, twin=fast) -> None:
    """Every number of columns with every pattern; the rest of a plan takes turns."""
    rng = np.random.default_rng(len(name) + len(dtype))
    plans = cycle(plan or PLANS[name, dtype])
    kinds = cycle(
        [kind for kind in KINDS if name not in PAIRED or kind not in ("tiny", "subnormal")]
    )
    heights = cycle(rows)
    for k in columns:
        for pattern in PATTERNS:
            (lanes, slots), kind = next(plans), next(kinds)
            height = max(next(heights), 1 if name in ("panel", "pairs") else 0)
            weight, base, over = matrix(rng, (height, k), pattern, dtype, slots, kind, twin)
            w = Prepared(weight)
            if name == "pairs" and w.values.shape[1] % 2:
                continue
            tokens = lanes if lanes < 16 else int(rng.integers(1, 20))
            x = activations_of(rng, name, (tokens, k), kind)
            y = product(name, w, x, lanes)
            assert_close(y, w, widen(x).astype(np.float64), base, over)


def skip_without(name: str) -> None:
    missing = FEATURES[name] - isa.features()
    if config.DISABLE_JIT:
        return
    if missing or not all(isa.has(feature) for feature in FEATURES[name]):
        pytest.skip(f"{name} needs {', '.join(sorted(missing)) or 'another target of Numba'}")


@pytest.mark.parametrize(("name", "dtype"), PLANS)
def test_sums(name: str, dtype: str) -> None:
    skip_without(name)
    check(name, dtype)


def test_panel_integers() -> None:
    """int8 by int8 is exact in int32."""
    rng = np.random.default_rng(3)
    for k in COLUMNS:
        weight, base, _ = matrix(rng, (33, k), "8:16", "I8", 0, "random")
        x = rng.integers(-128, 128, (5, k)).astype(np.int8)
        y = product("panel", Prepared(weight), x, 16)
        assert np.array_equal(y, x.astype(np.int64) @ base.T.astype(np.int64))


@pytest.mark.parametrize("name", FEATURES)
def test_threads_do_not_change_a_bit(name: str) -> None:
    skip_without(name)
    rng = np.random.default_rng(4)
    weight, _, _ = matrix(rng, (1500, 172), "8:16", "BF16", 16, "random")
    w, lanes = Prepared(weight), LANES[name]
    x = activations_of(rng, name, (1 if lanes == 1 else 40, 172), "random")
    want = product(name, w, x, lanes)
    for _ in range(5):
        assert np.array_equal(product(name, w, x, lanes, 3), want)


def guarded(array: Array, at_end: bool) -> Array:
    """A copy whose end (or start) touches a page that nobody may read or write."""
    page = mmap.PAGESIZE
    length = -(-array.nbytes // page) * page
    region = mmap.mmap(-1, length + 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(region))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    for place in (start, start + page + length):
        if protect(ctypes.c_void_p(place), ctypes.c_size_t(page), 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    offset = page + (length - array.nbytes if at_end else 0)
    copy: Array = np.ndarray(array.shape, array.dtype, buffer=region, offset=offset)
    copy[...] = array
    copy.flags.writeable = array.flags.writeable
    return copy


class GuardedNumpy:
    """NumPy whose new arrays lie beside forbidden pages."""

    def __init__(self, at_end: bool) -> None:
        self.at_end = at_end

    def __getattr__(self, name: str) -> object:
        return getattr(np, name)

    def empty(self, shape: int | tuple[int, ...], dtype: type[np.generic] = np.float32) -> Array:
        return guarded(np.full(shape, 77, dtype=dtype), self.at_end)

    def zeros(self, shape: int | tuple[int, ...], dtype: type[np.generic]) -> Array:
        return guarded(np.zeros(shape, dtype=dtype), self.at_end)


def guarded_product(name: str, w: Prepared, x: Array, lanes: int, at_end: bool) -> Array:
    """Every array that the kernel sees is guarded, and as small as it may be."""
    numpy = GuardedNumpy(at_end)
    run.np, run.buffer = numpy, lambda name, *rest: numpy.empty(*rest)
    parts = ("values", "scale", "out_values", "out_index", "words", "stored_columns", "pairs")
    for part in parts:
        if getattr(w, part) is not None:
            w.__dict__[part] = guarded(getattr(w, part), at_end)
    y: Array = run.RUNS[name](w, guarded(kernel_view(x), at_end), lanes, 1)[0]
    return y


def check_guarded(name: str) -> None:
    """Every length of a row's last group, and outliers of blocks that are not whole."""
    rng, lanes, ordinary = np.random.default_rng(5), LANES[name], (run.np, run.buffer)
    for dtype in ("BF16", "I8", "F32") if name not in PAIRED else ("BF16",):
        for k in (1, 7, 16, 17, 60, 64, 172, 257, 300):
            for pattern in ("8:16", "2:4", "1:2"):
                slots = 16 if dtype == "BF16" else 0
                weight, _, _ = matrix(rng, (17, k), pattern, dtype, slots, "random", plain)
                w = Prepared(weight)
                if name == "pairs" and w.values.shape[1] % 2:
                    continue
                x = activations_of(rng, name, (1 if lanes == 1 else 18, k), "random")
                want = product(name, w, x, lanes)
                for at_end in (True, False):
                    y = guarded_product(name, w, x, lanes, at_end)
                    run.np, run.buffer = ordinary
                    assert np.array_equal(y, want)


def check_small(name: str) -> None:
    """Some of `check`, for processes that compile for another CPU, or not at all."""
    for kernel, dtype in PLANS:
        if kernel == name and (config.DISABLE_JIT or dtype in ("F32", "F16")):
            check(name, dtype, (1, 20, 66), PLANS[kernel, dtype][:1], (3,), twin=plain)


def check_halves(name: str) -> None:
    """Every F16 number, one at a time and in vectors, becomes the same float32."""
    every = np.arange(1 << 16, dtype=np.uint16).reshape(16, 1 << 12)
    want, counter = every.view(np.float16).astype(np.float32), np.zeros(1, dtype=np.int64)
    one, vectors = np.zeros_like(want), np.zeros(1 << 16, dtype=np.float32)
    getattr(activations, name)(every.view(np.int16), one)
    activations.panels(every.view(np.int16), vectors, 16, 1 << 12, counter)
    assert np.array_equal(one, want, equal_nan=True)
    assert np.array_equal(vectors.reshape(1 << 12, 16).T, want, equal_nan=True)
    finite = np.isfinite(want)
    assert np.array_equal(one.view(np.uint32)[finite], want.view(np.uint32)[finite])


def alone(what: str, *names: str, **environment: str) -> None:
    """A function of this file in a process of its own."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-W", "error", __file__, what, *names]
    found = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, (found.returncode, found.stdout, found.stderr)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect as Linux has it")
@pytest.mark.parametrize("name", FEATURES)
def test_nothing_outside_is_touched(name: str) -> None:
    skip_without(name)
    alone("check_guarded", name)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect as Linux has it")
def test_guards_guard() -> None:
    for at_end, index in ((True, 10), (False, -1)):
        with pytest.raises(AssertionError, match=r"\(-(7|10|11), "):
            alone("touch", str(int(at_end)), str(index))


def touch(at_end: str, index: str) -> None:
    """Read one element beside ten."""
    array = guarded(np.zeros(10, dtype=np.float32), at_end == "1")
    ctypes.c_float.from_address(array.ctypes.data + 4 * int(index)).value  # noqa: B018


def test_halves() -> None:
    check_halves("widen")


def test_without_compiler() -> None:
    """Stand-ins of all instructions: nothing is skipped, whatever the machine."""
    alone("check_small", *FEATURES, NUMBA_DISABLE_JIT="1")


@pytest.mark.parametrize("module", [vector, vector_x86, vector_avx2], ids=lambda m: m.__name__)
def test_every_operation_has_a_stand_in(module: ModuleType) -> None:
    own = [name for name, value in vars(module).items() if isinstance(value, _Intrinsic)]
    names = {*vector_plain.VECTOR, *vector_plain.X86, *vector_plain.AVX2}
    assert own
    assert set(own) <= names
    assert all(callable(getattr(vector_plain, name)) for name in names)


@pytest.mark.parametrize(
    ("cpu", "names"), {"haswell": ("rows256", "rows", "panel"), "x86-64": ("rows", "panel")}.items()
)
def test_other_targets(cpu: str, names: tuple[str, ...]) -> None:
    if not isa.is_x86():
        pytest.skip("not an x86-64 machine")
    if cpu == "haswell":
        skip_without("rows256")
    target = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": ""}
    alone("check_small", *names, **target)
    if cpu == "x86-64":
        alone("check_halves", "widen", **target)


if __name__ == "__main__":
    if sys.argv[1] == "touch":
        touch(*sys.argv[2:])
    for each in sys.argv[2:] if sys.argv[1] != "touch" else ():
        globals()[sys.argv[1]](each)
