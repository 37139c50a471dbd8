"""What a transport gives to a session: a link that carries frames, and a listener that makes links.

A link moves frames, not bytes: ``memory`` hands the objects over, byte transports put them through
the codec. Arrival is a synchronous push (``LinkReceiver.receive``), never a queue, so that a read
pump has nothing to wait for. Departure is bounded by ``writable``: a session hands over a bounded
batch and then awaits ``wait_writable``, so a link's write buffer holds about one frame.

A session gives the loop no turn of its own between such a wait and the next batch. What keeps one
busy link from having the loop to itself is the links' contract: ``send_soon`` makes a link whose
buffer is past its mark unwritable before it returns, and ``wait_writable`` of an unwritable link
does not return before the loop has had a turn. ``flare_async.testing.conformance`` checks both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

from flare_async.errors import FlareError
from flare_async.wire.frames import Frame, Landed

__all__ = ["Link", "LinkReceiver", "Listener"]


class LinkReceiver(Protocol):
    """The session's side of a link; every method is called on the loop and must not block."""

    def receive(self, frames: Sequence[Frame | Landed]) -> None:
        """Take what one read brought, in order; nothing, if it brought a part of a frame."""

    def destination(self, channel: int, offset: int, length: int) -> memoryview | None:
        """Say where payload bytes of a channel may land; None means a scratch buffer."""

    def lost(self, error: FlareError | None) -> None:
        """Take note, once, that the link has ended; None after an orderly end of the stream."""


class Link(Protocol):
    """One connection to one peer."""

    @property
    def address(self) -> str:
        """The peer's address for messages, such as ``tcp://127.0.0.1:40312``."""

    @property
    def identity(self) -> str | None:
        """The name that the connection itself vouches for (a certificate's), or None."""

    @property
    def frame_bytes(self) -> int:
        """The payload of one frame that suits this link."""

    @property
    def by_reference(self) -> bool:
        """Whether payload objects arrive as the very objects that were sent."""

    @property
    def writable(self) -> bool:
        """Whether ``send_soon`` may be called without growing the write buffer past its mark.

        It turns false inside of ``send_soon``, or when the link ends; true only by a later turn of
        the loop, such as the one in which the system has taken bytes. It is never false for ever
        on a link that has not ended, and asking is cheap and changes nothing that a session sees.
        """

    @property
    def pending(self) -> int:
        """Bytes accepted from the session and not yet taken by the system."""

    def start(self, receiver: LinkReceiver) -> None:
        """Begin to deliver; what arrived before is delivered from here on."""

    def send_soon(self, frames: Sequence[Frame]) -> None:
        """Hand frames over whole, in order; payloads are referenced until they are sent.

        It may write at once but delivers nothing: what the peer answers comes in a later turn.
        Harmless after the link has ended: the frames are dropped, ``lost`` has told. What it raises
        is a bug, and ends the session.
        """

    async def wait_writable(self) -> None:
        """Wait until ``writable``, or return at once when the link has ended.

        While the link is neither writable nor ended it suspends, and does not return before one of
        the two is true: whoever waits in a loop gives everybody else a turn each time.
        Bounded by the caller (``send_timeout``); cancelling leaves the link as it was.
        """

    def abort(self) -> None:
        """End the link now, dropping what is unsent."""

    async def aclose(self) -> None:
        """Send what is pending, then end the link; bounded by the caller; cancelling aborts."""


class Listener(Protocol):
    """Accepts links; refuses rather than queue without bound."""

    @property
    def address(self) -> str:
        """Where it listens, with the real port."""

    def __aiter__(self) -> Self:
        """Return itself."""

    async def __anext__(self) -> Link:
        """Wait for ever for the next link (that is a listener's work); ends after ``aclose``."""

    async def aclose(self) -> None:
        """Stop listening; links already accepted live on."""
