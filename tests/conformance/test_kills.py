"""Broken clients through the runner; all of them: `python -m tests.conformance.kills --check`."""

import pytest

from nmref.conformance.suite.flags import FLAGS
from tests.conformance.kills import ROOT, TABLE, cases_of, judged, listed, load, registry, row

SAMPLE = (
    "format/lex-order/1",
    "format/padding-unchecked/1",
    "format/json-duplicates/1",
    "numeric/rope-interleaved/1",
    "numeric/rms-eps-outside/1",
    "more/attention-not-causal/1",
    "more/kv-position-wrong/1",
    "more/order-of-checks/1",
)


@pytest.fixture(scope="module")
def every():
    return load(ROOT / "conformance" / "vectors").cases


@pytest.mark.parametrize("name", SAMPLE)
def test_a_broken_client_is_killed_as_the_table_says(every, name):
    mutant = next(mutant for mutant in registry() if mutant.name == name)
    found = row(mutant, judged(mutant, every))
    assert found[-1] != "NOTHING"
    assert f"| {' | '.join(found)} |" in TABLE.read_text("utf-8").splitlines()


def test_the_table_has_every_mutant_and_each_is_killed(every):
    mutants = registry()
    assert listed() == [(mutant.name, mutant.what) for mutant in mutants]
    assert len(mutants) >= 60
    text = TABLE.read_text("utf-8")
    assert text.startswith(f"# Kills\n\n{len(mutants)} broken clients, {len(mutants)} killed by")
    assert "NOTHING" not in text
    assert len({mutant.name for mutant in mutants}) == len(mutants)
    for mutant in mutants:
        assert mutant.flag in FLAGS
        assert cases_of(mutant, every)


def test_the_table_counts_the_cases_that_there_are(every):
    counts = {mutant.name: len(cases_of(mutant, every)) for mutant in registry()}
    for line in TABLE.read_text("utf-8").splitlines():
        cells = line[2:-2].split(" | ")
        if cells[0] in counts:
            assert 0 < int(cells[5]) + int(cells[6]) <= int(cells[4]) <= counts[cells[0]]
