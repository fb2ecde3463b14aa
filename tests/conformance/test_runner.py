"""The conformance runner against clients that do everything wrong."""

import hashlib
import json
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from nmref import NmrefError
from nmref.conformance import client, known, protocol, report, runner, vectors
from nmref.conformance.arrays import write_array
from nmref.conformance.compare import difference
from nmref.conformance.operations import Operations
from nmref.conformance.protocol import Answer, ClientFault
from nmref.conformance.runner import Options, judge, load, run, select
from nmref.conformance.vectors import Case

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "conformance" / "examples" / "client.py"
SCHEMA = json.loads((ROOT / "conformance" / "schema" / "protocol.schema.json").read_bytes())
QUICK = Options(timeout=20.0, start_timeout=20.0, stop_timeout=10.0, line_limit=20_000)

WEIGHT = {
    "spec": {
        "coding": "colex",
        "dtype": "F16",
        "outliers": None,
        "pattern": "2:4",
        "shape": [1, 4],
    },
    "parts": {
        "nm_values": {"dtype": "F16", "shape": [1, 2], "hex": "003c0040"},
        "nm_codes": {"dtype": "U8", "shape": [1, 1], "hex": "04"},
    },
}
PADDED = {**WEIGHT, "parts": {**WEIGHT["parts"], "nm_codes": {"dtype": "U8", "shape": [1, 1]}}}
PADDED["parts"]["nm_codes"]["hex"] = "0c"


def f32(values):
    return write_array(np.array(values, dtype=np.float32))


def case(name, op, given, expect, level="core", clauses=("2.14",), flags=()):
    return {
        "id": name,
        "op": op,
        "clauses": list(clauses),
        "level": level,
        "flags": list(flags),
        "input": given,
        "expect": expect,
    }


CODES = [
    case(
        "unrank/2-4/all",
        "unrank",
        {"pattern": "2:4", "codes": ["0", "1", "2", "3", "4", "5", "6"]},
        {"output": {"masks": ["3", "5", "6", "9", "a", "c", None]}},
        clauses=("2.5", "2.14"),
        flags=("mask-mirrored", "not-described"),
    ),
    case(
        "unrank/1-3/some",
        "unrank",
        {"pattern": "1:3", "codes": ["2", "0"]},
        {"output": {"masks": ["4", "1"]}},
    ),
]
OTHERS = [
    case("decode/2-4/two", "decode", WEIGHT, {"output": {"W": {"dtype": "F16", "shape": [1, 4]}}}),
    case(
        "decode/refused/pad", "decode", PADDED, {"rejected": ["E_PAD", "E_TAIL"]}, clauses=("2.10",)
    ),
    case(
        "dot/special/inf",
        "dot",
        {"profile": "exact+merged", "weight": {"dense": f32([[1, 2]])}, "x": f32([[0.5, np.inf]])},
        {"output": {"y": f32([[np.inf]])}},
        "numeric",
        ("8.6",),
        ("nonfinite-x",),
    ),
    case(
        "unrank/1-2/last",
        "unrank",
        {"pattern": "1:2", "codes": ["1"]},
        CODES[0]["expect"],
        "strict",
    ),
]
OTHERS[0]["expect"]["output"]["W"]["hex"] = "0000003c00000040"
OTHERS[3]["expect"] = {"output": {"masks": ["02"]}}
FLAGS = {
    "mask-mirrored": "bit 0 of a mask taken for the last column",
    "nonfinite-x": "x is not finite",
}


def write_suite(folder, files=None, flags=FLAGS):
    """vectors/, MANIFEST.json and flags.json; returns vectors/."""
    place, listed = folder / "vectors", {}
    place.mkdir(parents=True)
    for part, cases in (files or {"codes": CODES, "others": OTHERS}).items():
        document = {"schema": vectors.SCHEMA, "spec": "1.0", "part": part, "cases": cases}
        data = json.dumps(document).encode()
        (place / f"{part}.json").write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        listed[f"vectors/{part}.json"] = {"sha256": digest, "bytes": len(data), "cases": len(cases)}
    manifest = {"files": listed, "total": {"cases": 0}}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))
    (folder / "flags.json").write_text(json.dumps(flags))
    return place


@pytest.fixture
def folder(tmp_path):
    return write_suite(tmp_path / "suite")


@pytest.fixture
def suite(folder):
    return load(folder)


FAKE = """
import json, os, subprocess, sys, time

RIGHT = json.loads({right!r})

def say(message):
    sys.stdout.write(message if isinstance(message, str) else json.dumps(message) + "\\n")
    sys.stdout.flush()

def result(**outcome):
    say({{"type": "result", "id": number, **outcome}})

def claim(**more):
    ops = ["unrank", "decode", "dot"]
    say({{"type": "start", "protocol": 1, "name": "fake", "version": "0", "ops": ops, **more}})

log = open({log!r}, "a")
for line in sys.stdin:
    log.write(line)
    log.flush()
    message = json.loads(line)
    if message["type"] == "start":
{start}
    elif message["type"] == "stop":
{stop}
    else:
        number = message["id"]
        right = RIGHT[json.dumps(message["input"], sort_keys=True)]
        if {when}:
{answer}
        else:
            result(**right)
"""


class Fakes:
    """Makes clients; `sent` is what all their processes were sent."""

    def __init__(self, folder):
        self.folder = folder
        self.log = folder / "log.txt"

    def __call__(
        self, answer="result(**right)", start="claim()", stop="sys.exit(0)", when="number == 2"
    ):
        right = {}
        for one in [*CODES, *OTHERS]:
            expect = one["expect"]
            if "rejected" in expect:
                expect = {"rejected": {"code": expect["rejected"][0], "message": "no"}}
            right[json.dumps(one["input"], sort_keys=True)] = expect
        depths = {"answer": (answer, 12), "start": (start, 8), "stop": (stop, 8)}
        blocks = {
            name: "\n".join(" " * depth + line for line in text.splitlines())
            for name, (text, depth) in depths.items()
        }
        text = FAKE.format(right=json.dumps(right), log=str(self.log), when=when, **blocks)
        path = self.folder / "fake.py"
        path.write_text(text)
        return [sys.executable, "-I", "-S", str(path)]

    @property
    def sent(self):
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def fake(tmp_path):
    return Fakes(tmp_path)


def verdicts(found):
    return [result.verdict for result in found.results]


# --- clients that keep to the protocol ------------------------------------------------------------


def test_a_good_client_passes(fake, suite):
    found = run(fake(), suite.cases, QUICK)
    assert verdicts(found) == ["pass"] * 6
    assert found.ok
    assert (found.claims.name, found.claims.version) == ("fake", "0")
    kinds = [message["type"] for message in fake.sent]
    assert kinds == ["start", *["run"] * 6, "stop"]


def test_a_client_is_told_nothing_of_what_is_expected(fake, suite):
    """No expected value, slug, flag, clause or level is in what is sent."""
    assert run(fake(), suite.cases, QUICK).ok
    start, *runs, stop = fake.sent
    assert start == {"type": "start", "protocol": 1, "spec": "1.0"}
    assert stop == {"type": "stop"}
    given = [one["input"] for one in [*CODES, *OTHERS]]
    assert [message.pop("input") for message in runs] == given
    ops = [one["op"] for one in [*CODES, *OTHERS]]
    assert runs == [{"type": "run", "id": i, "op": op} for i, op in enumerate(ops, 1)]


def test_claims_decide_what_is_skipped(fake, suite):
    start = 'claim(ops=["unrank", "dot"], profiles=["f64.seq", "i32"])'
    found = run(fake(start=start), suite.cases, QUICK)
    assert verdicts(found) == ["pass", "pass", "skipped", "skipped", "skipped", "pass"]
    messages = [result.message for result in found.results]
    assert messages[2:5] == [
        "the client does not claim decode",
        "the client does not claim decode",
        "the client does not claim exact+merged",
    ]
    start = 'claim(profiles=["exact"], excludes=["nonfinite-x"])'
    found = run(fake(start=start), suite.cases, QUICK)
    assert verdicts(found) == [*["pass"] * 4, "skipped", "pass"]
    assert found.results[4].message == "the client excludes nonfinite-x"
    assert found.ok


def test_nothing_checked_is_no_pass(fake, suite):
    found = run(fake(start="claim(ops=[])"), suite.cases, QUICK)
    assert verdicts(found) == ["skipped"] * 6
    assert not found.ok
    assert report.summary(found) == "FAILED: nothing was checked: 6 skipped"


@pytest.mark.parametrize(
    ("answer", "verdict", "message"),
    [
        ('result(skipped="no 1:3 here")', "skipped", "no 1:3 here"),
        ('result(errored="out of \\x1b memory")', "errored", r"out of \\x1b memory"),
        ('result(output={"masks": ["4", "2"]})', "fail", r"masks element 1: '2', want '1'; 1 of 2"),
        ('result(rejected={"code": "E_PAD"})', "fail", "rejected with E_PAD, want an output"),
        ('result(output={"mask": []})', "fail", r"output: without \['masks'\], with \['mask'\]"),
    ],
)
def test_answers(fake, suite, answer, verdict, message):
    found = run(fake(answer), suite.cases[:3], QUICK)
    assert verdicts(found) == ["pass", verdict, "pass"]
    assert re.match(message, found.results[1].message), found.results[1].message
    assert len([m for m in fake.sent if m["type"] == "start"]) == 1  # the client went on


def test_the_example_is_a_client(suite):
    found = run([sys.executable, str(EXAMPLE)], suite.cases, QUICK)
    assert verdicts(found) == ["pass", "pass", "skipped", "skipped", "skipped", "pass"]
    assert found.ok


# --- clients that do not --------------------------------------------------------------------------

MISBEHAVIOUR = {
    "exit": ("os._exit(3)", "exit code 3 before an answer"),
    "exit 0": ("os._exit(0)", "exit code 0 before an answer"),
    "exception": ('raise ValueError("boom")', "exit code 1 .*; stderr: ValueError: boom"),
    "signal": ("os.kill(os.getpid(), 9)", "killed by SIGKILL before an answer"),
    "text": ('say("Loading...\\n")', "output that is not JSON: b'Loading..."),
    "empty line": ('say("\\n")', "output that is not JSON: "),
    "array": ("say([1])", "output that is not a JSON object: "),
    "constant": ("say('{\"type\": NaN}\\n')", r"output that is not JSON: .*NaN is not JSON"),
    "nesting": ('say("[" * 19000 + "\\n")', "output that is not JSON: "),
    "digits": ('say("9" * 9000 + "\\n")', "output that is not JSON: "),
    "bytes": ('sys.stdout.buffer.write(b"\\xff\\n"); sys.stdout.flush()', "output that is not"),
    "long line": ('say("x" * 30000 + "\\n")', "a line of more than 20000 bytes"),
    "endless line": ('while True: say("x" * 4096)', "a line of more than 20000 bytes"),
    "endless lines": ('while True: say({"type": "log"})', "a message of type 'log', want result"),
    "wrong id": ('say({"type": "result", "id": 99, "output": {}})', "a result of id 99, want 2"),
    "no id": ('say({"type": "result", "output": {}})', "a result of id None, want 2"),
    "id as text": ('say({"type": "result", "id": "2", "output": {}})', "a result of id '2', want"),
    "no outcome": ("result()", "a result with no outcome, want one of"),
    "two outcomes": ('result(output={}, skipped="x")', r"a result with \['output', 'skipped'\], w"),
    "more members": ("result(output={}, seconds=1)", "members .*'seconds'.*, want"),
    "output": ("result(output=[])", r"output: \[\], want an object"),
    "rejection": ('result(rejected="E_PAD")', "rejected: 'E_PAD', want an object"),
    "code": ('result(rejected={"code": "no code"})', "rejected: code 'no code', want a code of"),
    "start again": ("claim()", "a message of type 'start', want result"),
    "half a line": ("say('{\"type\":'); os._exit(0)", "exit code 0 before an answer, within a li"),
}


@pytest.mark.parametrize("fault", MISBEHAVIOUR)
def test_a_fault_costs_one_case(fault, fake, suite):
    answer, message = MISBEHAVIOUR[fault]
    found = run(fake(answer), suite.cases[:4], QUICK)
    assert verdicts(found) == ["pass", "errored", "pass", "pass"]
    assert re.match(message, found.results[1].message), found.results[1].message
    assert not found.faults
    assert [message["type"] for message in fake.sent].count("start") == 2


def test_a_hang_ends_with_its_whole_group(fake, suite, tmp_path):
    pid = tmp_path / "pid"
    helper = f'open({str(pid)!r}, "w").write(str(subprocess.Popen(["sleep", "60"]).pid))'
    begun = time.monotonic()
    found = run(fake(f"{helper}\ntime.sleep(60)"), suite.cases[:3], Options(timeout=2.0))
    assert verdicts(found) == ["pass", "errored", "pass"]
    assert found.results[1].message == "no answer within 2 s"
    assert time.monotonic() - begun < 30
    assert ended(int(pid.read_text()))


def test_a_closed_stdout_is_seen_at_once(fake, suite):
    found = run(fake("os.close(1); time.sleep(60)"), suite.cases[:3], QUICK)
    assert verdicts(found) == ["pass", "errored", "pass"]
    assert found.results[1].message == "stdout closed before an answer, still running"


def ended(pid, seconds=5.0):
    """Whether a process ends soon; a zombie has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True).stdout
        if not state.strip() or state.strip().startswith(b"Z"):
            return True
        time.sleep(0.05)
    return False


def test_a_client_that_does_not_read_hangs_and_no_more(fake, suite):
    big = Case("big", "codes", "unrank", "core", (), (), {"x": "0" * 1_000_000}, {"masks": []})
    command = [sys.executable, "-I", "-S", "-c", READS_ONE_LINE]
    found = run(command, [big], Options(timeout=2.0))
    assert [r.message for r in found.results] == ["no answer within 2 s"]


READS_ONE_LINE = """
import os, time
data = b""
while not data.endswith(b"\\n"):
    data += os.read(0, 1)
print('{"type":"start","protocol":1,"name":"a","version":"1","ops":["unrank"]}', flush=True)
time.sleep(60)
"""

STARTS = {
    "crash": ('sys.exit("no libfoo")', "exit code 1 before an answer; stderr: no libfoo"),
    "output before": ('say("hello\\n"); claim()', "output that is not JSON: b'hello"),
    "result": ('say({"type": "result", "id": 1})', "a message of type 'result', want start"),
    "protocol": ("claim(protocol=2)", "start: protocol 2, want 1"),
    "true": ("claim(protocol=True)", "start: protocol True, want 1"),
    "unknown op": ('claim(ops=["decod"])', "start: ops: 'decod', want some of unrank, rank, "),
    "ops": ('claim(ops="unrank")', "start: ops: 'unrank', want an array of strings"),
    "profile": ('claim(profiles=["f65"])', "start: profiles: 'f65', want a name of SPEC 8.15"),
    "name": ("claim(name=1)", "start: name: 1, want a string"),
    "members": ("claim(language=1)", "members .*'language'.*, want "),
}


@pytest.mark.parametrize("fault", STARTS)
def test_a_client_that_never_starts(fault, fake, suite):
    start, message = STARTS[fault]
    found = run(fake(start=start), suite.cases, QUICK)
    assert verdicts(found) == ["errored"] * 6
    tries = "the client does not start, 3 starts in a row failed: "
    for result in found.results:
        assert re.match(tries + message, result.message), result.message
    assert len(fake.sent) == 3
    assert found.claims is None
    assert not found.ok
    text = report.text(found, {})
    assert text[0] == "the client never started"
    assert sum("does not start" in line for line in text) == 1  # said once


def test_a_start_that_hangs(fake, suite):
    options = Options(start_timeout=0.5, starts=2)
    found = run(fake(start="time.sleep(60)"), suite.cases, options)
    tries = "the client does not start, 2 starts in a row failed"
    assert {r.message for r in found.results} == {f"{tries}: no answer within 0.5 s"}


def test_no_such_program(tmp_path, suite):
    found = run([str(tmp_path / "none")], suite.cases[:1], QUICK)
    assert re.search(r"none: No such file or directory$", found.results[0].message)


def test_a_client_that_does_not_start_again(fake, suite, tmp_path):
    once = tmp_path / "once"
    start = f"os.mkdir({str(once)!r}); claim()"
    found = run(fake("os._exit(1)", start=start), suite.cases, QUICK)
    assert verdicts(found) == ["pass", *["errored"] * 5]
    assert "3 starts in a row failed" in found.results[2].message
    assert found.claims.name == "fake"


def test_claims_may_not_change(fake, suite, tmp_path):
    once = tmp_path / "once"
    start = f"claim(name=str(os.path.exists({str(once)!r}))); os.makedirs({str(once)!r})"
    found = run(fake("os._exit(1)", start=start), suite.cases[:3], QUICK)
    assert "start: other claims than before, want the same" in found.results[2].message


@pytest.mark.parametrize(
    ("stop", "fault"),
    [
        ("sys.exit(3)", "exit code 3 after stop, want 0"),
        ("os.kill(os.getpid(), 15)", "killed by SIGTERM after stop, want 0"),
        ("time.sleep(60)", "still running 1 s after stop, want exit code 0"),
        ("pass", None),  # stdin ends
        ('say("bye\\n"); sys.exit(0)', "output after stop: b'bye\\n', want none"),
        ('sys.exit("lost")', "exit code 1 after stop, want 0; stderr: lost"),
    ],
)
def test_the_end_of_a_client(stop, fault, fake, suite):
    options = Options(stop_timeout=1.0 if "sleep" in stop else 10.0)
    found = run(fake(stop=stop), suite.cases, options)
    assert verdicts(found) == ["pass"] * 6
    assert found.faults == ([] if fault is None else [fault])
    assert found.ok == (fault is None)


def test_an_interrupt_ends_the_client_and_keeps_the_results(fake, suite, tmp_path):
    pid = tmp_path / "pid"

    def stop(result):
        if result.case.id == "unrank/1-3/some":
            raise KeyboardInterrupt

    start = f'open({str(pid)!r}, "w").write(str(os.getpid())); claim()'
    found = run(fake(start=start), suite.cases, QUICK, progress=stop)
    assert verdicts(found) == ["pass", "pass"]
    assert found.interrupted
    assert not found.ok
    assert report.summary(found) == "INTERRUPTED after 2 of 6 cases: 2 pass"
    assert ended(int(pid.read_text()))


# --- verdicts -------------------------------------------------------------------------------------


def rejection_case(level="core"):
    return Case("r", "p", "decode", level, ("2.10",), (), {}, None, ("E_PAD", "E_TAIL"))


@pytest.mark.parametrize(
    ("answer", "core", "strict", "message"),
    [
        (Answer("rejected", code="E_PAD"), "pass", "pass", ""),
        (Answer("rejected", code="E_TAIL"), "pass", "pass", ""),
        (
            Answer("rejected", code="E_META", message="bad"),
            "pass",
            "fail",
            "rejected with E_META (bad), want E_PAD or E_TAIL",
        ),
        (Answer("output", output={}), "fail", "fail", "accepted, want a rejection with E_PAD or E"),
        (Answer("errored", message="E_PAD"), "errored", "errored", "E_PAD"),
    ],
)
def test_rejections(answer, core, strict, message):
    assert judge(rejection_case(), answer, strict=False).verdict == core
    found = judge(rejection_case(), answer, strict=True)
    assert found.verdict == strict
    assert found.message.startswith(message)


def test_an_ordered_run_wants_the_first_code():
    case = rejection_case()
    later = judge(case, Answer("rejected", code="E_TAIL"), ordered=True)
    assert later.message == "rejected with E_TAIL, want E_PAD"
    assert judge(case, Answer("rejected", code="E_PAD"), ordered=True).verdict == "pass"
    assert judge(case, Answer("rejected", code="E_TAIL"), False, ordered=True).verdict == "fail"


@pytest.mark.parametrize("ordered", [False, True])
def test_an_empty_list_of_codes_means_any(ordered):
    case = Case("r", "p", "read_model", "core", ("5.22",), (), {}, None, ())
    assert judge(case, Answer("rejected", code="T_FILE"), True, ordered).verdict == "pass"
    found = judge(case, Answer("output", output={}), True, ordered)
    assert found.message == "accepted, want a rejection with any code"


def test_files_of_a_model_stay_near_its_index():
    refused = client.answer(Operations("plain"), "read_model", {"files": {"../../x": "00"}})
    assert refused["rejected"]["code"] == "T_ARGUMENT"


def y(op, level, got, want):
    return difference(op, level, {"y": got}, {"y": want})


def test_the_first_element_that_differs_is_named():
    want = np.arange(12, dtype=np.float32).reshape(3, 4)
    got = want.copy()
    got[1, 2] = np.nextafter(got[1, 2], np.float32(9))
    got[2, 0] = -1
    found = y("dot", "numeric", write_array(got), write_array(want))
    assert str(found) == (
        "y row 1 column 2: 0x40c00001 (6.0000005), want 0x40c00000 (6.0); 2 of 12 elements differ"
    )
    assert (found.index, found.count, found.size) == ((1, 2), 2, 12)


@pytest.mark.parametrize(
    ("dtype", "got", "want", "message"),
    [
        ("F16", "0080", "0000", "y element 0: 0x8000 (-0.0), want 0x0000 (0.0); 1 of 1 "),
        ("BF16", "803f", "813f", r"y element 0: 0x3f80 \(1\), want 0x3f81 \(1.00781\)"),
        ("I8", "ff", "01", r"y element 0: 0xff \(-1\), want 0x01 \(1\)"),
        ("BOOL", "00", "01", r"y element 0: 0x00 \(False\), want 0x01 \(True\)"),
        ("F64", "000000000000f03f", "000000000000f0bf", r"y .*: 0x3ff0000000000000 \(1.0\), want"),
        ("F32", "0100807f", "0000c07f", r"y element 0: 0x7f800001 \(nan\), want 0x7fc00000 \(na"),
    ],
)
def test_bits_count(dtype, got, want, message):
    arrays = [{"dtype": dtype, "shape": [1], "hex": text} for text in (got, want)]
    found = str(y("decode", "core", *arrays))
    assert re.match(message.replace("(-0.0)", r"\(-0.0\)").replace("(0.0)", r"\(0.0\)"), found)
    assert y("decode", "core", arrays[1], arrays[1]) is None


def test_canonical_results_are_compared_in_arithmetic_only():
    """SPEC 8.4: any NaN is the NaN, -0 is +0; F32 alone, and arithmetic alone."""

    def array(*words):
        data = np.array(words, dtype="<u4").tobytes()
        return {"dtype": "F32", "shape": [len(words)], "hex": data.hex()}

    got, want = array(0xFFC12345, 0x80000000, 0x7F800001), array(0x7FC00000, 0, 0x7FC00000)
    for one, other in ((got, want), (want, got)):
        assert y("dot", "numeric", one, other) is None
        assert y("decode", "core", one, other).count == 3
    assert y("dot", "numeric", array(0x80000001), array(1)).count == 1
    zeros = [{"dtype": "F16", "shape": [1], "hex": text} for text in ("0080", "0000")]
    assert y("dot", "numeric", *zeros).count == 1


@pytest.mark.parametrize(
    ("got", "message"),
    [
        ({"dtype": "F16", "shape": [2], "hex": "00000000"}, "y: dtype F16, want F32"),
        ({"dtype": "F32", "shape": [1, 1], "hex": "00000000"}, r"y: shape \[1, 1\], want \[1\]"),
        ({"dtype": "F32", "shape": [1], "hex": "0000"}, r"y: 2 bytes, want 4 for F32 \[1\]"),
        ({"dtype": "F32", "shape": [1], "hex": "0000803F"}, "y: hex '0000803F', want two lower"),
        ({"dtype": "F32", "shape": [1.0], "hex": "00000000"}, r"y: shape \[1.0\], want an array"),
        ({"dtype": "F31", "shape": [1], "hex": "00000000"}, "y: dtype 'F31', want one of SPEC 5.8"),
        ({"dtype": "F32", "shape": [1]}, r"y: \{'dtype': .*\}, want an array of dtype, shape and"),
        (None, "y: None, want an array of dtype, shape and hex"),
        ([0.0], r"y: \[0.0\], want an array of dtype"),
    ],
)
def test_outputs_that_are_no_arrays_fail(got, message):
    found = y("dot", "numeric", got, f32([1]))
    assert re.match(message, str(found)), found


@pytest.mark.parametrize(
    ("op", "got", "want", "message"),
    [
        ("rank", {"codes": ["0c", "1"]}, {"codes": ["c", "001"]}, None),
        ("rank", {"codes": ["c"]}, {"codes": ["c", "1"]}, "codes: 1 elements, want an array of 2"),
        ("rank", {"codes": "c"}, {"codes": ["c"]}, "codes: 'c', want an array of 1"),
        ("unrank", {"masks": ["0"]}, {"masks": [None]}, "masks element 0: '0', want None; 1 of 1"),
        ("unrank", {"masks": [None]}, {"masks": ["0"]}, "masks element 0: None, want '0'"),
        ("unrank", {"masks": ["0x3"]}, {"masks": ["3"]}, "masks element 0: '0x3', want '3'"),
        ("argmax", {"index": [1, True]}, {"index": [1, 1]}, "index element 1: True, want 1; 1 of"),
        ("warnings", {"warnings": []}, {"warnings": ["W_A"]}, "warnings: 0 elements, want an ar"),
        ("write", {"file": "0011"}, {"file": "0022"}, "file byte 1: 0x11, want 0x22"),
        ("write", {"file": "0011"}, {"file": "001122"}, "file: 2 bytes, want 3"),
        ("write", {"file": 1}, {"file": "00"}, "file: hex 1, want two lower-case digits"),
        ("read", {"tensors": []}, {"tensors": {}}, r"tensors: \[\], want an object"),
        (
            "read",
            {"tensors": {"b": 1}},
            {"tensors": {"a": 1}},
            r"tensors: without \['a'\], with \[",
        ),
        ("exp", {"y": 1, "z": 1}, {"y": 1}, r"output: without \[\], with \['z'\], want neither"),
        ("trace", {"digest": "0"}, {"digest": "1"}, "digest: '0', want '1'"),
        ("trace", {"digest": "1", "taps": {}}, {"digest": "1"}, None),
    ],
)
def test_other_outputs(op, got, want, message):
    found = difference(op, "core", got, want)
    assert (found is None) if message is None else re.match(message, str(found)), found


def test_of_the_taps_the_first_in_order_of_computation_is_named():
    names = ["embed", "layers.0.q", "layers.0.k", "layers.10.q", "layers.2.q", "logits"]
    want = {"digest": "a", "taps": dict.fromkeys(sorted(names), "0")}
    got = {"digest": "b", "taps": {**want["taps"], "layers.2.q": "1", "layers.10.q": "1"}}
    found = difference("trace", "numeric", got, want)
    assert str(found) == "taps.layers.2.q: '1', want '0'; 2 of 6 elements differ"


def test_tensors_and_parts_are_compared_one_by_one():
    want = {"tensors": {"a": f32([1, 2]), "w": f32([[1]])}}
    got = {"tensors": {"w": f32([[2]]), "a": f32([1, 2])}}
    found = difference("read", "core", got, want)
    assert str(found).startswith(
        "tensors.w row 0 column 0: 0x40000000 (2.0), want 0x3f800000 (1.0)"
    )
    cube = [f32(np.zeros((2, 2, 2))), f32(np.ones((2, 2, 2)))]
    assert str(y("rope", "numeric", *cube)).startswith("y [0, 0, 0]: 0x00000000")
    assert y("dot", "numeric", f32(np.zeros((0, 3))), f32(np.zeros((0, 3)))) is None


def test_a_malformed_expectation_is_an_error_of_the_vectors():
    broken = Case("c", "p", "exp", "numeric", (), (), {}, {"y": {**f32([1]), "hex": "00"}})
    with pytest.raises(NmrefError, match=r"^T_FILE case c expectation y: 1 bytes, want 4 for F32"):
        judge(broken, Answer("output", output={"y": f32([1])}))


# --- known failures -------------------------------------------------------------------------------


def test_known_failures(fake, suite):
    bad = 'result(output={"masks": []})'
    listed = {"unrank/1-3/some": "bug 7", "decode/refused/*": "bug 8", "decode/2-4/two": "bug 9"}
    when = "number in (2, 3)"
    found = run(fake(bad, when=when), suite.cases, QUICK, listed)
    passes = "unexpected-pass"
    assert verdicts(found) == ["pass", "known", "known", passes, "pass", "pass"]
    known_, other, unexpected = found.results[1:4]
    assert known_.message == "bug 7 (fail: masks: 0 elements, want an array of 2)"
    assert other.message.startswith("bug 9 (fail: output: without ['W']")
    assert unexpected.message == "passes, but is listed as a known failure: bug 8"
    assert not found.ok
    listed.pop("decode/refused/*")
    assert run(fake(bad, when=when), suite.cases, QUICK, listed).ok
    crash = run(fake("os._exit(1)"), suite.cases[:2], QUICK, {"unrank/1-3/some": "bug 7"})
    assert crash.results[1].message.startswith("bug 7 (errored: exit code 1")


def test_files_of_known_failures(tmp_path, suite):
    path = tmp_path / "known.txt"
    path.write_text("# ours\n\nunrank/1-3/some   bug 7, see #12\ndecode/refused/* bug 8\n")
    want = {"unrank/1-3/some": "bug 7, see #12", "decode/refused/*": "bug 8"}
    assert known.read(path) == want
    known.check(want, suite.cases, str(path))
    path.write_text(json.dumps(want))
    assert known.read(path) == want
    for text, message in [
        (
            "unrank/1-3/some\n",
            r"known.txt line 1: unrank/1-3/some without a reason, want ID REASON, once",
        ),
        ("a b\na c\n", r"known.txt line 2: a twice, want ID REASON"),
        ('{"a": 1}', r"known.txt: an id without a reason, want a reason for each"),
        ('{"a":', r"known.txt: Expecting value.*, want JSON"),
    ]:
        path.write_text(text)
        with pytest.raises(NmrefError, match=rf"^T_FILE .*{message}"):
            known.read(path)
    for name in ("unrank/1-4/some", "read/*"):
        with pytest.raises(NmrefError, match=rf"^T_FILE k: {re.escape(name)}, which is no case"):
            known.check({name: "why"}, suite.cases, "k")
    with pytest.raises(NmrefError, match=r"^T_FILE .*none: No such file or directory, want a file"):
        known.read(tmp_path / "none")


# --- vectors --------------------------------------------------------------------------------------


def test_levels_parts_and_globs(suite):
    def ids(**options):
        return [one.id for one in select(suite, **options)]

    core = ["unrank/2-4/all", "unrank/1-3/some", "decode/2-4/two", "decode/refused/pad"]
    assert ids(levels=["core"]) == core
    assert ids(levels=["strict"]) == [*core, "unrank/1-2/last"]
    assert ids(levels=["numeric"]) == ["dot/special/inf"]
    assert len(ids()) == 6
    assert ids(parts=["codes"], glob="*/1-3/*") == ["unrank/1-3/some"]
    with pytest.raises(NmrefError, match=r"^T_ARGUMENT part: 'x', want one of codes, others$"):
        select(suite, parts=["x"])
    with pytest.raises(NmrefError, match=r"^T_ARGUMENT cases: none with these options, want at le"):
        select(suite, glob="x*")


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def relist(folder):
    """Make the manifest agree with the files again."""
    manifest = json.loads((folder.parent / "MANIFEST.json").read_text())
    for name, said in manifest["files"].items():
        said["sha256"] = hashlib.sha256((folder.parent / name).read_bytes()).hexdigest()
    (folder.parent / "MANIFEST.json").write_text(json.dumps(manifest))


DAMAGE = {
    "changed": (lambda f: change(f / "codes.json", '"2:4"', '"2:5"'), "codes.json: sha256 .*, wan"),
    "missing": (
        lambda f: (f / "codes.json").unlink(),
        "codes.json: no such file, want the file of",
    ),
    "extra": (
        lambda f: (f / "a.json").write_text("{}"),
        "a.json: a file that the manifest does not",
    ),
    "no manifest": (
        lambda f: (f.parent / "MANIFEST.json").unlink(),
        "MANIFEST.json: no such file, w",
    ),
    "manifest": (
        lambda f: (f.parent / "MANIFEST.json").write_text("[]"),
        "MANIFEST.json: another f",
    ),
    "flags": (
        lambda f: (f.parent / "flags.json").write_text("[]"),
        "flags.json: another form, want",
    ),
}
MALFORMED = {
    "schema": (
        "vectors:1",
        "vectors:2",
        "codes.json: another schema, want urn:nmref:schema:vectors",
    ),
    "json": ('{"schema"', '{"schema', "codes.json: .*, want JSON"),
    "level": (
        '"level": "core"',
        '"level": "hard"',
        "codes.json: case 0 with a fault at level or op",
    ),
    "op": (
        '"op": "unrank"',
        '"op": "unrnk"',
        "codes.json: case 0 with a fault at level or op, want",
    ),
    "expect": ('"output"', '"outputs"', "codes.json: case 0 with a fault at expect, want id, op, "),
    "member": ('"clauses"', '"clause"', "codes.json: case 0 with a fault at 'clauses', want"),
    "id": (
        "unrank/1-3/some",
        "unrank/2-4/all",
        "codes.json: case unrank/2-4/all twice, want every id once",
    ),
}


@pytest.mark.parametrize("fault", DAMAGE)
def test_vectors_are_as_the_manifest_says(fault, folder):
    damage, message = DAMAGE[fault]
    damage(folder)
    with pytest.raises(NmrefError, match=rf"^T_FILE .*{message}") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", MALFORMED)
def test_vectors_have_their_form(fault, folder):
    old, new, message = MALFORMED[fault]
    change(folder / "codes.json", old, new)
    relist(folder)
    with pytest.raises(NmrefError, match=rf"^T_FILE .*{message}"):
        load(folder)


def test_vectors_in_one_folder_with_their_manifest(tmp_path):
    folder = write_suite(tmp_path / "suite")
    manifest = json.loads((folder.parent / "MANIFEST.json").read_text())
    manifest["files"] = {Path(name).name: said for name, said in manifest["files"].items()}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))
    (folder.parent / "MANIFEST.json").unlink()
    found = load(folder)
    assert len(found.cases) == 6
    assert found.parts == ["codes", "others"]
    assert found.flags == FLAGS


# --- protocol -------------------------------------------------------------------------------------

START = {"type": "start", "protocol": 1, "name": "a", "version": "1", "ops": ["rank"]}
RESULT = {"type": "result", "id": 3}
FROM_CLIENT = {
    "start": [
        START,
        {**START, "profiles": ["exact", "i32", "tc.L8.F24.rz.rz.slot+split"], "excludes": ["x"]},
        {**START, "ops": []},
    ],
    "result": [
        {**RESULT, "output": {}},
        {**RESULT, "rejected": {"code": "E_PAD"}},
        {**RESULT, "rejected": {"code": "E_PAD", "message": "row 1"}},
        {**RESULT, "skipped": ""},
        {**RESULT, "errored": "x"},
    ],
    "bad": [
        {},
        {"type": "stop"},
        {"type": "start"},
        {**START, "protocol": 2},
        {**START, "ops": ["ran"]},
        {**START, "ops": "rank"},
        {**START, "ops": [1]},
        {**START, "name": None},
        {**START, "more": 1},
        {**START, "profiles": None},
        {**START, "profiles": ["f64"]},
        {**START, "profiles": ["tc.L8.F24.rz.rz.slot+merged"]},
        {**START, "profiles": ["tc.L8.F22.rz.rz.col"]},
        {**START, "profiles": ["i32+split"]},
        {**START, "excludes": [None]},
        RESULT,
        {**RESULT, "output": {}, "errored": "x"},
        {**RESULT, "output": None},
        {**RESULT, "output": {}, "more": 1},
        {**RESULT, "rejected": "E_PAD"},
        {**RESULT, "rejected": {}},
        {**RESULT, "rejected": {"code": ""}},
        {**RESULT, "rejected": {"code": "E PAD"}},
        {**RESULT, "rejected": {"code": "E_PAD", "more": 1}},
        {**RESULT, "rejected": {"code": "E_PAD", "message": None}},
        {**RESULT, "skipped": None},
        {"type": "result", "output": {}},
        {"type": "result", "id": "3", "output": {}},
    ],
}


def validator(name):
    return Draft202012Validator({**SCHEMA, "oneOf": [{"$ref": f"#/$defs/{name}"}]})


def accepts(message):
    try:
        if message.get("type") == "start":
            protocol.claims(message)
        else:
            protocol.answer(message, 3)
    except ClientFault:
        return False
    return True


def test_the_schema_and_the_runner_agree():
    Draft202012Validator.check_schema(SCHEMA)
    schema = validator("fromClient")
    for kind, messages in FROM_CLIENT.items():
        for message in messages:
            assert accepts(message) == schema.is_valid(message) == (kind != "bad"), message
    assert SCHEMA["$defs"]["op"]["enum"] == list(protocol.OPS)


def test_every_message_of_a_run_keeps_to_the_schema(suite, tmp_path, fake):
    assert run(fake(), suite.cases, QUICK).ok
    for message in fake.sent:
        validator("fromRunner").validate(message)
        Draft202012Validator(SCHEMA).validate(message)
    for command in ([sys.executable, str(EXAMPLE)],):
        lines = b"".join(map(protocol.line, fake.sent[:3] + fake.sent[-1:]))
        said = subprocess.run(command, input=lines, capture_output=True, check=True).stdout
        for line in said.splitlines():
            validator("fromClient").validate(json.loads(line))


# --- nmref as a client ----------------------------------------------------------------------------


@pytest.mark.parametrize("twin", ["fast", "plain"])
def test_nmref_is_a_client(twin, suite):
    messages = [protocol.start_message()]
    for number, one in enumerate(suite.cases, 1):
        messages.append(protocol.run_message(number, one.op, one.input))
    sink = BytesIO()
    source = BytesIO(b"".join(map(protocol.line, [*messages, protocol.stop_message()])))
    client.serve(Operations(twin), f"nmref ({twin})", source, sink)
    start, *results = map(json.loads, sink.getvalue().splitlines())
    for message in (start, *results):
        validator("fromClient").validate(message)
    assert protocol.claims(start).ops == protocol.OPS
    for number, (one, result) in enumerate(zip(suite.cases, results, strict=True), 1):
        assert judge(one, protocol.answer(result, number)).verdict == "pass", one.id


def test_nmref_has_every_operation():
    operations = Operations("plain")
    ones, cos = f32([[[1, 2]]]), f32([[0]])
    given = {
        "rank": {"pattern": "16:256", "masks": [f"{0xFFFF << 240:x}"]},
        "warnings": WEIGHT,
        "encode": {"base": f32([[0, 1, 0, 2]]), "pattern": "2:4"},
        "write": {"weights": {"w": WEIGHT}, "others": {"b": f32([1])}},
        "exp": {"x": f32([0])},
        "silu": {"x": f32([0])},
        "softmax": {"x": f32([[0, 0]])},
        "rms_norm": {"x": f32([[0]]), "gain": f32([1]), "eps": 1},
        "rope_tables": {"theta": 10000, "head_dim": 2, "start": 0, "count": 1, "scaling": None},
        "rope": {"x": ones, "cos": cos, "sin": f32([[1]])},
        "argmax": {"x": f32([[1, 3, 3]])},
        "splitmix64": {"seed": "0", "count": 1},
        "read": {},
        **dict.fromkeys(("unrank", "decode", "dot", "trace", "read_model")),  # elsewhere
    }
    assert set(given) == set(protocol.OPS)
    found = {
        op: client.answer(operations, op, data)["output"] for op, data in given.items() if data
    }
    assert found["rank"] == {"codes": [f"{sum_of_top_codes():x}"]}
    assert found["warnings"] == {"warnings": []}
    assert found["encode"]["parts"]["nm_codes"]["hex"] == "04"
    assert found["exp"]["y"] == f32([1])
    assert found["silu"]["y"] == f32([0])
    assert found["softmax"]["y"] == f32([[0.5, 0.5]])
    assert found["rms_norm"]["y"] == f32([[0]])
    assert found["rope_tables"] == {"cos": f32([[1]]), "sin": f32([[0]])}
    assert found["rope"]["y"] == f32([[[-2, 1]]])
    assert found["argmax"] == {"index": [1]}
    assert found["splitmix64"]["next"] == ["e220a8397b1dcdaf"]
    read = client.answer(operations, "read", found["write"])["output"]["tensors"]
    w = OTHERS[0]["expect"]["output"]["W"]
    assert read == {"b": f32([1]), "w": w}
    refused = client.answer(operations, "read", {"file": "00"})
    assert refused["rejected"]["code"] == "E_HEADER"
    assert "errored" in client.answer(operations, "read", {"fil": "00"})
    assert "skipped" in client.answer(operations, "conv", {})


def sum_of_top_codes():
    from math import comb

    return comb(256, 16) - 1


def test_weights_are_judged_like_those_of_a_file():
    operations = Operations("fast")
    for change_, code in [
        ({"spec": {**WEIGHT["spec"], "pattern": "2:2"}}, "E_META"),
        ({"spec": {**WEIGHT["spec"], "shape": [1, 0]}}, "E_LIMIT"),
        ({"spec": {**WEIGHT["spec"], "shape": [1, 5]}}, "E_SHAPE"),
        ({"spec": {**WEIGHT["spec"], "dtype": "BF16"}}, "E_DTYPE"),
        ({"parts": {"nm_values": WEIGHT["parts"]["nm_values"]}}, "E_MISSING"),
        ({"parts": {**WEIGHT["parts"], "nm_scale": f32([1])}}, "E_UNEXPECTED"),
    ]:
        answer = client.answer(operations, "decode", {**WEIGHT, **change_})
        assert answer["rejected"]["code"] == code, change_


# --- reports --------------------------------------------------------------------------------------


def test_the_text(fake, suite):
    bad = 'result(output={"masks": ["3"] * 7})'
    when = 'message["op"] == "unrank" and number == 1'
    stop = "sys.exit(1)"
    found = run(fake(bad, when=when, stop=stop), suite.cases, QUICK, {"unrank/1-3/some": "bug 7"})
    assert report.text(found, suite.flags) == [
        "fake 0, SPEC 1.0: unrank, decode, dot",
        "",
        "part    op      pass  fail  errored  skipped  known  unexpected-pass  cases",
        "------  ------  ----  ----  -------  -------  -----  ---------------  -----",
        "codes   unrank     0     1        0        0      0                1      2",
        "others  decode     2     0        0        0      0                0      2",
        "others  dot        1     0        0        0      0                0      1",
        "others  unrank     1     0        0        0      0                0      1",
        "total              4     1        0        0      0                1      6",
        "",
        "FAIL unrank/2-4/all (codes unrank, SPEC 2.5, 2.14)",
        "    masks element 1: '3', want '5'; 6 of 7 elements differ",
        "    hunts mask-mirrored: bit 0 of a mask taken for the last column",
        "",
        "UNEXPECTED PASS unrank/1-3/some (codes unrank, SPEC 2.14)",
        "    passes, but is listed as a known failure: bug 7",
        "",
        "FAULT exit code 1 after stop, want 0",
        "FAILED: 4 pass, 1 fail, 1 unexpected-pass, 1 fault",
    ]


def test_junit_and_json(fake, suite):
    answer = """
if number == 2: os.write(2, b"see \\x01 this\\n"); os._exit(1)
elif number == 3: result(output={"W": right["output"]["W"] | {"hex": "00" * 8}})
else: result(skipped="no")
"""
    found = run(
        fake(answer, when="number in (2, 3, 5)"), suite.cases, QUICK, {"decode/refused/pad": "why"}
    )
    root = ET.fromstring(report.junit(found))
    counts = ("tests", "failures", "errors", "skipped")
    assert [root.get(name) for name in counts] == ["6", "2", "1", "1"]
    codes, others = root
    assert [codes.get(name) for name in counts] == ["2", "0", "1", "0"]
    assert codes[1].find("error").get("message").startswith("exit code 1 before an answer; stderr")
    assert codes[1].find("system-err").text == "see \\x01 this"
    assert [test.get("classname") for test in others][:2] == ["nmref.others.decode"] * 2
    assert others[0].find("failure").get("type") == "fail"
    assert "SPEC 2.14" in others[0].find("failure").text
    assert others[1].find("failure").get("type") == "unexpected-pass"
    assert others[2].find("skipped").get("message") == "no"
    document = json.loads(json.dumps(report.document(found, ["core"])))
    assert document["totals"] == {
        "pass": 2,
        "fail": 1,
        "errored": 1,
        "skipped": 1,
        "known": 0,
        "unexpected-pass": 1,
    }
    assert document["client"]["name"] == "fake"
    failed = document["cases"][2]
    assert failed["difference"]["index"] == [0, 1]
    assert failed["difference"]["count"] == 2
    assert (document["ok"], document["interrupted"], document["levels"]) == (False, False, ["core"])


def test_many_errors_are_said_once(suite):
    one = suite.cases[0]
    found = runner.Run(9, [runner.Result(one, "errored", "gone") for _ in range(9)])
    text = report.text(found, {})
    assert [line for line in text if "gone" in line] == ["    gone"]
    assert text[-3] == "    the same: " + ", ".join([one.id] * 6) + " and 2 more"


def test_of_many_failures_ten_are_shown(suite):
    one = suite.cases[0]
    cases = [replace(one, id=f"unrank/{i}/x") for i in range(25)]
    found = runner.Run(25, [runner.Result(case, "fail", "wrong") for case in cases])
    text = report.text(found, {})
    assert sum(line.startswith("FAIL ") for line in text) == 10
    assert "15 more of codes unrank (--json has all)" in text


# --- the guide ------------------------------------------------------------------------------------


def test_the_guide_shows_the_example():
    text = (ROOT / "conformance" / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert EXAMPLE.read_text(encoding="utf-8") in shown
    for op in protocol.OPS:
        assert f"| {op} |" in text or f"| {op}, " in text or f", {op} |" in text, op
