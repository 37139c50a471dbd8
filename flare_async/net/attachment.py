"""One link's life under a session: what it brings, what it takes, and whether it is alive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flare_async.errors import FlareError, LinkLost, LocalProtocolError, RemoteProtocolError
from flare_async.limits import MIB
from flare_async.net.dispatch import take
from flare_async.net.greeting import BROKEN
from flare_async.net.heartbeat import Heartbeat
from flare_async.net.link import Link
from flare_async.net.outflow import wake_senders
from flare_async.net.pump import Pump
from flare_async.wire.frames import Frame, Landed

if TYPE_CHECKING:
    from flare_async.net.session import Session

__all__ = ["Attachment"]

MEASURING = 1  # the nonce of a ping that measures; a heartbeat's is 0
PATH_RATE = 4096 * MIB  # bytes a second: no single connection has moved more
SPURIOUS_SECONDS = 5.0
SHORT_PATH = 2 * MIB  # what a path without latency holds; more of it would only delay control


class Attachment:
    """Binds a link to a session until the link ends or another one takes its place.

    A session may outlive its links, one after the other. A link that was replaced has no say any
    more: its attachment is over before the next one begins, so nothing that is still in its buffers
    reaches the session.
    """

    __slots__ = ("_asked", "_heartbeat", "_session", "link", "over", "pump")

    def __init__(self, session: Session, link: Link) -> None:
        endpoint = session.endpoint
        self.link = link
        self.over = False
        self._asked = 0.0
        self._session = session
        self.pump = Pump(
            link,
            session.machine,
            session.limits,
            on_left=self._left,
            on_stall=self.lose,
            on_failure=self._break,
        )
        self.pump.bind(endpoint.clock, endpoint.watchdog, endpoint.tasks)
        self._heartbeat = Heartbeat(endpoint.clock, session.limits, self._ping, self._silent)

    def start(self, early: Sequence[Frame | Landed]) -> None:
        """Begin to move frames; ``early`` are those that the link has brought already."""
        self.link.start(self)
        if early:
            self.receive(early)
        self.pump.flush()
        if self._session.random.buggify("spurious reconnect"):
            self._lose_soon()

    def stop(self) -> None:
        """Move nothing any more; the link itself is closed by whoever ends the attachment."""
        self.over = True
        self._heartbeat.stop()
        self.pump.stop()

    def lose(self, error: FlareError) -> None:
        """Give the link up: it may hold half a frame, so it is never used again."""
        if not self.over:
            self._session.detach(self, error)
        self.link.abort()

    def measure(self) -> None:
        """Ask for a round trip while the link is still quiet."""
        if not self.link.by_reference:
            self._asked = self._session.clock.now()
            self._session.machine.ping(MEASURING)

    def measured(self) -> None:
        """Take note of the answer: a longer path holds more bytes."""
        session = self._session
        nbytes = int((session.clock.now() - self._asked) * PATH_RATE)
        session.machine.pace(min(max(nbytes, SHORT_PATH), session.limits.link_bytes))

    # For the link

    def receive(self, frames: Sequence[Frame | Landed]) -> None:
        """Hand on what one read brought; nothing, if it brought a part of a frame."""
        session, over = self._session, self.over
        if over:
            return
        now = session.clock.now()
        if not frames:
            self._heartbeat.moved = now
            session.flow.feed(now, 0)
            return
        if not self.link.by_reference and self._heartbeat.stopped:
            # Until the first word ``handshake_timeout`` bounds the wait; what lives in this process
            # cannot fall silent.
            self._heartbeat.start()
        self._heartbeat.heard = now
        try:
            for frame in frames:
                if self.over:  # the frame before may have ended the session
                    break
                take(session, frame, now)
        except RemoteProtocolError as exc:
            self._offended(exc)
        except Exception as exc:
            self._break(exc)
            raise
        self.pump.flush()

    def destination(self, channel: int, offset: int, length: int) -> memoryview | None:
        """Say where payload bytes may land; a channel that is gone has no say."""
        found = None if self.over else self._session.channels.get(channel)
        return None if found is None else found.destination(offset, length)

    def lost(self, error: FlareError | None) -> None:
        """Take note that the link has ended."""
        if self.over:
            return
        if isinstance(error, RemoteProtocolError) and not self._may_resume(error):
            self._offended(error)
            return
        peer = self._session.peer
        problem = "the connection ended without a goodbye" if error is None else str(error)
        if error is None or isinstance(error, RemoteProtocolError):
            error = LinkLost(peer, problem)
        self._session.detach(self, error)

    # Internals

    def _left(self) -> None:
        if self._session.flow.senders:
            wake_senders(self._session)

    def _break(self, problem: Exception) -> None:
        # A bug of ours: whoever waits on this session must not wait for ever because of it.
        session = self._session
        session.end(LocalProtocolError(f"{session!r}: {type(problem).__name__}: {problem}"))
        self.link.abort()

    def _offended(self, error: RemoteProtocolError) -> None:
        # Whoever has not shown yet that the session is his cannot end it: a proxy that answers in
        # the server's place, for instance.
        if self._session.machine.resuming:
            self.lose(LinkLost(self.link.address, str(error)))
        else:
            self._session.refuse(error)

    def _may_resume(self, error: RemoteProtocolError) -> bool:
        return self._session.resumable and error.reason in BROKEN

    def _lose_soon(self) -> None:
        """Lose a link that nothing is wrong with, in a simulation that wants it."""
        session = self._session
        if session.resumable:
            seconds = session.random.stream("spurious reconnect").uniform(0, SPURIOUS_SECONDS)
            error = LinkLost(session.peer, "given up for nothing, by a simulation")
            session.clock.call_at(session.clock.now() + seconds, lambda: self._lose_live(error))

    def _lose_live(self, error: FlareError) -> None:
        if not self.over:
            self.lose(error)

    def _ping(self) -> None:
        self._session.machine.ping(0)
        self.pump.flush()

    def _silent(self, seconds: float) -> None:
        self.lose(LinkLost(self._session.peer, f"silent for {seconds:.1f} s"))
