"""nmref conform."""

import json
import os
import re
import signal
import sys
import threading
import xml.etree.ElementTree as ET

import pytest

from nmref.cli import main
from tests.cli.test_bad_input import refuse
from tests.conformance.test_runner import EXAMPLE, ROOT, Fakes, write_suite

CLIENT = ["--", sys.executable, str(EXAMPLE)]


@pytest.fixture
def folder(tmp_path):
    return write_suite(tmp_path / "suite")


@pytest.fixture
def fake(tmp_path):
    return Fakes(tmp_path)


def conform(*arguments) -> int:
    return main(["conform", *map(str, arguments)])


def test_the_example(folder, capsys):
    assert conform("--vectors", folder, *CLIENT) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines() == [
        "example 1, SPEC 1.0: unrank",
        "",
        "part    op      pass  fail  errored  skipped  known  unexpected-pass  cases",
        "------  ------  ----  ----  -------  -------  -----  ---------------  -----",
        "codes   unrank     2     0        0        0      0                0      2",
        "others  decode     0     0        0        2      0                0      2",
        "others  dot        0     0        0        1      0                0      1",
        "others  unrank     1     0        0        0      0                0      1",
        "total              3     0        0        3      0                0      6",
        "",
        "skipped 2: the client does not claim decode",
        "skipped 1: the client does not claim dot",
        "",
        "OK: 3 pass, 3 skipped",
    ]


def test_the_default_folder_and_the_choice_of_cases(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder.parent)
    (folder.parent / "conformance").mkdir()
    for name in ("vectors", "MANIFEST.json", "flags.json"):
        (folder.parent / name).rename(folder.parent / "conformance" / name)
    assert conform("--part", "codes", "--case", "*/1-3/*", "--level", "core", *CLIENT) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "OK: 1 pass"


def test_reports_and_known_failures(folder, fake, tmp_path, capsys):
    client = ["--", *fake('result(output={"masks": ["4", "0"]})')]
    reports = ["--junit", tmp_path / "out.xml", "--json", tmp_path / "out.json"]
    assert conform("--vectors", folder, *reports, *client) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "FAILED: 5 pass, 1 fail"
    assert ET.parse(tmp_path / "out.xml").getroot().get("failures") == "1"
    document = json.loads((tmp_path / "out.json").read_bytes())
    assert document["totals"]["fail"] == 1
    listed = tmp_path / "known.txt"
    listed.write_text("unrank/1-3/some bug 7\n")
    assert conform("--vectors", folder, "--known", listed, *client) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "OK: 5 pass, 1 known"
    assert lines[-3].startswith("known 1: bug 7 (fail: masks element 1: '0', want '1'; 1 of 2")


def test_levels(folder, fake):
    """Which code a rejection has matters for strict, and strict is in the default."""
    client = ["--", *fake('result(rejected={"code": "E_META"})', when="right.get('rejected')")]
    arguments = ["--vectors", folder, "--case", "decode/refused/*"]
    assert conform(*arguments, "--level", "core", *client) == 0
    assert conform(*arguments, "--level", "strict", *client) == 1
    assert conform(*arguments, *client) == 1


@pytest.mark.parametrize("twin", [[], ["plain"]])
def test_nmref_itself(twin, folder, capsys):
    assert conform("--vectors", folder, "--self", *twin) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"nmref ({twin[0] if twin else 'fast'}) ")
    assert lines[-1] == "OK: 6 pass"


def test_an_interrupt(folder, fake, tmp_path, capsys):
    """ctrl-c while a client hangs: what is known so far, and the reports."""
    marker = tmp_path / "hangs"
    client = fake(f"os.mkdir({str(marker)!r}); time.sleep(60)")

    def interrupt():
        while not marker.exists():
            if done.wait(0.02):
                return
        os.kill(os.getpid(), signal.SIGINT)

    done = threading.Event()
    thread = threading.Thread(target=interrupt)
    thread.start()
    out = tmp_path / "out.json"
    try:
        assert conform("--vectors", folder, "--json", out, "--", *client) == 130
    finally:
        done.set()
        thread.join()
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == "INTERRUPTED after 1 of 6 cases: 1 pass"
    assert captured.err.splitlines()[-1] == "interrupted"
    assert json.loads(out.read_bytes())["interrupted"] is True


@pytest.mark.parametrize(
    "arguments",
    [[], ["--self", *CLIENT], ["--level", "hard", *CLIENT], ["--timeout", "0", *CLIENT]],
)
def test_usage(arguments, folder):
    with pytest.raises(SystemExit) as stop:
        conform("--vectors", folder, *arguments)
    assert stop.value.code == 2


def test_what_is_refused(folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "known").write_text("unrank/9-9/all why\n")
    monkeypatch.chdir(tmp_path)
    at = ["--vectors", folder]
    for arguments, message in [
        ([], r"T_FILE conformance/vectors: no such folder, want --vectors DIR"),
        (["--vectors", "none"], r"T_FILE none: no such folder, want a folder of vectors"),
        ([*at, "--part", "x"], r"T_ARGUMENT part: 'x', want one of codes, others"),
        ([*at, "--case", "x"], r"T_ARGUMENT cases: none with these options, want at least one"),
        (
            [*at, "--known", "known"],
            r"T_FILE known: unrank/9-9/all, which is no case, want cases of",
        ),
    ]:
        assert re.match(message, refuse(["conform", *arguments, *CLIENT], capsys))


def test_a_changed_vector_is_refused(folder, capsys):
    path = folder / "codes.json"
    path.write_bytes(path.read_bytes().replace(b'"masks": ["4"', b'"masks": ["2"'))
    line = refuse(["conform", "--vectors", folder, *CLIENT], capsys)
    assert re.match(
        r"T_FILE .*codes\.json: sha256 [0-9a-f]{64}, want [0-9a-f]{64} of the man", line
    )


def test_the_failure_of_the_guide(folder, tmp_path, capsys):
    """conformance/README.md shows what is printed for a client that counts columns backwards."""
    wrong = tmp_path / "wrong.py"
    right = EXAMPLE.read_text(encoding="utf-8")
    wrong.write_text(right.replace("1 << p", "1 << m - 1 - p").replace('"example"', '"mine"'))
    assert conform("--vectors", folder, "--part", "codes", "--", sys.executable, wrong) == 1
    guide = (ROOT / "conformance" / "README.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out in guide
