"""Laws of whole files (SPEC parts 5 and 6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

from nmref.testing.contents import Weight
from nmref.testing.drafts import draft
from nmref.testing.faults import Faulty, Kind
from nmref.testing.file_variants import VARIANTS, File, Variant
from nmref.testing.header_faults import HEADER_FAULTS
from nmref.testing.law import Law, call, fail, refused, same_dense
from nmref.testing.meta_faults import META_FAULTS
from nmref.testing.part_faults import PART_FAULTS, Encoded
from nmref.testing.plain import Dense, Parts, Spec
from nmref.testing.recipes import Recipe, sweep
from nmref.testing.strategies import recipes, small_recipes

Read = Callable[[bytes], dict[str, Dense]]
Write = Callable[[dict[str, tuple[Spec, Parts]], dict[str, Dense]], bytes]

SHARE = 0.05


def write_gives_the_canonical_file(write_file: Write, file: File) -> None:
    """SPEC 5.19: byte for byte, whatever the order in which the tensors are handed over."""
    weights = dict(reversed(file.weights.items()))
    got = bytes(call("write_file", write_file, weights, dict(file.others)))
    if got == file.data:
        return
    pairs = zip(got, file.data, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(got), len(file.data)))
    start = max(0, at - 24)
    end = 8 + int.from_bytes(file.data[:8], "little")
    where = "header length" if at < 8 else "header" if at < end else "data"
    raise fail(
        f"write_file: {where}, byte {at}",
        f"{len(got)} bytes, {got[start : at + 16]!r}",
        f"{len(file.data)} bytes, {file.data[start : at + 16]!r}",
    )


def _same_tensors(what: str, got: Any, want: dict[str, Dense], weights: dict[str, Any]) -> None:
    if not isinstance(got, dict) or set(got) != set(want):
        names = sorted(got) if isinstance(got, dict) else type(got).__name__
        raise fail(what, f"{names}", f"{sorted(want)}")
    for name in sorted(want):
        pattern = weights[name][0]["pattern"] if name in weights else None
        same_dense(f"{what}: {name}", got[name], want[name], pattern)


def read_gives_every_tensor(read_file: Read, file: File) -> None:
    """SPEC 1.9, 1.11: a valid file is accepted, and every bit of it arrives."""
    got = call("read_file", read_file, file.data)
    _same_tensors("read_file", got, file.want, file.weights)


def read_inverts_write(write_file: Write, read_file: Read, file: File) -> None:
    """What is written is read."""
    data = bytes(call("write_file", write_file, dict(file.weights), dict(file.others)))
    got = call("read_file(write_file(x))", read_file, data)
    _same_tensors("read_file(write_file(x))", got, file.want, file.weights)


def read_refuses(read_file: Read, faulty: Faulty[bytes], ordered: bool = False) -> None:
    """SPEC 1.9: a file that is not valid is refused, with a code whose condition holds."""
    refused(f"read_file: {faulty}", faulty.codes, ordered, read_file, faulty.subject)


def in_a_file(kind: Kind[Encoded]) -> Kind[bytes]:
    """The fault of parts in the weight a of a file, whose digest fits."""

    def make(recipe: Recipe) -> bytes:
        made = draft(Recipe())
        spec, parts = kind.make(recipe)
        old = made.weights["a"]
        made.weights["a"] = Weight(spec, parts, old.dense, old.content)
        made.document["tensors"]["a"] = spec
        return made.build()

    return Kind(kind.fault, kind.clause, kind.codes, make, kind.fixed)


CONTENT_FAULTS = [in_a_file(kind) for kind in PART_FAULTS]
"""The faults of parts as files."""

_canonical = [variant for variant in VARIANTS if variant.canonical]


def _small_sweep(count: int) -> Iterator[Recipe]:
    return (recipe for recipe in sweep(count, out=None))


def _canonical_sweep(count: int) -> Iterator[File]:
    for i, recipe in enumerate(_small_sweep(max(count, len(_canonical)))):
        yield _canonical[i % len(_canonical)].on(recipe)


_canonical_files = st.builds(Variant.on, st.sampled_from(_canonical), small_recipes())


def _accepts(variant: Variant) -> Law:
    name, needs = f"read_file accepts: {variant.name}", ("read_file",)
    check, cases = read_gives_every_tensor, small_recipes()
    return Law(name, variant.clause, needs, cases, _small_sweep, check, SHARE, variant.on)


def _refuses(kind: Kind[bytes], *, outliers: bool) -> Law:
    name, needs = f"read_file refuses: {kind.fault}", ("read_file",)
    cases, fixed = (recipes(), sweep) if outliers else (small_recipes(), _small_sweep)
    return Law(name, kind.clause, needs, cases, fixed, read_refuses, SHARE, kind.on)


FILE_LAWS = [
    Law("write_file is canonical", "5.19", ("write_file",), _canonical_files, _canonical_sweep,
        write_gives_the_canonical_file, 0.5),
    Law("read_file inverts write_file", "1.13", ("write_file", "read_file"), _canonical_files,
        _canonical_sweep, read_inverts_write, 0.3),
    *(_accepts(variant) for variant in VARIANTS),
    *(_refuses(kind, outliers=False) for kind in HEADER_FAULTS + META_FAULTS),
    *(_refuses(kind, outliers=True) for kind in CONTENT_FAULTS),
]  # fmt: skip
"""Laws of read_file and write_file."""
