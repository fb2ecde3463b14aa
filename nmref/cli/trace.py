"""nmref trace MODEL OUT, and nmref trace --compare A B."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from nmref.cli.common import add_json, cpus, positive, print_json
from nmref.errors import Code, NmrefError

if TYPE_CHECKING:
    from nmref.conformance.trace import Identity
    from nmref.conformance.trace_compare import Comparison
    from nmref.model.config import LlamaConfig
    from nmref.model.llama import Weights

GOLDEN = "nmref-tiny"
_LAYERS = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")
_SHOWN = 8  # names of taps on one line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nmref trace`."""
    parser.epilog = (
        "MODEL is a dense or packed model folder, or a golden model of SPEC 8.38 such as\n"
        f"{GOLDEN} or {GOLDEN}:8:16+16:256. OUT gets <tap>.f32 for every tap (SPEC 8.36), raw\n"
        "little-endian F32, and index.json. --layers leaves out embed, norm and logits unless\n"
        "--taps names them. --compare exits with 1 where the traces MODEL and OUT differ.\n\n"
        "examples:\n"
        f"  nmref trace {GOLDEN}:8:16+16:256 OUT --memh\n"
        '  nmref trace MODEL OUT --prompt "Once upon a time" --layers 0,2-4 --taps q,k,scores\n'
        "  nmref trace --compare OUT OTHER"
    )
    parser.add_argument("model", metavar="MODEL", help="a model folder or a golden model")
    parser.add_argument("out", type=Path, metavar="OUT", help="the trace folder to write")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--prompt", metavar="TEXT", help="a text for the model's tokenizer")
    what.add_argument("--tokens", metavar="1,2,3", help=f"ids (default: the prompt of {GOLDEN})")
    what.add_argument("--compare", action="store_true", help="compare two traces, write nothing")
    parser.add_argument("--profile", metavar="NAME", help="of every dot (default f64.seq)")
    parser.add_argument("--layers", metavar="0,2-4", help="only these layers")
    parser.add_argument("--taps", metavar="q,k,...", help="only these taps")
    parser.add_argument("--memh", action="store_true", help="add $readmemh files with side-cars")
    parser.add_argument("--threads", type=positive, metavar="N", help="default: one a CPU")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the trace digest, or what differs."""
    return _compare(args) if args.compare else _write(args)


def _write(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from nmref.conformance.taps import place, select, tap_names
    from nmref.conformance.trace import write
    from nmref.numerics import Golden

    ops = Golden(args.profile or "f64.seq", threads=args.threads or cpus())
    weights, config, tokens, identity = _model(args)
    names = select(
        config, _layers(args.layers), None if args.taps is None else args.taps.split(",")
    )
    total = sum(place(name) <= place(names[-1]) for name in tap_names(config))
    with tqdm(total=total, desc="trace", unit="tap", leave=False, delay=1) as bar:
        index = write(
            args.out,
            weights,
            config,
            tokens,
            ops,
            identity,
            names,
            memh=args.memh,
            progress=lambda name: bar.update() and None,
        )
    if args.json:
        print_json(index)
    else:
        print(f"{len(index['taps'])} taps of {len(tokens)} positions, {index['profile']}")
        print(f"trace digest {index['digest']}")
    return 0


def _model(args: argparse.Namespace) -> tuple[Weights, LlamaConfig, list[int], Identity]:
    """Weights, configuration, tokens and whose they are."""
    from nmref.conformance.trace import Identity, identity
    from nmref.model.checkpoint import open_checkpoint
    from nmref.model.tokenizer import Tokenizer

    tokens = None if args.tokens is None else _tokens(args.tokens)
    if args.model == GOLDEN or args.model.startswith(f"{GOLDEN}:"):
        from nmref.conformance import tiny

        if args.prompt is not None:
            want = "--tokens, or nothing for its own prompt"
            raise NmrefError(Code.T_ARGUMENT, args.model, "--prompt without a tokenizer", want)
        golden = tiny.build(args.model)
        mine = list(golden.prompt) if tokens is None else tokens
        return golden.weights, golden.config, mine, Identity("golden", args.model)
    if tokens is None and args.prompt is None:
        got = "neither --prompt nor --tokens"
        raise NmrefError(Code.T_ARGUMENT, str(args.model), got, "one of them")
    checkpoint = open_checkpoint(Path(args.model))
    if tokens is None:
        tokenizer = Tokenizer.open(Path(args.model))
        tokens = tokenizer.prompt(args.prompt, checkpoint.config.bos_token_id)
    return checkpoint.weights(), checkpoint.config, tokens, identity(checkpoint)


def _tokens(text: str) -> list[int]:
    """Such as "1,2,3".  Raises T_ARGUMENT."""
    words = text.split(",")
    if not all(re.fullmatch("[0-9]{1,18}", word, re.ASCII) for word in words):
        raise NmrefError(Code.T_ARGUMENT, "tokens", repr(text)[:80], "ids such as 1,2,3")
    return [int(word) for word in words]


def _layers(text: str | None) -> list[int] | None:
    """Such as "0,2-4".  Raises T_ARGUMENT."""
    if text is None:
        return None
    found: list[int] = []
    for word in text.split(","):
        match = _LAYERS.fullmatch(word)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise NmrefError(Code.T_ARGUMENT, "layers", repr(text)[:80], "such as 0,2-4")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return found


def _compare(args: argparse.Namespace) -> int:
    from nmref.conformance.trace_compare import compare
    from nmref.conformance.trace_files import read

    for option in ("profile", "layers", "taps", "memh", "threads"):
        if getattr(args, option) not in (None, False):
            raise NmrefError(Code.T_ARGUMENT, "--compare", f"--{option} too", "two folders only")
    a, b = read(Path(args.model)), read(args.out)
    found = compare(a, b)
    about = [(m, str(getattr(a, m)), str(getattr(b, m))) for m in found.about]
    if args.json:
        print_json(_document(found))
        return 0 if found.equal else 1
    for line in [*_lines(found), *(f"{m}: A {x}, B {y}" for m, x, y in about)]:
        print(line)
    return 0 if found.equal else 1


def _document(found: Comparison) -> dict[str, object]:
    first = found.first
    return {
        "equal": found.equal,
        "first": first and {**vars(first), "values": first.values},
        "same": found.same,
        "different": found.different,
        "reshaped": found.reshaped,
        "only_a": found.only_a,
        "only_b": found.only_b,
        "about": found.about,
    }


def _lines(found: Comparison) -> list[str]:
    """What a person reads: the first element that differs, then the taps."""
    taps = len(found.same) + len(found.different)
    if found.equal:
        return [f"equal: {taps} taps"]
    lines = []
    if first := found.first:
        (a, b), (x, y) = first.bits, first.values
        lines += [
            f"first difference: {first.tap} {list(first.index)} ({first.position}), "
            f"element {first.flat}: A 0x{a:08x} ({x}), B 0x{b:08x} ({y})",
            f"{first.count} of {first.size} elements of {first.tap} differ",
        ]
    lines.append(f"{len(found.different)} of {taps} taps differ")
    for what in ("reshaped", "only_a", "only_b"):
        names = getattr(found, what)
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            label = {"reshaped": "of other shapes", "only_a": "only in A", "only_b": "only in B"}
            lines.append(f"{label[what]}: {', '.join(names[:_SHOWN])}{more}")
    return lines
