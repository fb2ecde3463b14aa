"""Blocks and the one fill rule (SPEC parts 2 and 3)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nmref.dtypes import Array

Bool = npt.NDArray[np.bool_]


def blocked(matrix: Array, block: int) -> Array:
    """[R, K] -> [R, B, M], with zeros (false) in the virtual columns of the last block."""
    rows, columns = matrix.shape
    blocks = -(-columns // block)
    padded = np.zeros((rows, blocks * block), dtype=matrix.dtype)
    padded[:, :columns] = matrix
    return padded.reshape(rows, blocks, block)


def unblocked(blocks: Array, columns: int) -> Array:
    """[R, B, M] -> [R, K]: the virtual columns are dropped."""
    rows = blocks.shape[0]
    return blocks.reshape(rows, blocks.shape[1] * blocks.shape[2])[:, :columns]


def fill(used: Bool, free: Bool, stored: int) -> Bool:
    """Add to `used` the lowest `free` columns of each block until it has `stored` of them.

    used, free [R, B, M] -> [R, B, M].  A block with too few free columns comes out short.
    """
    missing = stored - used.sum(axis=-1, dtype=np.int16, keepdims=True)
    candidates = free & ~used
    ordinal = np.cumsum(candidates, axis=-1, dtype=np.int16)
    filled: Bool = used | (candidates & (ordinal <= missing))
    return filled


def positions_of(stored: Bool, count: int) -> npt.NDArray[np.intp]:
    """[R, B, M] with `count` true in each block -> their ascending positions [R, B, count]."""
    rows, blocks, _ = stored.shape
    return np.nonzero(stored)[2].reshape(rows, blocks, count)
