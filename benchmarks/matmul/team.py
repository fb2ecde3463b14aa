"""Worker processes, seen from the run that asks them."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.matmul.cells import Cell
from benchmarks.matmul.contestants import KINDS

ROOT = Path(__file__).parents[2]

LIMIT = 900.0
"""Seconds after which an answer is not waited for any more."""

FORCED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_VERBOSE")
"""Environment that would keep OpenBLAS from choosing the kernels of this CPU."""

VARIANTS: dict[str, dict[str, dict[str, str]]] = {
    "avx2": {
        "nmref": {"NMREF_ISA": "avx2", "NUMBA_CPU_NAME": "haswell"},
        "numpy": {"OPENBLAS_CORETYPE": "Haswell"},
        "torch": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
        "openvino": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
        "deepsparse": {"NM_ARCH": "avx2"},
    },
    "portable": {"nmref": {"NMREF_ISA": "portable", "NUMBA_CPU_NAME": "x86-64"}},
}
"""variant -> kind -> environment: the contestants that a variant adds, called `kind:variant`."""


class Gone(Exception):
    """The worker ended or does not answer."""


@dataclass(frozen=True)
class Entry:
    """A contestant as the options name it.

    Attributes
    ----------
    name : `kind` or `kind:variant`.
    python : the interpreter that runs it.
    environment : set for it, beside the thread counts.
    """

    name: str
    kind: str
    python: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def takes(self, cell: Cell) -> bool:
        """Whether it is measured on this cell."""
        kind = KINDS[self.kind]
        return (
            cell.case.dtype in kind.dtypes
            and (not kind.most_tokens or cell.tokens <= kind.most_tokens)
            and (not kind.most_threads or cell.threads <= kind.most_threads)
            and (not kind.patterns or cell.case.pattern in kind.patterns)
        )


def entries(pythons: Mapping[str, str], variants: list[str], only: list[str]) -> list[Entry]:
    """All contestants, each kind run by `pythons[kind]` or by this interpreter."""
    found = []
    for kind in KINDS:
        if only and kind not in only:
            continue
        python = pythons.get(kind) or sys.executable
        found.append(Entry(kind, kind, python))
        for variant in variants:
            environment = VARIANTS[variant].get(kind)
            if environment is not None:
                found.append(Entry(f"{kind}:{variant}", kind, python, environment))
    return found


def environment_for(threads: int, extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that may use so many threads."""
    counts = ("OMP", "OPENBLAS", "MKL", "NUMBA")
    kept = {name: value for name, value in os.environ.items() if name not in FORCED}
    return kept | {f"{name}_NUM_THREADS": str(threads) for name in counts} | dict(extra)


class Member:
    """One worker process: a contestant with a number of threads."""

    def __init__(self, entry: Entry, threads: int) -> None:
        self.entry, self.threads = entry, threads
        self.versions: dict[str, str] = {}
        self.absent = ""
        self.log = tempfile.TemporaryFile()  # noqa: SIM115
        self.process: subprocess.Popen[str] | None = None
        try:
            self._start()
        except (OSError, Gone) as error:
            self.absent = str(error)

    def _start(self) -> None:
        command = [self.entry.python, "-m", "benchmarks.matmul.worker", self.entry.kind]
        self.process = subprocess.Popen(
            [*command, str(self.threads)],
            cwd=ROOT,
            env=environment_for(self.threads, self.entry.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            bufsize=1,
        )
        hello = self._answer()
        self._send(signal.SIGSTOP)
        self.versions, self.absent = hello.get("versions", {}), hello.get("absent", "")

    def ask(self, **request: object) -> dict[str, Any]:
        """The answer to a request; {"error": ...} if the worker is gone."""
        if self.absent or self.process is None or self.process.stdin is None:
            return {"error": self.absent}
        try:
            self._send(signal.SIGCONT)
            self.process.stdin.write(json.dumps(request) + "\n")
            answer = self._answer()
            self._send(signal.SIGSTOP)
            return answer
        except (OSError, Gone) as error:
            self.absent = f"ended: {error}"
            return {"error": self.absent}

    def _send(self, number: signal.Signals) -> None:
        """Stop the process out of its turn, since some pools spin for ever; continue it in it."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def _answer(self) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], LIMIT)[0]:
            self.process.kill()
            raise Gone(f"no answer in {LIMIT:g} s")
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            last = self.log.read().decode("utf-8", "replace").strip().splitlines()
            raise Gone(last[-1][:300] if last else f"exit code {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def cpu_seconds(self) -> float:
        """CPU time that the process has used; 0 where the system does not tell."""
        try:
            text = Path(f"/proc/{self.process.pid}/stat").read_text("utf-8")
        except (OSError, AttributeError):
            return 0.0
        user, system = text.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self._send(signal.SIGCONT)
            for stream in (self.process.stdin, self.process.stdout):
                if stream is not None:
                    stream.close()
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
