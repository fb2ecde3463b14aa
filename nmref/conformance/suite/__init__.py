"""The conformance vectors: inputs made from SplitMix64, expected values made by an author.

An author has the operations as methods: input -> output, both as the vectors have them.  `author`
is nmref's; the repository's vectors come from `conformance.author`, which is not nmref.
"""

from nmref.conformance.suite.build import build, every_case
from nmref.conformance.suite.cases import Author, Case, Json, Part

__all__ = ["Author", "Case", "Json", "Part", "build", "every_case"]
