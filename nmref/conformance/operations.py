"""Every operation of the suite by nmref: from and to the JSON of the protocol."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from nmref import colex, container, tensor
from nmref.conformance import tiny, trace
from nmref.conformance.arrays import read_array, write_array
from nmref.container import metadata, strictjson
from nmref.container.reader import check_structure
from nmref.container.safetensors import Entry
from nmref.dtypes import Array, container_name
from nmref.errors import Code, NmrefError
from nmref.linear import matmul
from nmref.numerics import SplitMix64, functions, ops, rope
from nmref.pattern import NMPattern
from nmref.tensor import SparseWeight

Json = dict[str, Any]


class Operations:
    """One method for every operation; parameters and result are its input and output.

    Each raises NmrefError for what nmref refuses.  The container is the same for both twins.

    Parameters
    ----------
    twin : "fast" (compiled loops) or "plain" (NumPy and Python).
    """

    def __init__(self, twin: str = "fast") -> None:
        self.codec, self.numerics = _twins(twin)

    def unrank(self, pattern: str, codes: list[str]) -> Json:
        """SPEC 2.14."""
        return {"masks": _masks([int(code, 16) for code in codes], NMPattern.parse(pattern))}

    def rank(self, pattern: str, masks: list[str]) -> Json:
        """SPEC 2.5."""
        found = _codes([int(mask, 16) for mask in masks], NMPattern.parse(pattern))
        return {"codes": [f"{int(code):x}" for code in found]}

    def decode(self, spec: Json, parts: Json) -> Json:
        """SPEC 4.9, after the checks of part 6 that concern one weight."""
        return {"W": write_array(self._checked(spec, parts).to_dense(self.codec))}

    def warnings(self, spec: Json, parts: Json) -> Json:
        """SPEC 6.8."""
        found = tensor.warnings(self._checked(spec, parts), "w")
        return {"warnings": sorted(text.split()[0] for text in found)}

    def encode(
        self,
        base: Json,
        pattern: str,
        mask: Json | None = None,
        scale: Json | None = None,
        outliers: Json | None = None,
        out_pattern: str | None = None,
        out_coding: str | None = None,
        out_mask: Json | None = None,
    ) -> Json:
        """SPEC 3.10."""
        more: dict[str, Any] = {}
        if outliers is not None:
            more = {"outlier_pattern": out_pattern, "coding": out_coding}
        weight = tensor.encode(
            read_array(base, "base"),
            pattern,
            mask=_optional(mask, "mask"),
            scale=_optional(scale, "scale"),
            outliers=_optional(outliers, "outliers"),
            outlier_mask=_optional(out_mask, "out_mask"),
            twin=self.codec,
            **more,
        )
        return {"parts": {suffix: write_array(part) for suffix, part in weight.parts().items()}}

    def read(self, file: str) -> Json:
        """SPEC part 6."""
        tensors = {}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "file.safetensors")
            path.write_bytes(bytes.fromhex(file))
            for name, item in container.NMFile(path).read_all():
                dense = item.to_dense(self.codec) if isinstance(item, SparseWeight) else item
                tensors[name] = write_array(dense)
        return {"tensors": tensors}

    def write(self, weights: Json, others: Json) -> Json:
        """SPEC 5.19."""
        tensors: dict[str, SparseWeight | Array] = {
            name: read_array(array, name) for name, array in others.items()
        }
        tensors |= {name: self._checked(w["spec"], w["parts"]) for name, w in weights.items()}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "file.safetensors")
            container.save(path, tensors)
            return {"file": path.read_bytes().hex()}

    def read_model(self, files: dict[str, str]) -> Json:
        """SPEC 5.21 and 5.22; names of files count from the folder of the index."""
        tensors = {}
        with tempfile.TemporaryDirectory() as outside:
            folder = Path(outside, "model")
            folder.mkdir()
            for name, data in files.items():
                _put(folder, name, bytes.fromhex(data))
            for name, item in container.load(folder).items():
                dense = item.to_dense(self.codec) if isinstance(item, SparseWeight) else item
                tensors[name] = write_array(dense)
        return {"tensors": tensors}

    def dot(self, profile: str, weight: Json, x: Json) -> Json:
        """SPEC 8.3 to 8.15."""
        if "dense" in weight:
            w: SparseWeight | Array = read_array(weight["dense"], "weight")
        else:
            w = self._checked(weight["spec"], weight["parts"])
        y = matmul(read_array(x, "x"), w, profile, twin=self.numerics)
        return {"y": write_array(y)}

    def exp(self, x: Json) -> Json:
        """SPEC 8.17."""
        return {"y": write_array(functions.exp(read_array(x, "x"), self.numerics))}

    def silu(self, x: Json) -> Json:
        """SPEC 8.19."""
        return {"y": write_array(functions.silu(read_array(x, "x"), self.numerics))}

    def softmax(self, x: Json) -> Json:
        """SPEC 8.20."""
        return {"y": write_array(functions.softmax(read_array(x, "x"), twin=self.numerics))}

    def rms_norm(self, x: Json, gain: Json, eps: float) -> Json:
        """SPEC 8.21."""
        arrays = read_array(x, "x"), read_array(gain, "gain")
        return {"y": write_array(functions.rms_norm(*arrays, float(eps), self.numerics))}

    def rope_tables(
        self, theta: float, head_dim: int, start: int, count: int, scaling: Json | None = None
    ) -> Json:
        """SPEC 8.23."""
        llama3 = None if scaling is None else rope.Llama3Scaling(**scaling)
        cos, sin = rope.tables(rope.Rope(float(theta), head_dim, llama3), start, count)
        return {"cos": write_array(cos), "sin": write_array(sin)}

    def rope(self, x: Json, cos: Json, sin: Json) -> Json:
        """SPEC 8.24."""
        arrays = read_array(x, "x"), read_array(cos, "cos"), read_array(sin, "sin")
        with np.errstate(all="ignore"):
            return {"y": write_array(rope.turn(*arrays))}

    def argmax(self, x: Json) -> Json:
        """SPEC 8.25."""
        rows = read_array(x, "x")
        if np.isnan(rows).any():
            raise NmrefError(Code.T_ARGUMENT, "x", "a NaN", "numbers")
        return {"index": [int(index) for index in rows.argmax(axis=-1)]}

    def splitmix64(self, seed: str, count: int) -> Json:
        """SPEC 8.26 and 8.27: the first numbers of each kind, each from the seed."""
        whole, unit, centred = (SplitMix64(int(seed, 16)) for _ in range(3))
        return {
            "next": [f"{whole.next():016x}" for _ in range(count)],
            "uniform": write_array(np.array([unit.uniform() for _ in range(count)])),
            "centred": write_array(np.array([centred.centred() for _ in range(count)], np.float32)),
        }

    def trace(self, model: str, profile: str) -> Json:
        """SPEC 8.36 and 8.37."""
        golden = _tiny(model)
        arithmetic = ops.Golden(profile, self.numerics)
        digest, taps = trace.digests(golden.weights, golden.config, golden.prompt, arithmetic)
        return {"digest": digest, "taps": taps}

    def _checked(self, spec: Json, parts: Json) -> SparseWeight:
        """One weight, judged as if it lay in a file by the name w."""
        document = {"content_sha256": "0" * 64, "spec": metadata.SPEC_VERSION}
        text = strictjson.dumps({**document, "tensors": {"w": spec}})
        found = metadata.parse({metadata.KEY: text}).weights
        arrays = {suffix: read_array(part, suffix) for suffix, part in parts.items()}
        entries = {
            f"w.{suffix}": Entry(container_name(array), array.shape, 0, 0)
            for suffix, array in arrays.items()
        }
        check_structure(found, entries)
        weight = tensor.from_parts(found["w"], arrays)
        tensor.check(weight, "w", self.codec)
        return weight


def _twins(name: str) -> tuple[ModuleType, ModuleType]:
    """The codec and the arithmetic."""
    if name == "plain":
        from nmref.numerics import plain as plain_numerics
        from nmref.tensor import plain as plain_codec

        return plain_codec, plain_numerics
    from nmref.numerics import fast as fast_numerics
    from nmref.tensor import fast as fast_codec

    return fast_codec, fast_numerics


def _put(folder: Path, name: str, data: bytes) -> None:
    """Write a file in the folder, below it, or beside it and no farther away."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve().parent):
        raise NmrefError(Code.T_ARGUMENT, "files", name, "a name near the index")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


def _optional(array: Json | None, where: str) -> Array | None:
    return None if array is None else read_array(array, where)


def _masks(codes: list[int], pattern: NMPattern) -> list[str | None]:
    """Hexadecimal masks of codes; None for what is no code of the pattern."""
    inside = [code if code < pattern.count else 0 for code in codes]
    stored = colex.unrank(np.array(inside, dtype=colex.code_dtype(pattern)), pattern)
    rows = np.packbits(stored, axis=-1, bitorder="little")
    masks = (f"{int.from_bytes(row.tobytes(), 'little'):x}" for row in rows)
    found = zip(codes, masks, strict=True)
    return [mask if code < pattern.count else None for code, mask in found]


def _codes(masks: list[int], pattern: NMPattern) -> Array:
    for mask in masks:
        if mask >> pattern.block or mask.bit_count() != pattern.stored:
            raise NmrefError(Code.T_ARGUMENT, "mask", f"{mask:x}", f"a mask of {pattern}")
    columns = range(pattern.block)
    stored = np.array([[mask >> i & 1 for i in columns] for mask in masks], dtype=np.bool_)
    return colex.rank(stored.reshape(len(masks), pattern.block), pattern)


@lru_cache(maxsize=1)  # the cases of one model follow each other
def _tiny(model: str) -> tiny.Tiny:
    return tiny.build(model)
