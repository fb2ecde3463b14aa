"""One LLaMA block with its derivatives: forward with a tape, then backward.

The function is that of `llama.block` (SPEC 8.32) on T positions that begin at 0.  Letters as
there: T tokens, D model width, F MLP width, H query heads in G groups of n = H / G, d = head_dim.
A name that begins with d (`dy`, `d_gate`) is the derivative of the loss by what follows.  All
arrays have the dtype of x: float32 to work with, float64 to check the derivatives against finite
differences.  Elementwise steps go a few rows at a time, so that what they read is still in cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from nmref.errors import Code, NmrefError
from nmref.linear.parallel import in_order
from nmref.model.config import LlamaConfig
from nmref.prune.tune.attention import Attended, Real, attend, attend_back

PARTS = (
    "input_layernorm",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "post_attention_layernorm",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
"""The nine tensors of a block, in the order of the forward."""

_ROWS = 32  # of [T, F] at once: three such pieces of F = 1,536 are 0.6 MB


@dataclass(frozen=True)
class Block:
    """The tensors of one block: linears [R, K], gains [D]."""

    attn_gain: Real
    q: Real
    k: Real
    v: Real
    o: Real
    mlp_gain: Real
    gate: Real
    up: Real
    down: Real


@dataclass(frozen=True)
class Tape:
    """What backward needs of forward: 4 D + 2 H d + 2 G d + 3 F numbers a token."""

    x: Real  # [T, D]
    attn_scale: Real  # [T], 1 / rms of x
    attn_norm: Real  # [T, D]
    attended: Attended
    attention: Real  # [T, H*d]
    middle: Real  # [T, D], after attention
    mlp_scale: Real  # [T], 1 / rms of middle
    mlp_norm: Real  # [T, D]
    gate: Real  # [T, F]
    up: Real  # [T, F]
    activation: Real  # [T, F]


def names(layer: int) -> tuple[str, ...]:
    """The full names of PARTS in a layer.

    >>> names(3)[1]
    'model.layers.3.self_attn.q_proj.weight'
    """
    return tuple(f"model.layers.{layer}.{part}.weight" for part in PARTS)


def tensors(weights: Mapping[str, Real], config: LlamaConfig, layer: int, x: Real) -> Block:
    """The block's tensors for an input x [T, D], not copied.

    Raises T_ARGUMENT (x is not float32 or float64 [T, D]) and T_TENSOR (one is missing, or has not
    its shape or the dtype of x).
    """
    if x.ndim != 2 or not len(x) or x.shape[1] != config.D or x.dtype not in (np.float32, float):
        got = f"{x.dtype} {list(x.shape)}"
        raise NmrefError(Code.T_ARGUMENT, "x", got, f"float32 or float64 [T, {config.D}]")
    q, kv, wide, model = config.H * config.head_dim, config.G * config.head_dim, config.F, config.D
    attention = [(model,), (q, model), (kv, model), (kv, model), (model, q)]
    shapes = [*attention, (model,), (wide, model), (wide, model), (model, wide)]
    for name, shape in zip(names(layer), shapes, strict=True):
        tensor = weights.get(name)
        want = f"{x.dtype} {list(shape)}"
        if not isinstance(tensor, np.ndarray):
            got = "none" if tensor is None else f"a {type(tensor).__name__}"
            raise NmrefError(Code.T_TENSOR, name, got, want)
        if tensor.shape != shape or tensor.dtype != x.dtype:
            got = f"{tensor.dtype} {list(tensor.shape)}"
            raise NmrefError(Code.T_TENSOR, name, got, want)
    return Block(*(weights[name] for name in names(layer)))


def forward(
    weights: Mapping[str, Real], config: LlamaConfig, layer: int, x: Real
) -> tuple[Real, Tape]:
    """Input x [T, D] of a block -> its output [T, D] and the tape for `backward`.

    Raises what `tensors` raises.
    """
    w, eps = tensors(weights, config, layer, x), config.rms_norm_eps
    attn_scale, n = _norm(x, w.attn_gain, eps)  # [T], [T, D]
    attention, attended = attend(config, n @ w.q.T, n @ w.k.T, n @ w.v.T)  # [T, H*d]
    middle = attention @ w.o.T  # [T, D]
    middle += x
    mlp_scale, m = _norm(middle, w.mlp_gain, eps)  # [T], [T, D]
    gate, up = m @ w.gate.T, m @ w.up.T  # [T, F]
    activation = _swiglu(gate, up)  # [T, F]
    y = activation @ w.down.T  # [T, D]
    y += middle
    tape = Tape(x, attn_scale, n, attended, attention, middle, mlp_scale, m, gate, up, activation)
    return y, tape


def backward(
    weights: Mapping[str, Real], config: LlamaConfig, layer: int, tape: Tape, dy: Real
) -> tuple[dict[str, Real], Real]:
    """Derivative dy [T, D] by the block's output -> (those by its tensors, by name; dx [T, D]).

    `weights` are those of the forward that made the tape.  Raises what `tensors` raises; T_ARGUMENT
    where dy has not the shape and dtype of the tape's x.
    """
    w = tensors(weights, config, layer, dy)
    if dy.shape != tape.x.shape or dy.dtype != tape.x.dtype:
        got, want = f"{dy.dtype} {list(dy.shape)}", f"{tape.x.dtype} {list(tape.x.shape)}"
        raise NmrefError(Code.T_ARGUMENT, "dy", got, want)
    d_gate, d_up = _swiglu_back(tape, dy @ w.down)  # [T, F]
    d_m = d_gate @ w.gate  # [T, D]
    d_m += d_up @ w.up
    d_middle, d_mlp_gain = _norm_back(tape.middle, tape.mlp_scale, w.mlp_gain, d_m)
    d_middle += dy  # around the MLP
    d_q, d_k, d_v = attend_back(config, tape.attended, tape.attention, d_middle @ w.o)
    d_n = d_q @ w.q  # [T, D]
    d_n += d_k @ w.k
    d_n += d_v @ w.v
    dx, d_attn_gain = _norm_back(tape.x, tape.attn_scale, w.attn_gain, d_n)
    dx += d_middle  # around the attention
    n, m = tape.attn_norm, tape.mlp_norm
    gradients = (
        d_attn_gain,
        d_q.T @ n,
        d_k.T @ n,
        d_v.T @ n,
        d_middle.T @ tape.attention,
        d_mlp_gain,
        d_gate.T @ m,
        d_up.T @ m,
        dy.T @ tape.activation,
    )
    return dict(zip(names(layer), gradients, strict=True)), dx


def _norm(x: Real, gain: Real, eps: float) -> tuple[Real, Real]:
    """y = x s g with s = 1 / sqrt(mean(x^2) + eps); returns s [T] and y [T, D]."""
    scale = 1 / np.sqrt(np.vecdot(x, x) / x.shape[1] + eps).astype(x.dtype)
    y = x * scale[:, None]
    y *= gain
    return scale, y


def _norm_back(x: Real, scale: Real, gain: Real, dy: Real) -> tuple[Real, Real]:
    """dx [T, D] and the derivative by the gain [D]; ds/dx_j = -s^3 x_j / D."""
    d_gain = scale @ (dy * x)
    dx = dy * gain
    pull = np.vecdot(dx, x) * scale**3 / x.shape[1]  # [T]
    dx *= scale[:, None]
    dx -= x * pull[:, None]
    return dx, d_gain


def _pieces(count: int) -> Iterator[slice]:
    return (slice(first, first + _ROWS) for first in range(0, count, _ROWS))


def _sigmoid(x: Real) -> Real:
    """1 / (1 + exp(-x)); exp(-x) = Inf gives the right limit, 0."""
    with np.errstate(over="ignore"):
        y = np.exp(-x)
    y += 1
    return np.divide(1, y, out=y)


def _swiglu(gate: Real, up: Real) -> Real:
    """g sigmoid(g) u, [T, F]."""
    y = np.empty_like(gate)
    for rows in _pieces(len(y)):
        y[rows] = _sigmoid(gate[rows])
        y[rows] *= gate[rows]
        y[rows] *= up[rows]
    return y


def _swiglu_back(tape: Tape, dy: Real) -> tuple[Real, Real]:
    """Derivatives by gate and up [T, F]; with s = sigmoid(g) that of g s is s (1 + g (1 - s)).

    The second is dy itself, overwritten.
    """
    d_gate, d_up = np.empty_like(dy), dy
    for rows in _pieces(len(dy)):
        gate = tape.gate[rows]
        s = _sigmoid(gate)
        slope = 1 - s
        slope *= gate
        slope += 1
        slope *= s
        slope *= tape.up[rows]
        np.multiply(slope, dy[rows], out=d_gate[rows])
        s *= gate
        d_up[rows] *= s
    return d_gate, d_up


def gradient_norms(
    weights: Mapping[str, Real],
    config: LlamaConfig,
    layer: int,
    inputs: Iterable[Real],
    threads: int | None = None,
) -> dict[str, Real]:
    """Name of a linear -> [R, K]: root mean square, over samples, of d ||block(x)||_2 / dW_ij.

    The regional gradient of Wanda++ (arXiv 2503.04992), for the gradient score; samples x [T, D].
    The norm is that of all elements of the output together; where it is 0 so is the gradient.
    Memory: the linears once, and once and a tape for every sample that is worked on.

    Raises what `tensors` raises, T_ARGUMENT (no samples) and T_SCORE (an output is not finite).
    """

    def one(sample: tuple[int, Real]) -> dict[str, Real]:
        number, x = sample
        with np.errstate(all="ignore"):  # what is not finite is seen in the norm
            y, tape = forward(weights, config, layer, np.asarray(x))
            norm = float(np.sqrt(np.vdot(y, y)))
            if not math.isfinite(norm):
                where, got = f"model.layers.{layer} sample {number}", f"an output of norm {norm}"
                raise NmrefError(Code.T_SCORE, where, got, "finite activations and weights")
            y *= 1 / norm if norm else 0.0
            found, _ = backward(weights, config, layer, tape, y)
        return {name: gradient for name, gradient in found.items() if gradient.ndim == 2}

    squares: dict[str, Real] = {}
    count = 0
    for count, found in enumerate(in_order(one, enumerate(inputs), threads), 1):  # noqa: B007
        for name, gradient in found.items():
            gradient *= gradient
            squares[name] = squares[name] + gradient if name in squares else gradient
    if not count:
        raise NmrefError(Code.T_ARGUMENT, "gradient norms", "no samples", "at least one")
    return {name: np.sqrt(total / count) for name, total in squares.items()}
