"""Text to ids and back, piece by piece."""

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from nmref.errors import NmrefError
from nmref.model.tokenizer import Tokenizer


def byte_level():
    """Every byte is a token; <s> is special."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = tokenizers.Tokenizer(
        models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[])
    )
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<s>"])
    return inner


def sentencepiece():
    """Words with a marked first space, which the decoder strips at the start of a text."""
    vocab = {"<unk>": 0, "<s>": 1, "▁a": 2, "▁b": 3, "c": 4}
    inner = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True))
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    inner.add_special_tokens(["<s>"])
    return inner


@pytest.mark.parametrize("text", ["plain", "naïve café", "日本語 🙂 text", " lead", "", "\n\n"])
def test_stream_joins_to_the_text(text):
    tokenizer = Tokenizer(byte_level())
    pieces = list(tokenizer.stream(tokenizer.encode(text)))
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_stream_shows_an_unfinished_character_at_the_end():
    tokenizer = Tokenizer(byte_level())
    ids = tokenizer.encode("ab🙂")[:-1]
    assert "".join(tokenizer.stream(ids)) == tokenizer.decode(ids) == "ab\ufffd"


def test_stream_is_prompt():
    tokenizer = Tokenizer(byte_level())
    pieces = tokenizer.stream(iter(tokenizer.encode("xyz")))
    assert [next(pieces), next(pieces), next(pieces)] == ["x", "y", "z"]


def test_stream_decodes_only_the_last_tokens_again():
    sizes = []

    class Counting(Tokenizer):
        def decode(self, ids, skip_special=True):
            sizes.append(len(ids))
            return super().decode(ids, skip_special)

    tokenizer = Counting(byte_level())
    assert "".join(tokenizer.stream(tokenizer.encode("x" * 100))) == "x" * 100
    assert max(sizes) == 2


def test_stream_continues_a_prompt():
    tokenizer = Tokenizer(sentencepiece())
    assert list(tokenizer.stream([2, 3, 4, 2])) == ["a", " b", "c", " a"]
    assert list(tokenizer.stream([2, 3, 1, 3], prompt=[1, 3])) == [" a", " b", " b"]
    assert tokenizer.decode([1, 2]) == "a"
    assert tokenizer.decode([1, 2], skip_special=False).startswith("<s>")


def test_prompt_begins_with_bos_where_the_model_wants_it(tmp_path):
    for inner, first in ((sentencepiece(), [1]), (byte_level(), [])):
        inner.save(str(tmp_path / "tokenizer.json"))
        tokenizer = Tokenizer.open(tmp_path)
        assert tokenizer.prompt("c", 1) == first + tokenizer.encode("c")
        assert tokenizer.prompt("c", None) == tokenizer.encode("c")
    (tmp_path / "tokenizer_config.json").write_text('{"add_bos_token": true}')
    assert Tokenizer.open(tmp_path).prompt("c", 256)[0] == 256
    assert Tokenizer.open(tmp_path).prompt("<s>c", 256).count(256) == 1


def test_open_errors(tmp_path):
    with pytest.raises(NmrefError, match=r"^T_FILE .*tokenizer.json: No such file or directory"):
        Tokenizer.open(tmp_path)
    for text in ("", "{}", "[", "\x80"):
        (tmp_path / "tokenizer.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(NmrefError, match=r"^T_FILE .*tokenizer.json: not a tokenizer \("):
            Tokenizer.open(tmp_path)
