"""The session machine: both sides of the protocol, without a clock and without I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from flare_async.errors import LocalProtocolError
from flare_async.wire.channel import ChannelStatistics, OpenOptions, check_open
from flare_async.wire.events import Event
from flare_async.wire.fields import clean_message
from flare_async.wire.frames import TRAILER_BYTES, Frame, Goodbye, Open, Ping
from flare_async.wire.inbound import Inbound
from flare_async.wire.table import Side
from flare_async.wire.windows import CARRYING

__all__ = ["DEFAULT_OPTIONS", "ChannelStatistics", "OpenOptions", "SessionMachine", "Side"]

DEFAULT_OPTIONS: Final = OpenOptions()


class SessionMachine(Inbound):
    """One end of a session: give it what arrived, take from it what is to be sent.

    ``budget`` is the credit that this session may grant; without one only the windows bound it.
    Nothing but our Hello (and a Goodbye) leaves before the peer's Hello is in hand; opens and data
    may queue. Commands on a channel that was closed meanwhile are harmless, except those that would
    send.
    """

    __slots__ = ()

    @property
    def open_channels(self) -> int:
        """How many channels are open."""
        return len(self._table.channels)

    @property
    def has_frames(self) -> bool:
        """Whether ``frames_to_send`` would return a frame now."""
        return bool(self._outbox)

    @property
    def answers(self) -> bool:
        """Whether acknowledgements or other control frames wait."""
        outbox = self._outbox
        return outbox.acks is not None or outbox.control is not None

    def open(
        self, topic: str, header: bytes = b"", *, options: OpenOptions = DEFAULT_OPTIONS
    ) -> int:
        """Open a channel and return its id; it may be used at once.

        Raises:
            LocalProtocolError: a field cannot travel, or one side has said Goodbye.
            ResourceLimit: ``Limits.channels`` are open.
        """
        check_open(topic, header, options, self._limits.control_bytes)
        if self._left or self._outbox.left:
            raise LocalProtocolError(f"channel {topic!r} opened after a goodbye")
        peer = self._peer
        credit = 0 if peer is None else peer.credit(urgent=options.urgent)
        state = self._table.open(options, credit)
        frame = Open(
            state.id,
            topic,
            header,
            state.incoming.limit,
            options.end,
            options.urgent,
            options.destination,
            options.hops,
        )
        if self._resumable:
            state.opening = frame
        self._post(state.id, frame)
        return state.id

    def send(self, channel: int, view: bytes | bytearray | memoryview) -> None:
        """Queue bytes by reference: they must not change until they were acknowledged.

        Raises:
            LocalProtocolError: the channel is closed or this direction has ended.
        """
        self.send_all(channel, (view,))

    def end(self, channel: int, trailer: bytes = b"") -> None:
        """End our direction after the bytes that are queued.

        Raises:
            LocalProtocolError: closed or ended already, or the trailer is longer than 1024 bytes.
        """
        self.send_all(channel, (), trailer)

    def send_all(
        self,
        channel: int,
        views: Iterable[bytes | bytearray | memoryview],
        trailer: bytes | None = None,
    ) -> None:
        """Queue bytes as ``send`` does and, with a trailer, end our direction as ``end`` does.

        Raises:
            LocalProtocolError: as these two.
        """
        if trailer is not None and len(trailer) > TRAILER_BYTES:
            raise LocalProtocolError(
                f"channel {channel}: a trailer of {len(trailer)} bytes, at most {TRAILER_BYTES}"
            )
        state = self._table.channels.get(channel)
        if state is None:
            raise self._closed(channel)
        for view in views:
            data = view if type(view) is memoryview and view.format == "B" else memoryview(view)
            if data.format != "B" or data.ndim != 1:
                data = data.cast("B")
            if data.nbytes:
                state.queue(data)
        if trailer is not None:
            state.end(trailer)
        if state.sendable:
            self._outbox.schedule(state)

    def unsent(self, channel: int) -> int:
        """Return the bytes that are queued and in no frame yet; 0 for a closed channel."""
        state = self._table.local(channel)
        return 0 if state is None else state.unsent

    def owes(self, channel: int, *, ended: bool) -> bool:
        """Tell whether the peer must acknowledge more before all is sent, and with ``ended`` all.

        The peer of a closed channel owes nothing.
        """
        state = self._table.channels.get(channel)
        return state is not None and (state.unsent > 0 or (ended and not state.sending_done))

    def end_acknowledged(self, channel: int) -> bool:
        """Tell whether the peer has acknowledged our end; true for a closed channel."""
        state = self._table.local(channel)
        return state is None or state.sending_done

    def acknowledged(self, channel: int) -> int | None:
        """Return how many bytes the peer has consumed; None once it has all, the end too."""
        state = self._table.local(channel)
        return None if state is None or state.sending_done else state.outgoing.acknowledged

    def peer_ended(self, channel: int) -> bool:
        """Tell whether the peer has ended its direction; true for a closed channel."""
        state = self._table.channels.get(channel)
        return state is None or state.peer_ended

    def unread(self, channel: int) -> bool:
        """Tell whether bytes have arrived that the application has not consumed."""
        state = self._table.channels.get(channel)
        return state is not None and state.incoming.received > state.incoming.consumed

    def sendable(self, channel: int) -> bool:
        """Tell whether a channel waits for its turn on the link, not for credit or the peer."""
        state = self._table.channels.get(channel) or self._table.local(channel)
        return state is not None and state.sendable

    def withdraw(self, channel: int) -> int:
        """Drop the bytes that are queued and in no frame yet; return how many."""
        state = self._table.local(channel)
        if state is None:
            return 0
        dropped = state.withdraw()
        if state.sendable:
            self._outbox.schedule(state)
        else:
            self._outbox.unschedule(state)
        return dropped

    def consume(self, channel: int, nbytes: int, now: float) -> list[Event]:
        """Take note that the application consumed bytes; return ``Finished`` if that was all.

        Raises:
            LocalProtocolError: more than arrived.
        """
        state = self._table.channels.get(channel) or self._table.local(channel)
        return [] if state is None else self._consumed(state, nbytes, now)

    def lease(self, channel: int, total: int | None = None) -> None:
        """Count what arrives from now on as consumed: it goes to leased memory.

        That memory holds ``total`` bytes of the stream: one more resets the channel.
        """
        state = self._table.local(channel)
        if state is None:
            return
        state.leased = True
        state.incoming.lease(total)

    def answered(self, channel: int) -> None:
        """Take note that the peer's application has answered all that was sent.

        It must have consumed that, so nothing of it is kept to be sent again.
        """
        state = self._table.channels.get(channel)
        if state is not None:
            state.outgoing.acknowledged = state.outgoing.sent
            state.acknowledged()

    def may_carry(self, nbytes: int) -> bool:
        """Tell whether a channel that is opened now may bring so many bytes beside messages."""
        peer = self._peer
        return peer is not None and nbytes <= peer.carry and self.open_channels < CARRYING

    def may_promise(self, nbytes: int) -> bool:
        """Tell whether credit for so many bytes leaves half of the budget to others."""
        return self._table.spares(nbytes)

    def reset(self, channel: int, code: int, message: str) -> None:
        """Give a channel up, both directions; harmless when it is closed."""
        state = self._table.local(channel)
        if state is not None:
            self._drop(state)
            self._say_reset(channel, code, clean_message(message))

    def leave(self, code: int, message: str) -> None:
        """Say Goodbye: what is queued is dropped, nothing leaves after it."""
        self._outbox.leave(Goodbye(code, clean_message(message)))

    def pace(self, nbytes: int) -> None:
        """Let the link hold about ``nbytes`` of bulk that is sent and not acknowledged.

        The channels that have something to send share them evenly; by-reference links have no pace.
        """
        if self._table.pace is not None:
            self._table.pace.set(nbytes)

    def ping(self, nonce: int) -> None:
        """Queue a Ping; dropped while the session changes its link."""
        if not self._muted:
            self._graves.asked()
            self._outbox.post(Ping(nonce))

    def close(self) -> None:
        """Drop everything and return all credit to the budget; the link has ended."""
        self._table.close()
        self._outbox.clear()

    def statistics(self, channel: int) -> ChannelStatistics:
        """Return the byte counts of an open channel.

        Raises:
            LocalProtocolError: it is not open.
        """
        state = self._table.channels.get(channel)
        if state is None:
            raise self._closed(channel)
        return state.statistics()

    def frames_to_send(self, budget: int) -> list[Frame]:
        """Return frames with about ``budget`` bytes of payload, at least one if any is due."""
        return self._outbox.take(budget, self._frame_bytes)

    def _closed(self, channel: int) -> LocalProtocolError:
        self._table.local(channel)  # raises if it was never opened
        return LocalProtocolError(f"channel {channel} is closed")
