"""Both ends of one session that may lose its links, over any network, with counters."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from flare_async.errors import FlareError
from flare_async.net.clock import LoopClock
from flare_async.net.endpoint import Endpoint
from flare_async.net.groups import single_error
from flare_async.net.reception import Reception
from flare_async.net.redial import Redial
from flare_async.net.session import Session
from flare_async.net.watchdog import Watchdog
from flare_async.wire.session import Side
from flare_async.wire.windows import CreditBudget
from tests.faults.real_world import Eager

__all__ = ["Accepted", "Dialling", "acceptor", "dialled", "endpoint", "receive_all"]


def endpoint(name, tasks, watchdog, limits):
    """Return what the sessions of one role share."""
    return Endpoint(
        name=name,
        role="test",
        clock=LoopClock(),
        random=Eager(name),  # two peers of one name would choose the same session id
        watchdog=watchdog,
        limits=limits,
        tasks=tasks,
        budget=CreditBudget(limits.process_bytes),
    )


class CountingReception(Reception):
    """Counts in ``in_flight`` what was sent and not acknowledged at each loss of a link."""

    def __init__(self, end: Endpoint) -> None:
        super().__init__(end)
        self.in_flight: list[int] = []

    def detached(self, session: Session) -> None:
        """Count."""
        numbers = [channel.statistics() for channel in session.channels.values()]
        self.in_flight.append(sum(one.sent - one.acknowledged for one in numbers))
        super().detached(session)


@dataclass
class Accepted:
    """The accepting end: where it listens, its sessions, the links that it refused."""

    address: str
    reception: CountingReception
    tasks: object
    sessions: list = field(default_factory=list)
    refused: list = field(default_factory=list)
    serve: object = None

    async def take(self, link):
        """Find the session of a link."""
        try:
            session = await self.reception.receive(link)
            if session is not None:
                if self.serve is not None:
                    self.serve(session)
                await session.__aenter__()
                self.sessions.append(session)
        except FlareError as error:
            self.refused.append(error)


@asynccontextmanager
async def acceptor(network, address, limits, serve=None):
    """Yield an end that accepts; ``serve`` is called with each new session."""
    listener = await network.listen(address)
    with Watchdog(LoopClock()) as watchdog:
        async with anyio.create_task_group() as tasks:
            reception = CountingReception(endpoint("far", tasks, watchdog, limits))
            made = Accepted(listener.address, reception, tasks, serve=serve)

            async def accept():
                async for link in listener:
                    tasks.start_soon(made.take, link)

            tasks.start_soon(accept)
            try:
                yield made
            finally:
                await listener.aclose()
                for session in made.sessions:
                    session.link.abort()
                tasks.cancel_scope.cancel()


class Dialling:
    """Dials the addresses that it is told, and counts."""

    def __init__(self, network, address):
        self.network, self.address, self.count = network, address, 0

    async def __call__(self):
        """Return a new link."""
        self.count += 1
        return await self.network.connect(self.address)


@asynccontextmanager
async def dialled(dial, limits, name="near", tries=3):
    """Yield a session that gets a new link from ``dial`` whenever it loses one.

    The first link may be lost in its handshake: then there are ``tries`` in all.
    """
    with Watchdog(LoopClock()) as watchdog, single_error():
        async with anyio.create_task_group() as tasks:
            end = endpoint(name, tasks, watchdog, limits)
            session = await entered(dial, end, tries)
            try:
                yield session
            finally:
                await session.__aexit__(None, None, None)
                tasks.cancel_scope.cancel()


async def entered(dial, end, tries):
    """Return an entered session after at most so many tries."""
    while True:
        tries -= 1
        try:
            session = Session(await dial(), Side.CONNECTOR, end, lifeline=Redial(dial, end))
            return await session.__aenter__()
        except FlareError:
            if not tries:
                raise


async def receive_all(channel):
    """Return what a channel brings until its end."""
    return b"".join([bytes(chunk) async for chunk in channel])
