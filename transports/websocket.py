"""``ws://host:port/path`` and ``wss://``: links that pass HTTP proxies, ingresses and balancers."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from flare_async.errors import ConnectFailed
from flare_async.limits import Limits
from flare_async.net.credentials import Credentials, peer_name
from flare_async.net.rng import SystemRandom
from flare_async.transports.tcp import frame_for
from flare_async.transports.websocket_address import Place
from flare_async.transports.websocket_dial import dial
from flare_async.transports.websocket_link import SCRATCH_BYTES, WebSocketLink, Wiring
from flare_async.transports.websocket_listener import WebSocketListener

__all__ = ["WsTransport", "WssTransport"]

NONCE_BYTES: Final = 16
KEY_BITS: Final = 32


class WsTransport:
    """Frames over WebSockets, without encryption: for a private network, or behind an ingress.

    Connecting honours HTTP_PROXY and NO_PROXY.
    """

    scheme = "ws"

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._entropy = SystemRandom()
        # Masks keep a web page from writing what it likes into caches on the way. Nobody writes
        # web pages here, so what is asked of them is only that they differ.
        self._keys = self._entropy.stream("masks")
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))

    async def connect(self, address: str) -> WebSocketLink:
        """Connect, bounded by ``handshake_timeout``; cancelling leaves nothing.

        Raises:
            ConnectFailed: nobody is there, a proxy refuses, or it is no server of ours.
            ConfigError: the address or the proxy's is none.
        """
        place = Place.parse(address)
        nonce = self._entropy.token(NONCE_BYTES)
        dialled = await dial(place, self._limits, nonce, await self._client_context())
        link = WebSocketLink(self._limits, frame_for(place.host), self._wiring(dialled=True))
        link.address = address
        security = dialled.transport.get_extra_info("ssl_object")
        link.identity = None if security is None else peer_name(security)
        link.take_over(dialled.transport, dialled.exchange, dialled.exchange.detach())
        return link

    async def listen(self, address: str) -> WebSocketListener:
        """Listen; the listener's address has the real port.

        Raises:
            ConnectFailed: the port is taken.
            ConfigError: the address is none.
        """
        place = Place.parse(address)
        wiring = self._wiring(dialled=False)
        listener = WebSocketListener(self._limits, place, wiring, frame_for(place.host))
        try:
            await listener.listen(await self._server_context())
        except OSError as exc:
            hint = "choose another port, or 0 for a free one"
            raise ConnectFailed(address, exc.strerror or str(exc), hint) from exc
        return listener

    def _wiring(self, *, dialled: bool) -> Wiring:
        return Wiring(dialled, self._scratch, self._new_key)

    def _new_key(self) -> bytes:
        return self._keys.getrandbits(KEY_BITS).to_bytes(4, "big")

    async def _client_context(self) -> ssl.SSLContext | None:
        return None

    async def _server_context(self) -> ssl.SSLContext | None:
        return None


class WssTransport(WsTransport):
    """The same inside TLS; connecting honours HTTPS_PROXY and NO_PROXY."""

    scheme = "wss"

    def __init__(self, limits: Limits, credentials: Credentials) -> None:
        super().__init__(limits)
        self._credentials = credentials

    async def _client_context(self) -> ssl.SSLContext | None:
        return await asyncio.to_thread(self._credentials.client_context)

    async def _server_context(self) -> ssl.SSLContext | None:
        return await asyncio.to_thread(self._credentials.server_context)
