"""What waits to leave: a control lane that goes first, then channels in turn."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Final

from flare_async.wire.channel import ChannelState
from flare_async.wire.frames import Ack, Data, Frame, Goodbye, Hello, Open, Pong, Resume

__all__ = ["MAX_PONGS", "Outbox"]

MAX_PONGS: Final = 16
_ACK_COST: Final = 32  # bytes on the wire, so that thousands of them end a batch as well

Turns = OrderedDict[int, ChannelState]


class Outbox:
    """Frames and channels with something to send; containers exist only while they are used.

    Order: control frames as they were queued, pongs, acknowledgements (the newest of each
    channel), urgent channels in turn, bulk channels in turn. No Data can overtake the Open of its
    channel, because Opens are control frames.
    """

    __slots__ = (
        "_bulk",
        "_held",
        "_hello",
        "_open",
        "_pongs",
        "_resume",
        "_urgent",
        "acks",
        "control",
        "left",
    )

    def __init__(self) -> None:
        self._hello: Hello | None = None
        self._resume: Resume | None = None
        self._open = False  # the peer's Hello is in hand, and its Resume if one is due
        self._held = False  # there is no link
        self.left = False  # our Goodbye is queued: nothing comes behind it
        self.control: deque[Frame] | None = None
        self._pongs: list[int] | None = None
        self.acks: Turns | None = None
        self._urgent: Turns | None = None
        self._bulk: Turns | None = None

    def __bool__(self) -> bool:
        """Tell whether a frame could leave now."""
        if not self._open:
            greets = self._hello is not None or self._resume is not None
            return greets or (self.left and bool(self.control))
        return bool(
            self.control
            or self.acks
            or self._urgent
            or self._bulk
            or self._pongs
            or self._hello is not None
            or self._resume is not None
        )

    @property
    def control_length(self) -> int:
        """Control frames that wait."""
        return len(self.control) if self.control else 0

    def greet(self, hello: Hello) -> None:
        """Queue our Hello, which leaves before all others."""
        self._hello = hello
        self._held = False

    def resume(self, frame: Resume) -> None:
        """Queue our Resume, which leaves next."""
        self._resume = frame

    def start(self, before: Sequence[Frame] = ()) -> None:
        """Let everything leave from now on, ``before`` ahead of what waits."""
        self._open = True
        if before:
            self.control = deque([*before, *(self.control or ())])

    def hold(self) -> None:
        """Drop everything and let nothing leave: there is no link."""
        self._open = False
        self._held = True
        self.clear()

    def post(self, frame: Frame) -> None:
        """Queue a control frame; dropped behind a Goodbye."""
        if self.left:
            return
        if self.control is None:
            self.control = deque()
        self.control.append(frame)

    def pong(self, nonce: int) -> None:
        """Queue an answer to a Ping, unless sixteen wait already."""
        if self._pongs is None:
            self._pongs = []
        if len(self._pongs) < MAX_PONGS and not self.left:
            self._pongs.append(nonce)

    def acknowledge(self, state: ChannelState) -> None:
        """Send the newest positions of a channel's incoming direction."""
        if self.left:
            return
        if self.acks is None:
            self.acks = OrderedDict()
        self.acks[state.id] = state

    def unacknowledge(self, state: ChannelState) -> None:
        """Drop the acknowledgement of a channel, if one waits."""
        if self.acks:
            self.acks.pop(state.id, None)
            self.acks = self.acks or None

    def schedule(self, state: ChannelState) -> None:
        """Give a channel that can send its turn; one that has it already keeps its place."""
        if self.left:
            return
        turns = self._urgent if state.urgent else self._bulk
        if turns is None:
            turns = OrderedDict()
            if state.urgent:
                self._urgent = turns
            else:
                self._bulk = turns
        turns.setdefault(state.id, state)

    def unschedule(self, state: ChannelState) -> None:
        """Take a channel's turn away."""
        turns = self._urgent if state.urgent else self._bulk
        if turns:
            turns.pop(state.id, None)

    def forget(self, state: ChannelState) -> None:
        """Drop the acknowledgement and the turn of a channel that is closed."""
        self.unacknowledge(state)
        self.unschedule(state)

    def leave(self, goodbye: Goodbye) -> None:
        """Make this the last frame; acknowledgements that are due leave before it."""
        if self.left:
            return
        if not self._open:
            self.control = self.acks = None
        acks, self.acks = self.acks, None
        for state in acks.values() if acks else ():
            self.post(_ack_of(state))
        if not self._held:
            self.post(goodbye)
        self.left = True
        self._pongs = self._urgent = self._bulk = None

    def clear(self) -> None:
        """Drop everything."""
        self._hello = self._resume = self.control = self._pongs = None
        self.acks = self._urgent = self._bulk = None

    def take(self, budget: int, frame_bytes: int) -> list[Frame]:
        """Return frames with about ``budget`` bytes, at least one if any can leave."""
        found: list[Frame] = []
        if self._hello is not None or self._resume is not None:
            found += [one for one in (self._hello, self._resume) if one is not None]
            self._hello = self._resume = None
        if not self._open and not self.left:
            return found
        budget = budget or 1
        if self.control or self._pongs:
            budget = self._take_control(found, budget)
        if self.acks:
            budget = _take_acks(self.acks, found, budget)
            self.acks = self.acks or None
        if self._urgent:
            budget = _take_turns(self._urgent, found, budget, frame_bytes)
            self._urgent = self._urgent or None
        if self._bulk:
            _take_turns(self._bulk, found, budget, frame_bytes)
            self._bulk = self._bulk or None
        return found

    def _take_control(self, found: list[Frame], budget: int) -> int:
        while self.control and budget > 0:
            frame = self.control.popleft()
            found.append(frame)
            if type(frame) is Open:
                budget -= len(frame.header)
        self.control = self.control or None
        if self._pongs:
            found += [Pong(nonce) for nonce in self._pongs]
            self._pongs = None
        return budget


def _take_acks(acks: Turns, found: list[Frame], budget: int) -> int:
    while acks and budget > 0:
        _, state = acks.popitem(last=False)
        found.append(_ack_of(state))
        budget -= _ACK_COST
    return budget


def _ack_of(state: ChannelState) -> Ack:
    consumed, limit = state.incoming.ack()
    return Ack(state.id, consumed, limit)


def _take_turns(turns: Turns, found: list[Frame], budget: int, frame_bytes: int) -> int:
    while turns and budget > 0:
        channel = next(iter(turns))
        state = turns[channel]
        # A share of the link may have shrunk meanwhile; then an acknowledgement is on its way.
        if state.sendable:
            frame: Data = state.next_frame(frame_bytes)
            found.append(frame)
            budget -= len(frame.payload)
        if (state.unsent or not state.end_sent) and state.sendable:
            turns.move_to_end(channel)  # behind the others
        else:
            del turns[channel]
    return budget
