"""The open channels of a session: their ids, how many there may be, and their credit."""

from __future__ import annotations

from enum import IntEnum

from flare_async.errors import LocalProtocolError, RemoteProtocolError, ResourceLimit
from flare_async.limits import Limits
from flare_async.wire.channel import ChannelState, OpenOptions
from flare_async.wire.frames import Open
from flare_async.wire.pace import Pace
from flare_async.wire.windows import FIRST_WINDOW, CreditBudget, ReceiveWindow, SendWindow

__all__ = ["ChannelTable", "Side"]

_LAST_ID = 2**32 - 1


class Side(IntEnum):
    """Which end of a link this is; the value is the first channel id that it opens."""

    CONNECTOR = 1
    ACCEPTOR = 2


class ChannelTable:
    """Channels by id. Ids are used once, in order, odd from the connector, even from the acceptor.

    So one number a side tells an id that is closed from one that was never opened.
    """

    __slots__ = (
        "_announced",
        "_budget",
        "_limits",
        "_next_own",
        "_next_peer",
        "_resumable",
        "channels",
        "pace",
    )

    def __init__(
        self, side: Side, limits: Limits, budget: CreditBudget | None, resumable: bool
    ) -> None:
        self._limits = limits
        self._budget = budget
        self._next_own = int(side)
        self._next_peer = 3 - side
        self._announced = 0  # ids of the peer below this one may be left out
        self._resumable = resumable
        self.channels: dict[int, ChannelState] = {}
        self.pace: Pace | None = None  # of a link that carries bytes

    @property
    def next_own(self) -> int:
        """The id that this side opens next."""
        return self._next_own

    @property
    def next_peer(self) -> int:
        """The id that the peer is expected to open next."""
        return self._next_peer

    def is_own(self, channel: int) -> bool:
        """Tell whether an id is one of those that this side opens."""
        return (channel - self._next_own) % 2 == 0

    def closed(self, channel: int) -> bool:
        """Tell whether an id that is not open was open once."""
        return 0 < channel < (self._next_own if self.is_own(channel) else self._next_peer)

    def local(self, channel: int) -> ChannelState | None:
        """Return a channel that the application names, or None if it is closed.

        Raises:
            LocalProtocolError: it was never opened.
        """
        state = self.channels.get(channel)
        if state is None and not self.closed(channel):
            raise LocalProtocolError(f"channel {channel} was never opened")
        return state

    def remote(self, channel: int) -> ChannelState | None:
        """Return a channel that the peer names, or None if it is closed.

        Raises:
            RemoteProtocolError: it was never opened.
        """
        state = self.channels.get(channel)
        if state is None and not self.closed(channel):
            raise RemoteProtocolError("unknown_channel", f"channel {channel} was never opened")
        return state

    def open(self, options: OpenOptions, credit: int) -> ChannelState:
        """Open a channel of ours that may send ``credit`` bytes.

        Raises:
            ResourceLimit: as many channels as may be are open.
            LocalProtocolError: the ids are used up.
        """
        if len(self.channels) >= self._limits.channels:
            raise ResourceLimit("channels", len(self.channels) + 1, self._limits.channels)
        channel = self._next_own
        if channel > _LAST_ID:
            raise LocalProtocolError(f"channel ids are used up after {channel - 2}")
        self._next_own = channel + 2
        window = self._own_window(options)
        state = ChannelState(channel, SendWindow(credit), window, self._resumable)
        self._classify(state, urgent=options.urgent)
        state.leased = options.leased
        if options.end:
            state.close_sending()
        self.channels[channel] = state
        return state

    def _own_window(self, options: OpenOptions) -> ReceiveWindow:
        full = self._limits.window_bytes if options.window is None else options.window
        if options.leased or self._budget is None:
            return ReceiveWindow(full, full, None)
        window = ReceiveWindow(min(full, FIRST_WINDOW), full, self._budget)
        window.widen()
        return window

    def take_id(self, channel: int) -> None:
        """Count the id of a channel that the peer opens as used.

        Raises:
            RemoteProtocolError: it is not the next one, and no others were left out with notice.
        """
        if channel != self._next_peer or channel > _LAST_ID:
            skips = self._next_peer < channel <= self._announced
            if not skips or self.is_own(channel) or channel > _LAST_ID:
                raise RemoteProtocolError(
                    "bad_channel", f"channel {channel} opened, the next one is {self._next_peer}"
                )
        self._next_peer = channel + 2

    def announce(self, opened: int) -> None:
        """Take note that ids of the peer below ``opened`` may be left out from now on."""
        self._announced = opened

    def refusal(self) -> str:
        """Return why a channel of the peer cannot be accepted, or nothing."""
        count = len(self.channels)
        return f"{count} channels are open" if count >= self._limits.channels else ""

    def accept(self, frame: Open, credit: int) -> ChannelState:
        """Add a channel of the peer, which may send ``credit`` bytes."""
        if frame.end:
            incoming = ReceiveWindow(0, 0, None)
        else:
            # Messages never need more than what the channel began with.
            full = credit if frame.urgent else max(credit, self._limits.window_bytes)
            incoming = ReceiveWindow(credit, full, self._budget)
        outgoing = SendWindow(frame.window)
        state = ChannelState(frame.channel, outgoing, incoming, self._resumable)
        self._classify(state, urgent=frame.urgent)
        state.peer_ended = state.receiving_closed = frame.end
        self.channels[frame.channel] = state
        return state

    def spares(self, nbytes: int) -> bool:
        """Tell whether ``nbytes`` of credit can be promised, and half of it be left for others."""
        return self._budget is not None and self._budget.spares(nbytes)

    def carrying(self) -> int:
        """Count the peer's urgent channels on which more than messages waits to be read."""
        return sum(
            state.urgent
            and not self.is_own(state.id)
            and state.incoming.received - state.incoming.consumed > FIRST_WINDOW
            for state in self.channels.values()
        )

    def drop(self, state: ChannelState) -> None:
        """Forget a channel and return its credit."""
        del self.channels[state.id]
        state.close()
        state.incoming.finish()

    def _classify(self, state: ChannelState, *, urgent: bool) -> None:
        state.urgent = urgent
        if not urgent:
            state.pace = self.pace

    def close(self) -> None:
        """Forget all channels and return their credit."""
        for state in list(self.channels.values()):
            self.drop(state)
