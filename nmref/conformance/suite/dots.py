"""Dots: inputs that tell every listed profile from every other, aimed ones, special values."""

from __future__ import annotations

from collections.abc import Iterable

from nmref.conformance.suite.aimed import AIMED, Pairs, groups, ties
from nmref.conformance.suite.cases import Case, Part
from nmref.conformance.suite.values import Chance, Json, array, f32, matrix, number, slug
from nmref.conformance.suite.weights import (
    Block,
    Form,
    Out,
    dense,
    random_weight,
    weight_of,
)

LANES = (2, 4, 8, 16, 32, 64)
SCALAR = tuple(
    f"{name}+{order}"
    for name in ("exact", "f64.seq", "f32.seq", "f32.fma")
    for order in ("merged", "split")
)
TC = (
    "tc.L4.F23.rz.rz.col+merged",
    "tc.L4.F24.rz.rz.col+merged",
    "tc.L8.F24.rz.rz.col+merged",
    "tc.L8.F24.rz.rz.col+split",
    "tc.L8.F24.rne.rz.col+merged",
    "tc.L8.F25.rd.rne.col+merged",
    "tc.L16.F24.rz.rz.col+merged",
    "tc.L16.F25.rz.rz.col+merged",
    "tc.L16.F25.rz.rne.col+merged",
    "tc.L16.F26.rd.rz.col+merged",
    "tc.L32.F40.rne.rne.col+merged",
    "tc.L32.F60.rne.rne.col+merged",
    "tc.L4.F24.rd.rne.slot+split",
    "tc.L8.F24.rz.rz.slot+split",
    "tc.L16.F25.rz.rz.slot+split",
    "tc.L32.F40.rne.rz.slot+split",
)
LISTED = (
    *SCALAR,
    *(f"f32.lanes{n}.{how}+merged" for n in LANES for how in ("mul", "fma")),
    "f32.lanes4.mul+split",
    "f32.lanes8.fma+split",
    *TC,
)
"""Every two of these give another y for at least one input of the vectors (a test says so)."""

FEW = ("exact+merged", "f64.seq+merged", "f32.seq+merged", "f32.fma+merged",
       "f32.lanes4.mul+merged", "f32.lanes8.fma+merged")  # fmt: skip
SOME = (*FEW, "f32.seq+split", "f64.seq+split", "tc.L8.F24.rz.rz.col+merged",
        "tc.L16.F25.rz.rne.col+merged", "tc.L32.F60.rne.rne.col+merged",
        "tc.L8.F24.rz.rz.slot+split")  # fmt: skip
TC_FEW = ("tc.L4.F23.rz.rz.col+merged", "tc.L8.F24.rz.rz.col+merged", "tc.L8.F25.rd.rne.col+merged",
          "tc.L16.F25.rz.rne.col+merged", "tc.L32.F40.rne.rne.col+merged",
          "tc.L32.F60.rne.rne.col+merged")  # fmt: skip

_CLAUSES = {"exact": "8.6", "f64": "8.7", "f32": "8.8 8.9", "i32": "8.14"}


def clauses(profile: str) -> tuple[str, ...]:
    """The clauses that a profile needs."""
    kind = profile.split(".")[0].split("+")[0]
    more = _CLAUSES.get(kind, "8.11 8.12 8.13")
    if "lanes" in profile:
        more = "8.10"
    found = ["8.3", "8.4", *more.split()]
    return tuple([*found, "8.15"] if "+" in profile else found)


def hunts(profile: str) -> tuple[str, ...]:
    """Bugs that any good input of a profile hunts."""
    if "lanes" in profile:
        return ("lanes-added-in-order", "lane-of-term", "sequential-for-lanes", "fma-contracted")
    if profile.startswith("tc"):
        order = "slot-for-col" if ".col" in profile else "col-for-slot"
        return ("tc-by-f32-sums", "tc-other-fraction", "tc-other-rounding", "tc-group-size", order)
    return {
        "exact": ("f64-accumulator", "f32-accumulator"),
        "f64.seq": ("f32-accumulator", "pairwise-sum"),
        "f32.seq": ("fma-contracted", "f64-accumulator", "pairwise-sum"),
        "f32.fma": ("fma-not-fused", "f64-accumulator", "pairwise-sum"),
        "i32": ("i32-scaled", "i8-unsigned"),
    }[profile.split("+")[0]]


def dots(
    name: str, profiles: Iterable[str], weight: Json, x: Json, flags: tuple[str, ...] = ()
) -> Iterable[Case]:
    """One case for each profile."""
    bare = {"spec": weight["spec"], "parts": weight["parts"]} if "spec" in weight else weight
    for profile in profiles:
        given = {"profile": profile, "weight": bare, "x": x}
        yield Case(f"dot/{name}/{slug(profile)}", "dot", clauses(profile), given,
                   (*hunts(profile), *flags))  # fmt: skip


def vectors(chance: Chance, dtype: str, count: int, columns: int, spread: int) -> Json:
    """x [T, K]: finite numbers, some zeros."""

    def one() -> int:
        return 0 if chance.coin(12) else number(chance, dtype, spread)

    return matrix(dtype, [[one() for _ in range(columns)] for _ in range(count)], columns)


def _separating() -> Iterable[Case]:
    """All listed profiles over the same weights."""
    chance = Chance("dot separating")
    both = ("merged-for-split", "split-for-merged", "outlier-added-not-selected")
    out = Out("16:256", "F32", "idx8")
    weight = random_weight(chance, Form("8:16", "F32", 6, 139, out, "mixed", "full", 0, 6))
    yield from dots("sparse-f32", LISTED, weight, vectors(chance, "F32", 1, 139, 6), both)
    form = Form("2:4", "F32", 2, 97, Out("4:256", "F32", "colex"), "highest", "full", 0, 1)
    yield from dots("near-f32", LISTED, random_weight(chance, form),
                    vectors(chance, "F32", 1, 97, 1), both)  # fmt: skip
    big, one = f32(2.0**30), f32(1.0)
    row: list[Block] = [[(0, big), (1, one)], [(0, big | 1 << 31), (2, one)]]
    weight = weight_of([row], "2:4", "F32", 8)
    x = matrix("F32", [[big, one, 0, 0, big, 0, one, 0]])
    yield from dots("cancel-f32", LISTED, weight, x, ("f64-accumulator", "f32-accumulator"))


def _mixes() -> Iterable[Case]:
    """Other dtypes, outliers, tails, several x."""
    for at, (pattern, dtype, columns, out, kind) in enumerate((
        ("2:4", "F16", 67, None, "F16"), ("8:16", "BF16", 70, None, "BF16"),
        ("8:16", "F16", 43, None, "F32"), ("16:32", "BF16", 90, Out("8:256", "F32", "idx8"), "F32"),
        ("8:16", "I8", 129, None, "F32"), ("4:8", "I8", 33, Out("16:256", "BF16", "idx8"), "BF16"),
        ("2:4", "BF16", 258, Out("4:256", "BF16", "colex"), "F16"),
        ("5:9", "F32", 2, Out("4:256", "F16", "idx8"), "F32"), ("1:2", "F16", 1, None, "F16"),
    )):  # fmt: skip
        chance = Chance(f"dot mix {at}")
        weight = random_weight(chance, Form(pattern, dtype, 2, columns, out, "mixed", "some", 0, 6))
        name = slug(f"{pattern}-{dtype}-x-{kind}{'-outliers' if out else ''}") + f"-k{columns}"
        flags = ("scale-after-sum",) if dtype == "I8" else ()
        x = vectors(chance, kind, 2, columns, 6)
        yield from dots(f"mix/{name}", SOME, weight, x, (*flags, "merged-for-split"))
    nothing = random_weight(Chance("no rows"), Form("2:4", "F16", 0, 5))
    x = vectors(Chance("x of no rows"), "F32", 1, 5, 3)
    yield from dots("empty/no-rows", FEW, nothing, x, ("no-rows-refused",))
    weight = random_weight(Chance("no x"), Form("2:4", "F16", 2, 5, None, "lowest", "some", 0, 3))
    yield from dots("empty/no-x", FEW, weight, array("F32", [0, 5], []), ("no-rows-refused",))


def _i32() -> Iterable[Case]:
    for pattern, columns in (("2:4", 9), ("8:16", 40), ("1:2", 3)):
        chance = Chance(f"i32 {pattern}")
        weight = random_weight(chance, Form(pattern, "I8", 2, columns, None, "mixed", "full", 3))
        x = array("I8", [2, columns], (chance.below(256) for _ in range(2 * columns)))
        yield from dots(f"i32/{slug(pattern)}-k{columns}", ["i32"], weight, x)
    blocks = 2081  # 131,103 products of 2^14 exceed 2^31
    row: list[Block] = [[(i, 0x80) for i in range(63)] for _ in range(blocks)]
    weight = weight_of([row], "63:64", "I8", 64 * blocks, [f32(1.0)])
    x = array("I8", [1, 64 * blocks], [0x80] * 64 * blocks)
    yield from dots("i32/wraps", ["i32"], weight, x, ("i32-saturates",))


def _aimed() -> Iterable[Case]:
    flags = ("subnormal-flushed", "fma-contracted", "double-rounding")
    for name, pairs in (*AIMED.items(), *ties()):
        yield from dots(f"aimed/{name}", (*FEW, *TC_FEW[1::2]), *operands(pairs), flags)
    more = ("tc-terms-normalised", "tc-accumulator-last", "tc-rz-saturates", "tc-each-rounded")
    for name, pairs in groups():
        yield from dots(f"group/{name}", TC_FEW, *operands(pairs), more)


def operands(pairs: Pairs) -> tuple[Json, Json]:
    """One dense row and one x."""
    w, x = ([f32(value) for value in column] for column in zip(*pairs, strict=True))
    return dense("F32", [w]), matrix("F32", [x])


def dot() -> Part:
    """Part `dot`."""
    return Part("dot", [*_separating(), *_mixes()])


def dot_i32() -> Part:
    """Part `dot-i32`."""
    return Part("dot-i32", list(_i32()))


def dot_aimed() -> Part:
    """Part `dot-aimed`."""
    return Part("dot-aimed", list(_aimed()))
