"""What the runner and a client say to each other: JSON, one message a line, version 1.

conformance/schema/protocol.schema.json describes the same messages; a test holds the two together.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from nmref.container.metadata import SPEC_VERSION
from nmref.errors import NmrefError
from nmref.numerics.profile import Profile

PROTOCOL = 1

OPS = (
    *("unrank", "rank", "decode", "warnings", "encode", "read", "write", "read_model", "dot"),
    *("exp", "silu", "softmax", "rms_norm", "rope_tables", "rope", "argmax", "splitmix64", "trace"),
)
"""Every operation that a client can claim."""

_CODE = re.compile("[!-~]{1,64}")
_OUTCOMES = ("output", "rejected", "skipped", "errored")

Message = dict[str, Any]


class ClientFault(Exception):
    """The client broke the protocol, crashed or hung; the text says how."""


@dataclass(frozen=True)
class Claims:
    """What a client says of itself when it starts.

    Attributes
    ----------
    name, version : free text.
    ops : the operations that it offers.
    profiles : full names (SPEC 8.15) of the profiles of dot and trace; None: all of them.
    excludes : flags of cases that it does not want.
    """

    name: str
    version: str
    ops: tuple[str, ...]
    profiles: tuple[str, ...] | None = None
    excludes: tuple[str, ...] = ()

    def skips(self, op: str, profile: str | None, flags: tuple[str, ...]) -> str | None:
        """Why a case is not for this client; None: it is."""
        if op not in self.ops:
            return f"the client does not claim {op}"
        if profile is not None and self.profiles is not None and profile not in self.profiles:
            return f"the client does not claim {profile}"
        excluded = next((flag for flag in flags if flag in self.excludes), None)
        return None if excluded is None else f"the client excludes {excluded}"


@dataclass(frozen=True)
class Answer:
    """What a client made of one case: `outcome` is output, rejected, skipped or errored."""

    outcome: str
    output: Message | None = None
    code: str = ""
    message: str = ""


def start_message() -> Message:
    """The first message of the runner."""
    return {"type": "start", "protocol": PROTOCOL, "spec": SPEC_VERSION}


def run_message(number: int, op: str, data: Message) -> Message:
    """One case; nothing in it tells what is expected."""
    return {"type": "run", "id": number, "op": op, "input": data}


def stop_message() -> Message:
    """The last message of the runner."""
    return {"type": "stop"}


def line(message: Message) -> bytes:
    """A message as it travels: ASCII, one line."""
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def parse(data: bytes) -> Message:
    """A line of a client as a JSON object.  Raises ClientFault."""

    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is not JSON")

    try:
        message = json.loads(data.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ClientFault(f"output that is not JSON: {_shown(data)} ({error})") from None
    if not isinstance(message, dict):
        raise ClientFault(f"output that is not a JSON object: {_shown(data)}")
    return message


def claims(message: Message) -> Claims:
    """The client's start message.  Raises ClientFault."""
    _type(message, "start")
    _members(message, {"type", "protocol", "name", "version", "ops"}, {"profiles", "excludes"})
    if type(message["protocol"]) is not int or message["protocol"] != PROTOCOL:
        raise ClientFault(f"start: protocol {_shown(message['protocol'])}, want {PROTOCOL}")
    name, version = (_text(message[member], f"start: {member}") for member in ("name", "version"))
    ops = _texts(message["ops"], "start: ops")
    unknown = next((op for op in ops if op not in OPS), None)
    if unknown is not None:
        raise ClientFault(f"start: ops: {_shown(unknown)}, want some of {', '.join(OPS)}")
    profiles = None
    if "profiles" in message:
        profiles = tuple(map(_profile, _texts(message["profiles"], "start: profiles")))
    return Claims(name, version, ops, profiles, _texts(message.get("excludes", []), "excludes"))


def answer(message: Message, number: int) -> Answer:
    """The client's result of the case that was sent as `number`.  Raises ClientFault."""
    _type(message, "result")
    if type(message.get("id")) is not int or message["id"] != number:
        raise ClientFault(f"a result of id {_shown(message.get('id'))}, want {number}")
    given = [outcome for outcome in _OUTCOMES if outcome in message]
    if len(given) != 1:
        raise ClientFault(f"a result with {given or 'no outcome'}, want one of {_OUTCOMES}")
    outcome = given[0]
    _members(message, {"type", "id", outcome}, set())
    value = message[outcome]
    if outcome == "output":
        if not isinstance(value, dict):
            raise ClientFault(f"output: {_shown(value)}, want an object")
        return Answer(outcome, output=value)
    if outcome != "rejected":
        return Answer(outcome, message=_text(value, outcome))
    if not isinstance(value, dict):
        raise ClientFault(f"rejected: {_shown(value)}, want an object")
    _members(value, {"code"}, {"message"})
    code = value["code"]
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        raise ClientFault(f"rejected: code {_shown(code)}, want a code of SPEC part 7")
    return Answer(outcome, code=code, message=_text(value.get("message", ""), "rejected: message"))


def clean(text: str, limit: int = 400) -> str:
    """Foreign text made fit for a terminal and for XML: printable ASCII, not too long.

    >>> clean("caf\\u00e9\\x1b[31m")
    'caf\\\\xe9\\\\x1b[31m'
    """
    short = text if len(text) <= limit else f"{text[:limit]}..."
    shown = (c if " " <= c <= "~" else ascii(c)[1:-1] for c in short)
    return "".join(shown)


def _shown(value: object) -> str:
    return clean(ascii(value), 80)


def _type(message: Message, want: str) -> None:
    if message.get("type") != want:
        raise ClientFault(f"a message of type {_shown(message.get('type'))}, want {want}")


def _members(message: Message, needed: set[str], more: set[str]) -> None:
    there = set(message)
    if needed - there or there - needed - more:
        raise ClientFault(f"members {_shown(sorted(there))}, want {sorted(needed)}")


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ClientFault(f"{where}: {_shown(value)}, want a string")
    return clean(value)


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ClientFault(f"{where}: {_shown(value)}, want an array of strings")
    return tuple(value)


def _profile(name: str) -> str:
    try:
        return str(Profile.parse(name))
    except NmrefError as error:
        raise ClientFault(f"start: profiles: {_shown(name)}, want {error.want}") from None
