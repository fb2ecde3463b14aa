"""Dataclasses of settings as plain tables and back: types by annotation, ranges by one list.

A new field of settings.py needs no code here, only a line in LIMITS where it is a number or text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from nmref.errors import Code, NmrefError
from nmref.pattern import NMPattern, base_pattern, outlier_pattern

S = TypeVar("S")


@dataclass(frozen=True)
class Limit:
    """What a value must be, in words and as a test."""

    want: str
    fits: Callable[[Any], bool]


_LARGEST, _LEAST = float(2**128 - 2**104), 2.0**-149
"""Of the numbers above 0 that float32 holds."""

_POSITIVE = Limit("a number above 0", lambda value: value > 0)
_NOT_NEGATIVE = Limit("a number from 0 up", lambda value: value >= 0)
_FLOAT32 = Limit(f"a number from 0 to {_LARGEST:.4g}", lambda value: 0 <= value <= _LARGEST)
_SMALL = Limit("a number that float32 holds, above 0", lambda value: _LEAST <= value <= _LARGEST)
_SHARE = Limit("a number from 0 to below 1", lambda value: 0 <= value < 1)
_COUNT = Limit("a whole number from 1 to 2^63 - 1", lambda value: 1 <= value < 2**63)
_SEED = Limit("a whole number from 0 to 2^63 - 1", lambda value: 0 <= value < 2**63)
_ANY_TEXT = Limit("text", lambda value: True)
_SOME_TEXT = Limit("text that is not empty", bool)
_FILE_NAME = Limit(
    "the name of a file, without a folder",
    lambda value: value not in {"", ".", ".."} and not set(value) & set("/\\\0"),
)
_SHA256 = Limit(
    "64 hexadecimal digits in lower case",
    lambda value: re.fullmatch("[0-9a-f]{64}", value, re.ASCII) is not None,
)

LIMITS: dict[str, Limit] = {
    "Equalization.power": _NOT_NEGATIVE,
    "Tuning.epochs": _COUNT,
    "Tuning.batch": _COUNT,
    "Tuning.rate": _POSITIVE,
    "Tuning.betas": _SHARE,
    "Tuning.epsilon": _SMALL,
    "Tuning.decay": _NOT_NEGATIVE,
    "Tuning.clip": _POSITIVE,
    "Tuning.seed": _SEED,
    "Solver.damping": _NOT_NEGATIVE,
    "Solver.block": _COUNT,
    "Solver.iterations": _COUNT,
    "Allocation.multiple": _POSITIVE,
    "Allocation.span": _NOT_NEGATIVE,
    "Rule.match": _SOME_TEXT,
    "Recipe.exponent": _FLOAT32,
    "Calibration.text": _FILE_NAME,
    "Calibration.sha256": _SHA256,
    "Calibration.samples": _COUNT,
    "Calibration.length": _COUNT,
    "Masks.content_sha256": _SHA256,
    "Masks.file": _FILE_NAME,
    "MadeWith.nmref": _ANY_TEXT,
    "MadeWith.numpy": _ANY_TEXT,
    "MadeWith.scipy": _ANY_TEXT,
    "MadeWith.numba": _ANY_TEXT,
    "MadeWith.blas": _ANY_TEXT,
    "MadeWith.source_sha256": _SHA256,
    "MadeWith.seeds": _SEED,
}
"""Class.field -> what its number (each of them) or its text must be."""

_PATTERNS = {"pattern": base_pattern, "outliers": outlier_pattern}
_NO_PATTERN = {"Rule.pattern": "dense"}  # elsewhere "none"

_SPELLED_OUT = {"Rule.outliers"}
"""Required in a table for all its default: a rule does not inherit the recipe's outliers."""


def as_table(settings: Any) -> dict[str, Any]:
    """A dataclass -> what TOML can hold.

    A pattern is its text ("none" or "dense" without one); a stage that is off and an empty list
    are left out.
    """
    hints = get_type_hints(type(settings))
    table: dict[str, Any] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, NMPattern):
            table[field.name] = str(value)
        elif value is None and NMPattern in get_args(hints[field.name]):
            table[field.name] = _no_pattern(settings, field)
        elif value is not None and value != ():
            table[field.name] = _plain(value)
    return table


def from_table(cls: type[S], table: object, path: str = "") -> S:
    """A table -> a dataclass, every value checked.

    Raises T_ARGUMENT naming the key's path: an unknown key, one that is missing, another type, a
    number or text outside LIMITS, a pattern that the format has not.
    """
    if not isinstance(table, dict):
        raise _wrong(path, table, "a table")
    known = [field.name for field in fields(_dataclass(cls))]
    for key in table:
        if key not in known:
            want = f"one of {', '.join(known)}"
            raise NmrefError(Code.T_ARGUMENT, _join(path, key), "an unknown key", want)
    hints, values = get_type_hints(cls), {}
    for field in fields(_dataclass(cls)):
        place = _join(path, field.name)
        if field.name in table:
            values[field.name] = _read(cls, field, hints[field.name], table[field.name], place)
        elif _needed(field) or f"{cls.__name__}.{field.name}" in _SPELLED_OUT:
            raise NmrefError(Code.T_ARGUMENT, place, "no such key", "a value")
    return cls(**values)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return as_table(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def _read(cls: type, field: Field[Any], kind: Any, value: object, path: str) -> Any:
    """One value of annotation `kind`."""
    options = [option for option in get_args(kind) if option is not NoneType]
    if NoneType in get_args(kind):
        kind = options[0]
        if kind is NMPattern and value == _no_pattern(cls, field):
            return None
    if kind is NMPattern:
        return _pattern(field, value, path)
    if is_dataclass(kind):
        return from_table(kind, value, path)  # type: ignore[arg-type]
    if get_origin(kind) is Literal:
        return _choice(options, value, path)
    if get_origin(kind) is tuple:
        return _tuple(cls, field, options, value, path)
    if kind is bool:
        return _flag(value, path)
    limit = LIMITS[f"{cls.__name__}.{field.name}"]
    if get_origin(kind) is Mapping:
        if not isinstance(value, dict):
            raise _wrong(path, value, "a table")
        return {k: _limited(options[1], limit, item, _join(path, k)) for k, item in value.items()}
    return _limited(kind, limit, value, path)


def _choice(options: list[str], value: object, path: str) -> object:
    if not isinstance(value, str) or value not in options:
        raise _wrong(path, value, " or ".join(f'"{option}"' for option in options))
    return value


def _flag(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(path, value, "true or false")
    return value


def _tuple(cls: type, field: Field[Any], options: list[Any], value: object, path: str) -> Any:
    """tuple[X, X] or tuple[X, ...]."""
    if not isinstance(value, list):
        raise _wrong(path, value, "a list")
    if options[-1] is Ellipsis:
        options = [options[0]] * len(value)
    if len(value) != len(options):
        raise _wrong(path, value, f"a list of {len(options)}")
    pairs = enumerate(zip(options, value, strict=True))
    return tuple(_read(cls, field, kind, item, f"{path}[{i}]") for i, (kind, item) in pairs)


def _limited(kind: type, limit: Limit, value: object, path: str) -> Any:
    """A number or text within its limit; a whole number is a number too."""
    allowed: tuple[type, ...] = (float, int) if kind is float else (kind,)
    right_type = isinstance(value, allowed) and not isinstance(value, bool)
    if not right_type or not limit.fits(value) or (kind is float and not _is_float64(value)):
        raise _wrong(path, value, limit.want)
    return kind(value)


def _is_float64(value: Any) -> bool:
    """Finite, and a whole number that no conversion changes."""
    return abs(value) <= 2**53 if isinstance(value, int) else math.isfinite(value)


def _pattern(field: Field[Any], value: object, path: str) -> NMPattern:
    if not isinstance(value, str):
        raise _wrong(path, value, "a pattern N:M in quotes")
    try:
        return _PATTERNS[field.name](value)
    except NmrefError as error:
        raise NmrefError(error.code, path, error.got, error.want) from None


def _no_pattern(settings: Any, field: Field[Any]) -> str:
    cls = settings if isinstance(settings, type) else type(settings)
    return _NO_PATTERN.get(f"{cls.__name__}.{field.name}", "none")


def _needed(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _dataclass(cls: Any) -> Any:
    """For the type checker: `fields` takes only what it knows to be a dataclass."""
    return cls


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _wrong(path: str, value: object, want: str) -> NmrefError:
    got = "true" if value is True else "false" if value is False else repr(value)[:80]
    return NmrefError(Code.T_ARGUMENT, path or "recipe", got, want)
