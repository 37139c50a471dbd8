"""The state of one channel: two directions, each with its credit and its end."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from flare_async.errors import LocalProtocolError, RemoteProtocolError
from flare_async.wire.fields import is_name
from flare_async.wire.frames import Data, Open
from flare_async.wire.head import OFFSET_LIMIT
from flare_async.wire.pace import Pace
from flare_async.wire.retained import Retained
from flare_async.wire.windows import ReceiveWindow, SendWindow

__all__ = ["ChannelState", "ChannelStatistics", "OpenOptions", "check_open"]


_MAX_HOPS = 255
_OPEN_OVERHEAD = 32  # what msgpack adds around header, topic and destination, at most


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """How a channel is opened.

    ``window`` is the credit for what the acceptor sends (None: ``Limits.window_bytes``, as far as
    the budget allows); with ``leased`` arriving bytes go to memory of the application, so they
    count as consumed on arrival and any window is granted whole.
    """

    window: int | None = None
    end: bool = False
    urgent: bool = False
    leased: bool = False
    destination: str = ""
    hops: int = 0


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """Byte counts of a channel; ``limit`` is up to where this side may send.

    ``end_acknowledged``: this side has ended, and the peer has consumed everything and the end.
    """

    sent: int
    acknowledged: int
    limit: int
    received: int
    consumed: int
    unsent: int
    end_acknowledged: bool


def check_open(topic: str, header: bytes, options: OpenOptions, most: int) -> None:
    """Check that an Open can travel in ``most`` bytes.

    Raises:
        LocalProtocolError: a field that the peer would refuse.
    """
    if not is_name(topic):
        raise LocalProtocolError(f"{topic[:80]!a} cannot be a topic")
    if options.destination and not is_name(options.destination):
        raise LocalProtocolError(f"{options.destination[:80]!a} cannot be a destination")
    if not 0 <= options.hops <= _MAX_HOPS or not 0 <= (options.window or 0) <= OFFSET_LIMIT:
        raise LocalProtocolError(f"{topic}: {options.hops} hops, a window of {options.window}")
    size = len(header) + _OPEN_OVERHEAD
    if size + 4 * len(topic) + 4 * len(options.destination) <= most:
        return
    size += len(topic.encode()) + len(options.destination.encode())
    if size > most:
        raise LocalProtocolError(f"{topic}: opening takes {size} bytes, at most {most} may be")


class ChannelState:
    """What a session machine knows about one open channel.

    With ``resumable`` it keeps references to what was framed until the peer acknowledges it.
    """

    __slots__ = (
        "_framed",
        "_queue",
        "_resumable",
        "_retained",
        "_trailer",
        "closing",
        "end_sent",
        "ending",
        "id",
        "incoming",
        "leased",
        "opening",
        "outgoing",
        "pace",
        "peer_ended",
        "receiving_closed",
        "sending_done",
        "unsent",
        "urgent",
    )

    def __init__(
        self, channel: int, outgoing: SendWindow, incoming: ReceiveWindow, resumable: bool
    ) -> None:
        self.id = channel
        self.outgoing = outgoing
        self.incoming = incoming
        self.urgent = False
        self.leased = False
        self.unsent = 0  # bytes queued and not framed
        self.ending = False  # no more bytes may be queued
        self.end_sent = False
        self.sending_done = False  # the peer acknowledged everything, the end included
        self.peer_ended = False
        self.receiving_closed = False  # the peer was told that everything was consumed
        self.closing = False  # our end frame tells it
        self.pace: Pace | None = None  # of bulk on a link that carries bytes
        self.opening: Open | None = None  # ours, until the peer is known to have it
        self._queue: deque[memoryview] | None = None
        self._trailer = b""
        self._resumable = resumable
        self._retained: Retained | None = None
        self._framed = 0  # up to where bytes were framed before the last rewind

    @property
    def sendable(self) -> bool:
        """Whether ``next_frame`` has a frame now."""
        if self.unsent:
            window = self.outgoing
            return window.limit > window.sent if self.pace is None else self.room > 0
        return self.ending and not self.end_sent

    @property
    def room(self) -> int:
        """Bytes that may be sent now."""
        window = self.outgoing
        if self.pace is None:
            return window.limit - window.sent
        return min(window.limit, window.acknowledged + self.pace.share) - window.sent

    def queue(self, view: memoryview) -> None:
        """Queue bytes by reference.

        Raises:
            LocalProtocolError: this direction has ended.
        """
        if self.ending:
            raise LocalProtocolError(f"channel {self.id}: bytes sent after the end")
        if self._queue is None:
            self._queue = deque()
        self._queue.append(view)
        if self.pace is None:
            self.unsent += len(view)
        else:
            self._owe(self.unsent + len(view))

    def end(self, trailer: bytes) -> None:
        """End this direction after what is queued.

        Raises:
            LocalProtocolError: it has ended already.
        """
        if self.ending:
            raise LocalProtocolError(f"channel {self.id}: ended twice")
        self.ending = True
        self._trailer = trailer

    def close_sending(self) -> None:
        """Take note that this direction ended with the Open."""
        self.ending = self.end_sent = self.sending_done = True

    def withdraw(self) -> int:
        """Drop what is queued and was never framed; return how many bytes that was."""
        again = max(0, self._framed - self.outgoing.sent)
        left = dropped = self.unsent - again
        self._owe(again)
        while left and self._queue:
            left -= len(self._queue.pop())
        self._queue = self._queue or None
        return dropped

    def next_frame(self, most: int) -> Data:
        """Return the next frame of a sendable channel, with at most ``most`` bytes."""
        if not self._queue:
            return self._last_frame(self.outgoing.sent, b"")
        view, window = self._queue[0], self.outgoing
        whole, room = len(view), window.limit - window.sent if self.pace is None else self.room
        size = whole if whole <= most and whole <= room else min(most, room)
        if size == whole:
            self._queue.popleft()
            self._queue = self._queue or None  # an idle channel holds no empty deque
        else:
            self._queue[0] = view[size:]
            view = view[:size]
        offset = window.sent
        window.spend(size)
        if self.pace is None:
            self.unsent -= size
        else:
            self._owe(self.unsent - size)
        if self._retained is not None:
            self._retained.append(view)
        elif self._resumable:
            self._retained = Retained(offset, view)
        if self.ending and not self.unsent:
            return self._last_frame(offset, view)
        return Data(self.id, offset, view)

    def _last_frame(self, offset: int, payload: bytes | memoryview) -> Data:
        self.end_sent = True
        if self.closing:
            self.receiving_closed = True
            self.incoming.finish()
        return Data(self.id, offset, payload, True, self._trailer, self.closing)

    def acknowledged(self) -> None:
        """Let go of what the peer has acknowledged: that it will never be asked for again."""
        self.opening = None
        if self._retained is not None:
            self._retained.trim(self.outgoing.acknowledged)
            self._retained = self._retained or None

    def rewind(self, received: int, ended: bool) -> None:
        """Go on behind what the peer has received; send the end again if it has not seen it.

        Raises:
            RemoteProtocolError: it denies what it has acknowledged, or claims what was never sent.
        """
        window = self.outgoing
        sent = window.sent
        saw_all = self.end_sent and received == sent
        fits = window.acknowledged <= received <= sent and (ended or not self.sending_done)
        if not fits or (ended and not saw_all):
            raise RemoteProtocolError(
                "bad_resume",
                f"channel {self.id}: {received} bytes received{' and the end' if ended else ''}, "
                f"{window.acknowledged} acknowledged, {sent} sent",
            )
        if self._retained is not None and received < sent:
            self._framed = max(self._framed, sent)
            again = self._retained.rewind(sent, received)
            self._queue = deque([*again, *(self._queue or ())])
            self._owe(self.unsent + sent - received)
            window.sent = received
            self._retained = self._retained or None
        self.end_sent = ended

    def close(self) -> None:
        """Leave the pace of the link to the others."""
        if self.pace is not None and self.unsent:
            self.pace.left()

    def statistics(self) -> ChannelStatistics:
        """Return the byte counts."""
        going, coming = self.outgoing, self.incoming
        return ChannelStatistics(
            sent=going.sent,
            acknowledged=going.acknowledged,
            limit=going.limit,
            received=coming.received,
            consumed=coming.consumed,
            unsent=self.unsent,
            end_acknowledged=self.sending_done,
        )

    def _owe(self, unsent: int) -> None:
        if self.pace is not None and (unsent == 0) != (self.unsent == 0):
            if unsent:
                self.pace.joined()
            else:
                self.pace.left()
        self.unsent = unsent
