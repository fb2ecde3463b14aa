"""nmref trace."""

import hashlib
import json
import re
import shutil
import zlib

import numpy as np
import pytest

from nmref.cli import main
from nmref.conformance import tiny, trace_files
from nmref.conformance.taps import LAYER_TAPS, tap_names
from nmref.conformance.trace import digests
from nmref.container import model_digest
from nmref.container.safetensors import open_raw
from nmref.model import llama
from nmref.model.checkpoint import open_checkpoint
from nmref.numerics.ops import Golden
from tests.cli.test_bad_input import refuse

TINY = "nmref-tiny:8:16+16:256"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "trace"


def trace(*arguments) -> int:
    return main(["trace", *map(str, arguments)])


def test_a_golden_model_needs_no_file(out, capsys):
    assert trace(TINY, out) == 0
    golden = tiny.build(TINY)
    digest, by_tap = digests(golden.weights, golden.config, golden.prompt, Golden())
    printed = capsys.readouterr()
    assert printed.out == f"54 taps of 16 positions, f64.seq+merged\ntrace digest {digest}\n"
    assert printed.err == ""
    found = trace_files.read(out)
    assert found.digest == digest
    assert {name: tap.sha256 for name, tap in found.taps.items()} == by_tap
    assert found.tokens == tuple(golden.prompt)
    assert vars(found.model) == {"kind": "golden", "name": TINY, "sha256": None}


def test_tokens_profile_and_threads(out, tmp_path):
    assert trace("nmref-tiny", out, "--tokens", "5,0,96", "--profile", "f32.lanes4.fma+split") == 0
    golden = tiny.build("nmref-tiny")
    want, _ = digests(golden.weights, golden.config, [5, 0, 96], Golden("f32.lanes4.fma+split"))
    found = trace_files.read(out)
    assert (found.digest, found.profile) == (want, "f32.lanes4.fma+split")
    for threads in (1, 2):
        options = ["--tokens", "5,0,96", "--profile", "f32.lanes4.fma+split", "--threads", threads]
        assert trace("nmref-tiny", tmp_path / f"t{threads}", *options) == 0
        assert trace("--compare", out, tmp_path / f"t{threads}") == 0


def test_a_prompt_on_a_dense_and_a_packed_folder(model, tmp_path):
    packed = tmp_path / "packed"
    assert main(["prune", str(model), str(packed), "--score", "magnitude"]) == 0
    for folder in (model, packed):
        target = tmp_path / f"{folder.name}-trace"
        assert trace(folder, target, "--prompt", "abc") == 0
        found = trace_files.read(target)
        checkpoint = open_checkpoint(folder)
        seen = {}
        llama.forward(
            checkpoint.weights(),
            checkpoint.config,
            found.tokens,
            tap=lambda name, x, seen=seen: seen.update({name: x.copy()}),
            ops=Golden(),
        )
        assert list(found.taps) == list(seen) == tap_names(checkpoint.config)
        assert len(found.tokens) == 3
        for name, values in seen.items():
            assert np.array_equal(found.values(name), values), name
    packed_trace = trace_files.read(tmp_path / "packed-trace")
    assert vars(packed_trace.model) == {
        "kind": "packed",
        "name": None,
        "sha256": model_digest(packed),
    }
    raw = open_raw(model / "model.safetensors")
    lines = ""
    for name in sorted(raw.entries):
        shape = str(list(raw.entries[name].shape)).replace(" ", "")
        lines += f"{hashlib.sha256(raw.data(name)).hexdigest()} F32 {shape} {name}\n"
    dense_trace = trace_files.read(tmp_path / "model-trace")
    want = hashlib.sha256(lines.encode()).hexdigest()
    assert vars(dense_trace.model) == {"kind": "dense", "name": None, "sha256": want}


def test_layers_and_taps(model, tmp_path):
    assert trace(model, tmp_path / "a", "--tokens", "1", "--layers", "1", "--taps", "q,logits") == 0
    assert list(trace_files.read(tmp_path / "a").taps) == ["layers.1.q", "logits"]
    assert trace(model, tmp_path / "b", "--tokens", "1", "--layers", "0-1,1") == 0
    want = [f"layers.{layer}.{tap}" for layer in (0, 1) for tap in LAYER_TAPS]
    assert list(trace_files.read(tmp_path / "b").taps) == want
    assert trace(model, tmp_path / "c", "--tokens", "1", "--taps", "scores,layers.0.o") == 0
    assert list(trace_files.read(tmp_path / "c").taps) == [
        "layers.0.scores",
        "layers.0.o",
        "layers.1.scores",
    ]


def test_memh_writes_memories(model, out):
    assert trace(model, out, "--tokens", "1,2", "--taps", "layers.0.q", "--memh") == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "index.json",
        "layers.0.q.f32",
        "layers.0.q.json",
        "layers.0.q.memh",
    ]
    lines = (out / "layers.0.q.memh").read_text().splitlines()
    words = [int(line, 16) for line in lines if not line.startswith("//")]
    assert words == np.fromfile(out / "layers.0.q.f32", "<u4").tolist()
    assert all(re.fullmatch("[0-9a-f]{8}|//.*", line) for line in lines)


def test_json_is_the_index(model, out, capsys):
    assert trace(model, out, "--tokens", "1,2", "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((out / "index.json").read_bytes())


REFUSED = {
    "unknown tap": (["--taps", "q,x"], r"taps: unknown tap 'x', want embed, attn_norm, "),
    "empty tap": (["--taps", "q,"], r"taps: unknown tap '', want "),
    "no tap": (["--taps", ""], r"taps: unknown tap '', want "),
    "layer": (["--layers", "0-2"], r"layers: layer 2, want 0 to 1"),
    "layers": (["--layers", "1-0"], r"layers: '1-0', want such as 0,2-4"),
    "layers text": (["--layers", "one"], r"layers: 'one', want such as 0,2-4"),
    "many layers": (["--layers", "0-999999999"], r"layers: '0-999999999', want such as"),
    "nothing": (["--layers", "0", "--taps", "layers.1.q"], r"taps and layers: no taps, want at"),
    "profile": (["--profile", "f64"], r"profile: f64, want a name of SPEC 8\.15 "),
    "i32": (["--profile", "i32"], r".*i32"),
    "tokens": (["--tokens", "1,x"], r"tokens: '1,x', want ids such as 1,2,3"),
    "no tokens": (["--tokens", ""], r"tokens: '', want ids such as 1,2,3"),
    "vocabulary": (["--tokens", "256"], r"tokens position 0: id 256, want 0 to 255"),
    "context": (["--tokens", ",".join("1" * 65)], r"context: 65 positions, want at most 64"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_arguments_that_are_refused(fault, model, out, capsys):
    options, message = REFUSED[fault]
    tokens = [] if "--tokens" in options else ["--tokens", "1"]
    line = refuse(["trace", model, out, *tokens, *options], capsys)
    assert re.match(f"T_ARGUMENT {message}", line), line
    assert not out.exists()


def test_models_that_are_refused(model, out, tmp_path, capsys):
    for arguments, message in [
        ([model, out], r"T_ARGUMENT .*model: neither --prompt nor --tokens, want one of them"),
        ([tmp_path / "none", out, "--tokens", "1"], r"T_FILE .*none: no such folder"),
        (["nmref-tiny", out, "--prompt", "a"], r"T_ARGUMENT nmref-tiny: --prompt without a tok"),
        (["nmref-tiny:x", out], r"T_ARGUMENT .*nmref-tiny:x"),
        ([model, out, "--prompt", ""], r"T_ARGUMENT tokens: "),
        ([model, model, "--tokens", "1"], r"T_FILE .*model: something that is there already"),
    ]:
        assert re.match(message, refuse(["trace", *arguments], capsys))
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--compare", "a"],
        ["a", "b", "--prompt", "x", "--tokens", "1"],
        ["--compare", "a", "b", "--prompt", "x"],
        ["a", "b", "--tokens", "1", "--threads", "0"],
    ],
)
def test_usage(arguments):
    with pytest.raises(SystemExit) as stop:
        main(["trace", *arguments])
    assert stop.value.code == 2


def test_an_interrupted_trace_leaves_nothing(model, out, monkeypatch, tmp_path):
    from nmref.conformance import trace as module

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_write_tap", stop)
    assert trace(model, out, "--tokens", "1") == 130
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


# --- compare -------------------------------------------------------------------------------------


def flip(folder, tap, flat, bit):
    """Flip a bit of an element and make the digests right again."""
    index = json.loads((folder / "index.json").read_bytes())
    path = folder / f"{tap}.f32"
    bits = np.fromfile(path, "<u4")
    bits[flat] ^= np.uint32(1 << bit)
    path.write_bytes(bits.tobytes())
    lines = ""
    for entry in sorted(index["taps"], key=lambda entry: entry["name"]):
        data = (folder / entry["file"]).read_bytes()
        entry |= {"sha256": hashlib.sha256(data).hexdigest(), "crc32": f"{zlib.crc32(data):08x}"}
        shape = str(entry["shape"]).replace(" ", "")
        lines += f"{entry['sha256']} F32 {shape} {entry['name']}\n"
    index["digest"] = hashlib.sha256(lines.encode()).hexdigest()
    (folder / "index.json").write_text(json.dumps(index))


@pytest.fixture
def pair(model, tmp_path):
    """Two equal traces of 5 positions."""
    assert trace(model, tmp_path / "a", "--tokens", "1,2,3,4,5") == 0
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    return tmp_path / "a", tmp_path / "b"


def test_compare_equal(pair, capsys):
    capsys.readouterr()
    assert trace("--compare", *pair) == 0
    assert capsys.readouterr().out == "equal: 37 taps\n"
    assert trace("--compare", *pair, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["equal"] is True
    assert found["first"] is None
    assert len(found["same"]) == 37


def test_compare_shows_the_first_difference(pair, capsys):
    a, b = pair
    flat = 3 * 44 + 17
    flip(b, "layers.1.gate", flat, 0)
    flip(b, "layers.1.gate", flat + 1, 31)
    flip(b, "norm", 0, 3)
    capsys.readouterr()
    assert trace("--compare", a, b) == 1
    captured = capsys.readouterr()
    assert captured.err == ""
    before, after = (np.fromfile(f / "layers.1.gate.f32", "<u4")[flat] for f in pair)
    x, y = np.array([before, after]).view("<f4")
    assert captured.out.splitlines() == [
        "first difference: layers.1.gate [3, 17] (position 3, column 17), element 149: "
        f"A 0x{before:08x} ({x!s}), B 0x{after:08x} ({y!s})",
        "2 of 220 elements of layers.1.gate differ",
        "2 of 37 taps differ",
    ]
    assert trace("--compare", a, b, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["different"] == ["layers.1.gate", "norm"]
    assert found["first"] == {
        "tap": "layers.1.gate",
        "flat": 149,
        "index": [3, 17],
        "bits": [int(before), int(after)],
        "values": [str(x), str(y)],
        "count": 2,
        "size": 220,
    }


def test_compare_with_missing_taps_and_another_profile(pair, model, tmp_path, capsys):
    options = ["--tokens", "1,2,3,4,5", "--taps", "embed", "--profile", "exact"]
    assert trace(model, tmp_path / "c", *options) == 0
    capsys.readouterr()
    assert trace("--compare", pair[0], tmp_path / "c") == 1
    assert capsys.readouterr().out.splitlines() == [
        "0 of 1 taps differ",
        "only in A: " + ", ".join(f"layers.0.{tap}" for tap in LAYER_TAPS[:8]) + " and 28 more",
        "profile: A f64.seq+merged, B exact+merged",
    ]


@pytest.mark.parametrize("options", [["--taps", "q"], ["--layers", "0"], ["--memh"]])
def test_compare_takes_whole_traces(options, pair, capsys):
    line = refuse(["trace", "--compare", *pair, *options], capsys)
    assert line == f"T_ARGUMENT --compare: {options[0]} too, want two folders only"


def test_compare_refuses_a_damaged_trace(pair, tmp_path, capsys):
    a, b = pair
    path = b / "logits.f32"
    good = path.read_bytes()
    for data, message in [
        (good[:-4], f"{len(good) - 4} bytes, want {len(good)}"),
        (good[:-4] + b"\0\0\0\1", "sha256 [0-9a-f]{64}, want [0-9a-f]{64}"),
    ]:
        path.write_bytes(data)
        for order in ([a, b], [b, a]):
            line = refuse(["trace", "--compare", *order], capsys)
            assert re.match(f"T_FILE {re.escape(str(path))}: {message}", line), line
    line = refuse(["trace", "--compare", a, tmp_path], capsys)
    assert re.match(r"T_FILE .*index\.json: No such file or directory, want the index of", line)
