"""nmref doctor."""

from __future__ import annotations

import argparse
import os
import textwrap
from dataclasses import asdict
from time import perf_counter
from typing import TYPE_CHECKING, Any

from nmref.cli import machine
from nmref.cli.common import add_json, cpus, print_json, print_table

if TYPE_CHECKING:
    from nmref.linear.workers import Outcome

OUTLIERS = "16:256"
"""Of the products that are shown."""

WIDTH = 100
LABEL = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `nmref doctor`."""
    parser.epilog = (
        "The text is meant for bug reports: it names no user and no home folder. Exit 1 when a\n"
        "product is wrong. `nmref warmup` first makes it quick.\n\n"
        "examples:\n  nmref doctor\n  NMREF_ISA=avx2 nmref doctor --json"
    )
    parser.add_argument("--no-test", action="store_true", help="only look, compute nothing")
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The page first and the test after it: so much is there even if the test never ends."""
    found = examine()
    if not args.json:
        _print_page(found)
    wrong: list[Outcome] = []
    if not args.no_test:
        found["test"], wrong = _test()
    if args.json:
        print_json(found)
    elif not args.no_test:
        _print_test(found["test"])
    return 1 if wrong else 0


def examine() -> dict[str, Any]:
    """All but the test.  Raises T_ARGUMENT (NMREF_ISA, NMREF_THREADS)."""
    from nmref.kernels import cache, isa
    from nmref.linear.pool import default_threads

    total, free = machine.memory()
    state = asdict(cache.state())
    state["folder"] = None if state["folder"] is None else machine.private(str(state["folder"]))
    state["stale"] = len(state["stale"])
    state |= {name: machine.private(state[name]) for name in ("why", "trouble")}
    return {
        "versions": machine.versions(),
        "system": machine.system(),
        "cpu": {"model": machine.cpu_model(), "llvm": isa.cpu_name(), **_features()},
        "memory": {"bytes": total, "available": free},
        "isa": {"chosen": isa.chosen(), "why": isa.why(), "available": isa.available()},
        "settings": machine.settings(),
        "threads": {"used": default_threads(), "cpus": cpus(), "advice": advice()},
        "cache": state,
        **_kernels(),
    }


def _features() -> dict[str, list[str]]:
    from nmref.kernels import isa

    there = isa.features()
    return {
        "features": [name for name in machine.FEATURES if name in there],
        "not usable": [name for name in machine.FEATURES if name in there and not isa.has(name)],
    }


def advice() -> list[str]:
    """What about threads deserves a thought."""
    from nmref.linear.pool import default_threads

    threads, allowed, quota = default_threads(), cpus(), machine.quota()
    found = []
    if quota is not None and quota < threads:
        found.append(
            f"the control group allows {quota:g} CPUs on average, and {threads} threads would be "
            f"stopped now and then: set NMREF_THREADS={max(1, int(quota))}"
        )
    if threads > allowed:
        found.append(f"NMREF_THREADS is {threads}, and this process may use {allowed} CPUs")
    if (cores := machine.cores(allowed)) < min(threads, allowed):
        found.append(
            f"{allowed} CPUs are {cores} cores: where memory sets the pace, as for one token, "
            f"NMREF_THREADS={cores} is as fast"
        )
    blas = {name: value for name, value in machine.settings().items() if "_NUM_THREADS" in name}
    if not blas and allowed > 1:
        found.append(
            "threads of NumPy's BLAS that have just worked may hold the CPUs for some milliseconds "
            "more: programs that mix both can set OPENBLAS_NUM_THREADS=1"
        )
    if os.environ.get("OMP_WAIT_POLICY", "").lower() == "active":
        found.append("OMP_WAIT_POLICY=active keeps idle threads of other libraries on the CPUs")
    return found


def _kernels() -> dict[str, Any]:
    """operands -> T -> kernel, and kernel -> why."""
    from nmref.linear.jobs import products

    table: dict[str, dict[str, str]] = {}
    why: dict[str, list[str]] = {}
    for job in products():
        choice = job.choice()
        takes = f"/{choice.tokens}" if choice.tokens else ""
        table.setdefault(job.operands, {})[str(job.tokens)] = f"{choice.kernel}{takes}"
        reasons = why.setdefault(choice.kernel, [])
        if choice.why not in reasons:
            reasons.append(choice.why)
    return {"kernels": table, "why": why}


def _test() -> tuple[dict[str, Any], list[Outcome]]:
    """All products, in processes that may crash."""
    from tqdm import tqdm

    from nmref.linear.jobs import products
    from nmref.linear.workers import run_all

    names, begin = [job.name for job in products()], perf_counter()
    with tqdm(total=len(names), desc="self-test", unit="product", leave=False, delay=1) as bar:
        outcomes = []
        for outcome in run_all(names, cpus()):
            outcomes.append(outcome)
            bar.update()
    wrong = [outcome for outcome in outcomes if outcome.wrong]
    result = {
        "ok": not wrong,
        "products": len(outcomes),
        "seconds": round(perf_counter() - begin, 1),
        "compiled": sum(outcome.compiled for outcome in outcomes),
        "loaded": sum(outcome.loaded for outcome in outcomes),
        "wrong": {outcome.name: machine.private(outcome.wrong) for outcome in wrong},
    }
    return result, wrong


def _print_page(found: dict[str, Any]) -> None:
    cpu, isa, threads, cache = (found[name] for name in ("cpu", "isa", "threads", "cache"))
    for name, text in found["versions"].items():
        _line(name, text)
    _line("system", found["system"])
    memory = found["memory"]
    _line("memory", f"{memory['bytes'] / 2**30:.1f} GiB, {memory['available'] / 2**30:.1f} free")
    _line("cpu", f"{cpu['model']} ({cpu['llvm']})")
    _line("features", " ".join(cpu["features"]) or "not known")
    if cpu["not usable"]:
        _line("", f"not usable here: {' '.join(cpu['not usable'])}")
    _line("isa", isa["why"])
    _line("", f"available: {', '.join(isa['available'])}")
    _line("settings", ", ".join(f"{k}={v}" for k, v in found["settings"].items()) or "none")
    _line("threads", f"{threads['used']}, this process may use {threads['cpus']} CPUs")
    for text in threads["advice"]:
        _line("", text)
    _print_cache(cache)
    print()
    tokens = next(iter(found["kernels"].values()))
    print_table(("W x X", *(f"T={t}" for t in tokens)), _rows(found["kernels"]))
    print()
    for kernel, reasons in found["why"].items():
        _line(kernel, "; ".join(reasons))


def _rows(kernels: dict[str, dict[str, str]]) -> list[tuple[str, ...]]:
    """Operands and cells; outliers that change nothing are put in brackets."""
    rows = {name: tuple(by_tokens.values()) for name, by_tokens in kernels.items()}
    merged = []
    for name, cells in rows.items():
        dtype, _, rest = name.partition(" ")
        with_outliers = f"{dtype} {OUTLIERS} {rest}"
        if rows.get(with_outliers) == cells:
            merged.append((f"{dtype} [+{OUTLIERS}] {rest}", *cells))
        elif OUTLIERS not in rest or rows[name.replace(f" {OUTLIERS}", "")] != cells:
            merged.append((name, *cells))
    return merged


def _print_cache(cache: dict[str, Any]) -> None:
    place = cache["folder"] or "no folder"
    kind = "" if cache["writable"] else ", nothing can be kept"
    _line("cache", f"{place}{kind}")
    held = f"{cache['files']} kernels, {cache['bytes'] / 1e6:.1f} MB"
    stale = f"; {cache['stale']} folders of other versions" if cache["stale"] else ""
    _line("", f"{held}{stale}; by {cache['why']}")
    if cache["trouble"]:
        _line("", f"trouble: {cache['trouble']}")


def _print_test(test: dict[str, Any]) -> None:
    done = f"{test['products']} products in {test['seconds']} s"
    kernels = f"{test['compiled']} kernels compiled, {test['loaded']} loaded"
    verdict = "ok" if test["ok"] else f"{len(test['wrong'])} FAILED"
    _line("self-test", f"{verdict}: {done}, {kernels}")
    for name, what in test["wrong"].items():
        _line("", f"{name}: {what}")


def _line(label: str, text: str) -> None:
    """A label and its text, wrapped."""
    indent = " " * LABEL
    lines = textwrap.wrap(text, WIDTH - LABEL, break_long_words=False, break_on_hyphens=False) or [
        ""
    ]
    print(f"{label:{LABEL}}{lines[0]}".rstrip())
    for line in lines[1:]:
        print(f"{indent}{line}")
