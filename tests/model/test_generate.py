"""Sampling, generation, and the golden text of a model of 260 thousand parameters."""

import math
from dataclasses import replace

import numpy as np
import pytest

from nmref.errors import NmrefError
from nmref.model.checkpoint import open_checkpoint
from nmref.model.generate import generate
from nmref.model.llama import forward
from nmref.model.sampling import SplitMix64, greedy, sample
from nmref.model.tokenizer import Tokenizer

PROMPT = "Once upon a time, there was a little girl named Lily."
# Greedy continuation, equal in this model's original C program and in transformers.
GOLDEN = (
    " She loved to play outside in the park. One day, she saw a big, red ball."
    " She wanted to play with it, but it was too high."
)


def f32(*values):
    return np.array(values, dtype=np.float32)


def test_splitmix64_published_values():
    # The first outputs of Vigna's splitmix64.c for the seed 1234567.
    rng = SplitMix64(1234567)
    assert [rng.next() for _ in range(5)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_splitmix64_uniform_range():
    rng = SplitMix64(2**64 - 1)
    draws = [rng.uniform() for _ in range(2000)]
    assert all(0 <= u < 1 and (u * 2**53).is_integer() for u in draws)
    assert abs(sum(draws) / 2000 - 0.5) < 0.03


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_splitmix64_bad_seed(seed):
    with pytest.raises(NmrefError, match=rf"^T_ARGUMENT seed: {seed}, want 0 to 2\^64 - 1$"):
        SplitMix64(seed)


def test_greedy_takes_the_lowest_of_equal_ones():
    assert greedy(f32(0, 3, 1, 3)) == 1
    assert greedy(f32(-np.inf, -0.0, 0.0)) == 1


@pytest.mark.parametrize("temperature", [0, 0.7])
def test_sample_refuses_nan(temperature):
    with pytest.raises(NmrefError, match=r"^T_TENSOR logits token 1: NaN, want numbers$"):
        sample(f32(0, np.nan, 1), temperature, SplitMix64(0))


@pytest.mark.parametrize("temperature", [-1, math.inf, math.nan])
def test_sample_bad_temperature(temperature):
    with pytest.raises(NmrefError, match=r"^T_ARGUMENT temperature: .*, want 0 or a number above$"):
        sample(f32(0, 1), temperature, SplitMix64(0))


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_sample_without_a_finite_top(value):
    with pytest.raises(NmrefError, match=r"^T_TENSOR logits: highest is -?inf, want a finite"):
        sample(f32(value, value), 1.0, SplitMix64(0))


def test_sample_frequencies_follow_softmax():
    logits, rng = f32(0, 1, -np.inf, 2), SplitMix64(11)
    counts = np.bincount([sample(logits, 0.5, rng) for _ in range(4000)], minlength=4)
    want = np.exp([0, 2, -np.inf, 4]) / np.exp([0, 2, -np.inf, 4]).sum()
    np.testing.assert_allclose(counts / 4000, want, atol=0.02)
    assert counts[2] == 0


@pytest.mark.parametrize("u", [0.0, 1 - 2.0**-53])
def test_sample_takes_possible_tokens_at_both_ends(u):
    class Fixed(SplitMix64):
        def uniform(self):
            return u

    for logits in (f32(0, 0, 0), f32(-np.inf, 5, -np.inf), np.zeros(1000, np.float32)):
        for temperature in (1e-300, 1.0, 1e300):
            token = sample(logits, temperature, Fixed(0))
            assert np.isfinite(logits[token])


def test_generate_equals_forward_without_cache(weights, config):
    config = replace(config, eos_token_ids=())
    tokens = [1, 7, 3]
    got = list(generate(weights, config, tokens, 8))
    for token in got:
        assert token == greedy(forward(weights, config, tokens)[-1])
        tokens = [*tokens, token]
    assert len(got) == 8


def test_generate_seed_decides(weights, config):
    config = replace(config, eos_token_ids=())
    runs = [list(generate(weights, config, [1], 20, 1.5, seed)) for seed in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]


def test_generate_stops_before_eos_and_at_the_end_of_the_context(weights, config):
    free = replace(config, eos_token_ids=())
    tokens = list(generate(weights, free, [1] * 30, 1000))
    assert len(tokens) == 11  # 40 positions, and the last token needs none
    stop = replace(config, eos_token_ids=(99, tokens[3]))
    assert list(generate(weights, stop, [1] * 30, 1000)) == tokens[: tokens.index(tokens[3])]
    assert list(generate(weights, free, [1], 0)) == []


@pytest.mark.parametrize(
    ("prompt", "options", "text"),
    [
        ([1] * 41, {}, "T_ARGUMENT prompt context: 41 positions, want at most 40"),
        ([], {}, "T_ARGUMENT prompt tokens: shape [0]"),
        ([50], {}, "T_ARGUMENT prompt tokens position 0: id 50, want 0 to 31"),
        ([1], {"max_new_tokens": -1}, "T_ARGUMENT max_new_tokens: -1, want 0 or more"),
        ([1], {"temperature": -1.0}, "T_ARGUMENT temperature: -1.0, want 0 or a number above"),
        ([1], {"seed": -1}, "T_ARGUMENT seed: -1"),
    ],
)
def test_generate_refuses_at_once(weights, config, prompt, options, text):
    with pytest.raises(NmrefError) as caught:
        generate(weights, config, prompt, **{"max_new_tokens": 1} | options)
    assert str(caught.value).startswith(text)


def test_generate_golden_text(shared_data):
    folder = shared_data / "models" / "stories260k-hf"
    checkpoint, tokenizer = open_checkpoint(folder), Tokenizer.open(folder)
    prompt = tokenizer.prompt(PROMPT, checkpoint.config.bos_token_id)
    assert prompt[0] == 1
    tokens = list(generate(checkpoint.weights(), checkpoint.config, prompt, 47))
    text = "".join(tokenizer.stream(tokens, prompt))
    assert text.startswith(GOLDEN)
    assert PROMPT + text == tokenizer.decode([*prompt, *tokens])
