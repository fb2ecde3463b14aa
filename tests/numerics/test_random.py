"""SplitMix64 (SPEC 8.26, 8.27)."""

import numpy as np
import pytest

from tests.numerics.witness import NumericWitness, naive_and_nmref

SEEDS = [0, 1, 2, 1234567, 2**63, 2**64 - 1, 0x61C8864680B583EB]


@naive_and_nmref
@pytest.mark.parametrize(
    ("seed", "numbers"),
    [
        (0, [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]),
        (
            1234567,
            [
                6457827717110365317,
                3203168211198807973,
                9817491932198370423,
                4593380528125082431,
                16408922859458223821,
            ],
        ),
    ],
)
def test_next_gives_the_published_numbers(witness: NumericWitness, seed: int, numbers: list[int]):
    generator = witness.random(seed)
    assert [generator.next() for _ in numbers] == numbers


@naive_and_nmref
@pytest.mark.parametrize("seed", SEEDS)
def test_next_mixes_a_state_that_steps_by_one_constant(witness: NumericWitness, seed: int):
    generator, state, low = witness.random(seed), seed, 2**64 - 1
    for _ in range(100):
        state = state + 0x9E3779B97F4A7C15 & low
        z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & low
        z = (z ^ z >> 27) * 0x94D049BB133111EB & low
        found = generator.next()
        assert type(found) is int
        assert found == z ^ z >> 31


@naive_and_nmref
@pytest.mark.parametrize("seed", SEEDS)
def test_numbers_come_from_one_next_each(witness: NumericWitness, seed: int):
    """Each kind takes one next, from its high bits."""
    source, generator = witness.random(seed), witness.random(seed)
    for n in (1, 2, 97, 2**32 + 1, 2**63 + 3, 2**64 - 1):
        number = source.next()
        assert generator.uniform() == (number >> 11) / 2**53
        number = source.next()
        centred = np.uint32(generator.centred()).view(np.float32)
        assert float(centred) == ((number >> 40) - 2**23) / 2**23
        number = source.next()
        assert generator.below(n) == number * n // 2**64
    assert generator.next() == source.next()


@naive_and_nmref
def test_numbers_stay_in_their_ranges(witness: NumericWitness):
    generator = witness.random(9)
    for _ in range(500):
        assert 0 <= generator.uniform() < 1
        assert -1 <= float(np.uint32(generator.centred()).view(np.float32)) < 1
        assert 0 <= generator.below(3) < 3
