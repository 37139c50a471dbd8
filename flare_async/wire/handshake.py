"""What must be said on each link before anything flows, and how a session changes links."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from flare_async.errors import LocalProtocolError, RemoteProtocolError
from flare_async.limits import Limits
from flare_async.wire.budgets import Budgets, Cheap
from flare_async.wire.events import Event, PeerHello, PeerLeft, Resumed
from flare_async.wire.frames import (
    PROTOCOL_VERSION,
    Frame,
    Goodbye,
    Hello,
    Landed,
    Resume,
    Skipped,
)
from flare_async.wire.graves import Graves
from flare_async.wire.head import LENGTH_LIMIT
from flare_async.wire.outbox import Outbox
from flare_async.wire.pace import Pace
from flare_async.wire.resume import Rejoining, resume_of
from flare_async.wire.table import ChannelTable, Side
from flare_async.wire.windows import CreditBudget

__all__ = ["Handshake"]


class _Stage(Enum):
    """Where a session is between two links."""

    DETACHED = "no link"
    GREETING = "waiting for a Hello"
    RESUMING = "waiting for a Resume"
    FLOWING = "flowing"
    OVER = "the peer has left"


class Handshake:
    """The state that all parts of a session machine share, and what begins and ends a link.

    While the session has no link, commands change its state and queue no control frames: those are
    made anew from the state when the peers have compared what arrived (``Rejoining``). Only of a
    channel that was opened since our Resume was written is spoken in the usual way.
    """

    __slots__ = (
        "_budgets",
        "_flowing",
        "_frame_bytes",
        "_graves",
        "_left",
        "_limits",
        "_muted",
        "_outbox",
        "_own",
        "_peer",
        "_provoked",
        "_rejoining",
        "_resumable",
        "_stage",
        "_table",
        "side",
    )

    def __init__(
        self,
        side: Side,
        limits: Limits,
        frame_bytes: int,
        budget: CreditBudget | None = None,
        *,
        resumable: bool = False,
    ) -> None:
        self.side = side
        self._limits = limits
        self._frame_bytes = frame_bytes
        self._table = ChannelTable(side, limits, budget, resumable)
        self._outbox = Outbox()
        self._resumable = resumable
        self._graves = Graves(limits.channels)
        # Frames that no head can describe are handed over by reference, within one process.
        metered = frame_bytes <= LENGTH_LIMIT
        self._budgets = Budgets(limits.channels, metered=metered)
        self._table.pace = Pace(limits.link_bytes) if metered else None
        self._own: Hello | None = None
        self._peer: Hello | None = None
        self._stage = _Stage.GREETING
        self._flowing = False  # the stage is FLOWING: asked for every frame
        self._provoked = 0  # channels of the peer that we reset since its last Open
        self._left = False  # the peer said Goodbye
        self._muted = False  # control frames of channels are not queued but made anew later
        self._rejoining: Rejoining | None = None  # since our Resume was written

    @property
    def peer_hello(self) -> Hello | None:
        """The peer's newest Hello, once there is one."""
        return self._peer

    @property
    def resuming(self) -> bool:
        """Whether there is a new link, over which the two sides compare what has arrived."""
        greeting = self._stage is _Stage.GREETING and self._muted
        return greeting or self._stage is _Stage.RESUMING

    def hello(self, hello: Hello) -> None:
        """Queue our Hello of the first link, which leaves first.

        Raises:
            LocalProtocolError: there was one already.
        """
        if self._own is not None:
            raise LocalProtocolError("a session says hello once")
        self._own = hello
        self._outbox.greet(hello)

    def detach(self) -> None:
        """Take note that the link is gone; harmless when it was known.

        Nothing leaves until there is another one; commands go on working.

        Raises:
            LocalProtocolError: the machine was not made to be resumed.
        """
        if not self._resumable:
            raise LocalProtocolError("a session that cannot be resumed lost its link")
        self._graves.detach()
        self._outbox.hold()
        self._flowing = False
        self._muted = True
        self._rejoining = None
        if not self._left:
            self._stage = _Stage.DETACHED

    def attach(self, hello: Hello, frame_bytes: int) -> None:
        """Go on over a new link, whose frames have up to ``frame_bytes``; ``hello`` leaves first.

        Raises:
            LocalProtocolError: there is a link, one side has said Goodbye, or the hello is not the
                next one of this session.
        """
        own = self._own
        if self._stage is not _Stage.DETACHED or self._outbox.left or own is None:
            raise LocalProtocolError(f"a link cannot be attached: {self._stage.value}")
        if hello.epoch <= own.epoch or hello.session != own.session:
            raise LocalProtocolError(
                f"link {hello.epoch} of session {hello.session.hex()} "
                f"after link {own.epoch} of session {own.session.hex()}"
            )
        self._own = hello
        self._frame_bytes = frame_bytes
        self._stage = _Stage.GREETING
        self._outbox.greet(hello)

    def _begin(self, frame: Frame | Landed, now: float) -> list[Event]:
        """Take a frame while not everything may flow."""
        if self._stage in (_Stage.OVER, _Stage.DETACHED):
            return []
        kind = type(frame).__name__
        if self._stage is _Stage.GREETING:
            if not isinstance(frame, Hello):
                raise RemoteProtocolError("hello_expected", f"the first frame is {kind}")
            return self._greeted(frame, now)
        if isinstance(frame, Goodbye):
            return self._goodbye(frame)
        if isinstance(frame, Skipped):
            return self._skipped(frame, now)
        if self._rejoining is None or not isinstance(frame, Resume):
            raise RemoteProtocolError("bad_resume", f"a Resume is due, {kind} has come")
        return self._resumed(self._rejoining, frame)

    def _greeted(self, frame: Hello, now: float) -> list[Event]:
        version = PROTOCOL_VERSION if self._own is None else self._own.version
        if frame.version != version:
            raise RemoteProtocolError(
                "version", f"{frame.peer!a} speaks version {frame.version}, this side {version}"
            )
        if frame.frame_bytes < 1:
            raise RemoteProtocolError("bad_body", f"frames of {frame.frame_bytes} bytes")
        self._check_epoch(frame)
        if not self._muted:
            self._budgets.begin(now)
        elif self.side is Side.ACCEPTOR:  # the other side has dialled by itself
            self._budgets.relink(now, len(self._table.channels))
        self._peer = frame
        self._frame_bytes = min(self._frame_bytes, frame.frame_bytes)
        if self._muted:
            self._stage = _Stage.RESUMING
            opened = self._table.next_own
            self._rejoining = Rejoining(self._table, self._graves, opened, frame)
            self._outbox.resume(resume_of(self._table))
        else:
            for state in self._table.channels.values():
                state.outgoing.limit = frame.credit(urgent=state.urgent)
            self._flow([])
        return [PeerHello(frame)]

    def _check_epoch(self, frame: Hello) -> None:
        if not self._resumable:
            return
        epoch = 0 if self._own is None else self._own.epoch
        if frame.epoch != epoch:
            raise RemoteProtocolError(
                "bad_epoch", f"{frame.peer!a} is at link {frame.epoch}, this side at {epoch}"
            )
        if self._muted and self._own is not None and frame.session != self._own.session:
            raise RemoteProtocolError(
                "bad_epoch", f"{frame.peer!a} goes on with session {frame.session.hex()}"
            )

    def _resumed(self, rejoining: Rejoining, frame: Resume) -> list[Event]:
        frames = rejoining.apply(frame)
        self._rejoining = None
        self._muted = False
        for state in self._table.channels.values():
            if state.incoming.moved and not state.receiving_closed:
                self._outbox.acknowledge(state)
        self._flow(frames)
        return [Resumed()]

    def _flow(self, before: Sequence[Frame]) -> None:
        self._outbox.start(before)
        for state in self._table.channels.values():
            if state.sendable:
                self._outbox.schedule(state)
        self._stage = _Stage.FLOWING
        self._flowing = True

    def _goodbye(self, frame: Goodbye) -> list[Event]:
        self._left = True
        self._flowing = False
        self._stage = _Stage.OVER
        return [PeerLeft(frame.code, frame.message)]

    def _skipped(self, _: Skipped, now: float) -> list[Event]:
        self._budgets.spend(Cheap.UNKNOWN, now)
        return []

    def _post(self, channel: int, frame: Frame) -> None:
        """Queue a control frame of a channel, unless it is made anew on the next link."""
        rejoining = self._rejoining
        fresh = rejoining is not None and rejoining.opened <= channel
        if not self._muted or (fresh and self._table.is_own(channel)):
            self._outbox.post(frame)
