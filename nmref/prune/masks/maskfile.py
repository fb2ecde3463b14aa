"""Masks as a file of their own: which weights may be other than zero, one bit each.

A safetensors file.  The mask of weight W [R, K] is the tensor `W.mask`, U8 [R, ceil(K/8)]: bit
c % 8 of byte c // 8 is column c, 1 is kept, the bits past K are 0.  Where W has outliers,
`W.outlier_mask` is their own mask in the same form; no bit is set in both.  The one metadata key
`nmref_mask` is canonical JSON (SPEC part 5): version, shapes, patterns, and a digest of all of it
and of the data, made as a packed file's is.  Equal masks give equal bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nmref import bits
from nmref.container import digest
from nmref.container.atomic import new_file
from nmref.container.metadata import check_weight_name
from nmref.container.safetensors import check_name, layout, open_raw, write_tensors
from nmref.dtypes import Array
from nmref.errors import Code, NmrefError
from nmref.pattern import NMPattern
from nmref.prune.masks import maskmeta
from nmref.prune.masks.maskmeta import MaskSpec

Bool = npt.NDArray[np.bool_]

_NO_DIGEST = "0" * 64


@dataclass(frozen=True, eq=False)
class Mask:
    """Which elements of one weight W [R, K] are kept.

    Attributes
    ----------
    base : [R, K] bool.
    salient : [R, K] bool, the outliers stored beside the base; or None.
    pattern, outliers : what each of them keeps to, at most N of every M columns; None: nothing,
        as a mask that was chosen in permuted order or unstructured outliers.
    """

    base: Bool
    salient: Bool | None = None
    pattern: NMPattern | None = None
    outliers: NMPattern | None = None

    @property
    def kept(self) -> Bool:
        """[R, K]: base and outliers together."""
        return self.base if self.salient is None else self.base | self.salient

    @property
    def spec(self) -> MaskSpec:
        """What the file says of it."""
        shape = (self.base.shape[0], self.base.shape[1])
        return MaskSpec(shape, self.pattern, self.salient is not None, self.outliers)


def check(mask: Mask, name: str) -> None:
    """Raises T_TENSOR: not bool [R, K], more than N in a block, an element in both masks."""
    _check_form(mask, name)
    both = {"mask": (mask.base, mask.pattern), "outlier mask": (mask.salient, mask.outliers)}
    for what, (part, pattern) in both.items():
        if part is not None and pattern is not None:
            _check_blocks(part, pattern, f"{name} {what}")
    if mask.salient is not None:
        for row, column in np.argwhere(mask.base & mask.salient)[:1].tolist():
            raise _wrong(f"{name} row {row} column {column}", "in both masks", "in one at most")


def write(path: Path, masks: Mapping[str, Mask]) -> str:
    """Write the masks, by name of weight, to one file; returns the digest.

    The file appears whole or not at all.  Raises T_ARGUMENT (no masks), T_TENSOR (see `check`),
    E_META and
    E_HEADER (no name of a tensor), T_FILE.
    """
    for name, mask in masks.items():
        _check_form(mask, name)
    return write_stream(path, {name: mask.spec for name, mask in masks.items()}, masks.items())


def write_stream(
    path: Path, specs: Mapping[str, MaskSpec], masks: Iterable[tuple[str, Mask]]
) -> str:
    """The same from an iterator, in any order: one mask is in memory at a time.

    `specs` says beforehand what will come; T_TENSOR when something else comes or is missing.
    """
    if not specs:
        raise NmrefError(Code.T_ARGUMENT, "masks", "none", "at least one")
    shapes = {part: form for name in specs for part, form in specs[name].parts(name).items()}
    for name in specs:
        check_weight_name(name)
    for part in shapes:
        check_name(part)
    header, entries = layout(shapes, maskmeta.metadata(specs, _NO_DIGEST))
    parts = (part for name, mask in masks for part in _packed(name, mask, specs))
    with new_file(path) as file:
        hashes = write_tensors(file, header, entries, parts)
        for missing in sorted(set(shapes) - set(hashes))[:1]:
            raise _wrong(missing, "nothing", "the mask that was announced")
        found = digest.content_sha256(entries, hashes, maskmeta.document(specs, _NO_DIGEST))
        file.seek(0)
        file.write(layout(shapes, maskmeta.metadata(specs, found))[0])
    return found


def content_sha256(masks: Mapping[str, Mask]) -> str:
    """The digest that a file of these masks has.  Raises as `write`."""
    specs, hashes = {name: mask.spec for name, mask in masks.items()}, {}
    for name, mask in masks.items():
        for part, bitmap in _packed(name, mask, specs):
            hashes[part] = hashlib.sha256(bitmap.tobytes()).hexdigest()
    shapes = {part: form for name in specs for part, form in specs[name].parts(name).items()}
    entries = layout(shapes, maskmeta.metadata(specs, _NO_DIGEST))[1]
    return digest.content_sha256(entries, hashes, maskmeta.document(specs, _NO_DIGEST))


class MaskFile(Mapping[str, Mask]):
    """The masks of a file by name of weight; each is unpacked when it is asked for.

    Opening checks everything but the bits, the digest included; unpacking checks those.
    Raises T_FILE, E_HEADER, E_LIMIT, E_DTYPE, E_META, E_VERSION, E_MISSING, E_SHAPE,
    E_UNEXPECTED, E_DIGEST; unpacking E_PAD and T_TENSOR (see `check`).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._raw = open_raw(path)
        try:
            self.specs, document = maskmeta.parse(self._raw.metadata)
            maskmeta.check_parts(self.specs, self._raw.entries)
        except NmrefError as error:
            raise error.inside(str(path)) from None
        self.content_sha256: str = document["content_sha256"]
        hashes = {n: hashlib.sha256(self._raw.data(n)).hexdigest() for n in self._raw.entries}
        got = digest.content_sha256(self._raw.entries, hashes, document)
        if got != self.content_sha256:
            raise NmrefError(Code.E_DIGEST, str(path), f"content {got}", self.content_sha256)

    def __iter__(self) -> Iterator[str]:
        """Names of weights, ascending."""
        return iter(self.specs)  # the JSON is canonical

    def __len__(self) -> int:
        """How many weights."""
        return len(self.specs)

    def __getitem__(self, name: str) -> Mask:
        """One mask.  Raises KeyError, E_PAD, T_TENSOR."""
        spec = self.specs[name]
        try:
            base, *salient = (self._unpack(part, spec) for part in spec.parts(name))
            mask = Mask(base, salient[0] if salient else None, spec.pattern, spec.outliers)
            check(mask, name)
        except NmrefError as error:
            raise error.inside(str(self._raw.path)) from None
        return mask

    def _unpack(self, part: str, spec: MaskSpec) -> Bool:
        stream, columns = self._raw.array(part), spec.shape[1]
        for row in np.flatnonzero(bits.padded_rows(stream, columns, 1))[:1].tolist():
            raise NmrefError(Code.E_PAD, f"{part} row {row}", "a bit past the columns", "0")
        return np.unpackbits(stream, axis=1, count=columns, bitorder="little").view(np.bool_)


def read(path: Path) -> MaskFile:
    """Open a mask file; see MaskFile for what is checked when."""
    return MaskFile(Path(path))


def _check_form(mask: Mask, name: str) -> None:
    if mask.salient is None and mask.outliers is not None:
        raise _wrong(f"{name} outlier mask", f"none, with pattern {mask.outliers}", "a mask")
    for what, part in (("mask", mask.base), ("outlier mask", mask.salient)):
        if part is None:
            continue
        if part.dtype != np.bool_ or part.ndim != 2 or part.shape[1] < 1:
            got = f"{part.dtype} {list(part.shape)}"
            raise _wrong(f"{name} {what}", got, "bool [R, K] with K >= 1")
        if part.shape != mask.base.shape:
            got, want = f"shape {list(part.shape)}", f"{list(mask.base.shape)} as the base"
            raise _wrong(f"{name} {what}", got, want)


def _wrong(where: str, got: str, want: str) -> NmrefError:
    return NmrefError(Code.T_TENSOR, where, got, want)


def _check_blocks(mask: Bool, pattern: NMPattern, where: str) -> None:
    starts = np.arange(0, mask.shape[1], pattern.block)
    counts = np.add.reduceat(mask, starts, axis=1, dtype=np.intp)  # [R, blocks]
    for row, block in np.argwhere(counts > pattern.stored)[:1].tolist():
        got = f"{counts[row, block]} kept"
        raise _wrong(f"{where} row {row} block {block}", got, f"at most {pattern.stored}")


def _packed(name: str, mask: Mask, specs: Mapping[str, MaskSpec]) -> list[tuple[str, Array]]:
    """Full tensor name -> bitmap, when the mask is what was announced."""
    check(mask, name)
    if specs.get(name) != mask.spec:
        raise _wrong(name, f"{mask.spec}", f"{specs.get(name)}, as announced")
    both = [mask.base] if mask.salient is None else [mask.base, mask.salient]
    bitmaps = [np.packbits(part, axis=1, bitorder="little") for part in both]
    return list(zip(mask.spec.parts(name), bitmaps, strict=True))
