"""A model folder: config.json, tokenizer.json and dense or packed weights.

Dense weights are model.safetensors or the shards of model.safetensors.index.json; packed ones
are model.nmref.safetensors or the shards of model.nmref.safetensors.index.json (SPEC part 5).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nmref import container
from nmref.container.atomic import new_folder
from nmref.container.safetensors import RawFile, open_raw, write_raw
from nmref.dtypes import OUTLIER_DTYPES, Array, widen
from nmref.errors import Code, NmrefError
from nmref.model.config import LlamaConfig, expected_shapes, linear_names, read_config
from nmref.model.llama import Weights
from nmref.tensor import SparseWeight

DENSE_FILE = "model.safetensors"
SIDE_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
"""What a model folder may have besides config.json and weights."""

_INDEX = ".index.json"
_SPARSE = "sparse"
_BUFFER = ".rotary_emb.inv_freq"  # older checkpoints store this table; it follows from the config


class DenseTensors(Mapping[str, Array]):
    """Tensors of one or more safetensors files, read (memory-mapped) when they are asked for."""

    def __init__(self, home: Mapping[str, RawFile]) -> None:
        self.home = home

    def __getitem__(self, name: str) -> Array:
        return self.home[name].array(name)

    def release(self, name: str) -> None:
        """Let go of the memory that reading a tensor took."""
        self.home[name].release(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.home)

    def __len__(self) -> int:
        return len(self.home)


@dataclass(frozen=True)
class Checkpoint:
    """An opened model folder whose tensors are all there, with the right shapes."""

    folder: Path
    config: LlamaConfig
    packed: bool
    tensors: Mapping[str, SparseWeight | Array]
    """As stored: arrays in their own dtype (lazy where the folder is dense), sparse weights."""

    def described(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Name -> container dtype and shape of a dense folder's tensors, from the headers."""
        assert isinstance(self.tensors, DenseTensors)
        entries = {name: raw.entries[name] for name, raw in self.tensors.home.items()}
        return {name: (entry.dtype, entry.shape) for name, entry in entries.items()}

    def weights(self) -> Weights:
        """The tensors for the forward: dense ones as aligned F32, sparse ones as they are."""
        wanted = expected_shapes(self.config)
        weights: dict[str, SparseWeight | Array] = {}
        for name, tensor in self.tensors.items():  # all of them, so that the digest is checked
            if isinstance(tensor, SparseWeight):
                weights[name] = tensor
            elif name in wanted:
                weights[name] = np.require(widen(tensor), requirements=["C", "A"])
        return weights


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open a model folder and check every tensor's presence, shape and dtype; no data is read.

    Raises T_FILE (a file is missing, an index is wrong), T_CONFIG, T_TENSOR, and what the
    container's reader raises.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NmrefError(Code.T_FILE, str(folder), "no such folder", "a model folder")
    config = read_config(folder / "config.json")
    dense, packed = (
        [name for name in (stem, stem + _INDEX) if (folder / name).is_file()]
        for stem in (DENSE_FILE, container.FILE_NAME)
    )
    if bool(dense) == bool(packed):
        got = "both dense and packed weights" if dense else "no weights"
        raise NmrefError(Code.T_FILE, str(folder), got, f"{DENSE_FILE} or {container.FILE_NAME}")
    tensors: Mapping[str, SparseWeight | Array]
    if packed:
        nm = container.load(folder)
        tensors, found = nm, _describe_packed(nm)
    else:
        tensors = DenseTensors(_open_dense(folder / dense[0]))
        found = {
            name: (raw.entries[name].shape, raw.entries[name].dtype)
            for name, raw in tensors.home.items()
        }
    _check_tensors(config, found, str(folder))
    return Checkpoint(folder, config, bool(packed), tensors)


def write_checkpoint(
    target: Path,
    config: Mapping[str, object],
    tensors: Mapping[str, Array],
    side_files: Path | Mapping[str, str] | None = None,
) -> None:
    """Write a dense model folder, whole or not at all.

    `side_files` is a folder to copy tokenizer and the like from, or file name -> text.
    Raises T_FILE when the target exists and is not an empty folder.
    """
    with new_folder(target) as folder:
        write_raw(folder / DENSE_FILE, tensors, {"format": "pt"})
        write_side_files(folder, config, side_files)


def write_side_files(
    folder: Path, config: Mapping[str, object], side_files: Path | Mapping[str, str] | None = None
) -> None:
    """Write config.json and the side files (see `write_checkpoint`) into a folder."""
    texts = {"config.json": dump_json(config)}
    if isinstance(side_files, Path):
        for name in SIDE_FILES:
            if (side_files / name).is_file():
                shutil.copyfile(side_files / name, folder / name)
    elif side_files is not None:
        texts |= side_files
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def dump_json(content: Mapping[str, object]) -> str:
    """JSON with sorted keys, so that equal content gives equal bytes."""
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _open_dense(path: Path) -> dict[str, RawFile]:
    """A safetensors file or an index of them -> tensor name -> the open file that has it."""
    if not path.name.endswith(_INDEX):
        raw = open_raw(path)
        return dict.fromkeys(raw.entries, raw)
    weight_map = _read_index(path)
    files = {file: open_raw(path.parent / file) for file in sorted(set(weight_map.values()))}
    for name, file in weight_map.items():
        if name not in files[file].entries:
            where = str(path.parent / file)
            raise NmrefError(Code.T_FILE, where, f"no tensor {name}", "what its index lists")
    return {name: files[file] for name, file in weight_map.items()}


def _read_index(index: Path) -> dict[str, str]:
    """Tensor name -> file name, every file beside the index.  Raises T_FILE."""
    try:
        weight_map = json.loads(index.read_bytes())["weight_map"]
        items = dict(weight_map.items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        got = "not an index"
        raise NmrefError(Code.T_FILE, str(index), got, "JSON with a weight_map") from None
    for name, file in items.items():
        if not isinstance(file, str) or Path(file).name != file:
            got = f"{name} in {json.dumps(file)[:80]}"
            raise NmrefError(Code.T_FILE, str(index), got, "the name of a file beside it")
    return items


def _describe_packed(
    nm: container.NMFile | container.NMShards,
) -> dict[str, tuple[tuple[int, ...], str]]:
    """Name -> shape and dtype, from the headers; the dtype of a sparse weight is `sparse`."""
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    for file in nm.files if isinstance(nm, container.NMShards) else [nm]:
        for name in file:
            if name in file.weights:
                found[name] = file.weights[name].shape, _SPARSE
            else:
                found[name] = file.raw.entries[name].shape, file.raw.entries[name].dtype
    return found


def _check_tensors(
    config: LlamaConfig, found: Mapping[str, tuple[tuple[int, ...], str]], where: str
) -> None:
    """Exactly the tensors of the config, with its shapes; only linears may be sparse."""
    shapes, linears = expected_shapes(config), set(linear_names(config))
    for name, want in shapes.items():
        if name not in found:
            raise NmrefError(Code.T_TENSOR, f"{where} {name}", "missing", f"shape {list(want)}")
    shapes["lm_head.weight"] = (config.V, config.D)  # a tied head may still be stored
    for name, (shape, dtype) in found.items():
        place = f"{where} {name}"
        if name not in shapes:
            if name.endswith(_BUFFER):
                continue
            want_only = "only those of config.json"
            raise NmrefError(Code.T_TENSOR, place, "a tensor the model has not", want_only)
        if shape != shapes[name]:
            got, shape_wanted = f"shape {list(shape)}", str(list(shapes[name]))
            raise NmrefError(Code.T_TENSOR, place, got, shape_wanted)
        if dtype not in OUTLIER_DTYPES and not (dtype == _SPARSE and name in linears):
            known = ", ".join(OUTLIER_DTYPES)
            raise NmrefError(Code.T_TENSOR, place, f"dtype {dtype}", f"one of {known}")
