"""A session that goes on over another link: what is sent again, and what is not."""

from __future__ import annotations

from flare_async.limits import KIB
from flare_async.wire.events import (
    Arrived,
    Ended,
    PeerLeft,
    Ponged,
)
from flare_async.wire.frames import (
    Data,
    Goodbye,
    Ping,
    Position,
    ResetCode,
    Resume,
)
from flare_async.wire.session import OpenOptions
from flare_async.wire.windows import CreditBudget
from tests.wire.cable import RESUMED_LIMITS, compared, connected, hello_of, rejoined
from tests.wire.pair import Pair

LIMITS = RESUMED_LIMITS


def test_a_stream_goes_on_behind_the_last_byte_that_arrived() -> None:
    """In the middle of a frame, with the end and its trailer, which were lost as well."""
    cable = connected()
    channel = cable.a.open("up")
    cable.settle()
    cable.a.send(channel, bytes(range(250)))
    cable.a.end(channel, b"digest")
    cable.emit(cable.a)
    cable.cut((0, 24 + 100 + 24 + 60))
    assert cable.b.statistics(channel).received == 100
    assert rejoined(cable) == [
        Data(1, 100, memoryview(bytes(range(100, 200)))),
        Data(1, 200, memoryview(bytes(range(200, 250))), True, b"digest"),
    ]
    assert cable.b.statistics(channel).received == 250


def test_a_long_frame_goes_on_in_its_middle() -> None:
    """What arrived of it stays with what was retained, in case that the peer has lost more."""
    cable = connected()
    channel = cable.a.open("up")
    cable.settle()
    cable.a.send(channel, bytes(range(90)))
    cable.emit(cable.a)
    for epoch, received in ((1, 50), (2, 20), (3, 90)):
        cable.a.detach()
        cable.a.attach(hello_of("a", epoch), 100)
        cable.a.receive(hello_of("b", epoch), 0)
        cable.a.receive(Resume(2, 3, (Position(1, received, False),)), 0)
        frames = [frame for frame in cable.emit(cable.a) if isinstance(frame, Data)]
        assert b"".join(frame.payload for frame in frames) == bytes(range(received, 90))


def test_rewound_bytes_are_the_very_objects_that_were_sent() -> None:
    """Retaining is referring; what was acknowledged is referred to no longer."""
    cable = connected()
    channel = cable.a.open("up")
    data = bytearray(b"12345678")
    cable.a.send(channel, data)
    cable.emit(cable.a)
    cable.cut()
    assert [cable.a.unsent(channel), cable.a.statistics(channel).sent] == [0, 8]
    data[0] = ord("x")
    sent = rejoined(cable)[-1]
    assert isinstance(sent, Data)
    assert bytes(sent.payload) == b"x2345678"
    cable.b.consume(channel, 8, 0)
    cable.settle()
    assert cable.a._table.channels[channel]._retained is None


def test_rewound_bytes_count_as_unsent_and_are_not_withdrawn() -> None:
    """The application thinks that they have left."""
    cable = connected()
    channel = cable.a.open("up")
    cable.settle()
    cable.a.send(channel, b"framed")
    cable.emit(cable.a)
    cable.a.send(channel, b" never")
    cable.cut()
    compared(cable)
    assert cable.a.unsent(channel) == 12
    assert cable.a.withdraw(channel) == 6
    assert [cable.a.unsent(channel), cable.a.withdraw(channel)] == [6, 0]
    assert Arrived(1, b"framed") in cable.settle()[cable.b]


def test_a_second_cut_before_the_rewound_bytes_left_again_loses_nothing() -> None:
    """Partly sent again, partly waiting: both are sent on the third link."""
    cable = connected()
    channel = cable.a.open("up")
    cable.settle()
    cable.a.send(channel, bytes(range(250)))
    cable.emit(cable.a)
    cable.cut()
    compared(cable)
    assert [type(frame) for frame in cable.emit(cable.a, 1)] == [Resume, Data]
    cable.cut()
    cable.a.send(channel, b"never framed")
    compared(cable)
    assert [cable.a.withdraw(channel), cable.a.unsent(channel)] == [12, 250]
    payloads = [frame.payload for frame in cable.emit(cable.a) if isinstance(frame, Data)]
    assert b"".join(payloads) == bytes(range(250))


def test_nothing_leaves_without_a_link_and_commands_go_on() -> None:
    """What was queued is kept as state, pings are dropped, and what still arrives is ignored."""
    cable = connected((CreditBudget(64 * KIB), None))
    channel = cable.a.open("up")
    cable.b.send(cable.b.open("down"), b"12345")
    cable.settle()
    cable.a.ping(1)
    cable.a.detach()
    cable.a.detach()
    cable.a.ping(2)
    cable.a.open("new")
    cable.a.send(channel, b"queued")
    cable.a.end(channel)
    cable.a.lease(channel)
    assert cable.a.consume(2, 5, 0) == []
    assert cable.a.receive(Ping(1), 0) == []
    assert not cable.a.has_frames
    assert cable.a.frames_to_send(100) == []
    assert not cable.a.resuming
    assert cable.a.unsent(channel) == 6
    cable.cut()
    cable.reattach()
    assert cable.a.resuming
    seen = cable.settle()
    assert not cable.a.resuming
    assert Ponged not in {type(event) for event in seen[cable.a]}
    assert [Arrived(1, b"queued"), Ended(1, b"")] == seen[cable.b][-2:]


def test_the_frame_length_of_the_new_link_holds() -> None:
    """Bytes that left in long frames go on in short ones."""
    cable = connected()
    channel = cable.a.open("up")
    cable.a.send(channel, bytes(100))
    cable.emit(cable.a)
    cable.cut()
    cable.frame_bytes = 40
    frames = rejoined(cable)
    assert [len(frame.payload) for frame in frames if isinstance(frame, Data)] == [40, 40, 20]


def test_a_machine_that_cannot_be_resumed_keeps_nothing() -> None:
    """Memory links pay for no other link."""
    pair = Pair(LIMITS, 100).greet()
    channel = pair.a.open("up")
    pair.a.send(channel, b"data")
    pair.a.reset(pair.a.open("t"), 1, "")
    pair.emit(pair.a)
    state = pair.a._table.channels[channel]
    assert [state.opening, state._retained, len(pair.a._graves)] == [None, None, 0]


def test_a_goodbye_may_answer_a_hello_in_place_of_a_resume() -> None:
    """The session is not wanted any more; what comes behind it is ignored."""
    cable = connected()
    cable.cut()
    cable.b.leave(0, "no link")
    assert not cable.b.has_frames
    cable.reattach()
    cable.a.receive(hello_of("b", 1), 0)
    assert cable.a.receive(Goodbye(ResetCode.GONE, "who?"), 0) == [PeerLeft(5, "who?")]
    assert cable.a.receive(Resume(2, 1, ()), 0) == []
    assert not cable.a.resuming


def test_a_session_may_be_left_while_it_resumes() -> None:
    """Nothing but Hello, Resume and Goodbye leaves, whatever was due."""
    cable = connected()
    cable.b.send(cable.b.open("down"), b"12345")
    cable.settle()
    cable.cut()
    cable.a.consume(2, 5, 0)
    cable.reattach()
    cable.a.receive(hello_of("b", 1), 0)
    cable.a.leave(0, "done")
    assert [type(frame).__name__ for frame in cable.emit(cable.a)] == ["Hello", "Resume", "Goodbye"]
    assert cable.deliver(cable.b)[-1] == PeerLeft(0, "done")


def test_positions_are_what_has_arrived() -> None:
    """Sorted, both sides' channels, with what comes next."""
    cable = connected()
    cable.a.open("up", options=OpenOptions(end=True))
    cable.b.send(cable.b.open("down"), b"12345")
    cable.settle()
    cable.cut()
    cable.reattach()
    cable.emit(cable.a)
    cable.deliver(cable.b)
    frames = cable.emit(cable.b)
    assert frames[1] == Resume(4, 3, (Position(1, 0, True), Position(2, 0, False)))
