"""An HTTP proxy that opens tunnels (CONNECT) on this machine, and refuses on demand."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

REASONS = {403: "Forbidden", 407: "Proxy Authentication Required"}


@dataclass
class ConnectProxy:
    """Counts what it is asked; ``refuse`` is the status that it answers instead of a tunnel.

    With ``authorization`` only requests that carry this header's value get one. ``early`` is what
    it says behind its answer.
    """

    refuse: int = 0
    authorization: str = ""
    early: bytes = b""
    url: str = ""
    asked: list[str] = field(default_factory=list)
    carried: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and carry bytes both ways if it is granted."""
        with contextlib.closing(writer), contextlib.suppress(OSError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *headers = head.rstrip().split("\r\n")
            self.asked.append(line)
            method, target, _ = line.split(" ")
            status = self._judge(method, headers)
            if status:
                reason = REASONS.get(status, "No")
                writer.write(f"HTTP/1.1 {status} {reason}\r\nContent-Length: 0\r\n\r\n".encode())
                await writer.drain()
                return
            host, _, port = target.rpartition(":")
            there = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n" + self.early)
            with contextlib.closing(there[1]):
                await asyncio.gather(self._carry(reader, there[1]), self._carry(there[0], writer))

    def _judge(self, method: str, headers: list[str]) -> int:
        if self.refuse or method != "CONNECT":
            return self.refuse or 405
        wanted = f"Proxy-Authorization: {self.authorization}"
        return 407 if self.authorization and wanted not in headers else 0

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                self.carried += len(data)
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def connect_proxy(**options):
    """Yield a proxy that listens at ``url``."""
    proxy = ConnectProxy(**options)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
