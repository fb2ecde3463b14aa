"""Random weights, inputs and files by a seed: bigger sets than the repository has."""

from __future__ import annotations

from collections.abc import Iterator

from nmref.conformance.suite.cases import Case, Part
from nmref.conformance.suite.codes import some
from nmref.conformance.suite.dots import LISTED, dots, vectors
from nmref.conformance.suite.draft import Draft
from nmref.conformance.suite.encode import encode, random_request
from nmref.conformance.suite.files import other, write
from nmref.conformance.suite.ops import case, numbers
from nmref.conformance.suite.tensors import decode, warning
from nmref.conformance.suite.values import (
    BASES,
    DTYPES,
    FLOATS,
    OUTS,
    SIZES,
    Chance,
    array,
    matrix,
    parse,
)
from nmref.conformance.suite.weights import Form, Out, random_weight

_ROOMY = (*BASES, "1:2", "1:4", "3:4", "5:9", "7:8", "5:12", "20:33")
"""Patterns that leave room for the outlier fill."""

_TAILS = (1, 15, 16, 17, 63, 64, 65, 172, 255, 256, 257, 258, 300)
_FILLS, _CROWDS = ("lowest", "highest", "mixed"), ("some", "some", "full", "none")


def random_form(chance: Chance, spread: int | None = None, longest: int = 300) -> Form:
    """Any pattern, dtype mix, tail and fill."""
    out = None
    if chance.coin(2):
        out = Out(chance.pick(OUTS), chance.pick(FLOATS), chance.pick(("idx8", "colex")))
        pattern = chance.pick(_ROOMY)
    else:
        block = 2 + chance.below(63)
        pattern = chance.pick((*BASES, f"{1 + chance.below(block - 1)}:{block}"))
    n, m = parse(pattern)
    tails = (*_TAILS, n, m - 1, m, m + 1, 1 + chance.below(longest))
    return Form(
        pattern,
        chance.pick(DTYPES),
        0 if chance.coin(30) else 1 + chance.below(3),
        min(max(1, chance.pick(tails)), longest),
        out,
        chance.pick(_FILLS),
        chance.pick(_CROWDS),
        chance.pick((0, 2, 8)),
        spread,
    )


def random_draft(chance: Chance) -> Draft:
    """A valid file that takes every liberty of SPEC part 5 now and then."""
    made = Draft()
    for _ in range(chance.below(4)):
        made.weights[_name(chance)] = random_weight(chance, random_form(chance, longest=80))
    for _ in range(chance.below(4)):
        shape = [chance.below(4) for _ in range(chance.below(4))]
        made.others.setdefault(_name(chance), other(chance, chance.pick(sorted(SIZES)), shape))
    for name in made.weights:
        made.others.pop(name, None)
    made.spec = chance.pick(("1.0", "1.0", "1.1", f"1.{chance.below(1000)}"))
    made.white = chance if chance.coin(2) else None
    made.escaped = chance if chance.coin(3) else None
    made.members = tuple(chance.sample(made.members, 3))
    made.align, made.spaces = chance.pick((1, 8, 64)), chance.pick((0, 0, 3, 100))
    made.empty_at = chance.pick(("before", "start", "end"))
    order = made.canonical_order()
    made.header = chance.sample([*order, "__metadata__"], len(order) + 1)
    made.data = chance.sample(order, len(order))
    for extra in (made.extra, made.of_weights, made.of_outliers):
        if chance.coin(3):
            extra[f"x-{_name(chance)[:8]}"] = "".join(
                chr(0x20 + chance.below(0x5F)) for _ in range(chance.below(12))
            )
    return made


def _name(chance: Chance) -> str:
    """A tensor name without a dot before nm_: any printable characters, or words."""
    if chance.coin(3):
        some = [chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"\\.']
        return "".join(chance.pick(some) for _ in range(1 + chance.below(20)))
    words = [chance.pick(("model", "layers", "w", "q_proj", "..", "nm", "/", "weight"))
             for _ in range(1 + chance.below(4))]  # fmt: skip
    return ".".join([*words, str(chance.below(1000))])


def _dots(seed: str, count: int) -> Iterator[Case]:
    for i in range(count):
        chance = Chance(f"{seed} dot {i}")
        spread = chance.pick((1, 6, 14))
        form = random_form(chance, spread, 150)
        x = vectors(chance, chance.pick(FLOATS), 1 + chance.below(3), form.columns, spread)
        weight = random_weight(chance, form)
        yield from dots(f"random/{i}", [chance.pick(LISTED)], weight, x)


def _ops(seed: str, count: int) -> Iterator[Case]:
    for i in range(count):
        chance = Chance(f"{seed} ops {i}")
        n = 1 + chance.below(80)
        made = numbers(chance, n, chance.pick((2, 6, 30)))
        rows = matrix("F32", [made])
        flat = {"x": array("F32", [n], made)}
        yield case("exp", f"random/{i}", "8.17", flat, ())
        yield case("silu", f"random/{i}", "8.19", flat, ())
        yield case("softmax", f"random/{i}", "8.20", {"x": rows}, ())
        given = {"x": rows, "gain": array("F32", [n], numbers(chance, n, 1)), "eps": 1e-5}
        yield case("rms_norm", f"random/{i}", "8.21", given, ())
        table = {"theta": 1.0 + chance.below(10**6), "head_dim": 2 + 2 * chance.below(16),
                 "start": chance.below(5000), "count": 2, "scaling": None}  # fmt: skip
        yield case("rope_tables", f"random/{i}", "8.23", table, ())


def random_parts(seed: int, count: int) -> list[Part]:
    """Six parts of about `count` cases each."""
    start = f"seed {seed}"
    found: dict[str, list[Case]] = {
        name: [] for name in ("codes", "tensors", "encode", "files-valid")
    }
    for i in range(count):
        chance = Chance(f"{start} {i}")
        form = random_form(chance)
        given = random_weight(chance, form)
        found["tensors"].append(decode(f"random/{i}", given, "4.9"))
        if chance.coin(4):
            found["tensors"].append(warning(f"random/{i}", given))
        masked = chance.coin(2)
        request = random_request(chance, random_form(chance), masked)
        found["encode"].append(encode(f"random/{i}", request, "3.10"))
        made = random_draft(chance)
        file = {"file": made.build().hex()}
        found["files-valid"].append(Case(f"read/random/{i}", "read", ("1.9",), file))
        found["files-valid"].append(write(f"random-{i}", made))
    patterns = [f"{n}:{m}" for m in range(2, 65) for n in range(1, m)]
    for i, pattern in enumerate(Chance(start).sample(patterns, min(count, 50))):
        found["codes"] += some(pattern, max(1, count // 10), f"-{i}")
    parts = [Part(name, cases) for name, cases in found.items()]
    return [*parts, Part("dot", list(_dots(start, count))), Part("ops", list(_ops(start, count)))]
