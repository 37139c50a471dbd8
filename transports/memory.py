"""``memory://name``: links inside one process that hand frame objects over as they are."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from flare_async.errors import ConnectFailed
from flare_async.limits import Limits
from flare_async.net.link import LinkReceiver
from flare_async.transports.accept import AcceptQueue
from flare_async.wire.frames import Frame

__all__ = ["MemoryLink", "MemoryListener", "MemoryTransport", "memory_pair"]

ACCEPT_QUEUE = 16_384  # simulated clients connect all at once, a link is about a kilobyte


class MemoryLink:
    """One end of a pair; what one end sends, the other receives at the loop's next turn.

    It is always writable: payloads are references, and the channels' credit bounds their bytes.
    """

    __slots__ = ("_address", "_closed", "_inbox", "_loop", "_peer", "_receiver", "_scheduled")

    by_reference = True
    frame_bytes = sys.maxsize
    identity: str | None = None
    pending = 0
    writable = True

    def __init__(self, address: str) -> None:
        self._address = address
        self._loop = asyncio.get_running_loop()
        self._peer: MemoryLink = self
        self._receiver: LinkReceiver | None = None
        self._inbox: list[Frame] = []
        self._scheduled = False
        self._closed = False

    def __repr__(self) -> str:
        return f"<MemoryLink to {self._address}>"

    @property
    def address(self) -> str:
        """The peer's address."""
        return self._address

    def start(self, receiver: LinkReceiver) -> None:
        """Begin to deliver; what arrived before, an end too, follows at the loop's next turn."""
        if self._closed:
            receiver.lost(None)
            return
        self._receiver = receiver
        self._schedule()

    def send_soon(self, frames: Sequence[Frame]) -> None:
        """Hand the frames over; dropped when the link has ended."""
        peer = self._peer
        if not self._closed and not peer._closed:
            peer._inbox.extend(frames)
            peer._schedule()

    async def wait_writable(self) -> None:
        """Return at once: a memory link is always writable."""

    def abort(self) -> None:
        """End the link; the other end learns it after what was already sent."""
        if not self._closed:
            self._closed = True
            self._inbox.clear()
            receiver, self._receiver = self._receiver, None
            if receiver is not None:
                receiver.lost(None)
            self._peer._schedule()

    async def aclose(self) -> None:
        """End the link; nothing is ever pending."""
        self.abort()

    def _schedule(self) -> None:
        if not self._scheduled and self._receiver is not None:
            self._scheduled = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        frames, self._inbox = self._inbox, []
        receiver = self._receiver
        if receiver is None:
            return
        if frames:
            receiver.receive(frames)
        if self._peer._closed:
            self.abort()


def memory_pair(
    here: str = "memory://here", there: str = "memory://there"
) -> tuple[MemoryLink, MemoryLink]:
    """Return two linked ends; the first one's peer is ``there``."""
    first, second = MemoryLink(there), MemoryLink(here)
    first._peer, second._peer = second, first
    return first, second


class MemoryListener(AcceptQueue[MemoryLink]):
    """Accepts links of one name; refuses when ``ACCEPT_QUEUE`` of them wait."""

    def __init__(self, transport: MemoryTransport, address: str) -> None:
        super().__init__(ACCEPT_QUEUE)
        self._transport = transport
        self.address = address

    async def aclose(self) -> None:
        """Stop listening; what waits to be accepted is refused."""
        self._transport.forget(self.address)
        self.close()


class MemoryTransport:
    """The names of one process; two transports know nothing of each other."""

    scheme = "memory"

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._listeners: dict[str, MemoryListener] = {}

    async def connect(self, address: str) -> MemoryLink:
        """Connect to a listener of this transport. Raises ConnectFailed."""
        listener = self._listeners.get(address)
        if listener is None:
            raise ConnectFailed(address, "nobody listens there")
        here, there = memory_pair(here="memory://client", there=address)
        if not listener.offer(there):
            raise ConnectFailed(address, "too many links wait to be accepted")
        return here

    async def listen(self, address: str) -> MemoryListener:
        """Listen under a name. Raises ConnectFailed when it is taken."""
        if address in self._listeners:
            raise ConnectFailed(address, "somebody listens there already")
        listener = self._listeners[address] = MemoryListener(self, address)
        return listener

    def forget(self, address: str) -> None:
        """Free a name."""
        self._listeners.pop(address, None)
