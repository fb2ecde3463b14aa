"""Damaged files: every flipped bit and every cut is refused, with the same code by all."""

import random
from collections import Counter

import pytest

from tests.cases import ONE, bits
from tests.container.draft import Draft, draft, minimal
from tests.witness import WITNESSES, Case, Rejected, Witness, every_witness, rejection


def answer(witness: Witness, data: bytes) -> str:
    """The code, or what was read."""
    try:
        found = witness.read(data)
    except Rejected as fault:
        return fault.code
    return str({name: (dtype, array.tolist()) for name, (dtype, array) in sorted(found.items())})


READERS = [witness for witness in WITNESSES if witness.name != "numpy"]
"""The container's code is the same for both twins of nmref."""


def agreed(data: bytes, what: object) -> str:
    answers = [answer(witness, data) for witness in READERS]
    assert all(other == answers[0] for other in answers), (what, answers)
    return answers[0]


def small() -> Draft:
    """I8 with a scale and outliers by index, a tail, and an ordinary tensor."""
    base, outliers = bits("I8", [[0, 5, 0, 0, 0]]), bits("F16", [[ONE["F16"], 0, 0, 0, 0]])
    case = Case("I8", base, "2:4", None, bits("F32", [ONE["F32"]]), outliers)
    parts = WITNESSES[0].encode(case)
    return Draft({"w": (case.spec, parts)}, {"b": ("F32", (1,), bytes(4))})


@pytest.mark.parametrize("made", [minimal(), small()], ids=["float", "integer and outliers"])
def test_read_refuses_every_flipped_bit_with_one_code(made: Draft):
    good = made.build()
    codes: Counter[str] = Counter()
    for at in range(len(good)):
        for bit in range(8):
            flipped = good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :]
            codes[agreed(flipped, (at, bit))] += 1
    assert sum(codes.values()) == 8 * len(good)
    assert all(code.startswith("E_") for code in codes), codes
    assert {"E_LIMIT", "E_HEADER", "E_DTYPE", "E_META", "E_MISSING", "E_DIGEST"} <= codes.keys()


@every_witness
def test_read_refuses_every_cut_and_every_byte_more(witness: Witness):
    for good in (minimal().build(), small().build()):
        for end in range(len(good)):
            assert rejection(witness.read, good[:end]).code == "E_HEADER"
        assert rejection(witness.read, good + b"\0").code == "E_HEADER"


def test_read_refuses_changed_content_by_its_digest():
    digest = draft()
    good, reached = digest.build(), 0
    for name in ("b", "c"):
        for suffix, (_, _, data) in digest.parts(name).items():
            for at in range(len(data)):
                spoiled, bit = draft(), 1 << at % 8
                spoiled.document["content_sha256"] = digest.document["content_sha256"]
                spoiled.patch(f"{name}.{suffix}", at, bit, ~data[at] & bit)
                found = spoiled.build()
                assert len(found) == len(good)
                reached += agreed(found, (name, suffix, at)) == "E_DIGEST"
    assert reached > 30


def test_read_answers_alike_for_patched_parts_with_a_digest_that_fits():
    chance = random.Random(17)
    codes: Counter[str] = Counter()
    for number in range(600):
        made = draft()
        for _ in range(chance.randrange(1, 4)):
            name = chance.choice([name for name in made.tensors if name != "empty"])
            at = chance.randrange(len(made.tensors[name][2]))
            made.patch(name, at, 1 << chance.randrange(8), 0)
            made.patch(name, at, value := 1 << chance.randrange(8), value)
        codes[agreed(made.build(), number)[:13]] += 1
    wanted = {"E_SCALE", "E_PAD", "E_CODE_RANGE", "E_TAIL", "E_INDEX_ORDER", "E_OVERLAP"}
    assert wanted < codes.keys(), codes


PIECES = (*'",:0-.1 \n\\', "{}", "[]", "\\u0041", "x-", "null", "é", "1e1", "true", '"a":1,')


def mutated(chance: random.Random, text: str) -> str:
    """A text with one to three small changes."""
    for _ in range(chance.randrange(1, 4)):
        at, other = chance.randrange(len(text)), chance.randrange(len(text))
        end = at + chance.choice([0, 0, 1, 1, 2, 8])
        piece = chance.choice([*PIECES, text[other : other + chance.randrange(1, 20)]])
        text = text[:at] + piece + text[end:]
    return text


@pytest.mark.parametrize("part", ["headers", "texts"])
def test_read_answers_alike_for_mutated_texts(part: str):
    chance = random.Random(part)
    codes: Counter[str] = Counter()
    for number in range(1000):
        made = small()
        getattr(made, part).append(lambda text: mutated(chance, text))
        codes[agreed(made.build(), (part, number))[:10]] += 1
    assert len(codes) > 3, codes
