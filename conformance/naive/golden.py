"""nmref-tiny and its variants (SPEC 8.38, 8.39)."""

from typing import Any

from .codes import is_base_pattern, parse_pattern
from .dots import Weight, whole
from .encoder import Rows, encode
from .floats import UNIT, to_integer, units, value
from .llama import Config, Tensors
from .splitmix import SplitMix64, bf16_bits

LAYERS, D, F, H, G, HEAD, V = 3, 42, 270, 6, 2, 10, 97
LINEAR = (
    ("self_attn.q_proj", H * HEAD, D),
    ("self_attn.k_proj", G * HEAD, D),
    ("self_attn.v_proj", G * HEAD, D),
    ("self_attn.o_proj", D, H * HEAD),
    ("mlp.gate_proj", F, D),
    ("mlp.up_proj", F, D),
    ("mlp.down_proj", D, F),
)
"""Linear weights of a block, their rows and columns, in the order in which they are made."""
ONE_CENTRED = 1 << 23
"""1 as a count of 2^-23, the unit of centred()."""
SCALE = (127 - 9) << 23
"""F32 bits of 2^-9."""

Mask = Rows


def tiny(variant: str = "nmref-tiny") -> tuple[Config, Tensors, list[int]]:
    """Configuration, tensors by name and prompt of a variant (SPEC 8.38); else a ValueError."""
    config, tensors = plain_config(), plain_tensors()
    prompt = SplitMix64(2)
    tokens = [prompt.below(V) for _ in range(16)]
    name, colon, rest = variant.partition(":")
    if name != "nmref-tiny" or (colon != "" and rest == ""):
        raise ValueError(f"not a variant: {variant!r}")
    if rest == "llama3":
        config["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        }
    elif rest == "window":
        config["sliding_window"] = 5
    elif rest == "tied":
        config["tie_word_embeddings"] = True
        del tensors["lm_head.weight"]
    elif rest != "":
        prune(tensors, rest)
    return config, tensors, tokens


def plain_config() -> Config:
    """The members of config.json that a forward needs."""
    return {
        "hidden_size": D,
        "intermediate_size": F,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": H,
        "num_key_value_heads": G,
        "head_dim": HEAD,
        "vocab_size": V,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "sliding_window": None,
        "tie_word_embeddings": False,
    }


def plain_tensors() -> Tensors:
    """All tensors, dense BF16, from one generator with seed 1."""
    chance = SplitMix64(1)

    def matrix(rows: int, columns: int) -> Weight:
        made = [
            [bf16_bits(chance.centred_count(), -25) for _ in range(columns)] for _ in range(rows)
        ]
        return "dense", "BF16", made

    def norm() -> Weight:
        made = [bf16_bits(4 * ONE_CENTRED + chance.centred_count(), -25) for _ in range(D)]
        return "dense", "BF16", [made]

    tensors: Tensors = {"model.embed_tokens.weight": matrix(V, D)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        tensors[f"{prefix}.input_layernorm.weight"] = norm()
        for name, rows, columns in LINEAR:
            tensors[f"{prefix}.{name}.weight"] = matrix(rows, columns)
        tensors[f"{prefix}.post_attention_layernorm.weight"] = norm()
    tensors["model.norm.weight"] = norm()
    tensors["lm_head.weight"] = matrix(V, D)
    return tensors


def prune(tensors: Tensors, variant: str) -> None:
    """Replace the linear weights of the blocks by packed ones, for [i8:]N:M[+n:256]."""
    i8 = variant.startswith("i8:")
    pattern, plus, outliers = variant.removeprefix("i8:").partition("+")
    if not is_base_pattern(pattern) or (plus != "" and not outliers.endswith(":256")):
        raise ValueError(f"not a variant: {variant!r}")
    for layer in range(LAYERS):
        for name, _, _ in LINEAR:
            full = f"model.layers.{layer}.{name}.weight"
            _, rows = whole(tensors[full])
            tensors[full] = packed(rows, pattern, outliers if plus else None, i8)


def packed(rows: Rows, pattern: str, out_pattern: str | None, i8: bool) -> Weight:
    """Prune BF16 rows by magnitude and encode them with the masks of SPEC 8.39."""
    k = len(rows[0])
    nothing = [[0] * k for _ in rows]
    out_mask = nothing if out_pattern is None else [
        largest(row, [0] * k, *parse_pattern(out_pattern)) for row in rows
    ]  # fmt: skip
    mask = [
        largest(row, taken, *parse_pattern(pattern))
        for row, taken in zip(rows, out_mask, strict=True)
    ]
    base = keep(rows, mask)
    if i8:
        base = [[quantised(bits) for bits in row] for row in base]
    spec: dict[str, Any] = {
        "coding": "colex",
        "dtype": "I8" if i8 else "BF16",
        "outliers": None,
        "pattern": pattern,
        "shape": [len(rows), k],
    }
    more: dict[str, Any] = {}
    if out_pattern is not None:
        spec["outliers"] = {"coding": "idx8", "dtype": "BF16", "pattern": out_pattern}
        more = {"outliers": keep(rows, out_mask), "out_dtype": "BF16"}
        more |= {"out_pattern": out_pattern, "out_mask": out_mask}
    scale = [SCALE] * len(rows) if i8 else None
    return spec, encode(spec["dtype"], base, pattern, mask, scale, **more)


def largest(row: list[int], taken: list[int], n: int, m: int) -> list[int]:
    """Mask of the n largest magnitudes of every m columns, taken ones left out; ties go left."""
    mask = [0] * len(row)
    for start in range(0, len(row), m):
        columns = [c for c in range(start, min(start + m, len(row))) if not taken[c]]
        # Without the sign bit, BF16 bits are ordered as magnitudes are.
        for c in sorted(columns, key=lambda c: (-(row[c] & 0x7FFF), c))[:n]:
            mask[c] = 1
    return mask


def keep(rows: Rows, mask: Mask) -> Rows:
    """Elements under the mask, +0 elsewhere."""
    return [
        [bits if flag else 0 for bits, flag in zip(row, flags, strict=True)]
        for row, flags in zip(rows, mask, strict=True)
    ]


def quantised(bits: int) -> int:
    """I8 element of a BF16 element: v * 2^9 to the nearest integer, ties to even, at most 127."""
    return min(to_integer(units(value("BF16", bits)), -UNIT - 9, "rne"), 127) & 0xFF
