"""The forward of a LLaMA model, its taps and the digest of a trace (SPEC 8.29 to 8.37)."""

import hashlib
import math
from collections.abc import Iterable
from typing import Any

from .angles import Scaling, rope_numbers, rope_tables
from .dots import Matrices, Row, Weight, apply, dot, matrices, nonzero, whole
from .floats import add32, canonical_bits, ieee_divide, ieee_root, mul32, rn32, value
from .functions import rms_norm_numbers, silu_number, softmax_numbers
from .numbers import element_bytes
from .profiles import Profile, parse_profile
from .strictjson import compact

Config = dict[str, Any]
"""The members of a config.json."""
Tensors = dict[str, Weight]
Taps = dict[str, tuple[list[int], list[int]]]
"""Shape and F32 bits, flat, by name."""
Vector = list[float]


def forward(config: Config, tensors: Tensors, tokens: list[int], profile: str = "f64.seq") -> Taps:
    """All taps (SPEC 8.36) of the tokens at positions 0, 1, ..., canonical (8.4)."""
    parsed = parse_profile(profile)
    if parsed.kind == "i32":
        raise ValueError("a forward has no i32 dots")
    return Forward(config, tensors, parsed).run(tokens)


def trace_digest(taps: Taps) -> str:
    """SPEC 8.37."""
    total = hashlib.sha256()
    for name in sorted(taps):
        shape, bits = taps[name]
        data = hashlib.sha256(element_bytes(bits, "F32")).hexdigest()
        total.update(f"{data} F32 {compact([*shape])} {name}\n".encode("ascii"))
    return total.hexdigest()


class Forward:
    """One forward: all positions of a layer, then the next layer."""

    def __init__(self, config: Config, tensors: Tensors, profile: Profile) -> None:
        """Take the sizes out of the configuration."""
        self.config = config
        self.tensors = tensors
        self.profile = profile
        self.heads = config["num_attention_heads"]
        self.groups = config["num_key_value_heads"]
        self.size = config["head_dim"]
        self.taps: Taps = {}

    def run(self, tokens: list[int]) -> Taps:
        """SPEC 8.31 to 8.34."""
        xs = self.embed(tokens)
        for layer in range(self.config["num_hidden_layers"]):
            xs = self.block(layer, xs)
        normed = self.tap("norm", self.norm("model.norm.weight", xs))
        tied = self.config["tie_word_embeddings"]
        head = "model.embed_tokens.weight" if tied else "lm_head.weight"
        self.tap("logits", self.linear(head, normed))
        return self.taps

    def tap(self, name: str, rows: list[Vector]) -> list[Vector]:
        """Keep rows [T, n] under a name, and give them back."""
        bits = [canonical_bits(number) for row in rows for number in row]
        self.taps[name] = ([len(rows), len(rows[0])], bits)
        return rows

    def tap_heads(self, name: str, heads: list[list[Vector]]) -> None:
        """Keep [H, T, S] under a name."""
        bits = [canonical_bits(number) for rows in heads for row in rows for number in row]
        self.taps[name] = ([len(heads), len(heads[0]), len(heads[0][0])], bits)

    def embed(self, tokens: list[int]) -> list[Vector]:
        """SPEC 8.31."""
        dtype, rows = whole(self.tensors["model.embed_tokens.weight"])
        return self.tap("embed", [[value(dtype, bits) for bits in rows[t]] for t in tokens])

    def norm(self, name: str, xs: list[Vector]) -> list[Vector]:
        """RMSNorm of every position."""
        dtype, rows = whole(self.tensors[name])
        gains = [value(dtype, bits) for bits in rows[0]]
        return [rms_norm_numbers(x, gains, self.config["rms_norm_eps"]) for x in xs]

    def linear(self, name: str, xs: list[Vector]) -> list[Vector]:
        """linear(x, W) of every position."""
        found: Matrices = matrices(self.profile, self.tensors[name])
        return [apply(self.profile, found, x) for x in xs]

    def block(self, layer: int, xs: list[Vector]) -> list[Vector]:
        """SPEC 8.32."""
        weights, taps = f"model.layers.{layer}", f"layers.{layer}"

        def linear(name: str, tap: str, xs: list[Vector]) -> list[Vector]:
            return self.tap(f"{taps}.{tap}", self.linear(f"{weights}.{name}_proj.weight", xs))

        normed = self.tap(f"{taps}.attn_norm", self.norm(f"{weights}.input_layernorm.weight", xs))
        q = linear("self_attn.q", "q", normed)
        k = linear("self_attn.k", "k", normed)
        v = linear("self_attn.v", "v", normed)
        a = self.attention(taps, q, k, v)
        o = linear("self_attn.o", "o", a)
        xs = self.tap(f"{taps}.attn_residual", each(add32, xs, o))
        normed = self.norm(f"{weights}.post_attention_layernorm.weight", xs)
        normed = self.tap(f"{taps}.mlp_norm", normed)
        g = linear("mlp.gate", "gate", normed)
        u = linear("mlp.up", "up", normed)
        h = self.tap(f"{taps}.activation", each(lambda g, u: mul32(silu_number(g), u), g, u))
        down = linear("mlp.down", "down", h)
        return self.tap(f"{taps}.residual", each(add32, xs, down))

    def attention(
        self, taps: str, q: list[Vector], k: list[Vector], v: list[Vector]
    ) -> list[Vector]:
        """SPEC 8.33, head after head."""
        q = self.tap(f"{taps}.q_rope", self.turn(q))
        k = self.tap(f"{taps}.k_rope", self.turn(k))
        scores, probs, heads = [], [], []
        for h in range(self.heads):
            g = h // (self.heads // self.groups)
            queries, keys, values = self.head(q, h), self.head(k, g), self.head(v, g)
            scores.append([self.scores(t, query, keys) for t, query in enumerate(queries)])
            probs.append([self.probs(t, row) for t, row in enumerate(scores[h])])
            heads.append([self.mix(t, row, values) for t, row in enumerate(probs[h])])
        self.tap_heads(f"{taps}.scores", scores)
        self.tap_heads(f"{taps}.probs", probs)
        joined = [[a for head in heads for a in head[t]] for t in range(len(q))]
        return self.tap(f"{taps}.attention", joined)

    def head(self, rows: list[Vector], h: int) -> list[Vector]:
        """Elements [hd, hd + d) of every row."""
        return [row[h * self.size : (h + 1) * self.size] for row in rows]

    def allowed(self, t: int) -> range:
        """Positions s that position t sees (SPEC 8.30)."""
        window = self.config.get("sliding_window")
        return range(0 if window is None else max(0, t - window + 1), t + 1)

    def scores(self, t: int, query: Vector, keys: list[Vector]) -> Vector:
        """Scores of one position and head; -Inf where s is not allowed."""
        scale = rn32(ieee_divide(1.0, ieee_root(float(self.size))))
        row = [-math.inf] * len(keys)
        for s in self.allowed(t):
            row[s] = mul32(self.product(enumerate(keys[s]), query), scale)
        return row

    def probs(self, t: int, scores: Vector) -> Vector:
        """Softmax over the allowed positions; +0 elsewhere."""
        row = [0.0] * len(scores)
        seen = self.allowed(t)
        for s, prob in zip(seen, softmax_numbers([scores[s] for s in seen]), strict=True):
            row[s] = prob
        return row

    def mix(self, t: int, probs: Vector, values: list[Vector]) -> Vector:
        """One head of a: for every element j a dot over the allowed positions."""
        seen = self.allowed(t)
        return [self.product(((s, values[s][j]) for s in seen), probs) for j in range(self.size)]

    def product(self, row: Iterable[tuple[int, float]], x: Vector) -> float:
        """Dot of a matrix row that was never sparse, as (column, value), and x (SPEC 8.3)."""
        found: Row = nonzero((c, c, number) for c, number in row)
        total = dot(self.profile, found, x)
        return add32(total, dot(self.profile, [], x)) if self.profile.split else total

    def turn(self, rows: list[Vector]) -> list[Vector]:
        """RoPE of every head of row p at position p."""
        cos, sin = rope_tables(
            self.config["rope_theta"], self.size, 0, len(rows), scaling_of(self.config)
        )
        turned = []
        for p, row in enumerate(rows):
            c, s = [value("F32", b) for b in cos[p]], [value("F32", b) for b in sin[p]]
            heads = self.heads_of(row)
            turned.append([y for head in heads for y in rope_numbers(head, c, s)])
        return turned

    def heads_of(self, row: Vector) -> list[Vector]:
        """Pieces of d elements."""
        return [row[at : at + self.size] for at in range(0, len(row), self.size)]


def each(operation: Any, a: list[Vector], b: list[Vector]) -> list[Vector]:
    """Apply an operation to two elements at a time."""
    return [
        [operation(x, y) for x, y in zip(row, other, strict=True)]
        for row, other in zip(a, b, strict=True)
    ]


def scaling_of(config: Config) -> Scaling | None:
    """Rope scaling of a configuration: none, or rope_type llama3 (SPEC 8.22)."""
    found = config.get("rope_scaling")
    if found is None or found["rope_type"] == "default":
        return None
    if found["rope_type"] != "llama3":
        raise ValueError(f"rope_type {found['rope_type']}")
    return (
        found["factor"],
        found["low_freq_factor"],
        found["high_freq_factor"],
        found["original_max_position_embeddings"],
    )
