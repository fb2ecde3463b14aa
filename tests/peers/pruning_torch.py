"""The methods of nmref.prune once more, in torch and float32: the second witness.

Written from the papers' formulas and from what is known of the original programs, never from
nmref's code, which is not imported.  W is [R, K], rows = outputs; `kept` of every `block` columns
stay (most of the originals count what is pruned).

Sources: "From 2:4 to 8:16 sparsity patterns" (arXiv 2507.03052); RIA, Wanda, SparseGPT, OWL, ALPS,
GBLM-Pruner and SmoothQuant, each named where it is used.  Where an original leaves a case open
that nmref allows (an unfinished last block, salient weights beside an update) a comment says so.
"""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
functional = torch.nn.functional
INFINITY = float("inf")


# Activations.  Samples are [T, K] each.


def column_norm(samples):
    """sqrt(scaler_row) of Wanda and RIA: running mean over sequences of ||X_j||^2; [K]."""
    scaler = torch.zeros(samples[0].shape[1])
    for count, x in enumerate(samples):
        scaler *= count / (count + 1)
        scaler += torch.linalg.vector_norm(x, dim=0) ** 2 / (count + 1)
    return scaler.sqrt()


def column_max(samples):
    """max |x_j| over all tokens; [K]."""
    return torch.stack([x.abs().amax(0) for x in samples]).amax(0)


def hessian(samples):
    """SparseGPT's running H = 2/n sum of X^T X over n sequences; [K, K]."""
    h = torch.zeros(samples[0].shape[1], samples[0].shape[1])
    for count, x in enumerate(samples):
        h *= count / (count + 1)
        scaled = x * (2 / (count + 1)) ** 0.5
        h += scaled.T @ scaled
    return h


# Scores, [R, K].


def magnitude(weight):
    return weight.abs()


def wanda(weight, norm):
    return weight.abs() * norm


def relative(weight):
    """RIA's importance without activations: share of the column's sum and of the row's."""
    size = weight.abs()
    return size / size.sum(0) + size / size.sum(1)[:, None]


def ria(weight, norm, exponent=0.5):
    return relative(weight) * norm**exponent


def gradient(weight, norm, slope, alpha=100.0):
    """Wanda++ after GBLM-Pruner: `slope` is the root mean square gradient [R, K]."""
    return ((alpha * slope).abs() + norm) * weight.abs()


def smoothquant_scale(weight, largest, power):
    """s_j = (max |x_j| / max |W_:j|) ** power, both maxima at least 1e-5 (paper Eq. 1); [K]."""
    return (largest.clamp(min=1e-5) / weight.abs().amax(0).clamp(min=1e-5)) ** power


def equalized(weight, norm, scale, direction, scale_activation):
    """Weights and norms for the score alone; "divide" is the letter of Eq. 1."""
    if direction == "divide":
        return weight / scale, norm * scale if scale_activation else norm
    return weight * scale, norm / scale if scale_activation else norm


# Masks, [R, K] of booleans.


def keep_of_every(score, kept, block, closed=None):
    """Keep the largest of every block of a row, the lower column first; `closed` do not compete.

    An unfinished last block is filled with columns that lose against everything.
    """
    rows, columns = score.shape
    open_score = score if closed is None else score.masked_fill(closed, -INFINITY)
    padded = functional.pad(open_score, (0, -columns % block), value=-INFINITY)
    groups = padded.reshape(rows, -1, block)
    best = groups.argsort(dim=2, descending=True, stable=True)[:, :, :kept]
    mask = torch.zeros_like(groups, dtype=torch.bool).scatter_(2, best, True)
    mask &= groups > -INFINITY
    return mask.reshape(rows, -1)[:, :columns]


def outliers_and_base(score, kept, block, outliers):
    """(base, salient): `outliers` of every 256 columns first, then the pattern among the others."""
    salient = keep_of_every(score, outliers, 256)
    return keep_of_every(score, kept, block, closed=salient), salient


def unstructured(score, count, place):
    """`count` largest of the matrix, or count // R of every row; lower places win ties."""
    rows = score.shape[0]
    pool = score.reshape(1, -1) if place == "matrix" else score
    best = pool.argsort(dim=1, descending=True, stable=True)
    mask = torch.zeros_like(pool, dtype=torch.bool)
    mask.scatter_(1, best[:, : count if place == "matrix" else count // rows], True)
    return mask.reshape(score.shape)


# Variance correction (paper section 3.2, Eq. 2).


def population_variance(values, counted):
    """Variance of every row's counted values; [R]."""
    values, counted = values.double(), counted.double()
    total = counted.sum(1)
    mean = (values * counted).sum(1) / total
    return ((values - mean[:, None]) ** 2 * counted).sum(1) / total


def variance_factor(dense, base, salient, numerator, scope, pruned=None):
    """sqrt(Var(W_dense) / Var(W_not salient)), zeros counted; one number or [R, 1]."""
    rest = torch.ones_like(base) if salient is None else ~salient
    left = torch.where(base, dense if pruned is None else pruned, 0)
    upper = torch.ones_like(rest) if numerator == "dense" else rest
    if scope == "matrix":
        dense, left, upper, rest = (a.reshape(1, -1) for a in (dense, left, upper, rest))
    factor = (population_variance(dense, upper) / population_variance(left, rest)).sqrt()
    return factor[:, None] if scope == "row" else factor[0]


# SparseGPT.


def sparsegpt(weight, h, kept, block, *, salient=None, mask=None, columns=128, damping=0.01):
    """(weights, base mask, gaps of the choices): the block-wise update of the original.

    Not in the original: with `mask` nothing is chosen; what is `salient` neither competes nor is
    pruned, so that its error is 0 and it moves with the updates of the columns before it.
    """
    w, h = weight.clone(), h.clone()
    salient = torch.zeros_like(w, dtype=torch.bool) if salient is None else salient
    dead = h.diagonal() == 0
    h[dead, dead] = 1
    w[:, dead] = 0
    h += damping * h.diagonal().mean() * torch.eye(len(h), dtype=h.dtype)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(h))
    u = torch.linalg.cholesky(inverse, upper=True)
    base = torch.zeros_like(salient) if mask is None else mask.clone()
    gaps = []
    for start in range(0, w.shape[1], columns):
        end = min(start + columns, w.shape[1])
        now, errors = w[:, start:end].clone(), torch.zeros_like(w[:, start:end])
        for i in range(end - start):
            if mask is None and i % block == 0:
                width = slice(start + i, min(start + i + block, end))
                score = now[:, i : i + block] ** 2 / u.diagonal()[width] ** 2
                base[:, width] = keep_of_every(score, kept, block, salient[:, width])
                gaps.append(cut_gap(score, kept, block, salient[:, width]))
            stays = (base | salient)[:, start + i]
            errors[:, i] = torch.where(stays, 0, now[:, i]) / u[start + i, start + i]
            now[:, i:] -= torch.outer(errors[:, i], u[start + i, start + i : end])
            now[~stays, i] = 0
        w[:, start:end] = now
        w[:, end:] -= errors @ u[start:end, end:]
    return w, base, torch.cat(gaps, 1) if gaps else None


def cut_gap(score, kept, block, closed=None):
    """How far the last that is kept is above the first that is not, relative; [R, blocks]."""
    open_score = score if closed is None else score.masked_fill(closed, -INFINITY)
    padded = functional.pad(open_score, (0, -score.shape[1] % block), value=-INFINITY)
    ranked = padded.reshape(len(score), -1, block).sort(dim=2, descending=True).values
    last, first = ranked[:, :, kept - 1], ranked[:, :, kept]
    gap = (last - first) / last.abs().clamp(min=1e-30)
    return torch.where(first == -INFINITY, INFINITY, gap)  # no more candidates than places


# ALPS.


def damped(h, damping):
    return h + damping * h.diagonal().mean() * torch.eye(len(h), dtype=h.dtype)


def alps(weight, h, kept, block, *, first="dense", damping=0.01, iterations=300):
    """(weights, mask) of ALPS: ADMM, then ten steps of conjugate gradients on the support.

    `first`, which is not sure: D begins as the N:M choice of the "dense" weights, or as "zero".
    """
    h = damped(h.double(), damping)
    norm = h.diagonal().sqrt() + 1e-8
    h = h / norm / norm[:, None]
    start = (weight.double() * norm).T  # [K, R], as in the paper
    target = h @ start
    values, vectors = torch.linalg.eigh(h)
    rho, has_grown = 0.1, False
    before = keep_of_every((start**2).T, kept, block).T & (first == "dense")
    d, v = torch.where(before, start, 0), torch.zeros_like(start)
    for step in range(1, iterations + 1):
        b = vectors @ ((vectors.T @ (target - v + rho * d)) / (values + rho)[:, None])
        candidate = b + v / rho
        support = keep_of_every((candidate**2).T, kept, block).T
        d = torch.where(support, candidate, 0)
        v = v + rho * (b - d)
        if step % 3 == 0:
            change = (support != before).sum() / support.sum()
            before = support
            if change > 0:
                rho *= 1.3 if change > 0.1 else 1.2 if change > 0.005 else 1.1
                has_grown = True
            elif has_grown:
                break
            else:
                rho /= 5
    refined = conjugate_gradients(h, target, d, support, 10)
    return (refined / norm[:, None]).T.to(weight.dtype), support.T


def conjugate_gradients(h, target, x, support, steps):
    """Every column of h x = target by itself, where its support is."""
    residual = (target - h @ x) * support
    direction, square = residual, (residual**2).sum(0)
    for _ in range(steps):
        image = (h @ direction) * support
        length = square / (direction * image).sum(0).clamp(min=1e-300)
        x = x + length * direction
        residual = residual - length * image
        previous, square = square, (residual**2).sum(0)
        direction = residual + square / previous.clamp(min=1e-300) * direction
    return x


def refit(weight, h, support):
    """The weights on a support that come nearest to W X, row by row; float64."""
    h, weight = h.double(), weight.double()
    result = torch.zeros_like(weight)
    for row in range(len(weight)):
        at = support[row].nonzero()[:, 0]
        result[row, at] = torch.linalg.solve(h[at][:, at], (h @ weight[row])[at])
    return result


def output_error(dense, weight, h):
    """||X (W - W')||^2 of the Hessian's samples, up to a constant; float64."""
    difference = dense.double() - weight.double()
    return float(((difference @ h.double()) * difference).sum())


# OWL.


def owl_share(scores, multiple):
    """Percent of a layer's scores, all its linears together, above multiple times their mean."""
    together = torch.cat([score.flatten() for score in scores])
    return 100 * float((together > multiple * together.mean()).sum()) / together.numel()


def owl_kept(shares, kept, span):
    """What every layer keeps of a block: more where its share of large scores is greater."""
    shares = torch.tensor(shares, dtype=torch.float64)
    relative_share = (shares - shares.min()) / (shares.max() - shares.min()) * span
    return [kept + int(t) for t in torch.round(relative_share - relative_share.mean())]


# RIA's channel permutation.  An order lists columns; blocks are cut from it.


def deal(score, block):
    """Columns sorted by their sums, dealt to the blocks back and forth; [K], K a multiple of M."""
    order = score.sum(0).argsort(stable=True)
    dealt = torch.empty_like(order)
    for place, chunk in enumerate(order.chunk(block)):
        dealt[place::block] = chunk.flip(0) if place % 2 else chunk
    return dealt


def kept_sum(score, kept, block, order):
    """Sum of the scores that stay when blocks are cut from the columns in this order."""
    permuted = score[:, order].double()
    return float(permuted[keep_of_every(permuted, kept, block)].sum())


def assign(score, kept, block, order):
    """One round of RIA's Hungarian step: place by place, the best exchange between the blocks."""
    from scipy.optimize import linear_sum_assignment  # what the original uses

    groups = order.reshape(-1, block).clone()
    for place in range(block):
        columns = score[:, groups].double()  # [R, G, M]
        others = torch.cat([columns[:, :, :place], columns[:, :, place + 1 :]], 2)
        gain = torch.zeros(len(groups), len(groups))
        for g in range(len(groups)):
            moved = columns[:, g, place][:, None, None].expand(-1, len(groups), 1)
            gain[g] = torch.cat([others, moved], 2).topk(kept, 2).values.sum((0, 2))
        _, to = linear_sum_assignment(gain.numpy(), maximize=True)
        groups[torch.from_numpy(to), place] = groups[:, place].clone()
    return groups.reshape(-1)
