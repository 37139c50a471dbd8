"""Two ends of one connection in one program: links, and the sessions over them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

import anyio

from flare_async.limits import Limits
from flare_async.net.channel import Channel
from flare_async.net.clock import LoopClock
from flare_async.net.endpoint import Endpoint
from flare_async.net.groups import single_error
from flare_async.net.link import Link, Listener
from flare_async.net.rng import SeededRandom
from flare_async.net.session import Session
from flare_async.net.watchdog import Watchdog
from flare_async.ports import Network
from flare_async.testing.tap import TappedLink
from flare_async.wire.session import OpenOptions, Side
from flare_async.wire.windows import CreditBudget

__all__ = ["ECHO_TOPIC", "LinkPair", "Pair", "PairMaker", "connected", "link_pair"]

ECHO_TOPIC = "echo"

LinkPair: TypeAlias = tuple[Link, Link]
PairMaker: TypeAlias = Callable[[], AbstractAsyncContextManager[LinkPair]]


@asynccontextmanager
async def link_pair(network: Network[Link, Listener], address: str) -> AsyncIterator[LinkPair]:
    """Connect to ``address`` from the same program: yields (connecting end, accepting end).

    Neither end is started. Both are aborted at the end, and the listener is closed.

    Raises:
        ConnectFailed: the network cannot listen there or not connect.
    """
    listener = await network.listen(address)
    try:
        here = await network.connect(listener.address)
        there = await anext(listener)
        try:
            yield here, there
        finally:
            here.abort()
            there.abort()
    finally:
        await listener.aclose()


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sessions that face each other: ``here`` has connected, ``there`` has accepted.

    ``near`` and ``far`` are the taps on their links.
    """

    here: Session
    there: Session
    near: TappedLink
    far: TappedLink
    watchdog: Watchdog

    async def round_trip(self) -> None:
        """Send one urgent message each way and wait for its echo; the caller bounds the wait.

        Links keep order, so both ends have then seen every control frame that left before.
        """
        for session in (self.here, self.there):
            channel = session.open(ECHO_TOPIC, b"x" * 8, OpenOptions(urgent=True, end=True))
            async for _ in channel:
                pass

    def left(self) -> list[Channel]:
        """Return the channels that are open at either end, except the last echo's."""
        ends = [*self.here.channels.values(), *self.there.channels.values()]
        return [channel for channel in ends if channel.topic != ECHO_TOPIC]

    async def open(self, topic: str, options: OpenOptions | None = None) -> tuple[Channel, Channel]:
        """Open a channel from here and return both of its ends."""
        mine = self.here.open(topic, options=options)
        return mine, await anext(self.there)


@asynccontextmanager
async def connected(
    make: PairMaker, limits: Limits | None = None, acceptor: Limits | None = None
) -> AsyncIterator[Pair]:
    """Yield two sessions over a new pair of links; ``acceptor`` is for a side with other limits.

    Leaving ends both sessions and waits for their tasks: one that is left over is a hang, which the
    caller's bound turns into a failure.

    Raises:
        HandshakeFailed: the ends do not agree.
    """
    clock = LoopClock()
    mine = limits or Limits()
    with single_error():
        async with make() as links, anyio.create_task_group() as tasks:
            near, far = TappedLink(links[0]), TappedLink(links[1])
            with Watchdog(clock) as watchdog:

                def session(link: TappedLink, side: Side, bounds: Limits) -> Session:
                    endpoint = Endpoint(
                        name=side.name.lower(),
                        role="test",
                        clock=clock,
                        random=SeededRandom(int(side)),
                        watchdog=watchdog,
                        limits=bounds,
                        tasks=tasks,
                        budget=CreditBudget(bounds.process_bytes),
                    )
                    return Session(link, side, endpoint)

                here = session(near, Side.CONNECTOR, mine)
                there = session(far, Side.ACCEPTOR, acceptor or mine)
                yield await _entered(Pair(here, there, near, far, watchdog))
                for end in (here, there):
                    await end.__aexit__(None, None, None)


async def _entered(pair: Pair) -> Pair:
    for end in (pair.here, pair.there):
        end.serve(ECHO_TOPIC, _echo)
    async with anyio.create_task_group() as group:
        group.start_soon(pair.there.__aenter__)
        await pair.here.__aenter__()
    return pair


def _echo(channel: Channel) -> None:
    channel.send_soon(channel.header)
    channel.end()
