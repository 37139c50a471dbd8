"""What a stranger meets at a WebSocket's port: TLS where that is wanted, then aiohttp's parser."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from aiohttp import web

from flare_async.limits import Limits
from flare_async.transports.handshakes import Handshakes

__all__ = ["Door", "Early", "Entrance"]


@dataclass(frozen=True, slots=True)
class Entrance:
    """What the doors of one listener share; ``say`` makes the answer to who asks for no link."""

    limits: Limits
    strangers: Handshakes
    say: Callable[[int], web.Response]
    tls: ssl.SSLContext | None


class Door(web.RequestHandler):
    """One connection until it becomes a link or ends; all of that within ``handshake_timeout``.

    TLS begins here and not in the listening socket, whose connections nobody can count or abort
    before their handshake is done.
    """

    def __init__(self, server: web.Server, entrance: Entrance) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=entrance.limits.handshake_timeout,
            lingering_time=0,  # nobody's body is read
        )
        self._entrance = entrance
        self._plain: asyncio.Transport | None = None
        self._shaking = entrance.tls is not None
        self._early: list[bytes] | None = [] if self._shaking else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport, and begin to count and to time."""
        self._plain = plain = cast("asyncio.Transport", transport)
        if not self._entrance.strangers.admit(self):
            plain.abort()
            return
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Keep what comes before TLS has begun; all else is for the parser."""
        if self._early is None:
            super().data_received(data)
        else:
            self._early.append(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._entrance.strangers.done(self)
        super().connection_lost(exc)

    def close(self) -> None:
        """Answer what is asked and end; at once, where nothing can have been asked."""
        super().close()
        if self._shaking:
            self.abort()

    def too_late(self) -> None:
        """Give up: the time is over."""
        self.abort()

    def abort(self) -> None:
        """End the connection now."""
        if self._plain is not None:
            self._plain.abort()

    async def start(self) -> None:
        """Shake hands where TLS is wanted, and read requests until the connection ends."""
        tls, plain = self._entrance.tls, self._plain
        if tls is None or plain is None or await self._encrypt(tls, plain):
            await super().start()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no request; a bug of ours is logged as such."""
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        return self._entrance.say(status)

    async def _encrypt(self, tls: ssl.SSLContext, plain: asyncio.Transport) -> bool:
        limits = self._entrance.limits
        loop = asyncio.get_running_loop()
        secure, error = None, None
        early, self._early = b"".join(self._early or ()), None
        if early:
            loop.call_soon(pass_on, plain, early)  # TLS then has the transport, and has not begun
        try:
            secure = await loop.start_tls(
                plain,
                self,
                tls,
                server_side=True,
                ssl_handshake_timeout=limits.handshake_timeout,
                ssl_shutdown_timeout=limits.shutdown_timeout,
            )
        except OSError as exc:
            error = exc
        self._shaking = False
        if secure is None or plain.is_closing():
            self.connection_lost(error)  # the loop tells nobody of an end within the handshake
            return False
        self.transport = secure
        return True


def pass_on(plain: asyncio.Transport, early: bytes) -> None:
    """Give TLS what was read before it took the transport; it is kept for the handshake."""
    tls = cast("asyncio.BufferedProtocol", plain.get_protocol())  # uvloop's is one by its methods
    while early and not plain.is_closing():
        room = memoryview(tls.get_buffer(len(early)))
        count = min(len(room), len(early))
        room[:count] = early[:count]
        tls.buffer_updated(count)
        early = early[count:]


class Early:
    """Takes from aiohttp what it has read behind the request."""

    def __init__(self) -> None:
        self.data = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Keep it: at most what one read of aiohttp brings."""
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        """Do nothing: the link learns the end by itself."""
