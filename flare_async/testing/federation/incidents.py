"""What happens to a simulated federation once, at a time: hosts that die, links that part."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio

from flare_async.errors import FlareError
from flare_async.net.session import Session
from flare_async.roles.context import Context, open_context
from flare_async.testing.federation.setting import SERVER
from flare_async.testing.loop import SimLoop
from flare_async.testing.recorder import Recorder
from flare_async.transfer.pull import PULL_SCHEMA, PULL_TOPIC, PullRequest
from flare_async.wire.session import OpenOptions, Side

if TYPE_CHECKING:
    from flare_async.testing.federation.world import World

__all__ = [
    "Apart",
    "Crash",
    "CutLinks",
    "GiveUp",
    "Incident",
    "Leave",
    "Pry",
    "Replay",
    "StandStill",
]

THIEF: Final = "thief"
LISTENS: Final = 3.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Something that happens ``at`` so many seconds after the start; this one changes nothing."""

    at: float

    async def happen(self, world: World) -> None:
        """Let it happen, and end; waits for what lies between, in virtual time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash(Incident):
    """A host dies and comes ``back`` so many seconds later, or never.

    Its links break at once, or with ``silent`` nobody is told. What its disk had not made durable
    is lost.
    """

    host: str
    back: float | None = None
    silent: bool = False

    async def happen(self, world: World) -> None:
        """Kill the host and start it again."""
        world.crash(self.host, silent=self.silent)
        if self.back is not None:
            await anyio.sleep(self.back)
            world.start(self.host)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave(Incident):
    """A host stops in good order and comes ``back`` so many seconds later, or never."""

    host: str
    back: float | None = None

    async def happen(self, world: World) -> None:
        """Stop the host and start it again."""
        world.stop(self.host)
        if self.back is not None:
            await anyio.sleep(self.back)
            world.start(self.host)


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart(Incident):
    """Nothing passes between two hosts for some seconds; one way: from the first to the second."""

    one: str
    other: str
    seconds: float
    one_way: bool = False

    async def happen(self, world: World) -> None:
        """Part them and bring them together."""
        world.network.partition(self.one, self.other, one_way=self.one_way)
        await anyio.sleep(self.seconds)
        world.network.heal(self.one, self.other)


@dataclass(frozen=True, slots=True, kw_only=True)
class CutLinks(Incident):
    """All links of a host break at once; both ends are told."""

    host: str

    async def happen(self, world: World) -> None:
        """Cut them."""
        for link in world.links_of(self.host):
            link.cut()


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp(Incident):
    """Whoever runs the rounds gives the current one up, when its next update has come."""

    async def happen(self, world: World) -> None:
        """Say so."""
        world.give_up = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay(Incident):
    """Somebody who has heard a site's last hello says it again, on a link of his own."""

    victim: str

    async def happen(self, world: World) -> None:
        """Say it, and listen for a while."""
        client = world.clients.get(self.victim)
        if client is None or not client.sessions:
            return
        session = client.sessions[-1]
        hello = session.endpoint.hello(session.limits.frame_bytes, session.id, session.epoch)
        address = f"sim://{world.evidence.setting.parent(self.victim)}"
        with suppress(FlareError):
            link = await world.network.of(THIEF).connect(address)
            link.start(Recorder())
            link.send_soon([hello])
            await anyio.sleep(LISTENS)
            link.abort()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pry(Incident):
    """A site that nobody has asked pulls the model of a round, whose reference it has heard of."""

    async def happen(self, world: World) -> None:
        """Pull it, and take note of what comes."""
        network, limits = world.network.of(THIEF), world.evidence.setting.limits
        async with open_context(world.clock, world.random, network, limits) as context:
            with suppress(FlareError, anyio.EndOfStream):
                await self._pull(world, context)

    async def _pull(self, world: World, context: Context) -> None:
        link = await context.network.connect(f"sim://{SERVER}")
        endpoint = context.endpoint(THIEF, "client")
        async with Session(link, Side.CONNECTOR, endpoint) as session:
            for key in world.offered():
                request = PULL_SCHEMA.encode(PullRequest(key, "", 0, 0))
                channel = session.open(PULL_TOPIC, request, OpenOptions(end=True))
                await channel.receive_moving()
                world.evidence.impostures.append(f"{THIEF} pulled what was offered to others")


@dataclass(frozen=True, slots=True, kw_only=True)
class StandStill(Incident):
    """The whole process stands still for some seconds, as one that was stopped: timers are late."""

    seconds: float

    async def happen(self, world: World) -> None:
        """Let the time pass at once."""
        loop = asyncio.get_running_loop()
        if isinstance(loop, SimLoop):
            loop.now += self.seconds
