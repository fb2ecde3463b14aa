"""Elements as bit patterns: sizes, zeros, exact widening to F32, I8 times scale (SPEC part 3)."""

SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4,
    "I64": 8, "U64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
"""Bytes of one element of every container dtype."""

FLOATS = ("F32", "F16", "BF16")
FRACTION_BITS = {"F32": 23, "F16": 10, "BF16": 7}
LARGEST_SCALE = (120 + 127) << 23
"""Bits of the F32 number 2^120."""


def bits_of(dtype: str) -> int:
    """Bits of one element."""
    return 8 * SIZES[dtype]


def is_minus_zero(dtype: str, bits: int) -> bool:
    """Whether the element is -0; I8 has none."""
    return dtype in FLOATS and bits == 1 << (bits_of(dtype) - 1)


def is_finite(dtype: str, bits: int) -> bool:
    """Whether the element is neither an infinity nor a NaN: its exponent is not all ones."""
    if dtype == "I8":
        return True
    fraction = FRACTION_BITS[dtype]
    exponent_ones = (1 << (bits_of(dtype) - 1 - fraction)) - 1
    return bits >> fraction & exponent_ones != exponent_ones


def is_scale(bits: int) -> bool:
    """Whether the F32 bits are a number s with 0 < s <= 2^120."""
    return 0 < bits <= LARGEST_SCALE  # positive F32 numbers are ordered as their bits are


def round_f32(negative: bool, magnitude: int, exponent: int) -> int:
    """F32 bits of magnitude * 2^exponent, rounded to nearest even, subnormals kept."""
    sign = 1 << 31 if negative else 0
    if magnitude == 0:
        return sign
    leading = exponent + magnitude.bit_length() - 1
    quantum = max(leading, -126) - 23  # the result is an integer number of 2^quantum
    shift = quantum - exponent
    if shift <= 0:
        count = magnitude << -shift
    else:
        count, rest = magnitude >> shift, magnitude & ((1 << shift) - 1)
        half = 1 << (shift - 1)
        if rest > half or (rest == half and count % 2 == 1):
            count += 1
    # Normal: exponent field quantum+150, hidden bit 2^23 taken off. Subnormal: the count alone.
    bits = ((quantum + 149) << 23) + count
    return sign | min(bits, 0x7F800000)


def widen(dtype: str, bits: int) -> int:
    """F32 bits with the same value; a NaN keeps sign and payload, moved to the top."""
    if dtype == "F32":
        return bits
    if dtype == "BF16":
        return bits << 16
    assert dtype == "F16"
    negative = bits >> 15 == 1
    exponent, fraction = bits >> 10 & 31, bits & 1023
    if exponent == 31:
        return (1 << 31 if negative else 0) | 0x7F800000 | fraction << 13
    if exponent == 0:
        return round_f32(negative, fraction, -24)
    return round_f32(negative, 1024 + fraction, exponent - 25)


def scaled(element: int, scale: int) -> int:
    """F32 bits of RN32(q * s), q the I8 element and s the F32 scale of its row, both as bits."""
    q = element - 256 if element >= 128 else element
    exponent, fraction = scale >> 23, scale & 0x7FFFFF
    if exponent == 0:
        significand, power = fraction, -149
    else:
        significand, power = (1 << 23) + fraction, exponent - 150
    return round_f32(q < 0, abs(q) * significand, power)


def elements(data: bytes, dtype: str) -> list[int]:
    """Bit patterns of little-endian elements."""
    size = SIZES[dtype]
    return [int.from_bytes(data[i : i + size], "little") for i in range(0, len(data), size)]


def element_bytes(bits: list[int], dtype: str) -> bytes:
    """Little-endian bytes of bit patterns."""
    return b"".join(v.to_bytes(SIZES[dtype], "little") for v in bits)
