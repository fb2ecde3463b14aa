"""nmref.prune against the second witness (pruning_torch.py), on random and real matrices.

Masks must be equal wherever the scores are not tied.  Two scores are tied when they differ by less
than TIED of themselves, which is some times what float32 formulas differ by; `undecided` counts
the places where that leaves a choice, and there must be few.  Given the same score bits, masks must
be equal everywhere: of equal scores the lower column stays.

SmolLM2-135M's first block is in when `nmref fetch smollm2-135m --dtype F32` has been there.
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from nmref.model.fetch import cache_folder  # noqa: E402
from nmref.pattern import NMPattern  # noqa: E402
from nmref.prune.choose import (  # noqa: E402
    allocate,
    equalize,
    mask,
    permute,
    score,
)
from nmref.prune.choose import unstructured as salient  # noqa: E402
from nmref.prune.settings import Correction, Equalization  # noqa: E402
from nmref.prune.update import (  # noqa: E402
    alps,
    hessian,
    sparsegpt,
    variance,
)
from tests.peers import pruning_torch  # noqa: E402
from tests.peers.matrices_torch import (  # noqa: E402
    blocks_that,
    close_update,
    counts,
    random_case,
    real_block,
    rows_alike,
)

TIED = 2e-6
PATTERNS = [NMPattern.parse(text) for text in ("2:4", "1:4", "3:4", "4:8", "8:16", "16:32")]
OUTLIERS = [NMPattern(n, 256) for n in (4, 8, 16)]


@pytest.fixture(scope="module")
def stories(shared_data):
    return real_block(shared_data / "models" / "stories260k-hf", 4, 96)


@pytest.fixture(scope="module")
def smollm2():
    folder = cache_folder() / "smollm2-135m-f32"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return real_block(folder, 3, 160)


CASES = {
    "random": lambda get: random_case(40, 96, 1),
    "random-tail": lambda get: random_case(24, 172, 2),
    "random-wide": lambda get: random_case(16, 544, 3),
    "stories-k": lambda get: get("stories").case("self_attn.k_proj.weight"),
    "stories-down": lambda get: get("stories").case("mlp.down_proj.weight"),
    "smollm2-k": lambda get: get("smollm2").case("self_attn.k_proj.weight"),
    "smollm2-down": lambda get: get("smollm2").case("mlp.down_proj.weight"),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param](request.getfixturevalue)


@pytest.fixture(scope="module", params=[name for name in CASES if name != "smollm2-down"])
def narrow(request):
    """The cases whose Hessian is decomposed in no time."""
    return CASES[request.param](request.getfixturevalue)


def close(got, want, tolerance=2e-6):
    """Equal to a part of every number itself, but for what is 0 to rounding."""
    torch.testing.assert_close(
        torch.as_tensor(got), torch.as_tensor(want), rtol=tolerance, atol=1e-30, check_dtype=False
    )


def check_mask(got, values, pattern, closed=None, tied=TIED):
    """`got` keeps what stands above the cut and prunes what is below; few places are undecided."""
    n, m = pattern.stored, pattern.block
    got = torch.from_numpy(got)
    want = pruning_torch.keep_of_every(values, n, m, closed)
    gap = pruning_torch.cut_gap(values, n, m, closed)
    differ = blocks_that(got != want, m)
    assert not (differ & (gap > tied)).any(), f"{int((differ & (gap > tied)).sum())} blocks differ"
    assert (counts(got, m) == counts(want, m)).all()
    if closed is not None:
        assert not (got & closed).any()
    undecided = float((gap <= tied).double().mean())
    assert undecided < 0.05, undecided


def both_scores(case, name):
    """The same score of nmref, NumPy, and of the witness, torch."""
    norm, slope = case.norm, (case.w * 0.01).abs()
    arguments = {
        "magnitude": (),
        "wanda": (norm,),
        "relative": (),
        "ria": (norm,),
        "gradient": (norm, slope),
    }[name]
    got = getattr(score, name)(case.weight, *(a.numpy() for a in arguments))
    return got, getattr(pruning_torch, name)(case.w, *arguments)


def test_witness_sparsegpt_is_optimal_brain_surgery():
    """Column by column, with the inverse Hessian of the columns that are still to come."""
    case = random_case(6, 24, 4)
    w, h = case.w.double(), case.h.double()
    chosen = pruning_torch.keep_of_every(w.abs(), 2, 4)
    got, _, _ = pruning_torch.sparsegpt(w, h, 2, 4, mask=chosen, columns=8, damping=0.02)
    h = pruning_torch.damped(h, 0.02)
    for i in range(24):
        inverse = torch.linalg.inv(h[i:, i:])
        error = torch.where(chosen[:, i], 0, w[:, i]) / inverse[0, 0]
        w[:, i:] -= torch.outer(error, inverse[0])
    torch.testing.assert_close(got, w * chosen, rtol=1e-9, atol=1e-9)


SCORES = ["magnitude", "wanda", "relative", "ria", "gradient"]


@pytest.mark.parametrize("name", SCORES)
def test_scores(case, name):
    got, want = both_scores(case, name)
    assert got.dtype == np.float32
    close(got, want)


@pytest.mark.parametrize("exponent", [0.0, 0.25, 1.0])
def test_ria_exponent(case, exponent):
    got = score.ria(case.weight, case.norm.numpy(), exponent)
    close(got, pruning_torch.ria(case.w, case.norm, exponent))


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("name", SCORES)
def test_masks(case, name, pattern):
    got, want = both_scores(case, name)
    chosen = mask.top_n(got, pattern)
    same_bits = pruning_torch.keep_of_every(torch.from_numpy(got), pattern.stored, pattern.block)
    assert (torch.from_numpy(chosen) == same_bits).all()
    if name != "magnitude":  # weights that were BF16 are tied often, and magnitude cannot differ
        check_mask(chosen, want, pattern)


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("outliers", OUTLIERS, ids=str)
def test_outliers_then_base(case, outliers, pattern):
    got, want = both_scores(case, "ria")
    base, chosen = mask.split(got, pattern, outliers)
    check_mask(chosen, want, outliers)
    check_mask(base, want, pattern, closed=torch.from_numpy(chosen))
    bits = torch.from_numpy(got)
    same = pruning_torch.outliers_and_base(bits, pattern.stored, pattern.block, outliers.stored)
    assert (torch.from_numpy(base) == same[0]).all()
    assert (torch.from_numpy(chosen) == same[1]).all()


@pytest.mark.parametrize("place", ["matrix", "row"])
def test_unstructured_outliers(case, place):
    got, want = both_scores(case, "ria")
    count = case.weight.shape[0] * (case.weight.shape[1] // 16)
    chosen = torch.from_numpy(salient.unstructured(got, count, place))
    expected = pruning_torch.unstructured(torch.from_numpy(got), count, place)
    assert (chosen == expected).all()
    differ = chosen != pruning_torch.unstructured(want, count, place)
    assert differ.double().mean() < 1e-3


SWITCHES = [
    Equalization(direction, power, act)
    for direction in ("multiply", "divide")
    for power in (0.5, 1.0)
    for act in (False, True)
]


@pytest.mark.parametrize("how", SWITCHES, ids=str)
def test_equalization(case, how):
    largest, norm = pruning_torch.column_max(case.xs), case.norm
    scale = pruning_torch.smoothquant_scale(case.w, largest, how.power)
    close(equalize.scale(case.weight, largest.numpy(), how.power), scale)
    got = equalize.equalized(case.weight, norm.numpy(), largest.numpy(), how)
    want = pruning_torch.equalized(case.w, norm, scale, how.direction, how.scale_activation)
    for one, other in zip(got, want, strict=True):
        close(one, other)
    values = pruning_torch.ria(*want)
    close(score.ria(*got), values)
    check_mask(mask.top_n(score.ria(*got), NMPattern(8, 16)), values, NMPattern(8, 16))


def test_equalization_clamps_both_maxima():
    weight = np.float32([[0, 2, 0, 1e-7], [0, -1, 0, 0]])
    largest = np.float32([3, 0, 0, 1e-9])
    want = pruning_torch.smoothquant_scale(torch.tensor(weight), torch.tensor(largest), 0.5)
    close(equalize.scale(weight, largest, 0.5), want)


@pytest.mark.parametrize("outliers", [None, NMPattern(16, 256)], ids=str)
@pytest.mark.parametrize("scope", ["matrix", "row"])
@pytest.mark.parametrize("numerator", ["dense", "rest"])
def test_variance_correction(case, numerator, scope, outliers):
    base, chosen = mask.split(both_scores(case, "ria")[0], NMPattern(8, 16), outliers)
    moved = case.weight * np.float32(1.5) + np.float32(0.01)  # as a solver might
    flags = [None if m is None else torch.from_numpy(m) for m in (base, chosen)]
    how = Correction(numerator, scope)
    for pruned in (None, moved):
        got = variance.factor(case.weight, base, chosen, how, pruned)
        left = None if pruned is None else torch.from_numpy(pruned)
        want = pruning_torch.variance_factor(case.w, *flags, numerator, scope, left)
        close(got, want)
    corrected = variance.correct(case.weight, base, got)
    close(corrected, torch.where(flags[0], case.w * want, case.w).float())


def test_hessian(case):
    running = hessian.Hessian()
    for x in case.samples:
        running.add(x)
    got, want = torch.from_numpy(running.matrix()), case.h
    size = want.diagonal().sqrt()
    assert ((got - want).abs() / size / size[:, None]).max() < 2e-6


@pytest.mark.parametrize(
    ("pattern", "outliers"),
    [
        *(("2:4", None), ("1:4", None), ("8:16", None), ("16:32", None)),
        *(("2:4", "16:256"), ("8:16", "16:256"), ("3:4", "4:256")),
    ],
)
def test_sparsegpt(case, pattern, outliers):
    pattern = NMPattern.parse(pattern)
    outliers = None if outliers is None else NMPattern.parse(outliers)
    kept = mask.split(both_scores(case, "ria")[0], pattern, outliers)[1]
    got, base = sparsegpt.sparsegpt(case.weight, case.h.numpy(), pattern, salient=kept)
    want, expected, gaps = pruning_torch.sparsegpt(
        case.w.double(),
        case.h.double(),
        pattern.stored,
        pattern.block,
        salient=None if kept is None else torch.from_numpy(kept),
    )
    base = torch.from_numpy(base)
    same = rows_alike(base, expected, gaps, pattern.block)
    assert same.double().mean() > 0.9
    close_update(got[same.numpy()], want[same])
    stays = base if kept is None else base | torch.from_numpy(kept)
    assert not got[~stays.numpy()].any()


@pytest.mark.parametrize("columns", [32, 64, 256])
def test_sparsegpt_does_not_depend_on_its_block(narrow, columns):
    case = narrow
    pattern = NMPattern(8, 16)
    got, base = sparsegpt.sparsegpt(case.weight, case.h.numpy(), pattern, block=columns)
    want, expected, gaps = pruning_torch.sparsegpt(case.w.double(), case.h.double(), 8, 16)
    same = rows_alike(torch.from_numpy(base), expected, gaps, 16)
    close_update(got[same.numpy()], want[same])


def test_sparsegpt_of_a_fixed_mask(case):
    base = mask.top_n(both_scores(case, "ria")[0], NMPattern(2, 4))
    got, returned = sparsegpt.sparsegpt(case.weight, case.h.numpy(), NMPattern(2, 4), mask=base)
    flags = torch.from_numpy(base)
    want, _, _ = pruning_torch.sparsegpt(case.w.double(), case.h.double(), 2, 4, mask=flags)
    assert (returned == base).all()
    close_update(got, want)


@pytest.mark.parametrize("damping", [0.01, 0.1])
def test_sparsegpt_with_dead_columns(damping):
    case = random_case(12, 64, 5)
    for x in case.samples:
        x[:, [3, 17, 18, 63]] = 0
    h = case.h
    got, base = sparsegpt.sparsegpt(case.weight, h.numpy(), NMPattern(2, 4), damping=damping)
    want, expected, gaps = pruning_torch.sparsegpt(
        case.w.double(), h.double(), 2, 4, damping=damping
    )
    assert not got[:, [3, 17, 18, 63]].any()
    same = rows_alike(torch.from_numpy(base), expected, gaps, 4)
    close_update(got[same.numpy()], want[same])


@pytest.mark.parametrize("pattern", [NMPattern(2, 4), NMPattern(8, 16), NMPattern(1, 4)], ids=str)
def test_alps(narrow, pattern):
    """The same search but for rounding, which may turn a choice and all that follow it.

    All errors are those that the damped Hessian measures, which is what ALPS makes small.  Begun
    at zero the search ends elsewhere, a few percent better or far worse.
    """
    case, (n, m) = narrow, (pattern.stored, pattern.block)
    got, base = alps.alps(case.weight, case.h.numpy(), pattern)
    want, expected = pruning_torch.alps(case.w, case.h, n, m)
    support, h = torch.from_numpy(base), pruning_torch.damped(case.h.double(), 0.01)
    assert (counts(support, m) == counts(expected, m)).all()
    assert not got[~base].any()
    found = {
        "nmref": torch.from_numpy(got),
        "witness": want,
        "from zero": pruning_torch.alps(case.w, case.h, n, m, first="zero")[0],
        "sparsegpt": pruning_torch.sparsegpt(case.w.double(), case.h.double(), n, m)[0],
    }
    error = {name: pruning_torch.output_error(case.w, weight, h) for name, weight in found.items()}
    overlap = float((support & expected).sum() / expected.sum())
    print(f"\n{pattern}: {error}, supports overlap by {overlap:.4f}")
    assert overlap > 0.97
    assert error["nmref"] == pytest.approx(
        error["witness"], rel=0.02
    )  # ADMM amplifies what BLAS rounds
    assert error["nmref"] < 1.05 * error["from zero"]
    assert error["nmref"] < error["sparsegpt"]


def test_alps_weights_are_best_for_their_mask(narrow):
    weight, values = np.ascontiguousarray(narrow.weight[:16]), both_scores(narrow, "ria")[0][:16]
    damped = pruning_torch.damped(narrow.h.double(), 0.01)
    base, outliers = mask.split(values, NMPattern(8, 16), NMPattern(16, 256))
    for fixed, kept in ((None, None), (None, outliers), (base, outliers)):
        got, chosen = alps.alps(
            weight, narrow.h.numpy(), NMPattern(8, 16), salient=kept, mask=fixed
        )
        stays = chosen if kept is None else chosen | kept
        assert fixed is None or (chosen == fixed).all()
        assert not got[~stays].any()
        w = torch.from_numpy(weight)
        best = pruning_torch.refit(w, damped, torch.from_numpy(stays))
        error = pruning_torch.output_error(w, torch.from_numpy(got), damped)
        assert error < 1.005 * pruning_torch.output_error(w, best, damped)


@pytest.mark.parametrize("multiple", [3.0, 5.0, 6.0])
def test_owl_shares(multiple):
    layers = [[random_case(8, 64, s).weight, random_case(12, 32, s + 1).weight] for s in range(5)]
    scores = [[np.abs(w) for w in layer] for layer in layers]
    for layer in scores:
        want = pruning_torch.owl_share([torch.from_numpy(s) for s in layer], multiple)
        assert allocate.owl_shares(layer, multiple) == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("span", [0.0, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("seed", range(5))
def test_owl_layers(seed, span):
    shares = np.random.default_rng(seed).uniform(0, 12, 30).tolist()
    got = allocate.stored(dict(enumerate(shares)), NMPattern(8, 16), span)
    assert list(got.values()) == pruning_torch.owl_kept(shares, 8, span)


def blocks_of(order, block):
    """The columns of every block, where their places in it do not matter."""
    return sorted(sorted(group) for group in np.reshape(order, (-1, block)).tolist())


@pytest.mark.parametrize("pattern", [NMPattern(2, 4), NMPattern(3, 4), NMPattern(8, 16)], ids=str)
def test_permutation(pattern):
    case = random_case(24, 96, 7)
    values = pruning_torch.ria(case.w, case.norm)
    n, m = pattern.stored, pattern.block
    order = permute.heuristic(values.numpy(), pattern)
    dealt = pruning_torch.deal(values, m)
    assert blocks_of(order, m) == blocks_of(dealt.numpy(), m)
    plain = pruning_torch.kept_sum(values, n, m, torch.arange(96))
    for found in (order, permute.hungarian(values.numpy(), pattern, order)):
        moved = permute.kept(values.numpy(), pattern, found)
        assert moved > plain
        assert moved == pytest.approx(
            pruning_torch.kept_sum(values, n, m, torch.from_numpy(np.asarray(found))), rel=1e-6
        )
    assigned = pruning_torch.assign(values, n, m, torch.from_numpy(np.asarray(order)))
    assert blocks_of(found, m) == blocks_of(assigned.numpy(), m)
