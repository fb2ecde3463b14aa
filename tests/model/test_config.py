"""config.json: defaults, and one line for everything that is wrong."""

import json

import pytest

from nmref.errors import Code, NmrefError
from nmref.model.config import expected_shapes, linear_names, parse_config, read_config


def test_parse_config_defaults(raw_config):
    del raw_config["num_key_value_heads"], raw_config["tie_word_embeddings"]
    config = parse_config(raw_config)
    assert (config.D, config.F, config.H, config.G, config.V) == (16, 24, 4, 4, 32)
    assert (config.head_dim, config.rope_theta, config.tie_word_embeddings) == (4, 10000.0, False)
    assert (config.bos_token_id, config.eos_token_ids) == (1, (2,))
    assert config.raw == raw_config


def test_parse_config_newer_rope_parameters(raw_config):
    raw_config["rope_parameters"] = {"rope_theta": 5e5, "rope_type": "default"}
    assert parse_config(raw_config).rope_theta == 5e5


def test_parse_config_several_eos(raw_config):
    assert parse_config(raw_config | {"eos_token_id": [2, 5]}).eos_token_ids == (2, 5)
    assert parse_config(raw_config | {"eos_token_id": None}).eos_token_ids == ()


@pytest.mark.parametrize(
    "key",
    [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
        "max_position_embeddings",
        "rms_norm_eps",
    ],
)
def test_parse_config_missing_key(raw_config, key):
    del raw_config[key]
    with pytest.raises(NmrefError, match=rf"^T_CONFIG some/config.json: no key {key}, want a"):
        parse_config(raw_config, "some/config.json")


WRONG = [
    ({"hidden_size": "16"}, 'hidden_size "16", want an integer from 1 to 2147483647'),
    ({"hidden_size": True}, "hidden_size true, want an integer from 1 to 2147483647"),
    ({"num_hidden_layers": 10**9}, "num_hidden_layers 1000000000, want an integer from 1 to 10000"),
    ({"rms_norm_eps": 0}, "rms_norm_eps 0, want a number above 0"),
    ({"rope_theta": float("nan")}, "rope_theta NaN, want a number above 0"),
    ({"rope_theta": float("inf")}, "rope_theta Infinity, want a number above 0"),
    ({"tie_word_embeddings": 1}, "tie_word_embeddings 1, want true or false"),
    ({"tie_word_embeddings": []}, "tie_word_embeddings [], want true or false"),
    ({"bos_token_id": -1}, "bos_token_id -1, want a token id"),
    ({"eos_token_id": [2, "x"]}, 'eos_token_id [2, "x"], want a token id or a list of them'),
    (
        {"architectures": ["MistralForCausalLM"]},
        'unknown architecture, architectures ["MistralForCausalLM"], want ["LlamaForCausalLM"]',
    ),
    ({"model_type": "qwen2"}, 'unknown architecture, model_type "qwen2", want "llama"'),
    ({"model_type": None, "architectures": None}, 'model_type null, want "llama"'),
    ({"hidden_act": "gelu"}, 'hidden_act "gelu", want "silu"'),
    ({"attention_bias": True}, "attention_bias true, want false"),
    ({"mlp_bias": True}, "mlp_bias true, want false"),
    (
        {"rope_scaling": {"factor": 2.0, "type": "linear"}},
        'rope_scaling {"factor": 2.0, "type": "linear"}, want null',
    ),
    (
        {"rope_parameters": {"rope_type": "llama3"}},
        'rope_parameters {"rope_type": "llama3"}, want rope_type "default" over the whole head',
    ),
    ({"num_key_value_heads": 3}, "num_key_value_heads 3, want a divisor of the 4 attention heads"),
    ({"head_dim": 3}, "head_dim 3, want an even number: RoPE turns pairs"),
    (
        {"num_attention_heads": 3},
        "num_attention_heads 3, want a divisor of hidden_size 16, or head_dim",
    ),
]


@pytest.mark.parametrize(("change", "text"), WRONG, ids=[text[:40] for _, text in WRONG])
def test_parse_config_wrong_value(raw_config, change, text):
    with pytest.raises(NmrefError) as caught:
        parse_config(raw_config | change)
    assert str(caught.value) == f"T_CONFIG config.json: {text}"


def test_read_config_file_errors(tmp_path):
    path = tmp_path / "config.json"
    with pytest.raises(NmrefError, match=r"^T_FILE .*config.json: No such file"):
        read_config(path)
    for text, got in [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ("[" * 99_999, "not JSON"),
        ('"\xff"', "not JSON"),
    ]:
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(NmrefError, match=rf"^T_CONFIG .*config.json: {got}") as caught:
            read_config(path)
        assert caught.value.code == Code.T_CONFIG
        assert "\n" not in str(caught.value)


def test_read_config_keeps_the_raw_content(tmp_path, raw_config):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(raw_config | {"torch_dtype": "float32"}))
    assert read_config(path).raw["torch_dtype"] == "float32"


def test_linear_names_and_expected_shapes(config):
    names, shapes = linear_names(config), expected_shapes(config)
    assert len(names) == 7 * config.num_hidden_layers
    assert names[:2] == [
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.k_proj.weight",
    ]
    assert set(names) < set(shapes)
    assert len(shapes) == 9 * config.num_hidden_layers + 3
    assert shapes["model.layers.1.self_attn.k_proj.weight"] == (8, 16)
    assert shapes["model.layers.1.mlp.down_proj.weight"] == (16, 24)
    assert shapes["lm_head.weight"] == (32, 16)


def test_expected_shapes_head_dim_apart_from_width(raw_config):
    shapes = expected_shapes(parse_config(raw_config | {"head_dim": 6}))
    assert shapes["model.layers.0.self_attn.q_proj.weight"] == (24, 16)
    assert shapes["model.layers.0.self_attn.o_proj.weight"] == (16, 24)
