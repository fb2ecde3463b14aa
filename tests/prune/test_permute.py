"""Channel permutation: laws of the orders, naive re-statements, folds that change no output."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from nmref.errors import NmrefError
from nmref.linear import FAST
from nmref.model import llama
from nmref.model.checkpoint import open_checkpoint
from nmref.model.config import expected_shapes, parse_config
from nmref.numerics import GOLDEN
from nmref.pattern import NMPattern
from nmref.prune.choose import permute
from nmref.prune.choose.mask import top_n
from nmref.prune.choose.score import magnitude

PATTERNS = [NMPattern(*nm) for nm in ((1, 4), (2, 4), (3, 4), (4, 8), (8, 16), (16, 32))]
COLUMNS = [1, 3, 4, 5, 44, 64, 172]

CONFIG = parse_config(
    {
        "model_type": "llama",
        "hidden_size": 16,
        "intermediate_size": 44,
        "num_hidden_layers": 1,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": 16,
        "max_position_embeddings": 32,
        "rms_norm_eps": 1e-5,
    }
)
GATE, UP, DOWN = (f"model.layers.0.mlp.{kind}_proj.weight" for kind in ("gate", "up", "down"))
VALUE, OUT = (f"model.layers.0.self_attn.{kind}_proj.weight" for kind in "vo")


def skewed(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Scores whose columns differ in size, and no two sums are equal."""
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.standard_normal(columns))
    return (np.abs(rng.standard_normal((rows, columns))) * scale).astype(np.float32)


def blocks_of(order, pattern: NMPattern) -> list[list[int]]:
    columns = [int(column) for column in order]
    return [columns[i : i + pattern.block] for i in range(0, len(columns), pattern.block)]


def naive_kept(score, pattern: NMPattern, order) -> float:
    return math.fsum(
        kept
        for row in score.astype(float).tolist()
        for block in blocks_of(order, pattern)
        for kept in sorted((row[column] for column in block), reverse=True)[: pattern.stored]
    )


def naive_heuristic(score, pattern: NMPattern) -> list[int]:
    """Hand the sorted columns out one by one: a hand of cards for every block."""
    rows, columns = score.shape
    sums = [math.fsum(float(score[r, c]) for r in range(rows)) for c in range(columns)]
    deck = sorted(range(columns), key=lambda c: (sums[c], c))
    blocks, tail = pattern.blocks(columns), columns % pattern.block
    positions = [*range(tail, pattern.block), *range(tail)]
    hands = [[None] * pattern.block for _ in range(blocks)]
    for turn, position in enumerate(positions):
        players = [b for b in range(blocks) if b * pattern.block + position < columns]
        for block in players if turn % 2 == 0 else reversed(players):
            hands[block][position] = deck.pop(0)
    return [column for hand in hands for column in hand if column is not None]


def naive_hungarian(score, pattern: NMPattern, order) -> list[int]:
    """For every position, try all ways to hand its columns round."""
    order = [int(column) for column in order]
    for position in range(min(pattern.block, len(order))):
        places = list(range(position, len(order), pattern.block))
        ways = []
        for columns in itertools.permutations([order[place] for place in places]):
            way = list(order)
            for place, column in zip(places, columns, strict=True):
                way[place] = column
            ways.append(way)
        order = max(ways, key=lambda way: naive_kept(score, pattern, way))
    return order


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("columns", COLUMNS)
def test_orders_are_permutations_and_each_step_keeps_no_less(pattern, columns):
    score = skewed(6, columns, columns)
    dealt = permute.heuristic(score, pattern)
    before = dealt.copy()
    moved = permute.hungarian(score, pattern, dealt)
    assert sorted(dealt) == sorted(moved) == list(range(columns))
    assert np.array_equal(dealt, before)  # a new order, the given one is not touched
    least = permute.kept(score, pattern, dealt)
    assert permute.kept(score, pattern, moved) >= least * (1 - 1e-12)


@pytest.mark.parametrize("columns", [64, 172, 300])
@pytest.mark.parametrize("pattern", PATTERNS[1:], ids=str)
def test_both_steps_help_where_columns_differ(pattern, columns):
    score = skewed(32, columns)
    plain, dealt, moved = (
        permute.kept(score, pattern, permute.find(score, pattern, how))
        for how in ("none", "heuristic", "hungarian")
    )
    assert plain < dealt < moved


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("columns", COLUMNS)
def test_heuristic_deals_the_columns(pattern, columns):
    score = skewed(5, columns, 1)
    assert permute.heuristic(score, pattern).tolist() == naive_heuristic(score, pattern)


def test_heuristic_without_a_tail_is_the_original_serpentine():
    """Turn k fills positions k, k + M, k + 2 M, ...; odd turns backwards."""
    score, order = skewed(5, 48, 2), np.empty(48, dtype=int)
    ranked = np.argsort(score.astype(np.float64).sum(axis=0))
    for k, chunk in enumerate(ranked.reshape(16, 3)):
        order[k::16] = chunk if k % 2 == 0 else chunk[::-1]
    assert permute.heuristic(score, NMPattern(8, 16)).tolist() == order.tolist()


def test_heuristic_keeps_equal_columns_in_their_order():
    score = np.ones((2, 8), dtype=np.float32)
    assert permute.heuristic(score, NMPattern(2, 4)).tolist() == [0, 3, 4, 7, 1, 2, 5, 6]


def test_heuristic_with_a_tail_gives_the_short_block_large_columns():
    """The last block keeps N of fewer columns: they should be worth keeping."""
    score = np.arange(1, 11, dtype=np.float32)[None]  # 4 + 4 + 2 columns
    order = permute.heuristic(score, NMPattern(2, 4))
    assert sorted(order[8:].tolist()) == [6, 7]  # of the six largest, each block has two
    assert permute.kept(score, NMPattern(2, 4), order) == sum(range(5, 11))


@pytest.mark.parametrize("columns", [3, 4, 7, 8, 10, 12, 14])
@pytest.mark.parametrize("pattern", PATTERNS[:4], ids=str)
def test_hungarian_takes_the_best_exchange_of_every_position(pattern, columns):
    rng = np.random.default_rng(columns)
    score = rng.random((24, columns)).astype(np.float32)  # rows enough that no two ways are equal
    order = rng.permutation(columns)
    assert permute.hungarian(score, pattern, order).tolist() == naive_hungarian(
        score, pattern, order
    )


def test_hungarian_separates_what_one_block_cannot_keep():
    """Rows that want the columns 0 to 3 all together: two of them move to the other block."""
    score = np.array([[9, 9, 9, 9, 1, 1, 1, 1]], dtype=np.float32)
    order = permute.hungarian(score, NMPattern(2, 4), np.arange(8))
    assert permute.kept(score, NMPattern(2, 4), np.arange(8)) == 20
    assert permute.kept(score, NMPattern(2, 4), order) == 36


def test_hungarian_of_zeros_and_of_no_rows():
    for score in (np.zeros((3, 20), np.float32), np.zeros((0, 20), np.float32)):
        order = permute.hungarian(score, NMPattern(2, 4), np.arange(20))
        assert sorted(order) == list(range(20))


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("columns", COLUMNS)
def test_kept_is_the_sum_of_the_largest(pattern, columns):
    score = skewed(5, columns, 4)
    order = np.random.default_rng(columns).permutation(columns)
    want = naive_kept(score, pattern, order)
    assert permute.kept(score, pattern, order) == pytest.approx(want, rel=1e-12)


def test_kept_does_not_depend_on_the_places_inside_a_block_nor_on_the_order_of_blocks():
    score, pattern = skewed(5, 64, 5), NMPattern(8, 16)
    rng = np.random.default_rng(6)
    order = rng.permutation(64)
    blocks = [rng.permutation(block) for block in order.reshape(4, 16)[[2, 0, 3, 1]]]
    want = permute.kept(score, pattern, order)
    assert permute.kept(score, pattern, np.concatenate(blocks)) == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("columns", COLUMNS)
def test_permuted_mask_is_the_choice_scattered_back(pattern, columns):
    rng = np.random.default_rng(columns)
    score = rng.integers(0, 6, (4, columns)).astype(np.float32)  # ties everywhere
    excluded = rng.random(score.shape) < 0.2
    order = rng.permutation(columns)
    mask = permute.permuted_mask(score, pattern, order, excluded)
    for row in range(4):
        want = set()
        for block in blocks_of(order, pattern):
            free = [column for column in block if not excluded[row, column]]
            want |= set(sorted(free, key=lambda c, r=row: -score[r, c])[: pattern.stored])
        assert set(np.flatnonzero(mask[row]).tolist()) == want


def test_permuted_mask_of_the_identity_is_top_n():
    score = skewed(4, 44)
    mask = permute.permuted_mask(score, NMPattern(8, 16), np.arange(44))
    assert np.array_equal(mask, top_n(score, NMPattern(8, 16)))


def test_find_follows_the_recipe():
    score, pattern = skewed(4, 44), NMPattern(8, 16)
    dealt = permute.heuristic(score, pattern)
    assert permute.find(score, pattern, "none").tolist() == list(range(44))
    assert np.array_equal(permute.find(score, pattern, "heuristic"), dealt)
    moved = permute.hungarian(score, pattern, dealt)
    assert np.array_equal(permute.find(score, pattern, "hungarian"), moved)


# Folds


class WholeNumbers:
    """Operations that map whole numbers to whole numbers: every sum is exact in any order."""

    def linear(self, x, weight):
        return x @ weight.T

    def scores(self, q, k):
        return q @ k.T

    def mix(self, probs, v, first, past):
        return probs @ v

    def softmax(self, x, allowed):
        return np.where(allowed, np.rint(x) % 3, 0).astype(np.float32)

    def rms_norm(self, x, gain, eps):
        return (x % 5 - 2) * gain

    def silu(self, x):
        return x * x % 7 - 3


def random_weights(config=CONFIG, whole: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    shapes = expected_shapes(config).items()
    if whole:
        return {n: rng.integers(-2, 3, shape).astype(np.float32) for n, shape in shapes}
    return {n: (rng.standard_normal(shape) * 0.3).astype(np.float32) for n, shape in shapes}


def random_orders(config=CONFIG) -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(8)
    return rng.permutation(config.F), [rng.permutation(config.head_dim) for _ in range(config.G)]


def inputs(whole: bool = False) -> np.ndarray:
    rng = np.random.default_rng(9)
    x = rng.integers(-3, 4, (9, CONFIG.D)) if whole else rng.standard_normal((9, CONFIG.D))
    return x.astype(np.float32)


def run(weights, x, ops, config=CONFIG) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    seen: dict[str, np.ndarray] = {}
    y = llama.block(
        weights, config, 0, x, tap=lambda name, a: seen.update({name: a.copy()}), ops=ops
    )
    return y, {name.removeprefix("layers.0."): array for name, array in seen.items()}


@pytest.mark.parametrize("window", [None, 4])
def test_folds_change_no_output_where_sums_are_exact(window):
    config = replace(CONFIG, sliding_window=window)
    weights, x = random_weights(config, whole=True), inputs(whole=True)
    mlp, heads = random_orders(config)
    want, seen = run(weights, x, WholeNumbers(), config)
    assert np.abs(want).max() < 2**22  # every partial sum is exact
    assert len(np.unique(seen["activation"])) > 20
    assert len(np.unique(seen["attention"])) > 20
    by_mlp = permute.fold_mlp(weights, 0, mlp)
    by_value = permute.fold_value(weights, config, 0, heads)
    both = permute.fold_value(by_mlp, config, 0, heads)
    for folded in (by_mlp, by_value, both):
        got, _ = run(folded, x, WholeNumbers(), config)
        assert np.array_equal(got, want)


def test_folds_permute_the_inner_channels_bit_for_bit():
    """With the golden operations a channel is the same bits wherever it stands."""
    weights, x = random_weights(), inputs()
    mlp, heads = random_orders()
    want, plain = run(weights, x, GOLDEN)
    got, folded = run(
        permute.fold_value(permute.fold_mlp(weights, 0, mlp), CONFIG, 0, heads), x, GOLDEN
    )
    for name in ("q_rope", "k_rope", "scores", "probs"):
        assert np.array_equal(folded[name], plain[name])
    share = CONFIG.H // CONFIG.G
    columns = [8 * h + c for h in range(CONFIG.H) for c in heads[h // share]]
    assert permute.value_columns(heads, CONFIG).tolist() == columns
    assert np.array_equal(folded["attention"], plain["attention"][:, columns])
    np.testing.assert_allclose(got, want, rtol=0, atol=4e-6)

    alone, seen = run(permute.fold_mlp(weights, 0, mlp), x, GOLDEN)
    for name in ("gate", "up", "activation"):
        assert np.array_equal(seen[name], plain[name][:, mlp])
    np.testing.assert_allclose(alone, want, rtol=0, atol=4e-6)


def test_folds_leave_a_real_model_as_it_is(shared_data):
    """Every layer of a trained model, each by its own scores; its K = 172 has a tail."""
    checkpoint = open_checkpoint(shared_data / "models" / "stories260k-hf")
    config, weights = checkpoint.config, dict(checkpoint.weights())
    tokens, pattern = np.arange(40) * 7 % config.V, NMPattern(2, 4)
    want = llama.forward(weights, config, tokens, ops=FAST)
    for layer in range(config.num_hidden_layers):
        down, o = (
            f"model.layers.{layer}.{k}.weight" for k in ("mlp.down_proj", "self_attn.o_proj")
        )
        score, of_o = magnitude(weights[down]), magnitude(weights[o])
        order = permute.find(score, pattern, "hungarian")
        heads = [permute.find(s, pattern, "hungarian") for s in permute.value_scores(of_o, config)]
        weights = permute.fold_mlp(weights, layer, order)
        weights = permute.fold_value(weights, config, layer, heads)
        for name, before in ((down, score), (o, of_o)):
            plain = permute.kept(before, pattern, np.arange(before.shape[1]))
            after = magnitude(weights[name])
            assert permute.kept(after, pattern, np.arange(after.shape[1])) > plain
        assert np.array_equal(
            top_n(magnitude(weights[down]), pattern),
            permute.permuted_mask(score, pattern, order)[:, order],
        )
    got = llama.forward(weights, config, tokens, ops=FAST)
    assert not np.array_equal(got, want)  # something did move
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max())


def test_folds_leave_their_input_alone_and_keep_dtypes():
    weights = {name: array.astype(np.float16) for name, array in random_weights().items()}
    copies = {name: array.copy() for name, array in weights.items()}
    mlp, heads = random_orders()
    by_mlp = permute.fold_mlp(weights, 0, mlp)
    by_value = permute.fold_value(weights, CONFIG, 0, heads)
    assert all(np.array_equal(weights[name], copies[name]) for name in weights)
    for folded, moved in ((by_mlp, {GATE, UP, DOWN}), (by_value, {VALUE, OUT})):
        assert list(folded) == list(weights)
        assert {name for name in weights if folded[name] is not weights[name]} == moved
        for name in moved:
            assert folded[name].dtype == np.float16
            assert folded[name].flags.c_contiguous
            assert not np.array_equal(folded[name], weights[name])
    assert np.array_equal(by_mlp[GATE], weights[GATE][mlp])
    assert np.array_equal(by_mlp[DOWN], weights[DOWN][:, mlp])


def test_value_scores_stack_the_heads_of_a_group():
    score = skewed(5, CONFIG.H * CONFIG.head_dim)
    stacked = permute.value_scores(score, CONFIG)
    assert stacked.shape == (2, 15, 8)
    for g, row, share, c in itertools.product(range(2), range(5), range(3), range(8)):
        assert stacked[g, row * 3 + share, c] == score[row, (g * 3 + share) * 8 + c]


def test_kept_of_stacked_heads_is_kept_of_the_whole():
    """Where M divides head_dim, what the heads' own orders keep is what the fold keeps."""
    pattern, score = NMPattern(2, 4), skewed(5, CONFIG.H * CONFIG.head_dim)
    stacked = permute.value_scores(score, CONFIG)
    heads = [permute.find(s, pattern, "hungarian") for s in stacked]
    apart = sum(permute.kept(s, pattern, order) for s, order in zip(stacked, heads, strict=True))
    weights = {VALUE: np.zeros((16, 1), np.float32), OUT: score}
    folded = permute.fold_value(weights, CONFIG, 0, heads)[OUT]
    whole = permute.kept(folded, pattern, np.arange(score.shape[1]))
    assert whole == pytest.approx(apart, rel=1e-12)


# Refusals

RANGE = "want a permutation of 0 to 3$"
NOT_ORDERS = {
    "twice": ([0, 1, 2, 2], rf"shape \[4\] of int64, {RANGE}"),
    "too short": ([0, 1, 2], rf"shape \[3\] of int64, {RANGE}"),
    "negative": ([0, 1, 2, -1], rf"shape \[4\] of int64, {RANGE}"),
    "two axes": ([[0, 1], [2, 3]], rf"shape \[2, 2\] of int64, {RANGE}"),
    "floats": ([0.0, 1.0, 2.0, 3.0], rf"shape \[4\] of float64, {RANGE}"),
}


@pytest.mark.parametrize(("order", "message"), NOT_ORDERS.values(), ids=NOT_ORDERS)
def test_an_order_is_a_permutation(order, message):
    score, pattern = np.ones((2, 4), np.float32), NMPattern(1, 2)
    order = np.array(order)
    for call in (permute.kept, permute.permuted_mask, permute.hungarian):
        with pytest.raises(NmrefError, match=rf"^T_ARGUMENT order: {message}"):
            call(score, pattern, order)
    weights = {GATE: score.T, UP: score.T, DOWN: score, VALUE: np.ones((8, 2)), OUT: score}
    with pytest.raises(NmrefError, match=rf"^T_ARGUMENT model\.layers\.0\.mlp order: {message}"):
        permute.fold_mlp(weights, 0, order)
    config = replace(CONFIG, num_attention_heads=2, head_dim=4)
    where = r"model\.layers\.0\.self_attn order of head 1"
    with pytest.raises(NmrefError, match=rf"^T_ARGUMENT {where}: {message}"):
        permute.fold_value(weights, config, 0, [np.arange(4), order])


def test_fold_value_takes_one_order_for_each_key_value_head():
    message = (
        r"^T_ARGUMENT model\.layers\.0\.self_attn orders: 6 orders, want one for each of 2 heads$"
    )
    with pytest.raises(NmrefError, match=message):
        permute.fold_value(random_weights(), CONFIG, 0, [np.arange(8)] * 6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_scores_are_finite_and_not_negative(value):
    score, pattern = np.ones((3, 8), np.float32), NMPattern(2, 4)
    score[1, 6] = value
    message = rf"^T_SCORE row 1 column 6: score {value}, want a finite one that is not negative$"
    with pytest.raises(NmrefError, match=message):
        permute.heuristic(score, pattern)
    with pytest.raises(NmrefError, match=message):
        permute.hungarian(score, pattern, np.arange(8))
