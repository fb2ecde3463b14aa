"""Names of taps, their order, and a choice of them (SPEC 8.36)."""

from __future__ import annotations

import re
from collections.abc import Collection

from nmref.errors import Code, NmrefError
from nmref.model.config import LlamaConfig

LAYER_TAPS = (
    *("attn_norm", "q", "k", "v", "q_rope", "k_rope", "scores", "probs", "attention", "o"),
    *("attn_residual", "mlp_norm", "gate", "up", "activation", "down", "residual"),
)
"""The taps of one layer in the order in which they are computed."""

AXES = {2: ("position", "column"), 3: ("head", "position", "key")}
"""Rank of a tap -> what its axes count."""

NAME = re.compile(rf"embed|norm|logits|layers\.(0|[1-9][0-9]{{0,5}})\.({'|'.join(LAYER_TAPS)})")
"""A tap."""


def tap_names(config: LlamaConfig) -> list[str]:
    """Every tap of a forward in the order in which they are computed (8.36)."""
    layers = range(config.num_hidden_layers)
    inner = [f"layers.{layer}.{tap}" for layer in layers for tap in LAYER_TAPS]
    return ["embed", *inner, "norm", "logits"]


def place(name: str) -> tuple[int, int, int]:
    """Sorts taps into the order in which they are computed (8.36), whatever the model.

    >>> sorted(["norm", "layers.10.q", "layers.2.k", "embed", "layers.2.q"], key=place)
    ['embed', 'layers.2.q', 'layers.2.k', 'layers.10.q', 'norm']
    """
    match = NAME.fullmatch(name)
    if match and match[1]:
        return 1, int(match[1]), LAYER_TAPS.index(match[2])
    return ("embed", "", "norm", "logits").index(name), 0, 0


def select(
    config: LlamaConfig,
    layers: Collection[int] | None = None,
    taps: Collection[str] | None = None,
) -> list[str]:
    """Some taps, in order: those whose name or last word is in `taps`, in `layers`.

    Embed, norm and logits are of no layer: `layers` leaves them out unless `taps` names them.
    Raises T_ARGUMENT: an unknown tap, a layer that the model has not, nothing left.
    """
    every, top = tap_names(config), config.num_hidden_layers - 1
    for layer in layers or ():
        if not 0 <= layer <= top:
            raise NmrefError(Code.T_ARGUMENT, "layers", f"layer {layer}", f"0 to {top}")
    words = {word for name in every for word in (name, name.split(".")[-1])}
    for tap in taps or ():
        if tap not in words:
            want = f"embed, {', '.join(LAYER_TAPS)}, norm, logits, or such as layers.0.q"
            raise NmrefError(Code.T_ARGUMENT, "taps", f"unknown tap {tap!r}"[:80], want)

    def chosen(name: str) -> bool:
        _, *layer, word = ["", *name.split(".")]
        if taps is not None and not {name, word} & set(taps):
            return False
        return layers is None or (int(layer[1]) in layers if layer else taps is not None)

    found = [name for name in every if chosen(name)]
    if not found:
        raise NmrefError(Code.T_ARGUMENT, "taps and layers", "no taps", "at least one")
    return found
