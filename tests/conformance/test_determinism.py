"""The golden digests: current, those of the naive witness, the same in a few environments.

All environments are a command: see tests.determinism.
"""

import copy
import hashlib
import json
import struct

import pytest
from jsonschema import Draft202012Validator, ValidationError

from conformance import naive
from nmref.conformance import tiny
from nmref.conformance.schema import golden_traces_schema
from nmref.conformance.traces import DEFAULT, EVERY_PROFILE, PROFILES, cases, measure
from nmref.numerics.profile import Profile
from tests import determinism

FILE = json.loads(determinism.DIGESTS.read_bytes())


def test_the_file_keeps_to_its_schema():
    Draft202012Validator.check_schema(golden_traces_schema())
    validator = Draft202012Validator(golden_traces_schema())
    validator.validate(FILE)
    for broken in (FILE | {"extra": 1}, FILE | {"tokens": []}, FILE | {"variants": {}}):
        with pytest.raises(ValidationError):
            validator.validate(broken)
    for name in FILE:
        broken = copy.deepcopy(FILE)
        del broken[name]
        with pytest.raises(ValidationError):
            validator.validate(broken)


def test_the_file_has_every_case():
    assert list(FILE["variants"]) == sorted(tiny.VARIANTS)
    assert FILE["tokens"] == tiny.build().prompt
    found = {(v, p) for v, entry in FILE["variants"].items() for p in entry["profiles"]}
    assert found == set(cases())
    for entry in FILE["variants"].values():
        assert len(entry["taps"]) == 54


def test_profiles_are_full_names_of_every_kind():
    parsed = [Profile.parse(name) for name in PROFILES]
    assert [str(profile) for profile in parsed] == list(PROFILES)
    assert {p.kind for p in parsed} == {"exact", "f64.seq", "f32.seq", "f32.fma", "f32.lanes", "tc"}
    lanes = {(p.size, p.fused) for p in parsed if p.kind == "f32.lanes"}
    assert lanes == {(n, fused) for n in (2, 4, 8, 16, 32, 64) for fused in (False, True)}
    groups = [p for p in parsed if p.kind == "tc"]
    assert {p.size for p in groups} == {4, 8, 16, 32}
    assert {p.inner for p in groups} == {"rz", "rd", "rne"}
    assert {(p.outer, p.slots) for p in groups} == {
        (outer, slots) for outer in ("rz", "rne") for slots in (False, True)
    }


def test_profiles_differ_where_they_have_to():
    """Only f64.seq and exact agree on random data (SPEC 8.16)."""
    for variant in EVERY_PROFILE:
        digests = dict(FILE["variants"][variant]["profiles"])
        for order in ("merged", "split"):
            assert digests.pop(f"exact+{order}") == digests[f"f64.seq+{order}"]
        if variant == EVERY_PROFILE[1]:  # no outliers: split has nothing to add
            for name in [name for name in digests if name.endswith("+split")]:
                merged = digests.get(name.replace("split", "merged"))
                if merged is not None:
                    assert digests.pop(name) == merged
            # a dense matrix has its slots at its columns
            assert (
                digests.pop("tc.L8.F24.rz.rz.slot+split") == digests["tc.L8.F24.rz.rz.col+merged"]
            )
        assert len(set(digests.values())) == len(digests)


def test_variants_differ():
    digests = [entry["profiles"][DEFAULT] for entry in FILE["variants"].values()]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("variant", tiny.VARIANTS)
def test_digests_of_every_variant(variant):
    for profile in FILE["variants"][variant]["profiles"]:
        digest, taps = measure(variant, profile, threads=2)
        assert digest == FILE["variants"][variant]["profiles"][profile], profile
        if profile == DEFAULT:
            assert taps == FILE["variants"][variant]["taps"]


@pytest.mark.parametrize(
    ("variant", "profile"),
    [
        *((variant, DEFAULT) for variant in tiny.VARIANTS),
        (EVERY_PROFILE[0], "tc.L8.F24.rz.rz.slot+split"),
        (EVERY_PROFILE[1], "f32.lanes4.mul+merged"),
    ],
)
def test_the_naive_witness_finds_the_same(variant, profile):
    """The digests are made by compiled loops; this is the other program, and tap by tap."""
    found = naive.forward(*naive.tiny(variant), profile)
    want = FILE["variants"][variant]
    if profile == DEFAULT:
        for name, (_, bits) in found.items():
            data = struct.pack(f"<{len(bits)}I", *bits)
            assert hashlib.sha256(data).hexdigest() == want["taps"][name], name
    assert naive.trace_digest(found) == want["profiles"][profile]


def test_environments():
    """Another CPU for the compiler, NumPy's baseline and another BLAS at once; no compiler."""
    chosen = {e.name: e for e in determinism.environments("small")}
    first, second = chosen["all of these"], chosen["no compiler"]
    small = determinism.Environment(second.name, second.variables, "small")
    results = determinism.run([first, small], at_once=2)
    assert [different for _, different in results] == [[], []]
    assert [len(outcome.report["digests"]) for outcome, _ in results] == [2, 2]
    codes = [outcome.report["code"] for outcome, _ in results]
    assert codes[0] != codes[1] == "none"


def test_a_difference_is_seen(monkeypatch, tmp_path, capsys):
    wrong = copy.deepcopy(FILE)
    variant = EVERY_PROFILE[0]
    wrong["variants"][variant]["profiles"][DEFAULT] = "0" * 64
    wrong["variants"][variant]["taps"]["layers.1.k_rope"] = "0" * 64
    (tmp_path / "wrong.json").write_text(json.dumps(wrong))
    monkeypatch.setattr(determinism, "DIGESTS", tmp_path / "wrong.json")
    digest, taps = FILE["variants"][variant]["profiles"][DEFAULT], FILE["variants"][variant]["taps"]
    name = f"{variant} {DEFAULT}"
    report = {"digests": {name: digest}, "taps": {variant: taps}}
    outcome = determinism.Outcome(determinism.Environment("here"), 1.0, report)
    found = determinism.differences(outcome, determinism.golden())
    assert found == [f"{name}: layers.1.k_rope"]
    assert "1 DIFFERENT" in determinism.line_of(outcome, found)


def test_a_child_that_fails_is_a_difference():
    broken = determinism.Environment("broken", {"NUMBA_CPU_NAME": None}, cases="none such")
    outcome = determinism.start(broken, [])
    assert "none such" in outcome.error
    assert determinism.differences(outcome, determinism.golden()) == [outcome.error]
    assert "FAILED" in determinism.line_of(outcome, [outcome.error])
