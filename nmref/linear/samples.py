"""Random weights that fit their pattern, for jobs and for measuring."""

from __future__ import annotations

import numpy as np

from nmref.dtypes import DTYPES, Array
from nmref.pattern import NMPattern, base_pattern, outlier_pattern
from nmref.tensor import SparseWeight, encode
from nmref.tensor.spec import Coding
from nmref.tensor.weight import from_parts

SEED = 6
LARGEST = 127
"""Integers of an I8 base are below it."""

TILE = 64
"""Rows that `large` makes and repeats."""


def sample(
    shape: tuple[int, int], pattern: str, dtype: str, outliers: str = "", coding: Coding = "idx8"
) -> SparseWeight:
    """W[R, K] of normal values, every slot of a whole block filled; the same one each time.

    `outliers` is a pattern such as 16:256 or empty; theirs is the element type of the base, F32 for
    I8.  Raises T_ARGUMENT for a bad pattern.
    """
    rng = np.random.default_rng(SEED)
    values = rng.standard_normal(shape)
    chance = rng.random(shape)
    salient = _chosen(chance, outlier_pattern(outliers)) if outliers else np.zeros(shape, np.bool_)
    mask = _chosen(np.where(salient, 2.0, chance), base_pattern(pattern)) & ~salient
    integers = dtype == "I8"
    stored = np.rint(values * LARGEST / 6) if integers else values
    over = DTYPES["F32" if integers else dtype]
    return encode(
        np.where(mask, stored, 0).astype(DTYPES[dtype]),
        pattern,
        mask=mask,
        scale=(0.5 + rng.random(shape[0])).astype(np.float32) if integers else None,
        outliers=np.where(salient, values, 0).astype(over) if outliers else None,
        outlier_pattern=outliers or "16:256",
        outlier_mask=salient if outliers else None,
        coding=coding,
    )


def large(shape: tuple[int, int], pattern: str, dtype: str, outliers: str = "") -> SparseWeight:
    """As `sample`, but quickly: the first rows over and over."""
    rows, columns = shape
    few = sample((min(rows, TILE), columns), pattern, dtype, outliers)
    parts = {name: _repeated(part, rows) for name, part in few.parts().items()}
    spec = few.spec
    return from_parts(type(spec)(shape, spec.pattern, spec.dtype, spec.outliers), parts)


def as_loaded(weight: SparseWeight) -> SparseWeight:
    """The same weight as a file gives it: nothing of it can be written."""
    return from_parts(weight.spec, {name: sealed(part) for name, part in weight.parts().items()})


def sealed(array: Array) -> Array:
    """A copy that cannot be written."""
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def _chosen(chance: Array, pattern: NMPattern) -> Array:
    """[R, K] bool: in every block the N columns of the lowest chance."""
    rows, columns = chance.shape
    padded = np.full((rows, pattern.blocks(columns) * pattern.block), 3.0)
    padded[:, :columns] = chance
    blocks = padded.reshape(rows, -1, pattern.block)
    order = np.argsort(np.argsort(blocks, axis=-1), axis=-1)
    return (order < pattern.stored).reshape(rows, -1)[:, :columns]


def _repeated(part: Array, rows: int) -> Array:
    """[r, ...] -> [rows, ...]."""
    return np.ascontiguousarray(np.resize(part, (rows, *part.shape[1:])))
