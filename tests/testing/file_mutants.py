"""Broken readers and writers of files; see mutants.py."""

from __future__ import annotations

import json
import re
import struct
from functools import partial
from math import prod
from typing import Any

from nmref.testing import Dense, Parts, Spec
from tests.testing.mutants import Mutant, register
from tests.testing.plain_codec import FLOATS, Fault, need
from tests.testing.plain_file import ITEM, Entries, Plain, compact

MUTANTS: list[Mutant] = []
mutant = partial(register, MUTANTS, True)


# -- JSON


@mutant("JSON", "duplicate names: the last wins")
class _LastWins(Plain):
    def members(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return dict(pairs)


@mutant("JSON", "duplicate names found before escapes are resolved only")
class _RawNames(Plain):
    def members(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return dict(pairs)

    def parse(self, text: str, depth: int, code: str, signed: bool) -> dict[str, Any]:
        try:
            json.JSONDecoder(object_pairs_hook=super().members).raw_decode(text.replace("\\u", "?"))
        except (Fault, ValueError, RecursionError):
            raise Fault(code) from None
        return super().parse(text, depth, code, signed)


@mutant("JSON", "whole floats taken for integers")
class _Floats(Plain):
    def no_float(self, digits: str) -> Any:
        return int(float(digits))


@mutant("JSON", "NaN accepted")
class _Nan(Plain):
    def no_constant(self, name: str) -> Any:
        return 3


@mutant("JSON", "minus sign accepted")
class _Minus(Plain):
    def number(self, digits: str, signed: bool) -> int:
        return super().number(digits, True)


@mutant("JSON", "numbers of any size")
class _BigNumbers(Plain):
    def number(self, digits: str, signed: bool) -> int:
        need(signed or digits[0] != "-", "json")
        return int(digits[-19:])


@mutant("JSON", "any depth")
class _Deep(Plain):
    def check_depth(self, text: str, most: int) -> None:
        return


@mutant("JSON", "depth counted inside of strings")
class _DepthInStrings(Plain):
    def check_depth(self, text: str, most: int) -> None:
        depth = 0
        for letter in text:
            depth += (letter in "[{") - (letter in "]}")
            need(depth <= most, "json")


@mutant("JSON", "white space and NUL stripped after the object")
class _Strips(Plain):
    def check_rest(self, rest: str) -> None:
        need(not rest.strip(" \n\t\0"), "json")


@mutant("JSON", "text after the object ignored")
class _Rest(Plain):
    def check_rest(self, rest: str) -> None:
        return


@mutant("JSON", "no white space between tokens allowed")
class _Tight(Plain):
    def header_text(self, header: bytes) -> str:
        text = super().header_text(header)
        need(not re.search(r'[{},:"\]]\s+["\[{0-9:,}\]]', text.rstrip(" ")), "E_HEADER")
        return text


@mutant("JSON", "escapes in names not resolved")
class _Escapes(Plain):
    def header_text(self, header: bytes) -> str:
        return super().header_text(header).replace("\\u", "\\\\u")


@mutant("JSON", "byte order mark accepted")
class _Mark(Plain):
    def header_text(self, header: bytes) -> str:
        return super().header_text(header).removeprefix("\ufeff")


@mutant("JSON", "white space before the object accepted")
class _Leading(Plain):
    def header_text(self, header: bytes) -> str:
        return super().header_text(header).lstrip()


@mutant("JSON", "invalid UTF-8 dropped")
class _Ignore(Plain):
    def header_text(self, header: bytes) -> str:
        return header.decode("utf-8", "ignore")


@mutant("JSON", "encoding guessed, as json.loads(bytes) does")
class _Guess(Plain):
    def header_text(self, header: bytes) -> str:
        try:
            return header.decode(json.detect_encoding(header))
        except UnicodeDecodeError:
            raise Fault("E_HEADER") from None


@mutant("JSON", "control characters in strings accepted")
class _Control(Plain):
    def header_text(self, header: bytes) -> str:
        return super().header_text(header).replace("\t", "")


@mutant("JSON", "trailing commas accepted")
class _Commas(Plain):
    def header_text(self, header: bytes) -> str:
        return re.sub(r",(?=[\]}])", "", super().header_text(header))


@mutant("JSON", "comments accepted")
class _Comments(Plain):
    def header_text(self, header: bytes) -> str:
        return re.sub(r"/\*.*?\*/", "", super().header_text(header))


@mutant("JSON", "leading zeros and plus signs accepted")
class _LooseNumbers(Plain):
    def header_text(self, header: bytes) -> str:
        return re.sub(r"\[[+0]+(?=[1-9])", "[", super().header_text(header))


@mutant("JSON", "long numbers: ValueError of int()")
class _LongNumbers(Plain):
    def number(self, digits: str, signed: bool) -> int:
        try:
            return super().number(digits, signed) if len(digits) < 25 else int(digits)
        except ValueError as error:
            raise OverflowError(str(error)) from None


# -- safetensors


@mutant("header", "files shorter than 8 bytes: struct.error")
class _Short(Plain):
    def read_header(self, data: bytes) -> tuple[Entries, Any, bytes]:
        if len(data) < 8:
            struct.unpack("<Q", data)
        return super().read_header(data)


@mutant("header", "numbers in strings accepted")
class _Strings(Plain):
    def is_sizes(self, value: Any) -> bool:
        if isinstance(value, list):
            value[:] = [int(v) if isinstance(v, str) and v.isdigit() else v for v in value]
        return super().is_sizes(value)


@mutant("header", "values of __metadata__ of any type")
class _AnyMetadata(Plain):
    def check_pairs(self, metadata: Any) -> None:
        need(metadata is not None and "nmref" in metadata, "E_META")

    def parse(self, text: str, depth: int, code: str, signed: bool) -> dict[str, Any]:
        found = super().parse(text, depth, code, signed)
        pairs = found.get("__metadata__")
        if isinstance(pairs, dict):
            found["__metadata__"] = {key: f"{value}" for key, value in pairs.items()}
        return found


@mutant("header", "data shorter than its tensors accepted")
class _Shorter(Plain):
    def check_tiling(self, entries: Entries, size: int) -> None:
        last = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        super().check_tiling(entries, last if last > size else size)

    def check_digest(self, entries: Entries, body: bytes, document: dict[str, Any]) -> None:
        return


@mutant("header", "H not compared with the file")
class _Length(Plain):
    def check_length(self, length: int, size: int) -> None:
        need(length <= 100_000_000, "E_LIMIT")


@mutant("header", "H must be a multiple of 8")
class _Aligned(Plain):
    def check_length(self, length: int, size: int) -> None:
        need(length % 8 == 0, "E_HEADER")
        super().check_length(length, size)


@mutant("header", "true taken for 1")
class _True(Plain):
    def is_sizes(self, value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(item, int) for item in value)


@mutant("header", "names not checked")
class _Names(Plain):
    def check_name(self, name: str) -> None:
        return


@mutant("header", "names of any length")
class _LongNames(Plain):
    def check_name(self, name: str) -> None:
        need(re.fullmatch(r"[!#-\[\]-~]+", name), "E_HEADER")


@mutant("header", "names of at most 256 bytes")
class _ShortNames(Plain):
    def check_name(self, name: str) -> None:
        need(len(name) <= 256, "E_HEADER")
        super().check_name(name)


@mutant("header", "names with / or .. refused")
class _Paths(Plain):
    def check_name(self, name: str) -> None:
        need("/" not in name and ".." not in name, "E_HEADER")
        super().check_name(name)


@mutant("header", "extra members of an entry accepted")
class _Members(Plain):
    def check_members(self, entry: Any) -> None:
        need(
            isinstance(entry, dict) and {"dtype", "shape", "data_offsets"} <= set(entry), "E_HEADER"
        )


@mutant("header", "missing member: KeyError")
class _Crash(Plain):
    def check_members(self, entry: Any) -> None:
        need(isinstance(entry, dict) and len(entry) <= 3, "E_HEADER")


@mutant("header", "size not compared with the offsets")
class _Size(Plain):
    def size(self, shape: list[int], item: int) -> int:
        super().size(shape, item)
        return self.span

    span = 0

    def check_entry(self, name: str, entry: Any) -> None:
        if isinstance(entry, dict) and self.is_sizes(entry.get("data_offsets")):
            self.span = (entry["data_offsets"] or [0])[-1] - (entry["data_offsets"] or [0])[0]
        super().check_entry(name, entry)


@mutant("header", "size computed modulo 2^64")
class _Wraps(Plain):
    def size(self, shape: list[int], item: int) -> int:
        return prod(shape) * item % 2**64


@mutant("header", "overflow hidden by a later 0")
class _HiddenOverflow(Plain):
    def size(self, shape: list[int], item: int) -> int:
        size = prod(shape) * item
        need(size < 2**63, "E_HEADER")
        return size


@mutant("header", "an empty shape has no elements")
class _Scalar(Plain):
    def size(self, shape: list[int], item: int) -> int:
        return super().size(shape, item) if shape else 0


@mutant("header", "holes accepted")
class _Holes(Plain):
    def check_tiling(self, entries: Entries, size: int) -> None:
        spans = sorted(tuple(entry["data_offsets"]) for entry in entries.values())
        at = 0
        for begin, end in spans:
            need(begin >= at or begin == end, "E_HEADER")
            at = max(at, end)
        need(at <= size, "E_HEADER")


@mutant("header", "tensors may share bytes")
class _Share(Plain):
    def check_tiling(self, entries: Entries, size: int) -> None:
        ends = [entry["data_offsets"][1] for entry in entries.values()]
        need(max(ends, default=0) == size, "E_HEADER")


@mutant("header", "data after the last tensor accepted")
class _More(Plain):
    def check_tiling(self, entries: Entries, size: int) -> None:
        last = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        need(last <= size, "E_HEADER")
        super().check_tiling(entries, last)


@mutant("header", "an empty tensor may be anywhere")
class _Anywhere(Plain):
    def check_tiling(self, entries: Entries, size: int) -> None:
        spans = {name: entry["data_offsets"] for name, entry in entries.items()}
        full = {name: entries[name] for name, (begin, end) in spans.items() if begin < end}
        super().check_tiling(full, size)


@mutant("header", "an empty tensor only behind the one before it")
class _InOrder(Plain):
    def check_tiling(self, entries: Entries, size: int) -> None:
        super().check_tiling(entries, size)
        at = 0
        for entry in sorted(entries.values(), key=lambda e: (e["data_offsets"][1], e["dtype"])):
            need(entry["data_offsets"][0] in (at, entry["data_offsets"][1]), "E_HEADER")
            need(entry["data_offsets"][1] > 0, "E_HEADER")
            at = entry["data_offsets"][1]


@mutant("header", "offsets ignored, data taken in the order of the header")
class _HeaderOrder(Plain):
    def bodies(self, entries: Entries, body: bytes) -> dict[str, bytes]:
        found, at = {}, 0
        for name, entry in entries.items():
            begin, end = entry["data_offsets"]
            found[name] = body[at : at + end - begin]
            at += end - begin
        return found


@mutant("header", "unknown dtypes skipped")
class _SkipsDtypes(Plain):
    def check_dtypes(self, entries: Entries) -> None:
        for name in [name for name, entry in entries.items() if entry["dtype"] not in ITEM]:
            del entries[name]


@mutant("header", "dtypes in lower case accepted")
class _LowerCase(Plain):
    def check_entry(self, name: str, entry: Any) -> None:
        if isinstance(entry, dict) and isinstance(entry.get("dtype"), str):
            entry["dtype"] = entry["dtype"].upper()
        super().check_entry(name, entry)


@mutant("header", "8-bit float dtypes unknown")
class _NoFloat8(Plain):
    def check_dtypes(self, entries: Entries) -> None:
        need(all(entry["dtype"][:3] != "F8_" for entry in entries.values()), "E_DTYPE")
        super().check_dtypes(entries)


# -- the nmref key


@mutant("metadata", "other keys of __metadata__ accepted")
class _Keys(Plain):
    def check_pairs(self, metadata: Any) -> None:
        need(metadata is not None and "nmref" in metadata, "E_META")


@mutant("metadata", "a file without the key has no weights")
class _NoKey(Plain):
    def read_metadata(self, metadata: Any) -> dict[str, Any]:
        if metadata is None or "nmref" not in metadata:
            return {"tensors": {}, "content_sha256": ""}
        return super().read_metadata(metadata)

    def check_digest(self, entries: Entries, body: bytes, document: dict[str, Any]) -> None:
        if document["content_sha256"]:
            super().check_digest(entries, body, document)

    def check_reserved(self, name: str, weights: Any) -> None:
        if weights:
            super().check_reserved(name, weights)


@mutant("metadata", "version not checked")
class _AnyVersion(Plain):
    def check_version(self, spec: Any) -> None:
        return


@mutant("metadata", "version matched with $, so a newline passes")
class _Dollar(Plain):
    def check_version(self, spec: Any) -> None:
        super().check_version(spec.rstrip("\n") if isinstance(spec, str) else spec)


@mutant("metadata", "version with leading zeros accepted")
class _Zeros(Plain):
    def check_version(self, spec: Any) -> None:
        if isinstance(spec, str) and re.fullmatch(r"\d+\.\d+", spec):
            spec = ".".join(str(int(number)) for number in spec.split("."))
        super().check_version(spec)


@mutant("metadata", "unknown minor refused")
class _Minor(Plain):
    def check_version(self, spec: Any) -> None:
        super().check_version(spec)
        need(spec == "1.0", "E_VERSION")


@mutant("metadata", "only the first letter of the version read")
class _FirstLetter(Plain):
    def check_version(self, spec: Any) -> None:
        need(isinstance(spec, str) and re.fullmatch(r"(0|[1-9]\d*)\.(0|[1-9]\d*)", spec), "E_META")
        need(spec[0] == "1", "E_VERSION")


@mutant("metadata", "unknown version reported as E_META")
class _VersionCode(Plain):
    def check_version(self, spec: Any) -> None:
        try:
            super().check_version(spec)
        except Fault:
            raise Fault("E_META") from None


@mutant("metadata", "canonical form not checked")
class _AnyForm(Plain):
    def check_canonical(self, document: Any, text: str) -> None:
        return


@mutant("metadata", "only the order of names in S checked")
class _OrderOnly(Plain):
    def check_canonical(self, document: Any, text: str) -> None:
        need(json.dumps(json.loads(text)) == json.dumps(document, sort_keys=True), "E_META")


@mutant("metadata", "unknown members accepted")
class _MoreMembers(Plain):
    def check_keys(self, item: Any, *names: str) -> None:
        need(isinstance(item, dict), "E_META")
        need(all(name in item for name in names), "E_META")


@mutant("metadata", "members that are missing have defaults")
class _Defaults(Plain):
    def check_keys(self, item: Any, *names: str) -> None:
        if isinstance(item, dict) and "coding" in names:
            item.setdefault("outliers", None)
        super().check_keys(item, *names)


@mutant("metadata", "extension members refused")
class _NoExtensions(Plain):
    def check_extension(self, value: Any) -> None:
        raise Fault("E_META")


@mutant("metadata", "extension members of any kind")
class _AnyExtension(Plain):
    def check_extension(self, value: Any) -> None:
        return


@mutant("metadata", "leading zeros in a pattern accepted")
class _PatternZeros(Plain):
    def check_pattern(self, text: Any) -> None:
        need(isinstance(text, str), "E_META")
        super().check_pattern(re.sub(r"\b0+(?=\d)", "", text))


@mutant("metadata", "white space in a pattern accepted")
class _PatternSpace(Plain):
    def check_pattern(self, text: Any) -> None:
        super().check_pattern(text.strip() if isinstance(text, str) else text)


@mutant("metadata", "only the four named base patterns accepted")
class _FourPatterns(Plain):
    def check_pattern(self, text: Any) -> None:
        super().check_pattern(text)
        need(text in ("2:4", "4:8", "8:16", "16:32"), "E_META")


@mutant("metadata", "any outlier pattern n:256 accepted")
class _AnyOutlier(Plain):
    def check_outliers(self, out: Any) -> None:
        self.check_keys(out, "coding", "dtype", "pattern")
        need(out["coding"] in ("idx8", "colex") and out["dtype"] in FLOATS, "E_META")
        need(
            isinstance(out["pattern"], str) and re.fullmatch(r"\d+:0*256", out["pattern"]), "E_META"
        )


@mutant("metadata", "outliers of I8 accepted")
class _OutlierI8(Plain):
    def check_outliers(self, out: Any) -> None:
        super().check_outliers(out | {"dtype": "F16"} if isinstance(out, dict) else out)


@mutant("metadata", "names of weights not checked")
class _WeightNames(Plain):
    def check_weight(self, name: str, item: Any) -> None:
        super().check_weight("w", item)


@mutant("metadata", "coding not looked at")
class _AnyCoding(Plain):
    def check_weight(self, name: str, item: Any) -> None:
        if isinstance(item, dict) and isinstance(item.get("coding"), str):
            item = item | {"coding": "colex"}
        super().check_weight(name, item)


@mutant("metadata", "any version but 2.x")
class _NotTwo(Plain):
    def check_version(self, spec: Any) -> None:
        need(not str(spec).startswith("2."), "E_VERSION")


# -- parts


@mutant("parts", "limits of R and K not checked")
class _Limits(Plain):
    def check_limits(self, shape: list[int]) -> None:
        return


@mutant("parts", "R = 0 refused")
class _NoRows(Plain):
    def check_limits(self, shape: list[int]) -> None:
        need(shape[0] > 0, "E_LIMIT")
        super().check_limits(shape)


@mutant("parts", "dtypes of parts not checked")
class _PartDtypes(Plain):
    def check_part(self, entry: Any, dtype: str, shape: list[int]) -> None:
        need(entry is not None, "E_MISSING")
        need(entry["shape"] == shape, "E_SHAPE")


@mutant("parts", "only the number of elements of a part checked")
class _PartSizes(Plain):
    def check_part(self, entry: Any, dtype: str, shape: list[int]) -> None:
        need(entry is not None, "E_MISSING")
        need(entry["dtype"] == dtype, "E_DTYPE")
        need(prod(entry["shape"]) == prod(shape), "E_SHAPE")


@mutant("parts", "a missing part: TypeError")
class _Missing(Plain):
    def check_part(self, entry: Any, dtype: str, shape: list[int]) -> None:
        need(entry["dtype"] == dtype, "E_DTYPE")
        need(entry["shape"] == shape, "E_SHAPE")


@mutant("parts", "the dense tensor beside its weight accepted")
class _Twin(Plain):
    def check_reserved(self, name: str, weights: Any) -> None:
        need(not self.RESERVED.search(name), "E_UNEXPECTED")


@mutant("parts", "reserved names accepted")
class _Reserved(Plain):
    def check_reserved(self, name: str, weights: Any) -> None:
        need(name not in weights, "E_UNEXPECTED")


@mutant("parts", "only known part names are reserved")
class _KnownParts(Plain):
    RESERVED = re.compile(r"\.nm_(values|codes|scale|out_values|out_index|out_codes)\Z")


@mutant("parts", "every name with nm_ is reserved")
class _TooReserved(Plain):
    RESERVED = re.compile(r"nm_")


# -- digest


@mutant("digest", "digest not checked")
class _NoDigest(Plain):
    def check_digest(self, entries: Entries, body: bytes, document: dict[str, Any]) -> None:
        return


@mutant("digest", "digest over the order of the header")
class _DigestOrder(Plain):
    def check_digest(self, entries: Entries, body: bytes, document: dict[str, Any]) -> None:
        need(
            list(entries) == sorted(entries, key=lambda n: (-ITEM[entries[n]["dtype"]], n)),
            "E_DIGEST",
        )
        spans = [entry["data_offsets"][0] for entry in entries.values()]
        need(spans == sorted(spans), "E_DIGEST")
        super().check_digest(entries, body, document)


# -- writer


@mutant("writer", "tensors by name only")
class _ByName(Plain):
    def tensor_order(self, tensors: dict[str, Any]) -> list[str]:
        return sorted(tensors)


@mutant("writer", "tensors by dtype, then name")
class _ByDtype(Plain):
    def tensor_order(self, tensors: dict[str, Any]) -> list[str]:
        return sorted(tensors, key=lambda name: (-ITEM[tensors[name][0]], tensors[name][0], name))


@mutant("writer", "tensors in the order of the caller")
class _AsGiven(Plain):
    def tensor_order(self, tensors: dict[str, Any]) -> list[str]:
        return sorted(tensors, key=lambda name: -ITEM[tensors[name][0]])


@mutant("writer", "large tensors last")
class _Ascending(Plain):
    def tensor_order(self, tensors: dict[str, Any]) -> list[str]:
        return sorted(tensors, key=lambda name: (ITEM[tensors[name][0]], name))


@mutant("writer", "H not a multiple of 8")
class _Unaligned(Plain):
    def align(self, header: bytes) -> bytes:
        return header


@mutant("writer", "header filled with newlines")
class _Newlines(Plain):
    def align(self, header: bytes) -> bytes:
        return header + b"\n" * (-len(header) % 8)


@mutant("writer", "data, not H, aligned to 64")
class _Aligned64(Plain):
    def align(self, header: bytes) -> bytes:
        return header + b" " * (-(len(header) + 8) % 64)


@mutant("writer", "members of S in the order of the caller")
class _UnsortedS(Plain):
    def frame(self, document: dict[str, Any], entries: Entries, body: bytes) -> bytes:
        pairs = {"__metadata__": {"nmref": compact(document, sort=False)}}
        header = self.align(compact(pairs | entries, sort=False).encode())
        return struct.pack("<Q", len(header)) + header + body


@mutant("writer", "header with white space")
class _Spaces(Plain):
    def frame(self, document: dict[str, Any], entries: Entries, body: bytes) -> bytes:
        pairs = {"__metadata__": {"nmref": compact(document)}}
        header = self.align(json.dumps(pairs | entries).encode())
        return struct.pack("<Q", len(header)) + header + body


@mutant("writer", "members of an entry sorted")
class _SortedEntry(Plain):
    def frame(self, document: dict[str, Any], entries: Entries, body: bytes) -> bytes:
        return super().frame(
            document, {n: dict(sorted(e.items())) for n, e in entries.items()}, body
        )


@mutant("writer", "__metadata__ last")
class _MetadataLast(Plain):
    def frame(self, document: dict[str, Any], entries: Entries, body: bytes) -> bytes:
        pairs = {"__metadata__": {"nmref": compact(document)}}
        header = self.align(compact(entries | pairs, sort=False).encode())
        return struct.pack("<Q", len(header)) + header + body


@mutant("writer", "another key in __metadata__")
class _Format(Plain):
    def frame(self, document: dict[str, Any], entries: Entries, body: bytes) -> bytes:
        pairs = {"__metadata__": {"format": "pt", "nmref": compact(document)}}
        header = self.align(compact(pairs | entries, sort=False).encode())
        return struct.pack("<Q", len(header)) + header + body


@mutant("writer", "H big-endian")
class _BigH(Plain):
    def frame(self, document: dict[str, Any], entries: Entries, body: bytes) -> bytes:
        file = super().frame(document, entries, body)
        return file[:8][::-1] + file[8:]


@mutant("writer", "name of the program in S")
class _Program(Plain):
    def document(self, weights: dict[str, Spec]) -> dict[str, Any]:
        return super().document(weights) | {"x-by": "me"}


@mutant("writer", "spec 1.1")
class _NewSpec(Plain):
    def document(self, weights: dict[str, Spec]) -> dict[str, Any]:
        return super().document(weights) | {"spec": "1.1"}


@mutant("writer", "digest without the metadata")
class _DigestOfData(Plain):
    def digest(self, entries: Entries, body: bytes, document: dict[str, Any]) -> str:
        return super().digest(entries, body, {})


@mutant("writer", "digest with the lines in the order of the file")
class _DigestLines(Plain):
    def frame(self, document: dict[str, Any], entries: Entries, body: bytes) -> bytes:
        ordered = {f"{i:04d}": entry for i, entry in enumerate(entries.values())}
        document["content_sha256"] = self.digest(ordered, body, document)
        return super().frame(document, entries, body)


@mutant("writer", "tensors without bytes left out")
class _NoEmpty(Plain):
    def frame(self, document: dict[str, Any], entries: Entries, body: bytes) -> bytes:
        full = {n: e for n, e in entries.items() if e["data_offsets"][0] < e["data_offsets"][1]}
        document["content_sha256"] = self.digest(full, body, document)
        return super().frame(document, full, body)


@mutant("writer", "tensors without bytes at offset 0")
class _EmptyFirst(Plain):
    def frame(self, document: dict[str, Any], entries: Entries, body: bytes) -> bytes:
        for entry in entries.values():
            if entry["data_offsets"][0] == entry["data_offsets"][1]:
                entry["data_offsets"] = [0, 0]
        return super().frame(document, entries, body)


@mutant("writer", "slots canonicalised on the way")
class _Tidies(Plain):
    def write_file(self, weights: dict[str, tuple[Spec, Parts]], others: dict[str, Dense]) -> bytes:
        tidy = {
            name: (spec, self.canonicalise(spec, parts)) for name, (spec, parts) in weights.items()
        }
        return super().write_file(tidy, others)
