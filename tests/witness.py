"""One interface over the witnesses of every normative behaviour, in plain data.

A test that takes `witness` runs over all of them:

    @every_witness
    def test_x(witness): ...

A part is (dtype, shape, bytes), a spec the members of one weight as the metadata has them. A new
witness is a class with these methods.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from conformance import naive
from nmref import NMPattern, NmrefError, SparseWeight, container, encode, tensor
from nmref.container.reader import check_structure
from nmref.container.safetensors import Entry
from nmref.dtypes import CONTAINER_DTYPES, Array, bits_of, container_name
from nmref.tensor import fast, plain

Part = tuple[str, tuple[int, ...], bytes]
Parts = dict[str, Part]
Spec = dict[str, Any]
Bits = tuple[str, Array]
"""dtype and its elements as unsigned integers."""

UNSIGNED = {1: np.dtype("u1"), 2: np.dtype("<u2"), 4: np.dtype("<u4"), 8: np.dtype("<u8")}


class Rejected(Exception):
    """A witness refuses its input, with the code of SPEC part 7 and its own message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, eq=False)
class Case:
    """The inputs of encode: matrices hold bits [R, K], masks are boolean, scale is F32 bits [R]."""

    dtype: str
    base: Array
    pattern: str = "8:16"
    mask: Array | None = None
    scale: Array | None = None
    outliers: Array | None = None
    out_dtype: str = "F16"
    out_pattern: str = "4:256"
    coding: str = "idx8"
    out_mask: Array | None = None

    @property
    def spec(self) -> Spec:
        """What the metadata says of the encoded weight."""
        out = {"coding": self.coding, "dtype": self.out_dtype, "pattern": self.out_pattern}
        return {
            "coding": "colex",
            "dtype": self.dtype,
            "outliers": None if self.outliers is None else out,
            "pattern": self.pattern,
            "shape": [int(size) for size in self.base.shape],
        }


class Witness(Protocol):
    """What every witness can do.  Each method raises Rejected and nothing else."""

    name: str

    def encode(self, case: Case) -> Parts:
        """Parts by suffix."""

    def decode(self, spec: Spec, parts: Parts) -> Bits:
        """W, after every check of one weight."""

    def canonical(self, spec: Spec, parts: Parts) -> Parts:
        """Parts of the same content encoded without masks."""

    def warnings(self, spec: Spec, parts: Parts) -> list[str]:
        """Codes of the warnings."""

    def write(self, weights: dict[str, tuple[Spec, Parts]], others: Parts) -> bytes:
        """The canonical file."""

    def read(self, data: bytes) -> dict[str, Bits]:
        """Every weight as W and every other tensor, after every check of the file."""


class Naive:
    """conformance.naive: lists of Python integers."""

    name = "naive"

    def encode(self, case: Case) -> Parts:
        more: dict[str, Any] = {}
        if case.outliers is not None:
            more = {
                "outliers": case.outliers.tolist(),
                "out_dtype": case.out_dtype,
                "out_pattern": case.out_pattern,
                "out_coding": case.coding,
                "out_mask": None if case.out_mask is None else case.out_mask.tolist(),
            }
        with self._rejecting():
            parts = naive.encode(
                case.dtype,
                case.base.tolist(),
                case.pattern,
                mask=None if case.mask is None else case.mask.tolist(),
                scale=None if case.scale is None else case.scale.tolist(),
                columns=case.base.shape[-1],
                **more,
            )
        return _plain(parts)

    def decode(self, spec: Spec, parts: Parts) -> Bits:
        with self._rejecting():
            dtype, rows = naive.decode(spec, _listed(parts))
        unsigned = UNSIGNED[naive.SIZES[dtype]]
        return dtype, np.array(rows, dtype=unsigned).reshape(spec["shape"])

    def canonical(self, spec: Spec, parts: Parts) -> Parts:
        with self._rejecting():
            return _plain(naive.canonical(spec, _listed(parts)))

    def warnings(self, spec: Spec, parts: Parts) -> list[str]:
        with self._rejecting():
            return naive.warnings(spec, _listed(parts))

    def write(self, weights: dict[str, tuple[Spec, Parts]], others: Parts) -> bytes:
        with self._rejecting():
            listed = {name: (spec, _listed(parts)) for name, (spec, parts) in weights.items()}
            return naive.write(listed, _listed(others))

    def read(self, data: bytes) -> dict[str, Bits]:
        with self._rejecting():
            file = naive.read(data)
        found = {name: self.decode(*weight) for name, weight in file.weights.items()}
        for name, part in _plain(file.others).items():
            array = as_array(part)
            found[name] = part[0], array.view(UNSIGNED[array.itemsize])
        return found

    @contextmanager
    def _rejecting(self) -> Iterator[None]:
        try:
            yield
        except naive.Fault as fault:
            raise Rejected(fault.code, str(fault)) from None


class Numba:
    """nmref as its callers get it: compiled loops (nmref.tensor.fast)."""

    name = "numba"
    twin = fast

    def encode(self, case: Case) -> Parts:
        more: dict[str, Any] = {}
        if case.outliers is not None:
            more = {
                "outliers": case.outliers.view(CONTAINER_DTYPES[case.out_dtype]),
                "outlier_pattern": case.out_pattern,
                "outlier_mask": case.out_mask,
                "coding": case.coding,
            }
        with self._rejecting():
            weight = encode(
                case.base.view(CONTAINER_DTYPES[case.dtype]),
                case.pattern,
                mask=case.mask,
                scale=None if case.scale is None else case.scale.view(np.float32),
                twin=self.twin,
                **more,
            )
        return _parts_of(weight)

    def decode(self, spec: Spec, parts: Parts) -> Bits:
        with self._rejecting():
            dense = self._checked(spec, parts).to_dense(self.twin)
        return container_name(dense), bits_of(dense)

    def canonical(self, spec: Spec, parts: Parts) -> Parts:
        with self._rejecting():
            return _parts_of(tensor.canonicalise(self._checked(spec, parts), self.twin))

    def warnings(self, spec: Spec, parts: Parts) -> list[str]:
        with self._rejecting():
            return [text.split()[0] for text in tensor.warnings(self._checked(spec, parts), "w")]

    def write(self, weights: dict[str, tuple[Spec, Parts]], others: Parts) -> bytes:
        tensors: dict[str, Any] = {name: as_array(part) for name, part in others.items()}
        tensors |= {name: _weight(spec, parts) for name, (spec, parts) in weights.items()}
        with self._rejecting(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "w.safetensors")
            container.save(path, tensors)
            return path.read_bytes()

    def read(self, data: bytes) -> dict[str, Bits]:
        with self._rejecting(), tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            found = {}
            for name, item in container.NMFile(Path(file.name)).read_all():
                array = item.to_dense() if isinstance(item, SparseWeight) else item
                found[name] = container_name(array), array.view(UNSIGNED[array.itemsize])
            return found

    def _checked(self, spec: Spec, parts: Parts) -> SparseWeight:
        """The weight after every check of SPEC part 6 that concerns one weight."""
        entries = {f"w.{suffix}": Entry(part[0], part[1], 0, 0) for suffix, part in parts.items()}
        check_structure({"w": weight_spec(spec)}, entries)
        weight = _weight(spec, parts)
        tensor.check(weight, "w", self.twin)
        return weight

    @contextmanager
    def _rejecting(self) -> Iterator[None]:
        try:
            yield
        except NmrefError as error:
            raise Rejected(str(error.code), str(error)) from error


class Numpy(Numba):
    """The readable twin (nmref.tensor.plain); the container is the same."""

    name = "numpy"
    twin = plain


WITNESSES: list[Witness] = [Naive(), Numpy(), Numba()]
every_witness = pytest.mark.parametrize(
    "witness", WITNESSES, ids=[witness.name for witness in WITNESSES]
)


def rejection(call: Any, *args: Any) -> Rejected:
    """How the call is refused."""
    with pytest.raises(Rejected) as caught:
        call(*args)
    return caught.value


def as_array(part: Part) -> Array:
    """A part as a read-only array."""
    dtype, shape, data = part
    return np.frombuffer(data, dtype=CONTAINER_DTYPES[dtype]).reshape(shape)


def as_part(dtype: str, array: Array) -> Part:
    """An array, or the bits of one, as a part."""
    return dtype, tuple(array.shape), array.tobytes()


def weight_spec(spec: Spec) -> tensor.WeightSpec:
    """Metadata members -> nmref's object."""
    out = spec["outliers"]
    outliers = out and tensor.OutlierSpec(
        NMPattern.parse(out["pattern"]), out["dtype"], out["coding"]
    )
    pattern = NMPattern.parse(spec["pattern"])
    return tensor.WeightSpec(tuple(spec["shape"]), pattern, spec["dtype"], outliers)


def _weight(spec: Spec, parts: Parts) -> SparseWeight:
    arrays = {suffix: as_array(part) for suffix, part in parts.items()}
    return tensor.from_parts(weight_spec(spec), arrays)


def _parts_of(weight: SparseWeight) -> Parts:
    return {s: as_part(container_name(array), array) for s, array in weight.parts().items()}


def _plain(parts: naive.Parts) -> Parts:
    return {name: (dtype, tuple(shape), data) for name, (dtype, shape, data) in parts.items()}


def _listed(parts: Parts) -> naive.Parts:
    return {name: (dtype, list(shape), data) for name, (dtype, shape, data) in parts.items()}
