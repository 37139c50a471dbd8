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


def test_more_half_open_links_than_allowed_are_refused(sim):
    """One that is done makes room; those that are left are aborted at the end."""

    async def main():
        handshakes = Handshakes(5.0, most=2)
        first, second, third = shakers = [Shaker() for _ in range(3)]
        assert [handshakes.admit(link) for link in shakers] == [True, True, False]
        handshakes.done(first)
        handshakes.done(first)
        assert handshakes.admit(third)
        handshakes.close()
        assert (len(handshakes), first.told, second.told) == (0, [], ["abort"])

    sim(main)


def test_b02_a_slow_handshake_ends_at_its_deadline(sim):
    """Whoever is not done in time is told so, once, whatever it has sent meanwhile."""

    async def main():
        handshakes = Handshakes(5.0)
        slow, quick = Shaker(), Shaker()
        for link in (slow, quick):
            handshakes.admit(link)
        await asyncio.sleep(4.9)
        handshakes.done(quick)
        assert slow.told == []
        await asyncio.sleep(10)
        assert (slow.told, quick.told) == (["too late"], [])

    sim(main)
