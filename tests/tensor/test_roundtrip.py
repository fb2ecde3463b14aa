"""encode and decode over patterns, dtypes, codings and shapes: every witness, the same bytes."""

from itertools import cycle, product

import numpy as np
import pytest

from tests.cases import (
    BASE_PATTERNS,
    DTYPES,
    FLOATS,
    ONE,
    OUT_PATTERNS,
    bits,
    dense_of,
    elements,
    random_case,
    specials,
    widened,
)
from tests.witness import WITNESSES, Case, Rejected, Witness, as_part, every_witness

COLUMNS = (*range(1, 71), 172, 255, 256, 257, 258, 300)
OUTLIERS = (None, *product(FLOATS, OUT_PATTERNS, ("idx8", "colex")))


def agree(case: Case, judge: bool) -> None:
    """Every witness encodes to the same parts and decodes them to the W of the inputs.

    With `judge` they also give the same canonical parts and warnings.
    """
    parts, *others = (witness.encode(case) for witness in WITNESSES)
    dtype, dense = dense_of(case)
    for witness, other in zip(WITNESSES[1:], others, strict=True):
        assert other == parts, witness.name
    for witness in WITNESSES:
        found, decoded = witness.decode(case.spec, parts)
        assert found == dtype
        assert decoded.shape == dense.shape
        assert np.array_equal(decoded, dense), witness.name
    if not judge:
        return
    canonical, told = (
        WITNESSES[0].canonical(case.spec, parts),
        WITNESSES[0].warnings(case.spec, parts),
    )
    assert (canonical != parts) == ("W_NONCANON" in told)
    if case.mask is None and case.out_mask is None:
        assert canonical == parts
    for witness in WITNESSES[1:]:
        assert witness.canonical(case.spec, parts) == canonical, witness.name
        assert witness.warnings(case.spec, parts) == told, witness.name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pattern", BASE_PATTERNS)
def test_encode_and_decode_agree_over_every_width(pattern: str, dtype: str):
    first = 4 * BASE_PATTERNS.index(pattern) + DTYPES.index(dtype)
    rng = np.random.default_rng(first)
    for i, columns in enumerate(COLUMNS, start=first):  # each width meets other rows and outliers
        shape, out = ((2, 1, 3, 0, 1)[i % 5], columns), OUTLIERS[i % len(OUTLIERS)]
        agree(random_case(rng, dtype, pattern, shape, out, i % 2 == 1), i % 3 == 0)


@pytest.mark.parametrize("out", OUTLIERS[1:], ids=lambda out: " ".join(out))
def test_encode_and_decode_agree_over_every_kind_of_outliers(out: tuple[str, str, str]):
    rng = np.random.default_rng(OUTLIERS.index(out))
    rows, columns = cycle((1, 2, 0, 3)), cycle((172, 5, 256, 300, 257, 1, 64, 255, 258))
    for pattern, dtype, masked in product(BASE_PATTERNS, DTYPES, (False, True)):
        shape = (next(rows), next(columns))
        agree(random_case(rng, dtype, pattern, shape, out, masked), dtype == "F16")


@pytest.mark.parametrize("masked", [False, True])
def test_encode_and_decode_agree_over_unnamed_patterns(masked: bool):
    rng = np.random.default_rng(7)
    for block in (2, 3, 5, 8, 17, 31, 63, 64):
        for stored in {1, block // 2, block - 1}:
            for columns in (1, block - 1, block + 1, 130):
                shape = (2, columns)
                agree(
                    random_case(rng, "BF16", f"{stored}:{block}", shape, None, masked),
                    columns == 130,
                )
                if 256 % block == 0 and (block - stored) * 256 >= 4 * block:
                    out = ("F16", "4:256", "colex")
                    agree(
                        random_case(rng, "F32", f"{stored}:{block}", shape, out, masked),
                        columns == 130,
                    )


def test_encode_answers_alike_for_inputs_that_may_not_fit():
    rng = np.random.default_rng(11)
    seen = set()
    for _ in range(400):
        dtype, columns = str(rng.choice(FLOATS)), int(rng.integers(1, 20))
        base = np.where(rng.random((2, columns)) < 0.4, elements(rng, dtype, columns), 0)
        base = bits(dtype, base)
        mask = rng.random((2, columns)) < 0.5 if rng.random() < 0.4 else None
        outliers, out_mask = None, None
        if rng.random() < 0.5:
            chance = np.where(base == 0, 0.5, 0.02)
            outliers = bits("F16", np.where(rng.random((2, columns)) < chance, ONE["F16"], 0))
            outliers[rng.random((2, columns)) < 0.05] = 0x8000
            out_mask = rng.random((2, columns)) < 0.4 if rng.random() < 0.4 else None
        case = Case(dtype, base, "2:4", mask, None, outliers, "F16", "4:256", "idx8", out_mask)
        answers = []
        for witness in WITNESSES:
            try:
                answers.append(witness.encode(case))
            except Rejected as fault:
                answers.append(fault.code)
        assert all(answer == answers[0] for answer in answers)
        seen.add(answers[0] if isinstance(answers[0], str) else "parts")
    assert seen == {"parts", "X_OVERFULL", "X_NEGZERO", "X_OVERLAP"}


@every_witness
@pytest.mark.parametrize("where", ["base", "outliers"])
@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_decode_keeps_all_bit_patterns_of_16_bits(witness: Witness, dtype: str, where: str):
    every = np.arange(1 << 16, dtype=np.uint16).reshape(512, 128)
    zero = np.zeros((512, 256), dtype=np.uint16)
    if where == "base":
        dense = zero.copy()
        dense[:, ::2] = every
        case = Case(dtype, dense, "2:4")
    else:
        dense = np.zeros((4096, 32), dtype=np.uint16)
        dense[:, ::2] = every.reshape(4096, 16)
        case = Case(dtype, np.zeros_like(dense), "2:4", None, None, dense, dtype, "16:256")
    assert np.array_equal(witness.decode(case.spec, witness.encode(case))[1], dense)


@every_witness
@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_decode_widens_all_bit_patterns_of_16_bits_exactly(witness: Witness, dtype: str):
    every = np.arange(1 << 16, dtype=np.uint16).reshape(512, 128)
    dense = np.zeros((512, 256), dtype=np.uint16)
    dense[:, 1::2] = every
    outliers = np.zeros((512, 256), dtype=np.uint32)
    case = Case(dtype, dense, "2:4", None, None, outliers, "F32", "4:256")
    found, decoded = witness.decode(case.spec, witness.encode(case))
    assert found == "F32"
    assert np.array_equal(decoded, widened(dtype, dense))
    values = decoded[:, 1::2].reshape(-1).view(np.float32)
    if dtype == "F16":
        finite = every.reshape(-1) & 0x7C00 != 0x7C00
        numbers = every.reshape(-1)[finite].view(np.float16).tolist()
        assert values[finite].tolist() == numbers


@every_witness
@pytest.mark.parametrize("base", ["BF16", "I8", "F32"])
def test_decode_widens_f16_outliers_with_their_nan_payloads(witness: Witness, base: str):
    nans = bits("F16", [[0x7C01, 0xFC01, 0x7DFF, 0x7E00, 0xFE55, 0x7C00, 0xFC00, 0x8000]])
    dense = np.zeros((1, 8), dtype=bits(base, []).dtype)
    scale = bits("F32", [1]) if base == "I8" else None
    case = Case(base, dense, "4:8", None, scale, nans, "F16", "8:256", "colex")
    dtype, decoded = witness.decode(case.spec, witness.encode(case))
    want = [0x7F802000, 0xFF802000, 0x7FBFE000, 0x7FC00000, 0xFFCAA000]
    assert dtype == "F32"
    assert decoded[0].tolist() == [*want, 0x7F800000, 0xFF800000, 0x80000000]


@every_witness
def test_decode_rounds_integer_times_scale_once(witness: Witness):
    rng = np.random.default_rng(3)
    worst = bits("F32", [1, 3, 0x7FFFFF, 0x800000, 0x800001, 0x7B800000, 0x7B7FFFFF, 0x3C23D70A])
    scale = np.concatenate([worst, rng.integers(1, 0x7B800001, 24, dtype=np.uint32)])
    dense = np.zeros((32, 512), dtype=np.uint8)
    dense[:, ::2] = np.arange(256)
    case = Case("I8", dense, "8:16", scale=scale)
    dtype, decoded = witness.decode(case.spec, witness.encode(case))
    assert dtype == "F32"
    assert np.array_equal(decoded, widened("I8", dense, scale))
    integers = np.arange(256, dtype=np.uint8).view(np.int8).tolist()
    assert decoded[0, ::2].tolist() == [abs(q) | (0x80000000 if q < 0 else 0) for q in integers]
    assert decoded[5, 256] == 0xFF000000  # -128 * 2^120
    assert decoded[:, 0].tolist() == [0] * 32


@every_witness
@pytest.mark.parametrize("dtype", DTYPES)
def test_encode_stores_special_elements_unchanged(witness: Witness, dtype: str):
    row = np.zeros((1, 2 * len(specials(dtype))), dtype=specials(dtype).dtype)
    row[0, ::2] = specials(dtype)
    case = Case(dtype, row, "1:2", scale=bits("F32", [1]) if dtype == "I8" else None)
    parts = witness.encode(case)
    assert parts["nm_values"] == as_part(dtype, specials(dtype).reshape(1, -1))
