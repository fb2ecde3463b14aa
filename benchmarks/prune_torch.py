"""A straightforward torch version of the pruning pipeline, to compare the speed of `nmref prune`.

    python -m benchmarks.prune_torch MODEL TEXT --threads 2

Hugging Face's modules and forward hooks, block by block as Wanda's program does it: the dense block
sees what the pruned blocks before it give; every linear is scored by RIA on equalized weights,
16:256 outliers are taken out, 8:16 of the others stay, their variance is restored, and the pruned
block makes the next inputs.  MODEL is a folder with F32 weights, TEXT is cut into the first windows
of `--length` tokens.  Prints one JSON object with the seconds of every part; nothing is packed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections import defaultdict
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer

from benchmarks.machine import machine

MEBI = 1 << 20


class Inputs:
    """What a linear's inputs leave behind: running mean of squared norms, and maxima."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        self.scaler_row = torch.zeros(linear.in_features)
        self.largest = torch.zeros(linear.in_features)
        self.samples = 0

    def add(self, module: torch.nn.Module, args: tuple[torch.Tensor, ...], _: object) -> None:
        x = args[0].reshape(-1, args[0].shape[-1])
        self.scaler_row *= self.samples / (self.samples + 1)
        self.samples += 1
        self.scaler_row += torch.linalg.vector_norm(x, dim=0) ** 2 / self.samples
        self.largest = torch.maximum(self.largest, x.abs().amax(0))


def largest_of_every(score: torch.Tensor, stored: int, block: int) -> torch.Tensor:
    """Mask of the `stored` largest of every block of columns; an unfinished one is filled up."""
    padded = torch.nn.functional.pad(score, (0, -score.shape[1] % block), value=-torch.inf)
    groups = padded.reshape(len(score), -1, block)
    best = groups.topk(stored, dim=2).indices
    mask = torch.zeros_like(groups, dtype=torch.bool).scatter_(2, best, True)
    return (mask & (groups > -torch.inf)).reshape(len(score), -1)[:, : score.shape[1]]


def prune(linear: torch.nn.Linear, inputs: Inputs, args: argparse.Namespace) -> None:
    """Equalize, score, take outliers out, choose, correct the variance; in place."""
    weight = linear.weight.data
    largest = weight.abs().amax(0).clamp(min=1e-5)
    scaled = weight.abs() * (inputs.largest.clamp(min=1e-5) / largest).sqrt()
    importance = scaled / scaled.sum(0) + scaled / scaled.sum(1, keepdim=True)
    score = importance * inputs.scaler_row.sqrt() ** 0.5
    salient = torch.zeros_like(weight, dtype=torch.bool)
    if args.outliers:
        salient = largest_of_every(score, args.outliers, 256)
        score = score.masked_fill(salient, -torch.inf)
    base = largest_of_every(score, *args.pattern)
    rest = weight[~salient]
    factor = (rest.var(correction=0) / (rest * base[~salient]).var(correction=0)).sqrt()
    weight.copy_(torch.where(salient, weight, weight * base * factor))


class Clock(defaultdict[str, float]):
    """Seconds of the parts by name: `clock.lap(name)` is what passed since the last lap."""

    def __init__(self) -> None:
        super().__init__(float)
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self[name] += now - self.last
        self.last = now


def run_layer(
    layer: torch.nn.Module, hidden: torch.Tensor, rope: tuple[torch.Tensor, ...]
) -> torch.Tensor:
    """The block over all samples [S, T, D], one at a time."""
    outputs = [layer(x[None], position_embeddings=rope) for x in hidden]
    return torch.cat([out[0] if isinstance(out, tuple) else out for out in outputs])


@torch.no_grad()
def prune_model(
    model: transformers.LlamaForCausalLM, ids: torch.Tensor, args: argparse.Namespace
) -> Clock:
    """Prune every linear of every block in place; tokens `ids` [S, T].  Seconds of the parts."""
    clock = Clock()
    hidden = model.model.embed_tokens(ids)
    rope = model.model.rotary_emb(hidden, torch.arange(ids.shape[1])[None])
    for layer in model.model.layers:
        linears = [m for m in layer.modules() if isinstance(m, torch.nn.Linear)]
        seen = [Inputs(linear) for linear in linears]
        hooks = [
            m.register_forward_hook(inputs.add) for m, inputs in zip(linears, seen, strict=True)
        ]
        run_layer(layer, hidden, rope)
        for hook in hooks:
            hook.remove()
        clock.lap("calibrate")
        for linear, inputs in zip(linears, seen, strict=True):
            prune(linear, inputs, args)
        clock.lap("prune")
        hidden = run_layer(layer, hidden, rope)
        clock.lap("forward")
    return clock


def windows(folder: Path, text: Path, samples: int, length: int) -> torch.Tensor:
    """The first windows of a text [S, T], without special tokens."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = tokenizer.encode(text.read_text("utf-8"), add_special_tokens=False).ids
    if len(ids) < samples * length:
        raise SystemExit(f"{text}: {len(ids)} tokens, want at least {samples * length}")
    return torch.tensor(ids[: samples * length]).reshape(samples, length)


def pattern(text: str) -> tuple[int, int]:
    """(N stored, M)."""
    stored, block = map(int, text.split(":"))
    return stored, block


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.prune_torch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, help="folder of a model, F32")
    parser.add_argument("text", type=Path, help="calibration text")
    parser.add_argument("--pattern", type=pattern, default=(8, 16), help="N:M stored (8:16)")
    parser.add_argument("--outliers", type=int, default=16, help="of every 256; 0: none (16)")
    parser.add_argument("--samples", type=int, default=32, help="windows (32)")
    parser.add_argument("--length", type=int, default=1024, help="tokens of a window (1024)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, help="save the pruned model in this folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    torch.set_num_threads(args.threads)
    ids = windows(args.model, args.text, args.samples, args.length)
    started = time.perf_counter()
    model = transformers.LlamaForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    loaded = time.perf_counter()
    clock = prune_model(model, ids, args)
    report = {
        "machine": machine(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "model": args.model.name,
        "pattern": "{}:{}".format(*args.pattern),
        "outliers": f"{args.outliers}:256" if args.outliers else None,
        "samples": args.samples,
        "length": args.length,
        "threads": args.threads,
        "seconds": {"load": loaded - started, **clock, "total": time.perf_counter() - started},
        "peak_mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEBI,
    }
    text = json.dumps(report, indent=2, sort_keys=True) + "\n"
    sys.stdout.write(text)
    if args.json:
        args.json.write_text(text, "utf-8")
    if args.out:
        model.save_pretrained(args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
