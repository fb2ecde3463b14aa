"""Broken forwards, functions and readers of shards: the naive author with one function replaced.

More of the kind of vector_mutants.py: flag -> what is broken -> the author.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from conformance import author as naive_author
from conformance import naive
from conformance.author import Naive
from conformance.naive import angles, functions, llama
from conformance.naive.floats import add32, mul32, rn32, value
from tests.conformance.vector_mutants import Json, Patch, Patched, fresh, patched

Rows = list[list[float]]

Forward = llama.Forward
allowed, scores, probs, mix, head, turn, norm, linear, attention, run = (
    *(Forward.allowed, Forward.scores, Forward.probs, Forward.mix, Forward.head, Forward.turn),
    *(Forward.norm, Forward.linear, Forward.attention, Forward.run),
)
frequencies = angles.frequencies.__wrapped__


def forward(name: str, method: Callable[..., Any]) -> Patched:
    return Patched((Forward, name, method))


# -- attention


def every_position(self: Any, t: int) -> range:
    return range(self.count)


def counting(self: Any, tokens: list[int]) -> Any:
    self.count = len(tokens)
    return run(self, tokens)


def seen(first: Callable[[int, int], int], future: int = 0) -> Patched:
    """Positions from `first(t, window)`."""

    def positions(self: Any, t: int) -> range:
        window = self.config.get("sliding_window") or 1 << 30
        begin = max(0, first(t, window))
        return range(begin, max(begin + 1, t + 1 - future))

    return forward("allowed", positions)


def all_but_the_first(self: Any, t: int) -> range:
    return range(min(t, 1), t + 1)


def scaled_by(scale: Callable[[int], float]) -> Patched:
    """Scores times another number."""

    def other(self: Any, t: int, query: list[float], keys: Rows) -> list[float]:
        row = [-math.inf] * len(keys)
        for s in self.allowed(t):
            row[s] = mul32(self.product(enumerate(keys[s]), query), scale(self.size))
        return row

    return forward("scores", other)


def query_scaled(self: Any, t: int, query: list[float], keys: Rows) -> list[float]:
    scale = rn32(1.0 / math.sqrt(self.size))
    row = [-math.inf] * len(keys)
    for s in self.allowed(t):
        row[s] = self.product(enumerate(keys[s]), [mul32(q, scale) for q in query])
    return row


def over_masked(self: Any, t: int, found: list[float]) -> list[float]:
    return functions.softmax_numbers([0.0 if s == -math.inf else s for s in found])


def masked_after(self: Any, t: int, found: list[float]) -> list[float]:
    every = functions.softmax_numbers([0.0 if s == -math.inf else s for s in found])
    return [p if s in self.allowed(t) else 0.0 for s, p in enumerate(every)]


def row_after_masked(self: Any, t: int, found: list[float]) -> list[float]:
    """Masked scores are -1 before the softmax: too small a penalty."""
    return functions.softmax_numbers([-1.0 if s == -math.inf else s for s in found])


def value_heads(self: Any, rows: Rows, h: int) -> Rows:
    return head(self, rows, 0 if len(rows[0]) != self.heads * self.size else h)


def transposed(self: Any, rows: Rows, h: int) -> Rows:
    count = len(rows[0]) // self.size
    return [row[h::count] for row in rows]


def late_values(self: Any, t: int, found: list[float], values: Rows) -> list[float]:
    return mix(self, t, found, [values[0], *values[:-1]])


def late_keys(self: Any, t: int, query: list[float], keys: Rows) -> list[float]:
    return scores(self, t, query, [keys[0], *keys[:-1]])


def ring(self: Any, t: int, query: list[float], keys: Rows) -> list[float]:
    """A cache one slot too short: the last key lies where the first one was."""
    return scores(self, t, query, [keys[-1], *keys[1:]])


def oldest_value(self: Any, t: int, found: list[float], values: Rows) -> list[float]:
    return mix(self, t, found, [*values[:-1], values[0]])


def turned_from(queries: int, keys: int) -> Patched:
    """Positions counted from elsewhere, or -1: not turned."""

    def other(self: Any, rows: Rows) -> Rows:
        start = queries if len(rows[0]) == self.heads * self.size else keys
        if start < 0:
            return rows
        return turn(self, [rows[0]] * start + rows)[start:]

    return forward("turn", other)


def one_position(self: Any, rows: Rows) -> Rows:
    return [row for one in rows for row in turn(self, [one])]


def values_turned(self: Any, taps: str, q: Rows, k: Rows, v: Rows) -> Rows:
    return attention(self, taps, q, k, turn(self, v))


# -- the rest of a layer


def gain_lost(self: Any, name: str, xs: Rows) -> Rows:
    return [functions.rms_norm_numbers(x, [1.0] * len(x), self.config["rms_norm_eps"]) for x in xs]


def gain_plus_one(self: Any, name: str, xs: Rows) -> Rows:
    dtype, rows = llama.whole(self.tensors[name])
    gains = [add32(1.0, value(dtype, bits)) for bits in rows[0]]
    return [functions.rms_norm_numbers(x, gains, self.config["rms_norm_eps"]) for x in xs]


def no_last_norm(self: Any, name: str, xs: Rows) -> Rows:
    return xs if name == "model.norm.weight" else norm(self, name, xs)


def first_norm(self: Any, name: str, xs: Rows) -> Rows:
    return norm(self, name.replace("post_attention", "input"), xs)


def swapped(self: Any, name: str, xs: Rows) -> Rows:
    other = {"gate_proj": "up_proj", "up_proj": "gate_proj"}
    found = next((key for key in other if key in name), None)
    return linear(self, name.replace(found, other[found]) if found else name, xs)


def untied(self: Any, name: str, xs: Rows) -> Rows:
    if name != "model.embed_tokens.weight":
        return linear(self, name, xs)
    return [[-y for y in row] for row in linear(self, name, xs)]


def other_head(self: Any, name: str, xs: Rows) -> Rows:
    """The rows of the embedding in the order of another matrix."""
    found = linear(self, name, xs)
    return [row[::-1] for row in found] if name == "model.embed_tokens.weight" else found


def no_silu(x: float) -> float:
    return x


def relu(x: float) -> float:
    return max(x, 0.0)


# -- functions


def rms_by_count(count: Callable[[int], int]) -> Patched:
    def rms_norm(xs: list[float], gains: list[float], eps: float) -> list[float]:
        acc = 0.0
        for x in xs:
            acc += x * x
        inside = math.sqrt(acc / count(len(xs)) + eps)
        s = rn32(functions.ieee_divide(1.0, inside))
        return [mul32(mul32(x, s), g) for x, g in zip(xs, gains, strict=True)]

    return Patched((functions, "rms_norm_numbers", rms_norm), (llama, "rms_norm_numbers", rms_norm))


def theta_by(make: Callable[[float], float]) -> Patched:
    def other(theta: Any, d: int, scaling: Any, bits: int) -> Any:
        return frequencies(make(float(theta)), d, scaling, bits)

    return Patched((angles, "frequencies", lru_cache(maxsize=64)(other)))


def llama3_by(change: Callable[[Any], Any]) -> Patched:
    """Other numbers of the scaling."""
    old = angles.scale
    return Patched(fresh(), (angles, "scale", lambda f, s, bits: old(f, change(s), bits)))


# -- shards


class OpensPaths(Naive):
    """Goes where the index points."""

    def read_model(self, given: Json) -> Json:
        plain = {name.rpartition("/")[2]: data for name, data in given["files"].items()}
        index = bytes.fromhex(given["files"][naive_author.INDEX]).decode("ascii")
        for path in ("below/", "../", "/", "below\\\\", "\\u0000"):
            index = index.replace(f'"{path}model', '"model').replace(f'{path}"', '"')
        files = {name.rpartition("\\")[2]: data for name, data in plain.items()}
        return super().read_model(
            {"files": {**files, naive_author.INDEX: index.encode("ascii").hex()}}
        )


class Trusting(Naive):
    """Looks at no file that the index does not need, and compares nothing."""

    def read_model(self, given: Json) -> Json:
        files = {n: d for n, d in given["files"].items() if n != naive_author.INDEX}
        tensors: Json = {}
        for data in files.values():
            tensors |= self.read({"file": data})["tensors"]
        return {"tensors": tensors}


class FirstOnly(Naive):
    """One file of the model."""

    def read_model(self, given: Json) -> Json:
        homes = naive_author.weight_map(bytes.fromhex(given["files"][naive_author.INDEX]))
        first = min(homes.values())
        return self.read({"file": given["files"][first]})


class Gathers(Naive):
    """Puts the parts of a weight together from all files."""

    def read_model(self, given: Json) -> Json:
        try:
            return super().read_model(given)
        except naive.Fault as fault:
            if fault.code not in ("E_MISSING", "E_UNEXPECTED"):
                raise
        return {"tensors": {}}


class NoDigest(Naive):
    """Files of a model are read without their digests."""

    def read_model(self, given: Json) -> Json:
        container = naive.container
        kept: list[Patch] = [(container, "digest", lambda tensors, s: s["content_sha256"])]
        with patched(kept):
            return super().read_model(given)


class DigestFirst(Naive):
    """Refuses a wrong digest before it looks at anything behind the metadata."""

    def read(self, given: Json) -> Json:
        container = naive.container
        tensors, pairs = container.read_safetensors(bytes.fromhex(given["file"]))
        if pairs is not None and list(pairs) == ["nmref"]:
            said = container.read_metadata(pairs["nmref"])
            if naive.digest(tensors, said) != said["content_sha256"]:
                raise naive.Fault("E_DIGEST", "file")
        return super().read(given)


class DataFirst(Naive):
    """Looks at the data of a weight as soon as its parts are there."""

    def read(self, given: Json) -> Json:
        container, old = naive.container, naive.container.check_parts

        def check_parts(name: str, spec: Any, parts: Any) -> None:
            old(name, spec, parts)
            container.read_slots(name, spec, parts)

        early: list[Patch] = [(container, "check_parts", check_parts)]
        with patched(early):
            return super().read(given)


class NeedsTensors(Naive):
    def read(self, given: Json) -> Json:
        found = super().read(given)
        if not found["tensors"]:
            raise naive.Fault("E_META", "no tensors")
        return found


MORE: dict[str, dict[str, Any]] = {
    "attention-not-causal": {
        "every position sees all positions": Patched(
            (Forward, "run", counting), (Forward, "allowed", every_position)
        ),
        "a position sees itself alone": forward("allowed", lambda self, t: range(t, t + 1)),
    },
    "attention-mask-off-by-one": {
        "a position sees the next": forward(
            "allowed", lambda self, t: range(min(t + 2, getattr(self, "count", 4)))
        ),
        "position 0 masked for the others": forward("allowed", all_but_the_first),
    },
    "window-off-by-one": {
        "a window one too long": seen(lambda t, window: t - window),
        "a window one too short": seen(lambda t, window: t - window + 2),
    },
    "window-ignored": {"sliding_window ignored": forward("allowed", lambda self, t: range(t + 1))},
    "attention-scale-missing": {
        "scores not scaled": scaled_by(lambda d: 1.0),
        "scores times 1 / d": scaled_by(lambda d: rn32(1.0 / d)),
        "the query scaled, not the scores": forward("scores", query_scaled),
        "1 / sqrt(d) of d + 2": scaled_by(lambda d: rn32(1.0 / math.sqrt(d + 2))),
    },
    "softmax-over-masked": {
        "masked scores are 0 in the softmax": forward("probs", over_masked),
        "softmax over all, masked afterwards": forward("probs", masked_after),
        "masked scores are -1 in the softmax": forward("probs", row_after_masked),
    },
    "kv-heads-mixed": {
        "every query head reads key/value head 0": forward("head", value_heads),
        "heads interleaved in a row": forward("head", transposed),
    },
    "kv-position-wrong": {
        "values one position late": forward("mix", late_values),
        "keys one position late": forward("scores", late_keys),
        "the last key written over the first": forward("scores", ring),
        "the last value is the first one": forward("mix", oldest_value),
        "keys turned as if one position later": turned_from(0, 1),
        "queries turned as if one position later": turned_from(1, 0),
        "every token turned at position 0": forward("turn", one_position),
    },
    "values-turned": {
        "values turned too": forward("attention", values_turned),
        "keys not turned": turned_from(0, -1),
        "queries not turned": turned_from(-1, 0),
    },
    "norm-misplaced": {
        "gain of RMSNorm ignored": forward("norm", gain_lost),
        "gain of RMSNorm plus 1": forward("norm", gain_plus_one),
        "no normalisation before the head": forward("norm", no_last_norm),
        "the first normalisation's gain for the second": forward("norm", first_norm),
    },
    "gate-and-up-swapped": {
        "gate and up exchanged": forward("linear", swapped),
        "no silu": Patched((llama, "silu_number", no_silu)),
        "max(x, 0) for silu": Patched((llama, "silu_number", relu)),
    },
    "head-tied-wrongly": {
        "logits of the tied head in reverse order": forward("linear", other_head),
        "signs of the tied head": forward("linear", untied),
    },
    "rms-other-count": {
        "mean of squares over n - 1": rms_by_count(lambda n: max(n - 1, 1)),
        "sum of squares, not their mean": rms_by_count(lambda n: 1),
        "mean over a power of two": rms_by_count(lambda n: 1 << (n - 1).bit_length()),
    },
    "rope-other-theta": {
        "theta is 10000": theta_by(lambda theta: 10000.0),
        "theta cut to an integer": theta_by(lambda theta: float(int(theta))),
    },
    "rope-llama3-ignored": {
        "factor of llama3 for all frequencies": llama3_by(lambda s: (s[0], 1e9, 2e9, s[3])),
        "low and high factors one higher": llama3_by(lambda s: (s[0], s[1] + 1, s[2] + 1, s[3])),
        "original length of another model": llama3_by(lambda s: (*s[:3], 2 * s[3])),
    },
    "order-of-checks": {
        "digest checked first": DigestFirst(),
        "data of a weight checked before the parts of the next": DataFirst(),
    },
    "empty-file-refused": {"a file without tensors refused": NeedsTensors()},
    "shard-path-opened": {"paths of an index followed": OpensPaths()},
    "shard-index-unchecked": {
        "index not compared with the files": Trusting(),
        "only the first file read": FirstOnly(),
    },
    "weight-in-two-files": {"a weight of several files accepted": Gathers()},
    "digest-unchecked": {"digests of shards not checked": NoDigest()},
}
"""Flag -> what is broken -> the author."""
