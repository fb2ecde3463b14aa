"""GGUF (the file of llama.cpp) -> the content of a Hugging Face style folder.

Two things differ.  GGUF names sizes and tensors in its own way, and it keeps the rows of Q and K
in the order of interleaved RoPE (pairs 2i, 2i+1), where Hugging Face has pairs i, i + d/2.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from nmref.dtypes import Array
from nmref.errors import Code, NmrefError
from nmref.model.config import expected_shapes, parse_config
from nmref.model.llama import F32

_NORMAL, _CONTROL, _USER = 1, 3, 4  # token types

_SPECIAL = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}

_TENSORS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_OUTER = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}


def library() -> Any:
    """The gguf package.  Raises T_FETCH where it is not installed."""
    try:
        return importlib.import_module("gguf")
    except ImportError:
        want = "it installed: pip install nmref[gguf]"
        raise NmrefError(Code.T_FETCH, "GGUF", "no package gguf", want) from None


def unpermute(weight: Array, heads: int) -> Array:
    """Rows of Q or K [heads*d, K] from interleaved (2i + h) to half-split order (h*d/2 + i).

    >>> unpermute(np.arange(8).reshape(8, 1), 2).ravel().tolist()
    [0, 2, 1, 3, 4, 6, 5, 7]
    """
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)  # [heads, d/2, 2, K]
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows, columns)


class GGUFModel:
    """A LLaMA model in a GGUF file.  Raises T_FILE (unreadable), T_CONFIG (another kind)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._gguf = library()
        try:
            self._reader = self._gguf.GGUFReader(path)
            self.fields = {k: f.contents() for k, f in self._reader.fields.items()}
        except Exception as error:  # the library raises whatever the bytes lead it to
            got = f"not a whole GGUF file ({type(error).__name__})"
            raise NmrefError(Code.T_FILE, str(path), got, "a GGUF file") from None
        self.config = self._config()
        self._shapes = expected_shapes(parse_config(self.config, str(path)))

    def __len__(self) -> int:
        return len(self._reader.tensors)

    def field(self, key: str, kind: type) -> Any:
        """A metadata value.  Raises T_CONFIG where it is missing or of another type."""
        value = self.fields.get(key)
        if type(value) is not kind:
            got = f"no {key}" if value is None else f"{key} {str(value)[:40]}"
            raise NmrefError(Code.T_CONFIG, str(self.path), got, f"one of type {kind.__name__}")
        return value

    def _only(self, key: str, default: object, *allowed: object) -> None:
        """Refuse a value of `key` that would need something the forward has not."""
        value = self.fields.get(key, default)
        if value not in allowed:
            want = " or ".join(map(str, allowed))
            raise NmrefError(Code.T_CONFIG, str(self.path), f"unknown {key} {value}", want)

    def _config(self) -> dict[str, Any]:
        """config.json in the words of Hugging Face."""
        self._only("general.architecture", None, "llama")
        self._only("llama.expert_count", 0, 0)
        self._only("llama.rope.scaling.type", "none", "none")
        heads = self.field("llama.attention.head_count", int)
        width = self.field("llama.embedding_length", int)
        dim = self.fields.get("llama.attention.key_length", width // max(heads, 1))
        self._only("llama.rope.dimension_count", dim, dim)
        names = {t.name: t for t in self._reader.tensors}
        if "rope_freqs.weight" in names:
            got = "a table of RoPE frequencies"
            raise NmrefError(Code.T_CONFIG, str(self.path), got, "plain RoPE")
        eps = self.field("llama.attention.layer_norm_rms_epsilon", float)
        config = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "attention_bias": False,
            "bos_token_id": self.fields.get("tokenizer.ggml.bos_token_id"),
            "eos_token_id": self.fields.get("tokenizer.ggml.eos_token_id"),
            "head_dim": dim,
            "hidden_act": "silu",
            "hidden_size": width,
            "intermediate_size": self.field("llama.feed_forward_length", int),
            "max_position_embeddings": self.field("llama.context_length", int),
            "mlp_bias": False,
            "num_attention_heads": heads,
            "num_hidden_layers": self.field("llama.block_count", int),
            "num_key_value_heads": self.fields.get("llama.attention.head_count_kv", heads),
            # stored as F32: the shortest decimal gives back what the author wrote
            "rms_norm_eps": float(str(np.float32(eps))),
            "rope_theta": float(self.fields.get("llama.rope.freq_base", 10000.0)),
            "tie_word_embeddings": "output.weight" not in names,
            "vocab_size": len(self.field("tokenizer.ggml.tokens", list)),
        }
        pad = self.fields.get("tokenizer.ggml.padding_token_id")
        return config if pad is None else config | {"pad_token_id": pad}

    def tensors(self) -> Iterator[tuple[str, F32]]:
        """(Hugging Face name, float32 array) of every tensor, in the order of the file."""
        for tensor in self._reader.tensors:
            name, where = self._name(tensor.name), f"{self.path} {tensor.name}"
            try:
                array = self._gguf.dequantize(tensor.data, tensor.tensor_type)
            except Exception as error:
                got = f"type {tensor.tensor_type} ({type(error).__name__})"
                raise NmrefError(Code.T_TENSOR, where, got, "one gguf can read") from None
            array = np.asarray(array, dtype=np.float32)
            want = self._shapes.get(name)
            if array.shape != want:
                got = f"shape {list(array.shape)}"
                raise NmrefError(
                    Code.T_TENSOR, where, got, str(list(want)) if want else "no such tensor"
                )
            if name.endswith("q_proj.weight"):
                array = unpermute(array, self.config["num_attention_heads"])
            elif name.endswith("k_proj.weight"):
                array = unpermute(array, self.config["num_key_value_heads"])
            yield name, array

    def _name(self, name: str) -> str:
        stem = name.removesuffix(".weight")
        match stem.split("."):
            case ["blk", layer, kind] if kind in _TENSORS and stem != name:
                return f"model.layers.{layer}.{_TENSORS[kind]}.weight"
            case [kind] if kind in _OUTER and stem != name:
                return f"{_OUTER[kind]}.weight"
        where = f"{self.path} {name}"
        raise NmrefError(Code.T_TENSOR, where, "a tensor LLaMA has not", "only LLaMA's")

    def tokenizer_json(self) -> str:
        """tokenizer.json: byte-level BPE from the file's tokens and merges."""
        self._only("tokenizer.ggml.model", None, "gpt2")
        self._only("tokenizer.ggml.pre", None, "smollm")
        tokens = self.field("tokenizer.ggml.tokens", list)
        merges = [tuple(m.split(" ")) for m in self.field("tokenizer.ggml.merges", list)]
        vocab = {token: i for i, token in enumerate(tokens)}
        if len(vocab) != len(tokens) or any(len(m) != 2 for m in merges):
            got = "tokens that repeat, or merges that are not pairs"
            raise NmrefError(Code.T_CONFIG, str(self.path), got, "a BPE vocabulary")
        try:
            tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
        except Exception as error:
            got = f"vocabulary refused ({error})"
            raise NmrefError(Code.T_CONFIG, str(self.path), got, "a BPE vocabulary") from None
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        types = self.fields.get("tokenizer.ggml.token_type", [_NORMAL] * len(tokens))
        for token, kind in zip(tokens, types, strict=True):
            if kind in (_CONTROL, _USER):
                special = kind == _CONTROL
                added = tokenizers.AddedToken(token, special=special, normalized=False)
                (tokenizer.add_special_tokens if special else tokenizer.add_tokens)([added])
        return str(tokenizer.to_str(pretty=True)) + "\n"

    def tokenizer_config(self) -> dict[str, Any]:
        """tokenizer_config.json: special tokens by name, and the chat template."""
        tokens = self.field("tokenizer.ggml.tokens", list)
        config: dict[str, Any] = {
            "add_bos_token": bool(self.fields.get("tokenizer.ggml.add_bos_token", False)),
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": self.config["max_position_embeddings"],
            "tokenizer_class": "PreTrainedTokenizerFast",
        }
        for theirs, ours in _SPECIAL.items():
            token = self.fields.get(f"tokenizer.ggml.{theirs}_token_id")
            if token in range(len(tokens)):
                config[f"{ours}_token"] = tokens[token]
        template = self.fields.get("tokenizer.chat_template")
        return config if template is None else config | {"chat_template": template}
