"""config.json: defaults, and one line for everything that is wrong."""

import json

import pytest

from nmref.errors import Code, NmrefError
from nmref.model.config import expected_shapes, linear_names, parse_config, read_config
from nmref.numerics.rope import Llama3Scaling, Rope


def test_parse_config_defaults(raw_config):
    del raw_config["num_key_value_heads"], raw_config["tie_word_embeddings"]
    config = parse_config(raw_config)
    assert (config.D, config.F, config.H, config.G, config.V) == (16, 24, 4, 4, 32)
    assert (config.head_dim, config.rope, config.sliding_window) == (4, Rope(10000.0, 4), None)
    assert not config.tie_word_embeddings
    assert (config.bos_token_id, config.eos_token_ids) == (1, (2,))
    assert config.raw == raw_config


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4,
    "original_max_position_embeddings": 20,
}
SCALED = Llama3Scaling(8.0, 1.0, 4.0, 20)
LENGTH = "original_max_position_embeddings"
ROPES = [
    ({"rope_theta": 1}, Rope(1.0, 4)),
    ({"rope_theta": 5e5}, Rope(5e5, 4)),
    ({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}, Rope(5e5, 4)),
    ({"rope_parameters": {"rope_theta": 5e5}, "rope_theta": 7}, Rope(5e5, 4)),
    ({"rope_parameters": {"partial_rotary_factor": 1.0}, "rope_theta": 7}, Rope(7.0, 4)),
    ({"rope_parameters": LLAMA3 | {"rope_theta": 5e5}}, Rope(5e5, 4, SCALED)),
    ({"rope_scaling": {"type": "default"}}, Rope(1e4, 4)),
    ({"rope_scaling": LLAMA3, "rope_theta": 5e5}, Rope(5e5, 4, SCALED)),
    (
        {
            "rope_scaling": {k: v for k, v in LLAMA3.items() if k != "rope_type"}
            | {"type": "llama3"}
        },
        Rope(1e4, 4, SCALED),
    ),
    ({"rope_scaling": LLAMA3 | {"type": "linear"}}, Rope(1e4, 4, SCALED)),
    ({"rope_scaling": LLAMA3, "rope_parameters": {"rope_theta": 7}}, Rope(1e4, 4, SCALED)),
    ({"rope_scaling": {}, "rope_parameters": {"rope_theta": 7}}, Rope(7.0, 4)),
    # the original length: outside, inside, or the context
    ({"rope_scaling": LLAMA3, LENGTH: 30}, Rope(1e4, 4, Llama3Scaling(8.0, 1.0, 4.0, 30))),
    (
        {"rope_scaling": LLAMA3 | {LENGTH: None}},
        Rope(1e4, 4, Llama3Scaling(8.0, 1.0, 4.0, 40)),
    ),
]


@pytest.mark.parametrize(("change", "rope"), ROPES)
def test_parse_config_rope(raw_config, change, rope):
    assert parse_config(raw_config | change).rope == rope


MISTRAL = {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}


@pytest.mark.parametrize(
    ("change", "window"),
    [({}, 4096), ({"sliding_window": None}, None), ({"sliding_window": 1}, 1)],
)
def test_parse_config_mistral_window(raw_config, change, window):
    assert parse_config(raw_config | MISTRAL | change).sliding_window == window


def test_parse_config_mistral_kv_heads(raw_config):
    """An absent key is Mistral's 8, a null one the number of heads."""
    config = raw_config | MISTRAL | {"num_attention_heads": 16, "head_dim": 2}
    assert parse_config(config | {"num_key_value_heads": None}).G == 16
    del config["num_key_value_heads"]
    assert parse_config(config).G == 8


def test_parse_config_mistral_nemo(raw_config):
    """Its heads are narrower than D / H."""
    change = {"head_dim": 2, "rope_theta": 1e6, "sliding_window": None}
    config = parse_config(raw_config | MISTRAL | change)
    assert (config.head_dim, config.rope) == (2, Rope(1e6, 2))
    assert expected_shapes(config)["model.layers.0.self_attn.q_proj.weight"] == (8, 16)


@pytest.mark.parametrize("key", ["model_type", "architectures"])
def test_parse_config_one_of_the_two_names_is_enough(raw_config, key):
    assert parse_config(raw_config | {key: None}).sliding_window is None
    assert parse_config(raw_config | MISTRAL | {key: None}).sliding_window == 4096


def test_parse_config_llama_without_window(raw_config):
    assert parse_config(raw_config | {"sliding_window": None}).sliding_window is None


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
    ({"rms_norm_eps": float("nan")}, "rms_norm_eps NaN, want a number above 0"),
    ({"rope_theta": float("nan")}, "rope_theta NaN, want a number from 1 up"),
    ({"rope_theta": float("inf")}, "rope_theta Infinity, want a number from 1 up"),
    ({"rope_theta": 0.5}, "rope_theta 0.5, want a number from 1 up"),
    ({"rope_theta": True}, "rope_theta true, want a number from 1 up"),
    ({"tie_word_embeddings": 1}, "tie_word_embeddings 1, want true or false"),
    ({"tie_word_embeddings": []}, "tie_word_embeddings [], want true or false"),
    ({"bos_token_id": -1}, "bos_token_id -1, want a token id"),
    ({"eos_token_id": [2, "x"]}, 'eos_token_id [2, "x"], want a token id or a list of them'),
    (
        {"architectures": ["MistralForCausalLM"]},
        'unknown architecture, architectures ["MistralForCausalLM"], want ["LlamaForCausalLM"]',
    ),
    (
        {"model_type": None, "architectures": ["QwenForCausalLM"]},
        'unknown architecture, architectures ["QwenForCausalLM"], '
        'want ["LlamaForCausalLM"] or ["MistralForCausalLM"]',
    ),
    (
        {"model_type": "mistral"},
        'unknown architecture, architectures ["LlamaForCausalLM"], want ["MistralForCausalLM"]',
    ),
    (
        {"model_type": "qwen2"},
        'unknown architecture, model_type "qwen2", want "llama" or "mistral"',
    ),
    (
        {"model_type": ["llama"]},
        'unknown architecture, model_type ["llama"], want "llama" or "mistral"',
    ),
    (
        {"model_type": None, "architectures": None},
        'model_type null, want "llama" or "mistral"',
    ),
    ({"sliding_window": 5}, 'sliding_window 5, want null, or model_type "mistral"'),
    (MISTRAL | {"sliding_window": 0}, "sliding_window 0, want an integer from 1 to 2147483647"),
    (MISTRAL | {"sliding_window": 2.5}, "sliding_window 2.5, want an integer from 1 to 2147483647"),
    ({"hidden_act": "gelu"}, 'hidden_act "gelu", want "silu"'),
    ({"attention_bias": True}, "attention_bias true, want false"),
    ({"mlp_bias": True}, "mlp_bias true, want false"),
    ({"rope_parameters": [1]}, "rope_parameters [1], want an object"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5, want 1: RoPE over the whole head"),
    ({"num_key_value_heads": 3}, "num_key_value_heads 3, want a divisor of the 4 attention heads"),
    ({"head_dim": 3}, "head_dim 3, want an even number: RoPE turns pairs"),
    (
        {"num_attention_heads": 3},
        "num_attention_heads 3, want a divisor of hidden_size 16, or head_dim",
    ),
]


WRONG_ROPE = [
    ({"type": "linear", "factor": 2}, 'type "linear", want "default" or "llama3"'),
    ({"rope_type": "yarn", "type": "llama3"}, 'rope_type "yarn", want "default" or "llama3"'),
    ({"rope_type": ["llama3"]}, 'rope_type ["llama3"], want "default" or "llama3"'),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5, want 1: RoPE over the whole head"),
    ({"rope_theta": "7"}, 'rope_theta "7", want a number from 1 up'),
    ({"rope_type": "llama3"}, "no key factor, want a number above 0"),
    (LLAMA3 | {"factor": 0}, "factor 0, want a number above 0"),
    (LLAMA3 | {"low_freq_factor": -1}, "low_freq_factor -1, want a number above 0"),
    (LLAMA3 | {"high_freq_factor": None}, "high_freq_factor null, want a number above 0"),
    (LLAMA3 | {"high_freq_factor": 1}, "high_freq_factor 1, want one above low_freq_factor 1.0"),
    (LLAMA3 | {LENGTH: 0}, f"{LENGTH} 0, want an integer from 1 to 2147483647"),
    (LLAMA3 | {LENGTH: 8192.0}, f"{LENGTH} 8192.0, want an integer from 1 to 2147483647"),
]


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize(("rope", "text"), WRONG_ROPE, ids=[text[:40] for _, text in WRONG_ROPE])
def test_parse_config_wrong_rope(raw_config, key, rope, text):
    with pytest.raises(NmrefError) as caught:
        parse_config(raw_config | {key: rope})
    assert str(caught.value) == f"T_CONFIG config.json {key}: {text}"


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
