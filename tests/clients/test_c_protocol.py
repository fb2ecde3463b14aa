"""The C client of the conformance suite over the vectors of the repository."""

import json
import os
import shutil
import subprocess
from math import comb
from pathlib import Path
from typing import Any

import pytest

from nmref.conformance import runner
from tests.clients.test_c_client import FLAGS, FOLDER, ROOT

OPS = {"decode", "rank", "read", "unrank", "warnings"}


@pytest.fixture(autouse=True, scope="session")
def _compiler() -> None:
    if not shutil.which("cc"):
        if os.environ.get("CI"):
            pytest.fail("no C compiler `cc`, which CI must have")
        pytest.skip("no C compiler `cc`")


@pytest.fixture(scope="session")
def client(_compiler: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client, built with the strict flags and with sanitizers."""
    program = tmp_path_factory.mktemp("client") / "nmref_client"
    sources = [FOLDER / "nmref_client.c", FOLDER / "nmref_core.c"]
    subprocess.run(["cc", *FLAGS, "-o", program, *sources], check=True, timeout=120)
    return program


@pytest.fixture(scope="session")
def cases() -> list[runner.Case]:
    suite = runner.load(ROOT / "conformance" / "vectors")
    return [case for case in runner.select(suite, ["core", "strict"]) if case.op in OPS]


def test_passes_the_suite(client: Path, cases: list[runner.Case]) -> None:
    """Every case of its operations, the codes of rejections included; nothing is skipped."""
    assert {case.op for case in cases} == OPS
    run = runner.run([str(client)], cases)
    bad = [
        (result.case.id, result.verdict, result.message, result.stderr)
        for result in run.results
        if result.verdict != "pass"
    ]
    assert (bad, run.faults) == ([], [])
    assert run.ok
    assert len(run.results) == len(cases)
    assert run.claims is not None
    assert set(run.claims.ops) == OPS


def test_passes_by_the_command(client: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that README.md shows; what the client does not claim is skipped."""
    from nmref.cli import main

    monkeypatch.chdir(ROOT)
    arguments = ["conform", "--level", "core", "--level", "strict", "--part", "codes"]
    assert main([*arguments, "--", str(client)]) == 0


MUTANTS = {
    "unrank": ("code = sub128(code, binomial(t, p, j));", ""),
    "rank": ("binomial(t, position[j - 1], j)", "binomial(t, position[j - 1], t->n + 1 - j)"),
    "decode": ("rest == half && (p & 1)", "rest == half && !(p & 1)"),
    "warnings": ("if (!stored[i]) return false;", ""),
    "read": ("at = t->end;", "at = t->end > at ? t->end : at; (void)at; at = t->begin;"),
}


@pytest.mark.parametrize("op", MUTANTS)
def test_mutants_fail(tmp_path: Path, cases: list[runner.Case], op: str) -> None:
    """One rule broken: the cases of the operation notice."""
    old, new = MUTANTS[op]
    text = (FOLDER / "nmref_core.c").read_text()
    assert text.count(old) == 1
    (tmp_path / "nmref_core.c").write_text(text.replace(old, new))
    program = tmp_path / "client"
    sources = [FOLDER / "nmref_client.c", tmp_path / "nmref_core.c"]
    command = ["cc", "-std=c11", "-O1", f"-I{FOLDER}", "-o", program, *sources]
    subprocess.run(command, check=True, timeout=120)
    run = runner.run([str(program)], [case for case in cases if case.op == op])
    assert run.count("fail") > 0
    assert run.count("errored") == 0


# --------------------------------------------------------------------------- the protocol


def talk(client: Path, *lines: Any) -> tuple[list[Any], int]:
    """Answers to lines, objects or raw bytes, and the exit code."""
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    done = subprocess.run([client], input=b"\n".join(raw), capture_output=True, timeout=60)
    assert b"Sanitizer" not in done.stderr, done.stderr.decode()
    assert b"runtime error" not in done.stderr, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode


def case(op: str, **data: Any) -> dict[str, Any]:
    return {"type": "run", "id": 7, "op": op, "input": data}


def test_conversation(client: Path) -> None:
    start = {"type": "start", "protocol": 1, "spec": "1.0"}
    many = comb(256, 16)
    codes = ["0", "3245", "003246", "f" * 40, "1" + "0" * 32]
    answers, code = talk(
        client,
        start,
        case("unrank", pattern="8:16", codes=codes),
        case("rank", pattern="4:256", masks=["f", "f" + "0" * 63]),
        case("unrank", pattern="16:256", codes=[f"{many:x}", f"{many - 1:x}"]),
        case("dot", profile="exact"),
        {"type": "stop"},
        case("rank"),
    )
    assert code == 0
    assert answers[0]["ops"] == sorted(OPS)
    assert answers[1]["output"] == {"masks": ["ff", "ff00", None, None, None]}
    assert answers[2]["output"] == {"codes": ["0", f"{comb(256, 4) - 1:x}"]}
    assert answers[3]["output"] == {"masks": [None, "ffff" + "0" * 60]}
    assert set(answers[4]) == {"type", "id", "skipped"}
    assert len(answers) == 5
    assert all(answer["id"] == 7 for answer in answers[1:])


F32 = {"dtype": "F32", "shape": [1, 2], "hex": "0000803f00000040"}
CODES = {"dtype": "U8", "shape": [1, 1], "hex": "00"}
SPEC = {"coding": "colex", "dtype": "F32", "outliers": None, "pattern": "2:4", "shape": [1, 4]}
PARTS = {"nm_values": F32, "nm_codes": CODES}


def test_one_weight(client: Path) -> None:
    """Names of parts are foreign: they may be anything, and have to fit into a message."""
    whole = {"dtype": "F32", "shape": [1, 4], "hex": "0000803f000000400000000000000000"}
    wide = {"dtype": "F32", "shape": [2**31, 2**31, 2**31, 0], "hex": ""}
    for spec, parts, want in [
        (SPEC, PARTS, whole),
        ({**SPEC, "x-note": "any"}, PARTS, whole),
        ({**SPEC, "more": 1}, PARTS, "E_META"),
        ({**SPEC, "pattern": "4:2"}, PARTS, "E_META"),
        ({**SPEC, "shape": [1]}, PARTS, "E_META"),
        ({**SPEC, "shape": [1, 0]}, PARTS, "E_LIMIT"),
        (SPEC, {"nm_values": F32}, "E_MISSING"),
        (SPEC, {**PARTS, "nm_scale": F32}, "E_UNEXPECTED"),
        (SPEC, {**PARTS, "nm_": wide}, "E_UNEXPECTED"),
        (SPEC, {**PARTS, 'nm_\n\\"\x7f': CODES}, "E_UNEXPECTED"),
        (SPEC, {**PARTS, "nm_" + "x" * 5000: CODES}, "E_UNEXPECTED"),
        (SPEC, {**PARTS, "nm_codes": {**CODES, "dtype": "I8"}}, "E_DTYPE"),
        (SPEC, {**PARTS, "nm_codes": {**CODES, "dtype": "U9"}}, "E_DTYPE"),
        (SPEC, {**PARTS, "nm_codes": {**CODES, "shape": [1]}}, "E_SHAPE"),
        (SPEC, {**PARTS, "nm_codes": {**CODES, "hex": "08"}}, "E_PAD"),
        (SPEC, {**PARTS, "nm_codes": {**CODES, "hex": "07"}}, "E_CODE_RANGE"),
    ]:
        (answer,), code = talk(client, case("decode", spec=spec, parts=parts))
        assert code == 0
        if isinstance(want, str):
            assert answer["rejected"]["code"] == want
            assert answer["rejected"]["message"].startswith(f"{want} ")
        else:
            assert answer["output"] == {"W": want}


def test_malformed_input_is_errored(client: Path) -> None:
    def parts(**changed: Any) -> dict[str, Any]:
        return {**PARTS, "nm_codes": {**CODES, **changed}}

    for op, data in [
        ("unrank", {}),
        ("unrank", {"pattern": "4:2", "codes": []}),
        ("unrank", {"pattern": "2:4", "codes": {}}),
        ("unrank", {"pattern": "2:4", "codes": [1]}),
        ("unrank", {"pattern": "2:4", "codes": ["0", ""]}),
        ("unrank", {"pattern": "2:4", "codes": ["0x1"]}),
        ("unrank", {"pattern": "2:4", "codes": ["-1"]}),
        ("rank", {"pattern": "2:4", "masks": ["7"]}),
        ("rank", {"pattern": "2:4", "masks": ["11"]}),
        ("rank", {"pattern": "2:4", "masks": ["3", "\0"]}),
        ("read", {}),
        ("read", {"file": "0"}),
        ("read", {"file": "0g"}),
        ("decode", {"spec": SPEC}),
        ("decode", {"spec": SPEC, "parts": []}),
        ("decode", {"spec": SPEC, "parts": {"nm_codes": 1}}),
        ("decode", {"spec": SPEC, "parts": parts(hex="0")}),
        ("decode", {"spec": SPEC, "parts": parts(hex="AA")}),
        ("decode", {"spec": SPEC, "parts": parts(hex="0000")}),
        ("decode", {"spec": SPEC, "parts": parts(shape=[-1, -1])}),
        ("decode", {"spec": SPEC, "parts": parts(shape=["1", 1])}),
        ("decode", {"spec": SPEC, "parts": parts(shape=[2**62, 2**62, 1])}),
    ]:
        (answer,), code = talk(client, case(op, **data))
        assert code == 0
        assert set(answer) == {"type", "id", "errored"}, (op, data)
    (answer,), code = talk(client, {"type": "run", "id": 7, "op": "read"})
    assert "errored" in answer
    (answer,), code = talk(client, {"type": "run", "id": 7, "op": None, "input": {}})
    assert set(answer) == {"type", "id", "skipped"}


def test_other_lines_end_the_program(client: Path) -> None:
    for line in (
        *(b"x\n", b"\n", b"{}\n", b"[]\n", b'{"type":"run"}\n', b'{"type":1}\n', b"{" * 100000),
        *(b'{"type":"run","id":"7"}\n', b'{"type":"\xff"}\n', b"\0"),
    ):
        answers, code = talk(client, line, case("rank"))
        assert (answers, code) == ([], 2), line
    assert talk(client) == ([], 0)
