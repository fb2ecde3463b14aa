"""The nmref metadata text: reading with every check, writing, digest (SPEC parts 5 and 6)."""

import hashlib
from typing import Any

from .codes import OUTLIER_PATTERNS, Fault, is_base_pattern, is_decimal
from .encoder import Parts
from .numbers import FLOATS
from .strictjson import Json, JsonError, Number, compact, integer, is_name, is_printable, parse

WHERE = "__metadata__"
DEPTH = 8


def is_tensor_name(name: str) -> bool:
    """Whether a tensor may have this name."""
    return is_name(name) and len(name) <= 512


def is_reserved(name: str) -> bool:
    """Whether the name ends in .nm_ and anything without a dot."""
    _, dot, last = name.rpartition(".")
    return dot == "." and last.startswith("nm_")


def require(condition: bool, what: str) -> None:
    """E_META unless the condition holds."""
    if not condition:
        raise Fault("E_META", f"{WHERE} {what}")


def read_metadata(text: str) -> dict[str, Any]:
    """Read the value of the nmref key: E_META, E_VERSION for another major, E_META for the rest."""
    try:
        found = parse(text, DEPTH)
    except JsonError as error:
        raise Fault("E_META", f"{WHERE} {error}") from None
    require(text.startswith("{") and text.rstrip(" ").endswith("}"), "nmref")
    require(has_plain_numbers(found), "number")
    assert isinstance(found, dict)
    spec = found.get("spec")
    require(isinstance(spec, str), "spec")
    major, dot, minor = str(spec).partition(".")
    require(dot == "." and is_decimal(major) and is_decimal(minor), "spec")
    if major != "1":
        raise Fault("E_VERSION", f"{WHERE} spec")

    try:
        same = compact(found) == text
    except JsonError:
        same = False
    require(same, "canonical form")
    check_keys(found, ["content_sha256", "spec", "tensors"], "keys")
    digest, tensors = found["content_sha256"], found["tensors"]
    require(isinstance(digest, str) and is_digest(digest), "content_sha256")
    require(isinstance(tensors, dict), "tensors")
    assert isinstance(tensors, dict)
    result: dict[str, Any] = dict(found)
    result["tensors"] = {}
    for name in sorted(tensors):
        require(is_tensor_name(name) and not is_reserved(name), "tensors")
        require(name != WHERE, "tensors")
        result["tensors"][name] = read_entry(tensors[name], name)
    return result


def has_plain_numbers(value: Json) -> bool:
    """Whether every number is an integer in decimals of at most 2^63 - 1, either sign."""
    if isinstance(value, dict):
        return all(has_plain_numbers(member) for member in value.values())
    if isinstance(value, list):
        return all(has_plain_numbers(item) for item in value)
    if isinstance(value, Number):
        size = integer(value)
        return size is not None and abs(size) < 2**63
    return True


def is_digest(text: str) -> bool:
    """Whether the text is 64 lower-case hexadecimal digits."""
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)


def check_keys(found: dict[str, Json], keys: list[str], what: str) -> None:
    """Exactly these keys, and extra ones x-NAME with a printable string."""
    extra = {key: value for key, value in found.items() if key not in keys}
    require(all(key in found for key in keys), what)
    for key, value in extra.items():
        require(key.startswith("x-") and is_name(key[2:]), what)
        require(isinstance(value, str) and is_printable(value), what)


def one_of(value: Json, allowed: tuple[str, ...]) -> bool:
    """Whether the value is one of these strings."""
    return isinstance(value, str) and value in allowed


def read_entry(entry: Json, name: str) -> dict[str, Any]:
    """Metadata of one weight, its shape as two ints."""
    require(isinstance(entry, dict), name)
    assert isinstance(entry, dict)
    check_keys(entry, ["coding", "dtype", "outliers", "pattern", "shape"], name)
    require(one_of(entry["coding"], ("colex",)), name)
    require(one_of(entry["dtype"], (*FLOATS, "I8")), name)
    pattern, shape, out = entry["pattern"], entry["shape"], entry["outliers"]
    require(isinstance(pattern, str) and is_base_pattern(pattern), name)
    require(isinstance(shape, list) and len(shape) == 2, name)
    assert isinstance(shape, list)
    sizes = [integer(size) for size in shape]
    require(None not in sizes, name)
    require(out is None or isinstance(out, dict), name)
    if isinstance(out, dict):
        check_keys(out, ["coding", "dtype", "pattern"], name)
        require(one_of(out["coding"], ("idx8", "colex")), name)
        require(one_of(out["dtype"], FLOATS), name)
        require(one_of(out["pattern"], OUTLIER_PATTERNS), name)
    return {**entry, "shape": sizes}


def digest(parts: Parts, metadata: dict[str, Any]) -> str:
    """content_sha256 of all tensors of a file, by full name, and of the nmref value.

    The member content_sha256 of the metadata, if there is one, takes no part.
    """
    total = hashlib.sha256()
    for name in sorted(parts):
        dtype, shape, data = parts[name]
        line = f"{hashlib.sha256(data).hexdigest()} {dtype} {compact([*shape])} {name}\n"
        total.update(line.encode("ascii"))
    rest = {key: value for key, value in metadata.items() if key != "content_sha256"}
    total.update((compact(rest) + "\n").encode("ascii"))
    return total.hexdigest()
