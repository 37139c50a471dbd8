"""What a relay passes on from the sites below it to its parent: pulls from the parent's shelf."""

from __future__ import annotations

from typing import Protocol

from flare_async.errors import AckStalled, ChannelReset, FlareError
from flare_async.limits import Limits
from flare_async.net.channel import Channel
from flare_async.net.session import Session
from flare_async.net.splice import Splice
from flare_async.roles.directory import Directory
from flare_async.roles.passing import AnyRequest, go_on, pull_bytes, pull_request
from flare_async.roles.turns import Turn, Turns
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions

__all__ = ["Readers", "Upward"]


class Readers(Protocol):
    """Is told how peers take what they ask for."""

    def stalled(self, site: str, error: FlareError) -> None:
        """Take note that a peer has stopped taking it."""

    def took(self, site: str) -> None:
        """Take note that a peer has taken all of one pull."""


class Upward:
    """Answers what peers below pull with what the parent has; a key is what opens it."""

    def __init__(
        self,
        limits: Limits,
        turns: Turns,
        directory: Directory,
        readers: Readers,
    ) -> None:
        self._limits = limits
        self._turns = turns
        self.directory = directory
        self.readers = readers
        self.parent: Session | None = None

    def pull(self, channel: Channel) -> None:
        """Pass a pull on to the parent when it is its turn."""
        request = pull_request(channel, self._limits)
        parent = self.parent
        if request is None:
            return
        if parent is None or parent.ended:
            channel.reset(ResetCode.UNREACHABLE, "the relay has no parent now")
        elif parent.link.by_reference:
            splice = Splice(channel)
            credit = channel.statistics().limit
            options = OpenOptions(window=credit, leased=True, end=channel.ended_there)
            go_on(splice, parent, channel.header, options)
        else:
            self._pull(channel, request, parent)

    def _pull(self, channel: Channel, request: AnyRequest, parent: Session) -> None:
        peer = channel.peer

        def start(window: int) -> bool:
            options = OpenOptions(window=window, end=channel.ended_there)
            return go_on(splice, parent, channel.header, options, self._turns.buffers)

        def over(error: FlareError | None) -> None:
            self._turns.over(turn)
            if error is None:
                self.readers.took(peer)
            elif blames(error, parent):
                self.readers.stalled(peer, error)

        splice = Splice(channel, over)
        weight = self.directory.weight(channel.session)
        turn = Turn(peer, pull_bytes(request), start, weight)
        self._turns.ask(turn)


def blames(error: FlareError, parent: Session) -> bool:
    """Return whether a pull ended because its reader took nothing any more."""
    if isinstance(error, ChannelReset):
        return error.reset_code == ResetCode.STALLED and error.peer == parent.peer
    return isinstance(error, AckStalled)
