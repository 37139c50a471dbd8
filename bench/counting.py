"""Links that count frames, put between the product's sessions and its transports by a bench.

The registry makes transports by name, so what they count into is one object of this module: a
bench that counts does so in a process of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, Self

from flare_async.limits import Limits
from flare_async.net import registry
from flare_async.net.link import Link, LinkReceiver, Listener
from flare_async.net.registry import Transport
from flare_async.transports.memory import MemoryTransport
from flare_async.transports.tcp import TcpTransport
from flare_async.transports.unix import UnixTransport
from flare_async.wire.frames import Ack, Frame

__all__ = ["TALLY", "CountingLink", "count_frames"]

TALLY: Final[Counter[str]] = Counter()


class CountingLink:
    """A link that counts what is sent, and is the inner link in all else."""

    def __init__(self, inner: Link) -> None:
        self._inner = inner
        self.frame_bytes = inner.frame_bytes
        self.by_reference = inner.by_reference

    def __repr__(self) -> str:
        return f"<CountingLink to {self.address}>"

    @property
    def address(self) -> str:
        """The peer's address."""
        return self._inner.address

    @property
    def identity(self) -> str | None:
        """The name that the connection vouches for."""
        return self._inner.identity

    @property
    def writable(self) -> bool:
        """Whether the inner link is."""
        return self._inner.writable

    @property
    def pending(self) -> int:
        """Bytes that the inner link holds."""
        return self._inner.pending

    def start(self, receiver: LinkReceiver) -> None:
        """Begin to deliver."""
        self._inner.start(receiver)

    def send_soon(self, frames: Sequence[Frame]) -> None:
        """Count the frames and send them."""
        TALLY["batches"] += 1
        TALLY["frames"] += len(frames)
        TALLY["acks"] += sum(type(frame) is Ack for frame in frames)
        self._inner.send_soon(frames)

    async def wait_writable(self) -> None:
        """Wait as the inner link does."""
        await self._inner.wait_writable()

    def abort(self) -> None:
        """End the link now."""
        self._inner.abort()

    async def aclose(self) -> None:
        """End the link in order."""
        await self._inner.aclose()


class CountingListener:
    """Accepts counting links."""

    def __init__(self, inner: Listener) -> None:
        self._inner = inner

    @property
    def address(self) -> str:
        """Where it listens."""
        return self._inner.address

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> CountingLink:
        """Wait for ever for the next link."""
        return CountingLink(await self._inner.__anext__())

    async def aclose(self) -> None:
        """Stop listening."""
        await self._inner.aclose()


class CountingTransport:
    """One of the product's transports, with counting links."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.scheme = inner.scheme

    async def connect(self, address: str) -> CountingLink:
        """Connect. Raises ConnectFailed."""
        return CountingLink(await self._inner.connect(address))

    async def listen(self, address: str) -> CountingListener:
        """Listen. Raises ConnectFailed."""
        return CountingListener(await self._inner.listen(address))


def memory(limits: Limits) -> CountingTransport:
    """Return a counting memory transport."""
    return CountingTransport(MemoryTransport(limits))


def tcp(limits: Limits) -> CountingTransport:
    """Return a counting tcp transport."""
    return CountingTransport(TcpTransport(limits))


def unix(limits: Limits) -> CountingTransport:
    """Return a counting unix transport."""
    return CountingTransport(UnixTransport(limits))


def count_frames() -> None:
    """Let every link that this process makes from now on count into ``TALLY``."""
    for scheme in ("memory", "tcp", "unix"):
        registry.BUILT_IN[scheme] = (__name__, scheme)
