"""Opens a WebSocket: through a proxy's tunnel where the environment names one, and with TLS."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import ssl
from dataclasses import dataclass
from typing import Final, cast

from flare_async.errors import ConnectFailed, RemoteProtocolError
from flare_async.limits import Limits
from flare_async.transports.websocket_address import Place, Proxy
from flare_async.transports.websocket_http import Answer, HttpExchange

__all__ = ["Dialled", "accept_key", "dial"]

GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
HINTS: Final = {
    400: "something on the way did not pass the Upgrade and Connection headers on",
    401: "something on the way wants to know who you are",
    403: "something on the way forbids it",
    404: "no flare_async server under this path",
    426: "something on the way did not pass the Upgrade and Connection headers on",
    502: "a proxy is there, the server behind it is not",
    503: "a proxy is there, the server behind it is not ready, or full",
    504: "a proxy is there, the server behind it does not answer",
}
TLS_HINT: Final = "so does a server that is shown no certificate, or one that it does not accept"
LOST_HINT: Final = "something on the way did not pass the Upgrade and Connection headers on"


@dataclass(frozen=True, slots=True)
class Dialled:
    """An upgraded connection: who reads it so far, and what has come behind the answer."""

    exchange: HttpExchange
    transport: asyncio.Transport


def accept_key(key: str) -> str:
    """Return what a server answers to the key of a WebSocket request."""
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


async def dial(
    place: Place, limits: Limits, nonce: bytes, tls: ssl.SSLContext | None = None
) -> Dialled:
    """Open a WebSocket, bounded by ``handshake_timeout``; failing or cancelling leaves nothing.

    Raises:
        ConnectFailed: nobody is there, a proxy refuses, or whoever answers is no server of ours.
    """
    proxy = Proxy.of_environment(place)
    exchange = HttpExchange()
    try:
        async with asyncio.timeout(limits.handshake_timeout):
            await _reach(exchange, place, proxy, tls)
            await _upgrade(exchange, place, nonce)
    except (OSError, RemoteProtocolError) as exc:  # of which TimeoutError is one
        exchange.abort()
        through = "" if proxy is None else f"through the proxy {proxy}: "
        hint = TLS_HINT if tls is not None and isinstance(exc, ConnectionResetError) else ""
        raise ConnectFailed(str(place), through + _problem(exc, limits), hint) from exc
    except BaseException:
        exchange.abort()
        raise
    return Dialled(exchange, cast("asyncio.Transport", exchange.transport))


async def _reach(
    exchange: HttpExchange, place: Place, proxy: Proxy | None, tls: ssl.SSLContext | None
) -> None:
    loop = asyncio.get_running_loop()
    name = None if tls is None else place.host
    if proxy is None:
        await loop.create_connection(
            lambda: exchange, place.host, place.port, ssl=tls, server_hostname=name
        )
        return
    await loop.create_connection(lambda: exchange, proxy.host, proxy.port)
    lines = [f"CONNECT {place.authority} HTTP/1.1", f"Host: {place.authority}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    answer = await exchange.ask(_request(lines))
    if not 200 <= answer.status < 300:
        hint = "give it as http://USER:PASSWORD@HOST:PORT" if answer.status == 407 else ""
        raise ConnectFailed(str(place), f"the proxy {proxy} answered {answer}", hint)
    early = exchange.detach()
    if early:
        # Nobody has asked yet, so it is not from the server; inside TLS it would pass for its word.
        problem = f"the proxy {proxy} sent {len(early)} bytes behind its answer, before we asked"
        raise ConnectFailed(str(place), problem)
    if tls is not None and exchange.transport is not None:
        exchange.transport = await loop.start_tls(
            exchange.transport, exchange, tls, server_hostname=name
        )


async def _upgrade(exchange: HttpExchange, place: Place, nonce: bytes) -> None:
    key = base64.b64encode(nonce).decode()
    lines = [
        f"GET {place.path} HTTP/1.1",
        f"Host: {place.authority}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
    ]
    answer = await exchange.ask(_request(lines))
    if answer.status != 101:
        raise ConnectFailed(str(place), f"the answer is {answer}", _hint(answer))
    if answer.headers.get("sec-websocket-accept") != accept_key(key):
        raise ConnectFailed(str(place), "the answer is to another request", LOST_HINT)


def _request(lines: list[str]) -> bytes:
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _hint(answer: Answer) -> str:
    if 300 <= answer.status < 400:
        return f"it moved to {answer.headers.get('location', 'an unknown place')[:200]!a}"
    return HINTS.get(answer.status, "no flare_async server is there")


def _problem(exc: OSError | RemoteProtocolError, limits: Limits) -> str:
    match exc:
        case TimeoutError(errno=None):
            return f"no answer within {limits.handshake_timeout:g} s"
        case ssl.SSLCertVerificationError():
            return f"TLS: {exc.verify_message}"
        case ssl.SSLError():
            return f"TLS: {(exc.reason or str(exc)).replace('_', ' ').lower()}"
        case OSError():
            known = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else ""
            return known or str(exc) or type(exc).__name__
        case _:
            return f"whoever is there does not speak HTTP ({exc})"
