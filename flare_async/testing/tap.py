"""A link with a tap: it counts what passes, in order, and can be held shut."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from flare_async.errors import FlareError
from flare_async.net.link import Link, LinkReceiver
from flare_async.wire.frames import Data, Frame, Landed

__all__ = ["Passed", "TappedLink"]


@dataclass(frozen=True, slots=True)
class Passed:
    """One frame that passed: its type, its channel (0 for none) and its payload's bytes."""

    sent: bool
    kind: type
    channel: int
    nbytes: int

    @property
    def is_payload(self) -> bool:
        """Whether bytes of a stream passed."""
        return self.nbytes > 0


class TappedLink:
    """Any link, seen from its session's side; ``passed`` lists frames in the order of passing.

    ``hold`` makes it look full, so that a test can queue several things and then watch in which
    order they leave; what the session was about to send waits until ``release``.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self.passed: list[Passed] = []
        self._held: asyncio.Future[None] | None = None
        self._receiver: LinkReceiver | None = None

    def __repr__(self) -> str:
        return f"<TappedLink over {self.link!r}>"

    @property
    def address(self) -> str:
        """The peer's address."""
        return self.link.address

    @property
    def identity(self) -> str | None:
        """What the connection vouches for."""
        return self.link.identity

    @property
    def frame_bytes(self) -> int:
        """The payload of one frame that suits the link."""
        return self.link.frame_bytes

    @property
    def by_reference(self) -> bool:
        """Whether payload objects arrive as they were sent."""
        return self.link.by_reference

    @property
    def writable(self) -> bool:
        """Whether the link is writable and not held."""
        return self._held is None and self.link.writable

    @property
    def pending(self) -> int:
        """Bytes that the link has not sent yet."""
        return self.link.pending

    def hold(self) -> None:
        """Look full until ``release``."""
        if self._held is None:
            self._held = asyncio.get_running_loop().create_future()

    def release(self) -> None:
        """Look as full as the link is."""
        held, self._held = self._held, None
        if held is not None and not held.done():
            held.set_result(None)

    def sent(self) -> list[Passed]:
        """Return what left, in order."""
        return [frame for frame in self.passed if frame.sent]

    def start(self, receiver: LinkReceiver) -> None:
        """Begin to deliver through the tap."""
        self._receiver = receiver
        self.link.start(self)

    def send_soon(self, frames: Sequence[Frame]) -> None:
        """Note the frames and hand them over."""
        self.passed += [passed(frame, sent=True) for frame in frames]
        self.link.send_soon(frames)

    async def wait_writable(self) -> None:
        """Wait for ``release`` and for the link, or return when it has ended."""
        while self._held is not None:
            await asyncio.shield(self._held)
        await self.link.wait_writable()

    def abort(self) -> None:
        """End the link now."""
        self.release()
        self.link.abort()

    async def aclose(self) -> None:
        """End the link after what is pending; cancelling aborts."""
        self.release()
        await self.link.aclose()

    # For the link, as its receiver

    def receive(self, frames: Sequence[Frame | Landed]) -> None:
        """Note what arrived and pass it on."""
        self.passed += [passed(frame, sent=False) for frame in frames]
        if self._receiver is not None:
            self._receiver.receive(frames)

    def destination(self, channel: int, offset: int, length: int) -> memoryview | None:
        """Ask the session."""
        receiver = self._receiver
        return None if receiver is None else receiver.destination(channel, offset, length)

    def lost(self, error: FlareError | None) -> None:
        """Tell the session."""
        self.release()
        if self._receiver is not None:
            self._receiver.lost(error)


def passed(frame: Frame | Landed, *, sent: bool) -> Passed:
    """Return what is noted of a frame: never its payload, which would keep memory alive."""
    nbytes = 0
    if isinstance(frame, Data):
        nbytes = len(frame.payload)
    elif isinstance(frame, Landed):
        nbytes = frame.length
    return Passed(sent, type(frame), getattr(frame, "channel", 0), nbytes)
