"""`kernel`: Numba's njit without the GIL, compiled once a machine and kept on disk.

Numba's own cache looks at the file of the function only; ours (fingerprint.py, identity.py) at all
that goes into a kernel.  A cache that cannot be used costs time, never a result: then the kernel is
compiled in memory.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import pickle
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any, overload

import numba as nb
from numba import config
from numba.core import sigutils
from numba.core.bytecode import FunctionIdentity
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.compiler_lock import global_compiler_lock
from numba.core.serialize import dumps

from nmref.kernels import cache, entries, fingerprint, identity, lock

LOCK_SECONDS = 300.0
"""How long to wait for another process that compiles the same kernel."""


def _number_symbols_anew() -> None:
    """No two processes give two functions the same symbol.

    Numba counts functions from 1 in every process and puts the number into their symbols.  Two
    kernels of one factory, compiled by two processes, then had one symbol, and a third process that
    loaded both from the cache ran the first for the second.
    """
    FunctionIdentity._unique_ids = itertools.count(secrets.randbits(62))


_number_symbols_anew()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_number_symbols_anew)


@dataclass(frozen=True)
class Stats:
    """Kernels of this process, one a signature."""

    compiled: int
    loaded: int
    """From the cache."""


_counts = {"compiled": 0, "loaded": 0}


def stats() -> Stats:
    """Counts since the process began."""
    return Stats(**_counts)


@overload
def kernel(function: Callable[..., Any], /) -> Any: ...
@overload
def kernel(**options: Any) -> Callable[[Callable[..., Any]], Any]: ...
def kernel(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """`@kernel` or `@kernel(forceinline=True, ...)`: a dispatcher that compiles when first called.

    `options` are njit's, but for `cache`; nogil is True unless given.  With NUMBA_DISABLE_JIT=1 the
    function itself.
    """
    if function is None:
        return lambda wanted: _compiled(wanted, options)
    return _compiled(function, options)


def _compiled(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """The dispatcher with our cache."""
    dispatcher = nb.njit(**{"nogil": True, **options})(function)
    if config.DISABLE_JIT:
        return dispatcher
    dispatcher._cache = _KernelCache(dispatcher.py_func)
    plain = dispatcher.compile

    def compile_once(signature: Any) -> Any:
        """The dispatcher's own, and then, error or not, no lock of it is left."""
        with global_compiler_lock:
            mark = lock.held()
            try:
                return plain(signature)
            finally:
                lock.release_to(mark)

    dispatcher.compile = compile_once
    return dispatcher


@dataclass(frozen=True)
class _Entry:
    """A kernel for given types: where it lies, and what it is for."""

    name: str
    wanted: tuple[Any, Any]
    """Argument types and the return type, None if Numba finds it."""

    @property
    def number(self) -> int:
        """Of its lock."""
        return int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:8]) % lock.PLACES


class _KernelCache(NullCache):
    """What a dispatcher asks before it compiles, and tells after."""

    def __init__(self, function: FunctionType) -> None:
        self._function = function
        self._covered: bool | None = None

    @property
    def cache_path(self) -> str | None:
        folder = cache.place().folder
        return str(folder) if folder else None

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The kernel, or None, and then with the lock that makes others wait for it."""
        if not self._keeps():
            return None
        target_context.refresh()
        entry, place = self._entry(sig, target_context.codegen()), cache.place()
        found = self._load(entry, place, target_context)
        if found is None and (folder := cache.folder()):
            lock.acquire(folder / cache.LOCK, entry.number, LOCK_SECONDS)
            found = self._load(entry, cache.place(), target_context)
        if found is not None:
            _counts["loaded"] += 1
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled kernel if that is possible."""
        _counts["compiled"] += 1
        folder = cache.folder() if self._keeps() else None
        if folder is None:
            return
        if data.library.has_dynamic_globals or any(not lifted.can_cache for lifted in data.lifted):
            cache.report(f"{self._function.__qualname__}: holds addresses of this process")
            return
        entry = self._entry(sig, data.codegen)
        try:
            body = dumps((entry, data._reduce()))
            entries.write(folder / entry.name, body)
        except OSError as error:
            cache.report(f"{folder}: {error.strerror or error}")
        except Exception as error:  # something that cannot be pickled
            cache.report(f"{entry.name}: {type(error).__name__}")

    def _keeps(self) -> bool:
        """A kernel that the fingerprint does not cover could be stale: not kept."""
        if self._covered is None:
            self._covered = fingerprint.covers(self._function.__code__.co_filename)
        return self._covered

    def _entry(self, signature: Any, codegen: Any) -> _Entry:
        arguments, result = sigutils.normalize_signature(signature)
        name = f"{self._function.__module__.rpartition('.')[2]}.{self._function.__qualname__}"
        key = hashlib.sha256(identity.digest(self._function))
        key.update(repr((name, tuple(arguments), result, codegen.magic_tuple())).encode())
        short = re.sub(r"[^A-Za-z0-9_.]", "_", name)[:80]
        return _Entry(f"{short}-{key.hexdigest()[:32]}{cache.SUFFIX}", (tuple(arguments), result))

    def _load(self, entry: _Entry, place: cache.Place, target_context: Any) -> Any:
        for folder in (place.folder, place.prepared):
            body = entries.read(folder / entry.name) if folder else None
            if body is None:
                continue
            try:
                owner, reduced = pickle.loads(body)
                if owner == entry:  # not a file that somebody renamed
                    return CompileResult._rebuild(target_context, *reduced)
            except Exception as error:  # whatever it is, compiling is right
                cache.report(f"{entry.name}: {type(error).__name__}")
        return None
