"""python -m tests.determinism [--venvs DIR] [--model FOLDER]: the same bits in every environment.

Runs the golden models of SPEC 8.38 in child processes that differ in threads, CPU features,
compilers, libraries and interpreters, and compares their trace digests with
conformance/traces/nmref-tiny.json.  Every child compiles anew into a cache of its own.  The columns
`code` and `float` are digests of the machine code of the loops and of results that SPEC does not
fix (BLAS, np.exp): where they differ, the environment did change something.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIGESTS = ROOT / "conformance" / "traces" / "nmref-tiny.json"
MODEL_TOKENS = 16

DISPATCHED = """
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__
print(*(name for name in __cpu_dispatch__ if __cpu_features__.get(name)))
"""

SETS = ("all", "default", "loops", "small")
"""Cases of a child: every one; f64.seq of every variant; what Python can do; two variants."""


@dataclass(frozen=True)
class Environment:
    """A child process: its variables (None takes one away), its interpreter, and what it runs."""

    name: str
    variables: dict[str, str | None] = field(default_factory=dict)
    cases: str = "all"
    threads: int = 2
    command: tuple[str, ...] = (sys.executable,)


@dataclass(frozen=True)
class Outcome:
    """What a child said, or its last line of complaint."""

    environment: Environment
    seconds: float
    report: dict[str, object]
    error: str = ""


# --- environments --------------------------------------------------------------------------------


def environments(cases: str = "all") -> list[Environment]:
    """Those that this machine and this interpreter can have."""
    found = [Environment(f"threads: {n}", cases=cases, threads=n) for n in (1, 2, 5)]
    found.append(Environment("no compiler", {"NUMBA_DISABLE_JIT": "1"}, "loops"))
    numba = {"generic": {"NUMBA_CPU_NAME": "generic"}}
    if platform.machine() in ("x86_64", "AMD64"):
        numba |= {
            "generic, no features": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
            "Haswell": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "-avx512f"},
            "no AVX, no FMA": {
                "NUMBA_CPU_NAME": "nehalem",
                "NUMBA_CPU_FEATURES": "-avx,-avx2,-fma,-f16c,-avx512f",
            },
        }
    found += [Environment(f"Numba: {name}", more, cases) for name, more in numba.items()]
    baseline = {"NPY_DISABLE_CPU_FEATURES": dispatched() or None}
    found.append(Environment("NumPy: baseline", baseline, cases))
    cores = ("Haswell", "Prescott") if "generic, no features" in numba else ()
    for core in cores:
        found.append(Environment(f"OpenBLAS: {core}", {"OPENBLAS_CORETYPE": core}, cases))
    found.append(Environment("OpenBLAS: its choice", {"OPENBLAS_CORETYPE": None}, cases))
    plain = {**numba["generic"], **baseline, "OPENBLAS_CORETYPE": (*cores, None)[-1]}
    found.append(Environment("all of these", plain, cases, threads=3))
    return found


def dispatched() -> str:
    """The features that NumPy looks for when it starts, and finds."""
    return subprocess.run(
        [sys.executable, "-c", DISPATCHED], check=True, capture_output=True, text=True
    ).stdout.strip()


def virtual(folder: Path, cases: str) -> Iterator[Environment]:
    """Oldest and newest supported libraries, each installed into a folder here once."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    oldest = [line.replace(">=", "==") for line in project["dependencies"]]
    newest = [line.split(">=")[0] for line in project["dependencies"]]
    for name, wanted in (("oldest", oldest), ("newest", newest)):
        home = folder / name
        python = home / "bin" / "python"
        if not (home / "ready").is_file():
            venv.create(home, with_pip=True, clear=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
            (home / "ready").touch()
        yield Environment(f"{name} libraries", {}, cases, command=(str(python),))


# --- a child -------------------------------------------------------------------------------------


def cases_of(name: str) -> list[tuple[str, str]]:
    """Variants and profiles of a set."""
    from nmref.conformance.traces import DEFAULT, EVERY_PROFILE, cases

    packed, window = EVERY_PROFILE
    every = list(cases())
    if name == "all":
        return every
    if name == "default":
        return [case for case in every if case[1] == DEFAULT]
    if name == "small":
        return [(packed, DEFAULT), ("nmref-tiny:i8:2:4+4:256", DEFAULT)]
    slow = ("exact+merged", "f32.fma+split", "tc.L16.F25.rz.rz.slot+split")  # a minute each
    quick = ("f32.seq+merged", "f32.lanes4.mul+merged")
    return [(packed, profile) for profile in (DEFAULT, *quick, *slow)] + [(window, DEFAULT)]


def child(cases: str, threads: int, models: list[Path]) -> dict[str, object]:
    """Digests by case, and what is known of the environment."""
    from nmref.conformance.traces import DEFAULT, measure
    from nmref.numerics import fast

    assert fast.TERMS_A_THREAD
    fast.TERMS_A_THREAD = 1000  # the golden models are too small for threads otherwise
    found: dict[str, str] = {}
    taps: dict[str, dict[str, str]] = {}
    for variant, profile in cases_of(cases):
        found[f"{variant} {profile}"], by_tap = measure(variant, profile, threads)
        if profile == DEFAULT:
            taps[variant] = by_tap
    for model in models:
        found[f"model {model}"] = of_model(model, threads)
    return {
        "digests": found,
        "taps": taps,
        "versions": versions(),
        "code": code(),
        "float": loose(),
    }


def of_model(folder: Path, threads: int) -> str:
    """The trace digest of a model folder over tokens that need no tokenizer."""
    from nmref.conformance.trace import digests
    from nmref.model.checkpoint import open_checkpoint
    from nmref.numerics import SplitMix64
    from nmref.numerics.ops import Golden

    checkpoint = open_checkpoint(folder)
    rng = SplitMix64(2)
    tokens = [rng.below(checkpoint.config.V) for _ in range(MODEL_TOKENS)]
    return digests(checkpoint.weights(), checkpoint.config, tokens, Golden(threads=threads))[0]


def versions() -> str:
    """Machine, interpreter and libraries."""
    import numba
    import numpy as np
    import scipy

    python = platform.python_version()
    return (
        f"{platform.machine()}, Python {python}, NumPy {np.__version__}, "
        f"Numba {numba.__version__}, SciPy {scipy.__version__}"
    )


def code() -> str:
    """A digest of the machine code of the loops that ran, "none" without a compiler."""
    from nmref.kernels import elementary, exact, group, sequential

    found = hashlib.sha256()
    compiled = 0
    for module in (elementary, exact, group, sequential):
        for _, function in sorted(vars(module).items()):
            texts = function.inspect_asm() if hasattr(function, "inspect_asm") else {}
            for text in texts.values():
                compiled += 1
                lines = (line.split("#")[0].strip() for line in text.splitlines())
                found.update("\n".join(line for line in lines if is_code(line)).encode())
    return found.hexdigest()[:8] if compiled else "none"


def is_code(line: str) -> bool:
    """An instruction; labels and data have names that differ from run to run."""
    return bool(line) and line[0] not in "._$" and not line.endswith(":") and "_Z" not in line


def loose() -> str:
    """A digest of results of BLAS and NumPy's functions that no rule fixes."""
    import numpy as np

    from nmref.conformance import tiny
    from nmref.linear import Fast
    from nmref.model.llama import forward

    golden = tiny.build()
    logits = forward(golden.weights, golden.config, golden.prompt, ops=Fast())
    x = np.linspace(-20, 20, 10001, dtype=np.float32)
    square = np.sin(np.arange(256 * 256, dtype=np.float64)).astype(np.float32).reshape(256, 256)
    parts = (logits, np.exp(x), np.sin(x), square @ square)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:8]


# --- the comparison ------------------------------------------------------------------------------


def start(environment: Environment, models: list[Path]) -> Outcome:
    """Run a child to its end."""
    variables = dict(os.environ) | {"PYTHONDONTWRITEBYTECODE": "1"}
    for name, value in environment.variables.items():
        if value is None:
            variables.pop(name, None)
        else:
            variables[name] = value
    arguments = ["--child", environment.cases, "--threads", str(environment.threads)]
    for model in models if environment.cases != "loops" else ():  # that would take a day
        arguments += ["--model", str(model.resolve())]
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="nmref-cache-") as cache:
        variables["NMREF_CACHE_DIR"] = cache
        done = subprocess.run(
            [*environment.command, "-m", "tests.determinism", *arguments],
            cwd=ROOT,
            env=variables,
            capture_output=True,
            text=True,
        )
    seconds = time.perf_counter() - begin
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        return Outcome(environment, seconds, {}, lines[-1])
    return Outcome(environment, seconds, json.loads(done.stdout))


@dataclass(frozen=True)
class Golden:
    """What is right: `variant profile` -> trace digest, and variant -> tap -> SHA-256."""

    digests: dict[str, str]
    taps: dict[str, dict[str, str]]


def golden() -> Golden:
    """From the file in the repository."""
    variants = json.loads(DIGESTS.read_bytes())["variants"]
    digests = {
        f"{variant} {profile}": digest
        for variant, entry in variants.items()
        for profile, digest in entry["profiles"].items()
    }
    return Golden(digests, {variant: entry["taps"] for variant, entry in variants.items()})


def differences(outcome: Outcome, right: Golden) -> list[str]:
    """What an environment computed otherwise, with the first tap where it is known."""
    if outcome.error:
        return [outcome.error]
    found = []
    digests, taps = outcome.report["digests"], outcome.report["taps"]
    assert isinstance(digests, dict)
    assert isinstance(taps, dict)
    for case, digest in digests.items():
        if digest == right.digests[case]:
            continue
        variant, _, profile = case.partition(" ")
        mine = taps.get(variant, {}) if profile == "f64.seq+merged" else {}
        first = next((tap for tap in mine if mine[tap] != right.taps[variant].get(tap)), None)
        found.append(case if first is None else f"{case}: {first}")
    return found


def run(
    chosen: list[Environment], models: list[Path] | None = None, at_once: int = 1
) -> list[tuple[Outcome, list[str]]]:
    """Every environment with its differences; models are compared with the first that ran."""
    right = golden()
    results = []
    with ThreadPoolExecutor(at_once) as pool:
        for outcome in pool.map(lambda environment: start(environment, models or []), chosen):
            digests = outcome.report.get("digests", {})
            assert isinstance(digests, dict)
            for case, digest in digests.items():
                if case.startswith("model "):
                    right.digests.setdefault(case, digest)
            results.append((outcome, differences(outcome, right)))
            sys.stdout.write(line_of(*results[-1]) + "\n")
            sys.stdout.flush()
    return results


HEADER = (
    f"{'environment':28} {'result':16} {'cases':>5} {'s':>5}  {'code':8}  {'float':8}  versions"
)


def line_of(outcome: Outcome, different: list[str]) -> str:
    """One line of the table, and one for every difference."""
    report = outcome.report
    verdict = f"{len(different)} DIFFERENT" if different else "same"
    cells = [f"{report.get(key, '')!s:8}" for key in ("code", "float")]
    count = len(report["digests"]) if report else 0  # type: ignore[arg-type]
    line = (
        f"{outcome.environment.name:28} {'FAILED' if outcome.error else verdict:16} {count:5} "
        f"{outcome.seconds:5.0f}  {'  '.join(cells)}  {report.get('versions', '')}"
    )
    return "\n".join([line.rstrip(), *(f"    {what}" for what in different)])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="f64.seq only: quicker")
    parser.add_argument("--venvs", type=Path, metavar="DIR", help="oldest and newest libraries too")
    parser.add_argument("--model", type=Path, action="append", default=[], metavar="FOLDER")
    parser.add_argument(
        "--interpreter",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="another Python that has the libraries, an emulated one for example",
    )
    parser.add_argument("--only", metavar="WORD", help="environments whose names contain it")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="children (1)")
    parser.add_argument("--child", choices=SETS, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        sys.stdout.write(json.dumps(child(args.child, args.threads, args.model)))
        return 0
    cases = "default" if args.tiny else "all"
    chosen = environments(cases)
    if args.venvs:
        chosen += virtual(args.venvs, cases)
    for text in args.interpreter:
        name, _, command = text.partition("=")
        chosen.append(Environment(name, {}, cases, command=tuple(shlex.split(command))))
    chosen = [e for e in chosen if args.only is None or args.only in e.name]
    sys.stdout.write(HEADER + "\n")
    results = run(chosen, args.model, args.at_once)
    bad = sum(bool(different) for _, different in results)
    sys.stdout.write(f"{len(results)} environments, {bad} different\n")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
