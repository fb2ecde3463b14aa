"""Decoding: every base pattern, dtype and tail, other fills, special elements, I8 scales."""

from __future__ import annotations

from collections.abc import Iterable

from nmref.conformance.suite.cases import Case, Part
from nmref.conformance.suite.values import (
    BASES,
    DTYPES,
    FLOATS,
    SCALES,
    Chance,
    Json,
    minus_zero,
    parse,
    slug,
    specials,
)
from nmref.conformance.suite.weights import Block, Form, random_weight, weight_of

MORE = ("1:2", "1:4", "3:4", "2:3", "5:9", "7:8", "20:33", "1:64", "31:64", "32:64", "63:64")
_LONG = (172, 255, 256, 257, 258)


def decode(
    name: str, given: Json, clauses: str, flags: tuple[str, ...] = (), rejected: str = ""
) -> Case:
    """A case of decode."""
    return Case(f"decode/{name}", "decode", tuple(clauses.split()), given, flags,
                tuple(rejected.split()))  # fmt: skip


def tails(pattern: str) -> list[int]:
    """K around N and M, and of long rows."""
    n, m = parse(pattern)
    return sorted({1, max(1, n - 1), n, n + 1, m - 1, m, m + 1, 2 * m + 3, *_LONG})


def _tail_flags(pattern: str, columns: int) -> tuple[str, ...]:
    n, m = parse(pattern)
    flags = ["msb-first-stream", "code-msb-first", "row-not-byte-aligned", "values-big-endian"]
    if columns % m:
        flags.append("tail-block-missing")
    else:
        flags.append("extra-block")
    if columns < n:
        flags.append("short-block-refused")
    return tuple(flags)


def _plain() -> Iterable[Case]:
    for pattern in BASES:
        for dtype in DTYPES:
            for columns in tails(pattern):
                name = slug(f"{pattern}-{dtype}") + f"-k{columns}"
                rows = 1 if columns > 200 else 2 if columns > 100 else 3
                form = Form(pattern, dtype, rows, columns)
                given = random_weight(Chance(name), form)
                clauses = "2.2 2.5 2.9 2.10 3.2 3.3 4.9" + (" 3.7" if dtype == "I8" else "")
                yield decode(f"base/{name}", given, clauses, _tail_flags(pattern, columns))


def _fills() -> Iterable[Case]:
    for pattern in (*BASES, *MORE):
        n, m = parse(pattern)
        for fill in ("highest", "mixed"):
            for crowd in ("some", "none", "full"):
                dtype = DTYPES[(n + m + len(fill) + len(crowd)) % 4]
                name = slug(f"{pattern}-{dtype}-{fill}-{crowd}")
                form = Form(pattern, dtype, 2, 2 * m + 3, None, fill, crowd)
                flags = ("noncanonical-refused", "zero-slot-moves")
                given = random_weight(Chance(name), form)
                yield decode(f"fill/{name}", given, "2.3 3.8 3.13 4.9", flags)


def _others() -> Iterable[Case]:
    for pattern in MORE:
        _, m = parse(pattern)
        for columns in (1, m, 3 * m + 1):
            dtype = DTYPES[(m + columns) % 4]
            name = slug(f"{pattern}-{dtype}") + f"-k{columns}"
            given = random_weight(Chance(f"other {name}"), Form(pattern, dtype, 2, columns))
            flags = ("pattern-not-named", "code-in-32-bits", "n-means-pruned")
            yield decode(f"pattern/{name}", given, "2.1 2.7 2.9", flags)


def one_each(dtype: str, elements: list[int], scale: list[int] | None = None) -> Json:
    """1:2, one row of these elements for every scale; odd blocks store the higher column."""
    row: list[Block] = [[(i % 2, bits)] for i, bits in enumerate(elements)]
    count = 1 if scale is None else len(scale)
    return weight_of([row] * count, "1:2", dtype, 2 * len(row), scale)


def _special() -> Iterable[Case]:
    for dtype in FLOATS:
        flags = ("negzero-dropped", "nan-quieted", "nan-canonicalised", "subnormal-flushed")
        given = one_each(dtype, specials(dtype))
        yield decode(f"special/{slug(dtype)}", given, "1.6 3.14 4.11", flags)
        zeros = one_each(dtype, [minus_zero(dtype), 0] * 4)
        yield decode(f"special/{slug(dtype)}-zeros", zeros, "1.6 4.11", ("negzero-dropped",))
    integers = [*range(128, 256), *range(128)]
    for at, scale in enumerate(SCALES):
        hunted: tuple[str, ...] = (
            "i8-unsigned",
            "i8-minus-128",
            "i8-product-cut",
            "i8-zero-negative",
        )
        if scale in (SCALES[1], SCALES[4], SCALES[6]):
            hunted = (*hunted, "subnormal-flushed", "subnormal-scale-refused")
        if scale == SCALES[2]:
            hunted = (*hunted, "largest-scale-refused")
        given = one_each("I8", integers, [scale])
        yield decode(f"i8/scale-{at}-{scale:08x}", given, "3.6 3.7", hunted)
    given = one_each("I8", [1, 127, 128, 255, 0, 77], list(SCALES))
    yield decode("i8/scale-of-each-row", given, "3.5 3.7", ("scale-of-first-row",))
    chance = Chance("i8 halves")
    odd = [0x3F000001 + 2 * chance.below(1 << 22) for _ in range(24)]
    given = one_each("I8", [3, 127, 129, 91, 253], odd)
    yield decode("i8/products-that-round", given, "3.7", ("i8-product-cut", "scale-in-bf16"))


def _no_rows() -> Iterable[Case]:
    for dtype in DTYPES:
        for columns in (1, 16, 300):
            given = random_weight(Chance("none"), Form("8:16", dtype, 0, columns))
            name = f"no-rows/{slug(dtype)}-k{columns}"
            yield decode(name, given, "6.11", ("no-rows-refused",))


def warning(name: str, given: Json, flags: tuple[str, ...] = ()) -> Case:
    """A case of warnings."""
    return Case(f"warnings/{name}", "warnings", ("3.13", "6.8", "7.4"), given, flags)


def _warnings() -> Iterable[Case]:
    for fill in ("lowest", "highest"):
        for special in (0, 2):
            for pattern in ("2:4", "8:16"):
                form = Form(pattern, "F16", 2, 37, None, fill, "some", special)
                name = slug(f"{pattern}-{fill}-{'any' if special else 'finite'}")
                given = random_weight(Chance(f"warnings {name}"), form)
                yield warning(f"random/{name}", given, ("noncanonical-unnoticed",))
    for name, row in {
        "canonical-empty": [[(0, 0), (1, 0)]],
        "other-empty": [[(0, 0), (2, 0)]],
        "stored-minus-zero": [[(2, 0x8000), (3, 0x3C00)]],
        "minus-zero-and-fill": [[(0, 0), (2, 0x8000)]],
        "infinity": [[(0, 0x7C00), (1, 0x3C00)]],
        "both": [[(1, 0), (3, 0xFE01)]],
    }.items():
        given = weight_of([list(row)], "2:4", "F16", 4)
        yield warning(f"slots/{name}", given, ("noncanonical-unnoticed", "negzero-dropped"))


def tensors() -> Part:
    """Part `tensors`."""
    return Part("tensors", [*_plain(), *_fills(), *_others(), *_special(), *_no_rows(),
                            *_warnings()])  # fmt: skip
