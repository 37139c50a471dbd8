"""A connection that was refused before it became a link: it tells its session why, and lingers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from flare_async.errors import HandshakeFailed
from flare_async.limits import KIB, Limits
from flare_async.net.link import LinkReceiver
from flare_async.transports.byte_link import ByteLink
from flare_async.transports.tls_words import Refusal
from flare_async.wire.frames import Frame

__all__ = ["RefusedLink"]

DISCARDED: Final = 64 * KIB  # a peer that still sends is told no longer than this


class RefusedLink(ByteLink):
    """Lost from the start.

    The peer may have sent more than was read. A socket that closes then is reset, and the peer
    would never see why it was refused; so it is read, and dropped, until the peer leaves.
    """

    def __init__(
        self, limits: Limits, address: str, refusal: Refusal, transport: asyncio.Transport
    ) -> None:
        super().__init__(limits, limits.frame_bytes)
        self.address = address
        self.refusal = refusal
        self.error = HandshakeFailed(address, *refusal)
        self._transport = transport
        self._scratch = memoryview(bytearray(KIB))
        self._left = DISCARDED
        self._lost = True
        self._gone = transport.is_closing()

    @property
    def writable(self) -> bool:
        """Never."""
        return False

    @property
    def pending(self) -> int:
        """Nothing."""
        return 0

    def start(self, receiver: LinkReceiver) -> None:
        """Tell why."""
        receiver.lost(self.error)

    def send_soon(self, frames: Sequence[Frame]) -> None:
        """Drop the frames."""

    def linger(self, transport: asyncio.Transport) -> None:
        """End our direction and read until the peer has ended its own."""
        transport.write_eof()
        if not transport.is_reading():
            transport.resume_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where nobody looks."""
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        """Drop what was read; give up when there is no end to it."""
        self._left -= nbytes
        if self._left < 0:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that the peer has left."""
        self._leave(None)

    def _half_close(self, transport: asyncio.Transport) -> None:
        transport.close()
