"""A site in bytes on a real socket: it says what it is told to say and reads when it is told."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from flare_async.limits import KIB, Limits
from flare_async.roles.messages import OFFER_SCHEMA, TASK_TOPIC
from flare_async.transfer.pull import PULL_SCHEMA, PULL_TOPIC, PullRequest
from flare_async.wire.codec import Decoder, encode
from flare_async.wire.frames import Hello, Open

__all__ = ["RawSite", "raw_site"]

RECEIVE_BUFFER = 16 * KIB


class RawSite:
    """One connection; ``frames`` are those that it has read."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.frames: list[object] = []
        self._reader = reader
        self._writer = writer
        self._decoder = Decoder(limits=Limits())

    def send(self, *frames: object) -> None:
        """Send frames."""
        for frame in frames:
            head, payload = encode(frame)
            self._writer.write(bytes(head) + bytes(payload))

    def send_bytes(self, data: bytes) -> None:
        """Send anything."""
        self._writer.write(data)

    async def until(self, kind: type, **fields: object) -> object:
        """Read until a frame of this kind with these fields has come; return it."""
        while True:
            for frame in self.frames:
                if isinstance(frame, kind) and all(
                    getattr(frame, name) == value for name, value in fields.items()
                ):
                    return frame
            data = await self._reader.read(KIB)
            if not data:
                raise EOFError(f"no {kind.__name__} among {self.frames}")
            self.frames += self._decoder.feed(data)

    async def ended(self) -> list[object]:
        """Read to the end of the connection; return all frames that have come."""
        with suppress(ConnectionError):
            while data := await self._reader.read(KIB):
                self.frames += self._decoder.feed(data)
        return self.frames

    async def greet(self, name: str, **fields: object) -> None:
        """Exchange hellos as a site of this name."""
        hello = {"version": 1, "session": name.encode().ljust(16, b"."), "epoch": 0, "token": b""}
        hello |= {"role": "client", "window": 64 * KIB, "frame_bytes": 2**20} | fields
        self.send(Hello(peer=name, **hello))
        await self.until(Hello)

    async def ask_for_model(self, name: str, nbytes: int, window: int) -> None:
        """Wait for a task and ask for the bytes of one tensor of its model."""
        offer = OFFER_SCHEMA.decode((await self.until(Open, topic=TASK_TOPIC)).header, Limits())
        request = PULL_SCHEMA.encode(PullRequest(offer.model.key, name, 0, nbytes))
        self.send(Open(1, PULL_TOPIC, request, window, end=True))


@asynccontextmanager
async def raw_site(address):
    """Connect with a small receive buffer; reading happens only when it is asked for."""
    place = urlsplit(address)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (place.hostname, place.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=KIB)
    try:
        yield RawSite(reader, writer)
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()
