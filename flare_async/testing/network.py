"""The transport port of a simulation: ``sim://name`` addresses inside one program."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from flare_async.errors import ConfigError, ConnectFailed
from flare_async.limits import Limits
from flare_async.ports import Clock, Random
from flare_async.testing.delay import pass_seconds
from flare_async.testing.link import SimLink, linked_pair
from flare_async.testing.pipe import Medium
from flare_async.transports.accept import AcceptQueue

__all__ = ["SimListener", "SimNetwork"]

ACCEPT_QUEUE = 16_384  # simulated clients connect all at once
SCHEME = "sim://"


class SimListener(AcceptQueue[SimLink]):
    """Accepts links of one name; refuses when ``ACCEPT_QUEUE`` of them wait."""

    def __init__(self, network: SimNetwork, address: str) -> None:
        super().__init__(ACCEPT_QUEUE)
        self._network = network
        self.address = address

    async def aclose(self) -> None:
        """Stop listening; what waits to be accepted is refused."""
        self._network.forget(self.address)
        self.close()


class SimNetwork:
    """Listeners and links of one simulated network; two networks know nothing of each other.

    ``latency`` bounds the seconds that bytes travel, drawn from the random port's stream ``net``.
    ``bandwidth`` is bytes a second for each direction of each link; None is no bound.

    Raises:
        ConfigError: a latency or bandwidth that no network has.
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
    ) -> None:
        if not 0 <= latency[0] <= latency[1]:
            raise ConfigError("latency", latency, "must be two seconds, the lower one first")
        if bandwidth is not None and not bandwidth > 0:
            raise ConfigError("bandwidth", bandwidth, "must be positive, or None for no bound")
        self._limits = limits or Limits()
        self._medium = Medium(clock, random.stream("net"), latency, bandwidth)
        self._listeners: dict[str, SimListener] = {}
        self._links: WeakValueDictionary[int, SimLink] = WeakValueDictionary()
        self._made = 0

    @property
    def links(self) -> list[SimLink]:
        """The connecting ends of all links that live, oldest first; ``cut`` one to lose it."""
        return [link for _, link in sorted(self._links.items()) if not link.closed]

    async def connect(self, address: str) -> SimLink:
        """Connect to a listener of this network; takes one round trip.

        Raises:
            ConnectFailed: nobody listens there, or too many links wait to be accepted.
            ConfigError: the address is no ``sim://name``.
        """
        _check(address)
        await self._travel()
        listener = self._listeners.get(address)
        if listener is None:
            raise ConnectFailed(address, "nobody listens there")
        self._made += 1
        origin = f"{SCHEME}link-{self._made}"
        here, there = linked_pair(origin, address, self._medium, self._limits)
        if not listener.offer(there):
            raise ConnectFailed(address, "too many links wait to be accepted")
        self._links[self._made] = here
        try:
            await self._travel()
        except asyncio.CancelledError:
            here.abort()
            raise
        return here

    async def listen(self, address: str) -> SimListener:
        """Listen under a name.

        Raises:
            ConnectFailed: somebody listens there already.
            ConfigError: the address is no ``sim://name``.
        """
        _check(address)
        if address in self._listeners:
            raise ConnectFailed(address, "somebody listens there already")
        listener = self._listeners[address] = SimListener(self, address)
        return listener

    def forget(self, address: str) -> None:
        """Free a name."""
        self._listeners.pop(address, None)

    async def _travel(self) -> None:
        """Wait for one latency: bounded by its upper value."""
        await pass_seconds(self._medium.clock, self._medium.delay())


def _check(address: str) -> None:
    if not address.startswith(SCHEME) or address == SCHEME:
        raise ConfigError("address", address, "is not simulated", "write sim://name")
