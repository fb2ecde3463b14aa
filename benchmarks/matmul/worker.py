"""python -m benchmarks.matmul.worker KIND THREADS: one contestant, idle until it is asked.

One JSON request a line on stdin, one JSON answer a line on stdout:

load     {"do", "folder", "rows", "columns", "dtype", "pattern"}
prepare  {"do", "tokens", "total_bytes", "result"}: enough copies of the weights that a turn through
         all reads total_bytes; each is called once, the first result goes to the .npy `result`
measure  {"do", "seconds", "runs"}: at least so long and so often, turning through the copies

The first line, without a request, says the versions or why the contestant is absent.  An answer
with "error" says what went wrong; the worker goes on.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import time
from typing import Any

import numpy as np

from benchmarks.matmul.contestant import Call, Contestant
from benchmarks.matmul.contestants import KINDS

WARM = 2
"""Calls before the ones that are measured: they wake the contestant's threads."""

PATIENCE = 15
"""A measurement may take this many times the seconds asked for, then ends with FEW runs."""

FEW = 3


class Worker:
    """Answers requests for one contestant."""

    def __init__(self, contestant: Contestant) -> None:
        self.contestant = contestant
        self.calls: list[Call] = []
        self.turn = 0

    def load(self, request: dict[str, Any]) -> dict[str, Any]:
        self.calls = []
        self.contestant.load(request)
        return {"streamed": self.contestant.streamed()}

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        copies = max(1, -(-request["total_bytes"] // max(1, self.contestant.streamed())))
        self.calls = self.contestant.calls(request["tokens"], copies)
        results = [call() for call in self.calls[:1]]
        np.save(request["result"], self.contestant.result(results[0]))
        for call in self.calls[1:]:
            call()
        return {"copies": copies}

    def measure(self, request: dict[str, Any]) -> dict[str, Any]:
        times: list[float] = []
        total, clock = 0.0, time.perf_counter
        for _ in range(WARM):
            self._next()()
        while total < request["seconds"] or len(times) < request["runs"]:
            if total > PATIENCE * request["seconds"] and len(times) >= FEW:
                break
            call = self._next()
            start = clock()
            call()
            times.append(clock() - start)
            total += times[-1]
        low, median, high = (float(np.quantile(times, q)) for q in (0.1, 0.5, 0.9))
        return {"median": median, "p10": low, "p90": high, "runs": len(times)}

    def _next(self) -> Call:
        self.turn += 1
        return self.calls[self.turn % len(self.calls)]


def end_with_parent() -> None:
    """A worker is stopped between its turns; it must not stay so when the run is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main() -> int:
    end_with_parent()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a peer prints does not get among the answers
    kind, threads = sys.argv[1], int(sys.argv[2])

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        worker = Worker(KINDS[kind](threads))
        answer({"versions": worker.contestant.versions()})
    except Exception as error:  # a peer may fail at import in any way
        answer({"absent": reason(error)})
        return 0
    gc.disable()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer(getattr(worker, request["do"])(request))
        except Exception as error:
            answer({"error": reason(error)})
        gc.collect()
    return 0


def reason(error: Exception) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


if __name__ == "__main__":
    raise SystemExit(main())
