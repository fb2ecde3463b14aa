"""SplitMix64 and the numbers made of it (SPEC 8.26 to 8.28)."""

from .floats import BF16, canonical_bits, rounded

MASK = (1 << 64) - 1


class SplitMix64:
    """The generator; the state starts as the seed."""

    def __init__(self, seed: int) -> None:
        """Take a seed of 64 bits."""
        self.state = seed & MASK

    def next(self) -> int:
        """Give the next 64 bits (SPEC 8.26)."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
        return z ^ z >> 31

    def uniform(self) -> float:
        """Give a binary64 number in [0, 1) (SPEC 8.27)."""
        return (self.next() >> 11) * 2.0**-53

    def centred_count(self) -> int:
        """Give centred() as a count of 2^-23."""
        return (self.next() >> 40) - (1 << 23)

    def centred(self) -> int:
        """Give the F32 bits of a number in [-1, 1) (SPEC 8.27)."""
        return canonical_bits(rounded(self.centred_count(), -23))

    def below(self, n: int) -> int:
        """Give an integer in 0 ... n-1 (SPEC 8.27)."""
        return (self.next() * n) >> 64


def bf16_bits(count: int, exponent: int) -> int:
    """Bits of RNbf16(count * 2^exponent), SPEC 8.28."""
    return canonical_bits(rounded(count, exponent, BF16)) >> 16
