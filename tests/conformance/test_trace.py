"""Traces: digests by SPEC 8.37, files that say what the forward said, comparison to the bit."""

import copy
import hashlib
import json
import re
import shutil
import zlib
from array import array

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from nmref import NmrefError
from nmref.conformance import taps, trace_files
from nmref.conformance.memh import Field, Memory
from nmref.conformance.schema import table_schema, trace_schema
from nmref.conformance.taps import LAYER_TAPS, place, select, tap_names
from nmref.conformance.trace import Identity, Tap, canonical, digests, trace_digest, write
from nmref.conformance.trace_compare import compare
from nmref.model import llama
from nmref.model.config import expected_shapes, parse_config
from nmref.numerics.ops import Golden

CONFIG = parse_config(
    {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 32,
        "max_position_embeddings": 40,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
    }
)
TOKENS = (3, 1, 31, 0, 7)
GOLDEN = Identity("golden", "nmref-tiny")


@pytest.fixture(scope="module")
def weights():
    rng = np.random.default_rng(7)
    return {
        name: (1 if "norm" in name else 0) + rng.normal(scale=0.3, size=shape).astype(np.float32)
        for name, shape in expected_shapes(CONFIG).items()
    }


@pytest.fixture(scope="module")
def seen(weights):
    """Every tap of the forward, copied, in the order in which it came."""
    found = {}
    llama.forward(weights, CONFIG, TOKENS, tap=lambda n, x: found.update({n: x.copy()}), ops=ops())
    return found


@pytest.fixture
def folder(weights, tmp_path):
    """A trace of all taps, with memories."""
    write(tmp_path / "trace", weights, CONFIG, TOKENS, ops(), GOLDEN, memh=True)
    return tmp_path / "trace"


def ops():
    return Golden("f64.seq", threads=1)


def refuse(folder) -> str:
    with pytest.raises(NmrefError, match=r"^T_FILE ") as caught:
        trace_files.read(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(folder, change) -> None:
    """Change the content of the index in place."""
    path = folder / "index.json"
    index = json.loads(path.read_bytes())
    change(index)
    path.write_text(json.dumps(index))


# --- names ---------------------------------------------------------------------------------------


def test_names_and_shapes_are_those_of_the_forward(seen):
    assert list(seen) == tap_names(CONFIG) == sorted(sorted(seen), key=place)
    assert all(taps.NAME.fullmatch(name) for name in seen)
    t, s = len(TOKENS), len(TOKENS)
    want = {"embed": (t, 16), "norm": (t, 16), "logits": (t, 32)}
    for layer in range(2):
        inner = dict.fromkeys(LAYER_TAPS, (t, 16))
        inner |= dict.fromkeys(("k", "v", "k_rope"), (t, 8))
        inner |= dict.fromkeys(("gate", "up", "activation"), (t, 24))
        inner |= dict.fromkeys(("scores", "probs"), (4, t, s))
        want |= {f"layers.{layer}.{name}": shape for name, shape in inner.items()}
    assert {name: x.shape for name, x in seen.items()} == want


@pytest.mark.parametrize(
    ("layers", "names", "want"),
    [
        (None, ["q", "logits"], ["layers.0.q", "layers.1.q", "logits"]),
        ([1], ["v", "q"], ["layers.1.q", "layers.1.v"]),
        ([1], ["embed", "q"], ["embed", "layers.1.q"]),
        (None, ["layers.1.o", "layers.0.q"], ["layers.0.q", "layers.1.o"]),
        ([0], None, [f"layers.0.{name}" for name in LAYER_TAPS]),
        ([0, 0, 1], ["residual"], ["layers.0.residual", "layers.1.residual"]),
        (None, ["norm"], ["norm"]),
        (None, None, tap_names(CONFIG)),
    ],
)
def test_select(layers, names, want):
    assert select(CONFIG, layers, names) == want


@pytest.mark.parametrize(
    ("layers", "names", "message"),
    [
        (None, ["Q"], r"T_ARGUMENT taps: unknown tap 'Q', want embed, attn_norm, q, "),
        (None, ["layers.2.q"], r"T_ARGUMENT taps: unknown tap 'layers\.2\.q', want "),
        (None, [""], r"T_ARGUMENT taps: unknown tap '', want "),
        ([2], None, r"T_ARGUMENT layers: layer 2, want 0 to 1"),
        ([-1], None, r"T_ARGUMENT layers: layer -1, want 0 to 1"),
        ([], None, r"T_ARGUMENT taps and layers: no taps, want at least one"),
        (None, [], r"T_ARGUMENT taps and layers: no taps, want at least one"),
        ([0], ["layers.1.q"], r"T_ARGUMENT taps and layers: no taps, want at least one"),
    ],
)
def test_select_refuses(layers, names, message):
    with pytest.raises(NmrefError, match=f"^{message}"):
        select(CONFIG, layers, names)


# --- digests -------------------------------------------------------------------------------------


def test_canonical_results_have_one_nan_and_no_minus_zero():
    bits = [0x80000000, 0x7F800001, 0xFFC00123, 0x00000001, 0x80000001, 0xFF800000, 0x3F800000]
    values = np.array(bits, dtype=np.uint32).view(np.float32)
    want = [0, 0x7FC00000, 0x7FC00000, 0x00000001, 0x80000001, 0xFF800000, 0x3F800000]
    assert canonical(values).tolist() == want
    assert values.view(np.uint32).tolist() == bits  # a copy
    turned = np.array(bits[:6], dtype=np.uint32).reshape(2, 3).T.view(np.float32)
    assert canonical(turned).tolist() == np.array(want[:6]).reshape(2, 3).T.tolist()
    assert canonical(turned).tobytes() == np.array(want[:6], "<u4").reshape(2, 3).T.tobytes()


def test_trace_digest_is_that_of_its_lines():
    found = [
        Tap("layers.10.q", (2, 3), "b" * 64, ""),
        Tap("layers.9.scores", (1, 2, 2), "a" * 64, ""),
    ]
    lines = f"{'b' * 64} F32 [2,3] layers.10.q\n{'a' * 64} F32 [1,2,2] layers.9.scores\n"
    want = hashlib.sha256(lines.encode()).hexdigest()
    assert trace_digest(found) == trace_digest(found[::-1]) == want


def test_digests_without_files_are_those_of_the_files(weights, seen, folder):
    digest, by_tap = digests(weights, CONFIG, TOKENS, ops())
    trace = trace_files.read(folder)
    assert by_tap == {name: tap.sha256 for name, tap in trace.taps.items()}
    assert list(by_tap) == list(seen)
    lines = ""
    for name in sorted(seen):
        data = canonical(seen[name]).tobytes()
        shape = str(list(seen[name].shape)).replace(" ", "")
        lines += f"{hashlib.sha256(data).hexdigest()} F32 {shape} {name}\n"
    assert digest == trace.digest == hashlib.sha256(lines.encode()).hexdigest()


# --- files ---------------------------------------------------------------------------------------


def test_files_hold_what_the_forward_said(seen, folder):
    trace = trace_files.read(folder)
    index = json.loads((folder / "index.json").read_bytes())
    assert [tap["name"] for tap in index["taps"]] == list(seen)
    assert trace.tokens == TOKENS
    assert trace.profile == index["profile"] == "f64.seq+merged"
    assert trace.model == GOLDEN
    for tap in index["taps"]:
        data = (folder / tap["file"]).read_bytes()
        want = seen[tap["name"]]
        assert data == canonical(want).tobytes()
        assert tap["shape"] == list(want.shape)
        assert tap["sha256"] == hashlib.sha256(data).hexdigest()
        assert int(tap["crc32"], 16) == zlib.crc32(data)
        assert np.array_equal(trace.values(tap["name"]), want)
        assert trace.bits(tap["name"]).tolist() == canonical(want).tolist()
    memories = [tap["memh"][key] for tap in index["taps"] for key in ("file", "sidecar")]
    files = {"index.json", *memories, *(tap["file"] for tap in index["taps"])}
    assert {path.name for path in folder.iterdir()} == files


def test_only_the_taps_that_were_asked_for_are_written(weights, folder, tmp_path):
    computed = []
    names = select(CONFIG, [0], ["q", "scores"])
    target = tmp_path / "some"
    index = write(target, weights, CONFIG, TOKENS, ops(), GOLDEN, names, progress=computed.append)
    assert sorted(p.name for p in target.iterdir()) == [
        "index.json",
        "layers.0.q.f32",
        "layers.0.scores.f32",
    ]
    assert computed == tap_names(CONFIG)[: len(computed)]
    assert computed[-1] == "layers.0.scores"  # and nothing after it
    some, every = trace_files.read(target), trace_files.read(folder)
    assert [tap["memh"] for tap in index["taps"]] == [None, None]
    assert some.digest == trace_digest(some.taps.values()) != every.digest
    assert {n: t.sha256 for n, t in some.taps.items()} == {n: every.taps[n].sha256 for n in names}


def test_same_forward_same_bytes(weights, folder, tmp_path):
    write(tmp_path / "again", weights, CONFIG, list(TOKENS), ops(), GOLDEN, memh=True)
    for path in folder.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_trace_appears_whole_or_not_at_all(weights, tmp_path):
    def stop(name):
        if name == "layers.1.q":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "trace", weights, CONFIG, TOKENS, ops(), GOLDEN, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_write_refuses(weights, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    for target, tokens, message in [
        ("full", TOKENS, r"T_FILE .*full: something that is there already, want a new folder"),
        ("a/b", TOKENS, r"T_FILE .*a: no such folder, want one to make OUT in"),
        ("new", [], r"T_ARGUMENT tokens: shape \[0\] of float64, want a list of at least one"),
        ("new", [32], r"T_ARGUMENT tokens position 0: id 32, want 0 to 31"),
        ("new", [1] * 41, r"T_ARGUMENT context: 41 positions, want at most 40"),
    ]:
        with pytest.raises(NmrefError, match=f"^{message}"):
            write(tmp_path / target, weights, CONFIG, tokens, ops(), GOLDEN)
    assert [p.name for p in tmp_path.iterdir()] == ["full"]
    assert (tmp_path / "full" / "mine").read_text() == "mine"


def read_memh(path) -> list[int]:
    """The words of a file without @ addresses."""
    lines = path.read_text(encoding="ascii").splitlines()
    return [int(line, 16) for line in lines if not line.startswith("//")]


def test_memories_hold_the_same_words(folder):
    trace = trace_files.read(folder)
    for name, tap in trace.taps.items():
        words = read_memh(folder / f"{name}.memh")
        assert words == trace.bits(name).reshape(-1).tolist()
        text = (folder / f"{name}.memh").read_bytes()
        sidecar = json.loads((folder / f"{name}.json").read_bytes())
        assert sidecar["width"] == 32
        assert sidecar["depth"] == len(words)
        assert sidecar["file"] == f"{name}.memh"
        assert sidecar["sha256"] == tap.memh == hashlib.sha256(text).hexdigest()
        assert sidecar["words"]["sha256"] == tap.sha256  # a word's bytes are the element's
        assert sidecar["words"]["crc32"] == tap.crc32
        assert f"// width 32 bits, depth {len(words)} words".encode() in text
        assert declared(text) == len(words)
    order = json.loads((folder / "layers.1.probs.json").read_bytes())["order"]
    assert order == "row after row; the address is (head * 5 + position) * 5 + key"
    order = json.loads((folder / "layers.1.k.json").read_bytes())["order"]
    assert order == "row after row; the address is position * 8 + column"


def test_indexes_and_sidecars_keep_to_their_schemas(weights, folder, tmp_path):
    write(tmp_path / "b", weights, CONFIG, TOKENS, ops(), Identity("dense", sha256="0" * 64))
    Draft202012Validator.check_schema(trace_schema())
    validator = Draft202012Validator(trace_schema())
    index = json.loads((folder / "index.json").read_bytes())
    for document in (index, json.loads((tmp_path / "b" / "index.json").read_bytes())):
        validator.validate(document)
    for tap in index["taps"]:
        sidecar = json.loads((folder / tap["memh"]["sidecar"]).read_bytes())
        Draft202012Validator(table_schema()).validate(sidecar)
    more_than_a_schema = ("path", "order", "twice", "digest", "spec 2")
    for name, (change, _) in FAULTS.items():
        broken = copy.deepcopy(index)
        change(broken)
        assert validator.is_valid(broken) == (name in more_than_a_schema), name


def test_the_schema_describes_every_member_and_allows_no_other():
    def objects(node):
        if isinstance(node, dict):
            if "properties" in node:
                yield node
            for value in node.values():
                yield from objects(value)

    found = list(objects(trace_schema()))
    assert len(found) == 5
    for node in found:
        assert node["additionalProperties"] is False
        assert sorted(node["required"]) == sorted(node["properties"])
        assert all(member["description"] for member in node["properties"].values())


def test_a_long_memory_loses_no_word():
    words = array("I", range((1 << 16) + 1))  # one more than are text at once
    fields = (Field("word", 31, 0, "the address"),)
    memory = Memory("t", "trace", "t", "8.36", "ascending", fields, None, 32, words)
    lines = memory.text().decode().splitlines()
    assert [int(line, 16) for line in lines if not line.startswith("//")] == list(words)
    assert memory.raw() == np.array(words, dtype="<u4").tobytes()


def declared(text: bytes) -> int:
    """N of the declaration `memory [0:N-1]`."""
    return int(text.split(b"memory [0:")[1].split(b"]")[0]) + 1


# --- folders that are no traces ------------------------------------------------------------------


def drop(member):
    return lambda index: index.pop(member)


def put(value, *path):
    def change(index):
        for step in path[:-1]:
            index = index[step]
        index[path[-1]] = value

    return change


def swap(index):
    index["taps"][3], index["taps"][4] = index["taps"][4], index["taps"][3]


def twice(index):
    index["taps"].insert(3, index["taps"][3])


FAULTS = {
    "no digest": (drop("digest"), r" : members model, profile, .*, want digest, model, "),
    "extra": (put(1, "extra"), r"members .*extra"),
    "other schema": (put("urn:other", "schema"), r"schema: 'urn:other', want urn:nmref:schema:tr"),
    "no schema": (drop("schema"), r"schema: None, want urn:nmref:schema:trace:1"),
    "spec 2": (put("2.0", "spec", "version"), r"spec version: '2\.0', want a text like 1"),
    "spec": (put([], "spec"), r"spec: a list, want an object"),
    "kind": (put("other", "model", "kind"), r"model kind: 'other', want a text like golden\|pack"),
    "no tokens": (put([], "tokens"), r"tokens: \[\], want a list of integers, 0 or more"),
    "token": (put([1, "2"], "tokens"), r"tokens: \[1, '2'\], want a list of integers"),
    "no taps": (put([], "taps"), r"taps: \[\], want a list of at least one tap"),
    "path": (put("../q.f32", "taps", 2, "file"), r"layers\.0\.q: other file names or dtype, want"),
    "dtype": (put("F16", "taps", 2, "dtype"), r"layers\.0\.q: other file names or dtype, want"),
    "name": (put("layers.0.x", "taps", 2, "name"), r"tap 2: 'layers\.0\.x', want a text like "),
    "name as path": (put("../q", "taps", 2, "name"), r"tap 2: '\.\./q', want a text like "),
    "shape": (put([5, 0], "taps", 2, "shape"), r"layers\.0\.q shape: \[5, 0\], want a list of in"),
    "rank": (put([80], "taps", 2, "shape"), r"layers\.0\.q shape: \[80\], want 2 sizes"),
    "sha256": (put("A" * 64, "taps", 2, "sha256"), r"layers\.0\.q sha256: 'AAA.*, want a text li"),
    "crc32": (put(7, "taps", 2, "crc32"), r"layers\.0\.q crc32: 7, want a text like \[0-9a-f\]"),
    "memh": (put({}, "taps", 2, "memh"), r"layers\.0\.q memh: members , want file, sha256, sid"),
    "order": (swap, r"tap layers\.0\.k: after layers\.0\.v, want taps in the order of 8\.36"),
    "twice": (twice, r"tap layers\.0\.k: after layers\.0\.k, want taps in the order of 8\.36"),
    "digest": (put("0" * 64, "digest"), r"digest: 0{64}, want [0-9a-f]{64}, that of its taps"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_read_refuses_an_index(fault, folder):
    change, message = FAULTS[fault]
    edit(folder, change)
    assert_matches(refuse(folder), folder / "index.json", message)


def assert_matches(line, path, message):
    assert re.match(rf"T_FILE {re.escape(str(path))}(?= |:).*{message.lstrip(' :')}", line), line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "first character '', want JSON"),
        ("[]", r"first character '\[', want JSON"),
        ('{"schema": }', r"Expecting value at character \d+, want JSON"),
        ('{"schema": 1, "schema": 1}', "a name twice in one object, want JSON"),
        ("{" + '"a":[' * 9 + "]" * 9 + "}", "nesting deeper than 4, want JSON"),
        ('{"schema": 1.5}', r"number 1\.5, want JSON"),
        ("{} x", "'x' after the object, want nothing"),
    ],
)
def test_read_refuses_what_is_no_index(text, message, folder):
    (folder / "index.json").write_text(text)
    assert_matches(refuse(folder), folder / "index.json", message)


def test_read_refuses_files_that_are_not_what_the_index_says(folder, tmp_path):
    path = folder / "layers.1.up.f32"
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    assert (
        refuse(folder)
        == f"T_FILE {path}: {len(good) - 1} bytes, want {len(good)}, as its index says"
    )
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert refuse(folder).startswith(f"T_FILE {path}: sha256 ")
    path.unlink()
    assert refuse(folder).startswith(f"T_FILE {path}: No such file or directory, want ")
    path.write_bytes(good)
    trace_files.read(folder)
    memh = folder / "norm.memh"
    memh.write_bytes(memh.read_bytes() + b"\n")
    assert refuse(folder).startswith(f"T_FILE {memh}: sha256 ")
    assert refuse(tmp_path / "none").startswith(
        f"T_FILE {tmp_path / 'none' / 'index.json'}: No such"
    )
    (folder / "index.json").write_bytes(b"\xff")
    assert refuse(folder) == f"T_FILE {folder / 'index.json'}: not UTF-8, want the index of a trace"


def test_a_wrong_crc32_is_seen_though_the_sha256_is_right(folder):
    edit(folder, put("00000000", "taps", 0, "crc32"))
    assert refuse(folder).startswith(f"T_FILE {folder / 'embed.f32'}: crc32 ")


# --- comparison ----------------------------------------------------------------------------------


def rewritten(folder, target, change):
    """A copy of a trace with changed elements and an index that fits; `change(name, bits)`."""
    shutil.copytree(folder, target)
    index = json.loads((target / "index.json").read_bytes())
    for tap in index["taps"]:
        path = target / tap["file"]
        bits = np.frombuffer(path.read_bytes(), "<u4").reshape(tap["shape"]).copy()
        change(tap["name"], bits)
        path.write_bytes(bits.tobytes())
        tap["sha256"] = hashlib.sha256(bits.tobytes()).hexdigest()
        tap["crc32"] = f"{zlib.crc32(bits.tobytes()):08x}"
        tap["memh"] = None
    index["digest"] = trace_digest(
        Tap(tap["name"], tuple(tap["shape"]), tap["sha256"], "") for tap in index["taps"]
    )
    (target / "index.json").write_text(json.dumps(index))
    return trace_files.read(target)


@pytest.mark.parametrize(
    ("tap", "index", "flat", "position"),
    [
        ("embed", (0, 0), 0, "position 0, column 0"),
        ("layers.1.gate", (3, 17), 3 * 24 + 17, "position 3, column 17"),
        ("layers.0.scores", (2, 4, 1), (2 * 5 + 4) * 5 + 1, "head 2, position 4, key 1"),
        ("logits", (4, 31), 5 * 32 - 1, "position 4, column 31"),
    ],
)
@pytest.mark.parametrize("bit", [0, 22, 23, 30])
def test_compare_names_a_flipped_bit(tap, index, flat, position, bit, folder, tmp_path):
    def flip(name, bits):
        if name == tap:
            bits[index] ^= 1 << bit

    a, b = trace_files.read(folder), rewritten(folder, tmp_path / "b", flip)
    found = compare(a, b)
    first = found.first
    assert not found.equal
    assert (first.tap, first.index, first.flat, first.position) == (tap, index, flat, position)
    assert first.bits == (int(a.bits(tap)[index]), int(a.bits(tap)[index]) ^ 1 << bit)
    assert first.values == (str(a.values(tap)[index]), str(b.values(tap)[index]))
    assert (first.count, first.size) == (1, a.bits(tap).size)
    assert found.different == [tap]
    assert len(found.same) == len(a.taps) - 1
    assert found.about == found.only_a == found.only_b == found.reshaped == []


def test_compare_counts_and_takes_the_order_of_computation(folder, tmp_path):
    def change(name, bits):
        if name in ("layers.0.v", "layers.0.k_rope", "layers.1.attn_norm"):
            bits[1:, 3] += 1
        if name == "layers.0.k_rope":
            bits[0, 7] += 1

    found = compare(trace_files.read(folder), rewritten(folder, tmp_path / "b", change))
    assert found.different == ["layers.0.v", "layers.0.k_rope", "layers.1.attn_norm"]
    assert (found.first.tap, found.first.index, found.first.count) == ("layers.0.v", (1, 3), 4)


def test_equal_traces(folder, tmp_path):
    a, b = trace_files.read(folder), rewritten(folder, tmp_path / "b", lambda name, bits: None)
    found = compare(a, b)
    assert found.equal
    assert found.first is None
    assert found.same == list(a.taps)


def test_signs_of_zero_and_nans_are_compared_by_8_4(folder, tmp_path):
    def a(name, bits):
        if name == "embed":
            bits[0, :4] = [0, 0x7FC00000, 0x7FC00000, 0]

    def b(name, bits):
        if name == "embed":
            bits[0, :4] = [0x80000000, 0xFFFFFFFF, 0x7F800001, 0]

    left, right = rewritten(folder, tmp_path / "a", a), rewritten(folder, tmp_path / "b", b)
    assert left.digest != right.digest
    assert compare(left, right).equal
    right = rewritten(folder, tmp_path / "c", lambda n, x: x.fill(1) if n == "embed" else None)
    first = compare(left, right).first
    assert first.values == ("0.0", "1e-45")


def test_compare_reports_missing_taps_other_shapes_and_what_the_index_says(
    weights, folder, tmp_path
):
    names = ["embed", "layers.0.q", "layers.1.q"]
    write(tmp_path / "b", weights, CONFIG, TOKENS, ops(), Identity("dense"), names)
    a, b = trace_files.read(folder), trace_files.read(tmp_path / "b")
    found = compare(a, b)
    assert found.same == names
    assert found.only_a == [name for name in a.taps if name not in names]
    assert found.only_b == []
    assert compare(b, a).only_b == found.only_a
    assert not found.equal
    assert not compare(b, a).equal
    assert found.about == ["model"]

    other = Golden("f32.seq", threads=1)
    write(tmp_path / "c", weights, CONFIG, TOKENS[:3], other, GOLDEN)
    found = compare(a, trace_files.read(tmp_path / "c"))
    assert found.reshaped == found.different == list(a.taps)
    assert found.first is None
    assert not found.equal
    assert found.about == ["profile", "tokens"]
