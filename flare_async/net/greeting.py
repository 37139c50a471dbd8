"""The first word of a link that was accepted: read before anybody knows whose link it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from flare_async.errors import FlareError, HandshakeFailed, RemoteProtocolError
from flare_async.net.endpoint import Endpoint
from flare_async.net.link import Link
from flare_async.net.outflow import wake
from flare_async.wire.frames import PROTOCOL_VERSION, Frame, Goodbye, Hello, Landed, ResetCode

__all__ = ["BROKEN", "Greeting", "told"]

BROKEN = frozenset({"truncated", "bad_head", "bad_checksum"})  # what torn or damaged streams are
EARLY_FRAMES = 8  # an honest peer sends nothing behind its hello until it has ours


class Greeting:
    """Receives a link's first frames; ``hello`` is there when ``wait`` returns."""

    __slots__ = ("_endpoint", "_error", "_frames", "_link", "_over", "_waiter")

    def __init__(self, link: Link, endpoint: Endpoint) -> None:
        self._link = link
        self._endpoint = endpoint
        self._frames: list[Frame] = []
        self._error: FlareError | None = None
        self._over = False
        self._waiter: asyncio.Future[None] | None = None

    async def wait(self) -> tuple[Hello, Sequence[Frame]]:
        """Wait for the peer's hello; return it, and all frames that came, the hello first.

        Bounded by the caller. Cancelling leaves the link open and unread.

        Raises:
            HandshakeFailed: the link ended, or brought something else.
        """
        self._link.start(self)
        while not self._frames and not self._over:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        first = self._frames[0] if self._frames else None
        if isinstance(first, Hello) and not self._over:
            return first, self._frames
        raise HandshakeFailed(self._link.address, str(self._error or "it left without a hello"))

    def give_up(self) -> None:
        """End the link now: somebody else's hello is waited for instead."""
        self._over = True
        self._link.abort()
        wake(self._waiter)

    def refuse(self, code: int, message: str, hello: Hello | None = None) -> None:
        """Say why the link is not wanted; whoever owns it closes it."""
        session = self._endpoint.random.token(16) if hello is None else hello.session
        epoch = 0 if hello is None else hello.epoch
        own = self._endpoint.hello(self._endpoint.limits.frame_bytes, session, epoch)
        self._link.send_soon([own, Goodbye(int(code), message)])

    # For the link

    def receive(self, frames: Sequence[Frame | Landed]) -> None:
        """Keep the first frames."""
        self._frames += [frame for frame in frames if not isinstance(frame, Landed)]
        if len(self._frames) > EARLY_FRAMES:
            self.give_up()
        wake(self._waiter)

    def destination(self, channel: int, offset: int, length: int) -> memoryview | None:
        """Offer no memory: nobody has leased any yet."""
        return None

    def lost(self, error: FlareError | None) -> None:
        """Take note that the link has ended."""
        self._over = True
        self._error = error
        # Damage is not the peer's doing: it may try again, as after any broken connection.
        if isinstance(error, RemoteProtocolError) and error.reason not in BROKEN:
            self.refuse(ResetCode.PROTOCOL, told(error))
        wake(self._waiter)


def told(error: RemoteProtocolError) -> str:
    """Return what a peer is told about its mistake: the rule, and never what it had sent."""
    if error.reason == "version":
        return f"version: this side speaks {PROTOCOL_VERSION}"
    return error.reason
