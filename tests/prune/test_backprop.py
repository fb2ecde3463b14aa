"""The block against llama.block and plain loops; its derivatives against finite differences."""

import cmath
import math

import numpy as np
import pytest

import nmref
from nmref.errors import NmrefError
from nmref.linear import FAST
from nmref.model import llama
from nmref.model.checkpoint import open_checkpoint
from nmref.prune.tune import attention, backprop
from tests.prune.blocks import KINDS, activations, block_of, config_of

LAYER = 1
TOKENS = 7
Q, DOWN = backprop.names(LAYER)[1], backprop.names(LAYER)[8]


def naive_block(weights, config, x):
    """SPEC 8.32 with lists of Python floats; RoPE as multiplication by e^(i angle)."""
    attn_gain, q, k, v, o, mlp_gain, gate, up, down = (
        weights[name].tolist() for name in backprop.names(LAYER)
    )
    dim, share, half = config.head_dim, config.H // config.G, config.head_dim // 2

    def linear(w, x):
        return [math.fsum(a * b for a, b in zip(row, x, strict=True)) for row in w]

    def norm(x, gain):
        rms = math.sqrt(math.fsum(a * a for a in x) / len(x) + config.rms_norm_eps)
        return [a / rms * g for a, g in zip(x, gain, strict=True)]

    def turned(x, at):
        z = [complex(x[i], x[i + half]) for i in range(half)]
        z = [a * cmath.exp(1j * at * config.rope.theta ** (-2 * i / dim)) for i, a in enumerate(z)]
        return [a.real for a in z] + [a.imag for a in z]

    keys, values, out = [], [], []
    for t, row in enumerate(x.tolist()):
        n = norm(row, attn_gain)
        parts = [linear(w, n) for w in (q, k, v)]
        query, key, value = ([p[i : i + dim] for i in range(0, len(p), dim)] for p in parts)
        keys.append([turned(head, t) for head in key])
        values.append(value)
        mixed = []
        first = 0 if config.sliding_window is None else max(0, t + 1 - config.sliding_window)
        for h, head in enumerate(query):
            head = turned(head, t)
            odds = [
                math.exp(math.fsum(a * b for a, b in zip(head, key[h // share], strict=True)))
                ** (1 / math.sqrt(dim))
                for key in keys[first:]
            ]
            mixed += [
                math.fsum(
                    p * value[h // share][i] for p, value in zip(odds, values[first:], strict=True)
                )
                / math.fsum(odds)
                for i in range(dim)
            ]
        middle = [a + b for a, b in zip(row, linear(o, mixed), strict=True)]
        m = norm(middle, mlp_gain)
        act = [
            g / (1 + math.exp(-g)) * u for g, u in zip(linear(gate, m), linear(up, m), strict=True)
        ]
        out.append([a + b for a, b in zip(middle, linear(down, act), strict=True)])
    return np.array(out)


def case(kind, dtype=np.float64, tokens=TOKENS):
    """config, weights, x, dy."""
    config = config_of(kind)
    dy = activations(config, tokens, 5, dtype)
    return config, block_of(config, LAYER, dtype=dtype), activations(config, tokens, 4, dtype), dy


def derivatives(config, weights, x, dy):
    """All derivatives by name, "x" among them."""
    _, tape = backprop.forward(weights, config, LAYER, x)
    gradients, dx = backprop.backward(weights, config, LAYER, tape, dy)
    return gradients | {"x": dx}


@pytest.fixture(params=[1, 9, attention._ROWS], ids="{} rows".format)
def chunk(request, monkeypatch):
    """Chunks of one query, of a few, of all."""
    monkeypatch.setattr(attention, "_ROWS", request.param)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "llama3"])
def test_forward_is_the_loops(kind):
    config, weights, x, _ = case(kind)
    y, _ = backprop.forward(weights, config, LAYER, x)
    np.testing.assert_allclose(y, naive_block(weights, config, x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("ops", [llama.GOLDEN, FAST], ids=["golden", "fast"])
@pytest.mark.parametrize("tokens", [1, 2, 150])
@pytest.mark.parametrize("kind", KINDS)
def test_forward_is_that_of_llama(kind, tokens, ops):
    config, weights, x, _ = case(kind, np.float32, tokens)
    y, _ = backprop.forward(weights, config, LAYER, x)
    assert y.dtype == np.float32
    want = llama.block(weights, config, LAYER, x, ops=ops)
    np.testing.assert_allclose(y, want, rtol=2e-4, atol=2e-5)


def test_forward_of_a_real_block(shared_data):
    opened = open_checkpoint(shared_data / "models" / "stories260k-hf")
    weights = opened.weights()
    x = llama.embed(weights, list(range(1, 100)))
    y, _ = backprop.forward(weights, opened.config, 0, x)
    want = llama.block(weights, opened.config, 0, x, ops=FAST)
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("kind", KINDS)
def test_backward_is_the_finite_difference(kind):
    """Central differences of sum(y dy) in float64, at elements of every tensor and of x."""
    config, weights, x, dy = case(kind)
    found = derivatives(config, weights, x, dy)
    rng, h = np.random.default_rng(6), 1e-5
    for name in [*weights, "x"]:
        array = x if name == "x" else weights[name]
        assert found[name].shape == array.shape
        assert found[name].dtype == np.float64
        for index in rng.choice(array.size, 8, replace=False):
            place, sides = np.unravel_index(index, array.shape), []
            for step in (h, -h):
                moved = array.copy()
                moved[place] += step
                others = weights if name == "x" else weights | {name: moved}
                y, _ = backprop.forward(others, config, LAYER, moved if name == "x" else x)
                sides.append(float(np.sum(y * dy)))
            want = (sides[0] - sides[1]) / (2 * h)
            assert found[name][place] == pytest.approx(want, rel=1e-6, abs=1e-7), (name, place)


@pytest.mark.parametrize("kind", KINDS)
def test_backward_in_float32_is_near_that_in_float64(kind):
    config, weights, x, dy = case(kind, np.float32, 150)
    found = derivatives(config, weights, x, dy)
    wide = {name: array.astype(np.float64) for name, array in weights.items()}
    want = derivatives(config, wide, x.astype(np.float64), dy.astype(np.float64))
    for name, array in found.items():
        assert array.dtype == np.float32
        error = np.linalg.norm(array - want[name]) / np.linalg.norm(want[name])
        assert error < 1e-5, name


@pytest.mark.parametrize("kind", KINDS)
def test_size_of_chunks_is_no_matter(kind, monkeypatch):
    arguments = case(kind, tokens=40)
    want = derivatives(*arguments)
    for rows in (1, 5, 50):
        monkeypatch.setattr(attention, "_ROWS", rows)
        monkeypatch.setattr(backprop, "_ROWS", rows)
        for name, array in derivatives(*arguments).items():
            np.testing.assert_allclose(array, want[name], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_backward_is_linear_in_dy(kind):
    config, weights, x, dy = case(kind)
    other = activations(config, TOKENS, 9, np.float64)
    one, two = derivatives(config, weights, x, dy), derivatives(config, weights, x, other)
    for name, array in derivatives(config, weights, x, 2 * dy - other).items():
        np.testing.assert_allclose(array, 2 * one[name] - two[name], atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_derivative_reaches_what_the_position_saw(kind):
    """Exactly 0 later than the position, and before its window."""
    config, weights, x, dy = case(kind)
    for position in range(TOKENS):
        alone = np.zeros_like(dy)
        alone[position] = dy[position]
        dx = derivatives(config, weights, x, alone)["x"]
        first = max(0, position + 1 - (config.sliding_window or TOKENS))
        reached = (dx != 0).any(axis=1)
        assert reached.tolist() == [first <= t <= position for t in range(TOKENS)]


def test_arguments_and_tape_stay_as_they_are():
    config, weights, x, dy = case("grouped", np.float32)
    for array in (*weights.values(), x, dy):
        array.setflags(write=False)
    _, tape = backprop.forward(weights, config, LAYER, x)
    first, dx = backprop.backward(weights, config, LAYER, tape, dy)
    again, dx_again = backprop.backward(weights, config, LAYER, tape, dy)
    assert np.array_equal(dx, dx_again)
    assert all(np.array_equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("size", [1e2, 1e4])
def test_large_activations_overflow_nowhere(size):
    """Sigmoid and softmax far out: finite, without a warning."""
    config, weights, x, dy = case("grouped", np.float32)
    gains = {name: w * np.float32(size) for name, w in weights.items() if w.ndim == 1}
    for array in derivatives(config, weights | gains, x, dy).values():
        assert np.isfinite(array).all()


def test_names_and_order_of_the_gradients():
    config, weights, x, dy = case("llama")
    assert list(derivatives(config, weights, x, dy)) == [*backprop.names(LAYER), "x"]
    assert set(backprop.names(0)) == {
        name.replace("layers.1.", "layers.0.") for name in backprop.names(1)
    }


BAD_X = {
    "float16 [7, 12]": lambda x: x.astype(np.float16),
    "float32 [7, 11]": lambda x: x[:, :11],
    "float32 [1, 7, 12]": lambda x: x[None],
    "float32 [0, 12]": lambda x: x[:0],
}


@pytest.mark.parametrize("got", BAD_X)
def test_refuses_x(got):
    config, weights, x, _ = case("llama", np.float32)
    with pytest.raises(NmrefError) as error:
        backprop.forward(weights, config, LAYER, BAD_X[got](x))
    assert str(error.value) == f"T_ARGUMENT x: {got}, want float32 or float64 [T, 12]"


BAD_WEIGHT = {
    "none": lambda w: None,
    "a SparseWeight": lambda w: nmref.encode(np.zeros((4, 4), dtype=np.float32), "2:4"),
    "float32 [11, 12]": lambda w: w[:11],
    "float64 [16, 12]": lambda w: w.astype(np.float64),
}


@pytest.mark.parametrize("got", BAD_WEIGHT)
def test_refuses_a_tensor(got):
    config, weights, x, dy = case("llama", np.float32)
    _, tape = backprop.forward(weights, config, LAYER, x)
    weights[Q] = BAD_WEIGHT[got](weights[Q])
    for work in (
        lambda: backprop.forward(weights, config, LAYER, x),
        lambda: backprop.backward(weights, config, LAYER, tape, dy),
    ):
        with pytest.raises(NmrefError) as error:
            work()
        assert str(error.value) == f"T_TENSOR {Q}: {got}, want float32 [16, 12]"


def test_refuses_dy_of_another_shape():
    config, weights, x, dy = case("llama", np.float32)
    _, tape = backprop.forward(weights, config, LAYER, x)
    message = r"^T_ARGUMENT dy: float32 \[6, 12\], want float32 \[7, 12\]$"
    with pytest.raises(NmrefError, match=message):
        backprop.backward(weights, config, LAYER, tape, dy[:6])


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_gradient_norms_are_the_root_mean_square(threads):
    config, weights, _, _ = case("grouped")
    inputs = [activations(config, count, count, np.float64) for count in (3, 5, 4)]
    squares = {}
    for x in inputs:
        y, _ = backprop.forward(weights, config, LAYER, x)
        dy = y / math.sqrt(math.fsum(y.ravel().tolist()[i] ** 2 for i in range(y.size)))
        for name, array in derivatives(config, weights, x, dy).items():
            squares.setdefault(name, []).append(array**2)
    found = backprop.gradient_norms(weights, config, LAYER, iter(inputs), threads)
    assert list(found) == [name for name in weights if weights[name].ndim == 2]
    for name, array in found.items():
        np.testing.assert_allclose(array, np.sqrt(sum(squares[name]) / 3), rtol=1e-12)


def test_gradient_norm_is_a_slope():
    """Finite difference of ||block(x)||."""
    config, weights, x, _ = case("window")
    found = backprop.gradient_norms(weights, config, LAYER, [x])[DOWN][2, 3]
    sides = []
    for step in (1e-5, -1e-5):
        moved = weights[DOWN].copy()
        moved[2, 3] += step
        y, _ = backprop.forward(weights | {DOWN: moved}, config, LAYER, x)
        sides.append(np.linalg.norm(y))
    assert found == pytest.approx(abs(sides[0] - sides[1]) / 2e-5, rel=1e-6)


def test_gradient_norms_of_an_output_of_zero_are_zero():
    config, weights, x, _ = case("llama", np.float32)
    found = backprop.gradient_norms(weights, config, LAYER, [np.zeros_like(x)])
    assert all((array == 0).all() for array in found.values())


def test_gradient_norms_refuse():
    config, weights, x, _ = case("llama", np.float32)
    with pytest.raises(
        NmrefError, match=r"^T_ARGUMENT gradient norms: no samples, want at least one$"
    ):
        backprop.gradient_norms(weights, config, LAYER, [])
    bad = x.copy()
    bad[3, 5] = np.nan
    message = (
        r"^T_SCORE model.layers.1 sample 1: an output of norm nan, "
        r"want finite activations and weights$"
    )
    with pytest.raises(NmrefError, match=message):
        backprop.gradient_norms(weights, config, LAYER, [x, bad, x])
