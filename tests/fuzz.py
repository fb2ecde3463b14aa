"""python -m tests.fuzz --count 200000 --seed 1: mutated files against the reader.

Every file has to end in the right matrices or in a code of the registry: never in another
exception, never in more memory than its size and a constant, never in a wait.  Accepted files are
decoded by the naive witness too and compared bit by bit; of the refused ones a share is.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from multiprocessing import Pool
from pathlib import Path

import ml_dtypes
import numpy as np

import nmref
from conformance import naive
from nmref.container import NMFile
from nmref.container.safetensors import parse_header
from nmref.dtypes import bits_of
from nmref.pattern import NMPattern
from nmref.prune.choose.mask import split
from nmref.tensor import SparseWeight

DTYPES = (np.float32, np.float16, ml_dtypes.bfloat16)
PATTERNS = ("2:4", "4:8", "8:16", "16:32", "1:3", "5:9", "31:64")
DIGEST = re.compile(rb'content_sha256\\":\\"([0-9a-f]{64})')
COMPARED_REFUSALS = 0.05
KNOWN = {code.value for code in nmref.Code if code.value.startswith("E_")}


def good_file(rng: random.Random, path: Path) -> bytes:
    """One to three small random weights of any kind, and an ordinary tensor."""
    tensors: dict[str, object] = {"norm": np.arange(rng.randrange(4), dtype=np.float32)}
    for name in "abc"[: rng.randint(1, 3)]:
        tensors[name] = random_weight(np.random.default_rng(rng.getrandbits(32)), rng)
    nmref.save(path, tensors)
    return path.read_bytes()


def random_weight(draw: np.random.Generator, rng: random.Random) -> SparseWeight:
    """A few rows; 1 to 300 columns; outliers or none; a mask or none; any dtype."""
    rows, columns = rng.randint(0, 3), rng.choice((1, 5, 16, 33, 172, 256, 300))
    pattern = NMPattern.parse(rng.choice(PATTERNS))
    outliers = NMPattern(rng.choice((4, 8, 16)), 256) if rng.random() < 0.5 else None
    score = draw.random((rows, columns)).astype(np.float32)
    mask, salient = split(score, pattern, outliers)
    scale = None
    if rng.random() < 0.2:
        base = draw.integers(-128, 128, score.shape).astype(np.int8)
        scale = draw.random(rows).astype(np.float32) + np.float32(0.01)
    else:
        base = random_floats(draw, score.shape, rng.choice(DTYPES))
    over = random_floats(draw, score.shape, rng.choice(DTYPES))
    return nmref.encode(
        np.where(mask, base, np.zeros((), base.dtype)),
        str(pattern),
        mask=mask if rng.random() < 0.5 else None,
        scale=scale,
        outliers=None if salient is None else np.where(salient, over, np.zeros((), over.dtype)),
        outlier_pattern=str(outliers),
        coding=rng.choice(("idx8", "colex")),
    )


def random_floats(draw: np.random.Generator, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Numbers, and now and then any bits at all."""
    numbers = draw.standard_normal(shape).astype(dtype)
    raw = bits_of(numbers)
    raw[draw.random(shape) < 0.05] = draw.integers(1 << 16, size=1, dtype=np.uint16)[0]
    return numbers


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to four faults; often the digest is made right again, so that later checks are met."""
    changed = bytearray(data)
    if rng.random() < 0.5:  # the data only, so that the header does not end it all
        start = 8 + int.from_bytes(data[:8], "little")
        for _ in range(rng.choice((1, 2, 8))):
            if start < len(data):
                at = rng.randrange(start, len(data))
                changed[at] = rng.choice((0, 0xFF, 0x80, changed[at] ^ 1 << rng.randrange(8)))
        return repair(bytes(changed))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice((flip, overwrite, cut, insert, repeat, swap_text))(changed, rng)
    return repair(bytes(changed)) if rng.random() < 0.6 else bytes(changed)


def flip(data: bytearray, rng: random.Random) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def overwrite(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    data[at : at + 4] = rng.choice((bytes(4), b"\xff" * 4, rng.randbytes(4), b"\x80\x00\x00\x80"))


def cut(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    del data[at : at + rng.choice((1, 1, 8, len(data)))]


def insert(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice((b" ", b"[", b'"', b"\\ud800", b"0", rng.randbytes(9), b"[" * 5000))


def repeat(data: bytearray, rng: random.Random) -> None:
    at, length = rng.randrange(len(data) + 1), rng.randrange(64)
    data[at:at] = data[at : at + length]


SWAPS = [
    (b"8:16", b"2:4"), (b"4:256", b"8:256"), (b"idx8", b"colex"), (b"F16", b"F32"), (b"U8", b"I8"),
    (b"BF16", b"F64"), (b"nm_codes", b"nm_code"), (b'"shape":[', b'"shape":[4611686018427387904,'),
    (b"1.0", b"2.0"), (b"null", b"{}"), (b"norm", b"a"), (b"F32", b"F128"), (b"1.0", b"1.1"),
    (b"[0,", b"[1,"), (b"},", b"},,"), (b"tensors", b"tensor"), (b"[1,", b"[2147483648,"),
]  # fmt: skip


def swap_text(data: bytearray, rng: random.Random) -> None:
    """A word of the header for another; the header's length follows."""
    old, new = rng.choice(SWAPS)
    old, new = (old, new) if rng.random() < 0.5 else (new, old)
    at = data.find(old)
    if at >= 8 and len(data) >= 8:
        data[at : at + len(old)] = new
        length = int.from_bytes(data[:8], "little") + len(new) - len(old)
        data[:8] = max(length, 0).to_bytes(9, "little")[:8]


def repair(data: bytes) -> bytes:
    """The digest that fits the content, where the header can still be read."""
    length = int.from_bytes(data[:8], "little")
    found = DIGEST.search(data[8 : 8 + length]) if 8 + length <= len(data) else None
    if found is None:
        return data
    try:
        entries, metadata = parse_header(data[8 : 8 + length], len(data) - 8 - length)
        document = nmref.container.metadata.parse(metadata).document
    except nmref.NmrefError:
        return data
    start = 8 + length
    parts = {
        n: (e.dtype, list(e.shape), data[start + e.begin : start + e.end])
        for n, e in entries.items()
    }
    right = naive.digest(parts, document).encode()
    return data[: 8 + found.start(1)] + right + data[8 + found.end(1) :]


def outcome(path: Path, data: bytes) -> tuple[str, dict[str, np.ndarray] | None]:
    """The code, or `accepted` and the bits of every weight.  Another exception goes up."""
    path.write_bytes(data)
    try:
        file = NMFile(path)
        dense = {name: bits_of(file[name].to_dense()) for name in sorted(file.weights)}
        nmref.verify(path)
    except nmref.NmrefError as error:
        return str(error.code), None
    return "accepted", dense


def witness(data: bytes) -> tuple[str, dict[str, np.ndarray] | None]:
    try:
        file = naive.read(data)
        found = {name: naive.decode(*weight)[1] for name, weight in file.weights.items()}
    except naive.Fault as fault:
        return fault.code, None
    return "accepted", {name: np.array(rows) for name, rows in found.items()}


def batch(arguments: tuple[int, int]) -> tuple[Counter[str], int, float, int]:
    """Some files of one seed -> outcomes, how many were compared, slowest file, peak memory."""
    seed, count = arguments
    rng = random.Random(seed)
    counts: Counter[str] = Counter()
    compared, slowest, data = 0, 0.0, b""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        path = Path(folder, "f.safetensors")
        for i in range(count):
            if i % 50 == 0:
                data = good_file(rng, path)
            changed = mutate(data, rng)
            start = time.perf_counter()
            try:
                code, dense = outcome(path, changed)
            except Exception as error:
                raise AssertionError(f"seed {seed} file {i}: {error!r}\n{changed.hex()}") from error
            slowest = max(slowest, time.perf_counter() - start)
            counts[code] += 1
            if code not in KNOWN | {"accepted"}:
                raise AssertionError(f"seed {seed} file {i}: {code}")
            if code == "accepted" or rng.random() < COMPARED_REFUSALS:
                compared += 1
                compare(f"seed {seed} file {i}", code, dense, witness(changed))
    return counts, compared, slowest, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def compare(where: str, code: str, dense: dict | None, other: tuple[str, dict | None]) -> None:
    if code != other[0]:
        raise AssertionError(f"{where}: {code}, naive {other[0]}")
    for name, bits in (dense or {}).items():
        if not np.array_equal(bits, (other[1] or {})[name].reshape(bits.shape)):
            raise AssertionError(f"{where}: {name} differs from the naive witness")


def run(count: int, seed: int, processes: int = 1) -> tuple[Counter[str], int, float, int]:
    """`count` files in batches of 1,000, the same ones whatever the number of processes."""
    batches = [(seed * 1_000_003 + i, min(1000, count - i)) for i in range(0, count, 1000)]
    counts: Counter[str] = Counter()
    compared, slowest, memory = 0, 0.0, 0
    with Pool(processes) as pool:
        for found, more, slow, peak in pool.imap(batch, batches):
            counts += found
            compared += more
            slowest, memory = max(slowest, slow), max(memory, peak)
    return counts, compared, slowest, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args()
    start = time.perf_counter()
    counts, compared, slowest, memory = run(args.count, args.seed, args.processes)
    for code, number in counts.most_common():
        sys.stdout.write(f"{code:16} {number:8}\n")
    sys.stdout.write(
        f"{counts.total()} files in {time.perf_counter() - start:.0f} s, {compared} compared with "
        f"the naive witness; slowest {slowest * 1e3:.0f} ms; peak memory {memory / 1024:.0f} MB\n"
    )


if __name__ == "__main__":
    main()
