"""Adapters: other implementations as the testing kit's plain callables."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance import naive
from nmref.testing import Dense, Implementation, Input, Parts, Spec
from nmref.testing.contents import CONTAINER_SIZES, part_shapes
from tests.testing.plain_file import Plain


def _dense(dtype: str, bits: Any, shape: list[int]) -> Dense:
    return Dense(dtype, np.array(bits, dtype=f"<u{CONTAINER_SIZES[dtype]}").reshape(shape))


def _rank(positions: list[int], n: int, m: int) -> int:
    return naive.rank(sum(1 << p for p in positions))


def _unrank(code: int, n: int, m: int) -> list[int]:
    return naive.codes.positions(naive.unrank(code, n, m))


def _encode(given: Input) -> Parts:
    # The witness takes rows of integers; what they cannot express is refused here.
    if given.base.bits.ndim != 2:
        raise naive.Fault("X_SHAPE", "base")
    more: dict[str, Any] = {}
    if given.outliers is not None:
        more = {
            "outliers": given.outliers.bits.tolist(),
            "out_dtype": given.outliers.dtype,
            "out_pattern": given.out_pattern,
            "out_coding": given.coding,
            "out_mask": None if given.out_mask is None else given.out_mask.tolist(),
        }
    parts = naive.encode(
        given.base.dtype,
        given.base.bits.tolist(),
        given.pattern,
        mask=None if given.mask is None else given.mask.tolist(),
        scale=None if given.scale is None else given.scale.tolist(),
        columns=given.base.bits.shape[1],
        **more,
    )
    return {suffix: data for suffix, (_, _, data) in parts.items()}


def _parts(spec: Spec, parts: Parts) -> naive.Parts:
    return {s: (dtype, shape, parts[s]) for s, (dtype, shape) in part_shapes(spec).items()}


def _decode(spec: Spec, parts: Parts) -> Dense:
    dtype, rows = naive.decode(spec, _parts(spec, parts))
    return _dense(dtype, rows, spec["shape"])


def _canonicalise(spec: Spec, parts: Parts) -> Parts:
    found = naive.canonical(spec, _parts(spec, parts))
    return {suffix: data for suffix, (_, _, data) in found.items()}


def _read(data: bytes) -> dict[str, Dense]:
    file = naive.read(data)
    found = {}
    for name, (spec, parts) in file.weights.items():
        dtype, rows = naive.decode(spec, parts)
        found[name] = _dense(dtype, rows, spec["shape"])
    for name, (dtype, shape, raw) in file.others.items():
        bits = np.frombuffer(raw, f"<u{CONTAINER_SIZES[dtype]}")
        found[name] = _dense(dtype, bits, shape)
    return found


def _write(weights: dict[str, tuple[Spec, Parts]], others: dict[str, Dense]) -> bytes:
    tensors = {
        name: (dense.dtype, list(dense.bits.shape), dense.bits.tobytes())
        for name, dense in others.items()
    }
    return naive.write(
        {name: (spec, _parts(spec, parts)) for name, (spec, parts) in weights.items()}, tensors
    )


NAIVE = Implementation(
    rank=_rank,
    unrank=_unrank,
    pack=naive.pack,
    unpack=naive.unpack,
    encode=_encode,
    decode=_decode,
    canonicalise=_canonicalise,
    read_file=_read,
    write_file=_write,
    ordered=True,
)
PLAIN = Plain().implementation()
