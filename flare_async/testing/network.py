"""The transport port of a simulation: ``sim://name`` addresses inside one program."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeAlias
from weakref import WeakValueDictionary

from flare_async.errors import ConfigError, ConnectFailed
from flare_async.limits import Limits
from flare_async.ports import Clock, Random
from flare_async.testing.cutter import Cutter
from flare_async.testing.delay import pass_seconds
from flare_async.testing.faults import Fault
from flare_async.testing.link import SimLink, linked_pair
from flare_async.testing.named import NamedListener, NamedNetwork
from flare_async.testing.partitions import Partitions
from flare_async.testing.pipe import Hold, Medium
from flare_async.testing.plan import FaultPlan
from flare_async.testing.way import Way

__all__ = ["SimListener", "SimNetwork", "SiteNetwork"]

ACCEPT_QUEUE = 16_384  # simulated clients connect all at once
SCHEME = "sim://"
SimListener: TypeAlias = NamedListener[SimLink]
SiteNetwork: TypeAlias = NamedNetwork[SimLink]


class SimNetwork:
    """Listeners and links of one simulated network; two networks know nothing of each other.

    ``latency`` bounds the seconds that bytes travel, drawn from the random port's stream ``net``.
    ``bandwidth`` is bytes a second for each direction of each link; None is no bound. ``faults``
    act on links by the name of the site that connects: give each client ``of(site)``.

    Raises:
        ConfigError: a latency, a bandwidth or a fault that no network has.
    """

    scheme = "sim"

    def __init__(
        self,
        clock: Clock,
        random: Random,
        *,
        latency: tuple[float, float] = (0.001, 0.01),
        bandwidth: float | None = None,
        limits: Limits | None = None,
        faults: Sequence[Fault] = (),
    ) -> None:
        if not 0 <= latency[0] <= latency[1]:
            raise ConfigError("latency", latency, "must be two seconds, the lower one first")
        if bandwidth is not None and not bandwidth > 0:
            raise ConfigError("bandwidth", bandwidth, "must be positive, or None for no bound")
        self._limits = limits or Limits()
        self._clock = clock
        self._medium = Medium(clock, random.stream("net"), latency, bandwidth)
        self._plan = FaultPlan(faults, clock, random)
        self._partitions = Partitions()
        self._listeners: dict[str, SimListener] = {}
        self._links: WeakValueDictionary[int, SimLink] = WeakValueDictionary()
        self._made = 0

    @property
    def links(self) -> list[SimLink]:
        """The connecting ends of all links that live, oldest first; ``cut`` one to lose it."""
        return [link for _, link in sorted(self._links.items()) if not link.closed]

    @property
    def made(self) -> int:
        """How many connections have reached a listener so far."""
        return self._made

    def of(self, site: str) -> SiteNetwork:
        """Return the network port of one site."""
        return NamedNetwork(self, site)

    def partition(self, one: str, other: str | None = None, *, one_way: bool = False) -> None:
        """Let nothing pass between two names, or with ``one_way`` from the first to the second.

        Names are those of sites, and of listeners without ``sim://``; no other name is everybody.
        Links stay as they are and wait; new connections fail after ``handshake_timeout``.
        """
        self._partitions.add(one, other)
        if not one_way:
            self._partitions.add(other, one)
        self._apply_partitions()

    def heal(self, one: str | None = None, other: str | None = None) -> None:
        """End the partitions between two names, of one name, or all; what waited arrives."""
        self._partitions.remove(one, other)
        self._apply_partitions()

    async def connect(self, address: str, site: str | None = None) -> SimLink:
        """Connect to a listener of this network; takes one round trip.

        Bounded by ``handshake_timeout``; cancelling leaves nothing.

        Raises:
            ConnectFailed: nobody listens there or answers, or too many links wait to be accepted.
            ConfigError: the address is no ``sim://name``.
        """
        _check(address)
        seconds = self._limits.handshake_timeout
        try:
            async with asyncio.timeout(seconds):
                await self._reach(site, address)
                return await self._connect(address, site)
        except TimeoutError as exc:
            raise ConnectFailed(address, f"no answer within {seconds:g} s") from exc

    async def listen(self, address: str) -> SimListener:
        """Listen under a name.

        Raises:
            ConnectFailed: somebody listens there already.
            ConfigError: the address is no ``sim://name``.
        """
        _check(address)
        if address in self._listeners:
            raise ConnectFailed(address, "somebody listens there already")
        listener = self._listeners[address] = NamedListener(self, address, ACCEPT_QUEUE)
        return listener

    def forget(self, address: str) -> None:
        """Free a name."""
        self._listeners.pop(address, None)

    async def _connect(self, address: str, site: str | None) -> SimLink:
        up, down = self._plan.way(site, "up"), self._plan.way(site, "down")
        await self._travel(up)
        listener = self._listeners.get(address)
        if listener is None:
            await self._travel(down)
            raise ConnectFailed(address, "nobody listens there")
        self._made += 1
        number = self._made
        here, there = linked_pair(
            SimLink(address, self._medium, self._limits, up),
            SimLink(f"{SCHEME}link-{number}", self._medium, self._limits, down),
        )
        here.site = there.site = site
        if not listener.offer(there):
            raise ConnectFailed(address, "too many links wait to be accepted")
        self._links[number] = here
        Cutter(here, self._clock, self._plan).start()
        try:
            await self._travel(down)
        except asyncio.CancelledError:
            here.abort()
            raise
        return here

    async def _reach(self, site: str | None, address: str) -> None:
        """Wait until nothing is frozen between the two; the caller bounds it."""
        host = _host(address)
        while True:
            apart = self._partitions.severs(site, host) or self._partitions.severs(host, site)
            seconds = self._plan.opens_in(site)
            if apart or seconds == float("inf"):
                await self._partitions.healed.wait()
            elif seconds:
                await pass_seconds(self._clock, seconds)
            else:
                return

    async def _travel(self, way: Way | None) -> None:
        """Wait for one latency: bounded by its upper value."""
        longer = 0.0 if way is None else way.delay()
        await pass_seconds(self._clock, self._medium.delay() + longer)

    def _apply_partitions(self) -> None:
        for here in self.links:
            host, there = _host(here.address), here.peer
            for end, sender, receiver in ((here, here.site, host), (there, host, here.site)):
                if self._partitions.severs(sender, receiver):
                    end.hold(Hold.PARTITION)
                else:
                    end.let_go(Hold.PARTITION)


def _host(address: str) -> str:
    return address.removeprefix(SCHEME)


def _check(address: str) -> None:
    if not address.startswith(SCHEME) or address == SCHEME:
        raise ConfigError("address", address, "is not simulated", "write sim://name")
