"""A LLaMA block, its tuning (EBFT) and its gradients once more, by torch's autograd.

Written from Hugging Face's layout of a LLaMA and from what is known of EBFT's program; nothing of
nmref is imported.  `weights` are tensors under the names of `NAMES`; x is [T, D], one sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

torch = pytest.importorskip("torch")
functional = torch.nn.functional

LINEARS = (
    *(f"self_attn.{letter}_proj.weight" for letter in "qkvo"),
    *(f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")),
)
GAINS = ("input_layernorm.weight", "post_attention_layernorm.weight")
NAMES = (*LINEARS, *GAINS)


@dataclass(frozen=True)
class Shape:
    """What a block needs to know beside its weights."""

    heads: int
    groups: int
    head_dim: int
    epsilon: float
    theta: float
    window: int | None = None


def shape_of(c):
    """From a config of nmref's."""
    return Shape(c.H, c.G, c.head_dim, c.rms_norm_eps, c.rope.theta, c.sliding_window)


def rms_norm(x, gain, epsilon):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * gain


def rotated(x, theta):
    """RoPE of x [heads, T, d]; halves are paired, as in Hugging Face's weights."""
    count, dim = x.shape[1:]
    steps = torch.arange(0, dim, 2, dtype=torch.float32) / dim
    angle = torch.outer(torch.arange(count, dtype=torch.float32), theta**-steps)
    cos, sin = (f(torch.cat([angle, angle], 1)).to(x.dtype) for f in (torch.cos, torch.sin))
    left, right = x.chunk(2, -1)
    return x * cos + torch.cat([-right, left], -1) * sin


def block(weights, shape, x, see=None):
    """[T, D] -> [T, D]; see(kind, input) is called with the input of every linear."""

    def linear(name, value):
        if see is not None:
            see(name, value)
        return value @ weights[name].T

    def heads(value):
        return value.reshape(len(value), -1, shape.head_dim).transpose(0, 1)

    q, k, v, o, gate, up, down = LINEARS
    inner = rms_norm(x, weights[GAINS[0]], shape.epsilon)
    query = rotated(heads(linear(q, inner)), shape.theta)
    key, value = rotated(heads(linear(k, inner)), shape.theta), heads(linear(v, inner))
    key, value = (t.repeat_interleave(shape.heads // shape.groups, 0) for t in (key, value))
    score = query @ key.transpose(1, 2) / shape.head_dim**0.5
    age = torch.arange(len(x))[:, None] - torch.arange(len(x))
    hidden = (age < 0) | (age >= (shape.window or len(x)))
    mixed = score.masked_fill(hidden, -float("inf")).softmax(-1) @ value
    x = x + linear(o, mixed.transpose(0, 1).reshape(len(x), -1))
    inner = rms_norm(x, weights[GAINS[1]], shape.epsilon)
    return x + linear(down, functional.silu(linear(gate, inner)) * linear(up, inner))


def linear_inputs(weights, shape, samples):
    """name -> inputs [T, K] of that linear, one a sample, and the outputs of the block."""
    seen = {name: [] for name in LINEARS}
    with torch.no_grad():
        outputs = [block(weights, shape, x, lambda name, a: seen[name].append(a)) for x in samples]
    return seen, outputs


def gradient_norms(weights, shape, samples):
    """name -> root mean square over samples of the gradient of ||block(x)||_2 (Wanda++)."""
    squares = {name: torch.zeros_like(weights[name]) for name in LINEARS}
    for x in samples:
        free = {name: w.clone().requires_grad_() for name, w in weights.items()}
        torch.linalg.vector_norm(block(free, shape, x)).backward()
        for name in LINEARS:
            squares[name] += free[name].grad ** 2 / len(samples)
    return {name: square.sqrt() for name, square in squares.items()}


def tune(weights, free, shape, inputs, targets, how, order):
    """EBFT: (weights, loss of every epoch).  `how` has the fields of a recipe's tuning.

    Student = the block with the mask applied to its weights; loss = mean squared error against
    the dense block's output; AdamW on the seven linears and both gains, linear decay of the rate
    to 0, no warm-up; the true gradients are clipped together.  `free` (name -> mask) is what may
    move; the rest stays as it is (zeros, and salient weights: arXiv 2507.03052, stage 4).
    order(epoch) is the order of the samples.
    """
    trained = [*free, *GAINS] if how.gains else [*free]
    parameters = {name: weights[name].clone().requires_grad_() for name in trained}
    optimizer = torch.optim.AdamW(
        parameters.values(), how.rate, how.betas, how.epsilon, weight_decay=how.decay
    )
    steps = how.epochs * -(-len(inputs) // how.batch)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)

    def student():
        masked = {n: torch.where(free[n], parameters[n], weights[n]) for n in free}
        return {**weights, **parameters, **masked}

    losses = []
    for epoch in range(how.epochs):
        total = 0.0
        for batch in torch.tensor(order(epoch)).split(how.batch):
            now = student()
            errors = [(block(now, shape, inputs[i]) - targets[i]).flatten() for i in batch]
            loss = torch.cat(errors).square().mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters.values(), how.clip)
            optimizer.step()
            rate.step()
            total += float(loss.detach()) * len(batch) / len(inputs)
        losses.append(total)
    return {name: tensor.detach() for name, tensor in student().items()}, losses
