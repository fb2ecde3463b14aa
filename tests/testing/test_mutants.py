"""Every broken implementation is caught, and MUTANTS.md says by which laws."""

import pytest

from tests.testing import mutants
from tests.testing.witnesses import PLAIN

ALL = mutants.all_mutants()
ROWS = mutants.TABLE.read_text(encoding="utf-8").removeprefix(mutants.HEAD).splitlines()


def test_the_plain_implementation_is_caught_by_nothing() -> None:
    assert mutants.catchers(PLAIN) == []


def test_the_table_has_every_mutant_once() -> None:
    assert len(ALL) >= 40
    assert len({(mutant.area, mutant.name) for mutant in ALL}) == len(ALL)
    assert len(ROWS) == len(ALL)


@pytest.mark.parametrize(
    ("number", "mutant"), list(enumerate(ALL)), ids=[mutant.name for mutant in ALL]
)
def test_mutant_is_caught_as_the_table_says(number: int, mutant: mutants.Mutant) -> None:
    assert "NOTHING" not in ROWS[number]
    assert ROWS[number] == mutants.row(mutant)
