"""config.json of a LLaMA model: the sizes, and the tensors that follow from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from nmref.errors import Code, NmrefError

LINEAR_KINDS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
"""The seven linear layers of a block, in the order of the forward."""

_MAX_INT = 2**31 - 1
_MAX_LAYERS = 10_000  # keeps a hostile config from making a list of a billion names

# What the forward does not have: the keys that would ask for it, and the values that do not.
_PLAIN_LLAMA: dict[str, tuple[object, ...]] = {
    "hidden_act": (None, "silu"),
    "attention_bias": (None, False),
    "mlp_bias": (None, False),
    "rope_scaling": (None,),
}


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes of a LLaMA model, under the names of config.json; the letters are those of the SPEC."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    raw: Mapping[str, Any] = field(repr=False, compare=False)
    """config.json as it was read, to be written back."""

    @property
    def D(self) -> int:
        """Model width."""
        return self.hidden_size

    @property
    def F(self) -> int:
        """MLP width."""
        return self.intermediate_size

    @property
    def H(self) -> int:
        """Query heads."""
        return self.num_attention_heads

    @property
    def G(self) -> int:
        """Key/value heads."""
        return self.num_key_value_heads

    @property
    def V(self) -> int:
        """Vocabulary."""
        return self.vocab_size


class _Reader:
    """Typed access to a config's keys; every complaint names the file and the key."""

    def __init__(self, raw: Mapping[str, Any], where: str) -> None:
        self.raw = raw
        self.where = where

    def fail(self, key: str, want: str) -> NmrefError:
        got = f"{key} {json.dumps(self.raw[key])[:80]}" if key in self.raw else f"no key {key}"
        return NmrefError(Code.T_CONFIG, self.where, got, want)

    def integer(self, key: str, default: int | None = None, top: int = _MAX_INT) -> int:
        value = self.raw.get(key)
        if value is None and default is not None:
            return default
        if type(value) is not int or not 1 <= value <= top:
            raise self.fail(key, f"an integer from 1 to {top}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.raw.get(key)
        if value is None and default is not None:
            return default
        # an integer past float's range would not convert: 2^63 is more than any size here
        if type(value) not in (int, float) or not 0 < cast(float, value) <= 2.0**63:
            raise self.fail(key, "a number above 0")
        return float(cast(float, value))

    def flag(self, key: str) -> bool:
        value = self.raw.get(key)
        if value not in (None, True, False) or type(value) is int:
            raise self.fail(key, "true or false")
        return bool(value)

    def token(self, key: str) -> int | None:
        value = self.raw.get(key)
        if value is not None and (type(value) is not int or value < 0):
            raise self.fail(key, "a token id")
        return value

    def tokens(self, key: str) -> tuple[int, ...]:
        value = self.raw.get(key)
        ids = [] if value is None else value if isinstance(value, list) else [value]
        if any(type(i) is not int or i < 0 for i in ids):
            raise self.fail(key, "a token id or a list of them")
        return tuple(ids)


def parse_config(raw: object, where: str = "config.json") -> LlamaConfig:
    """The content of a config.json -> LlamaConfig.  Raises T_CONFIG.

    num_key_value_heads defaults to the heads, head_dim to D / H, rope_theta to 10000 (also read
    from `rope_parameters`), tie_word_embeddings to false.
    """
    if not isinstance(raw, dict):
        raise NmrefError(Code.T_CONFIG, where, "not a JSON object", "a JSON object")
    reader = _Reader(raw, where)
    _check_architecture(reader)
    width, heads = reader.integer("hidden_size"), reader.integer("num_attention_heads")
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=reader.integer("intermediate_size"),
        num_hidden_layers=reader.integer("num_hidden_layers", top=_MAX_LAYERS),
        num_attention_heads=heads,
        num_key_value_heads=reader.integer("num_key_value_heads", default=heads),
        head_dim=_head_dim(reader, width, heads),
        vocab_size=reader.integer("vocab_size"),
        max_position_embeddings=reader.integer("max_position_embeddings"),
        rms_norm_eps=reader.number("rms_norm_eps"),
        rope_theta=_rope_theta(reader),
        tie_word_embeddings=reader.flag("tie_word_embeddings"),
        bos_token_id=reader.token("bos_token_id"),
        eos_token_ids=reader.tokens("eos_token_id"),
        raw=dict(raw),
    )
    if config.H % config.G:
        raise reader.fail("num_key_value_heads", f"a divisor of the {config.H} attention heads")
    return config


def read_config(path: Path) -> LlamaConfig:
    """Read config.json.  Raises T_FILE (no such file) or T_CONFIG."""
    try:
        text = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise NmrefError(Code.T_FILE, str(path), reason, "a readable file") from None
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NmrefError(Code.T_CONFIG, str(path), f"not JSON ({error})", "JSON") from None
    return parse_config(raw, str(path))


def _check_architecture(reader: _Reader) -> None:
    """Refuse every model whose forward is not the plain LLaMA one."""
    for key, want in (("architectures", ["LlamaForCausalLM"]), ("model_type", "llama")):
        value = reader.raw.get(key)
        if value is not None and value != want:
            got = f"unknown architecture, {key} {json.dumps(value)}"
            raise NmrefError(Code.T_CONFIG, reader.where, got, json.dumps(want))
    if reader.raw.get("architectures") is None and reader.raw.get("model_type") is None:
        raise reader.fail("model_type", '"llama"')
    for key, plain in _PLAIN_LLAMA.items():
        if reader.raw.get(key) not in plain or type(reader.raw.get(key)) is int:
            raise reader.fail(key, json.dumps(plain[-1]))


def _head_dim(reader: _Reader, width: int, heads: int) -> int:
    if reader.raw.get("head_dim") is None and width % heads:
        raise reader.fail("num_attention_heads", f"a divisor of hidden_size {width}, or head_dim")
    dim = reader.integer("head_dim", default=width // heads)
    if dim % 2:
        got = f"head_dim {dim}"
        raise NmrefError(Code.T_CONFIG, reader.where, got, "an even number: RoPE turns pairs")
    return dim


def _rope_theta(reader: _Reader) -> float:
    """rope_theta, in older files at the top, in newer ones inside rope_parameters."""
    rope = reader.raw.get("rope_parameters")
    if rope is None:
        return reader.number("rope_theta", default=10000.0)
    plain = isinstance(rope, dict) and rope.get("rope_type", "default") == "default"
    if not plain or rope.get("partial_rotary_factor", 1) != 1:
        raise reader.fail("rope_parameters", 'rope_type "default" over the whole head')
    inner = _Reader(rope, f"{reader.where} rope_parameters")
    return inner.number("rope_theta", default=reader.number("rope_theta", default=10000.0))


def linear_names(config: LlamaConfig) -> list[str]:
    """The 7 * layers weight names that are pruned, in the order of the forward."""
    return [
        f"model.layers.{layer}.{kind}.weight"
        for layer in range(config.num_hidden_layers)
        for kind in LINEAR_KINDS
    ]


def expected_shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of the checkpoint -> its shape; linears are [R, K] = [out, in].

    `lm_head.weight` is missing when the embedding is tied.
    """
    width, mlp = config.D, config.F
    query, key = config.H * config.head_dim, config.G * config.head_dim
    attention = [(query, width), (key, width), (key, width), (width, query)]
    linear = [*attention, (mlp, width), (mlp, width), (width, mlp)]
    kinds = dict(zip(LINEAR_KINDS, linear, strict=True))
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.V, width)}
    for layer in range(config.num_hidden_layers):
        at = f"model.layers.{layer}"
        shapes[f"{at}.input_layernorm.weight"] = (width,)
        shapes |= {f"{at}.{kind}.weight": shape for kind, shape in kinds.items()}
        shapes[f"{at}.post_attention_layernorm.weight"] = (width,)
    shapes["model.norm.weight"] = (width,)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.V, width)
    return shapes
