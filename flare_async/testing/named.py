"""What simulated networks share whose links go by a name: listeners, and the view of one name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from flare_async.net.link import Link
from flare_async.transports.accept import AcceptQueue

__all__ = ["ByName", "NamedListener", "NamedNetwork"]

LinkT = TypeVar("LinkT", bound=Link)


class ByName(Protocol[LinkT]):
    """A network that is told who connects."""

    async def connect(self, address: str, name: str, /) -> LinkT:
        """Connect as that name. Raises ConnectFailed."""

    async def listen(self, address: str) -> NamedListener[LinkT]:
        """Listen under a name. Raises ConnectFailed."""

    def forget(self, address: str) -> None:
        """Take note that nobody listens there any more."""


class NamedListener(AcceptQueue[LinkT]):
    """Accepts links of one name; refuses when ``room`` of them wait."""

    def __init__(self, network: ByName[LinkT], address: str, room: int) -> None:
        super().__init__(room)
        self._network = network
        self.address = address

    async def aclose(self) -> None:
        """Stop listening; what waits to be accepted is refused."""
        self._network.forget(self.address)
        self.close()


@dataclass(frozen=True, slots=True)
class NamedNetwork(Generic[LinkT]):
    """A network as one name sees it: the links that it makes go by that name."""

    network: ByName[LinkT]
    name: str

    async def connect(self, address: str) -> LinkT:
        """Connect as this name; waits and raises as the network does."""
        return await self.network.connect(address, self.name)

    async def listen(self, address: str) -> NamedListener[LinkT]:
        """Listen under a name; waits and raises as the network does."""
        return await self.network.listen(address)
