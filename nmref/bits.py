"""Streams of w-bit codes, LSB first, each row on a byte (SPEC part 2)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nmref.dtypes import Array

U8 = npt.NDArray[np.uint8]


def pack(codes: Array, width: int) -> U8:
    """codes [R, B] of `width` bits -> bytes [R, ceil(B * width / 8)], padding bits 0.

    Code b takes stream bits [b*width, (b+1)*width); stream bit i is bit i % 8 of byte i // 8.

    >>> pack(np.array([[0, 1, 2, 3, 4, 5, 0, 5]]), 3).tobytes().hex()
    '88c6a2'
    """
    rows, count = codes.shape
    shift = np.arange(width, dtype=codes.dtype)
    bits = ((codes[:, :, None] >> shift) & 1).astype(np.uint8)  # [R, B, width]
    return np.packbits(bits.reshape(rows, count * width), axis=1, bitorder="little")


def unpack(stream: U8, count: int, width: int, dtype: np.dtype[np.generic]) -> Array:
    """bytes [R, ceil(count * width / 8)] -> codes [R, count]; padding bits are not looked at."""
    rows = stream.shape[0]
    bits = np.unpackbits(stream, axis=1, count=count * width, bitorder="little")
    bits = bits.reshape(rows, count, width)
    codes = np.zeros((rows, count), dtype=dtype)
    for i in range(width):
        codes |= bits[:, :, i].astype(dtype) << np.asarray(i, dtype=dtype)
    return codes


def padded_rows(stream: U8, count: int, width: int) -> npt.NDArray[np.bool_]:
    """[R] true where a padding bit of the row is 1."""
    used = count * width
    if used % 8 == 0:
        return np.zeros(stream.shape[0], dtype=np.bool_)
    padded: npt.NDArray[np.bool_] = (stream[:, -1] >> np.uint8(used % 8)) != 0
    return padded
