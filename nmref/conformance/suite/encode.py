"""Encoding: what is accepted, byte for byte, and the order in which two faults are reported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nmref.conformance.suite.cases import Case, Part
from nmref.conformance.suite.values import (
    BASES,
    DTYPES,
    FLOATS,
    ONE,
    OUTS,
    Chance,
    Json,
    array,
    matrix,
    minus_zero,
    parse,
    slug,
    specials,
)
from nmref.conformance.suite.weights import Form, Out, random_dense, scales

Rows = list[list[int]]


def request(
    dtype: str,
    base: Rows,
    pattern: str,
    mask: Rows | None = None,
    scale: Sequence[int] | None = None,
    out: Out | None = None,
    over: Rows | None = None,
    out_mask: Rows | None = None,
    columns: int | None = None,
) -> Json:
    """The input of encode."""
    return {
        "base": matrix(dtype, base, columns),
        "pattern": pattern,
        "mask": None if mask is None else matrix("BOOL", mask, columns),
        "scale": None if scale is None else array("F32", [len(scale)], scale),
        "outliers": None if out is None else matrix(out.dtype, over or [], columns),
        "out_pattern": None if out is None else out.pattern,
        "out_coding": None if out is None else out.coding,
        "out_mask": None if out_mask is None else matrix("BOOL", out_mask, columns),
    }


def encode(
    name: str, given: Json, clauses: str, flags: tuple[str, ...] = (), rejected: str = ""
) -> Case:
    """A case of encode."""
    return Case(f"encode/{name}", "encode", tuple(clauses.split()), given, flags,
                tuple(rejected.split()))  # fmt: skip


def named(chance: Chance, rows: Rows, pattern: str, barred: Rows | None = None) -> Rows:
    """A mask of the columns that are not zero, and of some that are, where a block has room."""
    n, m = parse(pattern)
    mask = [[int(bits != 0) for bits in row] for row in rows]
    for r, row in enumerate(mask):
        for start in range(0, len(row), m):
            real = range(start, min(start + m, len(row)))
            room = n - sum(row[c] for c in real)
            free = [c for c in real if not row[c] and not (barred and barred[r][c])]
            for c in chance.sample(free, chance.below(min(room, len(free)) + 1)):
                row[c] = 1
    return mask


def random_request(chance: Chance, form: Form, masked: bool) -> Json:
    """An input that is accepted."""
    base, over = random_dense(chance, form)
    mask = named(chance, base, form.pattern) if masked else None
    scale = scales(chance, form.rows) if form.dtype == "I8" else None
    out_mask = None
    if masked and form.out is not None and over is not None:
        out_mask = named(chance, over, form.out.pattern, base)
    return request(form.dtype, base, form.pattern, mask, scale, form.out, over, out_mask,
                   form.columns)  # fmt: skip


_FILL = ("fill-highest", "fill-after-used", "values-big-endian", "msb-first-stream",
         "slots-unsorted", "row-not-byte-aligned")  # fmt: skip


def _plain() -> Iterable[Case]:
    for pattern in BASES:
        n, m = parse(pattern)
        for dtype in DTYPES:
            for masked in (False, True):
                for columns in (1, n, m, m + 1, 3 * m - 1, 172):
                    kind = "masked" if masked else "free"
                    name = slug(f"{pattern}-{dtype}-{kind}") + f"-k{columns}"
                    rows = 1 if columns == 172 else 3
                    form = Form(pattern, dtype, rows, columns)
                    given = random_request(Chance(f"encode {name}"), form, masked)
                    flags: tuple[str, ...] = _FILL
                    if columns < n:
                        flags = (*flags, "short-block-refused")
                    if masked:
                        flags = (*flags, "mask-ignored", "masked-zero-not-stored")
                    if dtype != "I8":
                        flags = (*flags, "negzero-dropped", "nan-quieted", "nan-canonicalised")
                    clauses = "3.9 3.11 3.14 3.21" if masked else "3.9 3.12 3.14 3.21"
                    yield encode(f"base/{name}", given, clauses, flags)


def _outliers() -> Iterable[Case]:
    number = 0
    for pattern in OUTS:
        for coding in ("idx8", "colex"):
            for other in FLOATS:
                for masked in (False, True):
                    columns = (3, 16, 40, 255, 257, 300)[number % 6]
                    dtype, base = DTYPES[number % 4], BASES[(number // 2) % 3]
                    number += 1
                    kind = "masked" if masked else "free"
                    text = f"{base}-{dtype}-{pattern}-{other}-{coding}-{kind}"
                    name = slug(text) + f"-k{columns}"
                    out = Out(pattern, other, coding)
                    form = Form(base, dtype, 1 if columns > 200 else 2, columns, out)
                    given = random_request(Chance(f"encode {name}"), form, masked)
                    flags: tuple[str, ...] = (
                        "outlier-fill-ignores-base",
                        "outlier-fill-takes-minus-zero",
                    )
                    if masked:
                        flags = (*flags, "outlier-fill-avoids-mask", "mask-ignored")
                    yield encode(f"outliers/{name}", given, "3.9 4.14 4.15", flags)


def _slots() -> Iterable[Case]:
    """Small ones whose bytes can be checked by hand."""
    one, half, minus = ONE["F16"], 0x3800, minus_zero("F16")
    for name, row, mask in (
        ("empty", [0, 0, 0, 0], None),
        ("last-column", [0, 0, 0, half], None),
        ("first-column", [half, 0, 0, 0], None),
        ("minus-zero", [0, 0, minus, 0], None),
        ("one-column", [half], None),
        ("two-blocks", [0, 0, 0, 0, 0, half], None),
        ("mask-names-zero", [0, 0, 0, half], [0, 0, 1, 1]),
        ("mask-of-zeros", [0, 0, 0, 0], [0, 0, 0, 1]),
        ("empty-mask", [0, 0, 0, 0], [0, 0, 0, 0]),
        ("mask-with-minus-zero", [0, minus, 0, 0], [0, 1, 0, 1]),
    ):
        given = request("F16", [row], "2:4", None if mask is None else [mask])
        flags = ("fill-highest", "fill-after-used", "negzero-dropped", "empty-block-refused")
        yield encode(f"slots/{name}", given, "3.9 3.11 3.12", flags)
    out = Out("4:256", "F16", "idx8")
    beside = ("outlier-fill-ignores-base", "outlier-fill-takes-minus-zero", "base-fill-avoids-out")
    given = request("F16", [[one, 0, half, 0, 0]], "2:4", None, None, out, [[0, 0, 0, half, 0]])
    yield encode("slots/barred-columns", given, "3.9 4.14", beside)
    given = request("F16", [[0, minus, 0, 0, 0]], "2:4", None, None, out, [[0, 0, 0, 0, half]])
    yield encode("slots/barred-minus-zero", given, "3.9 4.14", beside)
    given = request("F16", [[0, 0, 0, half]], "2:4", [[0, 0, 1, 1]], None, out, [[0, 0, one, 0]])
    yield encode("slots/mask-names-outlier", given, "3.21 4.12", beside)
    given = request("F16", [[0, 0, 0, 0]], "2:4", None, None, out, [[0, 0, minus, 0]])
    yield encode("slots/outlier-minus-zero", given, "3.12 4.15", ("negzero-dropped",))
    given = request("I8", [[128, 0, 128, 0]], "2:4", None, [0x7B800000])
    yield encode("slots/i8-minus-128", given, "3.6 3.12", ("i8-minus-128", "largest-scale-refused"))
    given = request("I8", [[1, 0, 0, 0]], "2:4", None, [1])
    yield encode("slots/i8-smallest-scale", given, "3.6", ("subnormal-scale-refused",))
    for dtype in DTYPES:
        given = request(dtype, [], "8:16", None, [] if dtype == "I8" else None, columns=17)
        yield encode(f"slots/no-rows-{slug(dtype)}", given, "3.15", ("no-rows-refused",))
    for dtype in FLOATS:
        row = [bits for special in specials(dtype) for bits in (special, 0)]
        yield encode(f"slots/special-{slug(dtype)}", request(dtype, [row], "2:4"), "3.14",
                     ("nan-quieted", "nan-canonicalised", "subnormal-flushed", "nan-pruned",
                      "negzero-dropped", "infinity-refused"))  # fmt: skip


def _order() -> Iterable[Case]:
    """Two faults: an ordered encoder names the first of the two codes (3.20)."""
    one, minus = ONE["F16"], minus_zero("F16")
    full, negz = [one] * 3 + [0], [one, one, minus, 0]
    out = Out("4:256", "F16", "idx8")
    many = [one] * 5 + [0] * 3
    zeros = [[0] * 4]
    for name, codes, given in (
        ("shape-before-dtype", "X_SHAPE X_DTYPE",
         request("F64", [[one] * 4], "2:4", [[1, 1, 0, 0, 0]])),
        ("dtype-before-scale", "X_DTYPE E_SCALE",
         request("I8", zeros, "2:4", None, [0], Out("4:256", "I8", "idx8"), zeros)),
        ("scale-before-overlap", "E_SCALE X_OVERLAP",
         request("I8", [[1, 0, 0, 0]], "2:4", None, [0], out, [[one, 0, 0, 0]])),
        ("overlap-before-overfull", "X_OVERLAP X_OVERFULL",
         request("F16", [[*full, 0, 0, 0, one]], "2:4", None, None, out, [[0] * 7 + [one]])),
        ("negzero-of-block-before-overfull", "X_NEGZERO X_OVERFULL",
         request("F16", [negz + full], "2:4")),
        ("overfull-of-row-before-negzero", "X_OVERFULL X_NEGZERO",
         request("F16", [full, negz], "2:4")),
        ("overfull-and-negzero-in-one-block", "X_OVERFULL",
         request("F16", [[one, one, one, minus]], "2:4")),
        ("base-negzero-before-outliers-overfull", "X_NEGZERO X_OVERFULL",
         request("F16", [[0] * 8 + negz], "2:4", None, None, out, [many + [0] * 4])),
        ("outlier-mask-outside", "X_OVERFULL",
         request("F16", [[0] * 8], "2:4", None, None, out, [[one] + [0] * 7],
                 [[0] * 7 + [1]])),
        ("outlier-minus-zero-outside", "X_NEGZERO",
         request("F16", [[0] * 8], "2:4", None, None, out, [[minus] + [0] * 7],
                 [[0] * 7 + [1]])),
    ):  # fmt: skip
        flags = ("order-of-checks", "overfull-pruned")
        yield encode(f"reject/order-{name}", given, "3.20", flags, codes)


def encoding() -> Part:
    """Part `encode`."""
    return Part("encode", [*_plain(), *_outliers(), *_slots(), *_order()])
