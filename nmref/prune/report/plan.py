"""What a prune will do, before anything is done: tensors, bytes, memory, disk, time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from math import prod
from types import MappingProxyType
from typing import Any

from nmref.dtypes import CONTAINER_DTYPES
from nmref.errors import Code, NmrefError
from nmref.linear.pool import default_threads
from nmref.model.checkpoint import Checkpoint
from nmref.model.config import linear_names
from nmref.pattern import NMPattern
from nmref.prune.masks.maskfile import Mask
from nmref.prune.recipe.document import assign, check
from nmref.prune.report.estimate import Job, Rates, disk, measure, memory, seconds
from nmref.prune.run.block import needs_activations
from nmref.prune.run.checks import given_patterns
from nmref.prune.settings import Place, Recipe
from nmref.tables import aligned, any_layer, megabytes
from nmref.tensor import OutlierSpec, WeightSpec


@dataclass(frozen=True)
class Item:
    """One tensor, or tensors of one kind and shape: what becomes of it."""

    name: str
    count: int
    shape: tuple[int, ...]
    dtype: str
    pattern: str
    """ "dense": stays as it is."""
    outliers: str
    dense_nbytes: int
    packed_nbytes: int

    @property
    def bits(self) -> float:
        """Bits of an element as it will be stored."""
        elements = self.count * prod(self.shape)
        return 8 * self.packed_nbytes / elements if elements else 0.0

    def cells(self) -> list[str]:
        """For the table."""
        shape = "x".join(map(str, self.shape))
        sizes = [str(self.dense_nbytes), str(self.packed_nbytes), f"{self.bits:.4f}"]
        return [self.name, str(self.count), shape, self.dtype, self.pattern, self.outliers, *sizes]


HEADER = (
    *("weights", "count", "shape", "dtype", "pattern", "outliers"),
    *("dense bytes", "packed bytes", "bits/elem"),
)


@dataclass(frozen=True)
class Plan:
    """All that is known beforehand.

    With OWL the N of a layer is known only when its scores are; bytes are those of the recipe's N,
    which is the mean.

    Attributes
    ----------
    linears : what the recipe is about, in the order of the forward, those left dense too.
    others : embedding, norms and whatever else is stored as it is.
    memory, disk : bytes by purpose (`estimate.memory`, `estimate.disk`); they add up.
    seconds : by stage (`estimate.seconds`); they add up.
    """

    linears: tuple[Item, ...]
    others: tuple[Item, ...]
    samples: int
    length: int
    threads: int
    memory: dict[str, int]
    disk: dict[str, int]
    seconds: dict[str, float]

    def text(self, every: bool = False) -> str:
        """A table of the weights, or of kinds of them, and what it will take."""
        rows = self.linears if every else grouped(self.linears)
        lines = [aligned(HEADER, [row.cells() for row in rows]), "", *self._summary()]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: every tensor, every figure."""
        totals = {
            name: {"dense_nbytes": dense, "packed_nbytes": packed}
            for name, (dense, packed) in self._totals().items()
        }
        sums = {
            "totals": totals,
            "peak_memory_nbytes": sum(self.memory.values()),
            "peak_disk_nbytes": sum(self.disk.values()),
            "total_seconds": sum(self.seconds.values()),
        }
        return {**asdict(self), **sums}

    def _totals(self) -> dict[str, tuple[int, int]]:
        groups = {"linears": self.linears, "others": self.others}
        sums = {name: _bytes(items) for name, items in groups.items()}
        return sums | {"all": _bytes((*self.linears, *self.others))}

    def _summary(self) -> list[str]:
        totals = self._totals()
        dense, packed = totals["linears"]
        count = sum(item.count for item in self.others)
        rate = f" ({packed / dense:.4f} of dense)" if dense else ""
        text = f"{self.samples} x {self.length} tokens" if self.samples else "none"
        peak, space = sum(self.memory.values()), sum(self.disk.values())
        time = sum(self.seconds.values())
        return [
            f"{len(self.linears)} weights: dense {dense} bytes, packed {packed} bytes{rate}",
            f"{count} other tensors: {totals['others'][0]} bytes",
            f"calibration: {text}",
            f"memory: about {megabytes(peak)} ({_list(self.memory, megabytes)})",
            f"disk: {megabytes(space)} ({_list(self.disk, megabytes)})",
            f"time: about {_time(time)} on {self.threads} threads ({_list(self.seconds, _time)})",
        ]


def plan(
    checkpoint: Checkpoint,
    recipe: Recipe,
    samples: int,
    length: int,
    *,
    threads: int | None = None,
    given: Mapping[str, Mask] = MappingProxyType({}),
    mapped: bool = True,
    text: int = 0,
    rates: Rates | None = None,
) -> Plan:
    """What pruning a dense checkpoint by a recipe will do; reads headers only.

    Parameters
    ----------
    samples, length : of the calibration text; not looked at where the recipe needs none.
    given : masks to take as they are; a weight without one stays dense.
    mapped : the activations lie in files; else in memory.
    text : bytes of the calibration text, all of which becomes tokens.
    rates : of this machine; None measures them (0.2 s).

    Raises T_ARGUMENT (a recipe that does not fit the model, see `recipe.check` and `assign`; no
    samples, or longer ones than the model's context), T_TENSOR (a packed checkpoint).
    """
    recipe, config = check(recipe), checkpoint.config
    if checkpoint.packed:
        where, got = str(checkpoint.folder), "a packed model"
        raise NmrefError(Code.T_TENSOR, where, got, "a dense checkpoint")
    if needs_activations(recipe, given):
        _check_text(samples, length, config.max_position_embeddings)
    else:
        samples = length = text = 0
    count = threads or default_threads()
    job = Job(config, recipe, samples, length, count, mapped, text)
    chosen, found = assign(recipe, linear_names(config)), checkpoint.described()
    if given:
        chosen = given_patterns(checkpoint, given)
    linears = tuple(
        _item(name, found[name], base, outliers, recipe.place)
        for name, (base, outliers) in chosen.items()
    )
    others = tuple(_item(name, found[name]) for name in sorted(found) if name not in chosen)
    packed = _bytes((*linears, *others))[1]
    rates = rates or measure(count)
    return Plan(
        *(linears, others, samples, length, count),
        memory=memory(job),
        disk=disk(job, packed),
        seconds=seconds(job, rates),
    )


def grouped(items: Iterable[Item]) -> list[Item]:
    """Those that differ in their layer number only, added up."""
    kinds: dict[tuple[object, ...], list[Item]] = {}
    for item in items:
        name = any_layer(item.name)
        key = (name, item.shape, item.dtype, item.pattern, item.outliers)
        kinds.setdefault(key, []).append(item)
    return [
        Item(
            name=any_layer(same[0].name) if len(same) > 1 else same[0].name,
            count=sum(item.count for item in same),
            shape=same[0].shape,
            dtype=same[0].dtype,
            pattern=same[0].pattern,
            outliers=same[0].outliers,
            dense_nbytes=_bytes(same)[0],
            packed_nbytes=_bytes(same)[1],
        )
        for same in kinds.values()
    ]


def _check_text(samples: int, length: int, context: int) -> None:
    if samples < 1:
        raise NmrefError(Code.T_ARGUMENT, "samples", str(samples), "at least 1, for this recipe")
    if not 1 <= length <= context:
        want = f"1 to {context}, the model's context"
        raise NmrefError(Code.T_ARGUMENT, "length", f"{length} tokens", want)


def _item(
    name: str,
    described: tuple[str, tuple[int, ...]],
    base: NMPattern | None = None,
    outliers: NMPattern | None = None,
    place: Place = "structured",
) -> Item:
    dtype, shape = described
    dense = prod(shape) * CONTAINER_DTYPES[dtype].itemsize
    if base is None:
        return Item(name, 1, shape, dtype, "dense", "none", dense, dense)
    rows, columns = shape
    out = OutlierSpec(outliers, dtype, "idx8") if outliers and place == "structured" else None
    packed = WeightSpec((rows, columns), base, dtype, out).nbytes
    text = "none" if outliers is None else str(outliers)
    if outliers is not None and place != "structured":
        packed += _csr_bytes(rows, columns, outliers, dtype)
        text += f" {place}"
    return Item(name, 1, shape, dtype, str(base), text, dense, packed)


def _csr_bytes(rows: int, columns: int, outliers: NMPattern, dtype: str) -> int:
    """As many unstructured outliers: value and 32-bit column of each, 32-bit ends of the rows."""
    tail = columns % outliers.block
    count = rows * (columns // outliers.block * outliers.stored + min(tail, outliers.stored))
    return count * (CONTAINER_DTYPES[dtype].itemsize + 4) + 4 * (rows + 1)


def _bytes(items: Iterable[Item]) -> tuple[int, int]:
    """Dense and packed, of all."""
    sizes = [(item.dense_nbytes, item.packed_nbytes) for item in items]
    return sum(dense for dense, _ in sizes), sum(packed for _, packed in sizes)


def _list(parts: dict[str, Any], write: Any) -> str:
    return ", ".join(f"{name} {write(value)}" for name, value in parts.items() if value)


def _time(passed: float) -> str:
    return f"{passed / 60:.1f} min" if passed >= 90 else f"{passed:.1f} s"
