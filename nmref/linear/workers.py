"""Jobs in processes of their own: each compiles one kernel at a time, and a crash is its own.

A worker that is interrupted ends at once; what it compiled so far is in the cache.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from time import perf_counter

from nmref.kernels import compile as compiler
from nmref.linear.jobs import Job, jobs

INTERRUPTED = 130


@dataclass(frozen=True)
class Outcome:
    """Of one job.

    Attributes
    ----------
    name : of the job.
    wrong : what is, or empty.
    compiled, loaded : kernels; seconds : all that it took.
    """

    name: str
    wrong: str
    compiled: int = 0
    loaded: int = 0
    seconds: float = 0.0


def run_all(names: Sequence[str], processes: int) -> Iterator[Outcome]:
    """Outcomes as they come; when a worker dies, an outcome of what had not ended says so."""
    with pool(processes) as workers:
        waiting = {workers.submit(run_one, name): name for name in names}
        try:
            for done in as_completed(waiting):
                try:
                    yield done.result()
                except BrokenProcessPool:
                    yield Outcome(waiting[done], "a process died")
        finally:
            workers.shutdown(wait=False, cancel_futures=True)


def pool(processes: int) -> ProcessPoolExecutor:
    """New interpreters: a forked one could hold locks of Numba's or BLAS's threads."""
    return ProcessPoolExecutor(processes, get_context("spawn"), _leave_when_interrupted)


def run_one(name: str) -> Outcome:
    """A job in this process, whatever it raises."""
    before, begin = compiler.stats(), perf_counter()
    try:
        wrong = _by_name()[name].run()
    except Exception as error:  # a job that fails is an outcome
        wrong = f"{type(error).__name__}: {error}".partition("\n")[0]
    after = compiler.stats()
    return Outcome(
        name,
        wrong,
        after.compiled - before.compiled,
        after.loaded - before.loaded,
        perf_counter() - begin,
    )


@cache
def _by_name() -> dict[str, Job]:
    return {job.name: job for job in jobs()}


def _leave_when_interrupted() -> None:
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
