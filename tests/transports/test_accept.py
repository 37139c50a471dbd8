"""The accept queue: bounded, in order, and never lost on whoever waits for it."""

from __future__ import annotations

import asyncio

import pytest

from flare_async.transports.accept import AcceptQueue
from flare_async.transports.memory import memory_pair
from tests.net.peers import cancelled_at


@pytest.fixture
def queue():
    """Return a queue for two links."""
    return AcceptQueue(2)


def ends(count):
    """Return accepting ends of new links."""
    return [memory_pair()[1] for _ in range(count)]


def test_one_more_than_the_size_is_refused(queue):
    """Those that fit come out in order, and there is room again."""

    async def main():
        links = ends(3)
        offered = [queue.offer(link) for link in links]
        assert offered == [True, True, False]
        assert await anext(queue) is links[0]
        assert queue.offer(links[2])
        assert [await anext(queue) for _ in range(2)] == links[1:]

    asyncio.run(main())


def test_closing_aborts_those_who_wait(queue):
    """Iteration ends, later links are refused, and the waiting ones learn it."""

    async def main():
        (first,) = ends(1)
        queue.offer(first)
        queue.close()
        assert [link async for link in queue] == []
        assert not queue.offer(ends(1)[0])
        return first._closed

    assert asyncio.run(main())


def test_closing_wakes_the_acceptor(queue, sim):
    """Who waits for the next link is told that there is none."""

    async def main():
        asyncio.get_running_loop().call_later(1, queue.close)
        return [link async for link in queue]

    assert sim(main) == []


@pytest.mark.parametrize("late", [False, True])
def test_a_link_that_meets_a_cancel_is_kept(queue, sim, late):
    """An acceptor that is cancelled takes no link with it."""

    async def main():
        (link,) = ends(1)
        asyncio.get_running_loop().call_later(1, queue.offer, link)
        cancelled = await cancelled_at(queue.__anext__(), 0, late=late)
        return cancelled, await anext(queue) is link

    assert sim(main) == (True, True)
