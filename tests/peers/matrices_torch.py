"""What to compare on, random matrices and a real model's first block, and how to compare."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from nmref.model.checkpoint import open_checkpoint  # noqa: E402
from tests.peers import block_torch, pruning_torch  # noqa: E402


@dataclass(frozen=True)
class Case:
    """A weight [R, K] and what its inputs were, [T, K] float32 each."""

    weight: np.ndarray
    samples: list[np.ndarray]

    @property
    def w(self):
        return torch.from_numpy(self.weight)

    @property
    def xs(self):
        return [torch.from_numpy(x) for x in self.samples]

    @property
    def norm(self):
        return pruning_torch.column_norm(self.xs)

    @property
    def h(self):
        return pruning_torch.hessian(self.xs)


def random_case(rows, columns, seed):
    """Heavy-tailed weights; inputs that are correlated and of different size."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_t(5, (rows, columns)).astype(np.float32)
    mix = rng.standard_normal((columns, columns)) * 0.3 / columns**0.5 + np.eye(columns)
    size = np.exp(rng.standard_normal(columns) * 0.7)
    samples = [
        (rng.standard_normal((tokens, columns)) @ mix * size).astype(np.float32)
        for tokens in (90, 120, 100)
    ]
    return Case(weight, samples)


@dataclass(frozen=True)
class Block:
    """The first block of a real model, with random tokens going in."""

    config: object
    weights: dict[str, np.ndarray]
    samples: list[np.ndarray]

    @property
    def tensors(self):
        """Under the witness's names."""
        return {n: torch.from_numpy(self.weights[f"model.layers.0.{n}"]) for n in block_torch.NAMES}

    @property
    def shape(self):
        return block_torch.shape_of(self.config)

    @property
    def xs(self):
        return [torch.from_numpy(x) for x in self.samples]

    def case(self, name):
        """Some rows of a linear, with the inputs it gets."""
        inputs, _ = block_torch.linear_inputs(self.tensors, self.shape, self.xs)
        weight = np.ascontiguousarray(self.weights[f"model.layers.0.{name}"][:64])
        return Case(weight, [x.numpy() for x in inputs[name]])


def real_block(folder, count, length):
    opened, rng = open_checkpoint(folder), np.random.default_rng(0)
    dense = opened.weights()
    weights = {
        name: np.array(dense[name], dtype=np.float32)
        for name in (f"model.layers.0.{n}" for n in block_torch.NAMES)
    }
    embedding = dense["model.embed_tokens.weight"]
    tokens = rng.integers(0, opened.config.V, (count, length))
    samples = [np.array(embedding[ids], dtype=np.float32) for ids in tokens]
    return Block(opened.config, weights, samples)


def blocks_that(flags, block):
    return counts(flags, block) > 0


def counts(flags, block):
    """How many are true in every block of a row; [R, blocks]."""
    padded = torch.nn.functional.pad(flags, (0, -flags.shape[1] % block))
    return padded.reshape(len(flags), -1, block).sum(2)


def close_update(got, want, tolerance=2e-5):
    """Every weight to a part of itself and of its row's root mean square."""
    got = torch.from_numpy(got).double()
    size = want.abs() + want.square().mean(1, keepdim=True).sqrt()
    error = float(((got - want).abs() / size).max())
    assert error < tolerance, error


def rows_alike(got, want, gaps, block, tied=1e-4):
    """Rows whose masks are equal; in the others the first block that differs must be tied.

    What comes after a choice depends on it, but rows do not depend on each other.
    """
    differ = blocks_that(got != want, block)
    odd = differ.any(1).nonzero()[:, 0]
    for row in odd.tolist():
        first = int(differ[row].nonzero()[0, 0])
        assert gaps[row, first] < tied, (row, first, float(gaps[row, first]))
    return ~differ.any(1)
