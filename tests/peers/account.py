"""How far may a float32 forward be from the true one?  An account of every rounding in it.

`ErrorAccount` runs a forward of torch in float64, the truth, and notes for every operation the
roundings that float32 would make there.  What an error e of an intermediate number y does to a
logit is e * d logit / d y, to first order, and backward gives that derivative.  So the error of a
logit is a sum c[1] * r[1] + c[2] * r[2] + ... over all roundings r of the forward, with known |c|
and |r| <= u = 2^-24, and there are two bounds:

- worst: u * sum |c|.  It always holds, and is far off: as if all roundings conspired.
- likely: LAMBDA * u * sqrt(sum c^2).  If roundings are independent and zero in the mean, which is
  the usual model, Hoeffding's inequality lets a logit exceed it with a probability below
  2 exp(-LAMBDA^2 / 2).  Errors that are no accident (a constant that is not a float32 number, the
  frequencies of RoPE in float32) are known and are added in full.

Both hold for every implementation that does these steps with errors no larger, in whatever order
it adds: torch in float32, and nmref's `Fast` and `Golden`, which round less often.  `SLACK` pays
for second-order terms, which are to the first as the errors are to the numbers, and for the errors
of float64, 2^-29 of those counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

U = 2.0**-24
"""Unit roundoff of float32."""

LAMBDA = 7.0  # 5e-11 for one logit, 5e-5 for a million

SLACK = 1.1

EXACT = {
    *("cat", "contiguous", "double", "dropout", "expand", "neg", "reshape", "transpose"),
    *("__getitem__", "to", "unsqueeze", "view"),
}
"""Operations that only move numbers (or change a sign); dropout is off."""

EXP = 8.0
"""Error of a float32 exp, in u: 4 units in the last place, which every library keeps."""

MASKED = 1e100


class ErrorAccount(TorchFunctionMode):
    """Inside `with`, torch computes in float64 even where the model asks for float32.

    An operation that is not known raises: no rounding is left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[Tensor] = []
        self.errors: list[tuple[Tensor, Tensor, Tensor]] = []
        """For each node, flat: errors that are no accident; of the roundings, all of them at most
        u * a, sum a and sum a^2."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one operation of the forward, and note its error where a logit depends on it."""
        args = tuple(_wide(value) for value in args)
        kwargs = {key: _wide(value) for key, value in (kwargs or {}).items()}
        func = torch.Tensor.double if func is torch.Tensor.float else func
        with torch.enable_grad():  # transformers makes its RoPE tables without
            out = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name == "embedding":
            out.requires_grad_()  # rows of the table: exact, and where everything begins
        elif isinstance(out, Tensor) and out.requires_grad and name not in EXACT:
            with torch.no_grad():
                self._note(out, _constant(name, out, args), _roundings(name, out, args))
        return out

    def start(self, value: Tensor, error: Tensor) -> None:
        """Begin with numbers that float32 already has wrong by `error`."""
        self._note(value.requires_grad_(), error, [])

    def _note(self, node: Tensor, fixed: Tensor, roundings: list[tuple[Tensor, float]]) -> None:
        total, squares = torch.zeros(2, node.numel(), dtype=torch.float64)
        for amount, count in roundings:
            total += count * amount.flatten()
            squares += count * amount.flatten().square()
        self.nodes.append(node)
        self.errors.append((fixed.flatten(), total, squares))

    def bounds(self, logits: Tensor, picks: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """(worst, likely) of the logits [T, V] at `picks`, pairs (position, id); each [picks]."""
        parts = [self._sums(logits, part) for part in torch.tensor(picks).split(16)]
        fixed, total, squares = torch.cat(parts, dim=1)
        worst, likely = fixed + U * total, fixed + LAMBDA * U * squares.sqrt()
        return SLACK * worst, SLACK * torch.minimum(worst, likely)

    def _sums(self, logits: Tensor, picks: Tensor) -> Tensor:
        """Errors that are no accident, sum |c| and sum c^2 of a few logits, [3, picks]."""
        chosen = torch.zeros(len(picks), *logits.shape, dtype=torch.float64)
        chosen[torch.arange(len(picks)), picks[:, 0], picks[:, 1]] = 1
        slopes = torch.autograd.grad(
            logits, self.nodes, chosen, retain_graph=True, is_grads_batched=True
        )
        sums = torch.zeros(3, len(picks), dtype=torch.float64)
        for slope, (fixed, total, squares) in zip(slopes, self.errors, strict=True):
            flat = slope.flatten(1).abs()  # [picks, numbers of the node]
            sums += torch.stack([flat @ fixed, flat @ total, flat.square() @ squares])
        return sums


def _wide(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


def _constant(name: str, out: Tensor, args: tuple[Any, ...]) -> Tensor:
    """What it changes that a constant (eps, the scale of attention) is rounded to float32."""
    for value in args:
        if isinstance(value, float) and name in ("add", "mul"):
            error = abs(float(np.float32(value)) - value)
            return error * (out.abs() / value if name == "mul" else torch.ones_like(out))
    return torch.zeros_like(out)


def _roundings(name: str, out: Tensor, args: tuple[Any, ...]) -> list[tuple[Tensor, float]]:
    """The roundings of one operation: (a, n), n of them of at most u * a each."""
    size = out.abs()
    match name:
        case "add" | "mul" | "pow":  # the square
            # a masked score is a huge number that no logit depends on; its square is Inf
            return [(torch.where(size < MASKED, size, 0), 1)]
        case "rsqrt" | "cos" | "sin":
            return [(4 * size, 1)]
        case "mean":  # every partial sum and the quotient
            return [(args[0].abs().mean(-1, keepdim=True), args[0].shape[-1])]
        case "linear" if args[2] is None:
            # K - 1 partial sums, each at most sum |a b|; the K products together count as one
            x, w = args[:2]
            return [(torch.nn.functional.linear(x.abs(), w.abs()), x.shape[-1])]
        case "matmul":
            return [(args[0].abs() @ args[1].abs(), args[0].shape[-1])]
        case "silu":  # exp, the sum, the quotient
            return [(EXP * size, 1), (size, 2)]
        case "softmax":
            # x - max, whose error is a relative one of exp, and exp; once in the term itself and
            # once, averaged, in the total; then the partial sums and the quotient
            x = args[0]
            below = torch.where(out > 0, x.max(-1, keepdim=True).values - x, 0)
            mean = (out * below).sum(-1, keepdim=True)
            own = [(size * below, 1), (EXP * size, 1)]
            return [*own, (size * mean, 1), (EXP * size, 1), (size, x.shape[-1] + 1)]
    raise NotImplementedError(f"the float32 errors of {name}")
