"""What a session does with each event of its machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from flare_async.errors import ChannelReset, Dismissed, RemoteProtocolError, SessionGone
from flare_async.net.zeros import is_zeros
from flare_async.wire.events import (
    Arrived,
    Credited,
    Ended,
    Event,
    Finished,
    LandedBytes,
    Opened,
    Overran,
    PeerHello,
    PeerLeft,
    Ponged,
    Resumed,
    WasReset,
)
from flare_async.wire.frames import Data, Frame, Landed, ResetCode

if TYPE_CHECKING:
    from flare_async.net.channel import Channel
    from flare_async.net.session import Session

__all__ = ["handle", "take"]


def take(session: Session, frame: Frame | Landed, now: float) -> None:
    """Let the machine judge one frame and hand its events on."""
    if type(frame) is Landed:
        session.flow.feed(now, frame.length)
    elif type(frame) is Data and frame.payload:
        channel = session.channels.get(frame.channel)
        if channel is None or not channel.urgent or channel.lands:  # messages land nowhere
            landed = land(session, channel, frame, now)
            if landed is not frame and frame.end:
                take(session, landed, now)
                landed = end_of(frame)
            frame = landed
    for event in session.machine.receive(frame, now):
        HANDLERS[type(event)](session, event)


def handle(session: Session, event: Event) -> None:
    """Carry one event to the session or the channel that it is about."""
    HANDLERS[type(event)](session, event)


def land(session: Session, channel: Channel | None, frame: Data, now: float) -> Data | Landed:
    """Copy payload into the channel's lease, if it has one.

    A memory link brings the sender's own object; a byte transport has received straight into the
    lease, and its ``Landed`` does not come here.
    """
    if channel is None or not channel.urgent:
        session.flow.feed(now, len(frame.payload))
    if channel is None or not channel.lands:
        return frame
    if channel.taker is not None and is_zeros(frame.payload):
        return frame  # who takes them needs no copy
    view = channel.destination(frame.offset, len(frame.payload))
    if view is None or len(view) < len(frame.payload):
        return frame
    view[: len(frame.payload)] = frame.payload  # there may be room for more
    return Landed(frame.channel, frame.offset, len(frame.payload))


def end_of(frame: Data) -> Data:
    """Return what is left of an end frame whose payload has landed."""
    end = frame.offset + len(frame.payload)
    return Data(frame.channel, end, b"", True, frame.trailer, frame.done)


def _arrived(session: Session, event: Arrived) -> None:
    session.channels[event.channel].arrived(event.payload)


def _landed(session: Session, event: LandedBytes) -> None:
    session.channels[event.channel].landed_piece(event.length)


def _credited(session: Session, event: Credited) -> None:
    session.flow.credits += 1
    channel = session.channels.get(event.channel)  # gone if it could not take what came before
    if channel is not None:
        channel.credited()


def _ended(session: Session, event: Ended) -> None:
    channel = session.channels.get(event.channel)
    if channel is not None:
        channel.ended(event.trailer)


def _finished(session: Session, event: Finished) -> None:
    channel = session.channels.pop(event.channel, None)
    if channel is not None:
        channel.finished()


def _was_reset(session: Session, event: WasReset) -> None:
    channel = session.channels.pop(event.channel)
    channel.fail(ChannelReset(session.peer, channel.topic, event.code, event.message))


def _overran(session: Session, event: Overran) -> None:
    channel = session.channels.pop(event.channel)
    detail = f"{session.peer} {channel.topic}: more than {event.total} bytes"
    channel.fail(RemoteProtocolError("too_long", detail))


def _opened(session: Session, event: Opened) -> None:
    session.accept(event)


def _greeted(session: Session, event: PeerHello) -> None:
    session.greeted(event.hello)


def _left(session: Session, event: PeerLeft) -> None:
    reason = f"left with code {event.code} ({event.message})"
    if event.code == 0:
        session.end(None)
    elif event.code == ResetCode.GONE:
        session.end(SessionGone(session.peer, reason))
    else:
        session.end(Dismissed(session.peer, reason))


def _resumed(session: Session, event: Resumed) -> None:
    session.resumed()


def _ponged(session: Session, event: Ponged) -> None:
    session.ponged(event.nonce)


# One lookup instead of a row of comparisons: this runs for every frame.
HANDLERS: Final[Mapping[type, Callable[[Session, Any], None]]] = {
    Arrived: _arrived,
    LandedBytes: _landed,
    Credited: _credited,
    Ended: _ended,
    Finished: _finished,
    WasReset: _was_reset,
    Opened: _opened,
    Overran: _overran,
    PeerHello: _greeted,
    PeerLeft: _left,
    Ponged: _ponged,
    Resumed: _resumed,
}
