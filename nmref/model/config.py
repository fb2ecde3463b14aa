"""config.json of a LLaMA or Mistral model: the sizes, and the tensors that follow from them.

A key that is absent has the value that transformers would give it, or is an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from nmref.errors import Code, NmrefError
from nmref.numerics.rope import Llama3Scaling, Rope

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

_ARCHITECTURES = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM"}
"""model_type -> architecture.  Mistral is LLaMA with a sliding window."""

_MAX_INT = 2**31 - 1
_MAX_LAYERS = 10_000  # keeps a hostile config from making a list of a billion names

# What the forward does not have: the keys that would ask for it, and the values that do not.
_PLAIN_LLAMA: dict[str, tuple[object, ...]] = {
    "hidden_act": (None, "silu"),
    "attention_bias": (None, False),
    "mlp_bias": (None, False),
}
_ROPE_TYPES = ("default", "llama3")

# What transformers' MistralConfig has where a key is absent; its LlamaConfig has neither.
_MISTRAL_WINDOW = 4096
_MISTRAL_KV_HEADS = 8


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes of a model, under the names of config.json; the letters are those of the SPEC."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope: Rope
    sliding_window: int | None
    """Positions that a position sees, itself among them; None: all that came before."""
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

    def number(self, key: str, default: float | None = None, least: float = 0.0) -> float:
        """A number above 0, and not below `least`."""
        value = self.raw.get(key)
        if value is None and default is not None:
            return default
        number = cast(float, value) if type(value) in (int, float) else 0.0
        # an integer past float's range would not convert: 2^63 is more than any size here
        if not (0 < number <= 2.0**63 and number >= least):
            raise self.fail(key, f"a number from {least:g} up" if least else "a number above 0")
        return float(number)

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

    Absent keys: num_key_value_heads is the number of heads (Mistral: 8), head_dim D / H,
    rope_theta 10000, tie_word_embeddings false, sliding_window none (Mistral: 4096).
    """
    if not isinstance(raw, dict):
        raise NmrefError(Code.T_CONFIG, where, "not a JSON object", "a JSON object")
    reader = _Reader(raw, where)
    mistral = _model_type(reader) == "mistral"
    _check_plain(reader)
    width, heads = reader.integer("hidden_size"), reader.integer("num_attention_heads")
    kv_heads = _MISTRAL_KV_HEADS if mistral and "num_key_value_heads" not in raw else heads
    head_dim = _head_dim(reader, width, heads)
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=reader.integer("intermediate_size"),
        num_hidden_layers=reader.integer("num_hidden_layers", top=_MAX_LAYERS),
        num_attention_heads=heads,
        num_key_value_heads=reader.integer("num_key_value_heads", default=kv_heads),
        head_dim=head_dim,
        vocab_size=reader.integer("vocab_size"),
        max_position_embeddings=reader.integer("max_position_embeddings"),
        rms_norm_eps=reader.number("rms_norm_eps"),
        rope=_rope(reader, head_dim),
        sliding_window=_sliding_window(reader, mistral),
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


def _model_type(reader: _Reader) -> str:
    """A key of _ARCHITECTURES; `model_type` and `architectures`, where both are there, agree."""
    kind, names = reader.raw.get("model_type"), reader.raw.get("architectures")
    if kind is None and names is None:
        raise reader.fail("model_type", " or ".join(map(json.dumps, _ARCHITECTURES)))
    for known, name in _ARCHITECTURES.items():
        if kind in (None, known) and names in (None, [name]):
            return known
    if kind is None or kind in [*_ARCHITECTURES]:  # a list: `kind` may be of any type
        want = [[name] for known, name in _ARCHITECTURES.items() if kind in (None, known)]
        raise _unknown(reader, "architectures", *want)
    raise _unknown(reader, "model_type", *_ARCHITECTURES)


def _unknown(reader: _Reader, key: str, *want: object) -> NmrefError:
    got = f"unknown architecture, {key} {json.dumps(reader.raw[key])[:80]}"
    return NmrefError(Code.T_CONFIG, reader.where, got, " or ".join(map(json.dumps, want)))


def _check_plain(reader: _Reader) -> None:
    """Refuse every model whose forward is not the plain LLaMA one."""
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


def _sliding_window(reader: _Reader, mistral: bool) -> int | None:
    """Mistral's window.  transformers' LLaMA ignores the key, so a number there is a mistake."""
    if not mistral:
        if reader.raw.get("sliding_window") is not None:
            raise reader.fail("sliding_window", 'null, or model_type "mistral"')
        return None
    if "sliding_window" not in reader.raw:
        return _MISTRAL_WINDOW
    return None if reader.raw["sliding_window"] is None else reader.integer("sliding_window")


def _rope(reader: _Reader, head_dim: int) -> Rope:
    """From rope_theta and `rope_scaling` (older) or `rope_parameters` (newer), in either place.

    Where both are there, transformers takes `rope_scaling`, unless it is null or empty; a
    rope_theta inside goes before one outside.
    """
    key = "rope_scaling" if reader.raw.get("rope_scaling") else "rope_parameters"
    raw = {} if reader.raw.get(key) is None else reader.raw[key]
    if not isinstance(raw, dict):
        raise reader.fail(key, "an object")
    inner = _Reader(raw, f"{reader.where} {key}")
    for place in (reader, inner):
        if place.raw.get("partial_rotary_factor") not in (None, 1):
            raise place.fail("partial_rotary_factor", "1: RoPE over the whole head")
    outer_theta = reader.number("rope_theta", default=10000.0, least=1.0)
    theta = inner.number("rope_theta", default=outer_theta, least=1.0)
    name = "rope_type" if raw.get("rope_type") is not None else "type"
    kind = raw.get(name)
    if kind is not None and kind not in _ROPE_TYPES:
        raise inner.fail(name, " or ".join(map(json.dumps, _ROPE_TYPES)))
    return Rope(theta, head_dim, _llama3(reader, inner) if kind == "llama3" else None)


def _llama3(reader: _Reader, inner: _Reader) -> Llama3Scaling:
    """The four numbers of rope_type "llama3" (SPEC 8.22).

    The original length stands outside (which has priority) or inside; transformers falls back to
    max_position_embeddings.
    """
    length = "original_max_position_embeddings"
    scaling = Llama3Scaling(
        factor=inner.number("factor"),
        low_freq_factor=inner.number("low_freq_factor"),
        high_freq_factor=inner.number("high_freq_factor"),
        original_max_position_embeddings=(
            reader.integer(length)
            if reader.raw.get(length) is not None
            else inner.integer(length, default=reader.integer("max_position_embeddings"))
        ),
    )
    if not scaling.low_freq_factor < scaling.high_freq_factor:
        raise inner.fail("high_freq_factor", f"one above low_freq_factor {scaling.low_freq_factor}")
    return scaling


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
