"""Which columns of each block are stored, and when the answer is no (SPEC part 3)."""

from __future__ import annotations

import numpy as np

from nmref.dtypes import Array, nonzero
from nmref.errors import Code, NmrefError
from nmref.pattern import NMPattern
from nmref.tensor.slots import Bool, blocked, fill


def select(
    what: str,
    dense: Array,
    dtype: str,
    pattern: NMPattern,
    mask: Bool | None,
    free: Bool,
    first_row: int = 0,
) -> Bool:
    """Slots of a matrix that fits its pattern.

    dense [R, K] bits, mask [R, K] or None, free [R, B, M] (columns the fill may take) -> stored
    [R, B, M] with exactly N true.  Raises X_OVERFULL or X_NEGZERO for the first block at fault.
    """
    present = blocked(dense != 0, pattern.block)  # -0 is present but is no value
    value = blocked(nonzero(dense, dtype), pattern.block)
    used = present if mask is None else blocked(mask, pattern.block)
    needed = value if mask is None else used
    stored = fill(used, free, pattern.stored)

    outside = present & ~used
    overfull = (needed.sum(axis=-1) > pattern.stored) | (outside & value).any(axis=-1)
    overfull |= stored.sum(axis=-1) < pattern.stored
    negzero = outside.any(axis=-1) | (used.sum(axis=-1) > pattern.stored)
    bad = np.argwhere(overfull | negzero)
    if len(bad):
        row, block = (int(i) for i in bad[0])
        where = f"{what} row {first_row + row} block {block}"
        if overfull[row, block]:
            got = _overfull(needed[row, block], outside[row, block] & value[row, block], pattern)
            raise NmrefError(Code.X_OVERFULL, where, got, f"at most {pattern.stored} to be stored")
        raise NmrefError(
            Code.X_NEGZERO, where, "a -0 that would be dropped", "+0 (nmref.normalise_zero)"
        )
    return stored


def _overfull(needed: Bool, outside: Bool, pattern: NMPattern) -> str:
    count = int(needed.sum())
    if count > pattern.stored:
        return f"{count} columns"
    if outside.any():
        return f"a value that is not zero in position {int(outside.argmax())} outside the mask"
    return f"too few free columns beside the base to fill {pattern.stored} slots"
