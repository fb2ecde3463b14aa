"""Where two traces differ (SPEC 8.4, 8.37)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmref.conformance.taps import AXES
from nmref.conformance.trace import Bits
from nmref.conformance.trace_files import Trace


@dataclass(frozen=True)
class Difference:
    """The first element of a tap that differs between two traces.

    `flat` counts row after row, `index` along the axes; bits and values are those of A and of B
    after the map of 8.4; `count` of the `size` elements of the tap differ.
    """

    tap: str
    flat: int
    index: tuple[int, ...]
    bits: tuple[int, int]
    count: int
    size: int

    @property
    def values(self) -> tuple[str, str]:
        """The shortest decimals that give these numbers."""
        a, b = np.array(self.bits, dtype=np.uint32).view(np.float32)
        return str(a), str(b)

    @property
    def position(self) -> str:
        """Such as "position 3, column 17"."""
        axes = AXES[len(self.index)]
        return ", ".join(f"{axis} {i}" for axis, i in zip(axes, self.index, strict=True))


@dataclass(frozen=True)
class Comparison:
    """What differs between the traces A and B; taps in the order of 8.36.

    `same` and `different` are taps of both; those of other shapes are in `different` and have no
    `first`.  `about` names members of the index that differ though they are no taps.
    """

    first: Difference | None
    same: list[str]
    different: list[str]
    reshaped: list[str]
    only_a: list[str]
    only_b: list[str]
    about: list[str]

    @property
    def equal(self) -> bool:
        """The same taps with the same canonical results."""
        return not (self.different or self.only_a or self.only_b)


def compare(a: Trace, b: Trace) -> Comparison:
    """Compare the canonical results of two traces, tap by tap."""
    both = [name for name in a.taps if name in b.taps]
    reshaped = [name for name in both if a.taps[name].shape != b.taps[name].shape]
    found: list[Difference] = []
    for name in both:
        if name not in reshaped and a.taps[name].sha256 != b.taps[name].sha256:
            found += _difference(name, a.bits(name), b.bits(name))
    differing = {*reshaped, *(difference.tap for difference in found)}
    return Comparison(
        first=found[0] if found else None,
        same=[name for name in both if name not in differing],
        different=[name for name in both if name in differing],
        reshaped=reshaped,
        only_a=[name for name in a.taps if name not in b.taps],
        only_b=[name for name in b.taps if name not in a.taps],
        about=[m for m in ("profile", "model", "tokens") if getattr(a, m) != getattr(b, m)],
    )


def _difference(tap: str, a: Bits, b: Bits) -> list[Difference]:
    """None or one: files may differ in what 8.4 maps away."""
    unequal = np.flatnonzero(a != b)
    if not len(unequal):
        return []
    flat = int(unequal[0])
    index = tuple(int(i) for i in np.unravel_index(flat, a.shape))
    bits = int(a.flat[flat]), int(b.flat[flat])
    return [Difference(tap, flat, index, bits, len(unequal), a.size)]
