"""A simulated link: frames as encoded bytes over two pipes, with the habits of a TCP link."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from flare_async.errors import FlareError, LinkLost, RemoteProtocolError
from flare_async.limits import KIB, Limits
from flare_async.net.link import LinkReceiver
from flare_async.testing.pipe import Hold, Medium, Pipe
from flare_async.testing.waiters import Waiters
from flare_async.testing.way import Way
from flare_async.wire.codec import Decoder, encode
from flare_async.wire.frames import Frame

__all__ = ["FRAME_BYTES", "SimLink", "linked_pair"]

FRAME_BYTES = 256 * KIB


class SimLink:
    """One end of a simulated connection.

    ``site`` is the name that the connecting end goes by, or None. ``cut``, ``freeze`` and
    ``half_open`` are for fault tests; they concern both directions, whichever end is asked.
    """

    by_reference = False
    identity: str | None = None

    def __init__(
        self, address: str, medium: Medium, limits: Limits, way: Way | None = None
    ) -> None:
        self.address = address
        self.site: str | None = None
        self.on_end: Callable[[], None] | None = None
        self.frame_bytes = min(FRAME_BYTES, limits.frame_bytes)
        self._medium = medium
        self._way = way
        self._pipe = Pipe(medium, self._departed, way)
        self._peer: SimLink = self
        self._decoder = Decoder(self._destination, limits=limits)
        self._receiver: LinkReceiver | None = None
        self._full = False
        self._ended = False
        self._error: FlareError | None = None
        self._waiters = Waiters()

    def __repr__(self) -> str:
        return f"<SimLink to {self.address}>"

    @property
    def writable(self) -> bool:
        """Whether the write buffer is below its mark of one frame."""
        return not self._full and not self._ended

    @property
    def pending(self) -> int:
        """Bytes in the write buffer."""
        return self._pipe.pending

    @property
    def closed(self) -> bool:
        """Whether the link has ended."""
        return self._ended

    @property
    def peer(self) -> SimLink:
        """The other end."""
        return self._peer

    def start(self, receiver: LinkReceiver) -> None:
        """Begin to read; a link that has ended tells so at once."""
        if self._ended:
            receiver.lost(self._error)
            return
        self._receiver = receiver
        self._peer._pipe.read(self)

    def send_soon(self, frames: Sequence[Frame]) -> None:
        """Encode the frames into the write buffer; dropped when the link has ended."""
        if self._ended:
            return
        parts: list[bytes | memoryview] = []
        for frame in frames if self._way is None else self._way.doubled(frames):
            head, payload = encode(frame)
            parts += (head, payload) if payload else (head,)
        self._pipe.write(parts)
        self._full = self._full or self._pipe.pending > self.frame_bytes

    async def wait_writable(self) -> None:
        """Wait until the write buffer is below a quarter of its mark, or the link has ended."""
        while self._full and not self._ended:
            await self._waiters.wait()

    def abort(self) -> None:
        """End the link now, dropping what is unsent."""
        self._pipe.drop()
        self._end(None)

    async def aclose(self) -> None:
        """Send what is pending, then end the link; cancelling aborts."""
        try:
            while self._pipe.pending and not self._ended:
                await self._waiters.wait()
        except asyncio.CancelledError:
            self.abort()
            raise
        self._end(None)

    def freeze(self, why: Hold = Hold.FROZEN) -> None:
        """Let nothing arrive at either end until ``thaw``; what waits is not lost."""
        for link in (self, self._peer):
            link._pipe.hold(why)

    def thaw(self, why: Hold = Hold.FROZEN) -> None:
        """Undo ``freeze``."""
        for link in (self, self._peer):
            link._pipe.let_go(why)

    def half_open(self) -> None:
        """Let the peer of either end vanish: nothing arrives any more, no end of the stream."""
        self.freeze(Hold.VANISHED)

    def hold(self, why: Hold) -> None:
        """Hold back what this end sends, until ``let_go``."""
        self._pipe.hold(why)

    def let_go(self, why: Hold) -> None:
        """Undo ``hold``."""
        self._pipe.let_go(why)

    def cut(self) -> None:
        """Break the connection: both ends are told at the loop's next turn, in this order."""
        self._pipe.sever()
        self._peer._pipe.sever()
        self._medium.clock.call_at(self._medium.clock.now(), self._cut)

    def arrived(self, data: bytes) -> None:
        """Decode what arrived and push the frames into the session."""
        rest = memoryview(data)
        while rest and not self._ended:
            try:
                room = self._decoder.buffer()
                count = min(len(room), len(rest))
                room[:count] = rest[:count]
                frames = self._decoder.advance(count)
            except RemoteProtocolError as error:
                self._end(error)
                return
            rest = rest[count:]
            if self._receiver is not None:
                self._receiver.receive(frames)

    def ended(self) -> None:
        """Take the end of the stream; inside a frame it is an error."""
        try:
            self._decoder.eof()
        except RemoteProtocolError as error:
            self._end(error)
        else:
            self._end(None)

    def _cut(self) -> None:
        for link in (self, self._peer):
            link._end(LinkLost(link.address, "the connection was cut"))

    def _destination(self, channel: int, offset: int, length: int) -> memoryview | None:
        receiver = self._receiver
        return None if receiver is None else receiver.destination(channel, offset, length)

    def _departed(self) -> None:
        if self._full and self._pipe.pending > self.frame_bytes // 4:
            return
        self._full = False
        self._waiters.wake()

    def _end(self, error: FlareError | None) -> None:
        """Tell the session, which may still say why it refuses; then send the rest and close."""
        if self._ended:
            return
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.lost(error)
        self._ended = True
        self._error = error
        if self._pipe.shut:  # the peer cannot learn of it
            self._peer._pipe.lose_reader()
        else:
            self._peer._pipe.sever()
            self._peer._departed()
        self._pipe.close()
        if self._peer._ended:
            self._pipe.sever()
        self._waiters.wake()
        if self.on_end is not None:
            self.on_end()


def linked_pair(here: SimLink, there: SimLink) -> tuple[SimLink, SimLink]:
    """Return two ends as those of one new connection."""
    here._peer, there._peer = there, here
    return here, there
