"""Faults of simulated links: each does what it says, where and when it says, and nothing else."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.errors import ConfigError, ConnectFailed, LinkLost
from flare_async.limits import KIB, MIB, Limits
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SeededRandom
from flare_async.testing import (
    CHECKS,
    Bandwidth,
    BitFlip,
    Cut,
    Delay,
    Duplicate,
    Fault,
    FaultyLink,
    Freeze,
    HalfOpen,
    OneWayCut,
    Recorder,
    ResetInFrame,
    SimNetwork,
    Slice,
    SlowReader,
    check_name,
    link_pair,
    run_check,
    run_sim,
)
from flare_async.testing.link_checks import HELLO, sample
from flare_async.testing.pipe import SOCKET_BYTES
from flare_async.testing.scanner import FrameScanner
from flare_async.wire.codec import encode
from flare_async.wire.frames import Ack, Data, Ping
from flare_async.wire.head import HEAD_BYTES, PREAMBLE

PAYLOAD = sample(10_000)
FRAMES = (HELLO, Data(1, 0, PAYLOAD))
FIRST = len(encode(HELLO)[0])  # bytes before the second frame


class Times(Recorder):
    """Keeps when frames came, and how much payload each read brought."""

    def __init__(self):
        super().__init__()
        self.at = []

    def receive(self, frames):
        self.at += [now()] * len(frames)
        super().receive(frames)


def now():
    """Return virtual seconds."""
    return asyncio.get_running_loop().time()


def network(*faults, **options):
    """Return a network without latency of its own."""
    options = {"latency": (0.0, 0.0), "limits": Limits(handshake_timeout=40)} | options
    return SimNetwork(LoopClock(), SeededRandom(1), faults=faults, **options)


@asynccontextmanager
async def connection(made, site="site-1"):
    """Yield both ends of a new link of a site, started, with their recorders."""
    listener = await made.listen("sim://server")
    here = await made.of(site).connect("sim://server")
    there = await anext(listener)
    ends = here, there, Times(), Times()
    here.start(ends[2])
    there.start(ends[3])
    yield ends
    here.abort()
    there.abort()
    await listener.aclose()


def exchange(*faults, seconds=100.0, site="site-1", frames=FRAMES):
    """Send frames both ways; return (at the server, at the site, when each came)."""

    async def main():
        async with connection(network(*faults), site) as (here, there, at_here, at_there):
            began = now()
            here.send_soon(frames)
            there.send_soon(frames)
            await asyncio.sleep(seconds)
            for recorder in (at_here, at_there):
                recorder.at = [at - began for at in recorder.at]
            return at_there, at_here

    return run_sim(main)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Delay(-1), "Delay.seconds"),
        (lambda: Delay(1, jitter=float("nan")), "Delay.jitter"),
        (lambda: Bandwidth(0), "Bandwidth.bytes_per_second"),
        (lambda: SlowReader(float("inf")), "SlowReader.bytes_per_second"),
        (lambda: Slice(0), "Slice.nbytes"),
        (Cut, "Cut.at"),
        (lambda: Cut(at=1, after_bytes=1), "Cut.at"),
        (lambda: Cut(at=1, every=0), "Cut.every"),
        (lambda: OneWayCut("both"), "OneWayCut.direction"),
        (lambda: Freeze(5, 5), "Freeze.heals"),
        (lambda: HalfOpen(-1), "HalfOpen.at"),
        (lambda: ResetInFrame("middle"), "ResetInFrame.where"),
        (lambda: ResetInFrame(occurrence=0), "ResetInFrame.occurrence"),
        (lambda: BitFlip(-1), "BitFlip.at_byte"),
        (lambda: BitFlip(1, bit=8), "BitFlip.bit"),
        (lambda: Duplicate(0), "Duplicate.every"),
        (lambda: Duplicate(kind="hello"), "Duplicate.kind"),
        (lambda: Fault(site="a", sites=["b"]), "Fault.sites"),
        (lambda: Fault(sites="site-1"), "Fault.sites"),
        (lambda: Fault(direction="left"), "Fault.direction"),
        (lambda: Fault(start=3, stop=2), "Fault.stop"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(make, field):
    """The error names the fault and the field."""
    with pytest.raises(ConfigError) as caught:
        make()
    assert caught.value.field == field


def test_only_faults_are_taken(sim):
    """A network says so at once."""

    async def main():
        with pytest.raises(ConfigError, match="is no fault"):
            network("delay")

    sim(main)


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 50))
def test_the_scanner_finds_the_frames_however_the_stream_is_cut(payloads, size):
    """Marks, payload and opacity do not depend on the pieces."""
    frames = [HELLO, *[Data(1, 7, data) for data in payloads if data], Ack(1, 2, 3)]
    stream = b"".join(bytes(part) for frame in frames for part in encode(frame))
    whole, pieces = FrameScanner(), FrameScanner()
    marks = whole.feed(stream)
    found = [
        mark for at in range(0, len(stream), size) for mark in pieces.feed(stream[at : at + size])
    ]
    assert found == marks
    assert [mark.length for mark in marks if mark.is_payload] == [len(d) for d in payloads if d]
    assert pieces.payload == whole.payload == sum(map(len, payloads))
    assert whole.seen == len(stream)


@given(st.binary(max_size=200))
def test_the_scanner_takes_any_garbage(garbage):
    """What does not begin like the protocol is opaque; the rest raises nothing either."""
    scanner = FrameScanner()
    scanner.feed(garbage)
    assert scanner.opaque == (garbage[: len(PREAMBLE)] != PREAMBLE[: len(garbage)])
    FrameScanner().feed(PREAMBLE + garbage)


def test_a_delay_with_jitter_keeps_its_bounds():
    """Bytes travel so much longer, in the direction that is meant."""
    server, site = exchange(Delay(2, jitter=1, direction="up"))
    assert 2 <= server.at[0] <= server.at[-1] <= 3
    assert site.at[-1] == 0
    assert server.payload == site.payload == PAYLOAD


def test_bandwidth_and_a_slow_reader_bound_the_rate():
    """Ten thousand bytes at a thousand a second take ten seconds, either way."""
    for fault in (Bandwidth(1000, direction="up"), SlowReader(1000, direction="up")):
        server, site = exchange(fault)
        assert 10 <= server.at[-1] < 10.4
        assert site.at[-1] == 0


def test_a_slow_reader_fills_the_senders_buffer(sim):
    """What is not read is in the socket's buffers, then pending: the link is not writable."""

    async def main():
        async with connection(network(SlowReader(1))) as (here, _, _, at_there):
            here.send_soon([HELLO, Data(1, 0, bytes(MIB))])
            await asyncio.sleep(60)
            return here.pending, here.writable, len(at_there.frames)

    pending, writable, frames = sim(main)
    assert pending >= MIB - SOCKET_BYTES - 100
    assert (writable, frames) == (False, 0)


@settings(max_examples=20)
@given(st.integers(1, 400), st.booleans())
def test_slices_of_any_length_change_no_frame(nbytes, varied):
    """Everything arrives as it was sent, after as many reads as there are slices."""
    frames = (HELLO, Data(1, 0, PAYLOAD[:2000]), Ack(1, 7, 9), Ping(3))
    server, site = exchange(Slice(nbytes, varied), frames=frames)
    assert server.payload == site.payload == PAYLOAD[:2000]
    assert server.frames[-2:] == [Ack(1, 7, 9), Ping(3)]


def test_a_cut_at_a_time_is_told_to_both_ends(sim):
    """Both lose the link at that second; other sites do not."""

    async def main(site):
        async with connection(network(Cut(at=5, site="site-1")), site) as (*_, mine, theirs):
            await asyncio.sleep(4.99)
            before = list(mine.lost_with)
            await asyncio.sleep(0.02)
            return before, mine.lost_with + theirs.lost_with

    before, after = sim(lambda: main("site-1"))
    assert (before, [type(error) for error in after]) == ([], [LinkLost, LinkLost])
    assert sim(lambda: main("site-2")) == ([], [])


def test_a_repeated_cut_strikes_until_it_stops(sim):
    """Every three seconds, from the second to the tenth."""

    async def main():
        made, cuts = network(Cut(at=2, every=3, stop=10)), []
        listener = await made.listen("sim://server")
        while now() < 20:
            link, recorder = await made.of("a").connect("sim://server"), Recorder()
            link.start(recorder)
            try:
                async with asyncio.timeout(10):
                    await recorder.until_lost()
            except TimeoutError:
                link.abort()
            else:
                cuts.append(round(now(), 6))
        await listener.aclose()
        return cuts

    assert sim(main) == [2, 5, 8]


def test_a_cut_after_bytes_lets_exactly_those_pass():
    """What came before is delivered; the count goes on over the site's links."""
    server, site = exchange(Cut(after_bytes=FIRST + HEAD_BYTES + 64 * KIB, direction="up"))
    assert server.payload == PAYLOAD
    cut = FIRST + HEAD_BYTES + 100
    server, site = exchange(Cut(after_bytes=cut, direction="up"))
    assert server.payload == b""  # a piece that is not whole is no frame
    assert isinstance(server.lost_with[0], LinkLost)
    assert isinstance(site.lost_with[0], LinkLost)


@pytest.mark.parametrize("where", ["head", "payload", "last_byte"])
def test_a_reset_inside_the_second_frame_lets_the_first_one_pass(where):
    """Nothing of the frame that was hit becomes a frame."""
    frames = (HELLO, Data(1, 0, b"a" * 100), Ping(1), Data(1, 100, b"b" * 100), Ping(2))
    server, site = exchange(ResetInFrame(where, occurrence=2, direction="up"), frames=frames)
    assert server.frames == list(frames[:3])
    assert [type(error) for error in server.lost_with] == [LinkLost]
    assert [type(error) for error in site.lost_with] == [LinkLost]


def test_a_bit_flips_below_the_codec():
    """In the payload nothing notices; in a head the checksum does."""
    server, site = exchange(BitFlip(1234, payload=True, bit=3, direction="down"))
    wrong = [at for at in range(len(PAYLOAD)) if site.payload[at] != PAYLOAD[at]]
    assert (server.payload, wrong) == (PAYLOAD, [1234])
    assert site.payload[1234] ^ PAYLOAD[1234] == 8
    server, _ = exchange(BitFlip(FIRST + 3, direction="up"))
    assert "bad_head" in str(server.lost_with[0])


def test_every_nth_frame_of_a_kind_comes_twice():
    """Other kinds do not."""
    frames = (HELLO, Ack(1, 1, 1), Ack(1, 2, 2), Ack(1, 3, 3), Ping(1))
    server, site = exchange(Duplicate(2, "ack", direction="up"), frames=frames)
    assert server.frames == [*frames[:3], Ack(1, 2, 2), *frames[3:]]
    assert site.frames == list(frames)


@pytest.mark.parametrize(
    ("fault", "when"),
    [(Freeze(1, heals=30), (29, 29)), (OneWayCut("down", 1, heals=30), (0, 29))],
)
def test_a_frozen_link_delivers_everything_when_it_heals(sim, fault, when):
    """Nothing is lost, no end is told, and the other direction works."""

    async def main():
        async with connection(network(fault)) as (here, there, at_here, at_there):
            await asyncio.sleep(1)
            for link in (here, there):
                link.send_soon(FRAMES)
            await asyncio.sleep(100)
            assert at_here.payload == at_there.payload == PAYLOAD
            return at_there.at[0] - 1, at_here.at[0] - 1

    assert sim(main) == when


def test_a_connection_is_not_made_while_frozen(sim):
    """The handshake's bound ends the attempt; a short freeze only delays it."""

    async def main(heals):
        made = network(Freeze(0, heals=heals), limits=Limits(handshake_timeout=5))
        listener = await made.listen("sim://server")
        try:
            link = await made.of("a").connect("sim://server")
        except ConnectFailed as error:
            return str(error), now()
        finally:
            await listener.aclose()
        link.abort()
        return "connected", now()

    assert sim(lambda: main(3)) == ("connected", 3)
    assert sim(lambda: main(60)) == ("sim://server: no answer within 5 s", 5)
    assert sim(lambda: main(None))[1] == 5


def test_a_half_open_peer_is_silent_for_ever_and_later_links_work(sim):
    """Not even an abort of the other end arrives; writes are swallowed until the buffer is full."""

    async def main():
        made = network(HalfOpen(at=5))
        async with connection(made) as (here, there, at_here, _):
            await asyncio.sleep(6)
            there.abort()
            here.send_soon([HELLO, *[Data(1, n * MIB, bytes(MIB)) for n in range(3)]])
            await asyncio.sleep(3600)
            again = await made.of("site-1").connect("sim://server")
            again.abort()
            return list(at_here.lost_with), here.writable, here.pending > 2 * MIB

    assert sim(main) == ([], False, True)


def test_manual_control_of_one_link(sim):
    """Freeze and thaw lose nothing; half_open tells nobody; cut tells both."""

    async def main():
        made = network()
        async with connection(made) as (here, there, at_here, at_there):
            made.links[0].freeze()
            here.send_soon([HELLO])
            await asyncio.sleep(10)
            frozen = list(at_there.frames)
            made.links[0].thaw()
            await asyncio.sleep(1)
            thawed = list(at_there.frames)
            made.links[0].half_open()
            made.links[0].thaw()
            there.abort()
            await asyncio.sleep(10)
            return frozen, thawed, list(at_here.lost_with)

    assert sim(main) == ([], [HELLO], [])


def test_a_partition_separates_and_heals(sim):
    """One way or both; new connections wait; what was sent arrives afterwards."""

    async def main():
        made = network()
        async with connection(made) as (here, there, at_here, at_there):
            made.partition("site-1", "server", one_way=True)
            here.send_soon([HELLO])
            there.send_soon([HELLO, Ping(1)])
            await asyncio.sleep(10)
            during = len(at_there.frames), len(at_here.frames)
            made.partition("site-1")
            with pytest.raises(ConnectFailed):
                await made.of("site-1").connect("sim://server")
            (await made.of("site-2").connect("sim://server")).abort()
            made.heal("site-1")
            await asyncio.sleep(1)
            return during, len(at_there.frames)

    assert sim(main) == ((0, 2), 1)


def test_an_end_that_was_told_into_a_partition_arrives_when_it_heals(sim):
    """The other end learns it late, and nothing is left pending."""

    async def main():
        made = network()
        async with connection(made) as (here, there, at_here, _):
            made.partition("server")
            there.abort()
            here.send_soon([HELLO, Data(1, 0, bytes(2 * MIB))])
            await asyncio.sleep(100)
            before = list(at_here.lost_with), here.pending > 0
            made.heal()
            await asyncio.sleep(1)
            return before, at_here.lost_with, here.pending

    assert sim(main) == (([], True), [None], 0)


def test_a_fault_of_ones_own_is_a_subclass():
    """Any question can be answered anew."""

    class Tide(Fault):
        def delay(self, dice):
            return 7.0

    assert exchange(Tide())[0].at[0] == 7.0


def test_faults_are_seeded():
    """One seed, one story; adding a fault for one site changes nothing for another."""
    first = exchange(Delay(1, jitter=5))[0].at
    again = exchange(Delay(1, jitter=5), Delay(3, site="other"))[0].at
    assert first == again


def test_a_faulty_link_drops_doubles_and_reorders_frames(sim):
    """What is withheld passes later, in any order; a healed link is as any other."""

    async def main():
        async with link_pair(network(), "sim://there") as (here, there):
            faulty, recorder = FaultyLink(there), Recorder()
            faulty.start(recorder)
            faulty.drop(lambda frame: frame == Ping(1))
            faulty.duplicate(lambda frame: frame == Ping(2))
            faulty.withhold(lambda frame: isinstance(frame, Ack))
            here.start(Recorder())
            here.send_soon([HELLO, Ping(1), Ack(1, 1, 1), Ping(2), Ack(1, 2, 2), Ping(3)])
            await asyncio.sleep(1)
            first = list(recorder.frames)
            faulty.deliver(order=[1, 0])
            faulty.heal()
            return first, recorder.frames[len(first) :], faulty.dropped

    first, then, dropped = sim(main)
    assert first == [HELLO, Ping(2), Ping(2), Ping(3)]
    assert (then, dropped) == ([Ack(1, 2, 2), Ack(1, 1, 1)], 1)


HARMLESS = (Delay(0.05, jitter=0.1), Slice(70_000, varied=True), SlowReader(50e6), Bandwidth(80e6))


@pytest.mark.parametrize("check", CHECKS, ids=check_name)
def test_a_slow_link_is_still_a_link(check):
    """The conformance kit holds under every fault that breaks nothing."""

    async def main():
        made = network(*HARMLESS)
        await run_check(check, lambda: link_pair(made, "sim://there"))

    run_sim(main, seed=3)
