"""A stream link that counts its reads, their landing places and the frames in both directions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from flare_async.errors import FlareError
from flare_async.limits import Limits
from flare_async.net.link import LinkReceiver
from flare_async.transports.stream import LOCAL_FRAME, StreamLink
from flare_async.wire.frames import Frame, Landed

__all__ = ["WatchedLink"]


class WatchedLink(StreamLink):
    """Counts into ``tally``: reads, bytes that were not leased, frames in and out."""

    def __init__(self, limits: Limits, tally: Counter[str]) -> None:
        super().__init__(limits, LOCAL_FRAME)
        self._tally = tally
        self._leased_room = False

    def start(self, receiver: LinkReceiver) -> None:
        """Begin to read, through a receiver that counts."""
        super().start(WatchedReceiver(receiver, self._tally))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the product's buffer; one that was asked of the session is leased."""
        asked = self._tally["asked"]
        room = super().get_buffer(sizehint)
        self._leased_room = self._tally["asked"] > asked
        return room

    def buffer_updated(self, nbytes: int) -> None:
        """Count a read."""
        self._tally["reads"] += 1
        if not self._leased_room:
            self._tally["scratch_bytes"] += nbytes
        super().buffer_updated(nbytes)

    def send_soon(self, frames: Sequence[Frame]) -> None:
        """Count what is sent."""
        self._tally["frames_out"] += len(frames)
        super().send_soon(frames)


class WatchedReceiver:
    """Counts what a link delivers and hands it on."""

    def __init__(self, inner: LinkReceiver, tally: Counter[str]) -> None:
        self._inner = inner
        self._tally = tally

    def receive(self, frames: Sequence[Frame | Landed]) -> None:
        """Count frames and hand them on."""
        self._tally["frames_in"] += len(frames)
        self._inner.receive(frames)

    def destination(self, channel: int, offset: int, length: int) -> memoryview | None:
        """Count a question that found leased memory, and hand it on."""
        found = self._inner.destination(channel, offset, length)
        self._tally["asked"] += found is not None
        return found

    def lost(self, error: FlareError | None) -> None:
        """Hand the end on."""
        self._inner.lost(error)
