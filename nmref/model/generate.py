"""Prompt ids -> one new id after the other, with a KV cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nmref.errors import Code, NmrefError
from nmref.linear import FAST
from nmref.model.attention import KVCache
from nmref.model.config import LlamaConfig
from nmref.model.llama import Weights, check_tokens, head, hidden
from nmref.model.sampling import sample
from nmref.numerics import Ops, SplitMix64


def generate(
    weights: Weights,
    config: LlamaConfig,
    prompt: Sequence[int],
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    ops: Ops = FAST,
) -> Iterator[int]:
    """Yield up to `max_new_tokens` ids; ends before an end-of-text id and where the context ends.

    Temperature 0 is greedy; with golden `ops` its ids are the same on every machine.
    Raises T_ARGUMENT at once: an empty prompt, one longer than the context, an id outside the
    vocabulary, a negative count, temperature or seed.
    """
    if max_new_tokens < 0:
        raise NmrefError(Code.T_ARGUMENT, "max_new_tokens", str(max_new_tokens), "0 or more")
    if not 0 <= temperature < float("inf"):
        raise NmrefError(Code.T_ARGUMENT, "temperature", str(temperature), "0 or a number above")
    rng = SplitMix64(seed)
    try:
        check_tokens(config, prompt)
    except NmrefError as error:
        raise error.inside("prompt") from None
    return _steps(weights, config, prompt, max_new_tokens, temperature, rng, ops)


def _steps(
    weights: Weights,
    config: LlamaConfig,
    prompt: Sequence[int],
    max_new_tokens: int,
    temperature: float,
    rng: SplitMix64,
    ops: Ops,
) -> Iterator[int]:
    # The last token drawn is never fed back, so the context holds one more than the cache.
    room = config.max_position_embeddings - len(prompt) + 1
    count = min(max_new_tokens, room)
    cache = KVCache(config, len(prompt) + count)
    tokens = prompt
    for _ in range(count):
        x = hidden(weights, config, tokens, cache, ops=ops)  # [T, D]
        token = sample(head(weights, config, x[-1:], ops=ops)[0], temperature, rng)
        if token in config.eos_token_ids:
            return
        yield token
        tokens = [token]
