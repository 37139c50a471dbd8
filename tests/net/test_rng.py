"""The random ports: entropy in production, a seed in simulation."""

from __future__ import annotations

import pytest

from flare_async.net.rng import SeededRandom, SystemRandom
from flare_async.ports import Random


@pytest.mark.parametrize("port", [SeededRandom(1), SystemRandom()])
def test_a_stream_is_the_same_object_at_every_call(port):
    """Streams have a state, which a second caller shares."""
    assert isinstance(port, Random)
    assert port.stream("net") is port.stream("net")
    assert port.stream("net") is not port.stream("disk")


def test_a_seed_and_a_name_give_the_same_numbers_on_every_machine():
    """The numbers are fixed, whatever the hash seed of the process."""
    assert [SeededRandom(7).stream("net").randrange(1000) for _ in range(2)] == [437, 437]
    assert SeededRandom(7).stream("net").random() != SeededRandom(8).stream("net").random()


def test_draws_of_one_stream_leave_the_others_alone():
    """One more draw in one place changes nothing elsewhere."""
    touched, fresh = SeededRandom(7), SeededRandom(7)
    touched.stream("net").random()
    touched.token(16)
    assert touched.stream("disk").random() == fresh.stream("disk").random()


def test_seeded_tokens_are_reproducible_and_differ():
    """A replay meets the same tokens in the same order."""
    first, second = SeededRandom(7), SeededRandom(7)
    tokens = [first.token(16), first.token(16)]
    assert tokens == [second.token(16), second.token(16)]
    assert len(set(tokens)) == 2


def test_system_tokens_have_their_length_and_differ():
    """Two tokens of 16 bytes are equal with a probability of 2**-128."""
    port = SystemRandom()
    first, second = port.token(16), port.token(16)
    assert (len(first), len(second)) == (16, 16)
    assert first != second


def test_a_generator_for_once_is_not_kept():
    """A run of many rounds draws once a round; two and a half kilobytes each would add up."""
    made = SeededRandom(7)
    first, second = made.once("sites of round 3"), made.once("sites of round 3")
    assert first is not second
    assert first.random() == second.random() == made.stream("sites of round 3").random()
    assert SystemRandom().once("a").random() != SystemRandom().once("a").random()
