"""Vectors of dots for hardware: `python -m nmref.conformance.dot_memh OUT --seed S --count N`.

Memories of operands and of canonical results of f32.seq (SPEC 8.8) and i32 (8.14).  The same seed
gives the same bytes.  What the operands aim at is in `dot_operands`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from nmref import bits, colex
from nmref.conformance.dot_operands import KINDS, Floats, Pair
from nmref.conformance.memh import Field, Memory
from nmref.container.atomic import new_file
from nmref.dtypes import DTYPES
from nmref.errors import Code, NmrefError
from nmref.linear import matmul
from nmref.numerics import SplitMix64
from nmref.pattern import NMPattern
from nmref.tensor import NMMatrix, SparseWeight

FORMAT = "dot"
"""The `format` of these memories."""

TERMS = 24
"""The largest number of terms of a dot in the files of terms."""

BLOCKS = 4
"""The largest number of blocks of a row in the files of blocks."""

PATTERN = NMPattern(8, 16)

FIRST = "1: the first of its dot"
LAST = "1: the last of its dot"


def expected(pairs: Sequence[Pair], dtype: str) -> int:
    """Bits of the canonical f32.seq of weights and xs of a dtype."""
    kind = DTYPES[dtype]
    w, x = (np.array(side, f"<u{kind.itemsize}").view(kind) for side in zip(*pairs, strict=True))
    return int(matmul(x, w[None, :], "f32.seq").view(np.uint32)[0])


def terms(dtype: str, seed: int, count: int) -> tuple[Memory, Memory]:
    """Memories of terms and of their dots, for operands F32 or BF16."""
    width = 8 * DTYPES[dtype].itemsize
    rng = SplitMix64(seed)
    floats = Floats(rng, width)
    words, results = [], []
    for i in range(count):
        pairs = KINDS[i % len(KINDS)](floats, 1 + rng.below(TERMS))[:TERMS]
        results.append(expected(pairs, dtype))
        for k, (w, x) in enumerate(pairs):
            first, last = k == 0, k == len(pairs) - 1
            words.append((first << 1 | last) << 2 * width | w << width | x)
    name = f"dot-{dtype.lower()}"
    fields = (
        Field("first", 2 * width + 1, 2 * width + 1, FIRST),
        Field("last", 2 * width, 2 * width, LAST),
        Field("w", 2 * width - 1, width, f"{dtype} weight; a zero makes no term"),
        Field("x", width - 1, 0, f"{dtype} x"),
    )
    title = f"terms of dots of f32.seq on {dtype} operands"
    order = "dots in the order of their results, terms by ascending column"
    return (
        _memory(f"{name}-terms", title, "8.8", order, fields, words),
        _results(name, "f32.seq", "8.8", results),
    )


def blocks(dtype: str, seed: int, count: int) -> tuple[Memory, Memory]:
    """Memories of 8:16 blocks with their x, and of the dots of their rows; BF16, F32 or I8."""
    kind = DTYPES[dtype]
    width, clause = 8 * kind.itemsize, "8.14" if dtype == "I8" else "8.8"
    rng = SplitMix64(seed)
    words: list[int] = []
    results = []
    for i in range(count):
        codes, values, x, columns = _row(rng, dtype, i)
        wrong = [code >= PATTERN.count for code in codes]
        # A block of an invalid code makes no terms: any code will do for values that are all zero.
        real = [0 if bad else code for code, bad in zip(codes, wrong, strict=True)]
        kept = [
            0 if bad else w for block, bad in zip(values, wrong, strict=True) for w in block
        ]  # fmt: skip
        base = NMMatrix(
            PATTERN,
            columns,
            np.array(kept, f"<u{kind.itemsize}").view(kind)[None, :],
            bits.pack(np.array([real], colex.code_dtype(PATTERN)), PATTERN.width),
            np.ones(1, np.float32) if dtype == "I8" else None,
        )
        row = np.array(x[:columns], f"<u{kind.itemsize}").view(kind)
        profile = "i32" if dtype == "I8" else "f32.seq"
        result = int(matmul(row, SparseWeight(base), profile).view(np.uint32)[0])
        results.append(any(wrong) << 32 | result)
        for b, (code, block) in enumerate(zip(codes, values, strict=True)):
            word = (b == 0) << 1 | (b == len(codes) - 1)
            word = word << PATTERN.width | code
            word = word << 8 * width | _joined(block, width)
            words.append(word << 16 * width | _joined(x[16 * b : 16 * b + 16], width))
    name = f"dot-8-16-{dtype.lower()}"
    top = 24 * width + PATTERN.width
    fields = (
        Field("first", top + 1, top + 1, FIRST),
        Field("last", top, top, LAST),
        Field("code", top - 1, 24 * width, "code of the block"),
        Field("values", 24 * width - 1, 16 * width, f"8 {dtype} values, slot 0 lowest"),
        Field("x", 16 * width - 1, 0, f"16 {dtype} x, column 0 of the block lowest"),
    )
    title = f"8:16 blocks of {dtype} and the x of their columns"
    order = "rows in the order of their results, blocks ascending"
    invalid = "a block that makes no terms"
    label = "i32" if dtype == "I8" else "f32.seq"
    return (
        _memory(f"{name}-blocks", title, clause, order, fields, words, invalid),
        _results(name, label, clause, results, error=True),
    )


def _row(
    rng: SplitMix64, dtype: str, number: int
) -> tuple[list[int], list[list[int]], list[int], int]:
    """Codes, values of the blocks, x of all columns to the end of the last block, and K."""
    width = 8 * DTYPES[dtype].itemsize
    count = 1 + rng.below(BLOCKS)
    columns = 16 * count - (rng.below(16) if rng.below(3) == 0 else 0)
    codes = [rng.below(PATTERN.count) for _ in range(count)]
    if rng.below(8) == 0:
        codes[rng.below(count)] = PATTERN.count + rng.below((1 << PATTERN.width) - PATTERN.count)
    if dtype == "I8":
        pairs = [(rng.below(256), rng.below(256)) for _ in range(8 * count)]
        x = [rng.below(256) for _ in range(16 * count)]
    else:
        floats = Floats(rng, width)
        pairs = KINDS[number % len(KINDS)](floats, 8 * count)
        x = [floats.any_special() for _ in range(16 * count)]  # under no value: no term
    values = []
    for b, code in enumerate(codes):
        block = [w for w, _ in pairs[8 * b : 8 * b + 8]]
        for j, i in enumerate(_columns(code) if code < PATTERN.count else range(8)):
            if 16 * b + i < columns:
                x[16 * b + i] = pairs[8 * b + j][1]
            else:
                block[j] = 0  # a virtual slot (SPEC 3.8)
        values.append(block)
    return codes, values, x, columns


def _columns(code: int) -> list[int]:
    """The stored columns of a block of 8:16."""
    stored = colex.unrank(np.array([code], colex.code_dtype(PATTERN)), PATTERN)[0]
    return [int(i) for i in np.flatnonzero(stored)]


def _joined(elements: Iterable[int], width: int) -> int:
    """Element 0 in the lowest bits."""
    return sum(element << i * width for i, element in enumerate(elements))


def _results(
    name: str, profile: str, clause: str, results: Sequence[int], error: bool = False
) -> Memory:
    fields = [Field("dot", 31, 0, f"canonical result of {profile}")]
    if error:
        fields.insert(0, Field("error", 32, 32, "1: a block of the row has a code >= 12870"))
    title = f"results of {profile} for {name}"
    order = "dots in the order of their operands"
    return _memory(f"{name}-dots", title, clause, order, tuple(fields), results)


def _memory(
    name: str,
    title: str,
    clause: str,
    order: str,
    fields: tuple[Field, ...],
    words: Sequence[int],
    invalid: str | None = None,
) -> Memory:
    width = fields[0].high + 1
    return Memory(name, FORMAT, title, clause, order, fields, invalid, width, words)


def memories(seed: int, count: int) -> list[Memory]:
    """All memories, `count` dots each."""
    found: list[Memory] = []
    for make, dtype in ((terms, "BF16"), (terms, "F32"), (blocks, "BF16"), (blocks, "I8")):
        found += make(dtype, seed, count)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command.  Exit 0: all files are written; 1: one cannot be."""
    parser = argparse.ArgumentParser(
        prog="python -m nmref.conformance.dot_memh",
        description="Write vectors of dots for hardware: $readmemh text and its side-cars.",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder; made if absent")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000, help="dots of a file")
    args = parser.parse_args(arguments)
    try:
        if args.count < 1:
            raise NmrefError(Code.T_ARGUMENT, "--count", str(args.count), "1 or more")
        args.out.mkdir(parents=True, exist_ok=True)
        for memory in memories(args.seed, args.count):
            for suffix, content in ((".memh", memory.text()), (".json", memory.sidecar())):
                with new_file(args.out / f"{memory.name}{suffix}") as file:
                    file.write(content)
            sys.stdout.write(f"{memory.name} {memory.width} bits {memory.depth} words\n")
    except NmrefError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        what = error.strerror or str(error)
        sys.stderr.write(f"T_FILE {error.filename or args.out}: {what}, want it to work\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
