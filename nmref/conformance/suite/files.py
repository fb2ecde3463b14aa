"""Whole files: valid ones of every kind, for reading and for writing canonically."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nmref.conformance.suite.cases import Case, Part
from nmref.conformance.suite.draft import Draft
from nmref.conformance.suite.values import SIZES, Chance, Json, array
from nmref.conformance.suite.weights import Form, Out, random_weight

Change = Callable[[Draft], object]


def other(chance: Chance, dtype: str, shape: list[int]) -> Json:
    """An ordinary tensor: any bytes, BOOL 0 or 1."""
    count = 1
    for size in shape:
        count *= size
    top = 2 if dtype == "BOOL" else 1 << 8 * SIZES[dtype]
    limit = min(top, 1 << 64)
    return array(dtype, shape, (chance.next() % limit for _ in range(count)))


def draft(name: str) -> Draft:
    """Three small weights and three other tensors."""
    chance = Chance(f"file {name}")
    weights = {
        "a": random_weight(chance, Form("2:4", "F16", 2, 9)),
        "b": random_weight(chance, Form("4:8", "I8", 1, 9, Out("8:256", "BF16", "idx8"))),
        "c": random_weight(chance, Form("8:16", "F32", 1, 17, Out("4:256", "F16", "colex"))),
    }
    others = {
        "norm": other(chance, "BF16", [3]),
        "flag": other(chance, "BOOL", [1]),
        "empty": other(chance, "F32", [0, 7]),
    }
    return Draft(weights, others)


def _set(**fields: object) -> Change:
    def change(made: Draft) -> None:
        for name, value in fields.items():
            setattr(made, name, value)

    return change


def _style(white: str, escaped: str) -> Change:
    """White space and escapes by texts; "" none."""

    def change(made: Draft) -> None:
        made.white = Chance(white) if white else None
        made.escaped = Chance(escaped) if escaped else None

    return change


def _rename(**names: str) -> Change:
    def change(made: Draft) -> None:
        made.weights = {names.get(n, n): weight for n, weight in made.weights.items()}
        made.others = {names.get(n, n): value for n, value in made.others.items()}

    return change


def _order(header: bool, data: bool) -> Change:
    """The opposite of the canonical order."""

    def change(made: Draft) -> None:
        if data:
            made.data = made.canonical_order()[::-1]
        if header:
            made.header = [*made.canonical_order()[::-1], "__metadata__"]

    return change


def _every_dtype(made: Draft) -> None:
    chance = Chance("every dtype")
    made.others |= {f"any.{dtype}": other(chance, dtype, [2, 3]) for dtype in SIZES}
    made.others["scalar"] = other(chance, "I64", [])


def _no_rows(made: Draft) -> None:
    chance = Chance("no rows")
    for name, out in {"e": None, "f": Out("16:256", "F32", "colex")}.items():
        for dtype in ("F16", "I8"):
            made.weights[name + dtype] = random_weight(chance, Form("8:16", dtype, 0, 300, out))


def _other_fills(made: Draft) -> None:
    out = Out("16:256", "F32", "idx8")
    form = Form("8:16", "BF16", 2, 40, out, "mixed")
    made.weights["d"] = random_weight(Chance("fills"), form)


def _patterns(made: Draft) -> None:
    for pattern, dtype in (("1:2", "F32"), ("5:9", "I8"), ("63:64", "BF16"), ("1:64", "F16")):
        made.weights[pattern] = random_weight(Chance(pattern), Form(pattern, dtype, 1, 70))


VALID: list[tuple[str, str, tuple[str, ...], Change]] = [
    ("canonical", "5.19 5.20", ("digest-order", "digest-without-metadata"), lambda made: None),
    ("no-weights", "5.16", (), _set(weights={})),
    ("no-other-tensors", "5.9", (), _set(others={})),
    ("no-tensors", "5.7", ("empty-file-refused",), _set(weights={}, others={})),
    ("every-dtype", "5.8 5.9", ("dtype-unknown",), _every_dtype),
    ("no-rows", "6.11", ("no-rows-refused",), _no_rows),
    ("other-patterns", "2.1", ("pattern-not-named", "n-means-pruned"), _patterns),
    ("other-fills", "3.13", ("noncanonical-refused",), _other_fills),
    ("long-names", "5.5", ("name-length",), _rename(a="w" * 490, norm="n" * 512)),
    ("names-like-paths", "10.5", ("names-as-paths",), _rename(a="../a", b="/", norm="...")),
    ("names-almost-reserved", "5.11", ("reserved-too-wide",),
     _rename(norm="nm_values", flag="a.nm_x.y")),
    ("weight-below-weight", "5.16", ("reserved-too-wide",), _rename(b="a.b", c="a.nm_x.c")),
    ("every-character", "5.5", ("names-as-paths",),
     _rename(norm="".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"\\'))),
    ("white-space", "5.3", ("json-white-space",), _style("white", "")),
    ("escapes", "5.3 5.5", ("json-escapes",), _style("", "escapes")),
    ("white-space-and-escapes", "5.3", ("json-escapes",),
     _style("more white", "more escapes")),
    ("no-alignment", "5.3 5.19", ("h-alignment-required",), _set(align=1)),
    ("many-spaces", "5.3", ("h-alignment-required",), _set(spaces=1001)),
    ("header-order", "5.3 5.7 5.20", ("digest-order", "header-order-assumed"), _order(True, False)),
    ("data-order", "5.7 5.20", ("digest-order", "header-order-assumed"), _order(False, True)),
    ("both-orders", "5.3 5.7 5.20", ("digest-order", "header-order-assumed"), _order(True, True)),
    ("members-order", "5.4", ("header-order-assumed",),
     _set(members=("data_offsets", "shape", "dtype"))),
    ("empty-at-start", "5.7", ("empty-tensor-place",), _set(empty_at="start")),
    ("empty-at-end", "5.7", ("empty-tensor-place",), _set(empty_at="end")),
    ("unknown-minor", "9.2", ("minor-refused",), _set(spec="1.7")),
    ("minor-of-two-digits", "5.14", ("minor-refused",), _set(spec="1.10")),
    ("minor-of-many-digits", "5.14", ("minor-refused",), _set(spec="1." + "9" * 30)),
    ("extensions", "5.17 5.18 9.4", ("extensions-refused",), _set(
        extra={"x-a": 'any "text" \\ here', "x-~": ""}, of_weights={"x-!": " ~"},
        of_outliers={"x-tool": "[{" * 20})),
]  # fmt: skip
"""Name, clauses, flags, what is changed."""


def _read() -> Iterable[Case]:
    for name, clauses, flags, change in VALID:
        made = draft(name)
        change(made)
        given = {"file": made.build().hex()}
        yield Case(f"read/{name}", "read", ("1.9", *clauses.split()), given, flags)


def write(name: str, made: Draft, flags: tuple[str, ...] = ()) -> Case:
    """A case of write: the canonical file of the content of a draft."""
    given = {"weights": made.weights, "others": made.others}
    return Case(f"write/{name}", "write", ("5.18", "5.19", "5.20"), given,
                ("writer-order", "writer-header", *flags))  # fmt: skip


def _write() -> Iterable[Case]:
    for name in ("no-weights", "no-other-tensors", "no-tensors", "every-dtype", "no-rows",
                 "other-fills", "long-names", "names-like-paths", "every-character",
                 "canonical"):  # fmt: skip
        made = draft(f"write {name}")
        next(change for known, _, _, change in VALID if known == name)(made)
        yield write(name, made, ("writer-tidies",) if name == "other-fills" else ())
    made = draft("write order")
    made.weights = dict(reversed(made.weights.items()))
    made.others = {"z": made.others["norm"], "B": made.others["flag"], "a.b": made.others["empty"],
                   "a-b": made.others["norm"], "A": made.others["flag"]}  # fmt: skip
    yield write("order-of-names", made)
    for size in range(8):
        made = Draft({}, {"n" * (size + 1): other(Chance(f"align {size}"), "U8", [size])})
        yield write(f"header-length-{size}", made)


def files() -> Part:
    """Part `files-valid`."""
    return Part("files-valid", [*_read(), *_write()])
