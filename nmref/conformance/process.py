"""A client as a child process that is never trusted: it may crash, hang, babble or stay for ever.

Three threads feed and drain its pipes, so that nothing it does can block the runner for longer than
the time that the runner gives it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty, Queue, SimpleQueue
from typing import IO

from nmref.conformance.protocol import ClientFault, clean

TAIL = 2000
"""Bytes of the client's stderr that are kept."""

_MOMENT = 2.0  # seconds in which a dead child's pipes are read to their end


class Child:
    """A running client.

    Parameters
    ----------
    command : the program and its arguments; it runs in a process group of its own.
    line_limit : bytes of the longest line that it may write.

    Raises ClientFault: the program cannot be started.
    """

    def __init__(self, command: Sequence[str], line_limit: int) -> None:
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise ClientFault(f"{command[0]}: {error.strerror or error}") from None
        self._line_limit = line_limit
        self._lines: Queue[bytes | ClientFault | None] = Queue(4)  # a babbler has to wait
        self._outbox: SimpleQueue[bytes | None] = SimpleQueue()
        self._tail = b""
        works = (
            (self._write, self._process.stdin),
            (self._read, self._process.stdout),
            (self._keep_tail, self._process.stderr),
        )
        self._threads = [
            threading.Thread(target=work, args=(pipe,), daemon=True) for work, pipe in works
        ]
        for thread in self._threads:
            thread.start()

    def send(self, data: bytes) -> None:
        """Put a line on its stdin; a client that does not read shows by not answering."""
        self._outbox.put(data)

    def receive(self, seconds: float) -> bytes:
        """The next line of its stdout.  Raises ClientFault."""
        try:
            found = self._lines.get(timeout=seconds)
        except Empty:
            raise ClientFault(f"no answer within {seconds:g} s") from None
        if isinstance(found, bytes):
            return found
        raise found or ClientFault(self._end())

    def stop(self, message: bytes, seconds: float) -> str | None:
        """Ask it to end; what was wrong with the way it did, None if nothing."""
        self.send(message)
        self._outbox.put(None)  # closes stdin
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"still running {seconds:g} s after stop, want exit code 0"
        if code:
            return f"{_ending(code)} after stop, want 0"
        with suppress(Empty):
            if (more := self._lines.get(timeout=_MOMENT)) is not None:
                return f"output after stop: {clean(ascii(more), 80)}, want none"
        return None

    def kill(self) -> None:
        """End it and every process of its group; its threads end with it."""
        if hasattr(os, "killpg"):
            with suppress(OSError):  # the group has ended
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._outbox.put(None)
        for thread in self._threads:
            for _ in range(int(_MOMENT / 0.02)):
                with suppress(Empty):
                    while True:  # makes room for the reader
                        self._lines.get_nowait()
                thread.join(0.02)
                if not thread.is_alive():
                    break
        if not any(thread.is_alive() for thread in self._threads):
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                with suppress(OSError):
                    pipe and pipe.close()

    def stderr(self) -> str:
        """The end of what it wrote to stderr."""
        return self._tail.decode("utf-8", "replace").strip()

    def _end(self) -> str:
        """Why there is no more stdout."""
        try:
            return f"{_ending(self._process.wait(_MOMENT))} before an answer"
        except subprocess.TimeoutExpired:
            return "stdout closed before an answer, still running"

    def _write(self, pipe: IO[bytes]) -> None:
        with suppress(OSError, ValueError):
            for data in iter(self._outbox.get, None):
                pipe.write(data)
                pipe.flush()
        with suppress(OSError):
            pipe.close()

    def _read(self, pipe: IO[bytes]) -> None:
        while line := pipe.readline(self._line_limit + 1):
            if len(line) > self._line_limit:
                self._lines.put(ClientFault(f"a line of more than {self._line_limit} bytes"))
                return
            if not line.endswith(b"\n"):
                self._lines.put(ClientFault(f"{self._end()}, within a line"))
                return
            self._lines.put(line)
        self._lines.put(None)

    def _keep_tail(self, pipe: IO[bytes]) -> None:
        while data := os.read(pipe.fileno(), 1 << 16):
            self._tail = (self._tail + data)[-TAIL:]


def _ending(code: int) -> str:
    """How a process ended."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
