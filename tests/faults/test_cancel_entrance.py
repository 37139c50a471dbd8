"""F43: a site's way into a session, and back into it, cancelled at every await."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import anyio

from flare_async.errors import ConnectFailed
from flare_async.limits import Limits
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SeededRandom
from flare_async.roles.context import open_context
from flare_async.roles.entrance import opened
from flare_async.roles.server import Server
from flare_async.testing import SimNetwork, cancel_everywhere

ADDRESS = "sim://server"
LIMITS = Limits(start_timeout=3.0, retry_cap=1.0, session_grace=40.0, shutdown_timeout=0.5)


@asynccontextmanager
async def a_context():
    """Yield a context on a simulated network."""
    clock, random = LoopClock(), SeededRandom(1)
    network = SimNetwork(clock, random, limits=LIMITS)
    async with open_context(clock, random, network, LIMITS) as context:
        yield context


@asynccontextmanager
async def a_server():
    """Yield a context in which a server listens."""
    async with a_context() as context, Server(context).listen(ADDRESS):
        yield context


async def enter_and_leave(context):
    """Enter a session and leave it."""
    async with opened(context, context.endpoint("site-1", "client"), ADDRESS) as session:
        assert session.attached


async def lose_links(context):
    """Stay in a session that loses its link twice."""
    async with opened(context, context.endpoint("site-1", "client"), ADDRESS) as session:
        for epoch in (1, 2):
            await anyio.sleep(0.1)
            context.network.links[-1].cut()
            while session.epoch < epoch or not session.attached or session.machine.resuming:
                await anyio.sleep(0.05)


async def knock(context):
    """Dial until there is no point any more."""
    async with opened(context, context.endpoint("site-1", "client"), ADDRESS):
        raise AssertionError("nobody is there")


def names_of_tasks():
    """Return the names of all tasks that live."""
    return [task.get_name() for task in asyncio.all_tasks()]


async def nothing_is_left(context):
    """No link lives and nobody dials; the next visit works, and leaves nothing either."""
    assert context.network.links == []
    assert not [name for name in names_of_tasks() if "redial" in name]
    await enter_and_leave(context)
    await anyio.sleep(1)
    assert context.network.links == []


def test_f43_entering_and_leaving_through_the_entrance():
    """Dialling, the hello, the goodbye."""
    found = cancel_everywhere(enter_and_leave, given=a_server, check=nothing_is_left)
    assert found.cancelled > 4


def test_f43_losing_links_inside_the_entrance():
    """Whoever leaves while it is dialled again, or resumes, ends that at once."""
    found = cancel_everywhere(lose_links, given=a_server, check=nothing_is_left)
    assert found.cancelled > 10


def test_f43_knocking_where_nobody_is():
    """The tries and the pauses between them end with the caller."""

    async def check(context):
        assert context.network.links == []
        async with Server(context).listen(ADDRESS):
            await nothing_is_left(context)

    found = cancel_everywhere(knock, given=a_context, check=check, raises=ConnectFailed)
    assert found.cancelled > 4
