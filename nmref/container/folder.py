"""Find what a path means: a file, a folder with a file, or shards with an index (SPEC part 5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from nmref.container import strictjson
from nmref.container.metadata import MAX_DEPTH
from nmref.container.reader import NMFile
from nmref.dtypes import Array
from nmref.errors import Code, NmrefError
from nmref.tensor import SparseWeight

FILE_NAME = "model.nmref.safetensors"
INDEX_NAME = "model.nmref.safetensors.index.json"


class NMShards(Mapping[str, SparseWeight | Array]):
    """The files of an index, as one mapping; each shard has its own metadata and digest."""

    def __init__(self, index: Path) -> None:
        weight_map = _read_index(index)
        self.files = [NMFile(index.parent / name) for name in sorted(set(weight_map.values()))]
        self._home: dict[str, NMFile] = {}
        for file in self.files:
            for name in file:
                if name in self._home:
                    raise NmrefError(Code.T_FILE, name, f"in {file.raw.path.name} too", "one shard")
                self._home[name] = file
        found = {name: f.raw.path.name for f in self.files for name in f.raw.entries}
        for name in sorted(set(found) ^ set(weight_map)) or sorted(
            name for name in found if found[name] != weight_map[name]
        ):
            raise NmrefError(
                Code.T_FILE, f"{index} {name}", f"in {found.get(name)}", f"{weight_map.get(name)}"
            )

    def __iter__(self) -> Iterator[str]:
        """Names, ascending."""
        return iter(sorted(self._home))

    def __len__(self) -> int:
        """How many weights and other tensors."""
        return len(self._home)

    def __getitem__(self, name: str) -> SparseWeight | Array:
        """One weight or tensor, from its shard."""
        return self._home[name][name]


def _read_index(index: Path) -> dict[str, str]:
    try:
        text = index.read_bytes().decode("utf-8")
        document, _ = strictjson.loads(text, MAX_DEPTH, signed=True)
    except (OSError, UnicodeDecodeError, strictjson.StrictJSONError) as error:
        got = str(error)[:80]
        raise NmrefError(Code.T_FILE, str(index), got, "an index of shards in JSON") from None
    weight_map = document.get("weight_map")
    if not isinstance(weight_map, dict) or not all(map(_is_plain, weight_map.values())):
        raise NmrefError(Code.T_FILE, str(index), "another weight_map", "name -> file name")
    return weight_map


def _is_plain(file_name: object) -> bool:
    """The name of a file in the same folder (SPEC part 5)."""
    if not isinstance(file_name, str):
        return False
    return file_name not in {"", ".", ".."} and not set(file_name) & set("/\\\0")


def files_of(path: str | Path) -> list[Path]:
    """The nmref files that a path stands for: itself, or those of a folder or an index."""
    path = Path(path)
    if path.is_dir():
        single, index = path / FILE_NAME, path / INDEX_NAME
        if single.exists():
            return [single]
        if not index.exists():
            raise NmrefError(Code.T_FILE, str(path), "a folder without it", FILE_NAME)
        path = index
    if path.name.endswith(".index.json"):
        return [path.parent / name for name in sorted(set(_read_index(path).values()))]
    return [path]


def load(path: str | Path) -> NMFile | NMShards:
    """Open a file, an index, or a folder that has one; nothing but headers is read yet.

    Raises T_FILE and the codes of SPEC part 6 up to E_UNEXPECTED; reading a tensor, the others.
    """
    path = Path(path)
    index = path / INDEX_NAME if path.is_dir() else path
    if index.name.endswith(".index.json") and index.exists() and not (path / FILE_NAME).exists():
        return NMShards(index)
    return NMFile(files_of(path)[0])
