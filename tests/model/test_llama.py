"""The forward against plain Python loops, and the laws of cache, taps and attention."""

import cmath
import math
from dataclasses import replace

import numpy as np
import pytest

import nmref
from nmref.errors import NmrefError
from nmref.linear import FAST
from nmref.model import attention
from nmref.model.attention import KVCache
from nmref.model.config import linear_names
from nmref.model.llama import LINEAR_INPUT, forward, hidden, input_tap
from nmref.numerics import GOLDEN, Golden, plain
from nmref.numerics.rope import Rope

TOKENS = [1, 5, 9, 30, 5, 0, 17]


def naive_forward(weights, config, tokens):
    """LLaMA token by token with lists of Python floats; RoPE as multiplication by e^(i angle)."""
    w = {name: array.astype(np.float64).tolist() for name, array in weights.items()}
    dim, group = config.head_dim, config.H // config.G

    def linear(name, x):
        return [math.fsum(a * b for a, b in zip(row, x, strict=True)) for row in w[name]]

    def norm(name, x):
        rms = math.sqrt(math.fsum(v * v for v in x) / len(x) + config.rms_norm_eps)
        return [v / rms * g for v, g in zip(x, w[name], strict=True)]

    def rotate(head, position):
        half = dim // 2
        turned = [
            complex(head[i], head[i + half])
            * cmath.exp(1j * position * config.rope.theta ** (-2 * i / dim))
            for i in range(half)
        ]
        return [z.real for z in turned] + [z.imag for z in turned]

    def heads(x):
        return [x[i : i + dim] for i in range(0, len(x), dim)]

    past = [([], []) for _ in range(config.num_hidden_layers)]
    out = []
    for position, token in enumerate(tokens):
        x = w["model.embed_tokens.weight"][token]
        for layer, (keys, values) in enumerate(past):
            at = f"model.layers.{layer}"
            n = norm(f"{at}.input_layernorm.weight", x)
            q = heads(linear(f"{at}.self_attn.q_proj.weight", n))
            k = heads(linear(f"{at}.self_attn.k_proj.weight", n))
            keys.append([rotate(head, position) for head in k])
            values.append(heads(linear(f"{at}.self_attn.v_proj.weight", n)))
            mixed = []
            for h, head in enumerate(q):
                query = rotate(head, position)
                odds = [
                    math.exp(
                        math.fsum(map(math.prod, zip(query, key[h // group], strict=True)))
                        / math.sqrt(dim)
                    )
                    for key in keys
                ]
                mixed += [
                    math.fsum(o * v[h // group][i] for o, v in zip(odds, values, strict=True))
                    / math.fsum(odds)
                    for i in range(dim)
                ]
            o = linear(f"{at}.self_attn.o_proj.weight", mixed)
            x = [a + b for a, b in zip(x, o, strict=True)]
            n = norm(f"{at}.post_attention_layernorm.weight", x)
            gate = linear(f"{at}.mlp.gate_proj.weight", n)
            up = linear(f"{at}.mlp.up_proj.weight", n)
            act = [g / (1 + math.exp(-g)) * u for g, u in zip(gate, up, strict=True)]
            down = linear(f"{at}.mlp.down_proj.weight", act)
            x = [a + b for a, b in zip(x, down, strict=True)]
        out.append(linear("lm_head.weight", norm("model.norm.weight", x)))
    return np.array(out)


def test_forward_equals_naive(weights, config):
    logits = forward(weights, config, TOKENS)
    assert logits.shape == (len(TOKENS), config.V)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, naive_forward(weights, config, TOKENS), atol=2e-5)


def test_forward_equals_naive_one_head_per_group(weights, config):
    config = replace(config, num_key_value_heads=4, rope=Rope(100.0, config.head_dim))
    for name in weights:
        if "k_proj" in name or "v_proj" in name:
            weights[name] = np.concatenate([weights[name], -weights[name][::-1]])
    logits = forward(weights, config, TOKENS)
    np.testing.assert_allclose(logits, naive_forward(weights, config, TOKENS), atol=2e-5)


PROFILES = [
    "exact",
    "f64.seq",
    "f32.seq",
    "f32.fma+split",
    "f32.lanes8.mul",
    "tc.L8.F25.rz.rz.col",
    "tc.L16.F23.rne.rne.slot",
]


@pytest.mark.parametrize("cuts", [[1, 2, 3, 4, 5, 6], [4], [1], [6]])
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("window", [None, 1, 3])
def test_golden_cache_equals_prefill_to_the_bit(weights, config, cuts, profile, window):
    config, ops = replace(config, sliding_window=window), Golden(profile)
    cache = KVCache(config)
    parts = [
        forward(weights, config, part, cache, ops=ops) for part in np.split(np.array(TOKENS), cuts)
    ]
    assert cache.length == len(TOKENS)
    whole = forward(weights, config, TOKENS, ops=ops)
    np.testing.assert_array_equal(np.concatenate(parts).view("u4"), whole.view("u4"))


def test_blas_cache_equals_prefill_nearly(weights, config):
    cache = KVCache(config)
    halves = np.split(np.array(TOKENS), [4])
    parts = [forward(weights, config, part, cache, ops=FAST) for part in halves]
    whole = forward(weights, config, TOKENS, ops=FAST)
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)


@pytest.mark.parametrize("profile", PROFILES)
def test_golden_batch_equals_one_by_one_to_the_bit(weights, config, profile):
    config, ops = replace(config, sliding_window=3), Golden(profile, threads=2)
    batch = np.array([TOKENS, TOKENS[::-1], [9] * len(TOKENS)])
    alone = [forward(weights, config, row, ops=ops) for row in batch]
    together = forward(weights, config, batch, ops=ops)
    np.testing.assert_array_equal(together.view("u4"), np.array(alone).view("u4"))
    cache = KVCache(config, batch=3)
    steps = [forward(weights, config, batch[:, [t]], cache, ops=ops) for t in range(len(TOKENS))]
    np.testing.assert_array_equal(np.concatenate(steps, 1).view("u4"), together.view("u4"))


def test_batch_taps_have_an_outer_axis(weights, config):
    seen: dict[str, tuple[int, ...]] = {}
    alone: dict[str, tuple[int, ...]] = {}
    forward(weights, config, TOKENS, tap=lambda name, x: alone.update({name: x.shape}))
    forward(weights, config, [TOKENS] * 2, tap=lambda name, x: seen.update({name: x.shape}))
    assert seen == {name: (2, *shape) for name, shape in alone.items()}


def test_cache_of_another_batch_is_refused(weights, config):
    with pytest.raises(NmrefError, match=r"^T_ARGUMENT tokens: 2 sequences, want the cache's 1$"):
        forward(weights, config, [TOKENS] * 2, KVCache(config))


@pytest.mark.parametrize("ops", [GOLDEN, FAST], ids=["golden", "fast"])
def test_a_window_hides_what_is_older(weights, config, ops):
    """With one layer, a token changes only the logits of the positions that see it."""
    config = replace(config, num_hidden_layers=1, sliding_window=3)
    changed = [TOKENS[0], 8, *TOKENS[2:]]
    before, after = (forward(weights, config, ids, ops=ops) for ids in (TOKENS, changed))
    differs = (before != after).any(axis=1)
    assert differs.tolist() == [False, True, True, True, False, False, False]
    wide = replace(config, sliding_window=len(TOKENS))
    plain = replace(config, sliding_window=None)
    np.testing.assert_array_equal(
        forward(weights, wide, TOKENS, ops=ops), forward(weights, plain, TOKENS, ops=ops)
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_infinite_keys_out_of_sight_change_nothing(weights, config, profile):
    """A position that is not allowed makes no term: not 0 * Inf, in no profile."""
    config, ops = replace(config, num_hidden_layers=1, sliding_window=2), Golden(profile)
    wild = dict(weights)
    wild["model.embed_tokens.weight"] = embedding = weights["model.embed_tokens.weight"].copy()
    embedding[30] = np.inf
    with_inf, without = ([1, 30, 5, 9, 2], [1, 7, 5, 9, 2])
    logits = [forward(wild, config, ids, ops=ops) for ids in (with_inf, without)]
    np.testing.assert_array_equal(logits[0][3:], logits[1][3:])
    np.testing.assert_array_equal(logits[0][:1], logits[1][:1])
    assert np.isnan(logits[0][1]).all()


def test_golden_and_blas_agree_nearly(weights, config):
    golden, blas = (forward(weights, config, TOKENS, ops=ops) for ops in (GOLDEN, FAST))
    np.testing.assert_allclose(golden, blas, atol=1e-5)
    assert (golden != blas).any()


@pytest.mark.parametrize("profile", PROFILES)
def test_twins_and_threads_give_the_same_logits(weights, config, profile):
    want = forward(weights, config, TOKENS, ops=Golden(profile)).view("u4")
    for ops in (Golden(profile, plain), Golden(profile, threads=2)):
        np.testing.assert_array_equal(forward(weights, config, TOKENS, ops=ops).view("u4"), want)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("i32",), "^T_ARGUMENT profile: i32, want a profile of real numbers$"),
        (("f32",), "^T_ARGUMENT profile: f32, want a name of SPEC 8.15"),
        (("exact", plain, 0), "^T_ARGUMENT threads: 0, want 1 or more$"),
    ],
)
def test_golden_refuses(arguments, message):
    with pytest.raises(NmrefError, match=message):
        Golden(*arguments)


def test_forward_is_causal(weights, config):
    first = forward(weights, config, TOKENS)
    changed = forward(weights, config, [*TOKENS[:-1], 3])
    np.testing.assert_array_equal(first[:-1], changed[:-1])
    assert (first[-1] != changed[-1]).any()


def test_forward_tied_head(weights, config):
    tied = replace(config, tie_word_embeddings=True)
    own = {**weights, "lm_head.weight": weights["model.embed_tokens.weight"]}
    np.testing.assert_array_equal(forward(weights, tied, TOKENS), forward(own, config, TOKENS))


def test_forward_gives_rounded_and_sparse_weights_the_same_meaning(weights, config):
    for name in linear_names(config):
        weights[name] = nmref.normalise_zero(
            weights[name] * (np.arange(weights[name].shape[1]) % 2 == 0)
        )
    sparse = {
        name: nmref.encode(w, "8:16") if name in linear_names(config) else w
        for name, w in weights.items()
    }
    for tokens in (TOKENS, TOKENS * 4):
        dense = forward(weights, config, tokens)
        np.testing.assert_allclose(forward(sparse, config, tokens), dense, atol=1e-5)


def test_forward_taps(weights, config):
    cache = KVCache(config)
    forward(weights, config, [1, 2, 3], cache)
    seen = {}

    def tap(name, array):
        assert name not in seen
        assert array.dtype == np.float32
        seen[name] = array.copy()

    logits = forward(weights, config, [4, 5], cache, tap)
    block = {
        "attn_norm": (2, 16),
        "q": (2, 16),
        "k": (2, 8),
        "v": (2, 8),
        "q_rope": (2, 16),
        "k_rope": (2, 8),
        "scores": (4, 2, 5),
        "probs": (4, 2, 5),
        "attention": (2, 16),
        "o": (2, 16),
        "attn_residual": (2, 16),
        "mlp_norm": (2, 16),
        "gate": (2, 24),
        "up": (2, 24),
        "activation": (2, 24),
        "down": (2, 16),
        "residual": (2, 16),
    }
    want = {"embed": (2, 16)}
    for layer in range(2):
        want |= {f"layers.{layer}.{name}": shape for name, shape in block.items()}
    want |= {"norm": (2, 16), "logits": (2, 32)}
    assert [(name, array.shape) for name, array in seen.items()] == list(want.items())
    np.testing.assert_array_equal(seen["logits"], logits)
    probs = seen["layers.0.probs"]
    np.testing.assert_allclose(probs.sum(axis=-1), 1, atol=1e-6)
    assert (probs[:, 0, 4] == 0).all()
    assert (seen["layers.1.scores"][:, 0, 4] == -np.inf).all()


def test_taps_are_the_inputs_of_the_linears(weights, config):
    seen = {}
    forward(weights, config, TOKENS, tap=lambda name, array: seen.update({name: array.copy()}))
    outputs = ["q", "k", "v", "o", "gate", "up", "down"]
    assert list(LINEAR_INPUT) == [
        name.removeprefix("model.layers.0.").removesuffix(".weight")
        for name in linear_names(config)[:7]
    ]
    for i, name in enumerate(linear_names(config)):
        y = nmref.matmul(seen[input_tap(name)], weights[name], "f64.seq")
        np.testing.assert_array_equal(y, seen[f"layers.{i // 7}.{outputs[i % 7]}"])


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("queries", [1, 3])
def test_positions_computed_at_once_change_no_bit(weights, config, window, queries, monkeypatch):
    config = replace(config, sliding_window=window)

    def taps():
        seen = []
        forward(weights, config, TOKENS, tap=lambda name, x: seen.append((name, x.tobytes())))
        return seen

    whole = taps()
    monkeypatch.setattr(attention, "QUERIES", queries)
    assert taps() == whole


def test_a_tap_with_names_gets_those_only(weights, config):
    seen = []

    class Tap:
        names = frozenset({"layers.1.attention", "layers.0.scores", "norm"})

        def __call__(self, name, array):
            seen.append(name)

    forward(weights, config, TOKENS, tap=Tap())
    assert seen == ["layers.0.scores", "layers.1.attention", "norm"]


def test_forward_silu_of_very_negative_numbers_is_zero(weights, config):
    weights["model.layers.0.mlp.gate_proj.weight"] *= np.float32(1e4)
    assert np.isfinite(forward(weights, config, TOKENS)).all()


BAD_TOKENS = [
    ([], r"^T_ARGUMENT tokens: shape \[0\] of float64, want a list of at least one token id$"),
    ([[[1]]], r"^T_ARGUMENT tokens: shape \[1, 1, 1\] of int64"),
    ([1.5], r"^T_ARGUMENT tokens: shape \[1\] of float64"),
    ([1, 32], r"^T_ARGUMENT tokens position 1: id 32, want 0 to 31$"),
    ([-1], r"^T_ARGUMENT tokens position 0: id -1, want 0 to 31$"),
    ([1] * 41, r"^T_ARGUMENT context: 41 positions, want at most 40$"),
]


@pytest.mark.parametrize(("tokens", "text"), BAD_TOKENS)
def test_forward_bad_tokens(weights, config, tokens, text):
    with pytest.raises(NmrefError, match=text):
        forward(weights, config, tokens)


def test_forward_cache_overflow(weights, config):
    cache = KVCache(config, capacity=4)
    hidden(weights, config, [1, 2, 3], cache)
    with pytest.raises(NmrefError, match=r"^T_ARGUMENT context: 5 positions, want at most 4$"):
        hidden(weights, config, [1, 2], cache)
    assert cache.length == 3
    assert KVCache(config, capacity=10**9).capacity == 40


def test_forward_refuses_a_sparse_norm(weights, config):
    weights["model.norm.weight"] = nmref.encode(np.zeros((1, 16), np.float32), "8:16")
    with pytest.raises(NmrefError, match=r"^T_TENSOR embedding or norm: a sparse weight, want"):
        forward(weights, config, TOKENS)
