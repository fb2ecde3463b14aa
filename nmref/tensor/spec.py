"""What is said of a weight before its bytes are read: pattern, dtypes, shape (SPEC part 5)."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

from nmref.dtypes import CONTAINER_DTYPES
from nmref.pattern import NMPattern

Coding = Literal["idx8", "colex"]


@dataclass(frozen=True)
class OutlierSpec:
    """Outliers n:256 of a weight and how their positions are written."""

    pattern: NMPattern
    dtype: str
    coding: Coding

    def part_shapes(self, rows: int, columns: int) -> dict[str, tuple[str, tuple[int, int]]]:
        """suffix -> (container dtype, shape) of the outlier parts."""
        slots = (rows, self.pattern.slots(columns))
        if self.coding == "idx8":
            where = {"nm_out_index": ("U8", slots)}
        else:
            where = {"nm_out_codes": ("U8", (rows, self.pattern.row_bytes(columns)))}
        return {"nm_out_values": (self.dtype, slots), **where}


@dataclass(frozen=True)
class WeightSpec:
    """A sparse weight W[R, K] as its metadata describes it.

    `dtype` is the element type of the base values; a base of I8 has a scale for every row.
    """

    shape: tuple[int, int]
    pattern: NMPattern
    dtype: str
    outliers: OutlierSpec | None = None

    def part_shapes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """suffix -> (container dtype, shape) of every part, in the order they are checked."""
        rows, columns = self.shape
        parts: dict[str, tuple[str, tuple[int, ...]]] = {
            "nm_values": (self.dtype, (rows, self.pattern.slots(columns))),
            "nm_codes": ("U8", (rows, self.pattern.row_bytes(columns))),
        }
        if self.dtype == "I8":
            parts["nm_scale"] = ("F32", (rows,))
        if self.outliers is not None:
            parts |= self.outliers.part_shapes(rows, columns)
        return parts

    @property
    def nbytes(self) -> int:
        """Of all parts together, without a container's header."""
        parts = self.part_shapes().values()
        return sum(prod(shape) * CONTAINER_DTYPES[dtype].itemsize for dtype, shape in parts)

    @property
    def dense_dtype(self) -> str:
        """Element type of W: the common dtype, else F32; I8 stands for F32 numbers."""
        if self.dtype == "I8" or (self.outliers and self.outliers.dtype != self.dtype):
            return "F32"
        return self.dtype
