"""The file format: a strict profile of safetensors (SPEC parts 5 and 6)."""

from nmref.container.folder import FILE_NAME, INDEX_NAME, NMShards, files_of, load
from nmref.container.reader import NMFile
from nmref.container.verification import FileReport, verify
from nmref.container.writer import save, save_stream

__all__ = [
    "FILE_NAME",
    "INDEX_NAME",
    "FileReport",
    "NMFile",
    "NMShards",
    "files_of",
    "load",
    "save",
    "save_stream",
    "verify",
]
