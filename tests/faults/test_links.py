"""F03, F04, F07, F08, F10, F14-F17, F33: one link that misbehaves, in virtual time."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import asynccontextmanager

import pytest

from flare_async import SimEnv
from flare_async.errors import AckStalled, ConfigError, LinkError, RemoteProtocolError
from flare_async.limits import KIB, MIB, Limits
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SeededRandom
from flare_async.testing import (
    Bandwidth,
    Cut,
    Delay,
    FaultyLink,
    HalfOpen,
    OneWayCut,
    SimNetwork,
    connected,
    link_pair,
)
from flare_async.wire.frames import Ack, Data, Open
from flare_async.wire.session import OpenOptions
from tests.faults.world import Site, model_of, now, world

T = 10.0
STALLING = Limits(stall_timeout=T, heartbeat_interval=30, session_grace=300)


def faulty_pair(limits=STALLING, **options):
    """Return two connected sessions whose links are faulty on demand."""

    @asynccontextmanager
    async def make():
        network = SimNetwork(LoopClock(), SeededRandom(1), latency=(0.0, 0.0), **options)
        async with link_pair(network, "sim://there") as ends:
            yield tuple(FaultyLink(end) for end in ends)

    return connected(make, limits)


def faults_of(pair):
    """Return the faulty links under the taps: (near, far)."""
    return pair.near.link, pair.far.link


async def push(channel, nbytes):
    """Send until it fails; return the error and when it came."""
    try:
        for _ in range(nbytes // (256 * KIB)):
            await channel.send(bytes(256 * KIB))
    except AckStalled as error:
        return error, now()
    return None, now()


def test_f03_a_peer_that_reads_and_never_acknowledges_is_a_stall(sim):
    """The watchdog fires in [T, T + 0.25 s] and names peer, channel and bytes."""

    async def main():
        async with faulty_pair() as pair:
            mine, _ = await pair.open("bulk")
            faults_of(pair)[0].drop(lambda frame: isinstance(frame, Ack))
            began = now()
            error, when = await push(mine, 16 * MIB)
            return error, when - began

    error, seconds = sim(main)
    assert T <= seconds <= T + 0.25
    assert (error.peer, error.topic, error.acknowledged) == ("acceptor", "bulk", 0)
    assert error.sent > 0
    for word in ("acceptor", "bulk", str(error.sent), "10.0 s"):
        assert word in str(error)


def test_a_channel_that_moves_every_nine_tenths_of_its_patience_is_never_reset(sim):
    """One chunk every 0.9 T for twenty minutes of virtual time."""

    async def main():
        async with faulty_pair() as pair:
            mine = pair.here.open("slow", options=OpenOptions(leased=True))
            chunks = math.ceil(1200 / (0.9 * T))
            memory = bytearray(chunks * 1000)
            mine.lease(memoryview(memory))
            theirs = await anext(pair.there)

            async def feed():
                for _ in range(chunks):
                    await asyncio.sleep(0.9 * T)
                    theirs.send_soon(b"\x01" * 1000)
                theirs.end()

            async with asyncio.TaskGroup() as group:
                group.create_task(feed())
                await mine.landed()
            return now(), memory.count(1), len(memory)

    seconds, landed, size = sim(main)
    assert seconds >= 1200
    assert landed == size


@pytest.mark.parametrize(
    "ack",
    [
        lambda sent: Ack(1, sent + 1, sent + 10),  # beyond what was sent
        lambda sent: Ack(1, sent, sent - 1),  # a limit behind its own offset
    ],
)
def test_f04_an_acknowledgement_that_lies_is_a_protocol_error(sim, ack):
    """Typed; no window grows by it."""

    async def main():
        async with faulty_pair() as pair:
            mine, theirs = await pair.open("bulk")
            await mine.send(bytes(1000))
            await theirs.receive()
            await pair.round_trip()
            faults_of(pair)[0].receive([ack(1000)])
            await asyncio.sleep(0)
            return pair.here.error

    assert isinstance(sim(main), RemoteProtocolError)


def test_f04_the_same_offset_for_ever_is_a_stall(sim):
    """An acknowledgement that repeats itself is no progress and grants nothing."""

    async def main():
        async with faulty_pair() as pair:
            mine, _ = await pair.open("bulk")
            near, _ = faults_of(pair)
            near.drop(lambda frame: isinstance(frame, Ack))

            async def repeat():
                while mine.failed is None:
                    near._receiver.receive([Ack(mine.id, 0, 8 * KIB)])
                    await asyncio.sleep(1)

            async with asyncio.TaskGroup() as group:
                task = group.create_task(repeat())
                error, when = await push(mine, 16 * MIB)
                task.cancel()
            return error, when

    error, seconds = sim(main)
    assert T <= seconds <= T + 0.25
    assert error.acknowledged == 0


def test_f07_a_half_open_peer_is_found_by_the_heartbeat_and_the_session_goes_on(sim):
    """Found within three heartbeats on both sides; the round ends; others are not touched."""
    workers = {"a": Site(1, seconds=60), "b": Site(2, seconds=60)}

    async def main():
        async with world(workers, HalfOpen(10, site="a")) as made:
            _, seconds = await made.round(model_of(MIB))
            return seconds, made.network.made, made.seen.status()

    seconds, links, status = sim(main)
    assert links == 3
    assert status == {"a": "ok", "b": "ok"}
    assert seconds < 60 + 15 + 5
    assert [site.finished for site in workers.values()] == [1, 1]


@pytest.mark.parametrize("direction", ["up", "down"])
def test_f08_both_sides_of_an_asymmetric_partition_agree(sim, direction):
    """The heartbeat needs an answer: neither side believes in a link that is dead one way."""
    workers = {"a": Site(1, seconds=40), "b": Site(2, seconds=40)}

    async def main():
        cut = OneWayCut(direction, 5, heals=60, site="a")
        async with world(workers, cut) as made:
            (old,) = (link for link in made.network.links if link.site == "a")
            await asyncio.sleep(5 + 2 * 15)
            agreed = old.closed and old.peer.closed
            mean, _ = await made.round(model_of(MIB))
            return agreed, made.seen.status(), float(mean[0])

    agreed, status, first = sim(main)
    assert agreed
    assert (status, first) == ({"a": "ok", "b": "ok"}, 1.5)


def test_f10_a_flapping_partition_costs_a_bounded_number_of_connections(sim):
    """A cut every three seconds for five minutes: back-off with jitter, and the round ends."""
    workers = {"a": Site(1, seconds=310), "b": Site(2, seconds=310)}

    async def main():
        async with world(workers, Cut(at=3, every=3, stop=300)) as made:
            _, seconds = await made.round(model_of(MIB))
            await asyncio.sleep(30)
            return made.network.made, len(made.network.links), seconds, made.seen.status()

    made, live, seconds, status = sim(main)
    assert 4 <= made <= 2 * (300 / 3 + 2)
    assert live == 2
    assert status == {"a": "ok", "b": "ok"}
    assert seconds < 310 + 60
    assert [site.finished for site in workers.values()] == [1, 1]


def test_f14_a_slow_link_completes_whatever_the_timeouts(sim):
    """10 KB/s moves 1 MB each way in 200 s, with 60 s in every limit: progress is what counts."""
    limits = Limits(
        stall_timeout=60,
        send_timeout=60,
        window_bytes=256 * KIB,
        link_bytes=MIB,
        frame_bytes=64 * KIB,
    )

    async def main():
        async with world({"a": Site()}, Bandwidth(10_000), limits=limits) as made:
            _, seconds = await made.round(model_of(1_000_000))
            return seconds, made.network.made, made.seen.status()

    seconds, links, status = sim(main)
    assert 200 < seconds < 230
    assert (links, status) == (1, {"a": "ok"})


@pytest.mark.parametrize("heartbeat", [5, 20])
def test_f15_a_round_trip_of_thirty_seconds_is_no_dead_peer(sim, heartbeat):
    """Throughput is a window a round trip, and nobody is declared dead."""
    limits = Limits(
        handshake_timeout=100,
        heartbeat_interval=heartbeat,
        window_bytes=MIB,
        link_bytes=4 * MIB,
        start_timeout=200,
    )

    async def main():
        async with world({"a": Site()}, Delay(15), limits=limits) as made:
            _, seconds = await made.round(model_of(2 * MIB))
            return seconds, made.network.made, made.seen.status()

    seconds, links, status = sim(main)
    assert (links, status) == (1, {"a": "ok"})
    assert seconds < 30 * 30


def test_f16_frames_out_of_order_never_become_data_out_of_order(sim):
    """A stream cannot do that; an executor could: it is a typed error, never a wrong byte."""

    async def main():
        async with faulty_pair() as pair:
            mine, theirs = await pair.open("bulk")
            _, far = faults_of(pair)
            far.withhold(lambda frame: isinstance(frame, Data))
            for number in range(67):
                mine.send_soon(bytes([number]) * 100)
                await asyncio.sleep(0)
            far.deliver(order=[*range(1, len(far.withheld)), 0])
            got = b"".join([bytes(piece) for piece in theirs._inbox or ()])
            return pair.there.error, got

    error, got = sim(main)
    assert isinstance(error, RemoteProtocolError)
    assert got == b""


def test_f16_sixty_six_chunks_that_wait_for_the_first_one_are_no_reason_to_abort(sim):
    """Late chunks in order, after any time below the patience, are delivered."""

    async def main():
        async with faulty_pair() as pair:
            mine, theirs = await pair.open("bulk")
            _, far = faults_of(pair)
            far.withhold(lambda frame: isinstance(frame, Data))
            for number in range(67):
                mine.send_soon(bytes([number]) * 100)
                await asyncio.sleep(0)
            mine.end()
            await asyncio.sleep(0.9 * T)
            far.deliver()
            return b"".join([bytes(piece) async for piece in theirs])

    assert sim(main) == b"".join(bytes([number]) * 100 for number in range(67))


@pytest.mark.parametrize("kind", [Data, Open])
def test_f17_a_frame_that_comes_twice_is_counted_once(sim, kind):
    """Idempotent or refused: the bytes that were received are never other than those sent."""

    async def main():
        async with faulty_pair() as pair:
            _, far = faults_of(pair)
            far.duplicate(lambda frame: isinstance(frame, kind))
            mine = pair.here.open("bulk")
            mine.send_soon(b"once")
            mine.end()
            theirs = await anext(pair.there)
            try:
                got = b"".join([bytes(piece) async for piece in theirs])
            except (LinkError, RemoteProtocolError) as error:
                return error, pair.there.error
            return got, pair.there.error

    got, error = sim(main)
    assert got == b"once" or isinstance(error, RemoteProtocolError)


def test_f33_a_step_of_the_wall_clock_is_no_time(sim, monkeypatch):
    """Durations come from the monotonic clock only: an hour back and forth changes nothing."""
    steps = iter([3600.0, -3600.0, -30.0] * 10_000)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + next(steps))
    workers = {"a": Site(seconds=20), "b": Site(seconds=30)}

    async def main():
        async with world(workers) as made:
            _, seconds = await made.round(model_of(MIB), deadline=100)
            return seconds, made.network.made, made.seen.status()

    seconds, links, status = sim(main)
    assert 30 <= seconds < 31
    assert (links, status) == (2, {"a": "ok", "b": "ok"})


def test_a_fault_names_its_site_or_is_refused():
    """A typing error must not make a scenario harmless."""
    with pytest.raises(ConfigError, match="site-9"):
        SimEnv(num_clients=2, faults=[Delay(1, site="site-9")])
