"""The plain codec and file reader of tests/testing as an author, so that they can be broken."""

from __future__ import annotations

from typing import Any

import numpy as np

from nmref.testing import Dense, Input
from tests.testing.plain_codec import SIZES, Codec
from tests.testing.plain_file import ITEM, Plain

Json = dict[str, Any]


def dense(value: Json) -> Dense:
    size = ITEM.get(value["dtype"], SIZES.get(value["dtype"], 1))
    raw = np.frombuffer(bytes.fromhex(value["hex"]), f"<u{size}")
    return Dense(value["dtype"], raw.reshape(value["shape"]))


def array(found: Dense) -> Json:
    raw = found.bits.astype(found.bits.dtype.newbyteorder("<")).tobytes()
    return {"dtype": found.dtype, "shape": list(found.bits.shape), "hex": raw.hex()}


def flags_of(value: Json | None) -> np.ndarray[Any, Any] | None:
    return None if value is None else dense(value).bits.astype(np.bool_)


def raw_parts(parts: Json) -> dict[str, bytes]:
    return {suffix: bytes.fromhex(part["hex"]) for suffix, part in parts.items()}


class PlainAuthor:
    """The operations of the format by a `Plain`, broken or not."""

    def __init__(self, plain: Plain) -> None:
        self.plain = plain

    def unrank(self, given: Json) -> Json:
        n, m = self.plain.pattern(given["pattern"])
        masks: list[str | None] = []
        for text in given["codes"]:
            code = int(text, 16)
            try:
                self.plain.check_code(code, n, m)
                masks.append(f"{sum(1 << p for p in self.plain.unrank(code, n, m)):x}")
            except Exception:
                masks.append(None)
        return {"masks": masks}

    def rank(self, given: Json) -> Json:
        n, m = self.plain.pattern(given["pattern"])
        found = []
        for text in given["masks"]:
            mask = int(text, 16)
            positions = [p for p in range(mask.bit_length()) if mask >> p & 1]
            found.append(f"{self.plain.rank(positions, n, m):x}")
        return {"codes": found}

    def decode(self, given: Json) -> Json:
        return {"W": array(self.plain.decode(given["spec"], raw_parts(given["parts"])))}

    def warnings(self, given: Json) -> Json:
        spec, parts = given["spec"], raw_parts(given["parts"])
        found = ["W_NONCANON"] if self.plain.canonicalise(spec, parts) != parts else []
        base, out, _ = Codec.contents(self.plain, spec, parts)
        stored = [(spec["dtype"], v) for row in base for v in row.values()]
        stored += [(spec["outliers"]["dtype"], v) for row in out or [] for v in row.values()]
        tops = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80, "I8": 1 << 9}
        if any(bits & tops[dtype] == tops[dtype] for dtype, bits in stored):
            found.append("W_NONFINITE")
        return {"warnings": found}

    def encode(self, given: Json) -> Json:
        inputs = Input(
            dense(given["base"]),
            given["pattern"],
            flags_of(given["mask"]),
            None if given["scale"] is None else dense(given["scale"]).bits,
            None if given["outliers"] is None else dense(given["outliers"]),
            given["out_pattern"] or "4:256",
            given["out_coding"] or "idx8",
            flags_of(given["out_mask"]),
        )
        parts = self.plain.encode(inputs)
        shapes = self.plain.shapes(inputs.spec)
        assert {s: len(part) for s, part in parts.items()} == {
            suffix: int(np.prod(shape)) * ITEM[dtype] for suffix, (dtype, shape) in shapes.items()
        }
        return {
            "parts": {
                suffix: {"dtype": dtype, "shape": shape, "hex": parts[suffix].hex()}
                for suffix, (dtype, shape) in shapes.items()
            }
        }

    def read(self, given: Json) -> Json:
        found = self.plain.read_file(bytes.fromhex(given["file"]))
        return {"tensors": {name: array(value) for name, value in found.items()}}

    def write(self, given: Json) -> Json:
        weights = {
            name: (weight["spec"], raw_parts(weight["parts"]))
            for name, weight in given["weights"].items()
        }
        others = {name: dense(value) for name, value in given["others"].items()}
        return {"file": self.plain.write_file(weights, others).hex()}
