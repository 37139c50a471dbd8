"""The hosts of a simulated federation: they start, die and come back, and their links with them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio

from flare_async.errors import FlareError
from flare_async.net.callbacks import start_soon
from flare_async.net.clock import LoopClock
from flare_async.roles.context import Context, open_context
from flare_async.roles.server import Server
from flare_async.testing.buggify import BuggyRandom
from flare_async.testing.disk import SimDisk
from flare_async.testing.federation.actors import WatchedClient, WatchedNetwork
from flare_async.testing.federation.evidence import Evidence
from flare_async.testing.link import SimLink
from flare_async.testing.network import SimNetwork

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

__all__ = ["Life", "World"]

AGAIN: Final = 2.0  # seconds until a role that has given up is begun again
Life: TypeAlias = Callable[[Context], Awaitable[None]]


@dataclass(slots=True, eq=False)
class _Host:
    """One machine: what it does while it lives, and its present life."""

    name: str
    life: Life
    disk: SimDisk | None = None
    lives: int = 0
    scope: anyio.CancelScope | None = None
    context: Context | None = None
    done: anyio.Event | None = None


class World:
    """Hosts on one network; a host's roles share a context and end together.

    ``give_up`` asks whoever runs the rounds to give the current one up. ``server`` and
    ``clients`` are those of the hosts' present lives.
    """

    def __init__(self, evidence: Evidence, tasks: TaskGroup) -> None:
        setting = evidence.setting
        self.evidence = evidence
        self.clock = LoopClock()
        self.random = BuggyRandom(setting.seed)
        self.network = SimNetwork(
            self.clock,
            self.random,
            latency=setting.latency,
            bandwidth=setting.bandwidth,
            limits=setting.limits,
            faults=setting.faults,
        )
        self.give_up = False
        self.server: Server | None = None
        self.clients: dict[str, WatchedClient] = {}
        self._tasks = tasks
        self._hosts: dict[str, _Host] = {}

    @property
    def contexts(self) -> dict[str, Context]:
        """The contexts of the hosts that live, by name."""
        return {h.name: h.context for h in self._hosts.values() if h.context is not None}

    def offered(self) -> list[str]:
        """Return the references to what the server offers now."""
        return [] if self.server is None else list(self.server.shelf._offers)

    def add(self, name: str, life: Life, disk: SimDisk | None = None) -> None:
        """Add a host; ``life`` is what it does each time it is started."""
        self._hosts[name] = _Host(name, life, disk)

    def start(self, name: str) -> None:
        """Start a host, unless it lives; one that is about to stop comes back after that."""
        start_soon(self._tasks, self._live, self._hosts[name], name=f"host {name}")

    def start_at(self, name: str, seconds: float) -> None:
        """Start a host so many seconds from now."""
        if seconds:
            self.clock.call_at(self.clock.now() + seconds, lambda: self.start(name))
        else:
            self.start(name)

    def start_dead(self) -> None:
        """Start every host that does not live."""
        for name, host in self._hosts.items():
            if host.scope is None:
                self.start(name)

    def stop(self, name: str) -> None:
        """Have a host stop in good order."""
        host = self._hosts[name]
        self.evidence.tell(self.clock.now(), f"{name} leaves")
        if host.scope is not None:
            host.scope.cancel()

    def crash(self, name: str, *, silent: bool = False) -> None:
        """Let a host die: its links break, or nobody hears of it; its disk loses its buffers."""
        host = self._hosts[name]
        self.evidence.tell(self.clock.now(), f"{name} dies")
        for link in self.links_of(name):
            if silent:
                link.half_open()
            else:
                link.cut()
        if host.disk is not None:
            host.disk.crash()
        if host.scope is not None:
            host.scope.cancel()

    def links_of(self, name: str) -> list[SimLink]:
        """Return the connecting ends of a host's links, whichever side it is on."""
        here = f"sim://{name}"
        return [link for link in self.network.links if link.site == name or link.address == here]

    async def _live(self, host: _Host) -> None:
        while host.done is not None:
            await host.done.wait()
        setting, done = self.evidence.setting, anyio.Event()
        host.done = done
        host.lives += 1
        name = f"{host.name}/{host.lives}"
        random = BuggyRandom(
            setting.seed, name, chance=setting.buggify, struck=self.evidence.struck
        )
        network = WatchedNetwork(self.network.of(host.name), host.name, self.evidence)
        self.evidence.tell(self.clock.now(), f"{host.name} starts, life {host.lives}")
        try:
            with anyio.CancelScope() as host.scope:
                async with open_context(self.clock, random, network, setting.limits) as context:
                    host.context = context
                    await self._supervised(host, context)
        finally:
            host.scope = host.context = host.done = None
            done.set()

    async def _supervised(self, host: _Host, context: Context) -> None:
        """Begin again whenever a role gives up, as what starts a deployed process does."""
        while True:
            try:
                await host.life(context)
            except FlareError as exc:
                self.evidence.tell(self.clock.now(), f"{host.name} ends: {exc}")
                await anyio.sleep(AGAIN)
            else:
                return
