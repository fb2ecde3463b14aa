"""Put the cases of a suite to a client, a program of any language, and judge its answers.

suite = load(Path("conformance/vectors"))
run = run(["./my-client"], select(suite))
run.ok
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from nmref.conformance import known as known_failures
from nmref.conformance import protocol
from nmref.conformance.arrays import Malformed
from nmref.conformance.compare import Difference, difference
from nmref.conformance.known import Known
from nmref.conformance.process import Child
from nmref.conformance.protocol import Answer, Claims, ClientFault
from nmref.conformance.vectors import Case, Suite, load, select
from nmref.errors import Code, NmrefError

__all__ = ["VERDICTS", "Options", "Result", "Run", "Suite", "judge", "load", "run", "select"]

VERDICTS = ("pass", "fail", "errored", "skipped", "known", "unexpected-pass")

BAD = ("fail", "errored", "unexpected-pass")
"""The verdicts that fail a run."""


@dataclass(frozen=True)
class Options:
    """How a run is done.

    Attributes
    ----------
    strict : a rejection has to name a code that the case lists (SPEC 1.10).
    ordered : it has to name the first of them, as an ordered reader does.
    timeout, start_timeout, stop_timeout : seconds for an answer, a start and an end.
    starts : so many failed starts in a row end the run.
    line_limit : bytes of the longest line of a client.
    """

    strict: bool = True
    ordered: bool = False
    timeout: float = 60.0
    start_timeout: float = 60.0
    stop_timeout: float = 10.0
    starts: int = 3
    line_limit: int = 1 << 26


@dataclass(frozen=True)
class Result:
    """What became of one case; `stderr` is the end of what a client wrote that had to be ended."""

    case: Case
    verdict: str
    message: str = ""
    difference: Difference | None = None
    seconds: float = 0.0
    stderr: str = ""


@dataclass
class Run:
    """What became of a run.

    Attributes
    ----------
    selected : how many cases there were to do; fewer results where the run was interrupted.
    claims : the client's start message; None: it never started.
    faults : what was wrong apart from cases, such as the exit code after stop.
    """

    selected: int
    results: list[Result] = field(default_factory=list)
    claims: Claims | None = None
    faults: list[str] = field(default_factory=list)
    interrupted: bool = False

    def count(self, *verdicts: str) -> int:
        """Results with one of these verdicts."""
        return sum(result.verdict in verdicts for result in self.results)

    @property
    def ok(self) -> bool:
        """Something was checked and nothing failed."""
        bad = self.faults or self.interrupted or self.count(*BAD)
        return not bad and self.count("skipped") < len(self.results)


def run(
    command: Sequence[str],
    cases: Sequence[Case],
    options: Options | None = None,
    known: Known | None = None,
    progress: Callable[[Result], None] = lambda result: None,
) -> Run:
    """Run a client over the cases, in their order; `progress` is called after each.

    A client that crashes, hangs or breaks the protocol is ended and started again.  An interrupt
    ends it too and gives the results so far.  Raises T_FILE for a malformed expectation.
    """
    session, found = _Session(command, options or Options()), Run(len(cases))
    try:
        for case in cases:
            result = _known(_one(session, case), known or {})
            found.results.append(result)
            progress(result)
        session.stop()
    except KeyboardInterrupt:
        found.interrupted = True
    finally:
        session.end()
    found.claims, found.faults = session.claims, session.faults
    return found


def judge(case: Case, answer: Answer, strict: bool = True, ordered: bool = False) -> Result:
    """The verdict on an answer."""
    if answer.outcome in ("skipped", "errored"):
        return Result(case, answer.outcome, answer.message)
    if case.output is None:
        return _judge_refusal(case, answer, strict, ordered)
    if answer.outcome == "rejected":
        return Result(case, "fail", f"rejected with {_said(answer)}, want an output")
    try:
        found = difference(case.op, case.level, answer.output, case.output)
    except Malformed as error:
        where = f"case {case.id} expectation {error.where}"
        raise NmrefError(Code.T_FILE, where, error.got, error.want) from None
    return Result(case, "fail" if found else "pass", str(found or ""), found)


def _judge_refusal(case: Case, answer: Answer, strict: bool, ordered: bool) -> Result:
    codes = case.rejected[:1] if ordered else case.rejected
    want = " or ".join(codes) or "any code"
    if answer.outcome == "output":
        return Result(case, "fail", f"accepted, want a rejection with {want}")
    if (strict or ordered) and codes and answer.code not in codes:
        return Result(case, "fail", f"rejected with {_said(answer)}, want {want}")
    return Result(case, "pass")


def _said(answer: Answer) -> str:
    return f"{answer.code} ({answer.message})" if answer.message else answer.code


def _known(result: Result, known: Known) -> Result:
    """The verdict of a case that may be listed as a known failure."""
    why = known_failures.reason(known, result.case.id)
    if why is None or result.verdict == "skipped":
        return result
    if result.verdict == "pass":
        message = f"passes, but is listed as a known failure: {why}"
        return replace(result, verdict="unexpected-pass", message=message)
    return replace(result, verdict="known", message=f"{why} ({result.verdict}: {result.message})")


def _one(session: _Session, case: Case) -> Result:
    """One case, however the client behaves."""
    begun = time.monotonic()
    try:
        skip = session.start().skips(case.op, case.profile, case.flags)
        if skip is not None:
            return Result(case, "skipped", skip)
        begun = time.monotonic()
        options = session.options
        judged = judge(case, session.ask(case), options.strict, options.ordered)
    except ClientFault as fault:
        stderr = session.end()
        judged = Result(case, "errored", with_last_line(str(fault), stderr), stderr=stderr)
    return replace(judged, seconds=time.monotonic() - begun)


def with_last_line(message: str, stderr: str) -> str:
    """A fault with the last line that the client wrote to stderr."""
    lines = stderr.splitlines()
    return f"{message}; stderr: {protocol.clean(lines[-1], 200)}" if lines else message


class _Session:
    """A client that is started when it is needed, and again after every fault."""

    def __init__(self, command: Sequence[str], options: Options) -> None:
        self.options = options
        self.claims: Claims | None = None
        self.faults: list[str] = []
        self._command = command
        self._child: Child | None = None
        self._number = 0
        self._hopeless: str | None = None

    def start(self) -> Claims:
        """What the running client claims.  Raises ClientFault: it does not start."""
        if self._hopeless is not None:
            raise ClientFault(self._hopeless)
        for left in reversed(range(self.options.starts)):
            if self._child is not None and self.claims is not None:
                break
            try:
                self._start()
            except ClientFault as fault:
                reason = with_last_line(str(fault), self.end())
                if not left:
                    tries = f"{self.options.starts} starts in a row failed"
                    self._hopeless = f"the client does not start, {tries}: {reason}"
                    raise ClientFault(self._hopeless) from None
        assert self.claims is not None
        return self.claims

    def _start(self) -> None:
        self._child = Child(self._command, self.options.line_limit)
        self._child.send(protocol.line(protocol.start_message()))
        line = self._child.receive(self.options.start_timeout)
        claims = protocol.claims(protocol.parse(line))
        if self.claims not in (None, claims):
            raise ClientFault("start: other claims than before, want the same at every start")
        self.claims = claims

    def ask(self, case: Case) -> Answer:
        """Its answer.  Raises ClientFault."""
        assert self._child is not None
        self._number += 1
        message = protocol.run_message(self._number, case.op, case.input)
        self._child.send(protocol.line(message))
        line = self._child.receive(self.options.timeout)
        return protocol.answer(protocol.parse(line), self._number)

    def stop(self) -> None:
        """Let it end by itself."""
        if self._child is None:
            return
        message = protocol.line(protocol.stop_message())
        fault = self._child.stop(message, self.options.stop_timeout)
        stderr = self.end()
        if fault is not None:
            self.faults.append(with_last_line(fault, stderr))

    def end(self) -> str:
        """Kill it if it runs; the end of its stderr."""
        if self._child is None:
            return ""
        child, self._child = self._child, None
        child.kill()
        return child.stderr()
