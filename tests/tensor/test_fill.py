"""The fill rule and the slots of masks: SPEC 3.9 to 3.13, 3.21, 3.22, 4.14."""

from itertools import product

import numpy as np
import pytest

from tests.cases import DTYPES, ONE, SIZES, bits, masks, random_case
from tests.witness import UNSIGNED, Case, Part, Parts, Witness, every_witness

Slots = list[list[list[tuple[int, int]]]]
"""Rows of blocks of (column in the block, bits)."""

NAN, HALF, TWO, MINUS_ZERO = 0x7E01, 0x3800, 0x4000, 0x8000


def split(part: Part, count: int) -> list[list[list[int]]]:
    """Elements of a part [R, B * count] by row and block."""
    dtype, (rows, slots), data = part
    unsigned = UNSIGNED[SIZES.get(dtype, 1)]
    return np.frombuffer(data, unsigned).reshape(rows, slots // count, count).tolist()


def base_slots(pattern: str, parts: Parts) -> Slots:
    table = masks(pattern)
    stored, block = (int(word) for word in pattern.split(":"))
    width = (len(table) - 1).bit_length()
    found: Slots = []
    values = split(parts["nm_values"], stored)
    size = parts["nm_codes"][1][1]
    for row, blocks in enumerate(values):
        stream = int.from_bytes(parts["nm_codes"][2][row * size : (row + 1) * size], "little")
        found.append([])
        for b, here in enumerate(blocks):
            mask = table[stream >> (b * width) & ((1 << width) - 1)]
            columns = [i for i in range(block) if mask >> i & 1]
            found[-1].append(list(zip(columns, here, strict=True)))
    return found


def out_slots(pattern: str, parts: Parts) -> Slots:
    count = int(pattern.split(":")[0])
    index, values = split(parts["nm_out_index"], count), split(parts["nm_out_values"], count)
    pairs = zip(index, values, strict=True)
    return [[list(zip(i, v, strict=True)) for i, v in zip(*row, strict=True)] for row in pairs]


def wanted(pattern: str, dense: np.ndarray, mask: np.ndarray | None, barred: np.ndarray) -> Slots:
    """Slots by the text of 3.9."""
    stored, block = (int(word) for word in pattern.split(":"))
    rows, columns = dense.shape
    found: Slots = [[] for _ in range(rows)]
    for row, start in product(range(rows), range(0, columns, block)):
        real = range(min(block, columns - start))
        taken = dense[row] != 0 if mask is None else mask[row]
        used = [i for i in real if taken[start + i]]
        free = [
            i
            for i in range(block)
            if i not in used and not (start + i < columns and barred[row, start + i])
        ]
        chosen = sorted(used + free[: stored - len(used)])
        at = {i: int(dense[row, start + i]) for i in used}
        found[row].append([(i, at.get(i, 0)) for i in chosen])
    return found


@every_witness
@pytest.mark.parametrize("masked", [False, True], ids=["free", "masked"])
def test_encode_fills_with_the_lowest_unused_columns(witness: Witness, masked: bool):
    rng = np.random.default_rng(5)
    for pattern, dtype in product(("1:2", "2:4", "3:7", "4:8", "8:16"), DTYPES):
        for columns in (1, 2, 5, 16, 23, 260):
            out = ("BF16", str(rng.choice(["4:256", "8:256", "16:256"])), "idx8")
            case = random_case(rng, dtype, pattern, (2, columns), out, masked)
            assert case.outliers is not None
            parts = witness.encode(case)
            nothing = np.zeros(case.base.shape, dtype=np.bool_)
            base = wanted(pattern, case.base, case.mask, nothing)
            assert base_slots(pattern, parts) == base
            outliers = wanted(out[1], case.outliers, case.out_mask, case.base != 0)
            assert out_slots(out[1], parts) == outliers
            stored = int(pattern.split(":")[0])
            assert {len(block) for row in base for block in row} == {stored}


@every_witness
@pytest.mark.parametrize(
    ("pattern", "row", "mask", "slots"),
    [
        ("2:4", [0, 0, 0, 0], None, [[(0, 0), (1, 0)]]),
        ("2:4", [0, 0, 0, HALF], None, [[(0, 0), (3, HALF)]]),
        ("2:4", [HALF, 0, 0, 0], None, [[(0, HALF), (1, 0)]]),
        ("2:4", [0, 0, MINUS_ZERO, 0], None, [[(0, 0), (2, MINUS_ZERO)]]),
        ("2:4", [0, NAN, 0, 1], None, [[(1, NAN), (3, 1)]]),
        ("2:4", [HALF], None, [[(0, HALF), (1, 0)]]),
        ("4:8", [0], None, [[(0, 0), (1, 0), (2, 0), (3, 0)]]),
        ("2:4", [0, 0, 0, 0, 0, HALF], None, [[(0, 0), (1, 0)], [(0, 0), (1, HALF)]]),
        ("2:4", [0, 0, 0, HALF], [0, 0, 1, 1], [[(2, 0), (3, HALF)]]),
        ("2:4", [0, 0, 0, 0], [0, 0, 0, 1], [[(0, 0), (3, 0)]]),
        ("2:4", [0, 0, 0, 0], [0, 0, 0, 0], [[(0, 0), (1, 0)]]),
        ("2:4", [0, MINUS_ZERO, 0, 0], [0, 1, 0, 1], [[(1, MINUS_ZERO), (3, 0)]]),
    ],
)
def test_encode_gives_these_slots(
    witness: Witness, pattern: str, row: list[int], mask: list[int] | None, slots: list
):
    given = None if mask is None else np.array([mask], dtype=np.bool_)
    case = Case("F16", bits("F16", [row]), pattern, given)
    assert base_slots(pattern, witness.encode(case)) == [slots]


@every_witness
def test_encode_fills_outliers_beside_base_weights_only(witness: Witness):
    base = bits("F16", [[ONE["F16"], 0, TWO, 0, 0], [0, MINUS_ZERO, 0, 0, 0]])
    outliers = bits("F16", [[0, 0, 0, HALF, 0], [0, 0, 0, 0, HALF]])
    case = Case("F16", base, "2:4", outliers=outliers)
    parts = witness.encode(case)
    assert base_slots("2:4", parts) == [
        [[(0, ONE["F16"]), (2, TWO)], [(0, 0), (1, 0)]],
        [[(0, 0), (1, MINUS_ZERO)], [(0, 0), (1, 0)]],
    ]
    assert out_slots("4:256", parts) == [
        [[(1, 0), (3, HALF), (4, 0), (5, 0)]],
        [[(0, 0), (2, 0), (3, 0), (4, HALF)]],
    ]


@every_witness
def test_encode_lets_a_base_mask_name_columns_of_outliers(witness: Witness):
    base, outliers = bits("F16", [[0, 0, 0, HALF]]), bits("F16", [[0, 0, TWO, 0]])
    mask = np.array([[False, False, True, True]])
    parts = witness.encode(Case("F16", base, "2:4", mask, outliers=outliers))
    assert base_slots("2:4", parts) == [[[(2, 0), (3, HALF)]]]
    assert out_slots("4:256", parts) == [[[(0, 0), (1, 0), (2, TWO), (4, 0)]]]


@every_witness
def test_encode_exchanges_masks_as_integers_of_one(witness: Witness):
    rng = np.random.default_rng(9)
    case = random_case(rng, "I8", "8:16", (3, 70))
    ones = (case.base != 0).astype(np.uint8)
    case = Case("I8", ones, "8:16", scale=bits("F32", [ONE["F32"]] * 3))
    dense = witness.decode(case.spec, witness.encode(case))[1]
    assert np.array_equal(dense == ONE["F32"], ones != 0)


@every_witness
def test_warnings_tell_other_slots_and_infinities(witness: Witness):
    def told(case: Case) -> list[str]:
        return witness.warnings(case.spec, witness.encode(case))

    def row(*values: int) -> np.ndarray:
        return bits("F16", [values])

    def chosen(*flags: int) -> np.ndarray:
        return np.array([flags], dtype=np.bool_)

    assert told(Case("F16", row(0, HALF, MINUS_ZERO, 0, 1), "2:4")) == []
    assert told(Case("F16", row(0, 0, 0, HALF), "2:4", chosen(0, 0, 0, 1))) == []
    assert told(Case("F16", row(0, 0, 0, HALF), "2:4", chosen(0, 0, 1, 1))) == ["W_NONCANON"]
    assert told(Case("F16", row(NAN), "2:4")) == ["W_NONFINITE"]
    both = Case("F16", row(0, 0, 0, 0xFC00), "2:4", chosen(0, 1, 0, 1))
    assert told(both) == ["W_NONCANON", "W_NONFINITE"]
    assert told(Case("F16", row(0, HALF), "2:4", outliers=row(0x7C00, 0))) == ["W_NONFINITE"]
    zero = row(0, 0)
    moved = Case("F16", zero, "2:4", outliers=row(0, 0), out_mask=chosen(0, 1))
    assert told(moved) == []
    far = np.zeros((1, 9), dtype=np.bool_)
    far[0, 8] = True
    spread = np.zeros((1, 9), dtype=np.uint16)
    assert told(Case("F16", spread, "2:4", outliers=spread, out_mask=far)) == ["W_NONCANON"]
    i8 = Case("I8", bits("I8", [[0x80, 0xFF]]), "2:4", scale=bits("F32", [0x7B800000]))
    assert told(i8) == []


@every_witness
@pytest.mark.parametrize("coding", ["idx8", "colex"])
def test_canonical_of_masked_slots_is_the_encoding_without_masks(witness: Witness, coding: str):
    rng = np.random.default_rng(13)
    for columns in (5, 40, 300):
        case = random_case(rng, "F32", "4:8", (2, columns), ("F16", "8:256", coding), masked=True)
        plain = Case("F32", case.base, "4:8", None, None, case.outliers, "F16", "8:256", coding)
        parts = witness.encode(case)
        assert witness.canonical(case.spec, parts) == witness.encode(plain)
        canonical = witness.canonical(case.spec, witness.encode(plain))
        assert canonical == witness.encode(plain)
        assert np.array_equal(
            witness.decode(case.spec, parts)[1], witness.decode(case.spec, canonical)[1]
        )
