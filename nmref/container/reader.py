"""Open a file of weights: what is said is checked at once, data when it is read (SPEC part 6)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from nmref.container import digest
from nmref.container import metadata as meta
from nmref.container.safetensors import Entry, RawFile, open_raw
from nmref.dtypes import Array
from nmref.errors import Code, NmrefError
from nmref.tensor import MAX_SIZE, SparseWeight, WeightSpec, check, from_parts


class NMFile(Mapping[str, SparseWeight | Array]):
    """The weights and other tensors of one file, by name; each is read when it is asked for.

    Reading a weight checks its content.  When the last tensor has been read, the digest of the
    file is compared; `read_all` does that for the whole file.
    """

    def __init__(self, path: Path) -> None:
        self.raw: RawFile = open_raw(path)
        try:
            self.metadata = meta.parse(self.raw.metadata)
            check_structure(self.metadata.weights, self.raw.entries)
        except NmrefError as error:
            raise error.inside(str(path)) from None
        self._hashes: dict[str, str] = {}
        self._parts = {
            f"{name}.{suffix}"
            for name, spec in self.metadata.weights.items()
            for suffix in spec.part_shapes()
        }

    @property
    def weights(self) -> dict[str, WeightSpec]:
        """The sparse weights of the file and what is said of them."""
        return self.metadata.weights

    def __iter__(self) -> Iterator[str]:
        """Names of weights and of other tensors, ascending."""
        return iter(sorted({*self.weights, *(set(self.raw.entries) - self._parts)}))

    def __len__(self) -> int:
        """How many weights and other tensors."""
        return len(self.weights) + len(self.raw.entries) - len(self._parts)

    def __getitem__(self, name: str) -> SparseWeight | Array:
        """One weight or tensor.  Raises KeyError, the content's errors, at the last E_DIGEST."""
        spec = self.weights.get(name)
        if spec is None:
            if name in self._parts:
                raise KeyError(name)
            array = self._read(name)
            self.check_digest()
            return array
        parts = {suffix: self._read(f"{name}.{suffix}") for suffix in spec.part_shapes()}
        weight = from_parts(spec, parts)
        check(weight, name)
        self.check_digest()
        return weight

    def read_all(self) -> Iterator[tuple[str, SparseWeight | Array]]:
        """Every weight (first, so that their errors come before E_DIGEST) and every tensor."""
        for name in [*sorted(self.weights), *(name for name in self if name not in self.weights)]:
            yield name, self[name]
        self.check_digest()

    @property
    def hashes(self) -> dict[str, str]:
        """Hex SHA-256 of every tensor of the container that has been read so far, by name."""
        return dict(self._hashes)

    def hash(self, name: str) -> None:
        """Take a tensor of the container into the digest; each is hashed once."""
        if name not in self._hashes:
            self._hashes[name] = hashlib.sha256(self.raw.data(name)).hexdigest()

    def _read(self, name: str) -> Array:
        self.hash(name)
        return self.raw.array(name)

    def check_digest(self) -> None:
        """Compare the digest once every tensor has been hashed.  Raises E_DIGEST."""
        if len(self._hashes) < len(self.raw.entries):
            return
        want = self.metadata.content_sha256
        got = digest.content_sha256(self.raw.entries, self._hashes, self.metadata.document)
        if got != want:
            raise NmrefError(Code.E_DIGEST, str(self.raw.path), f"content {got}", want)


def check_structure(weights: Mapping[str, WeightSpec], entries: Mapping[str, Entry]) -> None:
    """Every part of every weight is there, with its dtype and shape, and no other part.

    Raises, by weight in name order, E_LIMIT, E_UNEXPECTED, E_MISSING, E_DTYPE, E_SHAPE; then
    E_UNEXPECTED for other reserved names.
    """
    parts = set()
    for name in sorted(weights):
        _check_size(name, weights[name])
        if name in entries:
            raise NmrefError(Code.E_UNEXPECTED, name, "the dense tensor", "its parts only")
        for suffix, (dtype, shape) in weights[name].part_shapes().items():
            parts.add(f"{name}.{suffix}")
            _check_part(f"{name}.{suffix}", entries, dtype, shape)
    for name in sorted(set(entries) - parts):
        if meta.RESERVED.search(name):
            raise NmrefError(Code.E_UNEXPECTED, name, "a part of no weight", "no such tensor")


def _check_size(name: str, spec: WeightSpec) -> None:
    rows, columns = spec.shape
    if not 0 <= rows <= MAX_SIZE or not 1 <= columns <= MAX_SIZE:
        raise NmrefError(
            Code.E_LIMIT, name, f"shape [{rows},{columns}]", "R in 0..2^31-1, K in 1..2^31-1"
        )


def _check_part(
    name: str, entries: Mapping[str, Entry], dtype: str, shape: tuple[int, ...]
) -> None:
    entry = entries.get(name)
    if entry is None:
        raise NmrefError(Code.E_MISSING, name, "no such tensor", f"{dtype} {list(shape)}")
    if entry.dtype != dtype:
        raise NmrefError(Code.E_DTYPE, name, f"dtype {entry.dtype}", dtype)
    if entry.shape != shape:
        raise NmrefError(Code.E_SHAPE, name, f"shape {list(entry.shape)}", str(list(shape)))
