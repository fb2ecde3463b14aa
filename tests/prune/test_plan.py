"""The plan says beforehand what encoding gives; its estimates follow their formulas."""

import json
from dataclasses import replace
from math import ceil

import ml_dtypes
import numpy as np
import pytest

import nmref
from nmref.errors import NmrefError
from nmref.model.checkpoint import open_checkpoint, write_checkpoint
from nmref.model.config import LINEAR_KINDS, expected_shapes, linear_names, parse_config
from nmref.pattern import NMPattern
from nmref.prune.choose.mask import split
from nmref.prune.masks.maskfile import Mask
from nmref.prune.report.estimate import (
    PER_WEIGHT,
    PROCESS,
    Job,
    Rates,
    disk,
    measure,
    memory,
    seconds,
)
from nmref.prune.report.plan import _time, grouped, plan
from nmref.prune.settings import Allocation, Equalization, Recipe, Rule, Solver, Tuning

HALF, SALIENT = NMPattern(8, 16), NMPattern(16, 256)
RATES = Rates(1e9, 1e8, 1)
RAW = {
    "model_type": "llama",
    "hidden_size": 40,
    "intermediate_size": 260,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 16,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
}
CONFIG = parse_config(RAW)


@pytest.fixture(scope="module", params=[np.float32, ml_dtypes.bfloat16], ids=["F32", "BF16"])
def model(request, tmp_path_factory):
    rng = np.random.default_rng(1)
    tensors = {
        name: rng.standard_normal(shape).astype(request.param)
        for name, shape in expected_shapes(CONFIG).items()
    }
    folder = tmp_path_factory.mktemp("models") / "m"
    write_checkpoint(folder, RAW, tensors)
    return open_checkpoint(folder)


def planned(model, recipe, samples=0, length=0, **more):
    return plan(model, recipe, samples, length, rates=RATES, threads=1, **more)


@pytest.mark.parametrize("outliers", [None, "4:256", "16:256"])
@pytest.mark.parametrize("pattern", ["2:4", "8:16", "16:32", "3:7"])
def test_bytes_are_those_of_the_packed_weights(model, pattern, outliers):
    base = NMPattern.parse(pattern)
    extra = NMPattern.parse(outliers) if outliers else None
    found = planned(model, Recipe(base, extra, score="magnitude"))
    assert [item.name for item in found.linears] == linear_names(CONFIG)
    zero = np.zeros((), dtype=next(iter(model.tensors.values())).dtype)
    for item in found.linears:
        weight = model.tensors[item.name]
        mask, salient = split(np.abs(np.asarray(weight, dtype=np.float32)), base, extra)
        packed = nmref.encode(
            np.where(mask, weight, zero),
            pattern,
            mask=mask,
            outliers=None if salient is None else np.where(salient, weight, zero),
            outlier_pattern=outliers or "16:256",
            outlier_mask=salient,
        )
        assert item.packed_nbytes == packed.nbytes
        assert item.dense_nbytes == weight.nbytes
        assert item.bits == 8 * packed.nbytes / weight.size
        assert (item.shape, item.pattern) == (weight.shape, pattern)
        assert item.outliers == (outliers or "none")


def test_other_tensors_stay_as_they_are(model):
    found = planned(model, Recipe(HALF, score="magnitude"))
    assert {item.name for item in found.others} == set(model.tensors) - set(linear_names(CONFIG))
    for item in found.others:
        assert item.packed_nbytes == item.dense_nbytes == model.tensors[item.name].nbytes
        assert (item.pattern, item.outliers) == ("dense", "none")


def test_rules_are_seen(model):
    rules = (Rule("*.0.*", None), Rule("*.1.mlp.*", NMPattern(2, 4), NMPattern(4, 256)))
    found = planned(model, Recipe(HALF, SALIENT, score="magnitude", rules=rules))
    patterns = {item.name: (item.pattern, item.outliers) for item in found.linears}
    for name, seen in patterns.items():
        if ".0." in name:
            assert seen == ("dense", "none")
        else:
            assert seen == (("2:4", "4:256") if "mlp" in name else ("8:16", "16:256"))
    dense = [item for item in found.linears if item.pattern == "dense"]
    assert all(item.dense_nbytes == item.packed_nbytes for item in dense)


@pytest.mark.parametrize("place", ["matrix", "row"])
def test_unstructured_outliers_take_32_more_bits_each(model, place):
    recipe = Recipe(HALF, NMPattern(8, 256), place=place, score="magnitude")
    for item in planned(model, recipe).linears:
        rows, columns = item.shape
        count = sum(min(8, columns - first) for first in range(0, columns, 256)) * rows
        size = model.tensors[item.name].dtype.itemsize
        alone = planned(model, replace(recipe, outliers=None)).linears
        base = next(one for one in alone if one.name == item.name)
        assert item.packed_nbytes - base.packed_nbytes == count * (size + 4) + 4 * (rows + 1)
        assert item.outliers == f"8:256 {place}"


def test_groups_add_up_and_differ_in_the_layer_only(model):
    found = planned(model, Recipe(HALF, SALIENT, score="magnitude"))
    groups = grouped(found.linears)
    assert [group.name for group in groups] == [
        f"model.layers.*.{kind}.weight" for kind in LINEAR_KINDS
    ]
    assert all(group.count == 2 for group in groups)
    for field in ("dense_nbytes", "packed_nbytes"):
        assert sum(getattr(group, field) for group in groups) == sum(
            getattr(item, field) for item in found.linears
        )
    rule = Rule("model.layers.1.mlp.up_proj.weight", None)
    mixed = planned(model, Recipe(HALF, score="magnitude", rules=(rule,)))
    names = [(group.name, group.count) for group in grouped(mixed.linears)]
    assert ("model.layers.0.mlp.up_proj.weight", 1) in names
    assert ("model.layers.1.mlp.up_proj.weight", 1) in names


def test_json_has_every_tensor_and_sums(model):
    found = planned(model, Recipe(HALF, SALIENT, tune=Tuning()), 4, 16)
    read = json.loads(json.dumps(found.as_dict()))
    assert len(read["linears"]) + len(read["others"]) == len(model.tensors)
    items = read["linears"] + read["others"]
    for key in ("dense_nbytes", "packed_nbytes"):
        assert read["totals"]["all"][key] == sum(item[key] for item in items)
    assert read["peak_memory_nbytes"] == sum(read["memory"].values())
    assert read["peak_disk_nbytes"] == sum(read["disk"].values())
    assert read["total_seconds"] == pytest.approx(sum(read["seconds"].values()))
    assert read["disk"]["result"] == read["totals"]["all"]["packed_nbytes"]
    assert (read["samples"], read["length"], read["threads"]) == (4, 16, 1)


def test_text_names_every_kind_or_every_weight(model):
    found = planned(model, Recipe(HALF, SALIENT), 4, 16)
    short, long = found.text().splitlines(), found.text(every=True).splitlines()
    assert len(short) == 2 + 7 + 1 + 6
    assert len(long) == 2 + 14 + 1 + 6
    assert short[0].split()[:6] == ["weights", "count", "shape", "dtype", "pattern", "outliers"]
    assert "model.layers.*.mlp.down_proj.weight" in short[8]
    dense = sum(item.dense_nbytes for item in found.linears)
    packed = sum(item.packed_nbytes for item in found.linears)
    assert short[10] == (
        f"14 weights: dense {dense} bytes, packed {packed} bytes ({packed / dense:.4f} of dense)"
    )
    assert short[12] == "calibration: 4 x 16 tokens"
    assert "(process 180.0 MB, block " in short[13]
    assert short[14].startswith("disk: ")
    assert "on 1 threads (choose " in short[15]


def test_no_text_where_no_activations_are_needed(model):
    found = planned(model, Recipe(HALF, score="magnitude"), 99, 10**9)
    assert (found.samples, found.length) == (0, 0)
    assert "calibration: none" in found.text()
    assert found.disk["streams"] == found.memory["statistics"] == 0
    assert set(found.seconds) == {"choose"}


def test_what_cannot_be_done_is_said(model):
    ria = Recipe(HALF)
    for bad, samples, length, message in (
        (ria, 0, 16, "samples: 0, want at least 1, for this recipe"),
        (ria, 1, 65, "length: 65 tokens, want 1 to 64, the model's context"),
        (ria, 1, 0, "length: 0 tokens, want 1 to 64, the model's context"),
        (replace(ria, exponent=-1.0), 1, 1, r"exponent: -1.0, want a number from 0 to 3\.403e\+38"),
        (
            replace(ria, rules=(Rule("x", None),)),
            *(1, 1, r"rules\[0\].match: 'x' matches no weight, want a glob .*"),
        ),
    ):
        with pytest.raises(NmrefError, match=f"^T_ARGUMENT {message}$"):
            planned(model, bad, samples, length)
    packed = replace(model, packed=True)
    with pytest.raises(
        NmrefError, match=r"^T_TENSOR .*m: a packed model, want a dense checkpoint$"
    ):
        planned(packed, ria, 1, 1)


def job(recipe, samples=6, length=32, threads=2, mapped=True):
    return Job(CONFIG, recipe, samples, length, threads, mapped)


# D, A, F of CONFIG, and its linears as lists
WIDTHS = [40, 40, 40, 260]
LINEARS = [(40, 40), (20, 40), (20, 40), (40, 40), (260, 40), (260, 40), (40, 260)]
P = sum(rows * columns for rows, columns in LINEARS)
SQUARES = sum(width**2 for width in WIDTHS)
RIA, SPARSEGPT, ALPS = (Recipe(HALF, solver=Solver(m)) for m in ("none", "sparsegpt", "alps"))
TUNED = replace(RIA, tune=Tuning(epochs=3, batch=4))


def test_memory_is_its_formula():
    rows = 4 * 32 * (8 * 40 + 4 * 40 + 4 * 260) + 2048 * 32 * 2
    tape = 6 * 32 * (6 * 40 + 5 * 40 + 3 * 260)
    for recipe, statistics, works in (
        (RIA, 12 * sum(WIDTHS), [2 * rows, 28 * 10400]),
        (
            SPARSEGPT,
            12 * sum(WIDTHS) + 4 * SQUARES,
            [2 * rows + 4 * 4 * SQUARES, 32 * 260**2 + 24 * 10400],
        ),
        (
            ALPS,
            12 * sum(WIDTHS) + 12 * SQUARES,
            [2 * rows + 4 * 4 * SQUARES, 54 * 260**2, 16 * 260**2 + 36 * 10400],
        ),
        (TUNED, 12 * sum(WIDTHS), [2 * rows, 2 * tape + 4 * P * 7]),
        (
            replace(TUNED, tune=Tuning(batch=1)),
            12 * sum(WIDTHS),
            [2 * rows, tape + 4 * P * 6],
        ),
        (
            replace(RIA, score="gradient"),
            12 * sum(WIDTHS) + 4 * P,
            [2 * rows, 2 * tape + 4 * P * 7],
        ),
    ):
        assert memory(job(recipe)) == {
            "process": PROCESS,
            "block": 8 * P,
            "statistics": statistics,
            "streams": 0,
            "work": max(works),
        }


def test_streams_are_on_disk_or_in_memory():
    stream = 4 * 6 * 32 * 40
    bitmaps = 2 * sum(rows * ceil(columns / 8) for rows, columns in LINEARS)
    taught = replace(RIA, outliers=SALIENT, tune=Tuning(teacher="dense"))
    for recipe, count, masks in ((RIA, 2, 1), (TUNED, 3, 1), (taught, 4, 2)):
        assert disk(job(recipe), 1000) == {
            "result": 1000,
            "blocks": 1000,
            "masks": masks * bitmaps,
            "streams": count * stream,
        }
        assert disk(job(recipe, mapped=False), 1000)["streams"] == 0
        assert memory(job(recipe, mapped=False))["streams"] == count * stream


def test_seconds_are_their_formula():
    tokens = 6 * 32
    flops = tokens * sum(2 * rows * columns for rows, columns in LINEARS) + tokens * 2 * 32 * 40
    elements = tokens * (4 * 32 / 2 + 12 * 40 + 4 * 260)
    rates = Rates(3e9, 2e8, 2)
    once = 2 * (flops / 3e9 + elements / 2e8)
    choose, seen = 2 * P * PER_WEIGHT, 2 * 3 * tokens * sum(WIDTHS) / 2e8
    grams = 2 * 2 * tokens * SQUARES / 3e9
    obs = sum(2 * (4 / 3 * k**3 + r * k**2) for r, k in LINEARS)
    admm = 9 * sum(k**3 for k in WIDTHS) + 75 * sum(4 * r * k**2 for r, k in LINEARS)
    updates = 2 * 3 * ceil(6 / 4) * 12 * P / 1e8
    for recipe, more in (
        (RIA, {}),
        (SPARSEGPT, {"calibrate": 2 * once + seen + grams, "solve": 2 * obs / 3e9 + 2 * P * 3e-7}),
        (ALPS, {"calibrate": 2 * once + seen + grams, "solve": 2 * admm / 3e9}),
        (replace(RIA, allocate=Allocation()), {"allocate": once}),
        (replace(RIA, score="gradient"), {"gradients": 3 * once}),
        (replace(RIA, equalize=Equalization()), {}),
        (TUNED, {"tune": 9 * once + updates}),
    ):
        want = {"choose": choose, "calibrate": 2 * once + seen} | more
        assert seconds(job(recipe), rates) == pytest.approx(want)


def test_threads_without_a_sample_do_not_help():
    rates = Rates(4e9, 4e8, 4)
    four, one = (seconds(job(RIA, samples=n, threads=4), rates)["calibrate"] for n in (4, 1))
    assert four == pytest.approx(one, rel=0.2)
    wide, narrow = (
        seconds(job(replace(RIA, tune=Tuning(batch=n)), samples=8, threads=4), rates)["tune"]
        for n in (4, 1)
    )
    assert narrow > 3 * wide


def test_what_grows_and_what_does_not():
    for recipe in (RIA, SPARSEGPT, ALPS, TUNED):
        small, long = job(recipe), job(recipe, length=512)
        assert sum(memory(long).values()) > sum(memory(small).values())
        assert sum(memory(job(recipe, samples=60)).values()) == sum(memory(small).values())
        assert sum(seconds(long, RATES).values()) > 15 * seconds(small, RATES)["calibrate"]


def test_the_measurement_is_positive_and_counts_threads():
    for threads in (1, 2):
        found = measure(threads)
        assert found.threads == threads
        assert found.flops > 1e6
        assert found.elements > 1e4


def test_a_plan_measures_when_it_is_not_told(model, monkeypatch):
    monkeypatch.setattr("nmref.prune.report.plan.measure", lambda threads: Rates(2e9, 2e8, threads))
    slow = planned(model, Recipe(HALF), 2, 8).seconds["calibrate"]
    assert plan(model, Recipe(HALF), 2, 8, threads=1).seconds["calibrate"] == slow / 2
    monkeypatch.setenv("NMREF_THREADS", "3")
    assert plan(model, Recipe(HALF), 2, 8).threads == 3


def test_stories260k(shared_data):
    checkpoint = open_checkpoint(shared_data / "models" / "stories260k-hf")
    found = planned(checkpoint, Recipe(HALF, SALIENT), 4, 64)
    assert {item.name for item in found.linears} == set(linear_names(checkpoint.config))
    assert any(item.shape[1] == 172 for item in found.linears)
    for item in found.linears:
        rows, columns = item.shape
        blocks, wide = ceil(columns / 16), ceil(columns / 256)
        codes = rows * ceil(blocks * 14 / 8)
        assert item.packed_nbytes == codes + rows * (blocks * 8 * 4 + wide * 16 * 5)


def test_activations_lie_where_the_plan_is_told(model):
    recipe, stream = Recipe(HALF, tune=Tuning(teacher="dense")), 4 * 2 * 16 * 40
    for mapped, in_memory, on_disk in ((True, 0, 4 * stream), (False, 4 * stream, 0)):
        found = planned(model, recipe, 2, 16, mapped=mapped)
        assert (found.memory["streams"], found.disk["streams"]) == (in_memory, on_disk)


def test_given_masks_need_no_text_and_are_those_that_can_be_packed(model):
    name = linear_names(CONFIG)[0]
    base, salient = np.zeros((2, *model.tensors[name].shape), dtype=bool)
    found = planned(model, Recipe(HALF), given={name: Mask(base, salient, HALF, SALIENT)})
    assert (found.samples, found.length) == (0, 0)
    patterns = {item.name: (item.pattern, item.outliers) for item in found.linears}
    assert patterns.pop(name) == ("8:16", "16:256")
    assert set(patterns.values()) == {("dense", "none")}
    assert list(patterns) == linear_names(CONFIG)[1:]
    for mask in (Mask(base), Mask(base, salient, HALF), Mask(base, salient, None, SALIENT)):
        with pytest.raises(NmrefError, match=f"^T_ARGUMENT {name}: a mask without N:M, want one"):
            planned(model, Recipe(HALF), given={name: mask})


def test_what_differs_is_a_group_of_its_own(model):
    one, other = planned(model, Recipe(HALF, SALIENT, score="magnitude")).linears[::7]
    assert [group.count for group in grouped([one, other])] == [2]
    for change in ({"dtype": "F16"}, {"pattern": "2:4"}, {"outliers": "none"}, {"shape": (40, 8)}):
        assert [group.count for group in grouped([one, replace(other, **change)])] == [1, 1]


def test_times_are_minutes_from_90_seconds_on():
    times = [_time(passed) for passed in (0.04, 60, 89.9, 90)]
    assert times == ["0.0 s", "60.0 s", "89.9 s", "1.5 min"]


def test_disk_has_room_for_the_outliers_of_a_rule():
    ruled = replace(RIA, rules=(Rule("*.1.*", HALF, SALIENT),))
    assert disk(job(ruled), 0)["masks"] == 2 * disk(job(RIA), 0)["masks"]


def test_fewer_iterations_of_alps_are_faster():
    rates = Rates(3e9, 2e8, 2)
    solves = [
        seconds(job(replace(RIA, solver=Solver("alps", iterations=n))), rates)["solve"]
        for n in (100, 200, 300)
    ]
    assert solves[2] - solves[1] == pytest.approx(solves[1] - solves[0])
    assert solves[1] - solves[0] == pytest.approx(
        2 * 25 * sum(4 * r * k**2 for r, k in LINEARS) / 3e9
    )


def test_a_long_text_is_the_largest_part(model):
    """It is made into tokens before there is a block in memory."""
    none, some, much = (planned(model, RIA, 2, 16, text=size) for size in (0, 100, 10**8))
    assert none.memory == some.memory
    assert sum(much.memory.values()) == PROCESS + 140 * 10**8
    assert planned(model, replace(RIA, score="magnitude"), text=10**8).memory == (
        planned(model, replace(RIA, score="magnitude")).memory
    )
