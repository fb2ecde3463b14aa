"""nmref as a client of the conformance suite: `python -m nmref.conformance.client`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

from nmref import __version__
from nmref.conformance import protocol
from nmref.conformance.operations import Operations
from nmref.errors import NmrefError

Json = dict[str, Any]


def answer(operations: Operations, op: str, data: Json) -> Json:
    """The outcome of one case: output, rejected or errored."""
    if op not in protocol.OPS:
        return {"skipped": f"unknown operation {op}"}
    try:
        return {"output": getattr(operations, op)(**data)}
    except NmrefError as error:
        return {"rejected": {"code": str(error.code), "message": str(error)}}
    except Exception as error:
        return {"errored": f"{type(error).__name__}: {error}"}


def serve(operations: Operations, name: str, source: BinaryIO, sink: BinaryIO) -> None:
    """Answer the runner until it says stop or is gone."""
    for line in source:
        message = json.loads(line)
        if message["type"] == "stop":
            return
        if message["type"] == "start":
            said = {"protocol": protocol.PROTOCOL, "name": name, "version": __version__}
            reply = {"type": "start", **said, "ops": list(protocol.OPS)}
        else:
            outcome = answer(operations, message["op"], message["input"])
            reply = {"type": "result", "id": message["id"], **outcome}
        sink.write(protocol.line(reply))
        sink.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m nmref.conformance.client", description="nmref as a conformance client."
    )
    parser.add_argument("--twin", choices=("fast", "plain"), default="fast")
    twin = parser.parse_args(arguments).twin
    serve(Operations(twin), f"nmref ({twin})", sys.stdin.buffer, sys.stdout.buffer)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
