"""The weight in memory: N:M base, n:256 outliers, and the two together (SPEC parts 3 and 4)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from nmref import bits, colex
from nmref.dtypes import Array, bits_of, container_name, nonzero, widen
from nmref.pattern import NMPattern
from nmref.tensor.slots import Bool, positions, unblocked
from nmref.tensor.spec import Coding, OutlierSpec, WeightSpec

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class NMMatrix:
    """The base matrix: exactly N of every M columns of a row.

    Attributes
    ----------
    pattern : N:M.
    columns : K; the last block may reach past it.
    values : [R, ceil(K/M)*N] F32, F16, BF16 or I8, block after block, ascending column.
    codes : [R, row bytes] U8, the positions.
    scale : [R] F32 for I8 values, else None.
    """

    pattern: NMPattern
    columns: int
    values: Array
    codes: U8
    scale: F32 | None = None

    def stored(self) -> Bool:
        """[R, B, M], true where a position is stored."""
        dtype = colex.code_dtype(self.pattern)
        blocks = self.pattern.blocks(self.columns)
        return colex.unrank(
            bits.unpack(self.codes, blocks, self.pattern.width, dtype), self.pattern
        )

    def dense_values(self) -> Array:
        """The values as they enter W: I8 times its scale, rounded once to F32; others unchanged."""
        if self.scale is None:
            return self.values
        return self.values.astype(np.float32) * self.scale[:, None]


@dataclass(frozen=True, eq=False)
class Outliers:
    """Salient weights: exactly n of every 256 columns of a row, beside the base.

    Attributes
    ----------
    pattern : 4:256, 8:256 or 16:256.
    columns : K.
    values : [R, ceil(K/256)*n] F32, F16 or BF16.
    positions : U8; idx8 [R, ceil(K/256)*n], the column in its block, ascending; or colex codes.
    coding : "idx8" or "colex".
    """

    pattern: NMPattern
    columns: int
    values: Array
    positions: U8
    coding: Coding

    def stored(self) -> Bool:
        """[R, B, 256], true where a position is stored."""
        rows, blocks = self.values.shape[0], self.pattern.blocks(self.columns)
        if self.coding == "colex":
            dtype = colex.code_dtype(self.pattern)
            codes = bits.unpack(self.positions, blocks, self.pattern.width, dtype)
            return colex.unrank(codes, self.pattern)
        index = self.index.reshape(rows, blocks, self.pattern.stored).astype(np.intp)
        stored = np.zeros((rows, blocks, self.pattern.block), dtype=np.bool_)
        np.put_along_axis(stored, index, True, axis=-1)
        return stored

    @cached_property
    def index(self) -> U8:
        """[R, ceil(K/256)*n] U8, the column of each slot within its block, whatever the coding."""
        if self.coding == "idx8":
            return self.positions
        return (
            positions(self.stored(), self.pattern.stored)
            .astype(np.uint8)
            .reshape(self.values.shape)
        )


@dataclass(frozen=True, eq=False)
class SparseWeight:
    """W[R, K] = the outlier where one is stored, else the base value where stored, else +0."""

    base: NMMatrix
    outliers: Outliers | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(R, K)."""
        return self.base.values.shape[0], self.base.columns

    @property
    def spec(self) -> WeightSpec:
        """What the file's metadata says of this weight."""
        out = self.outliers
        outliers = OutlierSpec(out.pattern, container_name(out.values), out.coding) if out else None
        return WeightSpec(self.shape, self.base.pattern, container_name(self.base.values), outliers)

    def parts(self) -> dict[str, Array]:
        """suffix -> array, as the container stores them."""
        parts = {"nm_values": self.base.values, "nm_codes": self.base.codes}
        if self.base.scale is not None:
            parts["nm_scale"] = self.base.scale
        if self.outliers is not None:
            where = "nm_out_index" if self.outliers.coding == "idx8" else "nm_out_codes"
            parts |= {"nm_out_values": self.outliers.values, where: self.outliers.positions}
        return parts

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.nbytes for part in self.parts().values())

    def to_dense(self) -> Array:
        """W[R, K] in `spec.dense_dtype`: every bit of a stored element survives (SPEC part 4)."""
        wide = self.spec.dense_dtype == "F32"
        dense = scatter(self.base.stored(), self.base.dense_values(), self.base.columns, wide)
        if self.outliers is None:
            return dense
        stored = self.outliers.stored()
        chosen = unblocked(stored, self.base.columns)
        salient = scatter(stored, self.outliers.values, self.base.columns, wide)
        out, over = bits_of(dense), bits_of(salient)
        out[chosen] = over[chosen]
        return dense

    def outlier_count(self) -> int:
        """Outlier slots on real columns whose value is not zero: the actual number of outliers."""
        if self.outliers is None:
            return 0
        values = self.outliers.values
        return int(nonzero(bits_of(values), container_name(values)).sum())


def scatter(stored: Bool, values: Array, columns: int, wide: bool) -> Array:
    """Slots back to columns: stored [R, B, M], values [R, B*N] -> dense [R, K], +0 elsewhere."""
    source = widen(values) if wide else values
    dense = np.zeros(stored.shape, dtype=source.dtype)
    bits_of(dense)[stored] = bits_of(np.ascontiguousarray(source)).reshape(-1)
    return np.ascontiguousarray(unblocked(dense, columns))


def from_parts(spec: WeightSpec, parts: dict[str, Array]) -> SparseWeight:
    """Put the parts of a file together.  The caller has checked dtypes and shapes."""
    columns = spec.shape[1]
    base = NMMatrix(
        spec.pattern, columns, parts["nm_values"], parts["nm_codes"], parts.get("nm_scale")
    )
    if spec.outliers is None:
        return SparseWeight(base)
    where = "nm_out_index" if spec.outliers.coding == "idx8" else "nm_out_codes"
    outliers = Outliers(
        spec.outliers.pattern, columns, parts["nm_out_values"], parts[where], spec.outliers.coding
    )
    return SparseWeight(base, outliers)
