"""What a Resume says, and how a session goes on when it has heard the peer's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flare_async.errors import RemoteProtocolError
from flare_async.wire.channel import ChannelState
from flare_async.wire.frames import Ack, Frame, Hello, Open, Position, Resume
from flare_async.wire.graves import Graves
from flare_async.wire.table import ChannelTable

__all__ = ["Rejoining", "resume_of"]


def resume_of(table: ChannelTable) -> Resume:
    """Return our Resume."""
    positions = [
        Position(channel, state.incoming.received, state.peer_ended)
        for channel, state in sorted(table.channels.items())
    ]
    return Resume(table.next_own, table.next_peer, tuple(positions))


@dataclass(frozen=True, slots=True)
class Rejoining:
    """One peer's Resume, applied to the channels that are open here.

    ``opened`` is what our own Resume said; ``hello`` tells what a channel begins with that the peer
    has not heard of yet.
    """

    table: ChannelTable
    graves: Graves
    opened: int
    hello: Hello

    def apply(self, resume: Resume) -> list[Frame]:
        """Rewind the channels; return the control frames that the peer may have missed, in order.

        Raises:
            RemoteProtocolError: it cannot be what the peer of this session has received.
        """
        self._check(resume)
        positions = {one.channel: one for one in resume.positions}
        frames: list[Frame] = []
        for channel, state in self.table.channels.items():
            position = positions.get(channel)
            if position is not None:
                state.rewind(position.received, position.ended)
                state.acknowledged()
            elif self.table.is_own(channel) and resume.expected <= channel < self.opened:
                frames.append(self._reopen(state))
        frames += self._last_words(resume.positions)
        for channel, state in self.table.channels.items():
            if state.receiving_closed:
                frames.append(Ack(channel, state.incoming.consumed, state.incoming.consumed))
        self.table.announce(resume.opened)
        return frames

    def _check(self, resume: Resume) -> None:
        table = self.table
        if not table.next_peer <= resume.opened or table.is_own(resume.opened):
            problem = f"it opens {resume.opened} next, it has opened {table.next_peer - 2}"
        elif resume.expected > self.opened or not table.is_own(resume.expected):
            problem = f"it expects {resume.expected}, the next one is {self.opened}"
        else:
            problem = self._strange(resume)
        if problem:
            raise RemoteProtocolError("bad_resume", problem)

    def _strange(self, resume: Resume) -> str:
        for one in resume.positions:
            end = resume.expected if self.table.is_own(one.channel) else resume.opened
            if one.channel >= end:
                return f"channel {one.channel} is open, {end} is the next one"
        return ""

    def _reopen(self, state: ChannelState) -> Open:
        opening = state.opening
        if opening is None or state.incoming.received or state.peer_ended:
            raise RemoteProtocolError(
                "bad_resume", f"channel {state.id} was never opened, but it was answered"
            )
        state.rewind(0, state.sending_done)
        state.outgoing.limit = self.hello.credit(urgent=state.urgent)
        state.incoming.first = state.incoming.limit
        return replace(opening, window=state.incoming.limit)

    def _last_words(self, positions: Sequence[Position]) -> list[Frame]:
        """Return how channels ended that are still open on the other side."""
        return [
            self.graves.answer(one.channel)
            for one in positions
            if one.channel not in self.table.channels
            and (self.table.is_own(one.channel) or one.channel < self.table.next_peer)
        ]
