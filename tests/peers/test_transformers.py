"""nmref against Hugging Face transformers, float32 eager attention: logits and greedy text.

The truth is transformers' own forward in float64 (tests/peers/account.py).  Required of
transformers, `Golden` and `Fast` alike: every logit looked at is within its `likely` bound of the
truth, so two of them differ by at most twice the bound.  The bound is some tens of times the usual
error; that `Golden` is no worse than float32 needs to be is seen from the root mean square over
all logits, which must not exceed that of transformers (`Fast`: twice that).

Run with -s to see the figures.  SmolLM2-135M is in when NMREF_SLOW is set and
`nmref fetch smollm2-135m` has been there.
"""

from __future__ import annotations

import os
import random
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what libraries say about each other
    transformers = pytest.importorskip("transformers", minversion="4.56")

from nmref.linear import Fast  # noqa: E402
from nmref.model.checkpoint import open_checkpoint  # noqa: E402
from nmref.model.fetch import cache_folder  # noqa: E402
from nmref.model.generate import generate  # noqa: E402
from nmref.model.llama import forward  # noqa: E402
from nmref.model.tokenizer import Tokenizer  # noqa: E402
from nmref.numerics import Golden  # noqa: E402
from tests.peers.account import ErrorAccount  # noqa: E402

transformers.utils.logging.disable_progress_bar()

pytestmark = pytest.mark.filterwarnings("ignore")

OPS = {"Golden": Golden(), "Fast": Fast()}

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
    "rope_theta": 500000.0,
}


def tiny_config(family, seed):
    """A random small config of a family of models, and the number of tokens to try it with."""
    rng = random.Random(f"{family} {seed}")
    heads = rng.choice([2, 4, 6])
    sizes = {
        "hidden_size": heads * rng.choice([8, 10, 16]),
        "intermediate_size": rng.randrange(20, 200),
        "num_hidden_layers": rng.choice([2, 3]),
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "vocab_size": rng.randrange(50, 150),
        "max_position_embeddings": 128,
        "rms_norm_eps": rng.choice([1e-5, 1e-6]),
        "tie_word_embeddings": seed % 2 == 1,
        "attn_implementation": "eager",
    }
    match family:
        case "llama2":
            rope = {"rope_type": "default", "rope_theta": 10000.0}
            return transformers.LlamaConfig(**sizes, **rope_keys(rope)), 64
        case "llama3":
            sizes["num_key_value_heads"] = heads // 2
            return transformers.LlamaConfig(**sizes, **rope_keys(LLAMA3)), 96  # 6 times 16
        case "mistral":
            sizes |= {"num_key_value_heads": heads // 2, "head_dim": rng.choice([4, 12, 18])}
            sizes["sliding_window"] = rng.randrange(3, 30)
            rope = {"rope_type": "default", "rope_theta": 1000000.0}
            return transformers.MistralConfig(**sizes, **rope_keys(rope)), 48
    raise AssertionError(family)


def rope_keys(rope):
    """The RoPE arguments of a config: transformers 5 has put them together."""
    if transformers.__version__ >= "5":
        return {"rope_parameters": dict(rope)}
    scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
    scaling = scaling if rope["rope_type"] != "default" else None
    return {"rope_theta": rope["rope_theta"], "rope_scaling": scaling}


@pytest.fixture
def tiny(request, tmp_path):
    """(folder of a model with random weights, ids)."""
    family, seed = request.param
    config, count = tiny_config(family, seed)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.normal_(1, 0.25)
            else:  # numbers of about 1 all the way, so that attention chooses
                weight.normal_(0, 1 if "embed" in name else weight.shape[1] ** -0.5)
    model.save_pretrained(tmp_path)
    return tmp_path, torch.randint(0, config.vocab_size, (count,)).tolist()


def load(folder):
    """transformers' model of a folder, in float32."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval().requires_grad_(False)


def float32_logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0]  # [T, V]


def true_logits(model, ids):
    """The logits in float64 [T, V], and the account of what float32 may do; `model` is changed."""
    account, rough = ErrorAccount(), model.model.rotary_emb.inv_freq.double()
    model.double()
    with account:
        model.model.rotary_emb = type(model.model.rotary_emb)(model.config)
    fine = model.model.rotary_emb.inv_freq
    account.start(fine, (rough - fine).abs())
    with account:
        return model(torch.tensor([ids]), use_cache=False).logits[0], account


class Comparison:
    """Errors [T, V] of some logits against the truth, and bounds where the errors are largest."""

    def __init__(self, truth, account, found):
        self.truth, self.account = truth, account
        self.errors = {name: (logits - truth).detach().abs() for name, logits in found.items()}
        rng = random.Random(1)
        self.picks = [(rng.randrange(len(truth)), rng.randrange(truth.shape[1])) for _ in range(8)]
        for error in self.errors.values():
            worst = error.flatten().argsort(descending=True)[:8].tolist()
            self.picks += [divmod(index, truth.shape[1]) for index in worst]
        self.worst, self.likely = account.bounds(truth, self.picks)

    def ratio(self, name):
        """Largest error at the picks, in units of the likely bound."""
        at = torch.tensor(self.picks)
        return float((self.errors[name][at[:, 0], at[:, 1]] / self.likely).max())

    def rms(self, name):
        return float(self.errors[name].square().mean().sqrt())

    def report(self, title):
        scale = float(self.truth.detach().abs().max())
        lines = [
            f"{title}: logits {list(self.truth.shape)} up to {scale:.3g}, bounds: likely "
            f"{self.likely.min():.2g} to {self.likely.max():.2g}, worst {self.worst.max():.2g}"
        ]
        for name, error in self.errors.items():
            lines.append(
                f"  {name} - truth: max {error.max():.3g}, rms {self.rms(name):.3g}, "
                f"{self.ratio(name):.3g} of the bound"
            )
        return "\n".join(lines)


def compare(title, folder, ids):
    """transformers in float32 and nmref twice, against the truth."""
    opened, model = open_checkpoint(folder), load(folder)
    found = {"transformers": float32_logits(model, ids)}
    weights = opened.weights()
    for name, ops in OPS.items():
        found[name] = torch.from_numpy(forward(weights, opened.config, ids, ops=ops))
    between = {name: float((found[name] - found["transformers"]).abs().max()) for name in OPS}
    comparison = Comparison(*true_logits(model, ids), found)
    for name, value in between.items():
        title += f", max |{name} - transformers| {value:.3g}"
    print("\n" + comparison.report(title))
    return comparison


def check(comparison):
    for name in comparison.errors:
        assert comparison.ratio(name) <= 1, name
    assert comparison.rms("Golden") <= comparison.rms("transformers")
    assert comparison.rms("Fast") <= 2 * comparison.rms("transformers")


FAMILIES = ["llama2", "llama3", "mistral"]
TINY = [(family, seed) for family in FAMILIES for seed in range(3)]


@pytest.mark.parametrize("tiny", TINY, indirect=True, ids=lambda p: "-".join(map(str, p)))
def test_logits_of_random_models(tiny, request):
    check(compare(request.node.callspec.id, *tiny))


MISTAKES = {
    "eps": ("llama2", lambda c: replace(c, rms_norm_eps=c.rms_norm_eps + 1e-4)),
    "theta": ("llama2", lambda c: replace(c, rope=replace(c.rope, theta=10010.0))),
    "factor": ("llama3", lambda c: scaled(c, factor=8.01)),
    "low": ("llama3", lambda c: scaled(c, low_freq_factor=1.01)),
    "high": ("llama3", lambda c: scaled(c, high_freq_factor=4.01)),
    "length": ("llama3", lambda c: scaled(c, original_max_position_embeddings=17)),
    "wide": ("mistral", lambda c: replace(c, sliding_window=c.sliding_window + 1)),
    "narrow": ("mistral", lambda c: replace(c, sliding_window=c.sliding_window - 1)),
}


def scaled(config, **change):
    scaling = replace(config.rope.scaling, **change)
    return replace(config, rope=replace(config.rope, scaling=scaling))


@pytest.mark.parametrize(
    ("tiny", "mistake"),
    [((family, 0), mistake) for family, mistake in MISTAKES.values()],
    indirect=["tiny"],
    ids=MISTAKES,
)
def test_bound_sees_small_mistakes(tiny, mistake):
    """A number of the configuration that is slightly wrong breaks the bound."""
    folder, ids = tiny
    opened = open_checkpoint(folder)
    logits = forward(opened.weights(), mistake(opened.config), ids, ops=OPS["Golden"])
    truth, account = true_logits(load(folder), ids)
    comparison = Comparison(truth, account, {"mistaken": torch.from_numpy(logits)})
    print(f"\n{comparison.ratio('mistaken'):.3g} of the bound")
    assert comparison.ratio("mistaken") > 1


def greedy(model, prompt, count):
    """transformers' greedy continuation, and the smallest lead of a token it chose."""
    ids = torch.tensor([prompt])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=count,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    best = torch.stack(out.logits)[:, 0].topk(2).values  # [count, 2]
    return out.sequences[0, len(prompt) :].tolist(), float((best[:, 0] - best[:, 1]).min())


def same_text(folder, text):
    """200 greedy tokens; returns prompt and continuation."""
    opened = open_checkpoint(folder)
    prompt = Tokenizer.open(folder).prompt(text, opened.config.bos_token_id)
    want, lead = greedy(load(folder), prompt, 200)
    assert len(want) == 200
    weights = opened.weights()
    for name, ops in OPS.items():
        got = list(generate(weights, opened.config, prompt, 200, ops=ops))
        assert got == want, (
            f"{name} parts at {next(i for i in range(200) if got[i : i + 1] != want[i : i + 1])}"
        )
    print(f"\n{folder.name}: 200 greedy tokens equal, smallest lead {lead:.3g}")
    return [*prompt, *want]


def test_stories260k(shared_data):
    folder = shared_data / "models" / "stories260k-hf"
    ids = same_text(folder, "Once upon a time, there was a little girl named Lily.")
    check(compare(folder.name, folder, ids[:64]))


@pytest.mark.skipif("NMREF_SLOW" not in os.environ, reason="minutes; set NMREF_SLOW")
def test_smollm2():
    folder = cache_folder() / "smollm2-135m-bf16"
    if not Path(folder).is_dir():
        pytest.skip("nmref fetch smollm2-135m")
    ids = same_text(folder, "The history of the city begins")
    check(compare(folder.name, folder, ids[:32]))
