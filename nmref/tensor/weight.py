"""The weight in memory: N:M base, n:256 outliers, and the two together (SPEC parts 3 and 4)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import ModuleType

import numpy as np
import numpy.typing as npt

from nmref.dtypes import DTYPES, Array, bits_of, container_name, nonzero, widen
from nmref.pattern import NMPattern
from nmref.tensor import fast
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

    def to_dense_bits(self, twin: ModuleType = fast) -> Array:
        """The base alone, [R, K]: bits of its own dtype, 0 where nothing is stored."""
        dense: Array = twin.unpack(bits_of(self.values), self.codes, self.pattern, self.columns)
        return dense

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

    def to_dense_bits(self, twin: ModuleType = fast) -> Array:
        """The outliers alone, [R, K]: bits of their own dtype, 0 where nothing is stored."""
        bits = bits_of(self.values)
        dense = np.zeros((bits.shape[0], self.columns), dtype=bits.dtype)
        twin.overlay(dense, bits, self.positions, self.pattern, self.columns, self.coding)
        return dense

    @cached_property
    def index(self) -> U8:
        """[R, ceil(K/256)*n] U8, the column of each slot within its block, whatever the coding."""
        return fast.index_of(self.positions, self.pattern, self.columns, self.coding)


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

    def to_dense(self, twin: ModuleType = fast) -> Array:
        """W[R, K] in `spec.dense_dtype`: every bit of a stored element survives (SPEC part 4)."""
        dtype, base, out = self.spec.dense_dtype, self.base, self.outliers
        values = _in_dtype(base.dense_values(), dtype)
        dense: Array = twin.unpack(values, base.codes, base.pattern, base.columns)
        if out is not None:
            over = _in_dtype(out.values, dtype)
            twin.overlay(dense, over, out.positions, out.pattern, out.columns, out.coding)
        return dense.view(DTYPES[dtype])

    def outlier_count(self) -> int:
        """Outlier slots on real columns whose value is not zero: the actual number of outliers."""
        if self.outliers is None:
            return 0
        values = self.outliers.values
        return int(nonzero(bits_of(values), container_name(values)).sum())


def _in_dtype(values: Array, dtype: str) -> Array:
    """Bits of the values as elements of W's dtype: the same, or widened to F32."""
    return bits_of(values if container_name(values) == dtype else widen(values))


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
