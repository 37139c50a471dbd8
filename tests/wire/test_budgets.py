"""What is cheap to send is counted (FAULTS B10, B11, B12, B14, B15)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import count, islice

import pytest

from flare_async.errors import RemoteProtocolError
from flare_async.limits import Limits
from flare_async.wire.budgets import TINY_BYTES, Budgets, Cheap
from flare_async.wire.frames import (
    Ack,
    Data,
    Frame,
    Landed,
    Open,
    Ping,
    Pong,
    Position,
    Reset,
    Resume,
    Skipped,
)
from flare_async.wire.session import OpenOptions, SessionMachine, Side
from tests.wire.cable import connected, hello_of

LIMITS = Limits(channels=10)
PER_CHANNEL = 4 * LIMITS.channels


def acceptor(frame_bytes: int = 2**20, window: int = 2**40) -> SessionMachine:
    """Return an acceptor that knows its peer."""
    machine = SessionMachine(Side.ACCEPTOR, LIMITS, frame_bytes)
    hello = hello_of("b", 0)
    machine.hello(type(hello)(1, "b", hello.session, 0, b"", "server", window, 2**20))
    machine.receive(hello_of("a", 0), 0)
    return machine


def accepted(machine: SessionMachine, frames: Iterator[Frame | Landed], now: float = 0.0) -> int:
    """Return how many frames a machine takes before it calls them a flood."""
    taken = 0

    def take_all() -> None:
        nonlocal taken
        for frame in frames:
            machine.receive(frame, now)
            machine.frames_to_send(2**20)
            taken += 1

    with pytest.raises(RemoteProtocolError, match="flood: "):
        take_all()
    return taken


def pairs_of_open_and_reset() -> Iterator[Frame]:
    """Yield rapid resets."""
    for channel in count(1, 2):
        yield Open(channel, "t")
        yield Reset(channel, 1, "")


def tiny(channel: int = 1, size: int = 1) -> Iterator[Frame]:
    """Yield crumbs."""
    for offset in count(0, size):
        yield Data(channel, offset, bytes(size))


def landed(channel: int = 1) -> Iterator[Landed]:
    """Yield crumbs in leased memory."""
    for offset in count():
        yield Landed(channel, offset, 1)


def closed(make: Callable[[], Frame | Landed]) -> Iterator[Frame | Landed]:
    """Yield frames of a channel that was closed."""
    yield Open(1, "t")
    yield Reset(1, 1, "")
    while True:
        yield make()


@pytest.mark.parametrize(
    ("frames", "most"),
    [
        (pairs_of_open_and_reset(), 2 * (4_000 + PER_CHANNEL) + 1),
        ((Ping(1) for _ in count()), 200),
        ((Pong(1) for _ in count()), 200),
        ((Skipped(77) for _ in count()), 1_000),
        (closed(lambda: Ack(1, 0, 5)), 2 + 100_000 + PER_CHANNEL),
        (closed(lambda: Data(1, 0, b"x")), 2 + 100_000 + PER_CHANNEL),
        (closed(lambda: Data(1, 0, b"", end=True)), 2 + 100_000 + PER_CHANNEL),
        (closed(lambda: Landed(1, 0, 5)), 2 + 100_000 + PER_CHANNEL),
        (closed(lambda: Reset(1, 1, "")), 1 + 4_000 + PER_CHANNEL),
    ],
    ids=["resets", "pings", "pongs", "unknown", "acks", "data", "ends", "landed", "late-resets"],
)
def test_a_flood_is_stopped_at_its_budget(frames: Iterator[Frame], most: int) -> None:
    """B10, B11: within one instant, and the numbers are exact."""
    assert accepted(acceptor(), frames) == most


@pytest.mark.parametrize("urgent", [False, True])
@pytest.mark.parametrize("make", [tiny, landed])
def test_a_million_crumbs_are_not_taken(
    make: Callable[[], Iterator[Frame | Landed]], urgent: bool
) -> None:
    """B14: one byte a frame; also where they land in leased memory, and in place of messages."""
    machine = acceptor()
    machine.receive(Open(1, "t", urgent=urgent), 0)
    if make is landed:
        machine.lease(1)
    assert accepted(machine, make()) == 200_000 + PER_CHANNEL


def test_normal_frames_and_messages_are_no_crumbs() -> None:
    """Short payload of bulk channels is counted, and that of messages apart."""
    machine = acceptor()
    machine._budgets._left[Cheap.TINY] = 0
    machine.receive(Open(1, "bulk"), 0)
    machine.receive(Open(3, "messages", urgent=True), 0)
    machine.receive(Data(1, 0, bytes(TINY_BYTES)), 0)
    machine.receive(Data(3, 0, b"x"), 0)
    machine.receive(Landed(3, 1, 1), 0)
    with pytest.raises(RemoteProtocolError, match=r"flood: 200041 data frames below 512 bytes in"):
        machine.receive(Data(1, TINY_BYTES, bytes(TINY_BYTES - 1)), 0)


def test_acks_that_acknowledge_nothing_are_counted() -> None:
    """B12: repeated ones, more credit byte by byte, and final ones again."""
    for first, step in ((Ack(2, 0, 1000), 0), (Ack(2, 0, 1000), 1), (Ack(2, 5, 5), 0)):
        machine = acceptor()
        channel = machine.open("down")
        machine.send(channel, b"12345")
        machine.end(channel)
        machine.frames_to_send(100)
        machine.receive(first, 0)
        acks = (Ack(2, first.consumed, first.limit + step * n) for n in count(1))
        left = 4_000 + PER_CHANNEL - (first.consumed == 0)
        assert accepted(machine, acks) == left


def test_resets_that_a_peer_provokes_count_as_its_own() -> None:
    """B10: opens that are refused, or that the application refuses; told by the next Open."""
    refused = acceptor()
    for channel in range(1, 2 * LIMITS.channels, 2):
        refused.receive(Open(channel, "t"), 0)
    opens = (Open(channel, "t") for channel in count(2 * LIMITS.channels + 1, 2))
    assert accepted(refused, opens) == 4_000 + PER_CHANNEL + 1
    machine = acceptor()
    for channel in range(1, 2 * (4_000 + PER_CHANNEL) + 2, 2):
        machine.receive(Open(channel, "t"), 0)
        machine.reset(channel, 4, "not here")
        machine.frames_to_send(2**20)
    with pytest.raises(RemoteProtocolError, match=r"flood: 4041 resets in 0\.00 s, at most 4040"):
        machine.receive(Open(channel + 2, "t"), 0)


def test_our_own_resets_of_our_own_channels_cost_the_peer_nothing() -> None:
    """It has no part in them."""
    machine = acceptor()
    for _ in range(5_000):
        machine.reset(machine.open("t"), 1, "")
    machine.frames_to_send(2**30)
    machine.receive(Open(1, "t"), 0)


def test_opens_alone_are_counted() -> None:
    """Even if each of them is finished at once."""
    machine = acceptor()

    def finished() -> Iterator[Frame]:
        for channel in count(1, 2):
            yield Open(channel, "t", end=True)
            machine.end(channel)
            machine.frames_to_send(2**20)
            yield Ack(channel, 0, 0)

    assert accepted(machine, finished()) == 2 * (50_000 + PER_CHANNEL)


def test_what_a_budget_earns_follows_from_the_time() -> None:
    """Never more than the whole of it, and a rate below the limit lasts for ever."""
    budgets = Budgets(0, metered=True)
    budgets.begin(100.0)
    for second in range(1_000):
        budgets.spend(Cheap.PINGS, 100.0 + second, 20)
    budgets.begin(5_000.0)
    budgets.spend(Cheap.PINGS, 5_000.0, 200)
    budgets.spend(Cheap.PINGS, 5_000.5, 10)
    with pytest.raises(
        RemoteProtocolError, match=r"flood: 211 pings and pongs in 0\.50 s.* 200 and"
    ):
        budgets.spend(Cheap.PINGS, 5_000.5)
    budgets.spend(Cheap.PINGS, 6_000.0)
    budgets.spend(Cheap.PINGS, 6_000.0, 200)
    with pytest.raises(RemoteProtocolError, match=r"flood: 201 pings and pongs in 0\.00 s"):
        budgets.spend(Cheap.PINGS, 6_000.0)


def resumable() -> SessionMachine:
    """Return an acceptor that knows its peer and may get other links."""
    machine = SessionMachine(Side.ACCEPTOR, LIMITS, 2**20, resumable=True)
    machine.hello(hello_of("b", 0))
    machine.receive(hello_of("a", 0), 0)
    return machine


def relinked(machine: SessionMachine, epoch: int, now: float = 0.0) -> None:
    """Give a machine another link, up to where everything flows."""
    machine.detach()
    machine.attach(hello_of("b", epoch), 2**20)
    machine.receive(hello_of("a", epoch), now)
    positions = [Position(channel, 0, ended=False) for channel in machine._table.channels]
    next_peer = machine._table.next_peer
    machine.receive(Resume(next_peer, machine._table.next_own, tuple(positions)), now)
    machine.frames_to_send(2**20)


def test_a_new_link_fills_no_bucket() -> None:
    """Thirteen more links, and a flood over all of them is stopped where one link's would be."""
    machine, links, pairs = resumable(), count(1), pairs_of_open_and_reset()

    def over_many_links() -> Iterator[Frame]:
        for number, frame in enumerate(islice(pairs, 20_000)):
            if number % 600 == 599:
                relinked(machine, next(links))
            yield frame

    assert accepted(machine, over_many_links()) == 2 * (4_000 + PER_CHANNEL) + 1
    assert next(links) == 14


@pytest.mark.parametrize("kind", list(Cheap))
def test_a_new_link_may_repeat_what_is_open_and_no_more(kind: Cheap) -> None:
    """Positions and the rest of a frame for each channel; what is left over does not pile up."""
    repeated = 7 if kind in {Cheap.IDLE_ACKS, Cheap.STRAYS, Cheap.TINY, Cheap.MESSAGES} else 0
    budgets, fresh = Budgets(10, metered=True), Budgets(10, metered=True)._left[kind]
    for _ in range(5):
        budgets.relink(0.0, 7)
    left = budgets._left[kind]
    assert left == (fresh - 5 if kind is Cheap.LINKS else fresh + repeated)
    budgets.spend(kind, 0.0, left)
    with pytest.raises(RemoteProtocolError, match=f"flood: {fresh + repeated + 1} "):
        budgets.spend(kind, 0.0)


def test_a_link_every_three_seconds_is_no_flood() -> None:
    """F10 for an hour: each time it repeats what it had to say of all channels."""
    machine = resumable()
    for _ in range(LIMITS.channels):
        machine.open("down")
    for epoch in range(1, 1_200):
        relinked(machine, epoch, 3.0 * epoch)
        for channel in machine._table.channels:
            machine.receive(Ack(channel, 0, 1000), 3.0 * epoch)


def test_the_twenty_first_link_at_once_is_a_flood() -> None:
    """It is refused and not counted, so waiting helps whoever asks too often."""
    machine = resumable()
    for epoch in range(1, 21):
        relinked(machine, epoch)
    for epoch in range(21, 41):
        with pytest.raises(
            RemoteProtocolError, match=r"flood: 21 links in 0\.50 s, at most 20 and 1 a second"
        ):
            relinked(machine, epoch, 0.5)
        assert machine.resuming
    relinked(machine, 41, 1.0)
    assert not machine.resuming


def test_whoever_dials_does_not_count_the_answers() -> None:
    """A connector's links are as many as it asked for."""
    cable = connected()
    for epoch in range(60):
        cable.now = 2.0 * epoch
        cable.cut()
        cable.reattach()
        cable.settle()
    assert cable.a._budgets._left[Cheap.LINKS] == 20
    assert cable.b._budgets._left[Cheap.LINKS] < 20


def test_frames_handed_over_by_reference_are_not_counted() -> None:
    """They come from this process, and in a simulation no time passes between them."""
    machine = acceptor(sys.maxsize)
    for _ in range(5_000):
        machine.receive(Ping(1), 0)
        machine.receive(Skipped(77), 0)
    channel = machine.open("t", options=OpenOptions(end=True))
    for _ in range(5_000):
        machine.receive(Ack(channel, 0, 0), 0)
