"""``tls://host:port``: TLS 1.3 over TCP; port 0 listens on a free one.

Both sides show certificates, unless the credentials say otherwise; the connecting side also checks
the host's name. The link's ``identity`` is the name in the peer's certificate. A connecting side
whose certificate is refused learns it only when it first reads: from its session's hello.
"""

from __future__ import annotations

import asyncio
import ssl
from functools import partial

from flare_async.errors import ConnectFailed
from flare_async.limits import Limits
from flare_async.net.credentials import Credentials
from flare_async.transports.handshakes import Handshakes
from flare_async.transports.refused_link import RefusedLink
from flare_async.transports.stream import StreamListener
from flare_async.transports.tcp import frame_for, serve, split_address
from flare_async.transports.tls_handshake import Plan, Shared, TlsHandshake
from flare_async.transports.tls_link import TlsLink

__all__ = ["TlsListener", "TlsTransport"]


class TlsListener(StreamListener):
    """Accepts TLS links; those whose handshake failed come too, lost, to say why."""

    def __init__(self, handshakes: Handshakes) -> None:
        super().__init__()
        self._handshakes = handshakes

    async def aclose(self) -> None:
        """Stop listening; who waits to be accepted or shakes hands is refused."""
        await super().aclose()
        self._handshakes.close()


class TlsTransport:
    """Frames over TLS 1.3."""

    scheme = "tls"

    def __init__(self, limits: Limits, credentials: Credentials) -> None:
        self._limits = limits
        self._credentials = credentials
        self._shared = Shared(limits)
        self._client: ssl.SSLContext | None = None
        self._server: ssl.SSLContext | None = None

    async def connect(self, address: str) -> TlsLink:
        """Connect, bounded by ``handshake_timeout``; cancelling leaves nothing.

        Raises:
            ConnectFailed: nobody listens there, or answered in time, or is who it should be.
            ConfigError: the credentials cannot be used.
        """
        host, port = split_address(address)
        try:
            async with asyncio.timeout(self._limits.handshake_timeout):
                link = await self._shake_hands(host, port)
        except TimeoutError as exc:
            seconds = self._limits.handshake_timeout
            raise ConnectFailed(address, f"no answer within {seconds:g} s") from exc
        except OSError as exc:
            raise ConnectFailed(address, exc.strerror or str(exc)) from exc
        if isinstance(link, RefusedLink):
            raise ConnectFailed(address, *link.refusal) from link.error
        link.address = address
        return link

    async def listen(self, address: str) -> TlsListener:
        """Listen; the listener's address has the real port.

        Raises:
            ConnectFailed: the address cannot be listened on.
            ConfigError: the credentials cannot be used.
        """
        host, _ = split_address(address)
        if self._server is None:
            self._server = await asyncio.to_thread(self._credentials.server_context)
        handshakes = Handshakes(self._limits.handshake_timeout, self._limits.handshakes)
        listener = TlsListener(handshakes)
        plan = Plan(self._server, frame_for(host), listener.made, handshakes=handshakes)
        await serve(listener, address, lambda: TlsHandshake(self._shared, plan))
        return listener

    async def _shake_hands(self, host: str, port: int) -> TlsLink | RefusedLink:
        if self._client is None:
            self._client = await asyncio.to_thread(self._credentials.client_context)
        loop = asyncio.get_running_loop()
        made: asyncio.Future[TlsLink | RefusedLink] = loop.create_future()
        plan = Plan(self._client, frame_for(host), partial(settle, made), hostname=host)
        handshake = TlsHandshake(self._shared, plan)
        try:
            await loop.create_connection(lambda: handshake, host, port)
            return await made
        except BaseException:
            handshake.abort()
            raise


def settle(made: asyncio.Future[TlsLink | RefusedLink], link: TlsLink | RefusedLink) -> None:
    """Hand the outcome to who connects, unless that one has given up."""
    if made.done():
        link.abort()
    else:
        made.set_result(link)
