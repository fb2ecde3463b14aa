"""Reading the trace folders that `trace` writes (SPEC 8.37)."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from nmref.conformance.taps import NAME, place
from nmref.conformance.trace import (
    CLAUSE,
    INDEX,
    SCHEMA,
    Bits,
    Identity,
    Tap,
    canonical,
    trace_digest,
)
from nmref.container import strictjson
from nmref.errors import Code, NmrefError

_DEPTH = 4  # the index, taps, a tap, its shape
_SHA256, _CRC32 = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{8}")
_VERSION, _PRINTABLE = re.compile(r"1\.(0|[1-9][0-9]{0,8})"), re.compile("[ -~]{1,200}")
_KIND = re.compile("golden|packed|dense")
_MEMBERS = ("schema", "spec", "profile", "model", "tokens", "taps", "digest")


@dataclass(frozen=True)
class Trace:
    """An opened trace folder whose files have been checked."""

    folder: Path
    profile: str
    model: Identity
    tokens: tuple[int, ...]
    taps: Mapping[str, Tap]
    digest: str

    def bits(self, name: str) -> Bits:
        """The elements of a tap after the map of 8.4, with its shape.  Raises KeyError."""
        flat = np.fromfile(self.folder / f"{name}.f32", dtype="<f4")
        return canonical(flat.reshape(self.taps[name].shape))

    def values(self, name: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The same as numbers."""
        return self.bits(name).view("<f4").astype(np.float32, copy=False)


def read(folder: Path) -> Trace:
    """Open a trace and check its index, and the size and the digests of every file.

    Raises T_FILE: no such folder, an index that breaks a rule, a file that is not what it says.
    """
    path = Path(folder) / INDEX
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise NmrefError(Code.T_FILE, str(path), reason, "the index of a trace") from None
    trace = _Index(str(path)).trace(Path(folder), text)
    for tap in trace.taps.values():
        _check_tap(trace.folder, tap)
    return trace


@dataclass(frozen=True)
class _Index:
    """Reads an index.json; every complaint names the file and the place in it."""

    where: str

    def fail(self, at: str, got: object, want: str) -> NoReturn:
        where = f"{self.where} {at}".rstrip()
        raise NmrefError(Code.T_FILE, where, str(got)[:80], want)

    def members(self, at: str, value: object, names: tuple[str, ...]) -> Mapping[str, Any]:
        """An object with exactly these members."""
        if not isinstance(value, dict):
            self.fail(at, f"a {type(value).__name__}", "an object")
        if set(value) != set(names):
            self.fail(at, f"members {', '.join(sorted(value))}", ", ".join(sorted(names)))
        return value

    def text(self, at: str, value: object, pattern: re.Pattern[str]) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            self.fail(at, repr(value), f"a text like {pattern.pattern}"[:80])
        return value

    def text_or_null(self, at: str, value: object, pattern: re.Pattern[str]) -> str | None:
        return None if value is None else self.text(at, value, pattern)

    def integers(self, at: str, value: object, least: int) -> tuple[int, ...]:
        good = isinstance(value, list) and all(type(i) is int and i >= least for i in value)
        if not good or not value:
            self.fail(at, repr(value), f"a list of integers, {least} or more")
        assert isinstance(value, list)
        return tuple(value)

    def trace(self, folder: Path, text: str) -> Trace:
        """The content of an index."""
        try:
            document, end = strictjson.loads(text, _DEPTH)
        except strictjson.StrictJSONError as error:
            self.fail("", error, "JSON")
        if text[end:].strip():
            self.fail("", f"{text[end:].strip()[:20]!r} after the object", "nothing")
        if document.get("schema") != SCHEMA:
            self.fail("schema", repr(document.get("schema")), SCHEMA)
        top = self.members("", document, _MEMBERS)
        spec = self.members("spec", top["spec"], ("version", "clause"))
        self.text("spec version", spec["version"], _VERSION)
        self.text("spec clause", spec["clause"], re.compile(re.escape(CLAUSE)))
        taps = self.taps(top["taps"])
        digest = self.text("digest", top["digest"], _SHA256)
        if digest != trace_digest(taps.values()):
            self.fail("digest", digest, f"{trace_digest(taps.values())}, that of its taps")
        return Trace(
            folder=folder,
            profile=self.text("profile", top["profile"], _PRINTABLE),
            model=self.model(top["model"]),
            tokens=self.integers("tokens", top["tokens"], 0),
            taps=taps,
            digest=digest,
        )

    def model(self, value: object) -> Identity:
        found = self.members("model", value, ("kind", "name", "sha256"))
        return Identity(
            self.text("model kind", found["kind"], _KIND),
            self.text_or_null("model name", found["name"], _PRINTABLE),
            self.text_or_null("model sha256", found["sha256"], _SHA256),
        )

    def taps(self, value: object) -> dict[str, Tap]:
        """At least one, each once, in the order in which they are computed."""
        if not isinstance(value, list) or not value:
            self.fail("taps", repr(value), "a list of at least one tap")
        taps = [self.tap(f"tap {number}", entry) for number, entry in enumerate(value)]
        for before, after in pairwise(taps):
            if place(before.name) >= place(after.name):
                self.fail(f"tap {after.name}", f"after {before.name}", "taps in the order of 8.36")
        return {tap.name: tap for tap in taps}

    def tap(self, where: str, value: object) -> Tap:
        names = ("name", "file", "dtype", "shape", "sha256", "crc32", "memh")
        found = self.members(where, value, names)
        name = self.text(where, found["name"], NAME)
        memh = None
        if found["memh"] is not None:
            inner = self.members(f"{name} memh", found["memh"], ("file", "sidecar", "sha256"))
            memh = self.text(f"{name} memh sha256", inner["sha256"], _SHA256)
        tap = Tap(
            name,
            self.integers(f"{name} shape", found["shape"], 1),
            self.text(f"{name} sha256", found["sha256"], _SHA256),
            self.text(f"{name} crc32", found["crc32"], _CRC32),
            memh,
        )
        rank = 3 if name.endswith((".scores", ".probs")) else 2
        if len(tap.shape) != rank:
            self.fail(f"{name} shape", list(tap.shape), f"{rank} sizes")
        if tap.document() != value:  # file names follow from the tap's, so no path is trusted
            self.fail(name, "other file names or dtype", f"{name}.f32 and so on, F32")
        return tap


def _check_tap(folder: Path, tap: Tap) -> None:
    """The size and the digests of a tap's files.  Raises T_FILE."""
    path = folder / f"{tap.name}.f32"
    size = 4 * prod(tap.shape)
    data = _content(path, size)
    for kind, got, want in (
        ("sha256", hashlib.sha256(data).hexdigest(), tap.sha256),
        ("crc32", f"{zlib.crc32(data):08x}", tap.crc32),
    ):
        if got != want:
            raise NmrefError(Code.T_FILE, str(path), f"{kind} {got}", f"{want}, as its index says")
    if tap.memh is not None:
        path = folder / f"{tap.name}.memh"
        got = hashlib.sha256(_content(path)).hexdigest()
        if got != tap.memh:
            raise NmrefError(Code.T_FILE, str(path), f"sha256 {got}", tap.memh)


def _content(path: Path, size: int | None = None) -> bytes:
    try:
        found = path.stat().st_size
        if size is not None and found != size:  # before it is read
            raise NmrefError(Code.T_FILE, str(path), f"{found} bytes", f"{size}, as its index says")
        return path.read_bytes()
    except OSError as error:
        got = error.strerror or str(error)
        raise NmrefError(Code.T_FILE, str(path), got, "a file of the trace") from None
