"""The block's derivatives and one tuning against torch: autograd, torch.optim.AdamW, clipping.

The block is that of transformers, as a model of one layer whose last norm is left out.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what libraries say about each other
    transformers = pytest.importorskip("transformers", minversion="4.56")

from nmref.model.config import parse_config  # noqa: E402
from nmref.prune.settings import Tuning  # noqa: E402
from nmref.prune.tune import backprop  # noqa: E402
from nmref.prune.tune.ebft import tune  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

TOKENS = 70
LAYER = 0
SIZES = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 1,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 16,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "attn_implementation": "eager",
}
FAMILIES = {
    "llama": lambda: transformers.LlamaConfig(**SIZES),
    "mistral": lambda: transformers.MistralConfig(**SIZES, head_dim=12, sliding_window=9),
}


@pytest.fixture(params=FAMILIES)
def peer(request):
    """(torch model of one block, our config, its weights in float64)."""
    torch.manual_seed(3)
    theirs = FAMILIES[request.param]()
    model = transformers.AutoModel.from_config(theirs).double().eval()
    model.norm = torch.nn.Identity()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(1 if "norm" in name else 0, 0.3)
    raw = theirs.to_dict() | {"architectures": [f"{request.param.title()}ForCausalLM"]}
    return model, parse_config(raw), weights_of(model)


def parameters(model):
    return {f"model.{n}": p for n, p in model.named_parameters() if n.startswith("layers.0.")}


def weights_of(model):
    return {name: weight.detach().numpy().copy() for name, weight in parameters(model).items()}


def run(model, x):
    """x [T, D] -> [T, D]."""
    return model(inputs_embeds=x[None], use_cache=False).last_hidden_state[0]


def near(found, want, bound):
    return np.linalg.norm(found - want) <= bound * np.linalg.norm(want)


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 1e-6), (np.float32, 1e-5)])
def test_derivatives_are_those_of_autograd(peer, dtype, bound):
    """transformers' RoPE tables are float32 in any case, so 1e-6 is what they allow."""
    model, config, weights = peer
    rng = np.random.default_rng(5)
    x, dy = rng.normal(size=(2, TOKENS, config.D)).astype(dtype)
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    out = run(model, leaf)
    out.backward(torch.tensor(dy, dtype=torch.float64))
    weights = {name: weight.astype(dtype) for name, weight in weights.items()}
    y, tape = backprop.forward(weights, config, LAYER, x)
    gradients, dx = backprop.backward(weights, config, LAYER, tape, dy)
    assert near(y, out.detach().numpy(), bound)
    assert near(dx, leaf.grad.numpy(), bound)
    for name, weight in parameters(model).items():
        assert near(gradients[name], weight.grad.numpy(), bound), name


@pytest.mark.parametrize("limit", [1e-2, 1e6])
def test_tuning_is_that_of_torch(peer, limit):
    """Two epochs over one batch, so that the order of the samples does not matter."""
    model, config, dense = peer
    rng = np.random.default_rng(6)
    inputs = rng.normal(size=(3, TOKENS, config.D)).astype(np.float32)
    with torch.no_grad():
        targets = np.stack([run(model, torch.tensor(x).double()).numpy() for x in inputs])
    masks = {name: rng.random(w.shape) < 0.5 for name, w in dense.items() if w.ndim == 2}
    how = Tuning(epochs=2, batch=3, rate=1e-2, clip=limit, epsilon=1e-6)
    want, want_losses = torch_tune(model, masks, inputs, targets, how)
    pruned = {name: (w * masks.get(name, True)).astype(np.float32) for name, w in dense.items()}
    tuned, losses = tune(pruned, masks, config, LAYER, inputs, targets.astype(np.float32), how)
    np.testing.assert_allclose(losses, want_losses, rtol=1e-5)
    for name, weight in want.items():
        assert near(tuned[name] - pruned[name], weight - pruned[name], 1e-3), name


def torch_tune(model, masks, inputs, targets, how):
    """Weights times their mask after every step; (weights, loss of every step)."""
    learning = parameters(model)
    masks = {name: torch.tensor(mask) for name, mask in masks.items()}
    optimizer = torch.optim.AdamW(
        learning.values(), how.rate, how.betas, how.epsilon, weight_decay=how.decay
    )
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / how.epochs)
    losses = []

    def apply_masks():
        with torch.no_grad():
            for name, mask in masks.items():
                learning[name] *= mask

    apply_masks()
    for _ in range(how.epochs):
        found = torch.stack([run(model, torch.tensor(x).double()) for x in inputs])
        loss = torch.nn.functional.mse_loss(found, torch.tensor(targets))
        optimizer.zero_grad()
        loss.backward()
        for name, mask in masks.items():
            learning[name].grad *= mask
        torch.nn.utils.clip_grad_norm_(learning.values(), how.clip)
        optimizer.step()
        falling.step()
        apply_masks()
        losses.append(loss.item())
    return weights_of(model), losses
