"""The accepting side: aiohttp's server up to the upgrade, then a link."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final, cast

from aiohttp import hdrs, web

from flare_async.limits import Limits
from flare_async.net.credentials import peer_name
from flare_async.transports.accept import ACCEPT_BURST, AcceptQueue, begin
from flare_async.transports.byte_link import shown_address
from flare_async.transports.handshakes import Handshakes
from flare_async.transports.websocket_address import Place
from flare_async.transports.websocket_dial import accept_key
from flare_async.transports.websocket_door import Door, Early, Entrance
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
        self._strangers = Handshakes(limits.handshake_timeout, limits.handshakes)
        self._http = web.Server(self._handle, handler_cancellation=True)

    async def listen(self, tls: ssl.SSLContext | None) -> None:
        """Bind; ``address`` then has the real port.

        Raises:
            OSError: the port is taken, or the host is not here.
        """
        place = self._place
        entrance = Entrance(self._limits, self._strangers, self._say, tls)
        server = await asyncio.get_running_loop().create_server(
            lambda: Door(self._http, entrance),
            place.host,
            place.port,
            backlog=ACCEPT_BURST,
            start_serving=False,
            reuse_address=True,
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
                break
            await asyncio.sleep(0)
        self._strangers.close()

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
        self._strangers.done(cast("Door", request.protocol))
        return link

    def _say(self, status: int) -> web.Response:
        text = ABOUT.format(address=self.address)
        response = web.Response(status=status, text=text, headers={hdrs.SERVER: SERVER})
        response.force_close()
        return response
