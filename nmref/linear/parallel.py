"""Samples side by side: each on one core, results in the order of the samples.

Whatever is added up is added up in that order by the caller, so the number of threads changes no
bit of a result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from threading import Lock
from typing import TypeVar

from threadpoolctl import threadpool_limits

from nmref.linear.pool import default_threads

T = TypeVar("T")
R = TypeVar("R")


class _OneThread:
    """BLAS has one thread while anybody is inside, in whatever order they come and go."""

    def __init__(self) -> None:
        self._lock, self._inside, self._before = Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before.enter_context(threadpool_limits(1, "blas"))
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._before.close()


_ONE_THREAD = _OneThread()


def in_order(work: Callable[[T], R], items: Iterable[T], threads: int | None = None) -> Iterator[R]:
    """work(item) of every item, in order; at most threads + 1 results wait in memory.

    BLAS has one thread meanwhile.  `threads`: None is NMREF_THREADS or every CPU.  What `work`
    raises is raised here, and nothing more is begun.
    """
    count = threads or default_threads()
    coming = iter(items)
    with _ONE_THREAD, ThreadPoolExecutor(count, "nmref-samples") as pool:
        waiting: deque[Future[R]] = deque()
        try:
            waiting.extend(pool.submit(work, item) for item in islice(coming, count + 1))
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in islice(coming, 1))
                yield result
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
