"""The session's side of a link, for tests of links alone: it keeps what it is told."""

from __future__ import annotations

from collections.abc import Sequence

from flare_async.errors import FlareError
from flare_async.testing.waiters import Waiters
from flare_async.wire.frames import Data, Frame, Landed

__all__ = ["Recorder"]


class Recorder:
    """Keeps frames, in order, and every ``lost``; lends ``memory`` as destination if given."""

    def __init__(self, memory: bytearray | None = None) -> None:
        self.frames: list[Frame | Landed] = []
        self.lost_with: list[FlareError | None] = []
        self._memory = memory
        self._waiters = Waiters()

    @property
    def payload(self) -> bytes:
        """The bytes of all data frames."""
        return b"".join(frame.payload for frame in self.frames if isinstance(frame, Data))

    def receive(self, frames: Sequence[Frame | Landed]) -> None:
        """Keep frames."""
        self.frames += frames
        self._waiters.wake()

    def destination(self, channel: int, offset: int, length: int) -> memoryview | None:
        """Lend memory, if there is any."""
        if self._memory is None:
            return None
        return memoryview(self._memory)[offset : offset + length]

    def lost(self, error: FlareError | None) -> None:
        """Keep the error."""
        self.lost_with.append(error)
        self._waiters.wake()

    async def until_frames(self, count: int) -> None:
        """Wait until ``count`` frames have come or the link has ended; the caller bounds it."""
        while len(self.frames) < count and not self.lost_with:
            await self._waiters.wait()

    async def until_lost(self) -> None:
        """Wait until the link has ended; the caller bounds it."""
        while not self.lost_with:
            await self._waiters.wait()
