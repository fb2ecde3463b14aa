"""Mask files: round trips, frozen bytes, every damage refused; zeros of weights against masks."""

import hashlib
import json
import os
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nmref
from nmref.container import digest, strictjson
from nmref.container.safetensors import Entry, open_raw, write_raw
from nmref.errors import NmrefError
from nmref.pattern import NMPattern
from nmref.prune.choose import mask as choice
from nmref.prune.masks import maskfile
from nmref.prune.masks.maskfile import Mask, MaskSpec
from nmref.prune.masks.zeros import StoredWeights, ZeroReport, check_zeros

P24, P4, P16 = NMPattern(2, 4), NMPattern(4, 256), NMPattern(16, 256)
W = "model.layers.0.mlp.up_proj.weight"


def chosen(rows: int, columns: int, seed: int = 0, outliers: NMPattern | None = P16) -> Mask:
    score = np.random.default_rng(seed).random((rows, columns)).astype(np.float32)
    base, salient = choice.split(score, P24, outliers)
    return Mask(base, salient, P24, outliers)


def same(a: Mask, b: Mask) -> bool:
    if (a.salient is None) != (b.salient is None) or a.spec != b.spec:
        return False
    return np.array_equal(a.base, b.base) and np.array_equal(a.kept, b.kept)


# Round trips


@st.composite
def masks(draw) -> dict[str, Mask]:
    names = draw(st.lists(st.from_regex(r"[a-z.]{1,8}", fullmatch=True), min_size=1, unique=True))
    drawn = {}
    for name in names[:4]:
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        form = draw(st.integers(0, 4)), draw(st.integers(1, 40))
        base, pattern, outliers = rng.random(form) < 0.5, None, None
        if draw(st.booleans()):
            pattern = draw(st.sampled_from([P24, NMPattern(8, 16)]))
            base = choice.top_n(rng.random(form).astype(np.float32), pattern)
        salient = ~base & (rng.random(form) < 0.2) if draw(st.booleans()) else None
        if salient is not None and salient.sum(axis=1).max(initial=0) <= 16:
            outliers = draw(st.sampled_from([None, P16]))
        drawn[name] = Mask(base, salient, pattern, outliers)
    return drawn


@settings(max_examples=40)
@given(masks())
def test_read_gives_what_was_written(tmp_path_factory, drawn):
    path = tmp_path_factory.mktemp("masks") / "m"
    found = maskfile.write(path, drawn)
    read = maskfile.read(path)
    assert list(read) == sorted(drawn)
    assert len(read) == len(drawn)
    assert read.specs == {name: mask.spec for name, mask in drawn.items()}
    assert all(same(read[name], drawn[name]) for name in drawn)
    assert read.content_sha256 == found
    again = path.with_name("again")
    assert maskfile.write(again, read) == found
    assert again.read_bytes() == path.read_bytes()


def test_bitmaps_are_one_little_endian_bit_for_each_column(tmp_path):
    rng = np.random.default_rng(1)
    base = rng.random((3, 19)) < 0.5
    salient = ~base & (rng.random((3, 19)) < 0.5)
    maskfile.write(tmp_path / "m", {W: Mask(base, salient)})
    raw = open_raw(tmp_path / "m")
    assert sorted(raw.entries) == [f"{W}.mask", f"{W}.outlier_mask"]
    for part, mask in ((f"{W}.mask", base), (f"{W}.outlier_mask", salient)):
        stream = raw.array(part)
        assert stream.shape == (3, 3)
        for row in range(3):
            for bit in range(24):
                kept = bit < 19 and bool(mask[row, bit])
                assert stream[row, bit // 8] >> bit % 8 & 1 == kept


def test_bytes_of_version_1(tmp_path):
    """A file of version 1 to the byte: readers elsewhere depend on it."""
    base = np.array([[1, 0, 1, 0, 0, 1, 0, 0, 1], [0] * 9], dtype=bool)
    salient = np.array([[0, 1] + [0] * 7, [1] + [0] * 8], dtype=bool)
    found = maskfile.write(tmp_path / "m", {"w": Mask(base, salient, P24, P16)})
    data = (tmp_path / "m").read_bytes()
    doc = (
        f'{{"content_sha256":"{found}","masks":{{"w":{{"outliers":{{"pattern":"16:256"}},'
        '"pattern":"2:4","shape":[2,9]}},"version":1}'
    )
    header = (
        f'{{"__metadata__":{{"nmref_mask":{json.dumps(doc)}}},'
        '"w.mask":{"dtype":"U8","shape":[2,2],"data_offsets":[0,4]},'
        '"w.outlier_mask":{"dtype":"U8","shape":[2,2],"data_offsets":[4,8]}}'
    )
    header += " " * (-len(header) % 8)
    want = len(header).to_bytes(8, "little") + header.encode() + bytes.fromhex("2501000002000100")
    assert data == want
    lines = [
        f"{hashlib.sha256(part).hexdigest()} U8 [2,2] {name}\n"
        for name, part in (("w.mask", want[-8:-4]), ("w.outlier_mask", want[-4:]))
    ]
    rest = doc.replace(f'"content_sha256":"{found}",', "")
    assert found == hashlib.sha256(("".join(lines) + rest + "\n").encode()).hexdigest()


def test_the_order_of_the_masks_does_not_change_the_bytes(tmp_path):
    drawn = {name: chosen(2, 20, seed) for seed, name in enumerate("cab")}
    maskfile.write(tmp_path / "a", drawn)
    maskfile.write(tmp_path / "b", dict(sorted(drawn.items())))
    stream = [(name, drawn[name]) for name in "bca"]
    maskfile.write_stream(tmp_path / "c", {n: drawn[n].spec for n in "abc"}, iter(stream))
    assert len({(tmp_path / name).read_bytes() for name in "abc"}) == 1


def test_write_takes_one_mask_at_a_time_and_leaves_nothing_when_it_breaks_off(tmp_path):
    def masks():
        yield "a", chosen(2, 20)
        seen.append([path.suffix for path in tmp_path.iterdir()])
        raise RuntimeError("broken off")

    seen: list[list[str]] = []
    specs = {"a": chosen(2, 20).spec, "b": chosen(2, 20).spec}
    (tmp_path / "m").write_bytes(b"old")
    with pytest.raises(RuntimeError, match="broken off"):
        maskfile.write_stream(tmp_path / "m", specs, masks())
    assert sorted(seen[0]) == ["", ".part"]
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert (tmp_path / "m").read_bytes() == b"old"


def test_kept_is_base_and_outliers():
    mask = chosen(4, 300)
    assert np.array_equal(mask.kept, mask.base | mask.salient)
    assert Mask(mask.base).kept is mask.base


# What cannot be written

BOOL = np.zeros((2, 8), dtype=bool)
FULL = np.ones((2, 8), dtype=bool)
ONE = np.eye(2, 8, 3, dtype=bool)

WRONG = {
    "not bool": (Mask(BOOL.view(np.uint8)), r"T_TENSOR w mask: uint8 \[2, 8\], want bool \[R, K\]"),
    "one axis": (Mask(BOOL[0]), r"T_TENSOR w mask: bool \[8\], want bool \[R, K\]"),
    "no columns": (Mask(BOOL[:, :0]), r"T_TENSOR w mask: bool \[2, 0\], want .* with K >= 1"),
    "outliers not bool": (
        Mask(BOOL, BOOL.astype(np.float32)),
        r"T_TENSOR w outlier mask: float32 \[2, 8\], want bool",
    ),
    "outliers of another shape": (
        Mask(BOOL, BOOL[:, 1:]),
        r"T_TENSOR w outlier mask: shape \[2, 7\], want \[2, 8\] as the base",
    ),
    "a pattern of no outliers": (
        Mask(BOOL, None, None, P16),
        r"T_TENSOR w outlier mask: none, with pattern 16:256, want a mask",
    ),
    "too many": (
        Mask(np.r_[BOOL[:1], [[0, 1, 0, 1, 1, 1, 1, 0]]].astype(bool), None, P24),
        r"T_TENSOR w mask row 1 block 1: 3 kept, want at most 2$",
    ),
    "too many in a tail": (
        Mask(FULL[:, :7], None, NMPattern(2, 4)),
        r"T_TENSOR w mask row 0 block 0: 4 kept, want at most 2$",
    ),
    "too many outliers": (
        Mask(BOOL, ONE, None, NMPattern(1, 4)),
        None,
    ),
    "too many outliers in a row": (
        Mask(BOOL, FULL, None, NMPattern(4, 8)),
        r"T_TENSOR w outlier mask row 0 block 0: 8 kept, want at most 4$",
    ),
    "in both": (Mask(FULL, ONE), r"T_TENSOR w row 0 column 3: in both masks, want in one at most$"),
}


@pytest.mark.parametrize(("mask", "message"), WRONG.values(), ids=WRONG)
def test_what_is_no_mask_is_not_written(tmp_path, mask, message):
    if message is None:  # the neighbour that is allowed
        maskfile.write(tmp_path / "m", {"w": mask})
        return
    with pytest.raises(NmrefError, match=f"^{message}"):
        maskfile.write(tmp_path / "m", {"w": mask})
    assert not list(tmp_path.iterdir())


def test_no_masks_no_folder_and_no_names_are_refused(tmp_path):
    with pytest.raises(NmrefError, match=r"^T_ARGUMENT masks: none, want at least one$"):
        maskfile.write(tmp_path / "m", {})
    with pytest.raises(NmrefError, match=r"^T_FILE .*nowhere: no such folder"):
        maskfile.write(tmp_path / "nowhere" / "m", {"w": chosen(1, 4)})
    for name in ("\u00e9", "a b", "", "w.nm_codes"):
        with pytest.raises(NmrefError, match=r"^E_META .*: a weight's name, want a tensor name"):
            maskfile.write(tmp_path / "m", {name: chosen(1, 4)})
    with pytest.raises(NmrefError, match=r"^E_HEADER 'w+.*: a tensor name, want 1 to 512 bytes"):
        maskfile.write(tmp_path / "m", {"w" * 510: chosen(1, 4)})
    assert not list(tmp_path.iterdir())


def test_a_stream_gives_what_was_announced(tmp_path):
    one, other = chosen(2, 20), chosen(2, 21)
    with pytest.raises(NmrefError, match=r"^T_TENSOR b\.mask: nothing, want the mask that was"):
        maskfile.write_stream(tmp_path / "m", {"a": one.spec, "b": one.spec}, [("a", one)])
    for name, spec in (("a", other.spec), ("b", one.spec)):
        with pytest.raises(NmrefError, match=r"^T_TENSOR a: MaskSpec.*, as announced$"):
            maskfile.write_stream(tmp_path / "m", {name: spec}, [("a", one)])
    assert not list(tmp_path.iterdir())


# Damage


@pytest.fixture
def path(tmp_path):
    """A small mask file."""
    maskfile.write(tmp_path / "m", {"w": chosen(2, 13, 0, P4), "v": chosen(1, 8, 1, None)})
    return tmp_path / "m"


def read_all(path: Path) -> list[Mask]:
    return list(maskfile.read(path).values())


def test_a_changed_bit_in_any_byte_is_noticed(path):
    whole = path.read_bytes()
    read_all(path)
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        with pytest.raises(NmrefError, match=re.escape(str(path))):
            read_all(path)


def test_lost_and_added_bytes_are_noticed(path):
    whole = path.read_bytes()
    for length in range(0, len(whole), 5):
        path.write_bytes(whole[:length])
        with pytest.raises(NmrefError, match=re.escape(str(path))):
            read_all(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(NmrefError, match=r"^E_HEADER "):
        read_all(path)


def test_no_file(tmp_path):
    with pytest.raises(NmrefError, match=r"^T_FILE .*m: No such file or directory"):
        maskfile.read(tmp_path / "m")


def forge(path: Path, change) -> None:
    """Change tensors and document of a file, and give it the digest that belongs to them."""
    raw = open_raw(path)
    tensors = {name: raw.array(name).copy() for name in raw.entries}
    doc = json.loads(raw.metadata["nmref_mask"])
    change(tensors, doc)
    entries = {
        n: Entry({"uint8": "U8", "int8": "I8"}[a.dtype.name], a.shape, 0, 0)
        for n, a in tensors.items()
    }
    hashes = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in tensors.items()}
    if "content_sha256" in doc and len(doc["content_sha256"]) == 64:
        doc["content_sha256"] = digest.content_sha256(entries, hashes, doc)
    write_raw(path, tensors, {"nmref_mask": strictjson.dumps(doc)})


def test_a_forged_file_with_nothing_changed_is_read(path):
    before = path.read_bytes()
    forge(path, lambda tensors, doc: None)
    assert path.read_bytes() == before


def w(**members):
    return lambda tensors, doc: doc["masks"]["w"].update(members)


def top(**members):
    def change(tensors, doc):
        doc.update({key: value for key, value in members.items() if value is not ...})
        for key in [key for key, value in members.items() if value is ...]:
            del doc[key]

    return change


def bits(part, row, byte, value):
    return lambda tensors, doc: tensors[part].__setitem__((row, byte), value)


def tensor(part, array):
    return lambda tensors, doc: tensors.update({part: array})


FORGED = {
    "a later version": (top(version=2), r"E_VERSION .*m version: 2, want 1$"),
    "a later version, other keys": (top(version=7, masks=..., x=1), r"E_VERSION .*m version: 7"),
    "a version of another type": (top(version="1"), r"E_META .*m version: '1', want an integer$"),
    "a true version": (top(version=True), r"E_META .*m version: True, want an integer$"),
    "no version": (top(version=...), r"E_META .*m version: None, want an integer$"),
    "another key": (top(x=1), r"E_META .*m nmref_mask: keys \['content_sha256', 'masks', 'version"),
    "no masks": (top(masks={}), r"E_META .*m masks: \{\}, want an object with at least one mask$"),
    "masks in a list": (top(masks=[1]), r"E_META .*m masks: \[1\], want an object"),
    "no digest": (
        top(content_sha256="00"),
        r"E_META .*m content_sha256: '00', want 64 lower-case hex digits$",
    ),
    "a digest in capitals": (top(content_sha256="A" * 63 + "b2"), r"E_META .*m content_sha256: "),
    "a digest too long": (top(content_sha256="a" * 65), r"E_META .*m content_sha256: 'aaa"),
    "a mask's other key": (w(x=1), r"E_META .*m w: keys \['outliers', .*, want an object with"),
    "no name": (
        lambda tensors, doc: doc["masks"].update({"": doc["masks"].pop("v")}),
        r"E_META .*m '': a weight's name, want a tensor name",
    ),
    "a mask in a list": (
        lambda tensors, doc: doc["masks"].update(w=[1]),
        r"E_META .*m w: \[1\], want an object with outliers, pattern, shape$",
    ),
    "a shape of one axis": (w(shape=[2]), r"E_META .*m w: shape \[2\], want \[R, K\]$"),
    "a shape of flags": (w(shape=[True, 13]), r"E_META .*m w: shape \[True, 13\], want \[R, K\]$"),
    "no columns": (w(shape=[2, 0]), r"E_LIMIT .*m w: shape \[2, 0\], want R in "),
    "too many rows": (w(shape=[2**31, 13]), r"E_LIMIT .*m w: shape \[2147483648, 13\]"),
    "another shape": (w(shape=[2, 17]), r"E_SHAPE .*m w\.mask: shape \[2, 2\], want \[2, 3\]$"),
    "fewer rows": (w(shape=[1, 13]), r"E_SHAPE .*m w\.mask: shape \[2, 2\], want \[1, 2\]$"),
    "columns that the bits deny": (w(shape=[2, 9], pattern=None), r"E_PAD .*m w\.\w+ row \d: "),
    "no pattern": (w(pattern="2:"), r"E_META .*m w: pattern '2:', want N:M, as in 8:16, or null$"),
    "a pattern that is no text": (w(pattern=2), r"E_META .*m w: pattern 2, want N:M"),
    "N not below M": (w(pattern="4:4"), r"E_META .*m w: pattern '4:4', want N:M"),
    "outliers of another form": (
        w(outliers="16:256"),
        r"E_META .*m w outliers: '16:256', want an object with pattern$",
    ),
    "an outlier pattern of another form": (
        w(outliers={"pattern": "16"}),
        r"E_META .*m w: pattern '16', want N:M",
    ),
    "outliers that are not said": (
        w(outliers=None),
        r"E_UNEXPECTED .*m w\.outlier_mask: a tensor of no mask, want masks only$",
    ),
    "outliers that are not there": (
        lambda tensors, doc: doc["masks"]["v"].update(outliers={"pattern": None}),
        r"E_MISSING .*m v\.outlier_mask: no such tensor, want U8 \[1, 1\]$",
    ),
    "a mask that is not there": (
        lambda tensors, doc: tensors.pop("v.mask"),
        r"E_MISSING .*m v\.mask: no such tensor, want U8 \[1, 1\]$",
    ),
    "a tensor too many": (tensor("x", BOOL.view(np.uint8)), r"E_UNEXPECTED .*m x: a tensor of no"),
    "another dtype": (
        tensor("v.mask", np.zeros((1, 1), np.int8)),
        r"E_DTYPE .*m v\.mask: dtype I8, want U8$",
    ),
    "a bit past the columns": (
        bits("w.mask", 1, 1, 0x20),
        r"E_PAD .*m w\.mask row 1: a bit past the columns, want 0$",
    ),
    "too many kept": (
        bits("v.mask", 0, 0, 0x70),
        r"T_TENSOR .*m v mask row 0 block 1: 3 kept, want at most 2$",
    ),
    "kept twice": (
        lambda tensors, doc: (
            tensors["w.outlier_mask"].__setitem__(..., tensors["w.mask"]),
            doc["masks"]["w"].update(outliers={"pattern": None}),
        ),
        r"T_TENSOR .*m w row 0 column \d: in both masks, want in one at most$",
    ),
}


@pytest.mark.parametrize(("change", "message"), FORGED.values(), ids=FORGED)
def test_a_forged_file_is_refused_by_the_rule_it_breaks(path, change, message):
    forge(path, change)
    with pytest.raises(NmrefError, match=f"^{message}"):
        read_all(path)


def rewrite(path: Path, metadata: dict[str, str]) -> None:
    raw = open_raw(path)
    write_raw(path, {name: raw.array(name).copy() for name in raw.entries}, metadata)


TEXTS = {
    "no JSON": ("{", r"E_META .*m nmref_mask: .*, want JSON$"),
    "nesting": ('{"a":' * 9 + "1" + "}" * 9, r"E_META .*m nmref_mask: nesting deeper than 5"),
    "a negative number": ('{"version":-1}', r"E_META .*m nmref_mask: number -1, want JSON$"),
    "spaces": ('{"version": 1}', r"E_META .*m nmref_mask: JSON in another form, want the canon"),
    "more after it": ('{"version":1} ', r"E_META .*m nmref_mask: JSON in another form"),
}


@pytest.mark.parametrize(("text", "message"), TEXTS.values(), ids=TEXTS)
def test_the_metadata_is_canonical_json(path, text, message):
    rewrite(path, {"nmref_mask": text})
    with pytest.raises(NmrefError, match=f"^{message}"):
        maskfile.read(path)


@pytest.mark.parametrize("metadata", [{}, {"format": "pt"}, {"nmref_mask": "{}", "x": ""}])
def test_another_safetensors_file_is_no_mask_file(path, metadata):
    rewrite(path, metadata)
    got = f"keys {sorted(metadata)}" if metadata else "none"
    message = rf'^E_META .*m __metadata__: {re.escape(got)}, want exactly the key "nmref_mask"$'
    with pytest.raises(NmrefError, match=message):
        maskfile.read(path)


# Zeros of weights


def masked(shape=(4, 300), dtype=np.float32) -> tuple[np.ndarray, Mask]:
    mask = chosen(*shape, 5)
    weight = np.random.default_rng(6).standard_normal(shape).astype(np.float32)
    return np.where(mask.kept, weight, 0).astype(dtype), mask


DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.int8, np.int64]


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_are_counted_in_any_dtype(dtype):
    weight, mask = masked(dtype=dtype)
    count = sum(bool(float(value) != 0) for value in weight.ravel())
    report = check_zeros({"w": weight, "other": np.ones(3)}, {"w": mask})
    assert report == ZeroReport(1, 1200, int(mask.kept.sum()), count)


def test_minus_zero_is_zero_and_nan_is_not():
    weight, mask = masked()
    zeros = np.argwhere(~mask.kept)
    weight[tuple(zeros[3])] = -0.0
    check_zeros({"w": weight}, {"w": mask})
    for value in (np.nan, np.inf, np.float32(1e-45)):
        weight[tuple(zeros[7])] = value
        with pytest.raises(NmrefError, match=rf"column {zeros[7][1]}: {value} outside the mask"):
            check_zeros({"w": weight}, {"w": mask})


def test_the_first_weight_outside_its_mask_is_named():
    weight, mask = masked()
    (row, column), *_, last = np.argwhere(~mask.kept[1:]).tolist()
    weight[row + 1, column], weight[last[0] + 1, last[1]] = 0.25, 2
    where = rf"b row {row + 1} column {column}"
    message = rf"^T_TENSOR {where}: 0\.25 outside the mask, 2 such in this weight, want 0$"
    seen: list[str] = []
    weights = {"c": weight, "b": weight, "a": np.zeros_like(weight)}
    with pytest.raises(NmrefError, match=message):
        check_zeros(weights, dict.fromkeys("cba", mask), seen.append)
    assert seen == ["a"]


def test_a_weight_that_is_missing_or_of_another_shape_is_named():
    weight, mask = masked()
    with pytest.raises(NmrefError, match=r"^T_TENSOR w: missing, want the weight of this mask$"):
        check_zeros({"v": weight}, {"w": mask})
    message = r"^T_TENSOR w: shape \[300, 4\], want \[4, 300\] as the mask$"
    with pytest.raises(NmrefError, match=message):
        check_zeros({"w": weight.T}, {"w": mask})


@pytest.fixture
def stored(tmp_path):
    """The same two weights: a dense file, dense shards, a packed file; and their masks."""
    weight, mask = masked()
    dense = {"w": weight, "v": weight[:2].astype(ml_dtypes.bfloat16), "norm": np.ones(3)}
    masks = {"w": mask, "v": Mask(mask.base[:2], mask.salient[:2], P24, P16)}
    packed = {
        n: nmref.encode(
            np.where(m.base, dense[n], np.zeros((), dense[n].dtype)),
            "2:4",
            mask=m.base,
            outliers=np.where(m.salient, dense[n], np.zeros((), dense[n].dtype)),
            outlier_mask=m.salient,
        )
        for n, m in masks.items()
    }
    for folder in ("dense", "shards", "packed"):
        (tmp_path / folder).mkdir()
    write_raw(tmp_path / "dense" / "model.safetensors", dense, {"format": "pt"})
    for name, array in dense.items():
        write_raw(tmp_path / "shards" / f"{name}.safetensors", {name: array}, {})
    index = {"metadata": {}, "weight_map": {name: f"{name}.safetensors" for name in dense}}
    (tmp_path / "shards" / "model.safetensors.index.json").write_text(json.dumps(index))
    nmref.save(tmp_path / "packed" / "model.nmref.safetensors", {**packed, "norm": np.ones(3)})
    return tmp_path, dense, masks


PLACES = [
    "dense",
    "dense/model.safetensors",
    "shards",
    "shards/model.safetensors.index.json",
    "packed",
    "packed/model.nmref.safetensors",
]


@pytest.mark.parametrize("place", PLACES)
def test_stored_weights_are_the_dense_ones(stored, place):
    folder, dense, masks = stored
    weights = StoredWeights(folder / place)
    assert list(weights) == ["norm", "v", "w"]
    assert len(weights) == 3
    assert weights.packed == place.startswith("packed")
    assert all(np.array_equal(weights[name], dense[name]) for name in dense)
    counts = [int(np.count_nonzero(dense[name].astype(np.float32))) for name in "vw"]
    report = check_zeros(weights, masks)
    assert report == ZeroReport(
        2, 1800, sum(int(m.kept.sum()) for m in masks.values()), sum(counts)
    )
    weights.release("v")
    assert np.array_equal(weights["v"], dense["v"])  # reading it again works


def test_a_folder_has_weights_of_one_kind(stored):
    folder, _, _ = stored
    want = r"want model\.safetensors or model\.nmref\.safetensors$"
    (folder / "none").mkdir()
    with pytest.raises(NmrefError, match=rf"^T_FILE .*none: no weights, {want}"):
        StoredWeights(folder / "none")
    os.link(folder / "packed/model.nmref.safetensors", folder / "dense/model.nmref.safetensors")
    with pytest.raises(NmrefError, match=rf"^T_FILE .*: both dense and packed weights, {want}"):
        StoredWeights(folder / "dense")
    with pytest.raises(NmrefError, match=r"^T_FILE .*nowhere: No such file"):
        StoredWeights(folder / "nowhere")


def test_a_tensor_is_in_one_shard(stored):
    folder, dense, _ = stored
    write_raw(folder / "shards" / "v.safetensors", {"v": dense["v"], "w": dense["w"]}, {})
    with pytest.raises(NmrefError, match=r"^T_FILE .*shards w: in two files, want one$"):
        StoredWeights(folder / "shards")


def test_a_spec_says_its_parts():
    spec = MaskSpec((3, 17), P24, True, None)
    assert spec.parts("w") == {"w.mask": ("U8", (3, 3)), "w.outlier_mask": ("U8", (3, 3))}
    assert MaskSpec((3, 16)).parts("w") == {"w.mask": ("U8", (3, 2))}
