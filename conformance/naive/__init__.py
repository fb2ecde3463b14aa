"""The naive witness: the format in plain Python, slow and by the letter of SPEC.md.

Only the standard library, and nothing of nmref. Matrices are lists of rows of bit patterns
(non-negative ints); a part is (dtype, shape, bytes). Every broken rule is a `Fault` with its code.
"""

from .codes import Fault, pack, parse_pattern, positions, rank, unpack, unrank, width
from .container import File, Weights, assemble, frame, read, write
from .decoder import Slots, Spec, canonical, decode, dense, slots, warnings
from .encoder import Block, Part, Parts, Rows, encode
from .metadata import digest
from .numbers import SIZES, elements, round_f32, scaled, widen

__all__ = [
    "SIZES",
    "Block",
    "Fault",
    "File",
    "Part",
    "Parts",
    "Rows",
    "Slots",
    "Spec",
    "Weights",
    "assemble",
    "canonical",
    "decode",
    "dense",
    "digest",
    "elements",
    "encode",
    "frame",
    "pack",
    "parse_pattern",
    "positions",
    "rank",
    "read",
    "round_f32",
    "scaled",
    "slots",
    "unpack",
    "unrank",
    "warnings",
    "widen",
    "width",
    "write",
]
