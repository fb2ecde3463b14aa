"""Laws of encode, decode and canonicalise (SPEC parts 3 and 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from hypothesis import strategies as st

from nmref.testing import reference
from nmref.testing.contents import Weight, content, dense_of, weight
from nmref.testing.faults import Faulty, Kind
from nmref.testing.input_faults import INPUT_FAULTS
from nmref.testing.law import Law, call, refused, same_dense, same_parts, same_sizes
from nmref.testing.part_faults import PART_FAULTS, Encoded
from nmref.testing.plain import Dense, Input, Parts, Spec, describe
from nmref.testing.recipes import (
    FLOATS,
    OUT_PATTERNS,
    SCALES,
    Out,
    Recipe,
    build,
    mix,
    pick,
    sweep,
)
from nmref.testing.strategies import recipes

Encode = Callable[[Input], Parts]
Decode = Callable[[Spec, Parts], Dense]
Canonicalise = Callable[[Spec, Parts], Parts]


def parts_have_their_sizes(encode: Encode, given: Input) -> None:
    """SPEC 2.11, 3.3, 4.2, 4.4, 4.6: exactly these parts, and the bytes of each."""
    same_sizes("encode", given.spec, call(f"encode: {given}", encode, given))


def encode_is_the_reference(encode: Encode, given: Input) -> None:
    """SPEC 3.9, 3.21, 4.14: the fill rule leaves one answer, byte for byte."""
    got = call(f"encode: {given}", encode, given)
    same_parts("encode", given.spec, got, reference.encode(given))


def decode_inverts_encode(encode: Encode, decode: Decode, given: Input) -> None:
    """SPEC 3.14, 4.9: every bit comes back, NaN payloads and -0 too."""
    parts = call(f"encode: {given}", encode, given)
    got = call(f"decode: {given}", decode, given.spec, parts)
    same_dense(f"decode(encode(x)): {given}", got, dense_of(given), given.pattern)


def decode_gives_the_dense_bits(decode: Decode, encoded: Weight) -> None:
    """SPEC 4.9, whatever the fill of the slots is."""
    got = call(f"decode: {encoded}", decode, encoded.spec, dict(encoded.parts))
    same_dense(f"decode: {encoded}", got, encoded.dense, encoded.spec["pattern"])


def canonicalise_gives_canonical_parts(canonicalise: Canonicalise, encoded: Weight) -> None:
    """SPEC 3.13: the parts of encoding the same content without masks."""
    want = reference.canonicalise(encoded.spec, encoded.parts)
    got = call(f"canonicalise: {encoded}", canonicalise, encoded.spec, dict(encoded.parts))
    same_parts("canonicalise", encoded.spec, got, want)


def encode_refuses(encode: Encode, faulty: Faulty[Input], ordered: bool = False) -> None:
    """SPEC 1.12."""
    refused(f"encode: {faulty}", faulty.codes, ordered, encode, faulty.subject)


def decode_refuses(decode: Decode, faulty: Faulty[Encoded], ordered: bool = False) -> None:
    """SPEC 6.6, asked of a `decode` that checks."""
    spec, parts = faulty.subject
    what = f"decode: {faulty.fault}: {describe(spec)}"
    refused(what, faulty.codes, ordered, decode, spec, parts)


@dataclass(frozen=True)
class Page:
    """1024 of the 65,536 elements of a 16-bit dtype, as a base or as outliers; wide: W is F32."""

    dtype: str
    page: int
    role: str = "base"


def _page_weight(page: Page) -> Weight:
    """Every element of the page at its own column, 1:2 (base) or 16 of 256 (outliers)."""
    elements = np.arange(page.page << 10, (page.page + 1) << 10, dtype=np.uint16)
    other = {"F16": "BF16", "BF16": "F16"}[page.dtype]
    if page.role == "outliers":
        bits = np.zeros((16, 1024), dtype=np.uint16)
        bits[:, ::16] = elements.reshape(16, 64)
        nothing = Dense(other, np.zeros_like(bits))
        given = Input(nothing, "2:4", outliers=Dense(page.dtype, bits), out_pattern="16:256")
    else:
        bits = np.zeros((4, 512), dtype=np.uint16)
        bits[:, 1::2] = elements.reshape(4, 256)
        given = Input(Dense(page.dtype, bits), "1:2")
        if page.role == "wide base":
            nothing = Dense("F32", np.zeros(bits.shape, dtype="<u4"))
            given = replace(given, outliers=nothing, out_pattern="4:256")
    slots = content(given)
    return Weight(given.spec, slots.parts(), dense_of(given), slots)


@dataclass(frozen=True)
class Scale:
    """The F32 bits of the scale of an I8 row."""

    bits: int


def _scale_weight(scale: Scale) -> Weight:
    """All 256 elements of I8, 1:2, times one scale."""
    bits = np.zeros((1, 512), dtype=np.uint8)
    bits[0, ::2] = np.arange(256)
    given = Input(Dense("I8", bits), "1:2", scale=np.array([scale.bits], dtype="<u4"))
    slots = content(given)
    return Weight(given.spec, slots.parts(), dense_of(given), slots)


ROLES = ("base", "wide base", "outliers")
_pages = st.builds(Page, st.sampled_from(FLOATS[1:]), st.integers(0, 63), st.sampled_from(ROLES))
_scales = st.builds(Scale, st.sampled_from(SCALES) | st.integers(1, 0x7B800000))


def _page_sweep(count: int) -> Iterator[Page]:
    every = [Page(d, p, r) for p in (31, 0, 63, 32, *range(64)) for d in FLOATS[1:] for r in ROLES]
    yield from every[: max(12, count)]


def _scale_sweep(count: int) -> Iterator[Scale]:
    yield from map(Scale, SCALES)
    yield from (Scale(1 + mix(i) % 0x7B800000) for i in range(count))


_OUTS = [Out(p, d, c, False) for p in OUT_PATTERNS for d in FLOATS for c in ("idx8", "colex")]


def _sweep(fixed: dict[str, Any], count: int) -> Iterator[Recipe]:
    return sweep(count, **fixed)


def _maker(needs: str) -> Callable[[Recipe], Any]:
    return build if needs.startswith("encode") else weight


def _with_outliers(count: int, **fixed: Any) -> Iterator[Recipe]:
    for i, recipe in enumerate(sweep(2 * count, **fixed)):
        if recipe.out is None:
            masked = not recipe.out and mix(i, 13) % 3 == 0
            out = replace(pick(_OUTS, i, 14), masked=masked)
            columns = min(max(recipe.columns, 20), 300)
            pattern = recipe.pattern if "64" not in recipe.pattern else "8:16"
            yield replace(recipe, out=out, columns=columns, pattern=pattern)
        elif i % 2:
            yield recipe


def _law(name: str, clause: str, needs: str, check: Callable[..., None], **fixed: Any) -> Law:
    """A law over inputs (encode) or weights (decode, canonicalise) with some fields fixed."""
    cases, names = recipes(**fixed), tuple(needs.split())
    return Law(name, clause, names, cases, partial(_sweep, fixed), check, make=_maker(needs))


def _outlier_law(
    name: str, clause: str, needs: str, check: Callable[..., None], **fixed: Any
) -> Law:
    """The same where every case has outliers."""
    some = recipes(**fixed).filter(lambda recipe: recipe.out is not None)

    def fixed_sweep(count: int) -> Iterator[Recipe]:
        return _with_outliers(count // 2 + 1, **fixed)

    return Law(name, clause, tuple(needs.split()), some, fixed_sweep, check, make=_maker(needs))


_UNDER: dict[str, Any] = {"crowd": "some", "place": "low", "special": "some", "fills": "lowest"}

WEIGHT_LAWS = [
    _law("every part has its size", "3.3", "encode", parts_have_their_sizes),
    _law(
        "encode without a mask", "3.12", "encode", encode_is_the_reference, masked=False, out=None
    ),
    _law("encode with a mask", "3.11", "encode", encode_is_the_reference, masked=True, out=None),
    _outlier_law("encode with outliers", "4.15", "encode", encode_is_the_reference),
    _outlier_law(
        "outlier fill beside the base",
        "4.14",
        "encode",
        encode_is_the_reference,
        crowd="some",
        place="low",
        special="-0",
    ),
    _law("decode inverts encode", "3.14", "encode decode", decode_inverts_encode),
    _law("decode", "4.9", "decode", decode_gives_the_dense_bits, fills="lowest", out=None),
    _law("decode other fills", "3.13", "decode", decode_gives_the_dense_bits, fills="highest"),
    _outlier_law("decode with outliers", "4.9", "decode", decode_gives_the_dense_bits),
    _outlier_law(
        "outliers over stored zeros", "4.9", "decode", decode_gives_the_dense_bits, **_UNDER
    ),
    Law(
        "every 16-bit element",
        "4.11",
        ("decode",),
        _pages,
        _page_sweep,
        decode_gives_the_dense_bits,
        0.2,
        _page_weight,
    ),
    Law(
        "I8 products",
        "3.7",
        ("decode",),
        _scales,
        _scale_sweep,
        decode_gives_the_dense_bits,
        0.3,
        _scale_weight,
    ),
    _law("canonicalise", "3.13", "canonicalise", canonicalise_gives_canonical_parts),
]
"""Laws of encode, decode and canonicalise on valid inputs."""


def _refusal(kind: Kind[Any], needs: str, check: Callable[..., None]) -> Law:
    name = f"{needs} refuses: {kind.fault}"
    return Law(name, kind.clause, (needs,), recipes(), sweep, check, 0.1, kind.on)


INPUT_LAWS = [_refusal(kind, "encode", encode_refuses) for kind in INPUT_FAULTS]
"""One law for each fault of the inputs of encode."""

PART_LAWS = [_refusal(kind, "decode", decode_refuses) for kind in PART_FAULTS]
"""One law for each fault of the parts of a weight."""
