"""nmref warmup."""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from nmref.cli.common import add_json, cpus, positive, print_json
from nmref.errors import Code, NmrefError

if TYPE_CHECKING:
    from nmref.linear.workers import Outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nmref warmup`."""
    parser.epilog = (
        "Otherwise each kernel is compiled when it is first used. What warmup leaves to that is\n"
        "rare: outliers of another pattern than 16:256 or another element type than the base.\n\n"
        "examples:\n  nmref warmup\n  nmref warmup --clear stale"
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="compilers (one a CPU)")
    parser.add_argument(
        "--clear",
        nargs="?",
        const="all",
        choices=("all", "stale"),
        help="remove compiled kernels, or only those of other versions; compile nothing",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit 1 when a kernel does not compile or computes something wrong."""
    return _clear(args) if args.clear else _fill(args)


def _clear(args: argparse.Namespace) -> int:
    from nmref.kernels import cache

    removed = cache.clear(stale_only=args.clear == "stale")
    if args.json:
        print_json({"removed": [str(path) for path in removed]})
    else:
        for path in removed:
            print(path)
        print(f"{len(removed)} folder{'' if len(removed) == 1 else 's'} removed")
    return 0


def _fill(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from nmref.kernels import cache, isa
    from nmref.linear.jobs import jobs
    from nmref.linear.workers import run_all

    chosen, folder = isa.chosen(), _folder()
    names, begin = [job.name for job in jobs()], perf_counter()
    with tqdm(total=len(names), desc=f"compile for {chosen}", unit="job", leave=False) as bar:
        outcomes = []
        for outcome in run_all(names, args.threads or cpus()):
            outcomes.append(outcome)
            bar.update()
    seconds, wrong = perf_counter() - begin, [outcome for outcome in outcomes if outcome.wrong]
    compiled, loaded = (sum(getattr(o, what) for o in outcomes) for what in ("compiled", "loaded"))
    state = cache.state()
    if args.json:
        document: dict[str, object] = {"isa": chosen, "folder": str(folder)}
        document |= {"compiled": compiled, "loaded": loaded, "seconds": round(seconds, 1)}
        document |= {"files": state.files, "bytes": state.bytes}
        print_json(document | {"wrong": {o.name: o.wrong for o in wrong}})
    else:
        print(f"{compiled} kernels compiled for {chosen}, {loaded} loaded, in {seconds:.0f} s")
        print(f"{folder}: {state.files} kernels, {state.bytes / 1e6:.1f} MB")
        for line in failures(wrong):
            print(line)
    return 1 if wrong else 0


def _folder() -> Path:
    """The cache.  Raises T_FILE where nothing can be kept."""
    from nmref.kernels import cache

    if (folder := cache.folder()) is None:
        got = cache.state().why
        raise NmrefError(Code.T_FILE, "kernel cache", got, "a folder that can be written")
    return folder


def failures(wrong: list[Outcome]) -> list[str]:
    """A line for each job that failed."""
    return [f"FAILED {outcome.name}: {outcome.wrong}" for outcome in wrong]
