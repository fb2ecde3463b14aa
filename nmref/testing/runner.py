"""Run the laws against an implementation, the same way every time, and report."""

from __future__ import annotations

import unittest
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as with_seed
from hypothesis.errors import Flaky

from nmref.testing.code_laws import CODE_LAWS
from nmref.testing.contents import Weight
from nmref.testing.faults import Faulty
from nmref.testing.file_laws import FILE_LAWS, read_refuses
from nmref.testing.law import Law
from nmref.testing.plain import Implementation, Input, Refused
from nmref.testing.recipes import FLOATS, Recipe
from nmref.testing.weight_laws import (
    INPUT_LAWS,
    PART_LAWS,
    WEIGHT_LAWS,
    decode_refuses,
    encode_refuses,
)

LAWS: list[Law] = [*CODE_LAWS, *WEIGHT_LAWS, *INPUT_LAWS, *PART_LAWS, *FILE_LAWS]
"""Every law, the small ones first."""

_REFUSALS = (encode_refuses, decode_refuses, read_refuses)


@dataclass(frozen=True)
class Result:
    """What became of one law."""

    law: str
    clause: str
    outcome: str
    message: str = ""


@dataclass(frozen=True)
class Report:
    """What became of all laws; `str(report)` is for people."""

    results: tuple[Result, ...]

    def named(self, outcome: str) -> list[Result]:
        """The results "passed", "failed" or "skipped"."""
        return [result for result in self.results if result.outcome == outcome]

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.named("failed")

    def __str__(self) -> str:
        counts = [f"{len(self.named(o))} {o}" for o in ("passed", "failed", "skipped")]
        lines = [", ".join(counts)]
        for result in self.named("failed"):
            lines += [f"FAILED {result.law} (SPEC {result.clause})", f"    {result.message}"]
        missing = sorted({result.message for result in self.named("skipped")})
        lines += [f"skipped: {message}" for message in missing]
        return "\n".join(lines)


def check(
    implementation: Implementation, examples: int = 100, seed: int = 0, only: str = ""
) -> Report:
    """Run all laws whose names contain `only` and whose callables are there.

    Each law sees up to `examples` random cases, a law about one fault a tenth or a twentieth of
    that; a failing one is made as small as Hypothesis can.  Then comes a fixed list of cases.  The
    same seed, implementation, versions and imported modules give the same report.
    """
    results = []
    for law in LAWS:
        if only not in law.name:
            continue
        message = _missing(law, implementation)
        if message:
            results.append(Result(law.name, law.clause, "skipped", message))
            continue
        try:
            judged = run(law, implementation, examples, seed)
        except AssertionError as error:
            results.append(Result(law.name, law.clause, "failed", str(error)))
        else:
            outcome, message = ("passed", "") if judged else ("skipped", "no case is handled")
            results.append(Result(law.name, law.clause, outcome, message))
    return Report(tuple(results))


def laws(
    implementation: Implementation, examples: int = 100, seed: int = 0
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Name and test of every law, for `pytest.mark.parametrize`; tests of missing callables skip.

    >>> name, test = next(laws(Implementation()))
    >>> name
    'rank counts the smaller masks'
    """
    for law in LAWS:
        yield law.name, partial(_test, law, implementation, examples, seed)


def _test(law: Law, implementation: Implementation, examples: int, seed: int) -> None:
    message = _missing(law, implementation)
    if message:
        raise unittest.SkipTest(message)
    try:
        judged = run(law, implementation, examples, seed)
    except AssertionError as error:
        raise AssertionError(f"{law.name} (SPEC {law.clause}): {error}") from None
    if not judged:
        raise unittest.SkipTest("no case is handled")


def _missing(law: Law, implementation: Implementation) -> str:
    there = implementation.callables()
    missing = [name for name in law.needs if name not in there]
    if missing:
        return f"no {' and no '.join(missing)}"
    if law.check is decode_refuses and not implementation.decode_checks:
        return "decode does not check"
    return ""


def run(law: Law, implementation: Implementation, examples: int = 100, seed: int = 0) -> int:
    """One law: random cases, then the fixed ones; how many were judged.  Raises AssertionError."""
    count, one = max(1, round(examples * law.share)), judge(law, implementation)
    return search(law, one, count, seed) + sum(map(one, law.sweep(count)))


def search(law: Law, one: Callable[[Any], bool], count: int, seed: int) -> int:
    """Random cases of one law; the failing one is shrunk.  How many were judged."""
    judged = []

    @with_seed(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(law.cases)
    def cases(recipe: Any) -> None:
        judged.append(one(recipe))

    try:
        cases()
    except Flaky as error:
        raise AssertionError(f"the same input twice, two outcomes: {error}") from error
    return sum(judged)


def judge(law: Law, implementation: Implementation) -> Callable[[Any], bool]:
    """The law as a function of a recipe: whether it is handled; AssertionError if it breaks."""
    there = implementation.callables()
    calls = [_guarded(there[name], implementation) for name in law.needs]
    more = {"ordered": implementation.ordered} if law.check in _REFUSALS else {}

    def one(recipe: Any) -> bool:
        case = law.make(_narrow(recipe, implementation))
        if not _handled(case, implementation):
            return False
        law.check(*calls, case, **more)
        return True

    return one


def _narrow(recipe: Any, implementation: Implementation) -> Any:
    """The recipe in a pattern and dtypes that the implementation handles, if there are any."""
    if not isinstance(recipe, Recipe):
        return recipe
    out = recipe.out
    if out is not None:
        dtypes = [name for name in FLOATS if name in (implementation.dtypes or FLOATS)]
        out = replace(
            out,
            pattern=_known(out.pattern, implementation.out_patterns, recipe.salt),
            dtype=_known(out.dtype, tuple(dtypes), recipe.salt),
        )
    return replace(
        recipe,
        pattern=_known(recipe.pattern, implementation.patterns, recipe.salt),
        dtype=_known(recipe.dtype, implementation.dtypes, recipe.salt),
        out=out,
    )


def _known(item: str, known: tuple[str, ...] | None, salt: int) -> str:
    return item if not known or item in known else known[salt % len(known)]


def _handled(case: Any, implementation: Implementation) -> bool:
    """Whole files are always handled, single weights and patterns if the implementation says so."""
    subject = case.subject if isinstance(case, Faulty) else case
    if isinstance(subject, Input | Weight):
        return implementation.handles(subject.spec)
    if isinstance(subject, tuple):
        return implementation.handles(subject[0])
    pattern = subject if isinstance(subject, str) else getattr(subject, "pattern", None)
    return pattern is None or implementation.handles_pattern(pattern)


def _guarded(function: Callable[..., Any], implementation: Implementation) -> Callable[..., Any]:
    """The callable with its refusals as Refused, as the implementation's own `code_of` says."""

    def guarded(*args: Any) -> Any:
        try:
            return function(*args)
        except Exception as error:
            code = implementation.code_of(error)
            if code is None:
                raise
            raise Refused(code, str(error)) from error

    return guarded
