"""Columns in another order before the N:M choice (as RIA does, Zhang et al. 2024).

A permutation spreads columns of large scores over the blocks, so that fewer of them compete.  An
order is [K] integers: order[p] is the column that moves to position p.  Where the order folds
into the neighbouring weights the function stays the same and the permuted weight can be packed
(`fold_mlp`, `fold_value`); elsewhere a mask in permuted order is only measured, never packed.

A tail: with K = q M + t the positions of the last block are those t that exist.  It stores N of
them, or all t where t <= N, as the format does; every step below keeps it at t columns.

Scores are finite and not negative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from nmref.dtypes import Array
from nmref.errors import Code, NmrefError
from nmref.model.config import LlamaConfig
from nmref.pattern import NMPattern
from nmref.prune.choose.mask import top_n
from nmref.prune.settings import Permutation

Bool = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Order = npt.NDArray[np.intp]


def heuristic(score: F32, pattern: NMPattern) -> Order:
    """Deal the columns to the blocks in the order of their summed score: score [R, K] -> [K].

    Ascending, one column to every block, then one more in the opposite direction, and so on (a
    serpentine): position k of every block is filled in turn k, turn by turn.  With a tail of t
    columns the turns of positions t ... M-1, which the last block has not, come first.  Equal
    sums keep the lower column first.

    Raises T_SCORE.

    >>> heuristic(np.arange(8, dtype=np.float32)[None], NMPattern(2, 4)).tolist()
    [0, 3, 4, 7, 1, 2, 5, 6]
    """
    _check_score(score)
    columns = score.shape[1]
    ranked = np.argsort(score.sum(axis=0, dtype=np.float64), kind="stable")
    order = np.empty(columns, dtype=np.intp)
    tail, at = columns % pattern.block, 0
    for turn in range(pattern.block):
        position = (turn + tail) % pattern.block
        places = order[position :: pattern.block]
        dealt = ranked[at : at + len(places)]
        places[:] = dealt if turn % 2 == 0 else dealt[::-1]
        at += len(places)
    return order


def hungarian(score: F32, pattern: NMPattern, order: Order) -> Order:
    """Exchange columns between blocks, one position at a time, at the greatest gain.

    For position p, Z[g, h] is the kept score of block h, summed over the rows, when its own column
    p is replaced by that of block g; the assignment of columns to blocks with the largest sum of Z
    is taken.  To leave all in place is one of them, so the kept score never falls.

    Shapes: score [R, K], order [K] -> [K].  Raises T_SCORE, T_ARGUMENT (not a permutation).
    """
    _check_score(score)
    order = _checked(order, score.shape[1], "order").copy()
    for position in range(min(pattern.block, len(order))):
        columns = order[position :: pattern.block]  # a view: of the blocks that have the position
        scores = _exchange(score, pattern, order, position)
        from_block, to_block = linear_sum_assignment(scores, maximize=True)
        columns[to_block] = columns[from_block]
    return order


def find(score: F32, pattern: NMPattern, how: Permutation) -> Order:
    """The order that a recipe asks for; "none" is the columns as they are.

    Raises T_SCORE.
    """
    if how == "none":
        return np.arange(score.shape[1], dtype=np.intp)
    dealt = heuristic(score, pattern)
    return dealt if how == "heuristic" else hungarian(score, pattern, dealt)


def kept(score: F32, pattern: NMPattern, order: Order) -> float:
    """Sum of the scores that stay when N of every M are chosen in this order (float64)."""
    mask = permuted_mask(score, pattern, order)
    return float(score.sum(where=mask, dtype=np.float64))


def permuted_mask(
    score: F32, pattern: NMPattern, order: Order, excluded: Bool | None = None
) -> Bool:
    """The N:M choice in permuted order, scattered back: [R, K] in the weight's own order.

    It fits the pattern only after permutation, so it is for measuring and not for packing.
    `excluded` [R, K] (the outliers) is in the weight's own order too.  Ties go to the lower
    position.  Raises T_ARGUMENT.
    """
    order = _checked(order, score.shape[1], "order")
    mask = np.empty(score.shape, dtype=np.bool_)
    out = None if excluded is None else excluded[:, order]
    mask[:, order] = top_n(score[:, order], pattern, out)
    return mask


def fold_mlp(weights: Mapping[str, Array], layer: int, order: Order) -> dict[str, Array]:
    """The same MLP with its F inner channels in another order; order [F].

    down(silu(gate x) * (up x)) does not change when the rows of gate and up and the columns of
    down move together.  Weights of any dtype; returns all of `weights`, three of them new.
    Raises T_ARGUMENT.
    """
    at = f"model.layers.{layer}.mlp"
    gate, up, down = (f"{at}.{kind}_proj.weight" for kind in ("gate", "up", "down"))
    order = _checked(order, weights[down].shape[1], f"{at} order")
    moved = {gate: weights[gate][order], up: weights[up][order], down: weights[down][:, order]}
    return {**weights, **{name: np.ascontiguousarray(weight) for name, weight in moved.items()}}


def fold_value(
    weights: Mapping[str, Array], config: LlamaConfig, layer: int, orders: Sequence[Order]
) -> dict[str, Array]:
    """The same attention with the channels of every value head in another order.

    orders [G, d]: one for each key/value head, within its head_dim.  Attention mixes values over
    positions, never over channels, so the rows of v move together with the columns of o that
    belong to the H / G query heads of that group.  Queries and keys stay: RoPE ties their
    channels to frequencies.

    Returns all of `weights`, two of them new.  Raises T_ARGUMENT.
    """
    at = f"model.layers.{layer}.self_attn"
    v, o = f"{at}.v_proj.weight", f"{at}.o_proj.weight"
    if len(orders) != config.G:
        got = f"{len(orders)} orders"
        raise NmrefError(Code.T_ARGUMENT, f"{at} orders", got, f"one for each of {config.G} heads")
    dim = config.head_dim
    heads = [
        _checked(order, dim, f"{at} order of head {head}") for head, order in enumerate(orders)
    ]
    rows = np.concatenate([g * dim + order for g, order in enumerate(heads)])
    columns = value_columns(heads, config)
    moved = {v: weights[v][rows], o: weights[o][:, columns]}
    return {**weights, **{name: np.ascontiguousarray(weight) for name, weight in moved.items()}}


def value_columns(orders: Sequence[Order], config: LlamaConfig) -> Order:
    """The order [H*d] of o's columns, and so of its inputs, that goes with `fold_value`'s."""
    dim, share = config.head_dim, config.H // config.G
    return np.concatenate([h * dim + orders[h // share] for h in range(config.H)])


def value_scores(score: F32, config: LlamaConfig) -> F32:
    """Scores of o [R, H*d] as the orders of the value heads see them: [G, R * H/G, d].

    One order serves the query heads of a group, whose blocks count alike: they are stacked as
    rows.  This is the pattern's own view of o only where M divides head_dim.
    """
    share = config.H // config.G
    split = score.reshape(len(score), config.G, share, config.head_dim)
    return split.transpose(1, 0, 2, 3).reshape(config.G, len(score) * share, config.head_dim)


def _exchange(score: F32, pattern: NMPattern, order: Order, position: int) -> F64:
    """Z[g, h] up to a constant for each block h, which changes no assignment.

    With a the N-th largest score of block h without its column p, a row of h keeps max(x, a) when
    x joins, and the N - 1 scores above a whatever joins: these are left out.
    """
    own = score[:, order[position :: pattern.block]].astype(np.float64)  # [R, blocks]
    blocks = own.shape[1]
    rest = np.delete(_blocks(score[:, order], pattern)[:, :blocks], position, axis=2)
    rest.partition(-pattern.stored, axis=2)
    nth = rest[..., -pattern.stored].astype(np.float64)  # [R, blocks]
    joined = [np.maximum(own, nth[:, block, None]).sum(axis=0) for block in range(blocks)]
    return np.stack(joined, axis=1)


def _blocks(score: F32, pattern: NMPattern) -> F32:
    """[R, K] -> [R, blocks, M], with scores of 0 after the last column."""
    rows, columns = score.shape
    blocks = pattern.blocks(columns)
    padded = np.zeros((rows, blocks * pattern.block), dtype=np.float32)
    padded[:, :columns] = score
    return padded.reshape(rows, blocks, pattern.block)


def _checked(order: Order, columns: int, where: str) -> Order:
    """The order as an array, when it is a permutation of the columns."""
    array = np.asarray(order)
    integers = array.ndim == 1 and np.issubdtype(array.dtype, np.integer)
    if not integers or not np.array_equal(np.sort(array), np.arange(columns)):
        got = f"shape {list(array.shape)} of {array.dtype}"
        want = f"a permutation of 0 to {columns - 1}"
        raise NmrefError(Code.T_ARGUMENT, where, got, want)
    return array.astype(np.intp, copy=False)


def _check_score(score: F32) -> None:
    bad = np.argwhere(~(np.isfinite(score) & (score >= 0)))
    for row, column in bad[:1].tolist():
        where, got = f"row {row} column {column}", f"score {score[row, column]}"
        raise NmrefError(Code.T_SCORE, where, got, "a finite one that is not negative")
