"""A weight as the kernels take it: its own values, and its positions repacked for this CPU."""

from __future__ import annotations

from functools import cached_property
from threading import Lock
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from nmref import colex
from nmref.dtypes import Array, container_name
from nmref.kernels import prepare
from nmref.tensor import SparseWeight

BLOCK = 256
GROUP = 16

_KINDS = {"F32": np.float32, "BF16": np.uint16, "F16": np.int16, "I8": np.int8}
"""How kernels tell element types apart."""


def kernel_view(array: Array) -> Array:
    """The same memory under the element type by which kernels know it, read only, contiguous.

    Always read only: an array that may be written to is another type to Numba, and a file's is not.
    """
    view = np.ascontiguousarray(array).view(_KINDS[container_name(array)])
    view.flags.writeable = False
    return view


class Prepared:
    """What is made of a weight, each part when it is first asked for.

    Attributes
    ----------
    values : [R, S] stored values; scale : [R] or None.
    out_values, out_index : [R, O * n] outliers; [R, 0] without.
    """

    def __init__(self, weight: SparseWeight) -> None:
        self.pattern, (self.rows, self.columns) = weight.base.pattern, weight.shape
        self.values, self._codes = kernel_view(weight.base.values), weight.base.codes
        self.dtype = container_name(weight.base.values)
        self.scale = None if weight.base.scale is None else kernel_view(weight.base.scale)
        out = weight.outliers
        self.slots = 0 if out is None else out.pattern.stored
        self.out_dtype = self.dtype if out is None else container_name(out.values)
        kind = _KINDS["F32" if self.out_dtype == "I8" else self.out_dtype]
        self.out_values, self.out_index = (
            np.zeros((self.rows, 0), dtype=dtype) for dtype in (kind, np.uint8)
        )
        if out is not None:
            self.out_values = kernel_view(out.values)
            self.out_index = _inside(out.index, self.slots, self.columns)
        self.out_values.flags.writeable = self.out_index.flags.writeable = False

    @property
    def halves(self) -> bool:
        """Whether exactly 8 of every whole 16 columns are stored: what the fast kernels take."""
        return GROUP % self.pattern.block == 0 and 2 * self.pattern.stored == self.pattern.block

    @property
    def groups(self) -> int:
        """Groups of 16 columns."""
        return -(-self.columns // GROUP)

    @cached_property
    def words(self) -> npt.NDArray[np.uint64]:
        """[R, ceil(K/64)]: masks (prepare.words_of)."""
        return _sealed(self._words())

    @cached_property
    def stored_columns(self) -> npt.NDArray[np.uint32]:
        """[R, G]: columns of the groups, 4 bits each (prepare.columns_of)."""
        return _sealed(self._columns())

    @cached_property
    def pairs(self) -> npt.NDArray[np.uint32]:
        """[R, G]: pairs of columns of the groups, 8 bits each (prepare.pairs_of)."""
        pairs = np.zeros((self.rows, self.groups), dtype=np.uint32)
        prepare.pairs_of(self._columns(), prepare.pair_table(), pairs)
        return _sealed(pairs)

    def _words(self) -> npt.NDArray[np.uint64]:
        words = np.zeros((self.rows, -(-self.columns // 64)), dtype=np.uint64)
        real = self.pattern.blocks(self.columns) * self.pattern.block
        table, unit = colex.unit_table(self.pattern), colex.unit_blocks(self.pattern)
        codes = np.ascontiguousarray(self._codes)
        prepare.words_of(codes, self.pattern.width, unit, table, real, words)
        return words

    def _columns(self) -> npt.NDArray[np.uint32]:
        columns = np.zeros((self.rows, self.groups), dtype=np.uint32)
        prepare.columns_of(self._words(), columns)
        return columns

    @cached_property
    def subnormal(self) -> bool:
        """Whether a BF16 value is subnormal: the BF16 instructions take those for zero."""
        parts = (self.values, self.out_values)
        return any(prepare.has_subnormals(part) for part in parts if part.dtype == np.uint16)

    @property
    def nbytes(self) -> int:
        """Bytes that were made; the weight's own arrays do not count."""
        made = (self.__dict__.get(name) for name in ("words", "stored_columns", "pairs"))
        return sum(array.nbytes for array in made if array is not None)


def _inside(index: Array, slots: int, columns: int) -> Array:
    """Slots past the last column hold zeros: column 0 of their block does as well, and is there."""
    last = columns % BLOCK
    if not last or index[:, -slots:].max(initial=0) < last:
        return index.view()
    index = index.copy()
    tail = index[:, -slots:]
    tail[tail >= last] = 0
    return index


def _sealed(array: Array) -> Array:
    array.flags.writeable = False
    return array


_ONE_AT_A_TIME = Lock()  # two threads that need the same weight wait for one
_PREPARED: WeakKeyDictionary[SparseWeight, Prepared] = WeakKeyDictionary()


def prepared(weight: SparseWeight) -> Prepared:
    """The prepared form of a weight, made once and kept as long as the weight."""
    with _ONE_AT_A_TIME:
        if weight not in _PREPARED:
            _PREPARED[weight] = Prepared(weight)
        return _PREPARED[weight]
