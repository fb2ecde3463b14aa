"""A short run of tests.fuzz; the long one is a command (see there)."""

from tests import fuzz


def test_mutated_files_end_in_a_code_or_the_right_matrices():
    counts, compared, _, _ = fuzz.run(3000, seed=7)
    assert counts.total() == 3000
    assert compared >= 100
    assert len(counts) >= 12  # the mutations reach most of the checks
