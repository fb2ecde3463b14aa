"""One fault of every kind with its message, and of two faults the earlier: SPEC part 6."""

import re
from collections.abc import Callable
from itertools import combinations, product
from typing import Any, NamedTuple

import pytest

from nmref import Code
from tests.container.draft import Draft, draft
from tests.witness import Witness, every_witness, rejection

Change = Callable[[Draft], object]


class Fault(NamedTuple):
    """A code, nmref's message after it (FILE stands for the path), what it touches, how."""

    code: str
    message: str
    touches: set[str]
    change: Change


def header(code: str, message: str, touches: str, change: Callable[[dict[str, Any]], object]):
    return Fault(code, message, {touches}, lambda made: made.entries.append(change))


def finished(code: str, message: str, change: Callable[[bytes], bytes]) -> Fault:
    return Fault(code, message, {"H"}, lambda made: made.files.append(change))


def metadata(code: str, message: str, key: str, value: Any) -> Fault:
    return Fault(code, message, {"S"}, lambda made: made.document.update({key: value}))


def limit(name: str, shape: list[int]) -> Fault:
    message = rf"FILE {name}: shape \[{shape[0]},{shape[1]}\], want R in 0..2\^31-1, K in 1.*"
    change: Change = lambda made: made.document["tensors"][name].update(shape=shape)  # noqa: E731
    return Fault("E_LIMIT", message, {f"shape:{name}"}, change)


def added(name: str, message: str) -> Fault:
    change: Change = lambda made: made.tensors.update({name: ("U8", (1,), b"\0")})  # noqa: E731
    return Fault("E_UNEXPECTED", f"FILE {name}: {message}", {name}, change)


def absent(name: str, want: str) -> Fault:
    message = f"FILE {name}: no such tensor, want {want}"
    return Fault("E_MISSING", message, {name}, lambda made: made.tensors.pop(name))


def other_dtype(name: str, old: str, new: str) -> Fault:
    def change(made: Draft) -> None:
        made.tensors[name] = (new, *made.tensors[name][1:])

    return Fault("E_DTYPE", f"FILE {name}: dtype {new}, want {old}", {name}, change)


def other_shape(name: str, old: list[int], new: list[int]) -> Fault:
    def change(made: Draft) -> None:
        dtype, _, data = made.tensors[name]
        made.tensors[name] = dtype, tuple(new), data

    message = f"FILE {name}: shape {re.escape(str(new))}, want {re.escape(str(old))}"
    return Fault("E_SHAPE", message, {name}, change)


def data(code: str, message: str, *patches: tuple[str, int, int, int]) -> Fault:
    def change(made: Draft) -> None:
        for patch in patches:
            made.patch(*patch)

    return Fault(code, message, {f"{name} {at} {mask}" for name, at, mask, _ in patches}, change)


def length(value: int) -> Callable[[bytes], bytes]:
    return lambda found: value.to_bytes(8, "little") + found[8:]


F4 = {"dtype": "F4"}
ORDER = r"index \[1, 1, 3, \d\], want strictly ascending"
PAD, TAIL = "padding bits that are not 0, want 0", "a value in a virtual column, want bits 0 .*"
OVER = "an outlier slot over base bits that are not zero, want one of the two"

FAULTS = [
    # SPEC 6.2
    finished("E_LIMIT", "FILE: header of 100000001 bytes, want <= 100000000", length(100_000_001)),
    finished("E_HEADER", "FILE: header of 99999 bytes .*, want all of it", length(99999)),
    header("E_HEADER", "FILE norm: .*, want .*", "norm", lambda e: e["norm"].update(x=1)),
    Fault(
        "E_HEADER",
        r"FILE header: tensors of \d+ bytes, want the file's \d+ bytes of data",
        {"rest"},
        lambda made: made.files.append(lambda found: found + b"\0"),
    ),
    header("E_DTYPE", "FILE empty: dtype 'F4', want .*", "empty", lambda e: e["empty"].update(F4)),
    # SPEC 6.3
    Fault(
        "E_META",
        r"FILE __metadata__: keys \['format', 'nmref'\], want .*",
        {"pairs"},
        lambda made: made.pairs.append(lambda found: found["__metadata__"].update(format="pt")),
    ),
    Fault(
        "E_META",
        "FILE nmref: bytes after the object, want one JSON object",
        {"after"},
        lambda made: made.texts.append(lambda found: found + "}"),
    ),
    metadata("E_META", "FILE spec: '1', want \"MAJOR.MINOR\"", "spec", "1"),
    metadata("E_VERSION", "FILE spec: version 2.0, want 1.x", "spec", "2.0"),
    Fault(
        "E_META",
        "FILE nmref: JSON in another form, want the canonical form.*",
        {"form"},
        lambda made: made.texts.append(lambda found: found.replace(":", ": ", 1)),
    ),
    Fault(
        "E_META",
        r"FILE c: pattern '4:4', want N:M with 1 <= N < M",
        {"c pattern"},
        lambda made: made.document["tensors"]["c"].update(pattern="4:4"),
    ),
    # SPEC 6.4
    limit("a", [2, 0]),
    added("a", "the dense tensor, want its parts only"),
    absent("a.nm_values", r"F16 \[2, 4\]"),
    other_dtype("a.nm_values", "F16", "BF16"),
    other_shape("a.nm_values", [2, 4], [4, 2]),
    absent("a.nm_codes", r"U8 \[2, 1\]"),
    limit("b", [1 << 31, 6]),
    added("b", "the dense tensor, want its parts only"),
    other_dtype("b.nm_codes", "U8", "I8"),
    absent("b.nm_scale", r"F32 \[2\]"),
    other_shape("b.nm_scale", [2], [2, 1]),
    other_dtype("b.nm_out_values", "F16", "U16"),
    absent("b.nm_out_index", r"U8 \[2, 4\]"),
    other_shape("c.nm_out_codes", [2, 4], [8]),
    # SPEC 6.5
    added("a.nm_out_index", "a part of no weight, want no such tensor"),
    added("b.nm_scales", "a part of no weight, want no such tensor"),
    # SPEC 6.6
    data("E_PAD", f"a row 0: {PAD}", ("a.nm_codes", 0, 0x40, 0x40)),
    data("E_CODE_RANGE", "a row 0 block 0: code 6, want < 6", ("a.nm_codes", 0, 7, 6)),
    data("E_CODE_RANGE", "a row 1 block 0: code 7, want < 6", ("a.nm_codes", 1, 7, 7)),
    data("E_TAIL", f"a row 1 block 1: {TAIL}", ("a.nm_codes", 1, 0o70, 5 << 3)),
    data("E_SCALE", r"b row 1: scale -1.0, want 0 < scale <= 2\^120", ("b.nm_scale", 7, 128, 128)),
    data("E_PAD", f"b row 1: {PAD}", ("b.nm_codes", 1, 0x80, 0x80)),
    data("E_INDEX_ORDER", f"b outlier row 0 block 0: {ORDER}", ("b.nm_out_index", 1, 255, 1)),
    data(
        "E_TAIL",
        f"b outlier row 0 block 0: {TAIL}",
        ("b.nm_out_index", 3, 255, 6),
        ("b.nm_out_values", 6, 1, 1),
    ),
    data("E_OVERLAP", f"b row 1 column 0: {OVER}", ("b.nm_out_index", 4, 255, 0)),
    data(
        "E_SCALE",
        r"c row 0: scale nan, want 0 < scale <= 2\^120",
        ("c.nm_scale", 2, 255, 0xC0),
        ("c.nm_scale", 3, 255, 0x7F),
    ),
    data("E_PAD", f"c outlier row 0: {PAD}", ("c.nm_out_codes", 3, 0x80, 0x80)),
    data(
        "E_CODE_RANGE",
        r"c outlier row 1 block 0: code 268\d+, want < 174792640",
        ("c.nm_out_codes", 7, 15, 15),
        ("c.nm_out_codes", 6, 255, 255),
    ),
    # SPEC 6.7
    Fault(
        "E_DIGEST",
        "FILE: content [0-9a-f]{64}, want 0{64}",
        {"digest"},
        lambda made: made.document.update(content_sha256="0" * 64),
    ),
]


def independent(first: Fault, second: Fault) -> bool:
    """Whether both can be made: they touch other bits, and neither the tensor of the other."""
    return not any(
        one == other or one == other.split()[0] or other == one.split()[0]
        for one, other in product(first.touches, second.touches)
    )


@every_witness
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.code} {fault.message[:30]}")
def test_read_refuses_one_fault_with_its_code(witness: Witness, fault: Fault):
    made = draft()
    witness.read(made.build())
    made = draft()
    fault.change(made)
    found = rejection(witness.read, made.build())
    assert found.code == fault.code
    if witness.name == "numpy":
        message = f"{fault.code} {fault.message}".replace("FILE", r"\S+")
        assert re.fullmatch(message, found.message), found.message


@every_witness
def test_read_names_the_earlier_of_two_faults(witness: Witness):
    pairs = 0
    for first, second in combinations(FAULTS, 2):
        if not independent(first, second):
            continue
        made = draft()
        first.change(made)
        second.change(made)
        found = rejection(witness.read, made.build())
        assert found.code == first.code, (first.message, second.message, found.message)
        pairs += 1
    assert pairs > 600


@every_witness
@pytest.mark.parametrize("name", ["a.nm_values", "b.nm_scale", "c.nm_out_codes"])
def test_read_checks_the_dtype_of_a_part_before_its_shape(witness: Witness, name: str):
    made = draft()
    dtype, shape, found = made.tensors[name]
    other = {"F16": "U16", "F32": "I32", "U8": "BOOL"}[dtype]
    made.tensors[name] = other, (*shape, 1), found
    assert rejection(witness.read, made.build()).code == "E_DTYPE"
    made.tensors[name] = dtype, (*shape, 1), found
    del made.document["content_sha256"]
    assert rejection(witness.read, made.build()).code == "E_SHAPE"


def test_every_code_of_files_has_a_fault():
    assert {fault.code for fault in FAULTS} == {code for code in Code if code.startswith("E_")}
