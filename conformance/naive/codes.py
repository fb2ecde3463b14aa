"""Faults, patterns, ranks and bit streams (formats N:M, SPEC part 2)."""

from math import comb


class Fault(Exception):
    """A rule of the specification is broken: its code, and the place."""

    def __init__(self, code: str, where: str = "") -> None:
        """Take the code of the rule and the place, such as "w row 5 block 3"."""
        super().__init__(f"{code} {where}".rstrip())
        self.code = code
        self.where = where


OUTLIER_PATTERNS = ("4:256", "8:256", "16:256")


def is_decimal(text: str) -> bool:
    """Whether the text is a plain decimal: ASCII digits without leading zeros."""
    digits = text != "" and all(c in "0123456789" for c in text)
    return digits and (text == "0" or text[0] != "0")


def is_base_pattern(text: str) -> bool:
    """Whether the text is N:M with 1 <= N < M <= 64, in plain decimals."""
    n, colon, m = text.partition(":")
    if colon == "" or len(n) > 2 or len(m) > 2 or not is_decimal(n) or not is_decimal(m):
        return False
    return 1 <= int(n) < int(m) <= 64


def parse_pattern(text: str) -> tuple[int, int]:
    """Give (N, M) of a base or outlier pattern. Any other text is the caller's mistake."""
    if not is_base_pattern(text) and text not in OUTLIER_PATTERNS:
        raise ValueError(f"not a pattern: {text!r}")
    n, _, m = text.partition(":")
    return int(n), int(m)


def width(n: int, m: int) -> int:
    """Bits of one code: ceil(log2 C(m, n))."""
    return (comb(m, n) - 1).bit_length()


def positions(mask: int) -> list[int]:
    """Give the numbers of the one bits, ascending."""
    return [p for p in range(mask.bit_length()) if mask >> p & 1]


def rank(mask: int) -> int:
    """Colex rank: how many integers with as many one bits are smaller than the mask."""
    return sum(comb(p, j) for j, p in enumerate(positions(mask), start=1))


def unrank(code: int, n: int, m: int) -> int:
    """Mask of m bits with n ones that has this rank; E_CODE_RANGE when there is none."""
    if not 0 <= code < comb(m, n):
        raise Fault("E_CODE_RANGE", f"code {code}")
    mask = 0
    position = m
    for j in range(n, 0, -1):
        # The highest stored position p is the largest with C(p, j) <= what is left.
        position -= 1
        while comb(position, j) > code:
            position -= 1
        mask |= 1 << position
        code -= comb(position, j)
    return mask


def stream_bytes(count: int, width: int) -> int:
    """Bytes of a row stream of `count` codes."""
    return (count * width + 7) // 8


def pack(codes: list[int], width: int) -> bytes:
    """Bit stream of one row.

    Code b occupies bits [b*width, (b+1)*width), and stream bit i is bit i%8 of byte i//8:
    the stream is one little-endian integer.
    """
    stream = 0
    for b, code in enumerate(codes):
        if not 0 <= code < 1 << width:
            raise ValueError(f"code {code} does not fit into {width} bits")
        stream |= code << (b * width)
    return stream.to_bytes(stream_bytes(len(codes), width), "little")


def unpack(data: bytes, count: int, width: int) -> list[int]:
    """Codes of one row; E_PAD when a bit after the last code is not 0."""
    if len(data) != stream_bytes(count, width):
        raise ValueError(f"{len(data)} bytes for {count} codes of {width} bits")
    stream = int.from_bytes(data, "little")
    if stream >> (count * width) != 0:
        raise Fault("E_PAD")
    return [stream >> (b * width) & ((1 << width) - 1) for b in range(count)]
