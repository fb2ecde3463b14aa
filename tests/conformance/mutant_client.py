"""A broken implementation as a client: `python -m tests.conformance.mutant_client NAME`.

NAME is KIND/FLAG/NUMBER of kills.py.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from nmref.conformance import protocol

Json = dict[str, Any]


def author(name: str) -> Any:
    """The broken author of a name; only what it needs is imported."""
    kind, flag, number = name.split("/")
    if kind == "format":
        return of_format(flag, int(number))
    if kind == "more":
        from tests.conformance.forward_mutants import MORE

        return list(MORE[flag].values())[int(number) - 1]
    from tests.conformance.vector_mutants import FLUSH, NUMERIC

    return NUMERIC.get(flag, FLUSH)


def of_format(flag: str, number: int) -> Any:
    """The first mutant of that name that is broken for the operations of the vectors."""
    from tests.conformance.format_mutants import FORMAT
    from tests.conformance.plain_author import PlainAuthor
    from tests.testing import file_mutants, mutants

    wanted = FORMAT[flag][number - 1]
    found = [m for m in (*mutants.MUTANTS, *file_mutants.MUTANTS) if m.name == wanted]
    return PlainAuthor(found[0].make())


def answer(broken: Any, op: str, given: Json) -> Json:
    """The outcome of a case: a Fault bears a code, anything else is a crash."""
    try:
        return {"output": getattr(broken, op)(given)}
    except Exception as error:
        code = str(getattr(error, "code", ""))
        if code[:2] in ("E_", "X_", "T_"):
            return {"rejected": {"code": code}}
        return {"errored": f"{type(error).__name__}: {error}"}


def main(name: str) -> None:
    broken = author(name)
    for line in sys.stdin:
        message = json.loads(line)
        if message["type"] == "stop":
            return
        if message["type"] == "start":
            ops = [op for op in protocol.OPS if hasattr(broken, op)]
            said = {"protocol": protocol.PROTOCOL, "name": name, "version": "1", "ops": ops}
            reply = {"type": "start", **said}
        else:
            outcome = answer(broken, message["op"], message["input"])
            reply = {"type": "result", "id": message["id"], **outcome}
        sys.stdout.buffer.write(protocol.line(reply))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1])
