"""How a link's bulk is shared out, and who has no such bound."""

from __future__ import annotations

import pytest

from flare_async.limits import KIB, MIB, Limits
from flare_async.wire.pace import Pace
from flare_async.wire.session import SessionMachine, Side
from flare_async.wire.windows import CreditBudget
from tests.wire.pair import greeting


@pytest.mark.parametrize(("senders", "share"), [(0, 8), (1, 8), (2, 4), (8, 1)])
def test_those_who_have_something_to_send_share_the_link_evenly(senders: int, share: int) -> None:
    """Nobody waits behind those who have sent everything."""
    pace = Pace(4 * MIB)
    for _ in range(senders + 1):
        pace.joined()
    pace.left()
    pace.set(8 * MIB)
    assert pace.share == share * MIB


def test_no_share_is_shorter_than_what_is_worth_a_frame() -> None:
    """A thousand channels on a short path still send frames of 64 KiB."""
    pace = Pace(MIB)
    for _ in range(1000):
        pace.joined()
    assert pace.share == 64 * KIB


@pytest.mark.parametrize(("frame_bytes", "sent"), [(64 * KIB, 2), (2**62, 1)])
def test_a_machine_sends_as_much_as_its_link_should_hold(frame_bytes: int, sent: int) -> None:
    """Frames of bytes are paced; what goes by reference is under way nowhere."""
    limits = Limits()
    machine = SessionMachine(Side.CONNECTOR, limits, frame_bytes, CreditBudget(limits.link_bytes))
    machine.hello(greeting("a"))
    machine.receive(greeting("b", window=4 * MIB), 0.0)
    machine.frames_to_send(MIB)
    machine.pace(128 * KIB)
    channel = machine.open("bulk")
    machine.frames_to_send(MIB)
    machine.send(channel, bytes(MIB))

    frames = machine.frames_to_send(4 * MIB)

    nbytes = 128 * KIB if sent == 2 else MIB
    assert (len(frames), sum(len(frame.payload) for frame in frames)) == (sent, nbytes)
