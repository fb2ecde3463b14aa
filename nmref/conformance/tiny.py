"""nmref-tiny, the golden model that needs no file (SPEC 8.38 and 8.39)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np

from nmref.dtypes import Array
from nmref.errors import Code, NmrefError
from nmref.model.config import LlamaConfig, expected_shapes, linear_names, parse_config
from nmref.model.llama import Weights
from nmref.numerics import SplitMix64
from nmref.numerics.rope import Llama3Scaling
from nmref.pattern import NMPattern, base_pattern, outlier_pattern
from nmref.prune.choose.mask import split
from nmref.tensor import SparseWeight, encode, plain

NAME = "nmref-tiny"
PROMPT_LENGTH = 16
SCALE = 2.0**-9
"""Of every row of the I8 variants."""

VARIANTS = (
    NAME,
    f"{NAME}:llama3",
    f"{NAME}:window",
    f"{NAME}:tied",
    *(f"{NAME}:{base}" for base in ("2:4", "4:8", "8:16", "16:32")),
    *(f"{NAME}:{base}" for base in ("2:4+4:256", "4:8+8:256", "8:16+16:256", "16:32+16:256")),
    *(f"{NAME}:i8:{base}" for base in ("8:16", "8:16+16:256", "2:4+4:256")),
)
"""The variants whose traces are in the repository."""

CONFIG = {
    "model_type": "llama",
    "hidden_size": 42,
    "intermediate_size": 270,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "vocab_size": 97,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
_SCALING = Llama3Scaling(8.0, 1.0, 4.0, 64)
_PACKED = re.compile(r"(i8:)?(\d+:\d+)(?:\+(\d+:\d+))?")


@dataclass(frozen=True)
class Tiny:
    """A variant: configuration, weights for the forward, and 16 tokens."""

    config: LlamaConfig
    weights: Weights
    prompt: list[int]


def build(variant: str = NAME) -> Tiny:
    """Make a variant by its name.  Raises T_ARGUMENT, and what the patterns raise.

    >>> build("nmref-tiny").prompt[:4]
    [57, 72, 57, 74]
    """
    name, _, kind = variant.partition(":")
    packed = _PACKED.fullmatch(kind)
    if name != NAME or (
        variant != NAME and kind not in ("llama3", "window", "tied") and not packed
    ):
        want = f"{NAME}, or {NAME}: with llama3, window, tied, N:M, N:M+n:256, i8:N:M ..."
        raise NmrefError(Code.T_ARGUMENT, "golden model", variant, want)
    config = parse_config(CONFIG, NAME)
    weights = _weights(config)
    if kind == "llama3":
        config = replace(config, rope=replace(config.rope, scaling=_SCALING))
    elif kind == "window":
        config = replace(config, sliding_window=5)
    elif kind == "tied":
        config = replace(config, tie_word_embeddings=True)
        del weights["lm_head.weight"]
    rng = SplitMix64(2)
    prompt = [rng.below(config.V) for _ in range(PROMPT_LENGTH)]
    if not packed:
        return Tiny(config, dict(weights), prompt)
    integers, base, outliers = packed.groups()
    linears = set(linear_names(config))
    patterns = base_pattern(base), outlier_pattern(outliers) if outliers else None
    packs = {n: _packed(w, *patterns, bool(integers)) for n, w in weights.items() if n in linears}
    return Tiny(config, {**weights, **packs}, prompt)


def _weights(config: LlamaConfig) -> dict[str, Array]:
    """All tensors BF16, from one generator, in the order of the checkpoint (SPEC 8.38)."""
    rng = SplitMix64(1)
    weights = {}
    for name, shape in expected_shapes(config).items():
        numbers = np.array([rng.centred() for _ in range(int(np.prod(shape)))], dtype=np.float64)
        centre = 1 if len(shape) == 1 else 0  # a gain
        weights[name] = _bfloat16(centre + numbers * 0.25).reshape(shape)
    return weights


def _bfloat16(values: Array) -> Array:
    """Binary64 -> the nearest BF16, ties to even.

    The values are multiples of 2^-25 below 2: exact in binary32 unless they have 25 bits or more,
    and adding and taking off 1.5 * 2^(e + 45) rounds them once, at the unit of 8 bits.
    """
    _, exponent = np.frexp(values)
    rounder = np.ldexp(1.5, exponent + (52 - 8))
    rounded: Array = (values + rounder) - rounder
    return rounded.astype(np.float32).astype(ml_dtypes.bfloat16)


def _packed(
    weight: Array, base: NMPattern, outliers: NMPattern | None, integers: bool
) -> SparseWeight:
    """Prune by magnitude and pack (SPEC 8.39)."""
    mask, salient = split(np.abs(weight.astype(np.float32)), base, outliers)
    zero = np.zeros((), dtype=weight.dtype)
    kept = np.where(mask, weight, zero)
    if integers:
        steps = np.rint(kept.astype(np.float32) / np.float32(SCALE))
        kept = np.minimum(steps, 127).astype(np.int8)
    return encode(
        kept,
        str(base),
        mask=mask,
        scale=np.full(len(kept), SCALE, dtype=np.float32) if integers else None,
        outliers=None if salient is None else np.where(salient, weight, zero),
        outlier_pattern=str(outliers),
        outlier_mask=salient,
        twin=plain,  # compiling the other one takes longer than this
    )
