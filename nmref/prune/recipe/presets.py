"""Recipes by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from nmref.errors import Code, NmrefError
from nmref.pattern import NMPattern
from nmref.prune.settings import Correction, Equalization, Recipe, Solver, Tuning

_HALF, _SALIENT = NMPattern(8, 16), NMPattern(16, 256)

PRESETS: Mapping[str, Recipe] = MappingProxyType(
    {
        # all stages of the paper's section 3
        "paper": Recipe(
            _HALF,
            _SALIENT,
            equalize=Equalization(),
            correct=Correction(),
            tune=Tuning(),
        ),
        # what needs one pass over the calibration text and no update
        "fast": Recipe(_HALF, _SALIENT, equalize=Equalization()),
        # Frantar and Alistarh 2023 as they have it: N:M alone
        "sparsegpt": Recipe(_HALF, solver=Solver("sparsegpt")),
        # the update with the smallest error, and tuning after it
        "best": Recipe(
            _HALF,
            _SALIENT,
            solver=Solver("alps"),
            tune=Tuning(loss="normalized", teacher="dense", outliers=True),
        ),
    }
)
"""Name -> recipe; `dataclasses.replace` changes one, such as its pattern."""


def preset(name: str) -> Recipe:
    """The recipe of that name.  Raises T_ARGUMENT."""
    if name not in PRESETS:
        known = ", ".join(PRESETS)
        raise NmrefError(Code.T_ARGUMENT, "preset", repr(name)[:80], f"one of {known}")
    return PRESETS[name]
