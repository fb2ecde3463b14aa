"""nmref vectors and nmref corpus."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from conformance import naive
from nmref.cli import main
from nmref.conformance.suite.author import Nmref
from nmref.conformance.suite.corpus import described
from nmref.conformance.suite.pipe import Order, lines, results
from nmref.container import verify
from nmref.numerics import SplitMix64
from tests.conformance.vectors import ROOT

VECTORS = str(ROOT / "vectors")


def run(*arguments: object) -> int:
    return main(list(map(str, arguments)))


def answers(order: Order) -> list[str]:
    return [str(order), *(f"{i} {bits:08x}" for i, bits in enumerate(results(order)))]


def test_list_shows_cases_by_part_and_flag(capsys):
    flag = "lex-order"
    assert run("vectors", "list", "--vectors", VECTORS, "--part", "codes", "--flag", flag) == 0
    printed = capsys.readouterr().out
    assert "unrank/2-4/all" in printed
    assert "positions ranked in lexicographic" in printed
    assert run("vectors", "list", "--vectors", VECTORS, "--json", "--flag", "digest-order") == 0
    found = json.loads(capsys.readouterr().out)
    assert {"read/canonical", "read/both-orders"} <= {case["id"] for case in found}
    assert all(case["part"] == "files-valid" for case in found)


def test_list_shows_cases_of_a_clause(capsys):
    assert run("vectors", "list", "--vectors", VECTORS, "--clause", "4.3") == 0
    assert "read/reject/meta/outlier-dtype-i8" in capsys.readouterr().out
    assert run("vectors", "list", "--vectors", VECTORS, "--json", "--clause", "5.21") == 0
    found = json.loads(capsys.readouterr().out)
    assert found
    assert all("5.21" in case["clauses"] for case in found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("list", "--vectors", VECTORS, "--part", "x"), "T_ARGUMENT part: x, want one of codes,"),
        (("list", "--vectors", VECTORS, "--flag", "x"), "T_ARGUMENT flag: x, want a flag of"),
        (
            ("list", "--vectors", VECTORS, "--clause", "1.1"),
            "T_ARGUMENT clause: 1.1, want a clause",
        ),
        (("list", "--vectors", "nowhere"), "T_FILE nowhere: no such folder"),
        (("dot", "--profile", "f16"), "T_ARGUMENT profile: f16, want"),
        (("dot", "--profile", "i32", "--dtype", "F32"), "T_ARGUMENT dtype: F32, want I8 for i32"),
        (("dot", "--profile", "exact", "--seed", "-1"), "T_ARGUMENT seed: -1, want"),
        (("check", "nowhere.txt"), "T_FILE nowhere.txt: No such file"),
    ],
)
def test_bad_arguments_are_one_line(arguments, message, capsys):
    assert run("vectors", *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1


def test_build_gives_the_same_bytes_each_time(tmp_path, capsys):
    for name in ("a", "b"):
        assert run("vectors", "build", tmp_path / name, "--seed", 4, "--count", 5) == 0
    first, second = (line for line in capsys.readouterr().out.splitlines() if "digest" in line)
    assert first == second
    manifest = (tmp_path / "a" / "MANIFEST.json").read_bytes()
    assert first == f"digest {hashlib.sha256(manifest).hexdigest()}"
    assert run("vectors", "list", "--vectors", tmp_path / "a" / "vectors") == 0
    assert run("vectors", "build", tmp_path / "a") == 1
    assert "T_FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("profile", "dtype"),
    [
        ("f32.fma", "F32"),
        ("exact", "BF16"),
        ("f32.lanes8.mul", "F16"),
        ("tc.L8.F24.rz.rz.col", "F32"),
        ("tc.L4.F25.rd.rne.slot", "BF16"),
        ("i32", "I8"),
    ],
)
def test_results_of_the_pipe_are_those_of_the_naive_witness(profile, dtype):
    order = Order.make(profile, 3, 60, 0, dtype)
    text = list(lines(order))
    assert text[0] == f"# nmref dot profile={order.profile} seed=3 n=60 k=0 dtype={dtype}"
    for line, got in zip(text[1:], results(order), strict=True):
        _, k, *words = line.split()
        bits = [int(word, 16) for word in words]
        assert len(bits) == 2 * int(k)
        w, x = bits[: int(k)], bits[int(k) :]
        if dtype == "I8":
            pairs = zip(w, x, strict=True)
            products = [(a - 256 * (a > 127)) * (b - 256 * (b > 127)) for a, b in pairs]
            assert got == sum(products) % 2**32
        else:
            assert [got] == naive.linear(profile, ("dense", dtype, [w]), dtype, x)


def test_operands_follow_from_the_generator_of_the_specification():
    order = Order.make("f32.seq", 7, 3, 5, "F32")
    first = SplitMix64(7).next()
    inner = SplitMix64(first)
    inner.next()
    word = inner.next()
    line = next(line for line in lines(order) if line.startswith("0 "))
    assert int(line.split()[2], 16) >> 31 == word >> 63 or line.split()[2] == "00000000"
    assert [line.split()[1] for line in lines(order)][1:] == ["5"] * 3


def test_dot_and_check_agree(tmp_path, capsys):
    assert run("vectors", "dot", "--profile", "f32.seq", "--seed", 9, "-n", 50, "-k", 8) == 0
    head = capsys.readouterr().out.splitlines()[0]
    order = Order.parse(head)
    assert (order.seed, order.n, order.k) == (9, 50, 8)
    path = tmp_path / "answers.txt"
    text = answers(order)
    path.write_text("\n".join([text[0], *text[:0:-1], ""]), "ascii")  # in the other order
    assert run("vectors", "check", path) == 0
    assert capsys.readouterr().out == "50 dots by f32.seq+merged are right\n"


@pytest.mark.parametrize(
    ("at", "line", "message"),
    [
        (3, "2 12345678", r"T_FILE dot 2: 12345678, want [0-9a-f]{8} by f64.seq\+merged"),
        (3, "", "T_FILE dot 2: no result, want [0-9a-f]{8}"),
        (3, "1 12345678", "T_FILE line 4: '1 12345678', want NUMBER RESULT, .* below 5 once"),
        (3, "5 12345678", "T_FILE line 4: '5 12345678', want .*"),
        (0, "# nothing", "T_FILE line 1: '# nothing', want the comment line of nmref vectors dot"),
    ],
)
def test_check_names_the_first_difference(at, line, message, tmp_path, capsys):
    text = answers(Order.make("f64.seq", 1, 5, 3, "F32"))
    text[at] = line
    path = tmp_path / "answers.txt"
    path.write_text("\n".join(text), "ascii")
    assert run("vectors", "check", path) == 1
    assert re.fullmatch(message, capsys.readouterr().err.strip())


def test_check_takes_any_nan_and_zero(tmp_path, capsys):
    order = Order.make("f32.seq", 2, 3000, 0, "F32")
    text = answers(order)
    assert any(line.endswith(" 7fc00000") for line in text)
    assert any(line.endswith(" 00000000") for line in text)
    changed = [line.replace(" 7fc00000", " ffc00001").replace(" 00000000", " 80000000")
               for line in text]  # fmt: skip
    path = tmp_path / "answers.txt"
    path.write_text("\n".join(changed), "ascii")
    assert run("vectors", "check", path) == 0


def test_a_corpus_is_valid_and_the_same_each_time(tmp_path, capsys):
    for name in ("a", "b"):
        assert run("corpus", tmp_path / name, "--seed", 6, "-n", 40) == 0
    first, second = (line for line in capsys.readouterr().out.splitlines() if "digest" in line)
    assert first == second
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text("utf-8"))
    assert len(manifest["files"]) == 40
    warned, canonical = 0, 0
    author = Nmref()
    for name, said in manifest["files"].items():
        path = Path(tmp_path, "a", name)
        warned += len(verify(path)[0].warnings)
        assert said == described(path.read_bytes(), author)
        found = naive.read(path.read_bytes())
        again = naive.write(found.weights, found.others, spec=found.metadata["spec"])
        canonical += again == path.read_bytes()
        for weight, (spec, parts) in found.weights.items():
            assert said["tensors"][weight]["dtype"] == naive.decode(spec, parts)[0]
    assert warned > 20
    assert canonical == 0


def test_a_corpus_needs_a_new_folder(tmp_path, capsys):
    (tmp_path / "x").write_text("", "ascii")
    assert run("corpus", tmp_path, "-n", 1) == 1
    assert capsys.readouterr().err.startswith(f"T_FILE {tmp_path}")
