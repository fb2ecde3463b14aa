"""The C client, written from SPEC.md alone, against SPEC.md and against the package."""

import json
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import nmref

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "conformance" / "clients" / "c"
SOURCES = [FOLDER / "nmref_decode.c", FOLDER / "nmref_core.c"]
SPEC = (ROOT / "SPEC.md").read_text()
FLAGS = [
    *("-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion"),
    *("-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
]

Client = Callable[..., subprocess.CompletedProcess[bytes]]

EXAMPLES = {
    name: b"".join(bytes.fromhex(line[10:49]) for line in dump.splitlines())
    for name, dump in re.findall(r"Example file: (\S+)\n```hexdump\n(.*?)```", SPEC, re.S)
}
EXAMPLE_W = re.findall(r"Example W: (\S+) (\S+)\n```bits\n(.*?)```", SPEC, re.S)
RANKS = re.findall(r"^\| (\d+:\d+) \| ([\d ]+) \| (\d+) = 0x", SPEC, re.M)

FLOATS = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    """Runs the client, built with the strict flags and with sanitizers."""
    if not shutil.which("cc"):
        if os.environ.get("CI"):
            pytest.fail("no C compiler `cc`, which CI must have")
        pytest.skip("no C compiler `cc`")
    program = tmp_path_factory.mktemp("client") / "nmref_decode"
    subprocess.run(["cc", *FLAGS, "-o", program, *SOURCES], check=True, timeout=120)

    def run(*operands: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [program, *map(str, operands)], input=stdin, capture_output=True, timeout=60
        )
        assert b"Sanitizer" not in done.stderr, done.stderr.decode()
        assert b"runtime error" not in done.stderr, done.stderr.decode()
        assert done.returncode in range(4), done
        return done

    return run


def verdict_of_client(line: str) -> list[str]:
    """The code of a refusal, or OK and the warnings with their names."""
    words = line.split()
    return words if words[0] == "OK" else words[:1]


def verdict_of_nmref(path: Path) -> list[str]:
    try:
        (report,) = nmref.verify(path)
    except nmref.NmrefError as error:
        return [str(error.code)]
    return ["OK", *(w.rstrip(":") for text in report.warnings for w in text.split()[:2])]


def verdicts(client: Client, paths: Sequence[Path]) -> list[list[str]]:
    lines = client("verify", *paths).stdout.decode("ascii").splitlines()
    assert len(lines) == len(paths)
    return [verdict_of_client(line) for line in lines]


def disagreements(client: Client, files: Iterable[bytes], folder: Path) -> list[str]:
    """Files that client and package judge differently."""
    paths = []
    for i, content in enumerate(files):
        paths.append(folder / str(i))
        paths[-1].write_bytes(content)
    found = []
    for start in range(0, len(paths), 2000):
        batch = paths[start : start + 2000]
        for path, got in zip(batch, verdicts(client, batch), strict=True):
            want = verdict_of_nmref(path)
            if got != want:
                found.append(f"file {path.name}: client {got}, nmref {want}")
    return found


# --------------------------------------------------------------------------- SPEC.md


def test_spec_has_the_examples() -> None:
    assert len(EXAMPLES) == 3
    assert len(EXAMPLE_W) == 3
    assert len(RANKS) == 10


@pytest.mark.parametrize(("name", "weight", "rows"), EXAMPLE_W, ids=[w[0] for w in EXAMPLE_W])
def test_example(client: Client, tmp_path: Path, name: str, weight: str, rows: str) -> None:
    path = tmp_path / name
    path.write_bytes(EXAMPLES[name])
    done = client("verify", path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"OK\n", b"")
    words = [word for row in rows.splitlines() for word in row.split(": ")[1].split()]
    done = client("dump", path, weight)
    assert done.returncode == 0
    assert done.stdout == b"".join(bytes.fromhex(word)[::-1] for word in words)


def test_list_and_ordinary_tensor(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "second"
    path.write_bytes(EXAMPLES["second.safetensors"])
    assert client("list", path).stdout == b"tensor norm F32 [3]\nweight w BF16 2 20\n"
    assert client("dump", path, "norm").stdout == EXAMPLES["second.safetensors"][0x298:0x2A4]


@pytest.mark.parametrize(("pattern", "columns", "code"), RANKS)
def test_ranks_of_annex_d(client: Client, pattern: str, columns: str, code: str) -> None:
    mask = sum(1 << int(column) for column in columns.split())
    assert client("rank", pattern, hex(mask)).stdout.decode() == f"{code}\n"
    assert int(client("unrank", pattern, code).stdout, 16) == mask


@pytest.mark.parametrize("pattern", ["1:2", "2:4", "4:8", "8:16", "7:15", "1:64", "63:64"])
def test_all_masks(client: Client, pattern: str) -> None:
    """Code i is the i-th smallest integer with N one bits (SPEC 2.5)."""
    n, m = map(int, pattern.split(":"))
    masks = sorted(sum(1 << c for c in columns) for columns in combinations(range(m), n))
    assert len(masks) == comb(m, n)
    codes = "".join(f"{i}\n" for i in range(len(masks))).encode()
    lines = client("masks", pattern, stdin=codes)
    assert [int(line, 16) for line in lines.stdout.split()] == masks
    assert client("ranks", pattern, stdin=lines.stdout).stdout == codes
    assert client("unrank", pattern, len(masks)).returncode == 1


# --------------------------------------------------------------------------- exit codes


def test_exit_codes(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "first"
    path.write_bytes(EXAMPLES["first.safetensors"][:-1])
    done = client("verify", path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"E_HEADER ")
    assert done.stderr.count(b"\n") == 1
    assert client("dump", path, "w").returncode == 1
    assert client("verify", tmp_path / "absent").returncode == 3
    assert client("verify", tmp_path).returncode == 3
    path.write_bytes(EXAMPLES["first.safetensors"])
    for wrong in (
        [],
        ["verify"],
        ["list", path, path],
        ["dump", path],
        ["dump", path, "v"],
        ["rank", "2:4", "7"],
        ["rank", "2:4", "11"],
        ["unrank", "2:4", "-1"],
        ["unrank", "4:2", "0"],
        ["unrank", "5:256", "0"],
    ):
        assert client(*wrong).returncode == 2, wrong


# --------------------------------------------------------------------------- random content


def random_bits(rng: np.random.Generator, shape: tuple[int, int], dtype: str) -> Any:
    """Elements of any bits: NaN with payloads, infinities, subnormal numbers, -0."""
    if dtype == "I8":
        return rng.integers(-128, 128, shape, dtype=np.int8)
    kind = np.dtype(FLOATS[dtype])
    bits = np.frombuffer(rng.bytes(shape[0] * shape[1] * kind.itemsize), kind).reshape(shape)
    return np.where(rng.random(shape) < 0.5, bits, np.ones((), kind)).astype(kind)


def random_weight(
    rng: np.random.Generator,
    pattern: str,
    dtype: str,
    outliers: tuple[str, str, str] | None,
    shape: tuple[int, int],
) -> nmref.SparseWeight:
    """A weight with random masks; outliers are (pattern, dtype, coding)."""
    n, m = map(int, pattern.split(":"))
    rows, columns = shape
    padded = -(-columns // m) * m
    order = rng.random((rows, padded // m, m)).argsort(axis=-1)
    keep = (order < rng.integers(0, n + 1)).reshape(rows, padded)[:, :columns]
    used = keep & (rng.random(shape) < rng.choice([0.3, 0.9, 1.0]))
    base = random_bits(rng, shape, dtype)
    base = np.where(used, base, np.zeros((), base.dtype))
    more: dict[str, Any] = {}
    if rng.random() < 0.3:
        more["mask"] = keep
    if dtype == "I8":
        limits = np.array([1, 2**23 - 1, 2**23, 2**23 + 1, 247 << 23], np.uint32)
        scale = np.where(
            rng.random(rows) < 0.5,
            rng.choice(limits, rows),
            rng.integers(1, (247 << 23) + 1, rows, dtype=np.uint32),
        )
        more["scale"] = scale.astype(np.uint32).view(np.float32)
    if outliers:
        n_out = int(outliers[0].split(":")[0])
        salient = random_bits(rng, shape, outliers[1])
        free = base.view(f"u{base.dtype.itemsize}") == 0
        chosen = np.zeros(shape, bool)
        for start in range(0, columns, 256):
            block = np.s_[:, start : start + 256]
            score = np.where(free[block], rng.random(free[block].shape), 2.0)
            chosen[block] = (score.argsort(-1).argsort(-1) < rng.integers(0, n_out + 1)) & (
                score < 2
            )
        more["outliers"] = np.where(chosen, salient, np.zeros((), salient.dtype))
        more["outlier_pattern"], more["coding"] = outliers[0], outliers[2]
    return nmref.encode(base, pattern, **more)


def random_weights(rng: np.random.Generator) -> dict[str, Any]:
    patterns = ["2:4", "4:8", "8:16", "16:32", "1:2", "3:5", "1:64", "32:64", "61:63", "5:17"]
    widths = [1, 3, 16, 100, 255, 256, 257, 300, 515]
    all_outliers: list[tuple[str, str, str] | None] = [
        (f"{n}:256", dtype, coding)
        for n in (4, 8, 16)
        for dtype in FLOATS
        for coding in ("idx8", "colex")
    ]
    all_outliers += [None] * 6
    weights: dict[str, Any] = {"plain": np.arange(6, dtype=np.float64).reshape(1, 2, 3)}
    number = 0
    for pattern in patterns:
        for dtype in (*FLOATS, "I8"):
            for outliers in rng.permutation(np.array(all_outliers, dtype=object))[:6]:
                shape = (int(rng.integers(0, 5)), int(rng.choice(widths)))
                try:
                    weight = random_weight(rng, pattern, dtype, outliers and tuple(outliers), shape)
                except nmref.NmrefError as error:  # dense patterns leave outliers no room
                    if str(error.code) not in {"X_OVERFULL", "X_NEGZERO"}:
                        raise
                    continue
                weights[f"layer.{number}.{pattern}"] = weight
                number += 1
    return weights


@pytest.mark.parametrize("seed", range(3))
def test_dumps_equal_the_package(client: Client, tmp_path: Path, seed: int) -> None:
    weights = random_weights(np.random.default_rng([2026, seed]))
    assert len(weights) > 150
    path = tmp_path / "all.safetensors"
    nmref.save(path, weights)
    assert verdicts(client, [path, path])[0] == verdict_of_nmref(path)
    loaded = nmref.load(path)
    names = sorted(weights)
    done = client("dump", path, *names)
    assert done.returncode == 0
    at = 0
    for name in names:
        value = loaded[name]
        want = (value if isinstance(value, np.ndarray) else value.to_dense()).tobytes()
        assert done.stdout[at : at + len(want)] == want, name
        at += len(want)
    assert at == len(done.stdout)


@pytest.mark.parametrize("outliers", [None, ("4:256", "BF16", "colex")])
def test_widening_of_every_f16(client: Client, tmp_path: Path, outliers: Any) -> None:
    """All F16 numbers as base, as themselves and, beside BF16 outliers, as F32 (SPEC 4.11)."""
    base = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(256, 256)
    rows = np.zeros((256, 512), np.float16)
    rows[:, ::2] = base
    more: dict[str, Any] = {}
    if outliers:
        dense = np.zeros((256, 512), ml_dtypes.bfloat16)
        dense[:, 1] = 3
        more = {"outliers": dense, "outlier_pattern": outliers[0], "coding": outliers[2]}
    path = tmp_path / "f16"
    weight = nmref.encode(rows, "1:2", **more)
    nmref.save(path, {"w": weight})
    got = client("dump", path, "w").stdout
    assert got == weight.to_dense().tobytes()
    if not outliers:
        assert got == rows.tobytes()
        return
    wide = np.frombuffer(got, np.uint32).reshape(256, 512)[:, ::2].reshape(-1)
    bits = np.arange(65536, dtype=np.uint32)
    nan = ((bits >> 10) & 31) == 31
    assert (wide[nan] == (bits >> 15 << 31 | 0x7F800000 | (bits & 0x3FF) << 13)[nan]).all()
    exact = base.reshape(-1)[~nan].astype(np.float64)
    assert (wide[~nan].view(np.float32).astype(np.float64) == exact).all()
    assert (wide >> 31 == bits >> 15).all()


def test_products_of_i8(client: Client, tmp_path: Path) -> None:
    """RN32(q * s) for every q and many scales, against float64, where the product is exact."""
    rng = np.random.default_rng(3)
    small, large = np.arange(1, 60), (247 << 23) - np.arange(40)  # 2^120 is 247 << 23
    normal = rng.integers(1, (247 << 23) + 1, 400)
    subnormal = rng.integers(1, 2**24, 200)
    edge = 2**23 + np.arange(-40, 40)
    bits = np.concatenate([small, edge, large, normal, subnormal]).astype(np.uint32)
    scale = bits.view(np.float32)
    base = np.zeros((len(scale), 512), np.int8)
    base[:, ::2] = np.arange(-128, 128)
    path = tmp_path / "i8"
    weight = nmref.encode(base, "1:2", scale=scale)
    nmref.save(path, {"w": weight})
    got = client("dump", path, "w").stdout
    exact = base.astype(np.float64) * scale.astype(np.float64)[:, None]
    exact[base == 0] = 0.0
    assert got == exact.astype(np.float32).tobytes()
    assert got == weight.to_dense().tobytes()


# --------------------------------------------------------------------------- damaged files


def flips(content: bytes, places: Iterable[int]) -> Iterable[bytes]:
    for at in places:
        for bit in range(8):
            changed = bytearray(content)
            changed[at] ^= 1 << bit
            yield bytes(changed)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_bit_flips_and_truncations(client: Client, tmp_path: Path, name: str) -> None:
    """Every flip of first; of the others, every flip of the data and a fifth of the headers."""
    content = EXAMPLES[name]
    data = 8 + struct.unpack_from("<Q", content)[0]
    header = range(0, data, 1 if name == "first.safetensors" else 5)
    files = [
        *flips(content, header),
        *flips(content, range(data, len(content))),
        *(content[:end] for end in range(len(content))),
        content + b"\0",
    ]
    assert disagreements(client, files, tmp_path) == []


def test_data_damage_behind_a_good_digest(client: Client, tmp_path: Path) -> None:
    """Random data under a header that fits: the order of the data checks, and the warnings."""
    rng = np.random.default_rng(8)
    seeds = []
    for pattern, dtype, outliers, shape in [
        ("8:16", "F16", ("16:256", "F32", "idx8"), (2, 300)),
        ("3:5", "I8", ("8:256", "BF16", "colex"), (3, 23)),
        ("2:4", "BF16", None, (4, 30)),
        ("16:32", "F32", ("4:256", "F32", "idx8"), (1, 260)),
        ("61:63", "I8", None, (3, 100)),
    ]:
        path = tmp_path / "seed"
        nmref.save(path, {"w": random_weight(rng, pattern, dtype, outliers, shape)})
        seeds.append(path.read_bytes())
    files = []
    for content in seeds:
        start = 8 + struct.unpack_from("<Q", content)[0]
        for _ in range(150):
            changed = bytearray(content)
            for at in rng.integers(start, len(content), rng.integers(1, 4)):
                changed[at] = rng.integers(256)
            files.append(bytes(changed))
    assert disagreements(client, files, tmp_path) == []


HEADER_PIECES = [
    *(bytes([byte]) for byte in b'{}[],:"\\0- \n\0\xff'),
    *(b"\\u0041", b"\\ud800", b"\xc3\xa9", b"\xed\xa0\x80", b"9223372036854775808", b"1e3"),
    *(b"null", b'"x-a":"b",', b'\\"x-a\\":\\"b\\",', b".nm_", b"I8", b"1.", b"2."),
]


def test_header_damage(client: Client, tmp_path: Path) -> None:
    """Pieces inserted, removed and replaced in the header, with H corrected."""
    rng = np.random.default_rng(9)
    files = []
    for content in EXAMPLES.values():
        length = struct.unpack_from("<Q", content)[0]
        for _ in range(400):
            header = bytearray(content[8 : 8 + length])
            for _ in range(rng.integers(1, 3)):
                at = int(rng.integers(len(header)))
                piece = HEADER_PIECES[rng.integers(len(HEADER_PIECES))]
                header[at : at + int(rng.choice([0, 0, 1, len(piece)]))] = (
                    b"" if rng.random() < 0.2 else piece
                )
            files.append(struct.pack("<Q", len(header)) + header + content[8 + length :])
    assert disagreements(client, files, tmp_path) == []


def test_hostile_sizes(client: Client, tmp_path: Path) -> None:
    """Huge numbers, deep nesting and files without content."""

    def with_header(text: bytes, data: bytes = b"") -> bytes:
        return struct.pack("<Q", len(text)) + text + data

    one = b'{"__metadata__":{"nmref":"{}"},"a":{"dtype":"%s","shape":[%s],"data_offsets":[%s]}}'
    files = [
        b"",
        b"\0" * 8,
        b"\xff" * 8,
        struct.pack("<Q", 100_000_000),
        struct.pack("<Q", 100_000_001),
        with_header(b"{}"),
        with_header(b"{" * 100_000),
        with_header(b'{"a":' + b"[" * 100_000),
        with_header(b'{"__metadata__":{"nmref":"' + b"[" * 50_000 + b'"}}'),
        with_header(b'{"__metadata__":{"nmref":"{\\"a\\":' + b"[" * 8 + b"]" * 8 + b'}"}}'),
        with_header(b'{"a":0' + b"0" * 10_000 + b"}"),
        with_header(b'{"a":' + b"9" * 10_000 + b"}"),
        with_header(b'{"__metadata__":{"a":"","a":""}}'),
        with_header(b'{"__metadata__":{"\\u0061":"","a":""}}'),
        with_header(one % (b"U8", b"9223372036854775807,2,0", b"0,0")),
        with_header(one % (b"U8", b"0,9223372036854775807,2", b"0,0")),
        with_header(one % (b"F64", b"2305843009213693952", b"0,0")),
        with_header(one % (b"Q8", b"9223372036854775807,2,0", b"0,0")),
        with_header(one % (b"Q8", b"", b"0,1"), b"x"),
        with_header(one % (b"U8", b"", b"0,1"), b"x"),
        with_header(one % (b"U8", b"0", b"1,1")),
    ]
    assert disagreements(client, files, tmp_path) == []


def rebuilt(
    text: Callable[[str], str] = str,
    header: Callable[[str], str] = str,
    tensors: dict[str, Any] | None = None,
    data: bytes = b"",
    shape: Sequence[int] = (1, 1),
    name: str = "w",
) -> bytes:
    """The first example, with S and the header as text changed and the digest made to fit."""
    weight = {"coding": "colex", "dtype": "F16", "outliers": None, "pattern": "2:4"}
    weight["shape"] = list(shape)
    every = {
        f"{name}.nm_values": {"dtype": "F16", "shape": [1, 2], "data_offsets": [0, 4]},
        f"{name}.nm_codes": {"dtype": "U8", "shape": [1, 1], "data_offsets": [4, 5]},
        **(tensors or {}),
    }
    content = b"\0\x3c\0\0\0" + data
    lines = [
        f"{sha256(content[slice(*about['data_offsets'])]).hexdigest()} {about['dtype']} "
        f"{compact(about['shape'])} {tensor}\n"
        for tensor, about in sorted(every.items())
    ]
    s = compact({"spec": "1.0", "tensors": {name: weight}})
    digest = sha256(("".join(lines) + text(s) + "\n").encode()).hexdigest()
    s = text(s).replace("{", f'{{"content_sha256":"{digest}",', 1)
    whole = header(compact({"__metadata__": {"nmref": s}, **every})).encode()
    return struct.pack("<Q", len(whole)) + whole + content


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def swap(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


def tensor(dtype: str, shape: list[int], begin: int = 0, end: int = 0) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


V2 = swap('"1.0"', '"2.0"')
MANY = 9223372036854775807

CRAFTED = {
    "plain": ("OK", rebuilt()),
    "minor": ("OK", rebuilt(swap('"1.0"', '"1.18446744073709551616"'))),
    "minor 01": ("E_META", rebuilt(swap('"1.0"', '"1.01"'))),
    "major 10": ("E_VERSION", rebuilt(swap('"1.0"', '"10.0"'))),
    "newline in spec": ("E_META", rebuilt(swap('"1.0"', '"1.0\\n"'))),
    "spec is a number": ("E_META", rebuilt(swap('"1.0"', "1"))),
    "escaped spec": ("E_META", rebuilt(swap('"1.0"', '"\\u0031.0"'))),
    "escaped spec 2": ("E_VERSION", rebuilt(swap('"1.0"', '"\\u0032.0"'))),
    "version before members": ("E_VERSION", rebuilt(lambda s: V2(s.replace("2:4", "4:2")))),
    "version before white space": ("E_VERSION", rebuilt(lambda s: V2(s) + " ")),
    "version before -0": ("E_VERSION", rebuilt(lambda s: V2(s.replace("[1,1]", "[1,-0]")))),
    "version before null": ("E_VERSION", rebuilt(lambda s: V2(s.replace("null", "true")))),
    "white space of S": ("E_META", rebuilt(lambda s: s + " ")),
    "newline after S": ("E_META", rebuilt(lambda s: V2(s) + "\n")),
    "depth 8 of S": ("E_VERSION", rebuilt(lambda s: V2(s.replace("null", '{"a":[[[[0]]]]}')))),
    "depth 9 of S": ("E_META", rebuilt(lambda s: V2(s.replace("null", '{"a":[[[[[]]]]]}')))),
    "-0": ("E_META", rebuilt(swap("[1,1]", "[1,-0]"))),
    "-1": ("E_LIMIT", rebuilt(shape=(-1, 1))),
    "largest": ("E_LIMIT", rebuilt(shape=(MANY, -MANY))),
    "too large": ("E_META", rebuilt(shape=(1, -MANY - 1))),
    "K = 0": ("E_LIMIT", rebuilt(shape=(1, 0))),
    "limit before unexpected": ("E_LIMIT", rebuilt(shape=(1, 0), tensors={"w": tensor("U8", [0])})),
    "tensor of the name": ("E_UNEXPECTED", rebuilt(tensors={"w": tensor("U8", [0])})),
    "reserved": ("E_UNEXPECTED", rebuilt(tensors={"a.nm_": tensor("U8", [0])})),
    "reserved, no stem": ("E_UNEXPECTED", rebuilt(tensors={".nm_codes": tensor("U8", [0])})),
    "not reserved": ("OK", rebuilt(tensors={"nm_codes": tensor("U8", [0])})),
    "not reserved either": ("OK", rebuilt(tensors={"w.nm_codes.a": tensor("U8", [0])})),
    "a scale too many": ("E_UNEXPECTED", rebuilt(tensors={"w.nm_scale": tensor("F32", [0])})),
    "name of 502 bytes": ("OK", rebuilt(name="w" * 502)),
    "reserved name of a weight": ("E_META", rebuilt(name="w.nm_x")),
    "extension": ("OK", rebuilt(swap("}}}", '}},"x-!":"","x-a":" ~"}'))),
    "empty extension": ("E_META", rebuilt(swap("}}}", '}},"x-":""}'))),
    "extension of T": ("OK", rebuilt(swap("}}}", ',"x-a":""}}}'))),
    "extension, number": ("E_META", rebuilt(swap("}}}", '}},"x-a":1}'))),
    "extension, DEL": ("E_META", rebuilt(swap("}}}", '}},"x-a":"\x7f"}'))),
    "extension out of order": ("E_META", rebuilt(swap("}}}", '}},"x-b":"","x-a":""}'))),
    "escaped key": ("OK", rebuilt(header=swap('"nmref"', '"\\u006emref"'))),
    "escaped name": ("OK", rebuilt(header=swap('"w.nm_codes"', '"\\u0077.nm_codes"'))),
    "space in header": ("OK", rebuilt(header=lambda h: h.replace(',"w', ' ,\t\r\n"w') + " ")),
    "newline after header": ("E_HEADER", rebuilt(header=lambda h: h + "\n")),
    "-0 in header": ("E_HEADER", rebuilt(header=swap("[0,4]", "[-0,4]"))),
    "leading zero": ("E_HEADER", rebuilt(header=swap("[0,4]", "[0,04]"))),
    "scalar": ("OK", rebuilt(tensors={"s": tensor("U8", [], 5, 6)}, data=b"x")),
    "empty at 0": ("OK", rebuilt(tensors={"s": tensor("C64", [0, 7])})),
    "wide": ("OK", rebuilt(tensors={"s": tensor("C64", [0, MANY])})),
    "65 axes": ("OK", rebuilt(tensors={"s": tensor("U8", [1] * 65, 5, 6)}, data=b"x")),
    "empty at 4": ("OK", rebuilt(tensors={"s": tensor("C64", [0], 4, 4)})),
    "empty at 5": ("OK", rebuilt(tensors={"s": tensor("C64", [0], 5, 5)})),
    "empty at 1": ("E_HEADER", rebuilt(tensors={"s": tensor("C64", [0], 1, 1)})),
    "empty, overflow": ("E_HEADER", rebuilt(tensors={"s": tensor("U8", [MANY, 2, 0])})),
    "unknown, overflow": ("E_DTYPE", rebuilt(tensors={"s": tensor("F4", [MANY, 2, 0])})),
    "unknown and a hole": ("E_HEADER", rebuilt(tensors={"s": tensor("F4", [], 6, 7)})),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted(client: Client, tmp_path: Path, name: str) -> None:
    """One rule at a time, behind a digest that fits."""
    want, content = CRAFTED[name]
    path = tmp_path / "crafted"
    path.write_bytes(content)
    got = verdicts(client, [path, path])[0]
    assert got[0] == want
    assert got == verdict_of_nmref(path)
