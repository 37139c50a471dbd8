"""Handshakes: one step a turn, a bounded number, a bounded time."""

from __future__ import annotations

import asyncio

from flare_async.transports.handshakes import Handshakes, Turns


class Shaker:
    """Keeps what it is told."""

    def __init__(self):
        self.told = []

    def too_late(self):
        self.told.append("too late")

    def abort(self):
        self.told.append("abort")


def test_steps_take_turns_with_everything_else(sim):
    """Between two steps the loop has a whole turn for others, who wait for one step only."""
    order = []

    def other(left):
        order.append("other")
        if left:
            asyncio.get_running_loop().call_soon(other, left - 1)

    async def main():
        turns = Turns()
        for number in range(3):
            turns.take(lambda number=number: order.append(number))
        asyncio.get_running_loop().call_soon(other, 3)
        await asyncio.sleep(1)
        turns.take(lambda: order.append("again"))
        await asyncio.sleep(1)

    sim(main)
    assert order == [0, "other", 1, "other", 2, "other", "other", "again"]


def test_a_step_that_fails_does_not_stop_the_others():
    """The loop reports the error; the next in the queue has its turn."""
    order, unhandled = [], []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, found: unhandled.append(found))
        turns = Turns()
        turns.take(lambda: order.append(1 // 0))
        turns.take(lambda: order.append(1))
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(main())
    assert (order, len(unhandled)) == ([1], 1)


def test_with_one_too_many_the_longest_silent_goes(sim):
    """One that is done makes room as well; those that are left are aborted at the end."""

    async def main():
        handshakes = Handshakes(5.0, most=2)
        first, second, third, fourth = shakers = [Shaker() for _ in range(4)]
        assert [handshakes.admit(link) for link in shakers[:3]] == [True, True, True]
        assert [link.told for link in shakers] == [["abort"], [], [], []]
        handshakes.done(second)
        handshakes.done(second)
        assert handshakes.admit(fourth)
        handshakes.close()
        assert [link.told for link in (first, second)] == [["abort"], []]
        assert [link.told for link in (third, fourth)] == [["abort"], ["abort"]]
        assert len(handshakes) == 0

    sim(main)


def test_who_speaks_is_waited_for_anew(sim):
    """The first has been answered later than the second came, so the second goes before it."""

    async def main():
        handshakes = Handshakes(5.0, most=2)
        first, second, third = shakers = [Shaker() for _ in range(3)]
        for link in (first, second):
            handshakes.admit(link)
        handshakes.heard(first)
        handshakes.answered(first)
        assert handshakes.admit(third)
        assert [link.told for link in shakers] == [[], ["abort"], []]
        handshakes.close()

    sim(main)


def test_who_waits_for_its_turn_is_not_given_up(sim):
    """Where computing is what is short, the newest is refused; one answer makes room again."""

    async def main():
        handshakes = Handshakes(5.0, most=4)
        shakers = [Shaker() for _ in range(5)]
        for link in shakers[:4]:
            handshakes.admit(link)
        for link in shakers[:3]:
            handshakes.heard(link)
        assert not handshakes.admit(shakers[4])
        handshakes.answered(shakers[0])
        assert handshakes.admit(shakers[4])
        assert [link.told for link in shakers] == [[], [], [], ["abort"], []]
        handshakes.done(shakers[1])
        handshakes.answered(shakers[1])
        handshakes.close()
        assert shakers[1].told == []

    sim(main)


def test_b02_a_slow_handshake_ends_at_its_deadline(sim):
    """Whoever is not done in time is told so, once, whatever it has sent meanwhile."""

    async def main():
        handshakes = Handshakes(5.0, most=2)
        slow, quick = Shaker(), Shaker()
        for link in (slow, quick):
            handshakes.admit(link)
        await asyncio.sleep(4.9)
        handshakes.done(quick)
        assert slow.told == []
        await asyncio.sleep(10)
        assert (slow.told, quick.told) == (["too late"], [])

    sim(main)
