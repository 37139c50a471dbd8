"""Links and Resumes that cannot be those of this session."""

from __future__ import annotations

import pytest

from flare_async.errors import LocalProtocolError, RemoteProtocolError
from flare_async.limits import Limits
from flare_async.wire.events import PeerHello, Resumed
from flare_async.wire.frames import (
    Ack,
    Data,
    Frame,
    Goodbye,
    Open,
    Ping,
    Position,
    Resume,
    Skipped,
)
from flare_async.wire.session import OpenOptions, SessionMachine, Side
from tests.wire.cable import hello_of

LIMITS = Limits(channels=8)


def resuming(*, greeted: bool = True) -> SessionMachine:
    """Return a connector on its second link.

    Channel 1 has sent 300 bytes, 100 of them acknowledged, and channel 3 100 bytes and the end, all
    acknowledged; channel 5 was opened only; channel 2 is the peer's and has brought 10 bytes.
    """
    machine = SessionMachine(Side.CONNECTOR, LIMITS, 100, resumable=True)
    machine.hello(hello_of("a", 0))
    machine.receive(hello_of("b", 0), 0)
    for size in (300, 100, 0):
        machine.send(machine.open("t"), bytes(size))
    machine.end(3)
    machine.frames_to_send(2**20)
    answers = [Ack(1, 100, 1000), Ack(3, 100, 100), Open(2, "down"), Data(2, 0, bytes(10))]
    for frame in answers:
        machine.receive(frame, 0)
    machine.detach()
    machine.attach(hello_of("a", 3), 100)
    if greeted:
        machine.receive(hello_of("b", 3), 0)
    return machine


FINE = (Position(1, 100, False), Position(2, 0, False), Position(3, 100, True))


@pytest.mark.parametrize(
    ("opened", "expected", "positions", "detail"),
    [
        (2, 7, FINE, "it opens 2 next, it has opened 2"),
        (5, 7, FINE, "it opens 5 next"),
        (4, 9, FINE, "it expects 9, the next one is 7"),
        (4, 4, FINE, "it expects 4, the next one is 7"),
        (4, 3, FINE, "channel 3 is open, 3 is the next one"),
        (4, 7, (*FINE[:2], Position(3, 100, True), Position(4, 0, False)), "channel 4 is open, 4"),
        (4, 1, (), "channel 1 was never opened, but it was answered"),
        (4, 7, (Position(1, 99, False),), "channel 1: 99 bytes received, 100 acknowledged, 300"),
        (4, 7, (Position(1, 301, False),), "channel 1: 301 bytes received, 100 ackn"),
        (4, 7, (Position(1, 300, True),), "300 bytes received and the end, 100 ackn"),
        (4, 7, (Position(3, 100, False),), "channel 3: 100 bytes received, 100 ackn"),
        (4, 7, (Position(3, 99, True),), "channel 3: 99 bytes received and the end"),
        (4, 7, (Position(2, 1, False),), "channel 2: 1 bytes received, 0 acknowledged, 0 sent"),
    ],
)
def test_a_resume_that_contradicts_what_we_know_is_refused(
    opened: int, expected: int, positions: tuple[Position, ...], detail: str
) -> None:
    """Ids out of range, positions that deny an Ack or claim what was never sent."""
    machine = resuming()
    with pytest.raises(RemoteProtocolError, match=f"bad_resume: .*{detail}"):
        machine.receive(Resume(opened, expected, positions), 0)


def test_a_resume_that_fits_is_taken_once_and_first() -> None:
    """It is what the refused ones are compared with; optional frames may be anywhere."""
    machine = resuming()
    assert machine.receive(Skipped(77), 0) == []
    with pytest.raises(RemoteProtocolError, match="bad_resume: a Resume is due, Ping has come"):
        machine.receive(Ping(1), 0)
    assert machine.receive(Resume(4, 7, FINE), 0) == [Resumed()]
    with pytest.raises(RemoteProtocolError, match="bad_resume: a Resume of 0 not due"):
        machine.receive(Resume(4, 7, ()), 0)


def test_a_resume_on_the_first_link_is_refused() -> None:
    """There is nothing to go on with."""
    machine = SessionMachine(Side.ACCEPTOR, LIMITS, 100, resumable=True)
    machine.hello(hello_of("b", 0))
    with pytest.raises(RemoteProtocolError, match="hello_expected: the first frame is Resume"):
        machine.receive(Resume(1, 2, ()), 0)
    machine.receive(hello_of("a", 0), 0)
    with pytest.raises(RemoteProtocolError, match="bad_resume"):
        machine.receive(Resume(1, 2, ()), 0)


@pytest.mark.parametrize("epoch", [0, 2, 4])
def test_a_hello_of_another_epoch_is_refused(epoch: int) -> None:
    """An older link, a newer one, or a peer that has begun anew."""
    with pytest.raises(RemoteProtocolError, match=f"bad_epoch: 'b' is at link {epoch}, this.* 3"):
        resuming(greeted=False).receive(hello_of("b", epoch), 0)


def test_a_hello_of_another_session_or_version_is_refused() -> None:
    """The first link's rules hold for each."""
    machine = resuming(greeted=False)
    with pytest.raises(RemoteProtocolError, match="bad_epoch: 'b' goes on with session 7878"):
        machine.receive(hello_of("b", 3, b"x" * 16), 0)
    with pytest.raises(RemoteProtocolError, match="hello_expected: the first frame is Ping"):
        machine.receive(Ping(1), 0)
    assert machine.receive(hello_of("b", 3), 0) == [PeerHello(hello_of("b", 3))]


def test_a_first_link_that_claims_to_be_a_later_one_is_refused() -> None:
    """Whether our Hello is queued already or not."""
    machine = SessionMachine(Side.ACCEPTOR, LIMITS, 100, resumable=True)
    with pytest.raises(RemoteProtocolError, match="bad_epoch: 'a' is at link 2, this side at 0"):
        machine.receive(hello_of("a", 2), 0)
    machine.hello(hello_of("b", 0))
    with pytest.raises(RemoteProtocolError, match="bad_epoch: 'a' is at link 2, this side at 0"):
        machine.receive(hello_of("a", 2), 0)


@pytest.mark.parametrize("channel", [3, 8, 10])
def test_ids_that_were_not_announced_may_not_be_left_out(channel: int) -> None:
    """The peer announced 6 as its next id: it may leave out 4, but not 6."""
    machine = resuming()
    machine.receive(Resume(6, 7, FINE), 0)
    with pytest.raises(RemoteProtocolError, match=f"channel {channel} opened, the next one is 4"):
        machine.receive(Open(channel, "t"), 0)
    machine.receive(Open(6, "t"), 0)


@pytest.mark.parametrize("answer", [Data(1, 0, bytes(10)), Data(1, 0, b"", end=True)])
def test_a_peer_that_forgot_an_open_cannot_have_answered_it(answer: Data) -> None:
    """Whoever sends or ends has the channel open."""
    machine = SessionMachine(Side.CONNECTOR, LIMITS, 100, resumable=True)
    machine.hello(hello_of("a", 0))
    machine.receive(hello_of("b", 0), 0)
    machine.open("pull", options=OpenOptions(leased=True))
    machine.receive(answer, 0)
    machine.detach()
    machine.attach(hello_of("a", 1), 100)
    machine.receive(hello_of("b", 1), 0)
    with pytest.raises(RemoteProtocolError, match="bad_resume: channel 1 was never opened"):
        machine.receive(Resume(2, 1, ()), 0)


def test_links_that_cannot_be_attached_are_our_mistake() -> None:
    """Each with its own words."""
    plain = SessionMachine(Side.CONNECTOR, LIMITS, 100)
    with pytest.raises(LocalProtocolError, match="cannot be resumed lost its link"):
        plain.detach()
    machine = SessionMachine(Side.CONNECTOR, LIMITS, 100, resumable=True)
    machine.hello(hello_of("a", 1))
    with pytest.raises(LocalProtocolError, match="cannot be attached: waiting for a Hello"):
        machine.attach(hello_of("a", 2), 100)
    machine.detach()
    for hello in (hello_of("a", 1), hello_of("a", 2, b"x" * 16)):
        with pytest.raises(LocalProtocolError, match=f"link {hello.epoch} of session .* after"):
            machine.attach(hello, 100)
    machine.leave(0, "")
    with pytest.raises(LocalProtocolError, match="cannot be attached: no link"):
        machine.attach(hello_of("a", 2), 100)


def test_a_session_that_the_peer_has_left_stays_left() -> None:
    """Losing the link afterwards changes nothing."""
    machine = resuming()
    machine.receive(Goodbye(0, "done"), 0)
    machine.detach()
    assert [machine.resuming, machine.has_frames] == [False, False]
    with pytest.raises(LocalProtocolError, match="cannot be attached: the peer has left"):
        machine.attach(hello_of("a", 4), 100)


def frames_of(machine: SessionMachine) -> list[Frame]:
    """Return what a machine sends."""
    return machine.frames_to_send(2**20)


def test_a_channel_without_its_fate_goes_on_and_stalls() -> None:
    """Who neither lists a channel nor says how it ended is caught by the credit."""
    machine = resuming()
    machine.receive(Resume(4, 7, ()), 0)
    machine.send(1, bytes(2000))
    frames_of(machine)
    assert machine.unsent(1) == 300 + 2000 - 1000
    assert not machine.sendable(1)
