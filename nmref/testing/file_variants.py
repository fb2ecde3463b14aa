"""Valid files that look unusual: every reader must accept them (SPEC 1.9)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from nmref.testing.drafts import Draft, Entries, draft, every_dtype
from nmref.testing.header_faults import Change, entry, swap
from nmref.testing.meta_faults import doc, out, spec
from nmref.testing.plain import Dense, Parts, Spec
from nmref.testing.recipes import Recipe


@dataclass(frozen=True, eq=False)
class File:
    """A valid file: its bytes, what reading it gives, and what `write_file` takes."""

    data: bytes
    want: dict[str, Dense]
    weights: dict[str, tuple[Spec, Parts]] = field(repr=False)
    others: dict[str, Dense] = field(repr=False)
    about: str = ""

    def __str__(self) -> str:
        return self.about


@dataclass(frozen=True)
class Variant:
    """A name and how the file is made; `canonical`: it is what a canonical writer writes."""

    name: str
    clause: str
    make: Callable[[Recipe], Draft] = field(repr=False)
    canonical: bool = True

    def on(self, recipe: Recipe) -> File:
        """The file with this recipe as its weight a."""
        made = self.make(recipe)
        return File(made.build(), made.want, made.encoded, made.others, str(recipe))


def _variant(name: str, clause: str, change: Change) -> Variant:
    def make(recipe: Recipe) -> Draft:
        made = draft(recipe)
        change(made)
        return made

    return Variant(name, clause, make, canonical=False)


def _reload(header: str, **options: Any) -> str:
    return json.dumps(json.loads(header), **options)


def _header(change: Callable[[str], str]) -> Change:
    return lambda made: made.headers.append(change)


def _backwards(entries: Entries, data: bytes) -> bytes:
    """The data of the tensors in the opposite order."""
    reverse, at = b"", 0
    for item in reversed(entries.values()):
        begin, end = item["data_offsets"]
        reverse += data[begin:end]
        item["data_offsets"] = [at, at + end - begin]
        at += end - begin
    return reverse


def _unaligned(made: Draft) -> None:
    made.align = 1


def _at_the_end(entries: Entries, data: bytes) -> bytes:
    entries["empty"]["data_offsets"] = [len(data)] * 2
    return data


def _only(weights: bool, others: bool) -> Callable[[Recipe], Draft]:
    def make(recipe: Recipe) -> Draft:
        made = draft(recipe)
        return Draft(made.weights if weights else {}, made.others if others else {})

    return make


def _plus(others: Callable[[int], dict[str, Dense]]) -> Callable[[Recipe], Draft]:
    def make(recipe: Recipe) -> Draft:
        made = draft(recipe)
        return Draft(made.weights, made.others | others(recipe.salt))

    return make


def _named(names: dict[str, str]) -> Callable[[Recipe], Draft]:
    def make(recipe: Recipe) -> Draft:
        made = draft(recipe)
        weights = {names.get(name, name): item for name, item in made.weights.items()}
        return Draft(weights, {names.get(n, n): item for n, item in made.others.items()})

    return make


def _extensions(made: Draft) -> None:
    doc(**{"x-a": r'any "text" \ here'})(made)
    spec("a", **{"x-}": ""})(made)
    out(**{"x-tool": "~ "})(made)


VARIANTS: list[Variant] = [
    Variant("canonical", "5.19", draft),
    Variant("no rows", "6.11", lambda recipe: draft(replace(recipe, rows=0))),
    Variant("other fills", "3.13", lambda recipe: draft(replace(recipe, fills="highest"))),
    Variant("no weights", "5.16", _only(False, True)),
    Variant("no other tensors", "5.9", _only(True, False)),
    Variant("no tensors", "5.7", _only(False, False)),
    Variant("every container dtype", "5.8", _plus(every_dtype)),
    Variant("long names", "5.5", _named({"a": "w" * 490, "norm": "n" * 512})),
    Variant("names like paths", "10.5", _named({"a": "../a", "one": "/", "norm": "..."})),
    Variant(
        "names that nearly are reserved", "5.11", _named({"norm": "nm_values", "flag": "a.nm_x.y"})
    ),
    Variant("a weight below a weight", "5.16", _named({"b": "a.b", "one": "a.nm_x.c"})),
    _variant("white space", "5.3", _header(lambda text: _reload(text, indent=1))),
    _variant("all kinds of white space", "5.3", swap('"shape":[3],', '"shape"\t:\r\n[ 3 ] ,')),
    _variant("no spaces at the end", "5.19", _unaligned),
    _variant("many spaces at the end", "5.3", _header(lambda text: text + " " * 1000)),
    _variant(
        "members in another order", "5.3", _header(lambda text: _reload(text, sort_keys=True))
    ),
    _variant("escaped name", "5.5", swap('"norm"', '"\\u006eorm"')),
    _variant("escaped member", "5.3", swap('"shape":[3]', '"\\u0073hape":[3]')),
    _variant("data in another order", "5.7", lambda made: made.layouts.append(_backwards)),
    _variant("empty tensor at the end", "5.7", lambda made: made.layouts.append(_at_the_end)),
    _variant("empty tensor at 0", "5.7", entry("empty", data_offsets=[0, 0])),
    _variant("unknown minor", "9.2", doc(spec="1.7")),
    _variant("minor of two digits", "5.14", doc(spec="1.10")),
    _variant("extension members", "5.17", _extensions),
]
"""Valid files of every unusual kind."""
