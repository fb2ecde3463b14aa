"""Tables and sizes as text for a person to read."""

from __future__ import annotations

import re
from collections.abc import Sequence

_LAYER = re.compile(r"\.\d+\.")


def any_layer(name: str) -> str:
    """The name of a tensor for all layers.

    >>> any_layer("model.layers.12.mlp.up_proj.weight")
    'model.layers.*.mlp.up_proj.weight'
    """
    return _LAYER.sub(".*.", name)


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of columns as wide as they need; the first to the left, the others to the right.

    >>> print(aligned(("a", "b"), [("x", "10")]))
    a   b
    -  --
    x  10
    """
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = (header, ["-" * width for width in widths], *rows)
    return "\n".join(_line(cells, widths) for cells in lines)


def megabytes(size: float) -> str:
    """In units of 10^6 bytes."""
    return f"{size / 1e6:.1f} MB"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    pairs = zip(cells[1:], widths[1:], strict=True)
    rest = [cell.rjust(width) for cell, width in pairs]
    return "  ".join((cells[0].ljust(widths[0]), *rest)).rstrip()
