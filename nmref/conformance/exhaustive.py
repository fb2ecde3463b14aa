"""exp is correctly rounded for all 2^32 inputs: `python -m nmref.conformance.exhaustive`.

The binary64 value before the last rounding has a relative error below 2^-51 (docs/exp.md). An
input whose value is farther than 2^-50 from every point halfway between binary32 numbers is thus
rounded correctly; the few others are compared with integer arithmetic of 256 bits.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from nmref.errors import Code, NmrefError
from nmref.kernels.exhaustive import scan_exp
from nmref.numerics import fast, plain

INPUTS = 1 << 32
LIMIT = 2.0**-50
_CHUNK = 1 << 24
_ROOM = 1000


@dataclass(frozen=True)
class Scan:
    """What the scan found: the hard inputs, and those of them that come out wrong, as bits."""

    hard: tuple[int, ...]
    wrong: tuple[int, ...]


def check_exp(threads: int = 1, progress: bool = False, stop: int = INPUTS) -> Scan:
    """Scan the bit patterns 0 ... stop - 1.  Raises T_ARGUMENT if there are too many hard ones."""
    starts = range(0, stop, _CHUNK)
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(lambda start: _scan(start, min(start + _CHUNK, stop)), starts)
        bar = tqdm(found, "exp", len(starts), disable=not progress, file=sys.stderr, mininterval=1)
        hard = [bits for part in bar for bits in part]
    x = np.array(hard, dtype=np.uint32).view(np.float32)
    differs = fast.exp(x).view(np.uint32) != plain.exp(x).view(np.uint32)
    return Scan(tuple(hard), tuple(int(bits) for bits in np.array(hard)[differs]))


def _scan(first: int, last: int) -> list[int]:
    hard = np.zeros(_ROOM, dtype=np.int64)
    count = scan_exp(first, last, LIMIT, hard)
    if count > _ROOM:
        where = f"exp of 0x{first:08X} to 0x{last - 1:08X}"
        raise NmrefError(Code.T_ARGUMENT, where, f"{count} hard inputs", f"at most {_ROOM}")
    return [int(bits) for bits in hard[:count]]


def main() -> int:
    """The command.  Exit 0: every result is correctly rounded."""
    scan = check_exp(len(os.sched_getaffinity(0)), progress=True)
    listed = " ".join(f"{bits:08x}" for bits in scan.hard)
    sys.stdout.write(f"{INPUTS} inputs, {len(scan.hard)} within 2^-50 of a boundary: {listed}\n")
    sys.stdout.write(f"{len(scan.wrong)} not correctly rounded\n")
    return 1 if scan.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
