"""Two session machines that face each other, for tests."""

from __future__ import annotations

from collections import deque

from flare_async.limits import Limits
from flare_async.wire.events import Event
from flare_async.wire.frames import Frame, Hello
from flare_async.wire.session import SessionMachine, Side
from flare_async.wire.windows import CreditBudget

__all__ = ["Pair", "greeting"]

WINDOW = 1000


def greeting(name: str, window: int = WINDOW, version: int = 1) -> Hello:
    """Return a Hello."""
    return Hello(version, name, b"0123456789abcdef", 0, b"", "client", window, 2**20)


class Pair:
    """Connector ``a`` and acceptor ``b``; frames wait in two queues until they are delivered."""

    def __init__(
        self,
        limits: Limits,
        frame_bytes: int,
        *,
        budgets: tuple[CreditBudget | None, CreditBudget | None] = (None, None),
        acceptor: Limits | None = None,
    ) -> None:
        self.a = SessionMachine(Side.CONNECTOR, limits, frame_bytes, budgets[0])
        self.b = SessionMachine(Side.ACCEPTOR, acceptor or limits, frame_bytes, budgets[1])
        self.queues: dict[SessionMachine, deque[Frame]] = {self.a: deque(), self.b: deque()}
        self.now = 0.0

    def greet(self) -> Pair:
        """Exchange the Hellos."""
        self.a.hello(greeting("a"))
        self.b.hello(greeting("b"))
        self.settle()
        return self

    def other(self, machine: SessionMachine) -> SessionMachine:
        """Return the machine on the other side."""
        return self.b if machine is self.a else self.a

    def emit(self, machine: SessionMachine, budget: int = 2**20) -> list[Frame]:
        """Let a machine send one batch; check that ``has_frames`` tells the truth."""
        due = machine.has_frames
        frames = machine.frames_to_send(budget)
        assert due == bool(frames), f"has_frames is {due}, {len(frames)} frames left"
        self.queues[machine].extend(frames)
        return frames

    def deliver(self, machine: SessionMachine) -> list[Event]:
        """Give the oldest frame from a machine to the other."""
        return self.other(machine).receive(self.queues[machine].popleft(), self.now)

    def settle(self) -> dict[SessionMachine, list[Event]]:
        """Send and deliver until nothing moves; return what each machine reported."""
        seen: dict[SessionMachine, list[Event]] = {self.a: [], self.b: []}
        moved = True
        while moved:
            moved = False
            for machine in (self.a, self.b):
                while self.emit(machine):
                    moved = True
                while self.queues[machine]:
                    moved = True
                    seen[self.other(machine)] += self.deliver(machine)
        return seen
