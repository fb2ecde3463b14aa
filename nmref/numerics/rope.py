"""RoPE: frequencies, correctly rounded tables, and the rotation (SPEC 8.22 to 8.24).

Tables are made with integers of 256 bits (`fixed`) and rounded once, so every machine has the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from nmref.errors import Code, NmrefError
from nmref.numerics.fixed import BITS, ONE, cos_sin, nearest, two_pi

F32 = npt.NDArray[np.float32]

_DIGITS = 100  # decimal digits of the frequencies
_CHUNK = 256  # positions that are made at once
_MAX_POSITION = 1 << 31


@dataclass(frozen=True)
class Llama3Scaling:
    """`rope_type` "llama3": slow frequencies are divided by `factor` (SPEC 8.22)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


@dataclass(frozen=True)
class Rope:
    """What the tables are made from.

    Attributes
    ----------
    theta : base of the frequencies, at least 1.
    head_dim : d, even.
    scaling : None or a Llama3Scaling.
    """

    theta: float
    head_dim: int
    scaling: Llama3Scaling | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.theta < float("inf"):
            raise NmrefError(Code.T_ARGUMENT, "rope theta", str(self.theta), "1 or more")
        if self.head_dim < 2 or self.head_dim % 2:
            got = str(self.head_dim)
            raise NmrefError(Code.T_ARGUMENT, "rope head_dim", got, "an even number")


@lru_cache(maxsize=16)
def frequencies(rope: Rope) -> tuple[int, ...]:
    """f[i], or f'[i] if scaled, times 2^BITS, i < d/2 (SPEC 8.22)."""
    with localcontext(prec=_DIGITS):
        log = Decimal(rope.theta).ln()
        steps = (Decimal(-2 * i) / Decimal(rope.head_dim) for i in range(rope.head_dim // 2))
        return tuple(int(_scaled((step * log).exp(), rope.scaling) * ONE) for step in steps)


def _scaled(f: Decimal, scaling: Llama3Scaling | None) -> Decimal:
    if scaling is None:
        return f
    factor, low, high = (
        Decimal(value)
        for value in (scaling.factor, scaling.low_freq_factor, scaling.high_freq_factor)
    )
    turns = scaling.original_max_position_embeddings * f / (Decimal(two_pi()) / ONE)
    if turns > high:
        return f
    if turns < low:
        return f / factor
    z = (turns - low) / (high - low)
    return (1 - z) * f / factor + z * f


def tables(rope: Rope, start: int, count: int) -> tuple[F32, F32]:
    """Cos and sin of positions start ... start + count - 1, each [count, d/2] (SPEC 8.23)."""
    if start < 0 or count < 0 or start + count > _MAX_POSITION:
        got = f"{start} to {start + count}"
        raise NmrefError(Code.T_ARGUMENT, "rope positions", got, f"0 to {_MAX_POSITION}")
    first, last = start // _CHUNK, -(-(start + count) // _CHUNK)
    made = [_chunk(rope, number) for number in range(first, max(last, first + 1))]
    skip = start - first * _CHUNK
    cos, sin = (np.concatenate(table)[skip : skip + count] for table in zip(*made, strict=True))
    return cos, sin


@lru_cache(maxsize=256)  # 256 positions of d = 128 are 131 KB
def _chunk(rope: Rope, number: int) -> tuple[F32, F32]:
    """Cos and sin of the positions of one chunk, each [256, d/2].

    The first position by the series; each next one is the one before, turned by one frequency.
    """
    columns = []
    for frequency in frequencies(rope):
        c, s = cos_sin(number * _CHUNK * frequency)
        step_c, step_s = cos_sin(frequency)
        cos, sin = [], []
        for _ in range(_CHUNK):
            cos.append(c)
            sin.append(s)
            c, s = (c * step_c - s * step_s) >> BITS, (s * step_c + c * step_s) >> BITS
        columns.append((nearest(cos), nearest(sin)))
    cos_table, sin_table = (np.stack(table, axis=1) for table in zip(*columns, strict=True))
    if number == 0:  # the one position whose values are not transcendental
        cos_table[0], sin_table[0] = 1, 0
    for table in (cos_table, sin_table):
        table.setflags(write=False)
    return cos_table, sin_table


def turn(x: F32, cos: F32, sin: F32) -> F32:
    """Turn the pairs (i, i + d/2): x [n, T, d], tables [T, d/2] -> [n, T, d] (SPEC 8.24).

    Products of binary32 numbers are exact in binary64; the sum is rounded there, then to binary32.
    """
    low, high = np.split(x.astype(np.float64), 2, axis=-1)  # [n, T, d/2]
    c, s = cos.astype(np.float64), sin.astype(np.float64)
    with np.errstate(all="ignore"):  # infinities and NaN are results like others
        turned = np.concatenate([low * c - high * s, high * c + low * s], axis=-1)
        return turned.astype(np.float32)


def digest(rope: Rope, positions: int) -> str:
    """Hex SHA-256 of the tables of the first positions: all cos, then all sin (SPEC 8.23)."""
    cos, sin = tables(rope, 0, positions)
    return hashlib.sha256(cos.astype("<f4").tobytes() + sin.astype("<f4").tobytes()).hexdigest()
