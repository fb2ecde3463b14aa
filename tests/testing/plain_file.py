"""A plain reader and writer of files on top of the plain codec; every check is a method."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from math import prod
from typing import Any

import numpy as np

from nmref.testing import Dense, Implementation, Parts, Spec
from tests.testing.plain_codec import FLOATS, SIZES, Codec, Fault, need

ITEM = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 8),
}
LARGEST = 2**63 - 1
Entries = dict[str, Any]


def compact(value: Any, sort: bool = True) -> str:
    return json.dumps(value, sort_keys=sort, separators=(",", ":"))


class Plain(Codec):
    """SPEC parts 5 and 6."""

    NAME = re.compile(r"[!#-\[\]-~]{1,512}")
    RESERVED = re.compile(r"\.nm_[^.]*\Z")
    DEPTH, META_DEPTH = 4, 8

    def implementation(self) -> Implementation:
        names = (
            *("rank", "unrank", "pack", "unpack"),
            *("encode", "decode", "canonicalise", "read_file", "write_file"),
        )
        return Implementation(**{name: getattr(self, name) for name in names})

    # -- JSON

    def number(self, digits: str, signed: bool) -> int:
        need(len(digits) < 25, "json")
        need(signed or digits[0] != "-", "json")
        need(abs(int(digits)) <= LARGEST, "json")
        return int(digits)

    def members(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        need(len(dict(pairs)) == len(pairs), "json")
        return dict(pairs)

    def no_float(self, digits: str) -> Any:
        raise Fault("json")

    def no_constant(self, name: str) -> Any:
        raise Fault("json")

    def check_depth(self, text: str, most: int) -> None:
        depth = 0
        for token in re.findall(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', text, re.DOTALL):
            depth += (token in "[{") - (token in "]}")
            need(depth <= most, "json")

    def check_rest(self, rest: str) -> None:
        need(not rest.strip(" "), "json")

    def check_surrogates(self, value: Any) -> None:
        json.dumps(value, ensure_ascii=False).encode()

    def parse(self, text: str, depth: int, code: str, signed: bool) -> dict[str, Any]:
        try:
            need(text[:1] == "{", "json")
            self.check_depth(text, depth)
            decoder = json.JSONDecoder(
                object_pairs_hook=self.members,
                parse_float=self.no_float,
                parse_constant=self.no_constant,
                parse_int=lambda digits: self.number(digits, signed),
            )
            found, end = decoder.raw_decode(text)
            self.check_rest(text[end:])
            self.check_surrogates(found)
        except (Fault, ValueError):
            raise Fault(code) from None
        assert isinstance(found, dict)
        return found

    # -- safetensors

    def header_text(self, header: bytes) -> str:
        try:
            return header.decode("utf-8")
        except UnicodeDecodeError:
            raise Fault("E_HEADER") from None

    def check_length(self, length: int, size: int) -> None:
        need(length <= 100_000_000, "E_LIMIT")
        need(8 + length <= size, "E_HEADER")

    def is_sizes(self, value: Any) -> bool:
        return isinstance(value, list) and all(type(item) is int for item in value)

    def check_name(self, name: str) -> None:
        need(self.NAME.fullmatch(name), "E_HEADER")

    def check_members(self, entry: Any) -> None:
        need(isinstance(entry, dict), "E_HEADER")
        need(set(entry) == {"dtype", "shape", "data_offsets"}, "E_HEADER")

    def check_entry(self, name: str, entry: Any) -> None:
        self.check_name(name)
        self.check_members(entry)
        need(isinstance(entry["dtype"], str), "E_HEADER")
        need(self.is_sizes(entry["shape"]) and self.is_sizes(entry["data_offsets"]), "E_HEADER")
        need(len(entry["data_offsets"]) == 2, "E_HEADER")
        begin, end = entry["data_offsets"]
        need(begin <= end, "E_HEADER")
        if entry["dtype"] in ITEM:
            need(self.size(entry["shape"], ITEM[entry["dtype"]]) == end - begin, "E_HEADER")

    def size(self, shape: list[int], item: int) -> int:
        size = 1
        for factor in (*shape, item):
            size *= factor
            need(size <= LARGEST, "E_HEADER")
        return size

    def check_tiling(self, entries: Entries, size: int) -> None:
        spans = [tuple(entry["data_offsets"]) for entry in entries.values()]
        ends = [0]
        for begin, end in sorted(span for span in spans if span[0] < span[1]):
            need(begin == ends[-1], "E_HEADER")
            ends.append(end)
        need(ends[-1] == size, "E_HEADER")
        need(all(begin in ends for begin, end in spans if begin == end), "E_HEADER")

    def check_dtypes(self, entries: Entries) -> None:
        need(all(entry["dtype"] in ITEM for entry in entries.values()), "E_DTYPE")

    def read_header(self, data: bytes) -> tuple[Entries, Any, bytes]:
        need(len(data) >= 8, "E_HEADER")
        (length,) = struct.unpack("<Q", data[:8])
        self.check_length(length, len(data))
        text = self.header_text(data[8 : 8 + length])
        entries = self.parse(text, self.DEPTH, "E_HEADER", signed=False)
        metadata = entries.pop("__metadata__", None)
        body = data[8 + length :]
        if metadata is not None:
            need(isinstance(metadata, dict), "E_HEADER")
            need(all(isinstance(value, str) for value in metadata.values()), "E_HEADER")
        for name, entry in entries.items():
            self.check_entry(name, entry)
        self.check_tiling(entries, len(body))
        self.check_dtypes(entries)
        return entries, metadata, body

    # -- the nmref key

    def check_version(self, spec: Any) -> None:
        need(isinstance(spec, str), "E_META")
        found = re.fullmatch(r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)", spec)
        need(found, "E_META")
        assert found is not None
        need(found[1] == "1", "E_VERSION")

    def check_canonical(self, document: Any, text: str) -> None:
        need(compact(document) == text, "E_META")

    def check_keys(self, item: Any, *names: str) -> None:
        need(isinstance(item, dict), "E_META")
        extra = {key: value for key, value in item.items() if key not in names}
        need(all(name in item for name in names), "E_META")
        for key, value in extra.items():
            need(re.fullmatch(r"x-[!#-\[\]-~]+", key), "E_META")
            self.check_extension(value)

    def check_extension(self, value: Any) -> None:
        need(isinstance(value, str) and re.fullmatch(r"[ -~]*", value), "E_META")

    def check_pattern(self, text: Any) -> None:
        found = isinstance(text, str) and re.fullmatch(r"([1-9][0-9]?):([1-9][0-9]?)", text)
        need(found, "E_META")
        assert found
        need(int(found[1]) < int(found[2]) <= 64, "E_META")

    def check_weight(self, name: str, item: Any) -> None:
        need(self.NAME.fullmatch(name) and not self.RESERVED.search(name), "E_META")
        need(name != "__metadata__", "E_META")
        self.check_keys(item, "coding", "dtype", "outliers", "pattern", "shape")
        need(item["coding"] == "colex" and item["dtype"] in SIZES, "E_META")
        self.check_pattern(item["pattern"])
        need(self.is_sizes(item["shape"]) and len(item["shape"]) == 2, "E_META")
        if item["outliers"] is not None:
            self.check_outliers(item["outliers"])

    def check_outliers(self, out: Any) -> None:
        self.check_keys(out, "coding", "dtype", "pattern")
        need(out["coding"] in ("idx8", "colex") and out["dtype"] in FLOATS, "E_META")
        need(out["pattern"] in ("4:256", "8:256", "16:256"), "E_META")

    def check_pairs(self, metadata: Any) -> None:
        need(metadata is not None and set(metadata) == {"nmref"}, "E_META")

    def read_metadata(self, metadata: Any) -> dict[str, Any]:
        self.check_pairs(metadata)
        text = metadata["nmref"]
        document = self.parse(text, self.META_DEPTH, "E_META", signed=True)
        self.check_version(document.get("spec"))
        self.check_canonical(document, text)
        self.check_keys(document, "content_sha256", "spec", "tensors")
        claimed = document["content_sha256"]
        need(isinstance(claimed, str) and re.fullmatch(r"[0-9a-f]{64}", claimed), "E_META")
        need(isinstance(document["tensors"], dict), "E_META")
        for name, item in document["tensors"].items():
            self.check_weight(name, item)
        return document

    # -- parts

    def shapes(self, spec: Spec) -> dict[str, tuple[str, list[int]]]:
        (rows, k), out = spec["shape"], spec["outliers"]
        n, m = self.pattern(spec["pattern"])
        blocks = -(-k // m)
        codes = self.row_bytes(blocks, self.width(n, m))
        found = {
            "nm_values": (spec["dtype"], [rows, blocks * n]),
            "nm_codes": ("U8", [rows, codes]),
        }
        if spec["dtype"] == "I8":
            found["nm_scale"] = ("F32", [rows])
        if out:
            n, m = self.pattern(out["pattern"])
            blocks = -(-k // m)
            found["nm_out_values"] = (out["dtype"], [rows, blocks * n])
            codes = self.row_bytes(blocks, self.width(n, m))
            idx8 = out["coding"] == "idx8"
            where = "nm_out_index" if idx8 else "nm_out_codes"
            found[where] = ("U8", [rows, blocks * n if idx8 else codes])
        return found

    def check_limits(self, shape: list[int]) -> None:
        need(0 <= shape[0] < 2**31 and 1 <= shape[1] < 2**31, "E_LIMIT")

    def check_part(self, entry: Any, dtype: str, shape: list[int]) -> None:
        need(entry is not None, "E_MISSING")
        need(entry["dtype"] == dtype, "E_DTYPE")
        need(entry["shape"] == shape, "E_SHAPE")

    def check_reserved(self, name: str, weights: Any) -> None:
        need(name not in weights and not self.RESERVED.search(name), "E_UNEXPECTED")

    def digest(self, entries: Entries, body: bytes, document: dict[str, Any]) -> str:
        lines = []
        for name in sorted(entries):
            begin, end = entries[name]["data_offsets"]
            sha256 = hashlib.sha256(body[begin:end]).hexdigest()
            lines.append(
                f"{sha256} {entries[name]['dtype']} {compact(entries[name]['shape'])} {name}"
            )
        rest = {key: value for key, value in document.items() if key != "content_sha256"}
        return hashlib.sha256("\n".join([*lines, compact(rest), ""]).encode()).hexdigest()

    def check_digest(self, entries: Entries, body: bytes, document: dict[str, Any]) -> None:
        need(self.digest(entries, body, document) == document["content_sha256"], "E_DIGEST")

    def bodies(self, entries: Entries, body: bytes) -> dict[str, bytes]:
        return {name: body[slice(*entry["data_offsets"])] for name, entry in entries.items()}

    def read_file(self, data: bytes) -> dict[str, Dense]:
        entries, metadata, body = self.read_header(data)
        document = self.read_metadata(metadata)
        weights = document["tensors"]
        bodies = self.bodies(entries, body)
        others = dict(entries)
        parts: dict[str, Parts] = {}
        for name in sorted(weights):
            self.check_limits(weights[name]["shape"])
            parts[name] = {}
            for suffix, (dtype, shape) in self.shapes(weights[name]).items():
                part = f"{name}.{suffix}"
                self.check_part(others.pop(part, None), dtype, shape)
                parts[name][suffix] = bodies[part]
        for name in sorted(others):
            self.check_reserved(name, weights)
        found = {name: self.decode(weights[name], parts[name]) for name in sorted(weights)}
        self.check_digest(entries, body, document)
        for name, entry in others.items():
            raw = np.frombuffer(bodies[name], f"<u{ITEM[entry['dtype']]}")
            found[name] = Dense(entry["dtype"], raw.reshape(entry["shape"]))
        return found

    # -- writing

    def tensor_order(self, tensors: dict[str, Any]) -> list[str]:
        return sorted(tensors, key=lambda name: (-ITEM[tensors[name][0]], name))

    def align(self, header: bytes) -> bytes:
        return header + b" " * (-len(header) % 8)

    def write_file(self, weights: dict[str, tuple[Spec, Parts]], others: dict[str, Dense]) -> bytes:
        tensors = {
            name: (dense.dtype, list(dense.bits.shape), dense.bits.tobytes())
            for name, dense in others.items()
        }
        for name, (spec, parts) in weights.items():
            for suffix, (dtype, shape) in self.shapes(spec).items():
                tensors[f"{name}.{suffix}"] = (dtype, shape, parts[suffix])
        entries: Entries = {}
        body = b""
        for name in self.tensor_order(tensors):
            dtype, shape, data = tensors[name]
            assert len(data) == prod(shape) * ITEM[dtype]
            offsets = [len(body), len(body) + len(data)]
            entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
            body += data
        document = self.document({name: spec for name, (spec, _) in weights.items()})
        document["content_sha256"] = self.digest(entries, body, document)
        return self.frame(document, entries, body)

    def document(self, weights: dict[str, Spec]) -> dict[str, Any]:
        return {"spec": "1.0", "tensors": weights}

    def frame(self, document: dict[str, Any], entries: Entries, body: bytes) -> bytes:
        pairs = {"__metadata__": {"nmref": compact(document)}}
        header = self.align(compact(pairs | entries, sort=False).encode())
        return struct.pack("<Q", len(header)) + header + body
