"""Perplexity against its definition."""

import math

import numpy as np
import pytest

from nmref.errors import NmrefError
from nmref.evaluate import perplexity as module
from nmref.evaluate.perplexity import mean_loss, perplexity, window_losses
from nmref.model.config import parse_config
from nmref.model.tokenizer import Tokenizer

CONFIG = parse_config(
    {
        "model_type": "llama",
        "hidden_size": 4,
        "intermediate_size": 4,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "vocab_size": 8,
        "max_position_embeddings": 16,
        "rms_norm_eps": 1e-5,
    }
)


@pytest.fixture
def bigram(monkeypatch):
    """A model whose logits depend on the present token alone; returns the table [V, V]."""
    table = np.random.default_rng(3).normal(size=(8, 8)).astype(np.float32)
    monkeypatch.setattr(module, "forward", lambda weights, config, ids, ops: table[ids])
    return table


def test_mean_loss_is_the_definition():
    logits = np.random.default_rng(1).normal(scale=30, size=(150, 8)).astype(np.float32)
    targets = np.arange(150) % 8
    want = [
        -row[t] + math.log(math.fsum(math.exp(v) for v in row))
        for row, t in zip(logits.tolist(), targets.tolist(), strict=True)
    ]
    assert mean_loss(logits, targets) == pytest.approx(math.fsum(want) / 150, rel=1e-13)


def test_mean_loss_of_large_logits():
    logits = np.array([[3e38, 0, -3e38], [-3e38, -3e38, -3e38]], dtype=np.float32)
    assert mean_loss(logits, np.array([0, 2])) == pytest.approx(math.log(3) / 2)


def test_perplexity_of_a_uniform_model_is_the_vocabulary(monkeypatch):
    zeros = np.zeros((8, 8), np.float32)
    monkeypatch.setattr(module, "forward", lambda weights, config, ids, ops: zeros[ids])
    assert perplexity({}, CONFIG, [1, 2, 3, 4] * 4, 4) == pytest.approx(8)


def test_window_losses_are_independent_and_skip_the_first_token(bigram):
    ids = np.random.default_rng(2).integers(0, 8, 23)
    losses = window_losses({}, CONFIG, ids, window=5)
    assert len(losses) == 4  # 23 // 5, the rest is dropped
    odds = np.exp(bigram.astype(np.float64))
    log_p = np.log(odds / odds.sum(axis=1, keepdims=True))
    for i, loss in enumerate(losses):
        part = ids[5 * i : 5 * i + 5]
        assert loss == pytest.approx(-np.mean([log_p[part[j], part[j + 1]] for j in range(4)]))
    assert window_losses({}, CONFIG, ids, 5, windows=2) == losses[:2]
    assert perplexity({}, CONFIG, ids, 5) == pytest.approx(math.exp(sum(losses) / 4))


@pytest.mark.parametrize(
    ("count", "window", "windows", "text"),
    [
        (11, 4, 3, "T_TEXT text: 11 tokens, want at least 12: 3 x 4"),
        (3, 4, None, "T_TEXT text: 3 tokens, want at least 4: 1 x 4"),
        (99, 1, 1, "T_ARGUMENT window: 1, want 2 to 16 tokens"),
        (99, 17, 1, "T_ARGUMENT window: 17, want 2 to 16 tokens"),
        (99, 4, 0, "T_ARGUMENT windows: 0, want 1 or more"),
    ],
)
def test_perplexity_errors(bigram, count, window, windows, text):
    with pytest.raises(NmrefError) as caught:
        perplexity({}, CONFIG, [1] * count, window, windows)
    assert str(caught.value) == text


def test_perplexity_progress_goes_to_standard_error(bigram, capsys):
    perplexity({}, CONFIG, [1] * 8, 4, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "perplexity" in err


def test_perplexity_of_stories(shared_data):
    from nmref.model.checkpoint import open_checkpoint

    folder = shared_data / "models" / "stories260k-hf"
    checkpoint, tokenizer = open_checkpoint(folder), Tokenizer.open(folder)
    story = tokenizer.encode("Once upon a time, there was a little girl named Lily. She was happy.")
    story_ppl = perplexity(checkpoint.weights(), checkpoint.config, story, len(story))
    noise_ppl = perplexity(checkpoint.weights(), checkpoint.config, story[::-1], len(story))
    assert 1 < story_ppl < 8 < 100 < noise_ppl
