"""Looks at the roles of a running federation: what they hold, how long they take, what is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import anyio

from flare_async.errors import FlareError
from flare_async.net.channel import Channel
from flare_async.net.session import Session
from flare_async.roles.relay import Relay
from flare_async.roles.server import Server
from flare_async.testing.faults import Delay
from flare_async.testing.federation.evidence import Buffered
from flare_async.testing.federation.setting import SERVER
from flare_async.testing.federation.world import World
from flare_async.transfer.pull import PULL_SCHEMA, PULL_TOPIC, PullRequest
from flare_async.wire.session import OpenOptions

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

__all__ = ["Watch"]

EVERY: Final = 1.0
PROBE: Final = PULL_SCHEMA.encode(PullRequest("probe", "", 0, 0))  # the answer: no such offer
SETTLING: Final = 3  # how long what is left may take to go, in session graces


class Watch:
    """Samples while a federation plays, and waits in the end until everything is given back."""

    def __init__(self, world: World) -> None:
        self.server: Server | None = None
        self.relays: dict[str, Relay] = {}
        self.clients = world.clients
        self._world = world
        self._evidence = world.evidence
        self._limits = world.evidence.setting.limits
        self._asked: dict[Channel, tuple[str, float]] = {}  # probes that nobody has answered

    async def run(self) -> None:
        """Sample every second for ever; cancelling leaves nothing."""
        async with anyio.create_task_group() as tasks:
            while True:
                await anyio.sleep(EVERY)
                self._sample()
                if self._evidence.setting.probes and self._evidence.finished is None:
                    self._probe_all(tasks)

    async def settle(self) -> None:
        """Wait until nothing is held any more; bounded, and what is then left is taken note of.

        Whatever went wrong is over: links are healed, and hosts that died stay dead.
        """
        self._world.network.heal()
        end = self._world.clock.now() + SETTLING * self._limits.session_grace
        left = list(self._left())
        while left and self._world.clock.now() < end:
            await anyio.sleep(EVERY)
            left = list(self._left())
        self._evidence.leaks += left
        for channel in list(self._asked):
            self._answered(channel)

    def _sessions(self) -> Iterator[tuple[str, Session]]:
        living = self._world.contexts
        acceptors = {SERVER: self.server, **self.relays}
        for name, role in acceptors.items():
            if role is not None and name in living:
                yield from ((name, session) for session in list(role._sessions))
        for name, client in self.clients.items():
            if name in living:
                yield from ((name, session) for session in client.sessions)

    def _sample(self) -> None:
        doubles = Counter((host, s.peer) for host, s in self._sessions() if not s.ended)
        for (host, peer), count in doubles.items():
            if count > 1:
                self._evidence.doubles.append(f"{count} live sessions of {peer} at {host}")
        for host, session in self._sessions():
            self._weigh(host, session)
        for host, context in self._world.contexts.items():
            total, free = context.budget.total, context.budget.available
            self._note(f"credit granted at {host}", total - free, total)

    def _weigh(self, host: str, session: Session) -> None:
        limits, unread = self._limits, 0
        for channel in list(session.channels.values()):
            numbers = channel.statistics()
            held = numbers.received - numbers.consumed
            unread += held
            where = f"unread on {channel.topic} of {session.peer} at {host}"
            self._note(where, held, limits.window_bytes)
        first = len(session.channels) * limits.window_bytes // 4
        self._note(f"unread of {session.peer} at {host}", unread, limits.link_bytes + first)

    def _probe_all(self, tasks: TaskGroup) -> None:
        entries: dict[str, object] = {} if self.server is None else dict(self.server.sites)
        for site, session in entries.items():  # a route only looks like a session
            if isinstance(session, Session) and session.attached:
                tasks.start_soon(self._probe, site, session, name=f"probe {site}")

    def _note(self, where: str, nbytes: int, most: int) -> None:
        if nbytes > most:
            self._evidence.buffered.append(Buffered(where, nbytes, most))

    async def _probe(self, site: str, session: Session) -> None:
        """Ask for something that is refused, and take the time until it is."""
        answered = anyio.Event()
        try:
            channel = session.open(PULL_TOPIC, PROBE, OpenOptions(urgent=True, end=True))
        except FlareError:
            return
        self._asked[channel] = (site, self._world.clock.now())
        channel.on_failed = answered.set
        await answered.wait()
        if channel in self._asked:
            self._answered(channel)

    def _answered(self, channel: Channel) -> None:
        """Take note of how long an answer took, or of how long it has been due."""
        setting, session = self._evidence.setting, channel.session
        site, began = self._asked.pop(channel)
        if not session.ended and session.attached:
            rate = setting.bandwidth or float("inf")
            # Ahead of it on either side: a link's buffer of a frame, one more frame, small change.
            ahead = 6 * setting.limits.frame_bytes / rate
            later = sum(f.seconds + f.jitter for f in setting.faults if isinstance(f, Delay))
            bound = 4 * (setting.latency[1] + later) + ahead + EVERY / 2
            self._evidence.control.append((site, self._world.clock.now() - began, bound))

    def _left(self) -> Iterator[str]:
        living = self._world.contexts
        shelves = {n: c.shelf for n, c in self.clients.items() if n in living}
        if self.server is not None and SERVER in living:
            shelves[SERVER] = self.server.shelf
        for name, shelf in shelves.items():
            if shelf.offers:
                yield f"{shelf.offers} offers are left on the shelf of {name}"
        for name, context in living.items():
            taken = context.budget.total - context.budget.available
            if taken:
                yield f"{taken} bytes of credit are left with the sessions of {name}"
        for host, session in self._sessions():
            topics = [c.topic for c in session.channels.values() if c.topic in {"task", "pull"}]
            if topics:
                yield f"{len(topics)} channels ({topics[0]}) with {session.peer} are open at {host}"
