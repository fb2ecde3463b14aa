"""The kit accepts three implementations, says what is wrong, and says it the same way twice."""

import subprocess
import sys
import unittest
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from conformance import naive
from nmref.errors import Code
from nmref.testing import (
    LAWS,
    REFERENCE,
    Dense,
    Implementation,
    Input,
    Parts,
    Refused,
    Spec,
    check,
    laws,
    strategies,
)
from nmref.testing.contents import CONTAINER_SIZES, Weight, content, part_sizes
from nmref.testing.faults import Faulty
from nmref.testing.file_variants import VARIANTS, File
from nmref.testing.header_faults import HEADER_FAULTS
from nmref.testing.input_faults import INPUT_FAULTS
from nmref.testing.meta_faults import META_FAULTS
from nmref.testing.part_faults import PART_FAULTS, Encoded
from nmref.testing.plain import Bool, code_of
from nmref.testing.recipes import Recipe, build
from tests.testing.witnesses import NAIVE, PLAIN

SPEC = Path(__file__).parents[2] / "SPEC.md"
EXAMPLES = 20
WITNESSES = {"nmref": REFERENCE, "naive": NAIVE, "plain": replace(PLAIN, ordered=False)}

fixed = settings(
    max_examples=100,
    deadline=None,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("name", WITNESSES)
def test_every_law_holds_for(name: str) -> None:
    report = check(WITNESSES[name], examples=EXAMPLES)
    assert report.ok, str(report)
    assert len(report.named("passed")) == len(LAWS)


@pytest.mark.parametrize(
    ("name", "law"), [item for item in laws(REFERENCE, examples=5) if "refuses" not in item[0]]
)
def test_laws_as_tests(name: str, law: Callable[[], None]) -> None:
    law()


def test_laws_are_named_once_and_cite_a_clause() -> None:
    names = [law.name for law in LAWS]
    assert len(names) == len(set(names))
    text = SPEC.read_text(encoding="utf-8")
    for law in LAWS:
        assert f"### {law.clause} " in text, law.name


def test_every_code_of_the_registry_has_a_fault() -> None:
    kinds = [*INPUT_FAULTS, *PART_FAULTS, *HEADER_FAULTS, *META_FAULTS]
    codes = {kind.codes[0] for kind in kinds}
    assert codes == {str(code) for code in Code if code[:2] in ("E_", "X_")}


def test_callables_that_are_missing_are_skipped() -> None:
    report = check(Implementation(unrank=REFERENCE.unrank), examples=5)
    assert [result.law for result in report.named("passed")] == ["unrank inverts rank"]
    assert "no encode and no decode" in {result.message for result in report.named("skipped")}
    assert "skipped: no rank" in str(report)


def test_a_missing_callable_skips_its_test() -> None:
    _, law = next(iter(laws(Implementation())))
    with pytest.raises(unittest.SkipTest, match="no rank"):
        law()


def test_decode_need_not_check() -> None:
    implementation = Implementation(decode=REFERENCE.decode, decode_checks=False)
    skipped = {r.law for r in check(implementation, 2, only="decode refuses").named("skipped")}
    assert len(skipped) == len(PART_FAULTS)


def test_laws_keep_to_what_is_handled() -> None:
    def decode(spec: Spec, parts: Parts) -> Dense:
        assert (spec["pattern"], spec["dtype"], spec["outliers"]) == ("2:4", "BF16", None)
        return REFERENCE.decode(spec, parts)

    mine = Implementation(decode=decode, patterns=("2:4",), dtypes=("BF16",), out_patterns=())
    report = check(mine, 20, only="decode")
    assert report.ok, str(report)
    passed = {result.law for result in report.named("passed")}
    assert {"decode", "decode refuses: code C(M, N)", "decode refuses: -0 past column K"} <= passed
    assert "no case is handled" in {result.message for result in report.named("skipped")}


def test_an_implementation_that_changes_its_mind_fails() -> None:
    calls = count()

    def rank(positions: list[int], n: int, m: int) -> int:
        return next(calls)

    assert not check(Implementation(rank=rank), 10, only="rank counts").ok


def test_the_same_seed_gives_the_same_report() -> None:
    broken = Implementation(rank=lambda positions, n, m: sum(positions))
    assert str(check(broken, 20, seed=3)) == str(check(broken, 20, seed=3))


def test_a_crash_is_a_failure_and_names_the_exception() -> None:
    def crash(spec: object, parts: object) -> Dense:
        raise IndexError("list index out of range")

    report = check(Implementation(decode=crash), 3, only="decode refuses: scale 0")
    assert "IndexError: list index out of range" in str(report)
    assert "want refused with E_SCALE" in str(report)


def test_codes_come_from_an_attribute_a_text_or_a_function() -> None:
    assert code_of(naive.Fault("E_PAD", "w")) == "E_PAD"
    assert code_of(ValueError("X_SHAPE base: ...")) == "X_SHAPE"
    assert code_of(ValueError("bad")) is None
    assert Refused("E_PAD").code == "E_PAD"

    def read(data: bytes) -> dict[str, Dense]:
        raise OSError(17)

    mine = Implementation(read_file=read, code_of=lambda error: "E_HEADER")
    assert check(mine, 2, only="read_file refuses: empty file").ok


def test_ordered_asks_for_the_first_code() -> None:
    def refuse(data: bytes) -> dict[str, Dense]:
        raise Refused("E_META")

    mine = Implementation(read_file=refuse)
    name = "read_file refuses: spec 2.0 and a new member"
    assert check(mine, 2, only=name).ok
    assert "want refused with E_VERSION" in str(check(replace(mine, ordered=True), 2, only=name))


@seed(1)
@fixed
@given(strategies.recipes())
def test_canonical_contents_are_those_of_encode(recipe: Recipe) -> None:
    out = replace(recipe.out, masked=False) if recipe.out else None
    inputs = build(replace(recipe, masked=False, out=out))
    assert content(inputs).parts() == PLAIN.encode(inputs)


@seed(2)
@fixed
@given(strategies.weights())
def test_weights_are_valid_and_sized(encoded: Weight) -> None:
    assert {s: len(data) for s, data in encoded.parts.items()} == part_sizes(encoded.spec)
    dtype, rows = naive.decode(
        encoded.spec,
        {
            suffix: (kind, shape, encoded.parts[suffix])
            for suffix, kind, shape in naive.decoder.expected_parts(encoded.spec)
        },
    )
    assert (dtype, rows) == (encoded.dense.dtype, encoded.dense.bits.tolist())


@seed(3)
@fixed
@given(strategies.files())
def test_files_are_valid(file: File) -> None:
    naive.read(file.data)


@seed(4)
@fixed
@given(strategies.faulty_files())
def test_faulty_files_have_their_first_code(faulty: Faulty[bytes]) -> None:
    with pytest.raises(naive.Fault) as caught:
        naive.read(faulty.subject)
    assert caught.value.code == faulty.codes[0]


@seed(5)
@fixed
@given(strategies.masks("4:8"), strategies.dense(pattern="4:8"))
def test_masks_and_dense_fit_the_pattern(mask: Bool, dense: Dense) -> None:
    for matrix in (mask, dense.bits != 0):
        for start in range(0, matrix.shape[1], 8):
            assert (matrix[:, start : start + 8].sum(axis=1) <= 4).all()


@seed(6)
@fixed
@given(strategies.faulty_inputs(), strategies.faulty_weights())
def test_faults_print_what_they_are(faulty: Faulty[Input], encoded: Faulty[Encoded]) -> None:
    assert str(faulty).startswith(faulty.fault)
    assert str(encoded).startswith(encoded.fault)


def test_variants_cover_every_container_dtype() -> None:
    variant = next(v for v in VARIANTS if v.name == "every container dtype")
    file = variant.on(Recipe())
    assert {dense.dtype for dense in file.want.values()} == set(CONTAINER_SIZES)


def test_without_hypothesis_the_message_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "try:\n    import nmref.testing\n"
        "except ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "nmref.testing needs Hypothesis: install nmref[testing]\n"
