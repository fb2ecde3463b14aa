"""What files hold and what it costs, from their headers alone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

from nmref.container.folder import files_of
from nmref.container.reader import NMFile
from nmref.dtypes import CONTAINER_DTYPES
from nmref.tensor import WeightSpec

_LAYER = re.compile(r"\.\d+\.")

_COST = {
    "nm_codes": "codes",
    "nm_values": "values",
    "nm_scale": "values",
    "nm_out_index": "positions",
    "nm_out_codes": "positions",
    "nm_out_values": "outliers",
}


@dataclass(frozen=True)
class Row:
    """One weight, or a group of weights of one kind: bytes by purpose."""

    name: str
    count: int
    shape: tuple[int, int]
    pattern: str
    outliers: str
    dtype: str
    codes: int
    values: int
    positions: int
    outlier_values: int

    @property
    def elements(self) -> int:
        """Elements of the dense matrices."""
        return self.count * prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return self.codes + self.values + self.positions + self.outlier_values

    @property
    def dense_nbytes(self) -> int:
        """Bytes of the dense matrices in the dtype of the base (F32 for I8)."""
        dtype = "F32" if self.dtype == "I8" else self.dtype
        return self.elements * CONTAINER_DTYPES[dtype].itemsize

    def bits(self) -> list[float]:
        """Bits of each dense element: codes, values, outlier positions, outlier values, total."""
        parts = (self.codes, self.values, self.positions, self.outlier_values, self.nbytes)
        return [8 * part / self.elements if self.elements else 0.0 for part in parts]

    def labels(self) -> list[str]:
        """The columns of a table before the bits."""
        shape = f"{self.shape[0]}x{self.shape[1]}"
        return [self.name, str(self.count), shape, self.pattern, self.outliers, self.dtype]


@dataclass(frozen=True)
class Inventory:
    """All weights of some files, and the other tensors' bytes."""

    weights: list[Row]
    other_tensors: int
    other_nbytes: int
    file_nbytes: int

    def groups(self) -> list[Row]:
        """Weights that differ in their layer number only, added up."""
        kinds: dict[tuple[str, ...], list[Row]] = {}
        for row in self.weights:
            name = _LAYER.sub(".*.", row.name)
            kinds.setdefault((name, *row.labels()[2:]), []).append(row)
        return [total(key[0], rows) for key, rows in kinds.items()]

    def summary(self) -> str:
        """Two lines: the sparse weights against dense ones, and the files."""
        packed = sum(row.nbytes for row in self.weights)
        dense = sum(row.dense_nbytes for row in self.weights)
        ratio = f" ({packed / dense:.4f} of dense)" if dense else ""
        return (
            f"{len(self.weights)} sparse weights: {packed} bytes, dense {dense} bytes{ratio}\n"
            f"{self.other_tensors} other tensors: {self.other_nbytes} bytes; "
            f"files: {self.file_nbytes} bytes"
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = ("codes", "values", "outlier_positions", "outlier_values", "total")
        rows = [
            asdict(row) | {"bits_per_element": dict(zip(names, row.bits(), strict=True))}
            for row in self.weights
        ]
        return {**asdict(self), "weights": rows}


def inventory(path: str | Path) -> Inventory:
    """Look at a file, an index or a folder.  Raises what opening the files raises."""
    files = [NMFile(file) for file in files_of(path)]
    weights = [_row(name, spec) for file in files for name, spec in file.weights.items()]
    others = [file.raw.entries[name] for file in files for name in file if name not in file.weights]
    return Inventory(
        weights,
        len(others),
        sum(entry.nbytes for entry in others),
        sum(file.raw.path.stat().st_size for file in files),
    )


def _row(name: str, spec: WeightSpec) -> Row:
    cost = dict.fromkeys(_COST.values(), 0)
    for suffix, (dtype, shape) in spec.part_shapes().items():
        cost[_COST[suffix]] += prod(shape) * CONTAINER_DTYPES[dtype].itemsize
    out = f"{spec.outliers.pattern} {spec.outliers.coding}" if spec.outliers else "none"
    return Row(
        name=name,
        count=1,
        shape=spec.shape,
        pattern=str(spec.pattern),
        outliers=out,
        dtype=spec.dtype,
        codes=cost["codes"],
        values=cost["values"],
        positions=cost["positions"],
        outlier_values=cost["outliers"],
    )


def total(name: str, rows: Iterable[Row]) -> Row:
    """Rows of the same shape and pattern as one."""
    rows = list(rows)
    first = rows[0]
    return Row(
        name=name,
        count=sum(row.count for row in rows),
        shape=first.shape,
        pattern=first.pattern,
        outliers=first.outliers,
        dtype=first.dtype,
        codes=sum(row.codes for row in rows),
        values=sum(row.values for row in rows),
        positions=sum(row.positions for row in rows),
        outlier_values=sum(row.outlier_values for row in rows),
    )
