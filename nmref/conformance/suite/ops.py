"""Elementary functions, RoPE, argmax, SplitMix64 (SPEC 8.17 to 8.27) and traces (8.36 to 8.39)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nmref.conformance.suite.cases import Case, Part
from nmref.conformance.suite.values import Chance, Json, array, f32, matrix, number, slug

HARD = (0x377EFF81, 0x38E69CC1, 0x39C6BE5B, 0x4001B249, 0x40315B33, 0xB3000000, 0xBAE0E25C,
        0xBBF0EDF1, 0xC16912CD)  # fmt: skip
"""The nine inputs whose e^x lies within 2^-50 of a tie (docs/exp.md)."""

_EDGES = (0x42B17218, 0xC2CFF1B5, 0xC2AEAC50, 0x42AEAC50, 0x3F800000, 0x3F317218)
"""Overflow, underflow, where results become subnormal, and the same with other signs; 1; ln 2."""

_ZEROS = (0, 0x80000000, 1, 0x80000001, 0x007FFFFF, 0x00800000, 0x33000000, 0x33800000, 0xB3800000)
_SPECIAL = (0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0xFFC00123, 0x7F7FFFFF, 0xFF7FFFFF)
NONFINITE_X = "nonfinite-x"
_INF, _NAN, _ONE = 0x7F800000, 0x7FC00000, 0x3F800000


def case(op: str, name: str, clause: str, given: Json, flags: tuple[str, ...]) -> Case:
    """A case of an operation."""
    return Case(f"{op}/{name}", op, tuple(clause.split()), given, flags)


def _x(bits: Sequence[int]) -> Json:
    return {"x": array("F32", [len(bits)], bits)}


def numbers(chance: Chance, count: int, spread: int) -> list[int]:
    """Finite numbers."""
    return [number(chance, "F32", spread) for _ in range(count)]


def _exp() -> Iterable[Case]:
    near = [bits + d for bits in _EDGES for d in range(-4, 5)]
    steps = [f32(n * 0.5) for n in range(-40, 41)]
    chance = Chance("exp")
    random = [number(chance, "F32", 6) for _ in range(400)]
    small = [number(chance, "F32", 24) & ~(1 << 30) for _ in range(100)]
    low = [0xC2AEAC50 + chance.below(0x00214566) for _ in range(100)]
    for op, clause in (("exp", "8.17"), ("silu", "8.17 8.18 8.19")):
        tag = ("exp-not-exact", "exp-f32-reduction") if op == "exp" else ("silu-by-sigmoid",)
        yield case(op, "hard", clause, _x(HARD), (*tag, "exp-in-f64-only"))
        yield case(op, "thresholds", clause, _x(near), (*tag, "exp-early-overflow"))
        yield case(op, "zeros-and-subnormals", clause, _x(_ZEROS), (*tag, "subnormal-flushed"))
        yield case(op, "special", clause, _x(_SPECIAL), ("nan-lost", NONFINITE_X))
        yield case(op, "steps", clause, _x(steps), tag)
        yield case(op, "random", clause, _x(random), tag)
        yield case(op, "small", clause, _x(small), tag)
        yield case(op, "subnormal-results", clause, _x(low), (*tag, "subnormal-flushed"))


def _softmax() -> Iterable[Case]:
    chance = Chance("softmax")
    rows = {
        "one": [[f32(5.0)]],
        "large": [[f32(1000.0), f32(1001.0), f32(999.5)]],
        "far-apart": [[f32(0.0), f32(-200.0), f32(-103.5), f32(-104.5)]],
        "equal": [[_ONE] * 7],
        "max-last": [[f32(float(i)) for i in range(-9, 8)]],
        "subnormal-results": [[f32(0.0), f32(-88.0), f32(-90.0), f32(-95.0), f32(-103.0)]],
        "difference-rounds": [[f32(16777216.0), f32(16777214.0), f32(0.3 * 2**24 // 1 * 2.0**-24)]],
    }
    flags = ("softmax-without-max", "softmax-f32-sum", "softmax-by-reciprocal")
    for name, made in rows.items():
        yield case("softmax", name, "8.17 8.20", {"x": matrix("F32", made)}, flags)
    for columns in (2, 3, 16, 64, 300):
        made = [numbers(chance, columns, 2) for _ in range(8 if columns < 100 else 3)]
        yield case("softmax", f"random-n{columns}", "8.17 8.20", {"x": matrix("F32", made)}, flags)
    wild = {
        "minus-infinity": [[_ONE, 0xFF800000, 0]],
        "all-minus-infinity": [[0xFF800000, 0xFF800000]],
        "infinity": [[_ONE, _INF, 0]],
        "nan": [[_ONE, _NAN, 0, _INF]],
    }
    for name, made in wild.items():
        yield case("softmax", name, "8.20", {"x": matrix("F32", made)}, ("nan-lost", NONFINITE_X))


def _rms_norm() -> Iterable[Case]:
    chance = Chance("rms_norm")
    flags = ("rms-f32-sum", "rms-eps-outside", "rms-one-product", "rms-by-rsqrt",
             "rms-other-count")  # fmt: skip

    def made(name: str, rows: list[list[int]], gain: list[int], eps: float, *more: str) -> Case:
        given = {"x": matrix("F32", rows), "gain": array("F32", [len(gain)], gain), "eps": eps}
        return case("rms_norm", name, "8.18 8.21", given, (*flags, *more))

    for columns in (1, 2, 3, 42, 64, 257):
        rows = [numbers(chance, columns, 3) for _ in range(4)]
        for eps in (1e-5, 1e-6):
            tag = f"random-n{columns}-eps{eps:g}".replace("e-", "em")
            yield made(tag, rows, numbers(chance, columns, 1), eps)
    tiny = [[1, 3, 0x80000005, 7], [f32(2.0**-70)] * 4]
    yield made("tiny-x", tiny, [_ONE] * 4, 1e-5, "subnormal-flushed")
    yield made("zeros", [[0, 0x80000000, 0]], [_ONE] * 3, 1e-5)
    yield made("zeros-without-eps", [[0, 0, 0]], [_ONE] * 3, 0.0)
    yield made("large", [[f32(2.0**100), f32(-(2.0**100)), _ONE]], [_ONE, _ONE, 1], 1e-5)
    yield made("eps-matters", [[f32(2.0**-9), f32(-3 * 2.0**-10)]], [_ONE, f32(3.0)], 1e-5)
    yield made("largest", [[0x7F7FFFFF] * 5], [_ONE] * 5, 1e-5)
    yield made("infinite", [[_INF, _ONE]], [_ONE, _ONE], 1e-5, NONFINITE_X)
    yield made("nan", [[_NAN, _ONE]], [_ONE, _ONE], 1e-5, NONFINITE_X)


def _rope() -> Iterable[Case]:
    llama3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 8192}  # fmt: skip
    tiny = {**llama3, "original_max_position_embeddings": 16}
    flags = ("rope-f32-angles", "rope-position-from-one", "rope-frequency-off")
    for theta, dim, start, count, scaling in (
        (10000.0, 10, 0, 16, None), (10000.0, 64, 0, 4, None), (10000.0, 128, 4090, 4, None),
        (500000.0, 128, 8188, 4, None), (500000.0, 128, 8188, 4, llama3), (500000.0, 64, 0, 4,
        llama3), (10000.0, 10, 0, 16, tiny), (1000000.0, 128, 131068, 3, None), (10000.0, 2, 0,
        8, None), (10000.5, 6, 1000, 3, None),
    ):  # fmt: skip
        given = {"theta": theta, "head_dim": dim, "start": start, "count": count,
                 "scaling": scaling}  # fmt: skip
        kind = "llama3" if scaling else "plain"
        name = f"{kind}-theta{theta:g}-d{dim}-p{start}".replace("e+", "e")
        if scaling is tiny:
            name += "-short"
        more: tuple[str, ...] = ("rope-llama3-ignored",) if scaling else ()
        more += ("rope-other-theta",) if theta != 10000.0 else ()
        yield case("rope_tables", name, "8.22 8.23", given, (*flags, *more))
    chance = Chance("rope")
    for name, heads, count, dim, spread in (
        ("random-d10", 3, 4, 10, 3), ("random-d64", 1, 3, 64, 3), ("random-d2", 2, 5, 2, 40),
        ("one-head", 1, 1, 4, 0),
    ):  # fmt: skip
        given = {
            "x": array("F32", [heads, count, dim], numbers(chance, heads * count * dim, spread)),
            "cos": matrix("F32", [numbers(chance, dim // 2, 2) for _ in range(count)]),
            "sin": matrix("F32", [numbers(chance, dim // 2, 2) for _ in range(count)]),
        }
        yield case("rope", name, "8.24", given, ("rope-interleaved", "rope-f32-products",
                                                 "rope-other-way"))  # fmt: skip


def _argmax() -> Iterable[Case]:
    rows = {
        "tie-takes-the-first": [[0, _ONE, _ONE, 0], [_ONE, 0, 0, _ONE]],
        "zeros-of-both-signs": [[0x80000000, 0, 0x80000000], [0, 0x80000000, 0]],
        "negative": [[0xC0000000, 0xBF800000, 0xBF800000, 0xC0400000]],
        "infinity": [[0x7F7FFFFF, _INF, _INF], [0xFF800000, 0xFF800000, 0xFF7FFFFF]],
        "subnormal": [[0, 1, 0x80000001, 2]],
        "one": [[0xFF800000]],
    }
    for name, made in rows.items():
        flags: tuple[str, ...] = ("argmax-takes-the-last", "argmax-of-bits", "subnormal-flushed")
        if name in ("infinity", "one"):
            flags = (*flags, NONFINITE_X)
        yield case("argmax", name, "8.25", {"x": matrix("F32", made)}, flags)
    chance = Chance("argmax")
    made = [numbers(chance, 97, 5) for _ in range(4)]
    yield case("argmax", "random", "8.25", {"x": matrix("F32", made)}, ("argmax-of-bits",))


def _splitmix64() -> Iterable[Case]:
    for seed in (0, 1, 2, 0x9E3779B97F4A7C15, 0x61C8864680B583EB, 2**64 - 1, 2**63):
        given = {"seed": f"{seed:016x}", "count": 20}
        flags = ("splitmix-output-first", "centred-rounded", "uniform-of-32-bits")
        yield case("splitmix64", f"seed-{seed:x}", "8.26 8.27", given, flags)


def ops() -> Part:
    """Part `ops`."""
    return Part("ops", [*_exp(), *_softmax(), *_rms_norm(), *_rope(), *_argmax(), *_splitmix64()])


TRACES = (
    "nmref-tiny", "nmref-tiny:llama3", "nmref-tiny:window", "nmref-tiny:tied", "nmref-tiny:2:4",
    "nmref-tiny:8:16", "nmref-tiny:8:16+16:256", "nmref-tiny:16:32+16:256",
    "nmref-tiny:i8:8:16+16:256",
)  # fmt: skip
_FORWARD = ("attention-mask-off-by-one", "rope-interleaved", "kv-heads-mixed", "residual-lost",
            "attention-not-causal", "attention-scale-missing", "softmax-over-masked",
            "kv-position-wrong", "values-turned", "norm-misplaced",
            "gate-and-up-swapped")  # fmt: skip


_SLOW = (
    ("nmref-tiny:8:16+16:256", "f32.lanes8.fma+merged"),
    ("nmref-tiny:8:16+16:256", "tc.L8.F24.rz.rz.slot+split"),
)
"""Models and profiles that are not f64.seq."""


def traces() -> Part:
    """Part `traces`."""
    found = []
    for model, profile in (*((model, "f64.seq+merged") for model in TRACES), *_SLOW):
        flags = list(_FORWARD)
        flags += ["rope-llama3-ignored"] if "llama3" in model else []
        flags += ["window-off-by-one", "window-ignored"] if "window" in model else []
        flags += ["head-tied-wrongly"] if model.endswith("tied") else []
        given = {"model": model, "profile": profile}
        clauses = "8.29 8.30 8.31 8.32 8.33 8.34 8.36 8.37 8.38 8.39"
        found.append(case("trace", f"{slug(model)}/{slug(profile)}", clauses, given, tuple(flags)))
    return Part("traces", found)
