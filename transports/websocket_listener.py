"""The accepting side: aiohttp's server up to the upgrade, then a link."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, cast

from aiohttp import hdrs, web

from flare_async.limits import Limits
from flare_async.net.credentials import peer_name
from flare_async.transports.accept import ACCEPT_BURST, AcceptQueue, begin
from flare_async.transports.byte_link import shown_address
from flare_async.transports.websocket_address import Place
from flare_async.transports.websocket_dial import accept_key
from flare_async.transports.websocket_link import WebSocketLink, Wiring

__all__ = ["WebSocketListener"]

ACCEPT_QUEUE: Final = 1024
CLOSING_TURNS: Final = 100  # of the loop: what is idle has ended long before
SERVER: Final = "flare_async"
ABOUT: Final = (
    "This is a flare_async port: federated learning over WebSocket.\nClients connect to {address}\n"
)


class WebSocketListener(AcceptQueue[WebSocketLink]):
    """Accepts links under one path; whatever else is asked gets a short text.

    aiohttp reads requests, so it is its parser that meets strangers. The handler of a request that
    becomes a link lasts as long as the link: aiohttp's bookkeeping then ends with it.
    """

    def __init__(self, limits: Limits, place: Place, wiring: Wiring, frame_bytes: int) -> None:
        super().__init__(ACCEPT_QUEUE)
        self.address = str(place)
        self._limits = limits
        self._place = place
        self._wiring = wiring
        self._frame_bytes = frame_bytes
        self._living: set[WebSocketLink] = set()
        self._listening: asyncio.Server | None = None
        self._http = web.Server(self._handle, handler_cancellation=True)

    async def listen(self, tls: ssl.SSLContext | None) -> None:
        """Bind; ``address`` then has the real port.

        Raises:
            OSError: the port is taken, or the host is not here.
        """
        limits, place = self._limits, self._place
        secure = tls is not None
        server = await asyncio.get_running_loop().create_server(
            lambda: Door(self._http, self._say, limits.handshake_timeout),
            place.host,
            place.port,
            ssl=tls,
            backlog=ACCEPT_BURST,
            start_serving=False,
            reuse_address=True,
            ssl_handshake_timeout=limits.handshake_timeout if secure else None,
            ssl_shutdown_timeout=limits.shutdown_timeout if secure else None,
        )
        await begin(server)
        self._listening = server
        port = server.sockets[0].getsockname()[1]
        self.address = str(Place(place.scheme, place.host, port, place.path))

    async def aclose(self) -> None:
        """Stop listening; what waits to be accepted is refused, and idle connections end."""
        if self._listening is not None:
            self._listening.close()
        self.close()
        for connection in self._http.connections:
            connection.close()
        for _ in range(CLOSING_TURNS):
            live = sum(not link.lost for link in self._living)
            if len(self._http.connections) <= live:
                return
            await asyncio.sleep(0)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get(hdrs.UPGRADE, "").lower() != "websocket":
            return self._say(200 if request.method in {"GET", "HEAD"} else 405)
        if request.path != self._place.path:
            return self._say(404)
        key = request.headers.get(hdrs.SEC_WEBSOCKET_KEY, "")
        wanted = "upgrade" in request.headers.get(hdrs.CONNECTION, "").lower()
        version = request.headers.get(hdrs.SEC_WEBSOCKET_VERSION)
        if request.method != "GET" or not key or not wanted or version != "13":
            return self._say(400)
        return await self._accept(request, key)

    async def _accept(self, request: web.BaseRequest, key: str) -> web.StreamResponse:
        headers = {
            hdrs.UPGRADE: "websocket",
            hdrs.CONNECTION: "upgrade",
            hdrs.SEC_WEBSOCKET_ACCEPT: accept_key(key),
            hdrs.SERVER: SERVER,
        }
        response = web.StreamResponse(status=101, headers=headers)
        response.force_close()
        await response.prepare(request)
        link = self._linked(request)
        if link is None:
            return response
        self._living.add(link)
        try:
            if not self.offer(link):
                link.abort()
            await link.wait_gone()  # for ever: as long as the link lives
        finally:
            link.abort()
            self._living.discard(link)
        return response

    def _linked(self, request: web.BaseRequest) -> WebSocketLink | None:
        transport = request.transport
        if transport is None:
            return None
        early = Early()
        request.protocol.set_parser(cast("web.RequestHandler", early))  # type: ignore[arg-type]
        link = WebSocketLink(self._limits, self._frame_bytes, self._wiring)
        link.address = shown_address(transport.get_extra_info("peername"), self._place.scheme)
        security = transport.get_extra_info("ssl_object")
        link.identity = None if security is None else peer_name(security)
        link.take_over(transport, request.protocol, early.data)
        return link

    def _say(self, status: int) -> web.Response:
        text = ABOUT.format(address=self.address)
        response = web.Response(status=status, text=text, headers={hdrs.SERVER: SERVER})
        response.force_close()
        return response


class Door(web.RequestHandler):
    """aiohttp's reader of requests, which tells who does not speak HTTP what this port is."""

    def __init__(
        self, server: web.Server, say: Callable[[int], web.Response], patience: float
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=patience,  # who has not asked by then is cut off
            lingering_time=0,  # nobody's body is read
        )
        self._say = say

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
        return self._say(status)


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
