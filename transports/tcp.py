"""``tcp://host:port``: plain TCP; port 0 listens on a free one."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

from flare_async.errors import ConfigError, ConnectFailed
from flare_async.limits import Limits
from flare_async.transports.accept import ACCEPT_BURST, begin
from flare_async.transports.stream import LOCAL_FRAME, REMOTE_FRAME, StreamLink, StreamListener

__all__ = ["TcpTransport", "frame_for", "serve", "split_address"]


class TcpTransport:
    """Frames over TCP. No encryption: for one machine or a private network."""

    scheme = "tcp"

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    async def connect(self, address: str) -> StreamLink:
        """Connect, bounded by ``handshake_timeout``; cancelling leaves nothing.

        Raises:
            ConnectFailed: nobody listens there, or nobody answered in time.
        """
        host, port = split_address(address)
        loop = asyncio.get_running_loop()
        link = StreamLink(self._limits, frame_for(host))
        try:
            async with asyncio.timeout(self._limits.handshake_timeout):
                await loop.create_connection(lambda: link, host, port)
        except TimeoutError as exc:
            seconds = self._limits.handshake_timeout
            raise ConnectFailed(address, f"no answer within {seconds:g} s") from exc
        except OSError as exc:
            raise ConnectFailed(address, exc.strerror or str(exc)) from exc
        link.address = address
        return link

    async def listen(self, address: str) -> StreamListener:
        """Listen; the listener's address has the real port. Raises ConnectFailed."""
        host, _ = split_address(address)
        listener = StreamListener()
        frame = frame_for(host)
        await serve(listener, address, lambda: StreamLink(self._limits, frame, listener.made))
        return listener


async def serve(
    listener: StreamListener, address: str, factory: Callable[[], asyncio.BaseProtocol]
) -> None:
    """Let a listener serve ``scheme://host:port``; its address gets the real port.

    Raises:
        ConnectFailed: the system refuses.
    """
    host, port = split_address(address)
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(
            factory, host, port, backlog=ACCEPT_BURST, reuse_address=True, start_serving=False
        )
        await begin(server)
    except OSError as exc:
        hint = "choose another port, or 0 for a free one"
        raise ConnectFailed(address, exc.strerror or str(exc), hint) from exc
    real = server.sockets[0].getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    scheme = address.partition("://")[0]
    listener.serve(server, f"{scheme}://{shown}:{real}")


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of ``scheme://host:port``. Raises ConfigError."""
    parts = urlsplit(address)
    try:
        port = parts.port
    except ValueError as exc:
        raise ConfigError("address", address, str(exc)) from exc
    if not parts.hostname or port is None:
        raise ConfigError("address", address, "is not scheme://host:port")
    try:
        parts.hostname.encode("idna")
    except UnicodeError as exc:
        raise ConfigError("address", address, "has no valid host name") from exc
    return parts.hostname, port


def frame_for(host: str) -> int:
    """Return the frame length that suits the way to ``host``."""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host in {"localhost", socket.gethostname()}
    return LOCAL_FRAME if local else REMOTE_FRAME
