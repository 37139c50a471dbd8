"""``unix:///path``: a socket file on this machine."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from flare_async.errors import ConfigError, ConnectFailed
from flare_async.limits import Limits
from flare_async.transports.accept import ACCEPT_BURST, begin
from flare_async.transports.stream import LOCAL_FRAME, StreamLink, StreamListener

__all__ = ["UnixTransport"]

PATH_BYTES = 107  # sun_path has 108 with the final zero


class UnixListener(StreamListener):
    """Removes its socket file when it closes."""

    async def aclose(self) -> None:
        """Stop listening and remove the socket file."""
        await super().aclose()
        with contextlib.suppress(FileNotFoundError):
            socket_path(self.address).unlink()


class UnixTransport:
    """Frames over a Unix socket; who may connect is decided by the folder's permissions."""

    scheme = "unix"

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    async def connect(self, address: str) -> StreamLink:
        """Connect, bounded by ``handshake_timeout``. Raises ConnectFailed."""
        link = StreamLink(self._limits, LOCAL_FRAME)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._limits.handshake_timeout):
                await loop.create_unix_connection(lambda: link, str(socket_path(address)))
        except (OSError, TimeoutError) as exc:
            raise ConnectFailed(address, exc.strerror or str(exc) or "no answer in time") from exc
        link.address = address
        return link

    async def listen(self, address: str) -> UnixListener:
        """Listen on a path that does not exist yet. Raises ConnectFailed."""
        path = socket_path(address)
        listener = UnixListener()
        try:
            server = await asyncio.get_running_loop().create_unix_server(
                lambda: StreamLink(self._limits, LOCAL_FRAME, listener.made),
                str(path),
                backlog=ACCEPT_BURST,
                start_serving=False,
            )
        except OSError as exc:
            raise ConnectFailed(address, exc.strerror or str(exc)) from exc
        try:
            await begin(server)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        listener.serve(server, address)
        return listener


def socket_path(address: str) -> Path:
    """Return the path of ``unix:///path``. Raises ConfigError when it is too long."""
    path = address.removeprefix("unix://")
    if len(path.encode()) > PATH_BYTES or not path.startswith("/"):
        problem = f"needs an absolute path of at most {PATH_BYTES} bytes"
        raise ConfigError("address", address, problem)
    return Path(path)
