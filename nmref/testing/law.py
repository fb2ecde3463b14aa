"""What a law is, and how laws call an implementation and say what they found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from hypothesis.strategies import SearchStrategy

from nmref.testing.contents import part_shapes, part_sizes
from nmref.testing.plain import Bits, Dense, Parts, Refused, Spec, code_of, describe
from nmref.testing.recipes import parse, width


def _same(case: Any) -> Any:
    return case


@dataclass(frozen=True)
class Law:
    """One law about some callables of an implementation.

    Attributes
    ----------
    name, clause : what it says, and where SPEC.md says so.
    needs : names of the callables that `check` takes, in this order.
    cases : strategy of its cases, as recipes; `sweep` gives a fixed list of about so many.
    check : (callables ..., case); raises AssertionError.
    share : of the examples, for laws of which there are many.
    make : recipe -> case.
    """

    name: str
    clause: str
    needs: tuple[str, ...]
    cases: SearchStrategy[Any] = field(repr=False)
    sweep: Callable[[int], Iterable[Any]] = field(repr=False)
    check: Callable[..., None] = field(repr=False)
    share: float = 1.0
    make: Callable[[Any], Any] = field(default=_same, repr=False)


def fail(place: str, got: str, want: str) -> AssertionError:
    """The message of a broken law."""
    return AssertionError(f"{place}: got {got}, want {want}")


def call(what: str, function: Callable[..., Any], *args: Any) -> Any:
    """The result for a valid input; a refusal or a crash breaks the law."""
    try:
        return function(*args)
    except Exception as error:
        code = error.code if isinstance(error, Refused) else code_of(error)
        if code is None:
            raise fail(what, f"{type(error).__name__}: {error}"[:200], "a result") from error
        raise fail(what, f"refused with {error}"[:200], "a result: the input is valid") from error


def refused(
    what: str, codes: tuple[str, ...], ordered: bool, function: Callable[..., Any], *args: Any
) -> None:
    """The input must be refused, with one of the codes; the first of them when `ordered`."""
    wanted = f"refused with {codes[0] if ordered or len(codes) == 1 else ' or '.join(codes)}"
    try:
        function(*args)
    except Exception as error:
        code = error.code if isinstance(error, Refused) else code_of(error)
        if code is None:
            raise fail(what, f"{type(error).__name__}: {error}"[:200], wanted) from error
        if code not in (codes[:1] if ordered else codes):
            raise fail(what, f"refused with {code}", wanted) from error
        return
    raise fail(what, "accepted", wanted)


def same_dense(what: str, got: Any, want: Dense, pattern: str | None = None) -> None:
    """Dtype, shape and every bit; names the row, the column and the block of the first fault."""
    bits = np.asarray(getattr(got, "bits", None))
    if getattr(got, "dtype", None) != want.dtype:
        raise fail(what, f"dtype {getattr(got, 'dtype', None)}", f"dtype {want.dtype}")
    if bits.shape != want.bits.shape:
        raise fail(what, f"shape {list(bits.shape)}", f"shape {list(want.bits.shape)}")
    if bits.dtype.itemsize != want.bits.dtype.itemsize:
        raise fail(what, f"elements of {bits.dtype}", f"{want.bits.dtype}")
    raw: Bits = np.ascontiguousarray(bits).view(want.bits.dtype).reshape(want.bits.shape)
    wrong = np.argwhere(raw != want.bits)
    if len(wrong):
        at = tuple(int(i) for i in wrong[0])
        raise fail(f"{what}{_place(at, pattern)}", _hex(raw[at], raw), _hex(want.bits[at], raw))


def _place(at: tuple[int, ...], pattern: str | None) -> str:
    if len(at) != 2:
        return f" element {list(at)}"
    block = f" (block {at[1] // parse(pattern)[1]})" if pattern else ""
    return f" row {at[0]} column {at[1]}{block}"


def _hex(value: Any, like: Bits) -> str:
    return f"bits 0x{int(value):0{2 * like.dtype.itemsize}x}"


def same_parts(what: str, spec: Spec, got: Any, want: Parts) -> None:
    """Exactly these parts, byte for byte; names the row and block or slot of the first fault."""
    what = f"{what}: {describe(spec)}"
    if not isinstance(got, dict) or set(got) != set(want):
        names = sorted(got) if isinstance(got, dict) else type(got).__name__
        raise fail(what, f"parts {names}", f"parts {sorted(want)}")
    for suffix in part_shapes(spec):
        if (data := bytes(got[suffix])) != want[suffix]:
            raise _part_fault(f"{what}: {suffix}", spec, suffix, data, want[suffix])


def same_sizes(what: str, spec: Spec, got: Any) -> None:
    """Exactly the parts of SPEC 5.10, each with the bytes that its shape asks for."""
    what, sizes = f"{what}: {describe(spec)}", part_sizes(spec)
    if not isinstance(got, dict) or set(got) != set(sizes):
        names = sorted(got) if isinstance(got, dict) else type(got).__name__
        raise fail(what, f"parts {names}", f"parts {sorted(sizes)}")
    for suffix, size in sizes.items():
        if len(got[suffix]) != size:
            raise fail(f"{what}: {suffix}", f"{len(got[suffix])} bytes", f"{size} bytes")


def _part_fault(what: str, spec: Spec, suffix: str, got: bytes, want: bytes) -> AssertionError:
    if len(got) != len(want):
        return fail(what, f"{len(got)} bytes", f"{len(want)} bytes")
    _, shape = part_shapes(spec)[suffix]
    row_bytes = prod(shape[1:]) * len(want) // prod(shape)
    at = next(i for i, pair in enumerate(zip(got, want, strict=True)) if pair[0] != pair[1])
    row = at // row_bytes
    mine, right = (data[row * row_bytes : (row + 1) * row_bytes] for data in (got, want))
    pattern = spec["outliers"]["pattern"] if "_out_" in suffix else spec["pattern"]
    n, _ = parse(pattern)
    if suffix.endswith("codes"):
        bits = width(pattern)
        for block in range(len(right) * 8 // bits):
            a, b = (
                int.from_bytes(d, "little") >> block * bits & ~(-1 << bits) for d in (mine, right)
            )
            if a != b:
                return fail(f"{what} row {row} block {block}", f"code {a}", f"code {b}")
        return fail(f"{what} row {row} padding", mine[-1:].hex(), right[-1:].hex())
    size = row_bytes // shape[1] if len(shape) > 1 else row_bytes
    slot = (at - row * row_bytes) // size
    a, b = (int.from_bytes(d[slot * size : slot * size + size], "little") for d in (mine, right))
    place = (
        f"{what} row {row} block {slot // n} slot {slot % n}"
        if len(shape) > 1
        else f"{what} row {row}"
    )
    return fail(place, f"0x{a:0{2 * size}x}", f"0x{b:0{2 * size}x}")
