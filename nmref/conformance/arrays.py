"""Arrays of the protocol: dtype, shape, hex; row-major, little-endian, lower-case digits."""

from __future__ import annotations

import re
from math import prod
from typing import Any

import numpy as np

from nmref.conformance.protocol import clean
from nmref.dtypes import CONTAINER_DTYPES, Array, container_name

MEMBERS = {"dtype", "shape", "hex"}
BYTES = re.compile("(?:[0-9a-f]{2})*")


class Malformed(ValueError):
    """Something that is not an array."""

    def __init__(self, where: str, got: str, want: str) -> None:
        super().__init__(f"{where}: {got}, want {want}")
        self.where, self.got, self.want = where, got, want


def read_array(value: Any, where: str) -> Array:
    """An array of the protocol.  Raises Malformed."""
    if not isinstance(value, dict) or set(value) != MEMBERS:
        raise Malformed(where, shown(value), "an array of dtype, shape and hex")
    dtype, shape, text = value["dtype"], value["shape"], value["hex"]
    if not isinstance(dtype, str) or dtype not in CONTAINER_DTYPES:
        raise Malformed(where, f"dtype {shown(dtype)}", "one of SPEC 5.8")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise Malformed(where, f"shape {shown(shape)}", "an array of sizes")
    if not isinstance(text, str) or not BYTES.fullmatch(text):
        raise Malformed(where, f"hex {shown(text)}", "two lower-case digits for every byte")
    element = CONTAINER_DTYPES[dtype]
    size = prod(shape) * element.itemsize
    if len(text) != 2 * size:
        raise Malformed(where, f"{len(text) // 2} bytes", f"{size} for {dtype} {shape}")
    return np.frombuffer(bytearray.fromhex(text), dtype=element).reshape(shape)


def write_array(array: Array) -> dict[str, Any]:
    """The same array for the protocol.

    >>> write_array(np.array([[1, 2]], dtype=np.float32))
    {'dtype': 'F32', 'shape': [1, 2], 'hex': '0000803f00000040'}
    """
    shape = [int(size) for size in array.shape]
    return {"dtype": container_name(array), "shape": shape, "hex": array.tobytes().hex()}


def shown(value: object) -> str:
    """A foreign value in a message."""
    return clean(ascii(value), 80)
