"""nmref itself as an implementation: where the laws take their expectations from."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from nmref import bits, colex, container, tensor
from nmref.dtypes import CONTAINER_DTYPES, Array, bits_of, container_name
from nmref.errors import Code, NmrefError
from nmref.pattern import NMPattern
from nmref.testing.contents import part_shapes, part_sizes
from nmref.testing.plain import Dense, Implementation, Input, Parts, Spec


def rank(positions: list[int], n: int, m: int) -> int:
    """SPEC 2.5."""
    stored = np.zeros((1, m), dtype=np.bool_)
    stored[0, positions] = True
    return int(colex.rank(stored, NMPattern(n, m))[0])


def unrank(code: int, n: int, m: int) -> list[int]:
    """SPEC 2.14."""
    pattern = NMPattern(n, m)
    stored = colex.unrank(np.array([code], dtype=colex.code_dtype(pattern)), pattern)
    return [int(position) for position in np.flatnonzero(stored[0])]


def _code_dtype(width: int) -> np.dtype[Any]:
    return np.dtype(np.uint64) if width <= 64 else np.dtype(object)


def pack(codes: list[int], width: int) -> bytes:
    """SPEC 2.9."""
    return bits.pack(np.array([codes], dtype=_code_dtype(width)), width).tobytes()


def unpack(data: bytes, count: int, width: int) -> list[int]:
    """SPEC 2.15."""
    row = np.frombuffer(data, dtype=np.uint8)[None]
    return [int(code) for code in bits.unpack(row, count, width, _code_dtype(width))[0]]


def _array(dense: Dense) -> Array:
    """The elements; a dtype that no container knows stays as bits, which encode refuses."""
    known = CONTAINER_DTYPES.get(dense.dtype)
    return dense.bits.view(known) if known is not None else dense.bits


def encode(inputs: Input) -> Parts:
    """SPEC 3.10."""
    more: dict[str, Any] = {}
    if inputs.outliers is not None:
        more = {
            "outliers": _array(inputs.outliers),
            "outlier_pattern": inputs.out_pattern,
            "outlier_mask": inputs.out_mask,
            "coding": inputs.coding,
        }
    scale = None if inputs.scale is None else inputs.scale.view(np.float32)
    base = _array(inputs.base)
    return _parts(tensor.encode(base, inputs.pattern, mask=inputs.mask, scale=scale, **more))


def _parts(weight: tensor.SparseWeight) -> Parts:
    return {suffix: array.tobytes() for suffix, array in weight.parts().items()}


def weight_of(spec: Spec, parts: Parts) -> tensor.SparseWeight:
    """nmref's object; E_MISSING and E_SHAPE when the parts are not those of the spec."""
    out, arrays = spec["outliers"], {}
    for suffix, (dtype, sizes) in part_shapes(spec).items():
        if suffix not in parts:
            raise NmrefError(Code.E_MISSING, suffix, "no such part", dtype)
        size = part_sizes(spec)[suffix]
        if len(parts[suffix]) != size:
            raise NmrefError(Code.E_SHAPE, suffix, f"{len(parts[suffix])} bytes", f"{size}")
        arrays[suffix] = np.frombuffer(parts[suffix], CONTAINER_DTYPES[dtype]).reshape(sizes)
    outliers = out and tensor.OutlierSpec(
        NMPattern.parse(out["pattern"]), out["dtype"], out["coding"]
    )
    shape = (spec["shape"][0], spec["shape"][1])
    pattern = NMPattern.parse(spec["pattern"])
    return tensor.from_parts(tensor.WeightSpec(shape, pattern, spec["dtype"], outliers), arrays)


def decode(spec: Spec, parts: Parts) -> Dense:
    """SPEC 4.9, after the checks of 6.6."""
    weight = weight_of(spec, parts)
    tensor.check(weight, "w")
    dense = weight.to_dense()
    return Dense(container_name(dense), bits_of(dense))


def canonicalise(spec: Spec, parts: Parts) -> Parts:
    """SPEC 3.13."""
    return _parts(tensor.canonicalise(weight_of(spec, parts)))


def read_file(data: bytes) -> dict[str, Dense]:
    """SPEC part 6."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "w.safetensors")
        path.write_bytes(data)
        for name, item in container.NMFile(path).read_all():
            array = item.to_dense() if isinstance(item, tensor.SparseWeight) else item
            raw = np.frombuffer(array.tobytes(), f"<u{array.dtype.itemsize}")
            found[name] = Dense(container_name(array), raw.reshape(array.shape))
    return found


def write_file(weights: dict[str, tuple[Spec, Parts]], others: dict[str, Dense]) -> bytes:
    """SPEC 5.19."""
    tensors: dict[str, Any] = {name: weight_of(*weight) for name, weight in weights.items()}
    tensors |= {
        name: dense.bits.view(CONTAINER_DTYPES[dense.dtype]) for name, dense in others.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "w.safetensors")
        container.save(path, tensors)
        return path.read_bytes()


REFERENCE = Implementation(
    rank=rank,
    unrank=unrank,
    pack=pack,
    unpack=unpack,
    encode=encode,
    decode=decode,
    canonicalise=canonicalise,
    read_file=read_file,
    write_file=write_file,
    ordered=True,
)
"""All of nmref."""
