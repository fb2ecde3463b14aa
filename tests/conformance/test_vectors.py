"""The vectors: whole, well formed, made by two authors, and able to catch what they hunt."""

import hashlib
import json
from itertools import combinations

import pytest
from jsonschema import Draft202012Validator

from conformance import build, faults, order
from conformance.author import Naive
from nmref.conformance.suite import every_case
from nmref.conformance.suite.author import Nmref
from nmref.conformance.suite.build import assemble, document, part_bytes, vector_bytes
from nmref.conformance.suite.cases import OPS, Case
from nmref.conformance.suite.chances import random_parts
from nmref.conformance.suite.dots import LISTED
from nmref.conformance.suite.flags import FLAGS
from nmref.conformance.suite.schema import manifest_schema, vectors_schema
from nmref.conformance.text import json_bytes
from nmref.conformance.vectors import load
from nmref.errors import Code
from nmref.testing.header_faults import HEADER_FAULTS
from nmref.testing.input_faults import INPUT_FAULTS
from nmref.testing.meta_faults import META_FAULTS
from nmref.testing.part_faults import PART_FAULTS
from tests.clauses import CLAUSES
from tests.conformance.format_mutants import FORMAT, NOT_BROKEN
from tests.conformance.forward_mutants import MORE
from tests.conformance.plain_author import PlainAuthor
from tests.conformance.vector_mutants import FLUSH, NUMERIC
from tests.conformance.vectors import ROOT, cases, documents, failure, with_flag
from tests.testing import file_mutants, mutants
from tests.testing.plain_file import Plain

MUTANTS = [*mutants.MUTANTS, *file_mutants.MUTANTS]


@pytest.fixture(scope="module")
def parts():
    return build.every_part()


def test_nmref_as_author_makes_the_same_bytes(parts):
    author = Nmref()
    files = assemble(parts, {part.name: part_bytes(part, author) for part in parts})
    for name, content in files.items():
        assert (ROOT / name).read_bytes() == content, f"{name} differs (make vectors)"


@pytest.mark.parametrize(
    "name",
    [
        part.name
        for part in (*every_case(), *faults.parts(), order.files_order())
        if part.name != "traces"
    ],
)
def test_the_repository_has_what_the_naive_author_makes(parts, name):
    part = next(part for part in parts if part.name == name)
    content = (ROOT / "vectors" / f"{name}.json").read_bytes()
    assert content == part_bytes(part, Naive()), f"{name} differs (make vectors)"


def test_the_naive_author_makes_a_trace():
    case = next(case for case in cases() if case["op"] == "trace")
    assert failure(Naive(), case) is None


def test_files_keep_to_their_schemas():
    schemas = {"vectors": vectors_schema(), "manifest": manifest_schema()}
    for name, schema in schemas.items():
        Draft202012Validator.check_schema(schema)
        on_disk = (ROOT / "schema" / f"{name}.schema.json").read_bytes()
        assert on_disk == json_bytes(schema)
    for name, found in documents().items():
        validator = Draft202012Validator(schemas["vectors"])
        some = {**found, "cases": [c for c in found["cases"] if len(str(c)) < 20_000]}
        assert next(validator.iter_errors(some), None) is None, name
    manifest = json.loads((ROOT / "MANIFEST.json").read_text("utf-8"))
    Draft202012Validator(schemas["manifest"]).validate(manifest)


def test_making_the_cases_again_makes_the_same():
    """Nothing keeps a state between two sets."""
    first, second = (every_case() for _ in range(2))
    assert [vars(part) for part in first] == [vars(part) for part in second]


def test_the_manifest_lists_every_file():
    manifest = json.loads((ROOT / "MANIFEST.json").read_text("utf-8"))
    for name, said in manifest["files"].items():
        content = (ROOT / name).read_bytes()
        assert said["bytes"] == len(content)
        assert said["bytes"] < 1_000_000
        assert said["sha256"] == hashlib.sha256(content).hexdigest()
    counts = [said["cases"] for said in manifest["files"].values()]
    assert manifest["total"]["cases"] == sum(counts) == len(cases())
    assert manifest["total"]["bytes"] < 6_000_000
    assert len(load(ROOT / "vectors").cases) == len(cases())


def test_every_line_of_a_file_is_a_case():
    for name, found in documents().items():
        assert (ROOT / "vectors" / f"{name}.json").read_bytes() == vector_bytes(
            found["part"], found["cases"]
        )


def test_every_flag_is_used_and_every_operation():
    assert {flag for case in cases() for flag in case["flags"]} == set(FLAGS)
    assert {case["op"] for case in cases()} == set(OPS)
    assert json.loads((ROOT / "flags.json").read_text("utf-8")) == FLAGS


def test_every_clause_with_must_has_a_case():
    assert set(CLAUSES) - {clause for case in cases() for clause in case["clauses"]} == set()


def test_every_code_has_a_case():
    rejected = {code for case in cases() for code in case["expect"].get("rejected", ())}
    told = {
        code
        for case in cases()
        if case["op"] == "warnings"
        for code in case["expect"]["output"]["warnings"]
    }
    assert rejected | told == {code for code in Code if not code.startswith("T_")}


def test_every_fault_of_the_kit_has_a_case():
    """But for two files of 200,000 bytes."""
    files = [*HEADER_FAULTS, *META_FAULTS]
    counts = {part.name: len(part.cases) for part in faults.parts()}
    assert counts["tensors-reject"] == 2 * len(PART_FAULTS)
    assert counts["encode-reject"] == 2 * len(INPUT_FAULTS)
    assert counts["files-reject"] == len(files) - 2 + len(PART_FAULTS) + 1


def test_cases_with_infinite_x_say_so():
    for case in cases():
        if case["level"] != "numeric" or "x" not in case["input"]:
            continue
        x = case["input"]["x"]
        if x["dtype"] != "F32":
            continue
        words = [x["hex"][i + 4 : i + 8] for i in range(0, len(x["hex"]), 8)]
        tops = [int(word[2:] + word[:2], 16) & 0x7F80 for word in words]
        assert ("nonfinite-x" in case["flags"]) == (0x7F80 in tops), case["id"]


def test_every_two_profiles_differ_somewhere():
    found: dict[str, dict[str, str]] = {}
    for case in cases():
        if case["op"] == "dot":
            given = case["input"]
            key = json.dumps([given["weight"], given["x"]], sort_keys=True)
            found.setdefault(key, {})[given["profile"]] = case["expect"]["output"]["y"]["hex"]
    for one, other in combinations(LISTED, 2):
        assert any(one in y and other in y and y[one] != y[other] for y in found.values()), (
            f"{one} and {other} are not told apart"
        )


def test_the_plain_reader_agrees():
    """A third witness of the format, and the one that is broken below."""
    author = PlainAuthor(Plain())
    for case in cases():
        if case["level"] != "numeric" and case["op"] != "read_model":
            assert failure(author, case) is None, case["id"]


@pytest.mark.parametrize("flag", FORMAT)
def test_a_flag_of_the_format_catches_its_bugs(flag):
    for name in FORMAT[flag]:
        named = [mutant for mutant in MUTANTS if mutant.name == name]
        assert named, name
        assert any(caught(PlainAuthor(mutant.make()), flag) for mutant in named), name


def caught(author, flag):
    """The first case that fails."""
    return next((case["id"] for case in with_flag(flag) if failing(author, case)), None)


def failing(author, case):
    return hasattr(author, case["op"]) and failure(author, case) is not None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.area}: {mutant.name}")
def test_every_mutant_of_the_kit_is_caught(mutant):
    author = PlainAuthor(mutant.make())
    assert any(failing(author, case) for case in cases() if case["level"] != "numeric")


@pytest.mark.parametrize("flag", [*NUMERIC, "subnormal-flushed"])
def test_a_flag_of_the_arithmetic_catches_its_bug(flag):
    author = NUMERIC.get(flag, FLUSH)
    numeric = [case for case in with_flag(flag) if case["level"] == "numeric"]
    first = next(case for case in numeric if failure(author, case) is not None)
    assert failure(author, first) == "another output", first["id"]
    assert failure(Naive(), first) is None


def test_every_flag_has_a_bug():
    assert set(FORMAT) | set(NUMERIC) | set(MORE) | set(NOT_BROKEN) == set(FLAGS)


def test_random_sets_are_the_same_by_both_authors():
    for part in random_parts(5, 12):
        assert part_bytes(part, Nmref()) == part_bytes(part, Naive()), part.name


def test_an_author_that_disagrees_with_a_rejection_stops_the_build():
    part = next(part for part in faults.parts() if part.name == "tensors-reject")
    wrong = Case(**{**vars(part.cases[0]), "rejected": ("E_TAIL",)})
    with pytest.raises(ValueError, match=r"T_ARGUMENT decode/reject/.*: E_SCALE, want E_TAIL"):
        document(wrong, Nmref())


def test_check_says_what_is_wrong(tmp_path, monkeypatch, capsys):
    made = {"vectors/codes.json": b"x", "flags.json": b"y"}
    monkeypatch.setattr(build, "build", lambda jobs: made)
    assert build.main(["--root", str(tmp_path), "--check"]) == 1
    want = "want as made (make vectors)"
    missing = [f"T_FILE {name}: missing, {want}" for name in sorted(made)]
    assert capsys.readouterr().err.splitlines() == missing
    assert build.main(["--root", str(tmp_path)]) == 0
    assert build.main(["--root", str(tmp_path), "--check"]) == 0
    (tmp_path / "vectors" / "more.json").write_bytes(b"")
    (tmp_path / "flags.json").write_bytes(b"z")
    capsys.readouterr()
    assert build.main(["--root", str(tmp_path), "--check"]) == 1
    assert capsys.readouterr().err == (
        f"T_FILE flags.json: differs, {want}\n"
        "T_FILE vectors/more.json: extra, want generated files only (remove it)\n"
    )
