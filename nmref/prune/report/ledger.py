"""What a prune has brought: bytes, density, and what will run here, weight by weight."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from nmref.dtypes import CONTAINER_DTYPES, Array, bits_of, container_name, nonzero
from nmref.linear.choose import choose
from nmref.linear.prepared import Prepared
from nmref.tables import aligned, any_layer
from nmref.tensor import SparseWeight

TOKENS = (1, 64)
"""Tokens at once for which kernels are named: generation, and a prompt."""

DENSE_KERNEL = "dense"
"""Of a weight that is not sparse, and `linear.choose`'s name for expanding one that is."""


@dataclass(frozen=True)
class Entry:
    """One tensor.

    Attributes
    ----------
    pattern, outliers : "dense" and "none" where the tensor is stored as it was.
    dense_nbytes : of the dense tensor; filling it with zeros changes nothing of that.
    nonzero : stored values that are not zero; outlier_nonzero : those of them that are outliers.
        A tail of fewer than 256 columns takes n outliers too, so their rate is n / 256 or more.
    kernels : tokens at once -> the kernel for float32 activations on this machine.
    """

    name: str
    shape: tuple[int, ...]
    pattern: str
    outliers: str
    dense_nbytes: int
    packed_nbytes: int
    nonzero: int
    outlier_nonzero: int
    kernels: dict[int, str]

    @property
    def elements(self) -> int:
        """Of the dense tensor."""
        return prod(self.shape)

    def runs(self, tokens: int) -> str:
        """What happens with so many tokens, one of TOKENS."""
        kernel = self.kernels[tokens]
        if kernel != DENSE_KERNEL:
            return f"sparse ({kernel})"
        return "dense" if self.pattern == "dense" else "expanded to dense"


HEADER = (
    *("weight", "count", "pattern", "outliers", "dense bytes", "with zeros", "packed bytes"),
    *("density", "outlier rate", "bits/elem", *(f"T = {tokens}" for tokens in TOKENS)),
)


@dataclass(frozen=True)
class Ledger:
    """The matrices of the blocks, and all other tensors together.

    Attributes
    ----------
    weights : in the order they came.
    other_tensors, other_nbytes : how many, and what they take, before as after.
    """

    weights: tuple[Entry, ...]
    other_tensors: int
    other_nbytes: int

    def total(self) -> dict[str, float]:
        """Sums over `weights`: elements, dense, dense with zeros and packed bytes; and of all
        together density, rate of outliers, bits.
        """
        return _total(self.weights)

    def text(self, every: bool = False) -> str:
        """A line for every weight, or kind of them, their sum, and how many run sparse here."""
        groups = [[entry] for entry in self.weights] if every else grouped(self.weights)
        return "\n".join(
            [
                aligned(HEADER, [*map(_cells, groups), self._total_cells()]),
                "",
                f"{self.other_tensors} other tensors: {self.other_nbytes} bytes",
                *map(self._runs, TOKENS),
            ]
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the keys of `kernels` and `runs` are numbers of tokens as text."""
        rows = [
            asdict(entry)
            | {
                "dense_with_zeros_nbytes": entry.dense_nbytes,
                "density": _rate(entry.nonzero, entry.elements),
                "outlier_rate": _rate(entry.outlier_nonzero, entry.elements),
                "bits_per_element": _rate(8 * entry.packed_nbytes, entry.elements),
                "kernels": {str(tokens): kernel for tokens, kernel in entry.kernels.items()},
                "runs": {str(tokens): entry.runs(tokens) for tokens in entry.kernels},
            }
            for entry in self.weights
        ]
        others = {"tensors": self.other_tensors, "nbytes": self.other_nbytes}
        return {"weights": rows, "total": self.total(), "others": others}

    def _total_cells(self) -> list[str]:
        count = str(len(self.weights))
        return ["all", count, "", "", *_figures(self.weights), *("" for _ in TOKENS)]

    def _runs(self, tokens: int) -> str:
        sparse = sum(entry.runs(tokens).startswith("sparse") for entry in self.weights)
        return f"T = {tokens}: {sparse} of {len(self.weights)} weights run sparse here"


_SIZES = ("dense_nbytes", "dense_with_zeros_nbytes", "packed_nbytes")
_RATES = ("density", "outlier_rate", "bits_per_element")


def ledger(tensors: Iterable[tuple[str, SparseWeight | Array]], linears: Iterable[str]) -> Ledger:
    """Account for the tensors of a pruned model, one in memory at a time.

    Parameters
    ----------
    tensors : such as `open_checkpoint(folder).tensors.items()`.
    linears : names of those that get a line each; sparse ones do in any case.

    Raises T_ARGUMENT (NMREF_ISA asks for what this CPU has not), and what reading raises.
    """
    named, entries, others, size = set(linears), [], 0, 0
    for name, tensor in tensors:
        if isinstance(tensor, SparseWeight):
            entries.append(_sparse(name, tensor))
        elif name in named:
            entries.append(_dense(name, tensor))
        else:
            others, size = others + 1, size + tensor.nbytes
    return Ledger(tuple(entries), others, size)


def _sparse(name: str, weight: SparseWeight) -> Entry:
    ready, spec, outliers = Prepared(weight), weight.spec, weight.outlier_count()
    return Entry(
        name=name,
        shape=weight.shape,
        pattern=str(spec.pattern),
        outliers="none" if spec.outliers is None else str(spec.outliers.pattern),
        dense_nbytes=prod(weight.shape) * CONTAINER_DTYPES[spec.dense_dtype].itemsize,
        packed_nbytes=weight.nbytes,
        nonzero=_nonzero(weight.base.values) + outliers,
        outlier_nonzero=outliers,
        kernels={tokens: choose(ready, tokens, "F32").kernel for tokens in TOKENS},
    )


def _dense(name: str, tensor: Array) -> Entry:
    kernels = dict.fromkeys(TOKENS, DENSE_KERNEL)
    size = tensor.nbytes
    return Entry(name, tensor.shape, "dense", "none", size, size, _nonzero(tensor), 0, kernels)


def _nonzero(values: Array) -> int:
    return int(nonzero(bits_of(values), container_name(values)).sum())


def grouped(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Those together that differ in their layer number, packed bytes and zeros only."""
    kinds: dict[tuple[object, ...], list[Entry]] = {}
    for entry in entries:
        stored = entry.pattern, entry.outliers, *entry.kernels.values()
        key = any_layer(entry.name), entry.shape, entry.dense_nbytes, *stored
        kinds.setdefault(key, []).append(entry)
    return list(kinds.values())


def _cells(same: Sequence[Entry]) -> list[str]:
    """Of entries that are grouped."""
    first = same[0]
    name = any_layer(first.name) if len(same) > 1 else first.name
    runs = [first.runs(tokens) for tokens in TOKENS]
    return [name, str(len(same)), first.pattern, first.outliers, *_figures(same), *runs]


def _figures(entries: Sequence[Entry]) -> list[str]:
    """Bytes, density and bits of all of them."""
    total = _total(entries)
    sizes = [f"{total[key]:.0f}" for key in _SIZES]
    return [*sizes, *(f"{total[key]:.4f}" for key in _RATES)]


def _total(entries: Sequence[Entry]) -> dict[str, float]:
    dense = sum(entry.dense_nbytes for entry in entries)
    packed = sum(entry.packed_nbytes for entry in entries)
    elements = sum(entry.elements for entry in entries)
    kept = sum(entry.nonzero for entry in entries)
    outliers = sum(entry.outlier_nonzero for entry in entries)
    return {
        "elements": elements,
        "dense_nbytes": dense,
        "dense_with_zeros_nbytes": dense,
        "packed_nbytes": packed,
        "density": _rate(kept, elements),
        "outlier_rate": _rate(outliers, elements),
        "bits_per_element": _rate(8 * packed, elements),
    }


def _rate(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
