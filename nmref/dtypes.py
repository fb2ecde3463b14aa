"""Element types as bits: names, NumPy dtypes, exact widening (SPEC part 3).

Bits move as integers: nothing here or above converts a weight unless `widen` is called.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from nmref.errors import Code, NmrefError

Array = npt.NDArray[Any]

CONTAINER_DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "F32": np.dtype("<f4"),
    "I64": np.dtype("<i8"),
    "U64": np.dtype("<u8"),
    "F64": np.dtype("<f8"),
    "C64": np.dtype("<c8"),
}
"""Every element type that a container file may hold, by its safetensors name."""

DTYPES = {name: CONTAINER_DTYPES[name] for name in ("F32", "F16", "BF16", "I8")}
"""Element types of the base matrix; outliers take all of them but I8."""

OUTLIER_DTYPES = {name: DTYPES[name] for name in ("F32", "F16", "BF16")}

_NAMES = {dtype: name for name, dtype in CONTAINER_DTYPES.items()}
_BITS: dict[int, np.dtype[Any]] = {1: np.dtype(np.uint8), 2: np.dtype("<u2"), 4: np.dtype("<u4")}
_EXPONENT = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80}


def container_name(array: Array) -> str:
    """The safetensors name of an array's element type.  Raises X_DTYPE."""
    try:
        return _NAMES[array.dtype]
    except KeyError:
        raise NmrefError(
            Code.X_DTYPE, "array", f"dtype {array.dtype}", "a safetensors dtype"
        ) from None


def weight_dtype(array: Array, what: str, allowed: dict[str, np.dtype[Any]] = DTYPES) -> str:
    """The name of a weight's element type.  Raises X_DTYPE."""
    name = _NAMES.get(array.dtype)
    if name not in allowed:
        raise NmrefError(Code.X_DTYPE, what, f"dtype {array.dtype}", f"one of {', '.join(allowed)}")
    return name


def bits_of(array: Array) -> Array:
    """The same memory as unsigned integers of the same width."""
    view: Array = array.view(_BITS[array.dtype.itemsize])
    return view


def sign_bit(dtype: str) -> int:
    """The bit that -0 has and +0 has not; 0 for I8, which has no -0."""
    return 0 if dtype == "I8" else 1 << (DTYPES[dtype].itemsize * 8 - 1)


def nonzero(bits: Array, dtype: str) -> npt.NDArray[np.bool_]:
    """Where the value is not zero: NaN and subnormals count, +0 and -0 do not."""
    magnitude = ~bits.dtype.type(sign_bit(dtype))
    result: npt.NDArray[np.bool_] = (bits & magnitude) != 0
    return result


def nonfinite(bits: Array, dtype: str) -> npt.NDArray[np.bool_]:
    """Where the value is an infinity or NaN."""
    if dtype == "I8":
        return np.zeros(bits.shape, dtype=np.bool_)
    exponent = bits.dtype.type(_EXPONENT[dtype])
    result: npt.NDArray[np.bool_] = (bits & exponent) == exponent
    return result


def widen(array: Array) -> npt.NDArray[np.float32]:
    """F32, F16, BF16 -> the same numbers as F32; a NaN keeps its sign and its fraction's bits."""
    if array.dtype == DTYPES["BF16"]:
        return (bits_of(array).astype(np.uint32) << 16).view(np.float32)
    wide = array.astype(np.float32, copy=False)
    if array.dtype == DTYPES["F16"] and (nan := np.isnan(wide)).any():
        # the cast may make a signalling NaN quiet, and does so on some CPUs only
        raw = bits_of(array)[nan].astype(np.uint32)
        bits_of(wide)[nan] = (raw & 0x8000) << 16 | 0x7F800000 | (raw & 0x3FF) << 13
    return wide


def normalise_zero(array: Array) -> Array:
    """A copy in which every -0 is +0 (other frameworks' `w * mask` makes -0)."""
    out = array.copy()
    out[out == 0] = 0
    return out
