"""Everything that compiles for this machine, as small jobs that check their own results.

Numba compiles a kernel again for every element type, layout and writability of its arrays: a job
does what a caller would, with arrays that were just made and with arrays as a file gives them.
What is rare is left out and compiles when it is first used: outliers of another element type than
the base or of another pattern than 16:256, and arrays that are not aligned to their elements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import product as every
from itertools import zip_longest
from typing import Protocol

import numpy as np

from nmref.dtypes import DTYPES, Array, widen
from nmref.kernels.choice import keep_largest
from nmref.linear.choose import Choice, choose
from nmref.linear.multiply import matmul
from nmref.linear.prepared import prepared
from nmref.linear.samples import SEED, as_loaded, sample, sealed
from nmref.numerics import Profile, expand, fast, plain
from nmref.pattern import NMPattern
from nmref.tensor import SparseWeight, check, encode, warnings
from nmref.tensor.spec import Coding

TOKENS = (1, 2, 4, 8, 16, 32, 64, 128)
"""Each may lead to another kernel."""

SHAPE = (33, 300)
"""Rows and columns of a job's weight: a rest of every block, group and vector."""

OPERANDS = (
    *(("F32", "F32"), ("F32", "F16"), ("F32", "BF16"), ("F16", "F32"), ("F16", "F16")),
    *(("BF16", "F32"), ("BF16", "BF16"), ("I8", "F32"), ("I8", "I8")),
)
"""Element types of W and x; other pairs have no kernels of their own."""

OUTLIERS = "16:256"
PROFILES = (
    *("f64.seq", "f32.seq", "f32.lanes8.fma+split", "exact"),
    *("tc.L8.F25.rz.rz.col", "tc.L16.F25.rd.rne.slot"),
)


class Job(Protocol):
    """Something that compiles kernels and uses them."""

    @property
    def name(self) -> str:
        """Unlike that of any other job."""

    def run(self) -> str:
        """What is wrong with the result, or empty."""


@dataclass(frozen=True)
class Product:
    """y = x W^T by `matmul`: element types, pattern of the outliers or empty, T."""

    dtype: str
    outliers: str
    x_dtype: str
    tokens: int

    @property
    def name(self) -> str:
        """Such as "BF16 16:256 x F32, T = 8"."""
        return f"{self.operands}, T = {self.tokens}"

    @property
    def operands(self) -> str:
        """Such as "BF16 16:256 x F32"."""
        return f"{f'{self.dtype} {self.outliers}'.strip()} x {self.x_dtype}"

    def choice(self) -> Choice:
        """The kernel on this machine, and why."""
        return choose(prepared(_weight(self.dtype, self.outliers)), self.tokens, self.x_dtype)

    def run(self) -> str:
        """By exact sums: |y - exact| <= gamma_K sum |w| |x|; integers to the bit."""
        weight = _weight(self.dtype, self.outliers)
        x = _activations(self.tokens, SHAPE[1], self.x_dtype)
        y = matmul(x, weight)
        if self.x_dtype == "I8":
            right = weight.base.to_dense_bits().view(np.int8).astype(np.int64)
            return _beyond(y, x.astype(np.int64) @ right.T, np.zeros(1))
        return _beyond(y, *_exact(widen(x), expand(weight)))


@dataclass(frozen=True)
class Task:
    """Any other job."""

    name: str
    work: Callable[[], str]

    def run(self) -> str:
        """What is wrong with the result, or empty."""
        return self.work()


def jobs() -> list[Job]:
    """All of them; neighbours share few kernels, so that compilers seldom wait for each other."""
    others: list[Job] = [*goldens(), *codecs(), *choices()]
    mixed = zip_longest(others, products())
    return [job for pair in mixed for job in pair if job is not None]


def products() -> list[Product]:
    """Those of `matmul`."""
    return [
        Product(dtype, outliers, x_dtype, tokens)
        for (dtype, x_dtype), outliers in every(OPERANDS, ("", OUTLIERS))
        for tokens in TOKENS
        if not (x_dtype == "I8" and outliers)
    ]


def codecs() -> list[Task]:
    """Encode, decode, verify; F16 has the kernels of BF16."""
    kinds: tuple[tuple[str, Coding], ...] = (("", "idx8"), (OUTLIERS, "idx8"), (OUTLIERS, "colex"))
    return [
        Task(
            f"codec {dtype} {pattern} {f'{outliers} {coding}' if outliers else ''}".strip(),
            partial(_codec, pattern, dtype, outliers, coding),
        )
        for dtype, pattern, (outliers, coding) in every(
            ("F32", "BF16", "I8"), ("8:16", "2:4"), kinds
        )
    ]


def goldens() -> list[Task]:
    """The dots of every kind of profile, the functions, and terms that are not finite."""
    dots = [Task(f"dot {name}", partial(_golden, name)) for name in PROFILES]
    others = {"dot i32": _golden_i32, "exp and sums": _functions, "infinite x": _not_finite}
    return [*dots, *(Task(name, work) for name, work in others.items())]


def choices() -> list[Task]:
    """The N:M choice of a prune."""
    return [Task(f"choice {pattern}", partial(_choice, pattern)) for pattern in ("8:16", "16:256")]


@cache
def _weight(dtype: str, outliers: str = "") -> SparseWeight:
    return as_loaded(sample(SHAPE, "8:16", dtype, outliers))


def _activations(tokens: int, columns: int, dtype: str = "F32") -> Array:
    rng = np.random.default_rng(SEED + 1)
    if dtype == "I8":
        return rng.integers(-128, 128, (tokens, columns), dtype=np.int8)
    return rng.standard_normal((tokens, columns)).astype(DTYPES[dtype])


def _exact(x: Array, dense: Array) -> tuple[Array, Array]:
    """y as float64, whose own errors are nothing here, and the bound of float32 sums."""
    wide, weights = x.astype(np.float64), dense.astype(np.float64)
    unit = dense.shape[1] * 2.0**-24
    return wide @ weights.T, unit / (1 - unit) * (np.abs(wide) @ np.abs(weights).T)


def _beyond(y: Array, right: Array, bound: Array) -> str:
    """The first element that is further away than it may be, or empty."""
    if y.shape != right.shape:
        return f"y {list(y.shape)}, want {list(right.shape)}"
    bad = np.argwhere(~(np.abs(y - right) <= bound))
    if not len(bad):
        return ""
    t, r = bad[0]
    return f"{len(bad)} of {y.size} wrong: y[{t}, {r}] = {y[t, r]}, want {right[t, r]}"


def _codec(pattern: str, dtype: str, outliers: str, coding: Coding) -> str:
    """Every way through the codec, in memory of both kinds."""
    weight = sample(SHAPE, pattern, dtype, outliers, coding)
    for each in (weight, as_loaded(weight)):
        check(each, "weight")
        warnings(each, "weight")
        dense, out = each.to_dense(), each.outliers
        base = each.base.to_dense_bits().view(each.base.values.dtype)
        over = None if out is None else out.to_dense_bits().view(out.values.dtype)
        for copy in (sealed, np.copy):
            again = encode(
                copy(base),
                str(each.base.pattern),
                mask=base != 0,
                scale=each.base.scale,
                outliers=None if over is None else copy(over),
                outlier_mask=None if over is None else over != 0,
                coding="idx8" if out is None else out.coding,
            )
            encode(copy(base), str(each.base.pattern), scale=each.base.scale)
            if again.to_dense().tobytes() != dense.tobytes():
                return "encode and decode lose something"
        if prepared(each).halves and prepared(each).words.shape[0] != SHAPE[0]:
            return "rows are lost"
    return ""


def _choice(pattern: str) -> str:
    """The largest of every block, with and without some that are excluded, by sorting."""
    chosen, rng = NMPattern.parse(pattern), np.random.default_rng(SEED + 2)
    score = rng.integers(0, 50, SHAPE).astype(np.float32)  # ties
    for excluded in (np.zeros((0, 0), dtype=np.bool_), rng.random(SHAPE) < 0.1):
        closed = excluded if excluded.size else np.zeros(SHAPE, dtype=np.bool_)
        right = np.zeros(SHAPE, dtype=np.bool_)
        for first in range(0, SHAPE[1], chosen.block):
            some = slice(first, first + chosen.block)
            order = np.argsort(np.where(closed, 1, -score)[:, some], axis=1, kind="stable")
            np.put_along_axis(right[:, some], order[:, : chosen.stored], True, axis=1)
        kept = np.empty(SHAPE, dtype=np.bool_)
        keep_largest(score.view(np.uint32), excluded, chosen.stored, chosen.block, kept)
        if not np.array_equal(kept, right & ~closed):
            return "others than the largest are chosen"
    return ""


def _golden(name: str) -> str:
    """The twins agree; threads change nothing."""
    profile, weight = Profile.parse(name), _weight("F32", OUTLIERS)
    few = encode(weight.base.to_dense_bits()[:2].view(np.float32))
    x = _activations(2, SHAPE[1])
    if not np.array_equal(matmul(x, few, profile), matmul(x, few, profile, twin=plain)):
        return "the twins disagree"
    rows = 2 * fast.TERMS_A_THREAD // x.size + 1  # enough for two threads
    large = np.resize(expand(weight), (rows, SHAPE[1]))
    for dense in (large, sealed(large)):
        one, two = (matmul(x, dense, profile, threads=n) for n in (1, 2))
        if not np.array_equal(one, two):
            return "threads change the result"
    several = sample((rows, SHAPE[1]), "8:16", "F32", OUTLIERS) if profile.split else few
    matmul(x, several, profile, threads=2)
    return ""


def _golden_i32() -> str:
    weight, x = _weight("I8"), _activations(3, SHAPE[1], "I8")
    return _beyond(matmul(x, weight, "i32"), matmul(x, weight, "i32", twin=plain), np.zeros(1))


def _functions() -> str:
    x = _activations(3, SHAPE[1])
    for name in ("exp", "sums", "squares"):
        if not np.array_equal(getattr(fast, name)(x), getattr(plain, name)(x)):
            return f"the twins disagree on {name}"
    return ""


def _not_finite() -> str:
    """A zero weight makes no term, for infinite x too."""
    weight = encode(np.eye(2, 32, dtype=np.float32))
    for tokens in (1, 2):
        x = np.full((tokens, 32), np.inf, dtype=np.float32)
        x[:, :2] = 3
        for w in (weight, weight.to_dense(), sealed(weight.to_dense())):
            if not (matmul(x, w) == 3).all():
                return "a term of a zero weight is not finite"
    return ""
