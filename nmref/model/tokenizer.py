"""tokenizer.json: text <-> token ids, through the `tokenizers` library."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import tokenizers

from nmref.errors import Code, NmrefError

_UNFINISHED = "\ufffd"  # how the library shows bytes that are not yet a whole character


class Tokenizer:
    """The tokenizer of a model folder.

    `adds_bos` says whether a prompt begins with the begin-of-text token: what
    tokenizer_config.json says (add_bos_token), else yes for SentencePiece vocabularies (they
    have byte fallback) and no for byte-level ones, as transformers does.
    """

    def __init__(self, inner: tokenizers.Tokenizer, adds_bos: bool = False) -> None:
        self.inner = inner
        self.adds_bos = adds_bos

    @classmethod
    def open(cls, folder: Path) -> Tokenizer:
        """Read tokenizer.json (and tokenizer_config.json) of a folder.  Raises T_FILE."""
        path = folder / "tokenizer.json"
        try:
            inner = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
            fallback = getattr(inner.model, "byte_fallback", False)
            adds_bos = _config_of(folder).get("add_bos_token", fallback)
        except OSError as error:
            reason = error.strerror or str(error)
            raise NmrefError(Code.T_FILE, str(path), reason, "a readable file") from None
        except Exception as error:  # the library raises bare Exception
            got = f"not a tokenizer ({first_line(error)})"
            raise NmrefError(Code.T_FILE, str(path), got, "a tokenizers JSON file") from None
        return cls(inner, adds_bos is True)

    def encode(self, text: str, special: bool = True) -> list[int]:
        """Text -> ids; `special` lets the file's own template add its special tokens."""
        return list(self.inner.encode(text, add_special_tokens=special).ids)

    def prompt(self, text: str, bos: int | None) -> list[int]:
        """Text -> ids of a prompt, the begin-of-text id before it where the model wants one."""
        ids = self.encode(text)
        if self.adds_bos and bos is not None and ids[:1] != [bos]:
            return [bos, *ids]
        return ids

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Ids -> text."""
        return self.inner.decode(list(ids), skip_special_tokens=skip_special)

    def stream(
        self, ids: Iterable[int], prompt: Sequence[int] = (), skip_special: bool = True
    ) -> Iterator[str]:
        """Yield the text of each id as it comes; the pieces join to what follows the prompt's text.

        A piece waits until its last character is whole.  The last few tokens are decoded with
        each new one, because a decoder may treat the first token of a text differently.
        """
        window = list(prompt)
        known = self.decode(window, skip_special)
        start = len(window)
        for token in ids:
            window.append(token)
            text = self.decode(window, skip_special)
            if len(text) > len(known) and not text.endswith(_UNFINISHED):
                yield text[len(known) :]
                window = window[start:]
                start = len(window)
                known = self.decode(window, skip_special)
        rest = self.decode(window, skip_special)[len(known) :]
        if rest:
            yield rest


def _config_of(folder: Path) -> dict[str, object]:
    """tokenizer_config.json, or nothing."""
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return {}
    config = json.loads(path.read_text(encoding="utf-8"))
    return config if isinstance(config, dict) else {}


def first_line(error: Exception) -> str:
    """What an exception of another library says, cut to one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]
