"""Names of profiles (SPEC 8.10, 8.11, 8.15)."""

import re
from typing import NamedTuple


class Profile(NamedTuple):
    """What a full name says. Fields that a kind does not have are 0, False or empty."""

    kind: str
    """exact, f64.seq, f32.seq, f32.fma, f32.lanes, tc or i32."""
    lanes: int = 0
    """Lanes of f32.lanes, products of a group of tc."""
    fused: bool = False
    fraction: int = 0
    round_in: str = ""
    round_out: str = ""
    slot: bool = False
    split: bool = False


LANES = re.compile(r"f32\.lanes(2|4|8|16|32|64)\.(mul|fma)")
TC = re.compile(r"tc\.L(4|8|16|32)\.F([1-9][0-9])\.(rz|rd|rne)\.(rz|rne)\.(col|slot)")
SIMPLE = ("exact", "f64.seq", "f32.seq", "f32.fma", "i32")


def parse_profile(name: str) -> Profile:
    """Read a name, full or not (SPEC 8.15); any other text is a ValueError."""
    stem, plus, sums = name.partition("+")
    profile = parse_stem(stem)
    if profile is None or (plus != "" and sums not in ("merged", "split")):
        raise ValueError(f"not a profile: {name!r}")
    if plus != "" and (profile.kind == "i32" or (profile.slot and sums == "merged")):
        raise ValueError(f"not a profile: {name!r}")
    return profile._replace(split=profile.slot if plus == "" else sums == "split")


def parse_stem(stem: str) -> Profile | None:
    """Read a name without its + part."""
    if stem in SIMPLE:
        return Profile(stem, fused=stem == "f32.fma")
    if lanes := LANES.fullmatch(stem):
        return Profile("f32.lanes", int(lanes[1]), fused=lanes[2] == "fma")
    tc = TC.fullmatch(stem)
    if tc is None or not 23 <= int(tc[2]) <= 60:
        return None
    return Profile("tc", int(tc[1]), False, int(tc[2]), tc[3], tc[4], tc[5] == "slot")
