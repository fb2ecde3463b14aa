"""The naive witness as author: every operation of the vectors, input -> output.

Nothing of nmref, and only the standard library. `naive.Fault` refuses an input; its `code` says
why.
"""

from __future__ import annotations

import hashlib
import json
import struct
from functools import cache
from math import prod
from typing import Any

from conformance import naive

Json = dict[str, Any]

INDEX = "model.nmref.safetensors.index.json"
"""The index of a sharded model (SPEC 5.22)."""


def bits_of(value: Json) -> list[int]:
    """Elements of an array, row after row."""
    return naive.elements(bytes.fromhex(value["hex"]), value["dtype"])


def array(dtype: str, shape: list[int], bits: list[int]) -> Json:
    """An array of a vector."""
    size = naive.SIZES[dtype]
    raw = b"".join(element.to_bytes(size, "little") for element in bits)
    assert len(raw) == prod(shape) * size
    return {"dtype": dtype, "shape": shape, "hex": raw.hex()}


def rows_of(value: Json) -> list[list[int]]:
    """A matrix as rows; more dimensions before the last are taken together."""
    bits, width = bits_of(value), value["shape"][-1]
    return [bits[r * width : (r + 1) * width] for r in range(prod(value["shape"][:-1]))]


def matrix(dtype: str, rows: list[list[int]], shape: list[int]) -> Json:
    """Rows of bits as an array."""
    return array(dtype, shape, [element for row in rows for element in row])


def parts_in(parts: Json) -> naive.Parts:
    """Parts as naive takes them."""
    return {s: (p["dtype"], list(p["shape"]), bytes.fromhex(p["hex"])) for s, p in parts.items()}


def tensor(part: naive.Part) -> Json:
    """A tensor of a file or a part, as vectors have it."""
    dtype, shape, data = part
    return {"dtype": dtype, "shape": shape, "hex": data.hex()}


def check_arrays(given: Json) -> None:
    """What naive's lists of rows cannot say: X_SHAPE of arrays, then X_DTYPE of masks and scale."""
    shape = given["base"]["shape"]
    matrices = [given[name] for name in ("base", "mask", "outliers", "out_mask")]
    for value in matrices:
        if value is not None and (len(value["shape"]) != 2 or value["shape"] != shape):
            raise naive.Fault("X_SHAPE", "input")
    if shape[1] == 0:
        raise naive.Fault("X_SHAPE", "base")
    scale, dtype = given["scale"], given["base"]["dtype"]
    if scale is not None and dtype == "I8" and scale["shape"] != shape[:1]:
        raise naive.Fault("X_SHAPE", "scale")
    masks = (given["mask"], given["out_mask"])
    if any(mask is not None and mask["dtype"] != "BOOL" for mask in masks):
        raise naive.Fault("X_DTYPE", "mask")
    if scale is not None and scale["dtype"] != "F32":
        raise naive.Fault("X_DTYPE", "scale")


def weight_map(text: bytes) -> dict[str, str]:
    """The map of an index of shards; T_FILE for another form or a name that is a path."""
    try:
        homes = json.loads(text)["weight_map"]
        files = list(homes.values())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise naive.Fault("T_FILE", INDEX) from None
    for file in files:
        if not isinstance(file, str) or file in ("", ".", "..") or set(file) & set("/\\\0"):
            raise naive.Fault("T_FILE", INDEX)
    return dict(homes)


def optional(value: Json | None) -> list[list[int]] | None:
    """A matrix that may not be there."""
    return None if value is None else rows_of(value)


class Naive:
    """An author: methods by the names of the operations."""

    def unrank(self, given: Json) -> Json:
        """SPEC 2.14; null where a code is out of range."""
        n, m = naive.parse_pattern(given["pattern"])
        masks: list[str | None] = []
        for code in given["codes"]:
            try:
                masks.append(f"{naive.unrank(int(code, 16), n, m):x}")
            except naive.Fault:
                masks.append(None)
        return {"masks": masks}

    def rank(self, given: Json) -> Json:
        """SPEC 2.5."""
        return {"codes": [f"{naive.rank(int(mask, 16)):x}" for mask in given["masks"]]}

    def decode(self, given: Json) -> Json:
        """SPEC 4.9."""
        spec = given["spec"]
        dtype, rows = naive.decode(spec, parts_in(given["parts"]))
        return {"W": matrix(dtype, rows, list(spec["shape"]))}

    def warnings(self, given: Json) -> Json:
        """SPEC 6.8."""
        return {"warnings": sorted(naive.warnings(given["spec"], parts_in(given["parts"])))}

    def encode(self, given: Json) -> Json:
        """SPEC 3.10."""
        check_arrays(given)
        over = given["outliers"]
        more: dict[str, Any] = {}
        if over is not None:
            more = {
                "outliers": rows_of(over),
                "out_dtype": over["dtype"],
                "out_pattern": given["out_pattern"],
                "out_coding": given["out_coding"],
                "out_mask": optional(given["out_mask"]),
            }
        parts = naive.encode(
            given["base"]["dtype"],
            rows_of(given["base"]),
            given["pattern"],
            mask=optional(given["mask"]),
            scale=None if given["scale"] is None else bits_of(given["scale"]),
            columns=given["base"]["shape"][1],
            **more,
        )
        return {"parts": {suffix: tensor(part) for suffix, part in parts.items()}}

    def read(self, given: Json) -> Json:
        """SPEC part 6."""
        file = naive.read(bytes.fromhex(given["file"]))
        found = {name: tensor(part) for name, part in file.others.items()}
        for name, (spec, parts) in file.weights.items():
            dtype, rows = naive.decode(spec, parts, name)
            found[name] = matrix(dtype, rows, list(spec["shape"]))
        return {"tensors": found}

    def write(self, given: Json) -> Json:
        """SPEC 5.19."""
        weights = {
            name: (weight["spec"], parts_in(weight["parts"]))
            for name, weight in given["weights"].items()
        }
        file = naive.write(weights, parts_in(given["others"]))
        naive.read(file)
        return {"file": file.hex()}

    def read_model(self, given: Json) -> Json:
        """SPEC 5.21 and 5.22."""
        files = {name: bytes.fromhex(data) for name, data in given["files"].items()}
        homes = weight_map(files[INDEX])
        tensors: Json = {}
        found = {}
        for file in sorted(set(homes.values())):
            if file not in files:
                raise naive.Fault("T_FILE", file)
            tensors |= self.read({"file": files[file].hex()})["tensors"]
            found |= dict.fromkeys(naive.names(files[file]), file)
        if found != homes:
            raise naive.Fault("T_FILE", INDEX)
        return {"tensors": tensors}

    def dot(self, given: Json) -> Json:
        """SPEC 8.3 to 8.15."""
        held, x, profile = given["weight"], given["x"], given["profile"]
        weight: naive.Weight
        if "dense" in held:
            weight = ("dense", held["dense"]["dtype"], rows_of(held["dense"]))
            count = held["dense"]["shape"][0]
        else:
            weight = (held["spec"], parts_in(held["parts"]))
            count = held["spec"]["shape"][0]
        y = [naive.linear(profile, weight, x["dtype"], row) for row in rows_of(x)]
        dtype = "I32" if profile == "i32" else "F32"
        return {"y": matrix(dtype, y, [len(y), count])}

    def exp(self, given: Json) -> Json:
        """SPEC 8.17."""
        return {"y": array("F32", given["x"]["shape"], [naive.exp(x) for x in bits_of(given["x"])])}

    def silu(self, given: Json) -> Json:
        """SPEC 8.19."""
        y = [naive.silu(x) for x in bits_of(given["x"])]
        return {"y": array("F32", given["x"]["shape"], y)}

    def softmax(self, given: Json) -> Json:
        """SPEC 8.20."""
        y = [naive.softmax(row) for row in rows_of(given["x"])]
        return {"y": matrix("F32", y, given["x"]["shape"])}

    def rms_norm(self, given: Json) -> Json:
        """SPEC 8.21."""
        gain, eps = bits_of(given["gain"]), float(given["eps"])
        y = [naive.rms_norm(row, gain, eps) for row in rows_of(given["x"])]
        return {"y": matrix("F32", y, given["x"]["shape"])}

    def rope_tables(self, given: Json) -> Json:
        """SPEC 8.23."""
        said, d, count = given["scaling"], given["head_dim"], given["count"]
        scaling = said and (
            said["factor"],
            said["low_freq_factor"],
            said["high_freq_factor"],
            said["original_max_position_embeddings"],
        )
        theta = float(given["theta"])
        cos, sin = naive.rope_tables(theta, d, given["start"], count, scaling)
        shape = [count, d // 2]
        return {"cos": matrix("F32", cos, shape), "sin": matrix("F32", sin, shape)}

    def rope(self, given: Json) -> Json:
        """SPEC 8.24."""
        shape = given["x"]["shape"]
        tables = list(zip(rows_of(given["cos"]), rows_of(given["sin"]), strict=True))
        rows = rows_of(given["x"])
        y = [naive.rope(row, *tables[i % shape[1]]) for i, row in enumerate(rows)]
        return {"y": matrix("F32", y, shape)}

    def argmax(self, given: Json) -> Json:
        """SPEC 8.25."""
        return {"index": [naive.argmax(row) for row in rows_of(given["x"])]}

    def splitmix64(self, given: Json) -> Json:
        """SPEC 8.26 and 8.27: every list from the seed."""
        seed, count = int(given["seed"], 16), given["count"]
        whole, unit, centred = (naive.SplitMix64(seed) for _ in range(3))
        uniform = [unit.uniform() for _ in range(count)]
        doubles = [struct.unpack("<Q", struct.pack("<d", u))[0] for u in uniform]
        return {
            "next": [f"{whole.next():016x}" for _ in range(count)],
            "uniform": array("F64", [count], doubles),
            "centred": array("F32", [count], [centred.centred() for _ in range(count)]),
        }

    def trace(self, given: Json) -> Json:
        """SPEC 8.37 and 8.38."""
        config, tensors, prompt = tiny(given["model"])
        taps = naive.forward(config, tensors, prompt, given["profile"])
        digests = {
            name: hashlib.sha256(b"".join(b.to_bytes(4, "little") for b in bits)).hexdigest()
            for name, (_, bits) in taps.items()
        }
        return {"digest": naive.trace_digest(taps), "taps": digests}


@cache
def tiny(model: str) -> Any:
    """A golden model."""
    return naive.tiny(model)
