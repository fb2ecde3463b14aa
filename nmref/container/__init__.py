"""The file format: a strict profile of safetensors (SPEC parts 5 and 6)."""

from nmref.container.folder import FILE_NAME, INDEX_NAME, NMShards, files_of, load
from nmref.container.reader import NMFile
from nmref.container.shards import save_model
from nmref.container.verification import FileReport, model_digest, verify
from nmref.container.writer import save, save_stream

__all__ = [
    "FILE_NAME",
    "INDEX_NAME",
    "FileReport",
    "NMFile",
    "NMShards",
    "files_of",
    "load",
    "model_digest",
    "save",
    "save_model",
    "save_stream",
    "verify",
]
