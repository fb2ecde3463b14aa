"""Codes to masks inside compiled loops: read w bits, then look up or unrank.

Callers have checked every code (SPEC part 6): one out of range would read past the table.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from nmref.dtypes import Array


def _lowest_bit(typing_context: Any, mask: Any) -> Any:
    """Position of the lowest 1 of a uint64 that is not 0.

    Taking the 1s off one by one has a fixed trip count; testing all M bits mispredicts half.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), build


lowest_bit: Any = intrinsic(_lowest_bit)


@nb.njit(cache=True, inline="always")
def read_code(codes: Array, row: int, block: int, width: int) -> np.uint64:
    """Code of a block (at most 61 bits); codes [R, bytes].  No row view: that costs a refcount."""
    at = block * width
    code = np.uint64(0)
    got = 0
    while got < width:
        offset = (at + got) % 8
        piece = np.uint64(codes[row, (at + got) // 8]) >> np.uint64(offset)
        code |= piece << np.uint64(got)
        got += 8 - offset
    return code & ((np.uint64(1) << np.uint64(width)) - np.uint64(1))


@nb.njit(cache=True, inline="always")
def mask_of(code: np.uint64, table: Array, binomials: Array) -> np.uint64:
    """Mask of a code: by the table of all masks, or (where it is empty) by unranking.

    table [C(M,N)] uint64 or [0]; binomials [M, N + 1] uint64, C(p, j).
    """
    if table.size > 0:
        return np.uint64(table[np.int64(code)])
    mask = np.uint64(0)
    to_place = binomials.shape[1] - 1
    for p in range(binomials.shape[0] - 1, -1, -1):
        below = binomials[p, to_place]
        if to_place > 0 and code >= below:
            mask |= np.uint64(1) << np.uint64(p)
            code -= below
            to_place -= 1
    return mask
