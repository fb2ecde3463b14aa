"""Threads for kernels that share out their own work.

Such a kernel claims one piece after the other from a counter until none is left, so the caller
takes part at once and never waits for a thread that has not begun: one that wakes up late, because
some other library's threads still hold its core, finds nothing left to do.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from nmref.errors import Code, NmrefError


def default_threads() -> int:
    """NMREF_THREADS, or the CPUs that this process may use.  Raises T_ARGUMENT."""
    wanted = os.environ.get("NMREF_THREADS", "")
    if wanted:
        if not wanted.isdecimal() or int(wanted) < 1:
            raise NmrefError(Code.T_ARGUMENT, "NMREF_THREADS", repr(wanted), "1 or more")
        return int(wanted)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def share(work: Callable[[int], None], threads: int) -> None:
    """work(0) here and work(1), ... on other threads; returns when all that began have ended.

    Each must go on until nothing is left to claim.  Raises what any of them raises.
    """
    others = [_pool(os.getpid()).submit(work, i) for i in range(1, threads)]
    try:
        work(0)
    finally:
        begun = [other for other in others if not other.cancel()]
        for other in begun:
            other.exception()  # waits: they use the caller's arrays
    for other in begun:
        other.result()


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Of this process: a fork inherits no threads."""
    return ThreadPoolExecutor(os.cpu_count() or 1, "nmref")
