"""The vectors of the repository and how a test runs them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2] / "conformance"

Json = dict[str, Any]


@cache
def documents() -> dict[str, Json]:
    """Part -> file."""
    paths = sorted((ROOT / "vectors").glob("*.json"))
    return {path.stem: json.loads(path.read_text("utf-8")) for path in paths}


@cache
def cases() -> tuple[Json, ...]:
    """Every case; the short ones first, so that a broken author is caught soon."""
    found = [case for document in documents().values() for case in document["cases"]]
    return tuple(sorted(found, key=lambda case: len(json.dumps(case["input"]))))


@cache
def with_flag(flag: str) -> tuple[Json, ...]:
    return tuple(case for case in cases() if flag in case["flags"])


def failure(author: Any, case: Json, strict: bool = True) -> str | None:
    """What is wrong about an author's answer; None if nothing is."""
    expect = case["expect"]
    try:
        output = getattr(author, case["op"])(case["input"])
    except Exception as error:
        code = str(getattr(error, "code", ""))
        if expect.get("rejected") == [] and code:
            return None
        if code[:2] not in ("E_", "X_"):
            return f"{type(error).__name__}: {error}"
        if "rejected" not in expect:
            return f"rejected with {code}"
        if strict and code not in expect["rejected"]:
            return f"rejected with {code}, want {expect['rejected']}"
        return None
    if "rejected" in expect:
        return f"an output, want {expect['rejected']}"
    return None if output == expect["output"] else "another output"
