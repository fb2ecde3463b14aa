"""What a kernel is made of, as one digest of what is in memory.

Numba freezes into a kernel its code, the globals and closures it names, and those of all kernels
and intrinsics that it calls.  A digest of the files alone would miss what Python holds in memory
when a file has changed since (an edit after the import, an old .pyc of the same size and time).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.dispatcher import Dispatcher

PACKAGE = __name__.partition(".")[0]


def digest(function: FunctionType) -> bytes:
    """SHA-256 of a function with all it names; the same in every process that has the same."""
    found = hashlib.sha256()
    for part in _Walk().of(function):
        found.update(len(part).to_bytes(8, "little") + part)
    return found.digest()


class _Walk:
    """One way through everything that is named, each function once."""

    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}  # keeps the objects, so that no id is used twice

    def of(self, thing: Any) -> Iterator[bytes]:
        """The parts of a thing: its kind, then what tells it from others of that kind."""
        yield type(thing).__qualname__.encode()
        if isinstance(thing, bool | int | float | complex | str | bytes | None | range | slice):
            yield repr(thing).encode()
        elif isinstance(thing, np.ndarray | np.generic):
            yield from self._array(np.asarray(thing))
        elif isinstance(thing, CodeType):
            yield from self._code(thing)
        elif isinstance(thing, tuple | list | set | frozenset | dict):
            yield from self._container(thing)
        elif isinstance(thing, types.Type | ir.Type | ir.Constant | np.dtype):
            yield repr(thing).encode() if isinstance(thing, types.Type) else str(thing).encode()
        else:
            yield from self._named(thing)

    def _array(self, array: np.ndarray[Any, Any]) -> Iterator[bytes]:
        yield f"{array.dtype} {array.shape}".encode()
        if array.dtype.hasobject:
            yield from self.of(array.tolist())
        else:
            yield array.tobytes()

    def _container(self, thing: Any) -> Iterator[bytes]:
        if isinstance(thing, set | frozenset):
            thing = sorted(thing, key=repr)
        yield str(len(thing)).encode()
        once = id(thing) not in self._seen
        self._seen[id(thing)] = thing
        for item in (thing.items() if isinstance(thing, dict) else thing) if once else ():
            yield from self.of(item)

    def _code(self, code: CodeType) -> Iterator[bytes]:
        yield code.co_code
        yield repr((code.co_names, code.co_varnames, code.co_freevars, code.co_flags)).encode()
        yield from self.of(code.co_consts)

    def _named(self, thing: Any) -> Iterator[bytes]:
        """A function, kernel or intrinsic is followed; of anything else only the name counts."""
        module, name = getattr(thing, "__module__", ""), getattr(thing, "__qualname__", "")
        yield f"{module}.{name or getattr(thing, '__name__', '')}".encode()
        if id(thing) in self._seen:
            return
        self._seen[id(thing)] = thing
        if isinstance(thing, Dispatcher):
            yield from self.of(dict(sorted(thing.targetoptions.items())))
            yield from self.of(thing.py_func)
        elif isinstance(getattr(thing, "_defn", None), FunctionType):  # an intrinsic
            yield from self.of(thing._defn)
        elif isinstance(thing, FunctionType):
            yield from self._function(thing)

    def _function(self, function: FunctionType) -> Iterator[bytes]:
        yield from self.of(function.__code__)
        yield from self.of(function.__defaults__)
        yield from self.of(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:  # not filled yet
                continue
            yield from self.of(content)
        names = sorted(set(_names(function.__code__)))
        for name in names:
            if name in function.__globals__:
                yield name.encode()
                yield from self._global(function.__globals__[name], names)

    def _global(self, value: Any, names: list[str]) -> Iterator[bytes]:
        """Of a module of ours, what the function may name in it; others are known by version."""
        if not isinstance(value, ModuleType):
            yield from self.of(value)
        elif value.__name__.partition(".")[0] == PACKAGE:
            for name in names:
                if hasattr(value, name):
                    yield name.encode()
                    yield from self.of(getattr(value, name))


def _names(code: CodeType) -> Iterator[str]:
    """Names that the code and the codes inside it look up."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
