"""Dense -> packed, for weights that fit the pattern already: nothing is pruned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from nmref.container.atomic import new_folder
from nmref.container.shards import DEFAULT_SHARD_BYTES, save_model
from nmref.dtypes import Array, normalise_zero
from nmref.errors import Code, NmrefError
from nmref.model.checkpoint import DenseTensors, open_checkpoint, write_side_files
from nmref.model.config import linear_names
from nmref.pattern import NMPattern
from nmref.tensor import SparseWeight, WeightSpec, encode


def pack_folder(
    source: Path,
    target: Path,
    pattern: NMPattern,
    *,
    clear_negative_zero: bool = False,
    max_bytes: int = DEFAULT_SHARD_BYTES,
    progress: Callable[[str], None] = lambda name: None,
) -> list[Path]:
    """Write a dense model folder as a packed one; one tensor is in memory at a time.

    Every linear of every block is encoded, without a mask; with `clear_negative_zero` each -0
    becomes +0 before.  Raises X_OVERFULL or X_NEGZERO for the first weight that does not fit.
    """
    checkpoint = open_checkpoint(source)
    if checkpoint.packed:
        raise NmrefError(Code.T_FILE, str(source), "a packed model", "a dense one")
    linears = set(linear_names(checkpoint.config))
    specs: dict[str, WeightSpec | tuple[str, tuple[int, ...]]] = {}
    for name, (dtype, shape) in checkpoint.described().items():
        if name in linears:
            specs[name] = WeightSpec((shape[0], shape[1]), pattern, dtype)
        else:
            specs[name] = (dtype, shape)

    def stream() -> Iterator[tuple[str, SparseWeight | Array]]:
        for name in specs:
            tensor = checkpoint.tensors[name]
            if name in linears and not isinstance(tensor, SparseWeight):
                yield name, _encode(name, tensor, pattern, clear_negative_zero)
            else:
                yield name, tensor
            if isinstance(checkpoint.tensors, DenseTensors):
                checkpoint.tensors.release(name)
            progress(name)

    with new_folder(target) as folder:
        files = save_model(folder, specs, stream(), max_bytes)
        write_side_files(folder, checkpoint.config.raw, source)
    return [target / file.name for file in files]


def _encode(name: str, dense: Array, pattern: NMPattern, clear: bool) -> SparseWeight:
    try:
        return encode(normalise_zero(dense) if clear else dense, str(pattern))
    except NmrefError as error:
        raise error.inside(name) from None
