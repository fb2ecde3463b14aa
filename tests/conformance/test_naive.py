"""The naive witness by itself: worked figures, laws, round trips, every code, flipped bits."""

import random
import struct
import sys
from fractions import Fraction
from itertools import combinations
from math import comb

import pytest

from conformance import naive
from conformance.naive import Fault

PATTERNS = [(2, 4), (4, 8), (8, 16), (16, 32), (4, 256), (8, 256), (16, 256)]
WIDTHS = [3, 7, 14, 30, 28, 49, 84]
SPEC = {"coding": "colex", "dtype": "F16", "outliers": None, "pattern": "2:4", "shape": [1, 1]}
IDX8 = {"coding": "idx8", "dtype": "F16", "pattern": "4:256"}
HALF, ONE, TWO, MINUS_ZERO, NAN, INF = 0x3800, 0x3C00, 0x4000, 0x8000, 0x7E01, 0x7C00


def code_of(call, *args, **kwargs):
    """Code of the fault the call raises."""
    with pytest.raises(Fault) as caught:
        call(*args, **kwargs)
    return caught.value.code


def spec_of(shape, dtype="F16", pattern="2:4", outliers=None):
    """Metadata of one weight."""
    return {**SPEC, "dtype": dtype, "outliers": outliers, "pattern": pattern, "shape": shape}


def small_weights():
    """One weight with I8 base and outliers by index, one with a tail and outliers by code."""
    a = spec_of([2, 9], "I8", "4:8", {**IDX8, "dtype": "BF16"})
    b = spec_of([1, 5], outliers={**IDX8, "coding": "colex", "dtype": "F32", "pattern": "8:256"})
    base_a = [[1, 0, 255, 0, 7, 0, 0, 0, 128], [0, 0, 0, 0, 0, 0, 0, 3, 0]]
    out_a = [[0, 0x3F80, 0, 0, 0, 0, 0, 0, 0], [0xC000, 0, 0, 0, 0, 0, 0, 0, 0]]
    parts_a = naive.encode("I8", base_a, "4:8", scale=[0x3C000000, 1], outliers=out_a,
                           out_dtype="BF16", out_pattern="4:256")  # fmt: skip
    parts_b = naive.encode("F16", [[0, ONE, 0, MINUS_ZERO, TWO]], "2:4",
                           outliers=[[0x40400000, 0, 0, 0, 0]], out_dtype="F32",
                           out_pattern="8:256", out_coding="colex")  # fmt: skip
    return {"a.weight": (a, parts_a), "b": (b, parts_b)}


def test_worked_streams():
    codes = [0, 1, 2, 3, 4, 5, 0, 5]
    assert naive.pack(codes, 3) == bytes.fromhex("88c6a2")
    assert naive.unpack(bytes.fromhex("88c6a2"), 8, 3) == codes
    ranks = [naive.rank(mask) for mask in (0x00FF, 0xFF00, 0x5555, 0xAAAA)]
    assert ranks == [0, 12869, 4081, 8788]
    assert naive.pack(ranks, 14) == bytes.fromhex("004091 1cff50 89")


def test_worked_digest():
    parts = naive.encode("F16", [[ONE]], "2:4")
    assert parts["nm_codes"] == ("U8", [1, 1], b"\x00")
    assert parts["nm_values"] == ("F16", [1, 2], bytes.fromhex("003c0000"))
    file = naive.read(naive.write({"w": (SPEC, parts)}, {}))
    assert file.metadata["content_sha256"] == (
        "aacd0df8506133ebd8eeda5cf49858c05338830b8ae16e86da46b52fdd31bd97"
    )


@pytest.mark.parametrize(("pattern", "width"), list(zip(PATTERNS, WIDTHS, strict=True)))
def test_widths_and_largest_rank(pattern, width):
    n, m = pattern
    assert naive.width(n, m) == width
    assert naive.rank(((1 << n) - 1) << (m - n)) == comb(m, n) - 1
    assert code_of(naive.unrank, comb(m, n), n, m) == "E_CODE_RANGE"


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (4, 8), (3, 7), (8, 16)])
def test_complete_patterns(n, m):
    masks = sorted(sum(1 << p for p in chosen) for chosen in combinations(range(m), n))
    for code, mask in enumerate(masks):
        assert naive.rank(mask) == code
        assert naive.unrank(code, n, m) == mask
        if 2 * n == m:
            assert naive.rank(mask ^ ((1 << m) - 1)) == comb(m, n) - 1 - code


def test_lex_agrees_on_256_masks_only():
    lex = (sum(1 << p for p in chosen) for chosen in combinations(range(16), 8))
    assert sum(naive.rank(mask) == i for i, mask in enumerate(lex)) == 256


@pytest.mark.parametrize(("n", "m"), PATTERNS)
def test_large_patterns_by_sample(n, m):
    chance = random.Random(n * m)
    for _ in range(50):
        code = chance.randrange(comb(m, n))
        mask = naive.unrank(code, n, m)
        assert mask.bit_count() == n
        assert mask < 1 << m
        assert naive.rank(mask) == code


def test_padding_bits():
    assert code_of(naive.unpack, b"\x08", 1, 3) == "E_PAD"
    assert naive.unpack(b"", 0, 3) == []


def test_rounding_to_f32_agrees_with_the_c_cast():
    chance = random.Random(1)
    for _ in range(3000):
        scale = chance.choice([chance.randrange(1, 0x1000000), chance.randrange(1, 0x7B800001)])
        element = chance.randrange(256)
        (s,) = struct.unpack("<f", struct.pack("<I", scale))
        (want,) = struct.unpack("<I", struct.pack("<f", (element - 256 * (element > 127)) * s))
        assert naive.scaled(element, scale) == want
    assert naive.scaled(0x80, 0x7B800000) == 0xFF000000
    assert naive.scaled(3, 1) == 3
    assert naive.round_f32(False, 1, 128) == 0x7F800000
    assert naive.round_f32(True, 3, -151) == 0x80000001
    assert naive.round_f32(True, 1, -150) == 0x80000000


def test_f16_widens_exactly():
    for bits in range(1 << 16):
        wide = naive.widen("F16", bits)
        if bits & 0x7C00 == 0x7C00:
            assert wide == (bits >> 15 << 31) | 0x7F800000 | (bits & 0x3FF) << 13
        else:
            (half,) = struct.unpack("<e", struct.pack("<H", bits))
            assert struct.pack("<f", half) == struct.pack("<I", wide)
            assert Fraction(struct.unpack("<f", struct.pack("<I", wide))[0]) == Fraction(half)


def test_fill_takes_the_lowest_columns_of_the_whole_block():
    parts = naive.encode("F16", [[0, 0, 0, 0, 0, ONE]], "2:4")
    base, out = naive.slots(spec_of([1, 6]), parts)
    assert base == [[[(0, 0), (1, 0)], [(4, 0), (5, ONE)]]]
    assert out is None
    parts = naive.encode("F16", [[ONE]], "4:8")
    assert naive.slots(spec_of([1, 1], pattern="4:8"), parts)[0] == [
        [[(0, ONE), (1, 0), (2, 0), (3, 0)]]
    ]


def test_outlier_fill_skips_base_weights_and_base_fill_ignores_outliers():
    parts = naive.encode("F16", [[ONE, 0, TWO, 0, 0]], "2:4", outliers=[[0, 0, 0, HALF, 0]],
                         out_dtype="F16", out_pattern="4:256")  # fmt: skip
    base, out = naive.slots(spec_of([1, 5], outliers=IDX8), parts)
    assert base == [[[(0, ONE), (2, TWO)], [(4, 0), (5, 0)]]]
    assert out == [[[(1, 0), (3, HALF), (4, 0), (5, 0)]]]
    assert parts["nm_out_index"] == ("U8", [1, 4], bytes([1, 3, 4, 5]))


def encode_one(row, mask=None, **more):
    """Encode one F16 row as 2:4."""
    return naive.encode("F16", [row], "2:4", [mask] if mask is not None else None, **more)


def outliers_of(row, mask=None):
    """Arguments for one F16 row of 4:256 outliers."""
    out_mask = [mask] if mask is not None else None
    return {"outliers": [row], "out_dtype": "F16", "out_pattern": "4:256", "out_mask": out_mask}


@pytest.mark.parametrize(
    ("code", "row", "mask"),
    [
        ("X_OVERFULL", [ONE, ONE, ONE, 0], None),
        ("X_OVERFULL", [ONE, NAN, 1, MINUS_ZERO], None),
        ("X_OVERFULL", [0, 0, 0, 0], [1, 1, 1, 0]),
        ("X_OVERFULL", [ONE, 0, 0, 0], [0, 1, 0, 0]),
        ("X_OVERFULL", [ONE, MINUS_ZERO, 0, 0], [0, 0, 1, 1]),
        ("X_NEGZERO", [ONE, ONE, MINUS_ZERO, 0], None),
        ("X_NEGZERO", [MINUS_ZERO] * 3, None),
        ("X_NEGZERO", [MINUS_ZERO, 0, 0, 0], [0, 1, 0, 0]),
    ],
)
def test_encode_never_prunes(code, row, mask):
    assert code_of(encode_one, row, mask) == code


def test_encode_order_of_checks():
    full = [ONE, ONE, ONE, 0]
    assert code_of(encode_one, []) == "X_SHAPE"
    assert code_of(naive.encode, "F16", [], "2:4") == "X_SHAPE"
    assert code_of(naive.encode, "F16", [full, [0]], "2:4") == "X_SHAPE"
    assert code_of(encode_one, full, [1, 1]) == "X_SHAPE"
    assert code_of(naive.encode, "F64", [full], "2:4") == "X_DTYPE"
    assert code_of(encode_one, full, scale=[1]) == "X_DTYPE"
    assert code_of(naive.encode, "I8", [[1, 1, 1, 0]], "2:4") == "E_SCALE"
    for bad in (0, 0x80000001, 0x7B800001, 0x7F800000, 0x7FC00000):
        assert code_of(naive.encode, "I8", [[1, 1, 1, 0]], "2:4", scale=[bad]) == "E_SCALE"
    assert code_of(encode_one, full, **outliers_of([0, 0, ONE, 0])) == "X_OVERLAP"
    assert code_of(encode_one, full, **outliers_of([0] * 4, [0, 0, 1, 0])) == "X_OVERLAP"
    assert code_of(encode_one, full, **outliers_of([0, 0, 0, ONE])) == "X_OVERFULL"
    assert code_of(encode_one, [0] * 6, **outliers_of([ONE] * 5 + [0])) == "X_OVERFULL"


def test_too_few_free_columns_for_outliers():
    row = ([ONE] * 63 + [0]) * 4
    row[63 + 64] = ONE
    row[64] = 0
    more = {"out_dtype": "F16", "out_pattern": "8:256"}
    fault = code_of(naive.encode, "F16", [row], "63:64", outliers=[[0] * 256], **more)
    assert fault == "X_OVERFULL"


def test_a_mask_is_content():
    row, mask = [0, 0, 0, ONE], [0, 0, 1, 1]
    parts = encode_one(row, mask)
    spec = spec_of([1, 4])
    assert naive.slots(spec, parts)[0] == [[[(2, 0), (3, ONE)]]]
    assert naive.decode(spec, parts) == ("F16", [row])
    assert naive.warnings(spec, parts) == ["W_NONCANON"]
    assert naive.canonical(spec, parts) == encode_one(row)
    assert naive.warnings(spec_of([1, 2]), encode_one([NAN, 0])) == ["W_NONFINITE"]


def patched(parts, suffix, at, value):
    """Parts with one byte changed."""
    dtype, shape, data = parts[suffix]
    return {**parts, suffix: (dtype, shape, data[:at] + bytes([value]) + data[at + 1 :])}


def test_decode_faults():
    spec = spec_of([1, 5], outliers=IDX8)
    parts = encode_one([ONE, 0, 0, 0, 0], **outliers_of([0, TWO, 0, 0, 0]))
    assert naive.decode(spec, parts) == ("F16", [[ONE, TWO, 0, 0, 0]])

    def fault(changed, spec=spec):
        return code_of(naive.decode, spec, changed)

    assert fault(parts, {**spec, "shape": [-1, 5]}) == "E_LIMIT"
    assert fault(parts, {**spec, "shape": [1, 0]}) == "E_LIMIT"
    assert fault({k: v for k, v in parts.items() if k != "nm_out_index"}) == "E_MISSING"
    assert fault({**parts, "nm_codes": ("I8", *parts["nm_codes"][1:])}) == "E_DTYPE"
    assert fault(parts, {**spec, "shape": [2, 5]}) == "E_SHAPE"
    assert fault({**parts, "nm_scale": ("F32", [1], bytes(4))}) == "E_UNEXPECTED"
    assert fault(patched(parts, "nm_codes", 0, 0x40)) == "E_PAD"
    assert fault(patched(parts, "nm_codes", 0, 0x07)) == "E_CODE_RANGE"
    assert fault(patched(parts, "nm_values", 7, 0x80)) == "E_TAIL"
    assert fault(patched(parts, "nm_out_index", 0, 2)) == "E_INDEX_ORDER"
    assert fault(patched(parts, "nm_out_index", 0, 0)) == "E_OVERLAP"
    both = patched(patched(parts, "nm_out_index", 3, 9), "nm_out_values", 7, 1)
    assert fault(both) == "E_TAIL"
    assert fault(patched(both, "nm_codes", 0, 0x07)) == "E_CODE_RANGE"
    i8 = naive.encode("I8", [[1]], "2:4", scale=[0x3F800000])
    assert fault(patched(i8, "nm_scale", 3, 0xFF), spec_of([1, 1], "I8")) == "E_SCALE"


def test_decode_dtypes():
    a, b = small_weights().values()
    assert naive.decode(*b) == ("F32", [[0x40400000, 0x3F800000, 0, 0x80000000, 0x40000000]])
    dtype, rows = naive.decode(*a)
    assert dtype == "F32"
    assert rows[0] == [0x3C000000, 0x3F800000, 0xBC000000, 0, 0x3D600000, 0, 0, 0, 0xBF800000]
    assert rows[1] == [0xC0000000, 0, 0, 0, 0, 0, 0, 3, 0]


def random_matrix(chance, dtype, r, k, n, m, free):
    """Rows with at most n elements a block, of any bits, at free columns."""
    bits = 8 * naive.SIZES[dtype]
    rows = [[0] * k for _ in range(r)]
    for i in range(r):
        for start in range(0, k, m):
            columns = [c for c in range(start, min(start + m, k)) if free(i, c)]
            for c in chance.sample(columns, chance.randrange(min(n, len(columns)) + 1)):
                rows[i][c] = chance.getrandbits(bits)
    return rows


def test_round_trips():
    chance = random.Random(20250703)
    for _ in range(150):
        dtype, pattern = chance.choice(["F32", "F16", "BF16", "I8"]), chance.choice(PATTERNS[:4])
        r, k = chance.randrange(3), chance.randrange(1, 301)
        base = random_matrix(chance, dtype, r, k, *pattern, lambda i, c: True)
        scale = [chance.randrange(1, 0x7B800001) for _ in range(r)] if dtype == "I8" else None
        more, info, out = {}, None, None
        if chance.random() < 0.7:
            info = {"dtype": chance.choice(["F32", "F16", "BF16"]),
                    "coding": chance.choice(["idx8", "colex"]),
                    "pattern": chance.choice(["4:256", "8:256", "16:256"])}  # fmt: skip
            n = int(info["pattern"].split(":")[0])
            out = random_matrix(chance, info["dtype"], r, k, n, 256,
                                lambda i, c, base=base: base[i][c] == 0)  # fmt: skip
            more = {"outliers": out, **{f"out_{key}": value for key, value in info.items()}}
        text = f"{pattern[0]}:{pattern[1]}"
        parts = naive.encode(dtype, base, text, scale=scale, columns=k, **more)
        spec = spec_of([r, k], dtype, text, info)
        slots, out_slots = naive.slots(spec, parts)
        assert naive.dense(spec, slots) == base
        assert out is None or naive.dense(spec, out_slots) == out
        assert "W_NONCANON" not in naive.warnings(spec, parts)
        data = naive.write({"w": (spec, parts)}, {})
        assert naive.read(data).weights == {"w": (spec, parts)}


def small_file():
    """Two weights, another tensor, an extra key."""
    others = {"norm": ("BF16", [3], bytes(range(6))), "empty": ("F32", [0, 7], b"")}
    return naive.write(small_weights(), others, extra={"x-note": 'say "\\"'})


def test_file_round_trip():
    data = small_file()
    file = naive.read(data)
    assert file.weights == small_weights()
    assert list(file.others) == ["empty", "norm"]
    assert file.metadata["x-note"] == 'say "\\"'
    assert naive.write(file.weights, file.others, extra={"x-note": 'say "\\"'}) == data
    assert struct.unpack("<Q", data[:8])[0] % 8 == 0


def test_every_flipped_bit_is_rejected():
    spec = spec_of([1, 5], "I8", outliers=IDX8)
    parts = naive.encode("I8", [[0, 5, 0, 0, 0]], "2:4", scale=[0x3F800000],
                         **outliers_of([ONE, 0, 0, 0, 0]))  # fmt: skip
    data = naive.write({"w": (spec, parts)}, {"b": ("F32", [1], bytes(4))})
    naive.read(data)
    for at in range(len(data)):
        for bit in range(8):
            flipped = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
            with pytest.raises(Fault):
                naive.read(flipped)
    for end in range(len(data)):
        with pytest.raises(Fault):
            naive.read(data[:end])


def header_fault(header, body=b""):
    """Code for a file with this header text and data."""
    raw = header if isinstance(header, bytes) else header.encode("utf-8")
    return code_of(naive.read, struct.pack("<Q", len(raw)) + raw + body)


ENTRY = '{"dtype":"U8","shape":[2],"data_offsets":[0,2]}'


@pytest.mark.parametrize(
    "header",
    [
        "",
        " {}",
        "\ufeff{}",
        "{}\n",
        "{}x",
        "{",
        '{"a',
        '{"a":' + ENTRY,
        '{"a":' + ENTRY + ",}",
        '{"a":' + ENTRY + ',"a":' + ENTRY + "}",
        '{"a b":' + ENTRY + "}",
        '{"":' + ENTRY + "}",
        '{"' + "a" * 513 + '":' + ENTRY + "}",
        '{"a":' + ENTRY.replace("}", ',"x":1}') + "}",
        '{"a":' + ENTRY.replace("[2]", "[2.0]") + "}",
        '{"a":' + ENTRY.replace("[2]", "[02]") + "}",
        '{"a":' + ENTRY.replace("[2]", "[2e0]") + "}",
        '{"a":' + ENTRY.replace("[2]", "[true,2]") + "}",
        '{"a":' + ENTRY.replace("[2]", "[3]") + "}",
        '{"a":' + ENTRY.replace("[0,", "[-0,") + "}",
        '{"a":' + ENTRY.replace("[0,2]", "[2,0]") + "}",
        '{"a":' + ENTRY.replace("[0,2]", "[1,3]") + "}",
        '{"a":' + ENTRY.replace("[0,2]", "[0,2,2]") + "}",
        '{"a":' + ENTRY.replace("[2]", "[" + "9" * 6000 + "]") + "}",
        '{"a":' + ENTRY.replace("[2]", "[4294967296,4294967296,0]") + "}",
        '{"a":' + ENTRY.replace("[2]", "[[[2]]]") + "}",
        '{"a":NaN}',
        '{"a":' + ENTRY + ',"__metadata__":null}',
        '{"a":' + ENTRY + ',"__metadata__":{"nmref":1}}',
        '{"a":' + ENTRY + ',"__metadata__":{"x":"\\ud800"}}',
        '{"a":' + ENTRY + ',"__metadata__":{"x":"\\udc00\\ud800"}}',
        '{"a":' + ENTRY + ',"__metadata__":{"x":"\\u00zz"}}',
        '{"a":' + ENTRY + ',"__metadata__":{"x":"\t"}}',
        b'{"a":' + ENTRY.encode() + b',"__metadata__":{"x":"\xff"}}',
        b'{"a":' + ENTRY.encode() + b',"__metadata__":{"x":"\xed\xa0\x80"}}',
        '{"a":' * 200_000,
        '{"a":' + "[" * 200_000 + "]" * 200_000 + "}",
    ],
)
def test_bad_headers(header):
    assert header_fault(header, b"\0\0") == "E_HEADER"


def test_header_limits_and_dtypes():
    assert code_of(naive.read, b"1234567") == "E_HEADER"
    assert code_of(naive.read, struct.pack("<Q", 100_000_001)) == "E_LIMIT"
    assert code_of(naive.read, struct.pack("<Q", 100_000_000)) == "E_HEADER"
    entry = '{"dtype":"F4","shape":[9],"data_offsets":[0,2]}'
    assert header_fault('{"a":' + entry + "}", b"\0\0") == "E_DTYPE"
    empty = '{"dtype":"U8","shape":[0],"data_offsets":[%d,%d]}'
    two = '{"a":' + ENTRY + ',"b":' + empty + "}"
    assert header_fault(two % (1, 1), b"\0\0") == "E_HEADER"
    assert header_fault(two % (2, 2), b"\0\0") == "E_META"
    assert header_fault(' { "a" : %s\r\n}  '[1:] % ENTRY, b"\0\0") == "E_META"


def meta_fault(change):
    """Code for the one-weight file with its nmref text replaced; the digest may be stale."""
    parts = naive.encode("F16", [[ONE]], "2:4")
    tensors = {f"w.{suffix}": part for suffix, part in parts.items()}
    file = naive.read(naive.write({"w": (SPEC, parts)}, {}))
    good = (
        '{"content_sha256":"'
        + file.metadata["content_sha256"]
        + '","spec":"1.0","tensors":{"w":{"coding":"colex","dtype":"F16",'
        '"outliers":null,"pattern":"2:4","shape":[1,1]}}}'
    )
    naive.read(naive.assemble(tensors, {"nmref": good}))
    return code_of(naive.read, naive.assemble(tensors, {"nmref": change(good)}))


@pytest.mark.parametrize(
    ("code", "old", "new"),
    [
        ("E_META", '"spec":"1.0",', ""),
        ("E_META", '"1.0"', '"1"'),
        ("E_META", '"1.0"', '"01.0"'),
        ("E_META", '"1.0"', "1.0"),
        ("E_META", '{"content', '{"a":1,"a":2,"content'),
        ("E_META", '"1.0"', '"2.0","deep":' + "[" * 8 + "]" * 8),
        ("E_META", '"1.0"', '"2.0","deep":' + "[" * 200_000),
        ("E_VERSION", '"1.0"', '"2.0"'),
        ("E_VERSION", '"1.0"', '"2.0","deep":' + "[" * 7 + "]" * 7),
        ("E_VERSION", '"1.0"', f'"{"9" * 6000}.0"'),
        ("E_VERSION", '"1.0"', '"0.0" '),
        ("E_DIGEST", '"1.0"', '"1.7"'),
        ("E_META", '"w":', '"w": '),
        ("E_META", '"w"', '"w.nm_x"'),
        ("E_META", '"w"', '"\\u0077"'),
        ("E_META", "null", '{"coding":"idx8","dtype":"I8","pattern":"4:256"}'),
        ("E_META", "null", '{"coding":"idx8","dtype":"F16","pattern":"2:256"}'),
        ("E_META", "2:4", "4:4"),
        ("E_META", "2:4", "02:4"),
        ("E_META", "2:4", "2:65"),
        ("E_META", "F16", "F64"),
        ("E_META", "[1,1]", "[1,1,1]"),
        ("E_META", "[1,1]", "[1,true]"),
        ("E_META", "[1,1]", "[1,1.0]"),
        ("E_META", "[1,1]", "[1,-0]"),
        ("E_META", "[1,1]", '[1,1],"x":"y"'),
        ("E_META", "[1,1]", '[1,1],"x-y":1'),
        ("E_DIGEST", "[1,1]", '[1,1],"x-y":"z"'),
        ("E_LIMIT", "[1,1]", "[1,0]"),
        ("E_LIMIT", "[1,1]", "[-1,1]"),
        ("E_LIMIT", "[1,1]", "[2147483648,1]"),
        ("E_META", "[1,1]", "[1," + "9" * 6000 + "]"),
        ("E_META", "[1,1]", "[1,9223372036854775808]"),
        ("E_LIMIT", "[1,1]", "[1,9223372036854775807]"),
        ("E_SHAPE", "[1,1]", "[2,1]"),
        ("E_DTYPE", "F16", "BF16"),
        ("E_MISSING", '"w"', '"v"'),
        ("E_MISSING", "null", '{"coding":"idx8","dtype":"F16","pattern":"4:256"}'),
        ("E_DIGEST", "2:4", "2:3"),
    ],
)
def test_bad_metadata(code, old, new):
    assert meta_fault(lambda text: text.replace(old, new, 1)) == code


def test_unexpected_tensors():
    parts = naive.encode("F16", [[ONE]], "2:4")
    for name in ("w", "w.nm_scale", "other.nm_", ".nm_x"):
        data = naive.write({"w": (SPEC, parts)}, {name: ("U8", [1], b"\0")})
        assert code_of(naive.read, data) == "E_UNEXPECTED"
    data = naive.write({"w": (SPEC, parts)}, {"nm_x": ("U8", [1], b"\0")})
    assert list(naive.read(data).others) == ["nm_x"]
    assert header_fault("{}") == "E_META"
    assert naive.read(naive.write({}, {})).weights == {}


def test_safetensors_library_opens_the_file(tmp_path):
    safetensors = pytest.importorskip("safetensors")
    path = tmp_path / "small.safetensors"
    path.write_bytes(small_file())
    want = naive.read(small_file())
    with safetensors.safe_open(path, "np") as opened:
        assert list(opened.metadata()) == ["nmref"]
        names = {f"{t}.{s}" for t, (_, parts) in want.weights.items() for s in parts}
        assert set(opened.keys()) == names | set(want.others)
        for name in ("a.weight.nm_values", "b.nm_out_codes", "b.nm_values"):
            weight, suffix = name.rsplit(".", 1)
            assert opened.get_tensor(name).tobytes() == want.weights[weight][1][suffix][2]


def test_standard_library_only():
    prefix = "conformance.naive"
    for name, module in list(sys.modules.items()):
        if name == prefix or name.startswith(prefix + "."):
            with open(module.__file__, encoding="utf-8") as source:
                lines = [
                    line.split()[1] for line in source if line.startswith(("import ", "from "))
                ]
            allowed = sys.stdlib_module_names
            assert all(word.startswith(".") or word.split(".")[0] in allowed for word in lines)
