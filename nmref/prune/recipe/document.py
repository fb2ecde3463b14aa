"""A recipe as TOML: what was done, with which text, and by which versions, to be done again."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from nmref.errors import Code, NmrefError
from nmref.pattern import NMPattern
from nmref.prune.masks import maskfile
from nmref.prune.masks.maskfile import Mask, MaskFile
from nmref.prune.recipe import toml
from nmref.prune.recipe.fields import as_table, from_table
from nmref.prune.recipe.origin import MadeWith
from nmref.prune.settings import Recipe, Rule

VERSION = 1
"""Of the recipe file; a file says its own."""

Patterns = tuple[NMPattern | None, NMPattern | None]
"""Base and outliers of a weight; None: left dense, no outliers."""


@dataclass(frozen=True)
class Calibration:
    """The text whose first `samples` windows of `length` tokens are the calibration."""

    text: str
    """Name of the file, without its folder."""
    sha256: str
    """Of the file's bytes."""
    samples: int
    length: int

    @classmethod
    def of(cls, path: Path, samples: int, length: int) -> Calibration:
        """Of a text that is there.  Raises T_FILE."""
        try:
            data = path.read_bytes()
        except OSError as error:
            reason = error.strerror or str(error)
            raise NmrefError(Code.T_FILE, str(path), reason, "a readable text") from None
        return cls.of_bytes(path.name, data, samples, length)

    @classmethod
    def of_bytes(cls, name: str, data: bytes, samples: int, length: int) -> Calibration:
        """Of a text that has been read; a pipe can be read only once."""
        return cls(name, hashlib.sha256(data).hexdigest(), samples, length)

    def check(self, where: str, data: bytes) -> None:
        """Whether a file's bytes are the text that is meant.  Raises T_TEXT (it is another)."""
        found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            want = f"{self.sha256}, the text of the recipe"
            raise NmrefError(Code.T_TEXT, where, f"sha256 {found}", want)


@dataclass(frozen=True)
class Masks:
    """The masks that were given, so that no stage chose any."""

    content_sha256: str
    """Of the mask file, as its metadata has it (`maskfile.content_sha256`)."""
    file: str | None = None
    """Its name, without its folder; None where the masks came from memory."""

    @classmethod
    def of(cls, given: Mapping[str, Mask]) -> Masks:
        """Of masks by name of weight.  Raises as `maskfile.write`."""
        if isinstance(given, MaskFile):
            return cls(given.content_sha256, given.path.name)
        return cls(maskfile.content_sha256(given))

    def check(self, found: MaskFile | None, where: str) -> None:
        """Whether a mask file is the one that is meant.  Raises T_ARGUMENT (another, none)."""
        want = f"{self.content_sha256}, the masks of the recipe"
        if found is None:
            want = f"{self.file or 'the mask file'} with content {want}"
            raise NmrefError(Code.T_ARGUMENT, where, "nothing", want)
        if found.content_sha256 != self.content_sha256:
            got = f"content {found.content_sha256}"
            raise NmrefError(Code.T_ARGUMENT, f"{where} {found.path}", got, want)


@dataclass(frozen=True)
class Saved:
    """What a recipe file says; without calibration or origin where somebody wrote it by hand."""

    recipe: Recipe
    calibration: Calibration | None = None
    made_with: MadeWith | None = None
    masks: Masks | None = None


_PARTS: dict[str, type] = {"calibration": Calibration, "made_with": MadeWith, "masks": Masks}
"""Tables beside the recipe's own keys."""


def dumps(
    recipe: Recipe,
    calibration: Calibration | None = None,
    made_with: MadeWith | None = None,
    masks: Masks | None = None,
) -> str:
    """The recipe file.  Equal settings give equal text; every setting is there, defaults too.

    Raises T_ARGUMENT where `loads` would.
    """
    document: dict[str, Any] = {"version": VERSION, **as_table(check(recipe))}
    parts = {"calibration": calibration, "made_with": made_with, "masks": masks}
    for name, part in parts.items():
        if part is not None:
            document[name] = as_table(part)
            from_table(_PARTS[name], document[name], name)
    return toml.dumps(document)


def loads(text: str, where: str) -> tuple[Recipe, Calibration | None]:
    """Read a recipe file; `where` is its name for messages.

    Raises T_ARGUMENT with the key's path: not TOML, another version, an unknown key, a key that
    is missing, another type, a value that is not allowed.
    """
    saved = read(text, where)
    return saved.recipe, saved.calibration


def read(text: str, where: str) -> Saved:
    """`loads`, and what the recipe was made with."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        got = str(error).splitlines()[0][:120]
        raise NmrefError(Code.T_ARGUMENT, where, got, "TOML") from None
    try:
        version = document.pop("version", None)
        if type(version) is not int or version != VERSION:
            got = "no such key" if version is None else repr(version)[:80]
            raise NmrefError(Code.T_ARGUMENT, "version", got, str(VERSION))
        found: dict[str, Any] = {
            name: from_table(part, document.pop(name), name)
            for name, part in _PARTS.items()
            if name in document
        }
        return Saved(_checked(document), **found)
    except NmrefError as error:
        raise error.inside(where) from None


def check(recipe: Recipe) -> Recipe:
    """The recipe with every value checked as if it came from a file.  Raises T_ARGUMENT."""
    return _checked(as_table(recipe))


def assign(recipe: Recipe, names: Iterable[str]) -> dict[str, Patterns]:
    """Name of a weight -> its patterns: those of the one rule whose glob matches, or the recipe's.

    Case counts, and "*" matches dots too.  Raises T_ARGUMENT where a rule matches nothing or two
    rules match one weight.

    >>> from nmref.prune.settings import Rule
    >>> dense = Rule("*.0.*", None)
    >>> recipe = Recipe(NMPattern(2, 4), rules=(dense,))
    >>> {name: str(base) for name, (base, _) in assign(recipe, ["a.0.w", "a.1.w"]).items()}
    {'a.0.w': 'None', 'a.1.w': '2:4'}
    """
    chosen: dict[str, Patterns] = {}
    for name in names:
        rule = rule_of(recipe, name) or recipe
        chosen[name] = (rule.pattern, rule.outliers)
    for i, rule in enumerate(recipe.rules):
        if not any(fnmatchcase(name, rule.match) for name in chosen):
            where, got = f"rules[{i}].match", f"{rule.match!r} matches no weight"
            raise NmrefError(Code.T_ARGUMENT, where, got, "a glob such as model.layers.0.*")
    return chosen


def rule_of(recipe: Recipe, name: str) -> Rule | None:
    """The rule that matches a weight's name; None: the recipe's own patterns hold for it.

    Raises T_ARGUMENT where two rules match.
    """
    hits = [i for i, rule in enumerate(recipe.rules) if fnmatchcase(name, rule.match)]
    if len(hits) > 1:
        both = " and ".join(f"rules[{i}] {recipe.rules[i].match!r}" for i in hits[:2])
        raise NmrefError(Code.T_ARGUMENT, name, f"matched by {both}", "at most one rule")
    return recipe.rules[hits[0]] if hits else None


def _checked(table: dict[str, Any]) -> Recipe:
    """Values one by one, then those that must fit each other."""
    recipe = from_table(Recipe, table)
    for i, rule in enumerate(recipe.rules):
        if rule.pattern is None and rule.outliers is not None:
            want = '"none" where the pattern is "dense"'
            where = f"rules[{i}].outliers"
            raise NmrefError(Code.T_ARGUMENT, where, f'"{rule.outliers}"', want)
    chooses = recipe.solver.method != "none" and not recipe.solver.keep_mask
    if recipe.permute_all and chooses:  # it would choose again, in the order of the columns
        want = "true with permute_all"
        raise NmrefError(Code.T_ARGUMENT, "solver.keep_mask", "false", want)
    if recipe.solver.method == "sparsegpt":
        _check_block(recipe)
    if recipe.allocate is not None and recipe.allocate.span > recipe.pattern.block:
        got, want = str(recipe.allocate.span), f"at most {recipe.pattern.block}, M"
        raise NmrefError(Code.T_ARGUMENT, "allocate.span", got, want)
    return recipe


def _check_block(recipe: Recipe) -> None:
    """SparseGPT chooses a block of M columns at once, so its own block is made of whole ones."""
    for pattern in (recipe.pattern, *(rule.pattern for rule in recipe.rules)):
        if pattern is not None and recipe.solver.block % pattern.block:
            got = f"{recipe.solver.block} with pattern {pattern}"
            want = f"a multiple of {pattern.block}"
            raise NmrefError(Code.T_ARGUMENT, "solver.block", got, want)
