"""The tables of docs/pruning.md about single layers, from layers.json."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Found = dict[str, Any]


def markdown(header: list[str], lines: Iterable[list[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *lines))


def ties(models: Found) -> str:
    """Share of blocks where magnitude cannot tell which weight goes."""
    patterns = next(iter(models.values()))["ties"]
    lines = [
        [model, *(f"{100 * found['ties'][pattern]:.1f} %" for pattern in patterns)]
        for model, found in models.items()
    ]
    return markdown(["equal sizes where N ends", *patterns], lines)


def factors(models: Found) -> str:
    """Means over the linears: the factors of Eq. 2, others, and the error with each."""
    head = ["model, pattern", "Eq. 2, rest", "Eq. 2, dense", "restores power", "least error"]
    head += [f"error, {name}" for name in ("factor 1", "Eq. 2, rest", "Eq. 2, dense", "least")]
    lines = []
    for model, found in models.items():
        for pattern, means in found["correction"].items():
            line = [f"{model}, {pattern}"]
            line += [
                f"{means[f'factor {name}']:.3f}" for name in ("rest", "dense", "power", "least")
            ]
            line += [f"{means[f'error {name}']:.4f}" for name in ("one", "rest", "dense", "least")]
            lines.append(line)
    return markdown(head, lines)


def scan(models: Found) -> str:
    """Perplexity against one factor for all base weights."""
    lines, head = [], list[str]()
    for model, found in models.items():
        dense = found["scan"]["dense"]
        for pattern, groups in found["scan"].items():
            if pattern != "dense":
                head = ["model, pattern", "dense", *groups["all"]]
                values = map(_perplexity, (dense, *groups["all"].values()))
                lines.append([f"{model}, {pattern}", *values])
    return markdown(head, lines)


def groups(models: Found) -> str:
    """Perplexity where the base weights of some linears only have the factor."""
    lines, head = [], list[str]()
    for model, found in models.items():
        for pattern, cases in found["scan"].items():
            if pattern == "dense":
                continue
            some = {group: values for group, values in cases.items() if group != "all"}
            labels = [f"{group}: {c}" for group, values in some.items() for c in values]
            head = ["model, pattern", "none", *labels]
            values = [
                cases["all"]["1.0"],
                *(v for values in some.values() for v in values.values()),
            ]
            lines.append([f"{model}, {pattern}", *map(_perplexity, values)])
    return markdown(head, lines)


def equalized(models: Found) -> str:
    """Error of a layer with every reading of Eq. 1."""
    first = next(iter(models.values()))["equalization"]
    lines = [
        [label, *(f"{found['equalization'][label]:.4f}" for found in models.values())]
        for label in first
    ]
    return markdown(["RIA 2:4, equalization", *models], lines)


def _perplexity(value: float) -> str:
    return f"{value:.2f}"


LAYER_TABLES: dict[str, Callable[[Found], str]] = {
    "layer_ties": ties,
    "layer_factors": factors,
    "layer_scan": scan,
    "layer_groups": groups,
    "layer_equalized": equalized,
}
