"""F43 for what gives sessions new links: cancelled at every await, it leaves no link behind."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import anyio

from flare_async.errors import HandshakeFailed
from flare_async.limits import Limits
from flare_async.net.clock import LoopClock
from flare_async.net.endpoint import Endpoint
from flare_async.net.reception import Reception
from flare_async.net.redial import Redial
from flare_async.net.rng import SeededRandom
from flare_async.net.session import Session
from flare_async.net.watchdog import Watchdog
from flare_async.testing import SimListener, SimNetwork, cancel_everywhere
from flare_async.wire.session import OpenOptions, Side
from flare_async.wire.windows import CreditBudget

ADDRESS = "sim://far"
LIMITS = Limits(stall_timeout=5.0, retry_cap=1.0, session_grace=40.0, shutdown_timeout=0.5)


@dataclass
class Kept:
    """Stands for a task group whose task the test runs itself, to cancel it where it waits."""

    started: list = field(default_factory=list)

    def start_soon(self, call, *arguments, name=None):
        """Keep what is to run."""
        self.started.append((call, arguments, name))


@dataclass
class Near:
    """The lifeline of a session whose links the test makes itself."""

    detached_times: int = 0

    def detached(self, session):
        """Count it."""
        self.detached_times += 1

    def ended(self, session):
        """Do nothing."""


@dataclass
class World:
    """A connecting side and its reception, on a network of their own."""

    network: SimNetwork
    listener: SimListener
    reception: Reception
    near: Session
    far: Session
    kept: Kept

    async def accept_one(self):
        """Receive the next link; one that was given up meanwhile is nobody's trouble."""
        with suppress(HandshakeFailed):
            await self.reception.receive(await anext(self.listener))

    async def lose(self):
        """Cut the link and wait until both sides have noticed."""
        self.network.links[-1].cut()
        while self.near.attached or self.far.attached:
            await anyio.sleep(0.01)

    async def dial(self):
        """Give the near side another link, as its lifeline does."""
        link = await self.network.connect(ADDRESS)
        try:
            await self.near.resume(link, self.near.epoch + 1)
        except BaseException:
            link.abort()
            raise

    def resumed(self):
        """Return whether both sides have compared notes over the same link."""
        both = self.near.attached and self.far.attached
        return both and not self.near.machine.resuming and not self.far.machine.resuming

    async def talk(self):
        """Send a message on a channel that has outlived the links; nothing else lives."""
        assert self.resumed()
        (link,) = self.network.links
        assert (self.near.link, self.far.link) == (link, link.peer)
        mine = self.near.open("word", b"word", OpenOptions(end=True))
        theirs = await anext(self.far)
        theirs.end(b"done")
        assert [chunk async for chunk in mine] == []
        assert (theirs.header, mine.trailer) == (b"word", b"done")


def make_endpoint(name, tasks, watchdog):
    """Return what the sessions of one role share."""
    return Endpoint(
        name=name,
        role="test",
        clock=LoopClock(),
        random=SeededRandom(len(name)),
        watchdog=watchdog,
        limits=LIMITS,
        tasks=tasks,
        budget=CreditBudget(LIMITS.process_bytes),
    )


def lifeline_of(network, kept, watchdog, *, redials):
    """Return who gives the near session its links: the product, or the test."""
    if not redials:
        return Near()
    return Redial(lambda: network.connect(ADDRESS), make_endpoint("near", kept, watchdog))


@asynccontextmanager
async def a_world(*, redials=False):
    """Yield a session that has lost its first link."""
    network, kept = SimNetwork(LoopClock(), SeededRandom(3), limits=LIMITS), Kept()
    listener = await network.listen(ADDRESS)
    with Watchdog(LoopClock()) as watchdog:
        async with anyio.create_task_group() as tasks:
            near_end, far_end = (make_endpoint(name, tasks, watchdog) for name in ("near", "far"))
            reception = Reception(far_end)
            link = await network.connect(ADDRESS)
            lifeline = lifeline_of(network, kept, watchdog, redials=redials)
            near = Session(link, Side.CONNECTOR, near_end, lifeline=lifeline)
            tasks.start_soon(near.__aenter__)
            far = await reception.receive(await anext(listener))
            async with far:
                made = World(network, listener, reception, near, far, kept)
                while near.hello is None or far.attached is False:
                    await anyio.sleep(0.01)
                await anyio.sleep(0.1)
                await made.lose()
                yield made
                await near.__aexit__(None, None, None)
            await listener.aclose()
            tasks.cancel_scope.cancel()
    assert network.links == []


async def accepting(made, what):
    """Do something while the far side receives links."""
    async with anyio.create_task_group() as tasks:

        async def accept():
            while True:
                await made.accept_one()

        tasks.start_soon(accept)
        await what()
        while not made.resumed():  # the near side may be done before the far side is
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()


async def dial_and_talk(made):
    """Whatever was left: the next link works, and it is the only one."""
    if not made.resumed():
        assert not made.near.attached
        await accepting(made, made.dial)
    await made.talk()


def test_f43_resuming_a_session():
    """A session whose ``resume`` was cancelled has no link, as before, and takes the next one."""

    async def resume(made):
        await accepting(made, made.dial)

    async def check(made):
        assert made.near.ended is made.far.ended is False
        await dial_and_talk(made)

    assert cancel_everywhere(resume, given=a_world, check=check).cancelled > 4


def test_f43_receiving_a_link_for_an_old_session():
    """A reception that was cancelled keeps the session and closes the link."""

    async def receive(made):
        async with anyio.create_task_group() as tasks:

            async def dial():
                with suppress(HandshakeFailed):
                    await made.dial()

            tasks.start_soon(dial)
            link = await anext(made.listener)
            assert await made.reception.receive(link) is None

    assert cancel_everywhere(receive, given=a_world, check=dial_and_talk).cancelled > 2


def test_f43_receiving_a_link_for_a_new_session():
    """No silent link is counted any more, and none is open; old sessions notice nothing."""

    async def receive(made):
        here = await made.network.connect(ADDRESS)
        there = await anext(made.listener)
        try:
            here.send_soon([Endpoint.hello(made.near.endpoint, 2**20, b"n" * 16)])
            session = await made.reception.receive(there)
            assert session.id == b"n" * 16
            session.end(None)
        finally:
            here.abort()
            there.abort()

    async def check(made):
        assert made.reception._silent == {}
        assert list(made.reception._sessions) == [made.near.id]
        await dial_and_talk(made)

    assert cancel_everywhere(receive, given=a_world, check=check).cancelled > 1


def test_f43_dialling_again():
    """A redial that was cancelled anywhere leaves no link; the session takes another one."""

    async def redial(made):
        ((call, arguments, name),) = made.kept.started
        assert name == "redial to far"
        await accepting(made, lambda: call(*arguments))

    found = cancel_everywhere(redial, given=lambda: a_world(redials=True), check=dial_and_talk)
    assert found.cancelled > 5
