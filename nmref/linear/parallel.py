"""Samples side by side: each on one core, results in the order of the samples.

Whatever is added up is added up in that order by the caller, so the number of threads changes no
bit of a result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from threadpoolctl import threadpool_limits

from nmref.linear.pool import default_threads

T = TypeVar("T")
R = TypeVar("R")


def in_order(work: Callable[[T], R], items: Iterable[T], threads: int | None = None) -> Iterator[R]:
    """work(item) of every item, in order; at most threads + 1 results wait in memory.

    BLAS has one thread meanwhile.  `threads`: None is NMREF_THREADS or every CPU.  What `work`
    raises is raised here, and nothing more is begun.
    """
    count = threads or default_threads()
    coming = iter(items)
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(count, "nmref-samples") as pool:
        waiting: deque[Future[R]] = deque()
        try:
            waiting.extend(pool.submit(work, item) for item in islice(coming, count + 1))
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in islice(coming, 1))
                yield result
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
