"""The digests of conformance/traces/nmref-tiny.json: what every implementation has to find.

Every variant of `tiny.VARIANTS` (SPEC 8.38) by f64.seq with the digest of every tap, so that a
difference can be looked for; two variants, one with outliers and one with a window, by every kind
of profile (8.6 to 8.15).  Tokens are the golden prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

from nmref.conformance import tiny
from nmref.conformance.trace import digests
from nmref.container.metadata import SPEC_VERSION
from nmref.numerics.ops import Golden
from nmref.numerics.profile import Profile

SCHEMA = "urn:nmref:schema:golden-traces:1"
"""The `schema` member, and the `$id` of formats/schema/golden-traces.schema.json."""

PATH = "conformance/traces/nmref-tiny.json"

DEFAULT = "f64.seq+merged"

PROFILES = (
    *(f"{name}+{order}" for name in ("f64.seq", "exact") for order in ("merged", "split")),
    *(f"{name}+{order}" for name in ("f32.seq", "f32.fma") for order in ("merged", "split")),
    *(f"f32.lanes{n}.{how}+merged" for n in (2, 4, 8, 16, 32, 64) for how in ("mul", "fma")),
    "f32.lanes8.fma+split",
    "tc.L4.F23.rz.rz.col+merged",
    "tc.L8.F24.rz.rz.col+merged",
    "tc.L8.F24.rz.rz.col+split",
    "tc.L16.F25.rz.rne.col+merged",
    "tc.L16.F26.rd.rz.col+merged",
    "tc.L32.F60.rne.rne.col+merged",
    "tc.L4.F24.rd.rne.slot+split",
    "tc.L8.F24.rz.rz.slot+split",
    "tc.L16.F25.rz.rz.slot+split",
    "tc.L32.F40.rne.rz.slot+split",
)
"""Full names (8.15): every family, number of lanes and products, rounding, and order."""

EVERY_PROFILE = (f"{tiny.NAME}:8:16+16:256", f"{tiny.NAME}:window")


def cases() -> Iterator[tuple[str, str]]:
    """Every variant and profile whose digest is in the file."""
    for variant in tiny.VARIANTS:
        for profile in PROFILES if variant in EVERY_PROFILE else (DEFAULT,):
            yield variant, profile


def measure(variant: str, profile: str, threads: int = 1) -> tuple[str, dict[str, str]]:
    """The trace digest of a variant's prompt, and tap -> SHA-256.  Raises T_ARGUMENT."""
    golden = _build(variant)
    ops = Golden(str(Profile.parse(profile)), threads=threads)
    return digests(golden.weights, golden.config, golden.prompt, ops)


@lru_cache(maxsize=1)  # the cases of one variant follow each other
def _build(variant: str) -> tiny.Tiny:
    return tiny.build(variant)


@cache
def golden_traces() -> dict[str, Any]:
    """The content of the file."""
    variants: dict[str, dict[str, dict[str, str]]] = {}
    for variant, profile in cases():
        digest, taps = measure(variant, profile)
        entry = variants.setdefault(variant, {"profiles": {}, "taps": {}})
        entry["profiles"][profile] = digest
        if profile == DEFAULT:
            entry["taps"] = taps
    return {
        "schema": SCHEMA,
        "spec": {"version": SPEC_VERSION, "clause": "8.38"},
        "tokens": tiny.build().prompt,
        "variants": variants,
    }
