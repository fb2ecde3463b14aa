"""The naive witness: format and arithmetic in plain Python, slow and by the letter of SPEC.md.

Only the standard library, and nothing of nmref. Matrices are lists of rows of bit patterns
(non-negative ints); a part is (dtype, shape, bytes). Every broken rule is a `Fault` with its code.
"""

from .angles import rope, rope_digest, rope_tables
from .codes import Fault, pack, parse_pattern, positions, rank, unpack, unrank, width
from .container import File, Weights, assemble, frame, names, read, write
from .decoder import Slots, Spec, canonical, decode, dense, slots, warnings
from .dots import Weight, linear
from .encoder import Block, Part, Parts, Rows, encode
from .functions import argmax, exp, rms_norm, silu, softmax
from .golden import tiny
from .llama import Config, Taps, Tensors, forward, trace_digest
from .metadata import digest
from .numbers import SIZES, elements, round_f32, scaled, widen
from .profiles import Profile, parse_profile
from .splitmix import SplitMix64, bf16_bits

__all__ = [
    "SIZES",
    "Block",
    "Config",
    "Fault",
    "File",
    "Part",
    "Parts",
    "Profile",
    "Rows",
    "Slots",
    "Spec",
    "SplitMix64",
    "Taps",
    "Tensors",
    "Weight",
    "Weights",
    "argmax",
    "assemble",
    "bf16_bits",
    "canonical",
    "decode",
    "dense",
    "digest",
    "elements",
    "encode",
    "exp",
    "forward",
    "frame",
    "linear",
    "names",
    "pack",
    "parse_pattern",
    "parse_profile",
    "positions",
    "rank",
    "read",
    "rms_norm",
    "rope",
    "rope_digest",
    "rope_tables",
    "round_f32",
    "scaled",
    "silu",
    "slots",
    "softmax",
    "tiny",
    "trace_digest",
    "unpack",
    "unrank",
    "warnings",
    "widen",
    "width",
    "write",
]
