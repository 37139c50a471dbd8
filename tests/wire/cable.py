"""Two resumable machines and the bytes between them, which can be cut anywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from flare_async.limits import Limits
from flare_async.wire.codec import Decoder, encode
from flare_async.wire.events import Event
from flare_async.wire.frames import Data, Frame, Hello, Landed, Resume
from flare_async.wire.session import SessionMachine, Side
from flare_async.wire.windows import CreditBudget
from tests.wire.pair import WINDOW

__all__ = ["RESUMED_LIMITS", "Cable", "End", "compared", "connected", "hello_of", "rejoined"]

Take = Callable[[SessionMachine, Frame | Landed], list[Event]]
Lease = Callable[[SessionMachine, int, int, int], memoryview | None]


def hello_of(name: str, epoch: int, session: bytes = b"0123456789abcdef") -> Hello:
    """Return the Hello of a link."""
    return Hello(1, name, session, epoch, b"", "client", WINDOW, 2**20)


@dataclass
class End:
    """One machine's end of a link: what is under way to it, and what reads it."""

    machine: SessionMachine
    name: str
    decoder: Decoder
    epoch: int = 0
    attached: bool = True
    coming: bytearray = field(default_factory=bytearray)
    framed: Counter[int] = field(default_factory=Counter)  # payload bytes, by channel
    position: Counter[int] = field(default_factory=Counter)  # where the last payload frame ended


class Cable:
    """Connector ``a`` and acceptor ``b``. As in a real network, each side notices a cut by itself:
    the acceptor perhaps only when the next link's Hello arrives.
    """

    def __init__(
        self,
        limits: Limits,
        frame_bytes: int = 64,
        budgets: tuple[CreditBudget | None, CreditBudget | None] = (None, None),
    ) -> None:
        self.limits = limits
        self.frame_bytes = frame_bytes
        self.now = 0.0
        self.take: Take = lambda machine, frame: machine.receive(frame, self.now)
        self.lease: Lease = lambda machine, channel, offset, length: None
        machines = [
            SessionMachine(side, limits, frame_bytes, budget, resumable=True)
            for side, budget in zip(Side, budgets, strict=True)
        ]
        self.a, self.b = machines
        self.ends = {
            machine: End(machine, name, self._decoder(machine))
            for machine, name in zip(machines, "ab", strict=True)
        }
        self.alive = True
        self.epoch = 0  # of the link that there is; a side may not have heard of it yet

    def _decoder(self, machine: SessionMachine) -> Decoder:
        return Decoder(
            lambda channel, offset, length: self.lease(machine, channel, offset, length),
            limits=self.limits,
        )

    def greet(self) -> Cable:
        """Exchange the first Hellos."""
        for machine, end in self.ends.items():
            machine.hello(hello_of(end.name, 0))
        self.settle()
        return self

    def other(self, machine: SessionMachine) -> SessionMachine:
        """Return the machine on the other side."""
        return self.b if machine is self.a else self.a

    def emit(self, machine: SessionMachine, budget: int = 2**20) -> list[Frame]:
        """Let a machine send one batch; what leaves after a cut is lost."""
        due = machine.has_frames
        frames = machine.frames_to_send(budget)
        assert due == bool(frames), f"has_frames is {due}, {len(frames)} frames left"
        end, there = self.ends[machine], self.ends[self.other(machine)]
        assert end.attached or not frames
        for frame in frames:
            if isinstance(frame, Data) and frame.payload:
                end.framed[frame.channel] += len(frame.payload)
                end.position[frame.channel] = frame.offset + len(frame.payload)
            if self.alive and end.epoch == self.epoch:
                there.coming += b"".join(encode(frame))
        return frames

    def deliver(self, machine: SessionMachine, count: int = 2**30) -> list[Event]:
        """Let ``count`` bytes arrive at a machine."""
        end, seen = self.ends[machine], []
        data = bytes(end.coming[:count])
        del end.coming[:count]
        for frame in end.decoder.feed(data):
            if isinstance(frame, Hello) and frame.epoch > end.epoch:
                machine.detach()
                self._attach(end, frame.epoch)
            seen += self.take(machine, frame)
        return seen

    def cut(self, arriving: tuple[int, int] = (0, 0), *, noticed: bool = True) -> None:
        """Cut the link after a last few bytes have arrived each way; the acceptor may notice."""
        self.alive = False
        for end, count in zip(self.ends.values(), arriving, strict=True):
            self.deliver(end.machine, count)
            end.coming.clear()
            if noticed or end.machine is self.a:
                end.machine.detach()
                end.attached = False

    def reattach(self) -> None:
        """Let the connector make another link."""
        assert not self.alive
        self.alive = True
        end = self.ends[self.a]
        for one in self.ends.values():
            one.coming.clear()
            one.decoder = self._decoder(one.machine)
        self.epoch += 1
        self._attach(end, self.epoch)

    def _attach(self, end: End, epoch: int) -> None:
        end.epoch = epoch
        end.attached = True
        end.machine.attach(hello_of(end.name, epoch), self.frame_bytes)

    def settle(self) -> dict[SessionMachine, list[Event]]:
        """Send and deliver until nothing moves; return what each machine reported."""
        seen: dict[SessionMachine, list[Event]] = {self.a: [], self.b: []}
        moved = True
        while moved:
            moved = False
            for machine in (self.a, self.b):
                while self.emit(machine):
                    moved = True
                other = self.other(machine)
                if self.ends[other].coming:
                    moved = True
                    seen[other] += self.deliver(other)
        return seen


RESUMED_LIMITS = Limits(channels=4)


def connected(budgets: tuple[CreditBudget | None, CreditBudget | None] = (None, None)) -> Cable:
    """Return two machines that know each other."""
    return Cable(RESUMED_LIMITS, 100, budgets).greet()


def compared(cable: Cable) -> None:
    """Attach another link, up to where ``a`` has the peer's Resume and has not sent its own."""
    cable.reattach()
    cable.emit(cable.a)
    cable.deliver(cable.b)
    cable.emit(cable.b)
    cable.deliver(cable.a)


def rejoined(cable: Cable) -> list[Frame]:
    """Let both sides go on over another link; return what ``a`` sends behind its Resume."""
    compared(cable)
    resume, *frames = cable.emit(cable.a)
    assert isinstance(resume, Resume)
    cable.deliver(cable.b)
    return frames
