"""An acceptor that a hand-made peer talks to, frame by frame or in bytes."""

from __future__ import annotations

import pytest

from flare_async.errors import RemoteProtocolError
from flare_async.limits import Limits
from flare_async.wire.codec import Decoder, encode
from flare_async.wire.frames import Frame
from flare_async.wire.session import SessionMachine, Side
from flare_async.wire.windows import CreditBudget
from tests.wire.pair import greeting

__all__ = ["LIMITS", "Victim", "reason_of"]

LIMITS = Limits()
BUDGET = 2**26


class Victim:
    """An acceptor with its decoder, budget and clock; ``pace`` seconds pass a frame."""

    def __init__(self, *frames: Frame, limits: Limits = LIMITS, pace: float = 0.0) -> None:
        self.now, self.pace = 0.0, pace
        self.budget = CreditBudget(BUDGET)
        self.machine = SessionMachine(Side.ACCEPTOR, limits, 2**20, self.budget)
        self.decoder = Decoder(limits=limits)
        self.machine.hello(greeting("b", 65_536))
        self.take(greeting("a", 65_536), *frames)

    def feed(self, data: bytes) -> list[object]:
        """Take bytes; return the events."""
        return [event for frame in self.decoder.feed(data) for event in self._judge(frame)]

    def take(self, *frames: Frame) -> list[object]:
        """Take frames; return the events."""
        return self.feed(b"".join(part for frame in frames for part in encode(frame)))

    def judge(self, *frames: Frame) -> list[object]:
        """Take frames as a link in memory hands them over, without the codec."""
        return [event for frame in frames for event in self._judge(frame)]

    def answers(self) -> list[Frame]:
        """Return what the acceptor sends now."""
        return self.machine.frames_to_send(2**20)

    def _judge(self, frame) -> list[object]:
        self.now += self.pace
        return self.machine.receive(frame, self.now)


def reason_of(call, *arguments: object) -> str:
    """Return the reason of the RemoteProtocolError that a call must raise."""
    with pytest.raises(RemoteProtocolError) as caught:
        call(*arguments)
    return caught.value.reason
