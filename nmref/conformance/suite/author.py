"""nmref as author: `Operations`, with the results of SPEC part 8 as canonical ones (8.4)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nmref import colex
from nmref.conformance.arrays import read_array, write_array
from nmref.conformance.operations import Operations
from nmref.conformance.suite.cases import NUMERIC, OPS, Json
from nmref.numerics import canonical
from nmref.pattern import NMPattern


class Nmref:
    """An author (see `cases.Author`): every operation is a method, input -> output.

    Refuses with NmrefError.
    """

    def __init__(self) -> None:
        self._operations = Operations()

    def unrank(self, given: Json) -> Json:
        """All codes at once; null where one is out of range (SPEC 2.8, 2.14)."""
        pattern = NMPattern.parse(given["pattern"])
        codes = [int(code, 16) for code in given["codes"]]
        inside = [code if code < pattern.count else 0 for code in codes]
        stored = colex.unrank(np.array(inside, dtype=colex.code_dtype(pattern)), pattern)
        packed = np.packbits(stored, axis=-1, bitorder="little")
        masks = [f"{int.from_bytes(row.tobytes(), 'little'):x}" for row in packed]
        pairs = zip(codes, masks, strict=True)
        return {"masks": [mask if code < pattern.count else None for code, mask in pairs]}

    def rank(self, given: Json) -> Json:
        """All masks at once (SPEC 2.5)."""
        pattern = NMPattern.parse(given["pattern"])
        size = -(-pattern.block // 8)
        raw = b"".join(int(mask, 16).to_bytes(size, "little") for mask in given["masks"])
        packed = np.frombuffer(raw, np.uint8).reshape(-1, size)
        stored = np.unpackbits(packed, axis=-1, bitorder="little")[:, : pattern.block]
        return {"codes": [f"{int(c):x}" for c in colex.rank(stored.astype(np.bool_), pattern)]}

    def __getattr__(self, op: str) -> Callable[[Json], Json]:
        if op not in OPS:
            raise AttributeError(op)
        operation = getattr(self._operations, op)

        def method(given: Json) -> Json:
            output: Json = operation(**given)
            return {name: _canonical(value) for name, value in output.items()} if (
                op in NUMERIC
            ) else output  # fmt: skip

        return method


def _canonical(value: object) -> object:
    """An F32 array after the map of 8.4; anything else as it is."""
    if not isinstance(value, dict) or value.get("dtype") != "F32":
        return value
    return write_array(canonical(read_array(value, "result")))
