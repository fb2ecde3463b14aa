"""Where nmref keeps what it can make or get again: compiled kernels, fetched models."""

from __future__ import annotations

import os
from pathlib import Path


def cache_home() -> tuple[str, Path] | None:
    """What names the cache, and the cache: $NMREF_CACHE_DIR, or nmref/ in $XDG_CACHE_HOME or
    ~/.cache; None without a home folder.  It may not exist yet.

    An XDG_CACHE_HOME that is not absolute is ignored, as its specification asks.
    """
    if named := os.environ.get("NMREF_CACHE_DIR"):
        return "NMREF_CACHE_DIR", Path(named).absolute()
    if os.path.isabs(named := os.environ.get("XDG_CACHE_HOME", "")):
        return "XDG_CACHE_HOME", Path(named) / "nmref"
    home = Path(os.path.expanduser("~"))
    return ("home", home / ".cache" / "nmref") if home.is_absolute() else None
