"""The receiving half of a session machine: one rule for each frame that can arrive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flare_async.errors import RemoteProtocolError
from flare_async.wire.budgets import TINY_BYTES, Cheap
from flare_async.wire.channel import ChannelState
from flare_async.wire.events import (
    Arrived,
    Credited,
    Ended,
    Event,
    Finished,
    LandedBytes,
    Opened,
    Overran,
    Ponged,
    WasReset,
)
from flare_async.wire.frames import (
    Ack,
    Data,
    Frame,
    Goodbye,
    Hello,
    Landed,
    Open,
    Ping,
    Pong,
    Reset,
    ResetCode,
    Resume,
    Skipped,
)
from flare_async.wire.handshake import Handshake
from flare_async.wire.windows import CARRYING, FIRST_WINDOW

__all__ = ["Inbound"]

_CONTROL_FACTOR = 4  # control frames that may wait, for each channel that may be open


class Inbound(Handshake):
    """Adds ``receive`` to what begins and ends a link; ``SessionMachine`` adds the commands."""

    __slots__ = ()

    def receive(self, frame: Frame | Landed, now: float) -> list[Event]:
        """Take one frame of the peer; return what it means.

        Raises:
            RemoteProtocolError: it breaks the protocol; the link is to be closed.
        """
        if not self._flowing:
            return self._begin(frame, now)
        return _HANDLERS[type(frame)](self, frame, now)

    def _on_hello(self, frame: Hello, _: float) -> list[Event]:
        raise RemoteProtocolError("second_hello", f"from {frame.peer!a}")

    def _on_resume(self, frame: Resume, _: float) -> list[Event]:
        raise RemoteProtocolError("bad_resume", f"a Resume of {len(frame.positions)} not due")

    def _on_open(self, frame: Open, now: float) -> list[Event]:
        if self._own is None:
            raise RemoteProtocolError("hello_expected", "an Open before our Hello was sent")
        self._budgets.spend(Cheap.OPENS, now)
        self._budgets.spend(Cheap.RESETS, now, self._provoked)
        self._provoked = 0
        self._table.take_id(frame.channel)
        if self._outbox.left:
            return []
        if self._outbox.control_length > _CONTROL_FACTOR * self._limits.channels:
            raise RemoteProtocolError(
                "control_flood", f"{self._outbox.control_length} answers wait to be read"
            )
        problem = self._table.refusal()
        if problem:
            self._say_reset(frame.channel, ResetCode.REFUSED, problem)
            return []
        self._table.accept(frame, self._own.credit(urgent=frame.urgent))
        return [
            Opened(
                frame.channel,
                frame.topic,
                frame.header,
                frame.urgent,
                frame.end,
                frame.destination,
                frame.hops,
            )
        ]

    def _on_data(self, frame: Data, now: float) -> list[Event]:
        payload = frame.payload
        size = len(payload)
        if frame.end and not size:
            return self._on_end(frame, now)
        state = self._arrive(frame.channel, frame.offset, size)
        if state is None:
            return self._stray(now)
        if size < TINY_BYTES and not frame.end:
            self._budgets.spend(Cheap.MESSAGES if state.urgent else Cheap.TINY, now)
        if state.leased and not self._fits(state, size, now, last=frame.end):
            return [self._overran(state)]
        events: list[Event] = [Arrived(frame.channel, payload)]
        return events + self._ended(state, frame, now) if frame.end else events

    def _on_landed(self, frame: Landed, now: float) -> list[Event]:
        state = self._arrive(frame.channel, frame.offset, frame.length)
        if state is None:
            return self._stray(now)
        if frame.length < TINY_BYTES:
            self._budgets.spend(Cheap.MESSAGES if state.urgent else Cheap.TINY, now)
        if state.leased and not self._fits(state, frame.length, now):
            return [self._overran(state)]
        return [LandedBytes(frame.channel, frame.length)]

    def _arrive(self, channel: int, offset: int, length: int) -> ChannelState | None:
        state = self._table.channels.get(channel) or self._table.remote(channel)
        if state is None:
            return None
        if state.peer_ended:
            raise RemoteProtocolError("data_after_end", f"channel {channel} at offset {offset}")
        if not length:
            raise RemoteProtocolError("bad_length", f"empty data on channel {channel}")
        state.incoming.arrive(offset, length)
        unread = offset + length - state.incoming.consumed
        if state.urgent and unread > FIRST_WINDOW >= unread - length:
            self._check_carried()
        return state

    def _check_carried(self) -> None:
        if self._own is None or not self._own.carry:
            return  # what may come is what this side has granted to each
        many = self._table.carrying()
        if many > CARRYING:
            raise RemoteProtocolError("window_exceeded", f"tensors wait on {many} channels")

    def _fits(self, state: ChannelState, nbytes: int, now: float, *, last: bool = False) -> bool:
        window = state.incoming
        if window.received > window.total:
            return False
        if last:
            window.consume(nbytes, now)  # the final acknowledgement follows
        else:
            self._consumed(state, nbytes, now)
        return True

    def _overran(self, state: ChannelState) -> Overran:
        total = state.incoming.total
        self._drop(state)
        self._say_reset(state.id, ResetCode.PROTOCOL, f"more than {total} bytes")
        return Overran(state.id, total)

    def _on_end(self, frame: Data, now: float) -> list[Event]:
        state = self._table.channels.get(frame.channel) or self._table.remote(frame.channel)
        if state is None:
            return self._stray(now)
        received = state.incoming.received
        if state.peer_ended or frame.offset != received:
            raise RemoteProtocolError(
                "bad_end",
                f"channel {frame.channel} ended at {frame.offset}, {received} bytes received"
                + (", and it had ended before" if state.peer_ended else ""),
            )
        return self._ended(state, frame, now)

    def _ended(self, state: ChannelState, frame: Data, now: float) -> list[Event]:
        state.peer_ended = True
        events: list[Event] = [Ended(frame.channel, frame.trailer)]
        if frame.done and not state.sending_done:
            if not state.end_sent:
                raise RemoteProtocolError("bad_end", f"channel {state.id}: ours was not sent")
            self._sent_all(state)
            events.insert(0, Credited(frame.channel))  # whoever passes it on can say both at once
        return events + self._consumed(state, 0, now)

    def _on_ack(self, frame: Ack, now: float) -> list[Event]:
        state = self._table.channels.get(frame.channel) or self._table.remote(frame.channel)
        if state is None:
            return self._stray(now)
        window = state.outgoing
        if state.end_sent and frame.consumed == frame.limit == window.sent:
            # The credit of a direction is closed only when its end was consumed, too.
            advanced = not state.sending_done
            idle = not advanced
            self._sent_all(state)
        else:
            # More credit for nothing consumed is told once in a while; it could be told for ever.
            idle = frame.consumed == window.acknowledged
            advanced = window.acknowledge(frame.consumed, frame.limit)
            state.acknowledged()
            if state.sendable:
                self._outbox.schedule(state)
        if idle:
            self._budgets.spend(Cheap.IDLE_ACKS, now)
        events: list[Event] = [Credited(frame.channel)] if advanced else []
        return events + self._settle(state)

    def _sent_all(self, state: ChannelState) -> None:
        state.outgoing.acknowledged = state.outgoing.sent
        state.sending_done = True
        state.acknowledged()

    def _on_reset(self, frame: Reset, now: float) -> list[Event]:
        self._budgets.spend(Cheap.RESETS, now)
        state = self._table.remote(frame.channel)
        if state is None:
            return []
        self._drop(state)
        return [WasReset(frame.channel, frame.code, frame.message)]

    def _on_ping(self, frame: Ping, now: float) -> list[Event]:
        self._budgets.spend(Cheap.PINGS, now)
        self._outbox.pong(frame.nonce)
        return []

    def _on_pong(self, frame: Pong, now: float) -> list[Event]:
        self._budgets.spend(Cheap.PINGS, now)
        self._graves.answered()
        return [Ponged(frame.nonce)]

    def _on_goodbye(self, frame: Goodbye, _: float) -> list[Event]:
        return self._goodbye(frame)

    def _consumed(self, state: ChannelState, nbytes: int, now: float) -> list[Event]:
        window = state.incoming
        due = window.consume(nbytes, now)
        drained = window.consumed == window.received
        if state.peer_ended and drained:
            return self._close_receiving(state)
        # A sender's patience is measured by acknowledgements: once nothing is left to consume, no
        # later call would send the rest of them. Messages are answered, not acknowledged one by
        # one; a sender that waits for credit has sent more than a quarter of the window.
        if state.urgent:
            due = due and not window.ample
        elif nbytes:
            due = due or drained
        if due:
            state.opening = None  # who sends on a channel has it open
            self._outbox.acknowledge(state)
        return []

    def _close_receiving(self, state: ChannelState) -> list[Event]:
        if state.urgent and not state.end_sent:
            # Messages are answered: our last one will say it, and nobody waits for this.
            state.closing = True
            return []
        if not state.receiving_closed:
            state.receiving_closed = True
            self._outbox.unacknowledge(state)
            total = state.incoming.consumed
            self._post(state.id, Ack(state.id, total, total))
            state.incoming.finish()
        return self._settle(state)

    def _settle(self, state: ChannelState) -> list[Event]:
        if not (state.sending_done and state.receiving_closed):
            return []
        self._drop(state)
        if self._resumable:
            self._graves.finish(state.id, state.incoming.consumed)
        return [Finished(state.id)]

    def _stray(self, now: float) -> list[Event]:
        self._budgets.spend(Cheap.STRAYS, now)
        return []

    def _say_reset(self, channel: int, code: int, message: str) -> None:
        if not self._table.is_own(channel):
            self._provoked += 1  # counted with the next Open: a command brings no time
        frame = Reset(channel, int(code), message)
        if self._resumable:
            self._graves.reset(frame)
        self._post(channel, frame)

    def _drop(self, state: ChannelState) -> None:
        self._table.drop(state)
        self._outbox.forget(state)


# The table pairs each type with its own method, which no annotation of a dict can say.
_HANDLERS: Final[dict[type, Callable[..., list[Event]]]] = {
    Data: Inbound._on_data,
    Landed: Inbound._on_landed,
    Ack: Inbound._on_ack,
    Hello: Inbound._on_hello,
    Open: Inbound._on_open,
    Reset: Inbound._on_reset,
    Ping: Inbound._on_ping,
    Pong: Inbound._on_pong,
    Goodbye: Inbound._on_goodbye,
    Resume: Inbound._on_resume,
    Skipped: Inbound._skipped,
}
