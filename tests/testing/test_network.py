"""The simulated network: encoded bytes, in order, late, bounded, and breakable."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.errors import ConfigError, ConnectFailed, LinkLost, RemoteProtocolError
from flare_async.limits import KIB, MIB
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SeededRandom
from flare_async.testing.loop import run_sim
from flare_async.testing.network import SimNetwork
from flare_async.testing.pipe import SOCKET_BYTES
from flare_async.wire.frames import Ack, Data, Hello, Landed, Ping

HELLO = Hello(1, "site-1", bytes(16), 0, b"", "client", 64 * KIB, MIB)


class Recorder:
    """A receiver that keeps what it is told, and lends ``memory`` when it has some."""

    def __init__(self, memory: bytearray | None = None):
        self.frames = []
        self.times = []
        self.lost_with = []
        self.memory = memory

    def receive(self, frames):
        self.frames.extend(frames)
        self.times.extend([asyncio.get_running_loop().time()] * len(frames))

    def destination(self, channel, offset, length):
        return None if self.memory is None else memoryview(self.memory)[offset : offset + length]

    def lost(self, error):
        self.lost_with.append(error)

    @property
    def payload(self):
        """The bytes of all data frames."""
        return b"".join(bytes(frame.payload) for frame in self.frames if isinstance(frame, Data))


def make_network(seed: int = 1, **options) -> SimNetwork:
    """Return a network on the running loop."""
    return SimNetwork(LoopClock(), SeededRandom(seed), **options)


@asynccontextmanager
async def connection(network: SimNetwork, *, started: bool = True):
    """Yield both ends with their recorders; abort them at the end."""
    listener = await network.listen("sim://server")
    here = await network.connect("sim://server")
    there = await anext(listener)
    here_recorder, there_recorder = Recorder(), Recorder()
    here.start(here_recorder)
    if started:
        there.start(there_recorder)
    yield here, there, here_recorder, there_recorder
    here.abort()
    there.abort()
    await listener.aclose()


def test_frames_arrive_as_equal_copies_in_order(sim):
    """The codec is between the ends: nothing is shared."""
    payload = bytearray(range(256)) * 1024

    async def main():
        async with connection(make_network()) as (here, _, _, there):
            here.send_soon([HELLO, Ping(5), Data(1, 0, memoryview(payload)), Ack(1, 3, 9)])
            await asyncio.sleep(1)
            return there.frames, there.payload

    frames, received = sim(main)
    assert [frames[0], frames[1], frames[-1]] == [HELLO, Ping(5), Ack(1, 3, 9)]
    assert received == payload


def test_both_directions_are_independent(sim):
    """Each end sends and receives."""

    async def main():
        async with connection(make_network()) as (here, there, at_here, at_there):
            here.send_soon([HELLO])
            there.send_soon([HELLO, Ping(1)])
            await asyncio.sleep(1)
            return at_here.frames, at_there.frames

    assert sim(main) == ([HELLO, Ping(1)], [HELLO])


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1000),
    sizes=st.lists(st.integers(1, 300 * KIB), min_size=1, max_size=6),
    bandwidth=st.sampled_from([None, 10_000_000.0]),
)
def test_bytes_arrive_in_order_whatever_the_latencies(seed, sizes, bandwidth):
    """Bytes sent are the bytes received, for every seed."""

    async def main():
        network = make_network(seed, latency=(0.0, 0.5), bandwidth=bandwidth)
        async with connection(network) as (here, _, _, there):
            here.send_soon([HELLO])
            offset = 0
            for index, size in enumerate(sizes):
                await here.wait_writable()
                here.send_soon([Data(1, offset, bytes([index]) * size)])
                offset += size
            await asyncio.sleep(10)
            return there.payload

    assert run_sim(main, seed=seed) == b"".join(bytes([i]) * n for i, n in enumerate(sizes))


def test_latency_is_seeded_and_within_its_bounds():
    """One seed gives one set of times; they are what the network was told."""

    async def main(seed):
        async with connection(make_network(seed, latency=(0.2, 0.3))) as (here, _, _, there):
            began = asyncio.get_running_loop().time()
            here.send_soon([HELLO])
            await asyncio.sleep(1)
            return there.times[0] - began

    first, again, other = (run_sim(lambda seed=seed: main(seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert 0.2 <= first <= 0.3


def test_bandwidth_bounds_the_bytes_of_each_second(sim):
    """A megabyte at 100 kB/s takes ten seconds, whatever the window."""

    async def main():
        network = make_network(latency=(0.0, 0.0), bandwidth=100_000.0)
        async with connection(network) as (here, _, _, there):
            began = asyncio.get_running_loop().time()
            here.send_soon([HELLO, Data(1, 0, bytes(1_000_000))])
            await asyncio.sleep(20)
            return len(there.payload), there.times[-1] - began

    nbytes, seconds = sim(main)
    assert nbytes == 1_000_000
    assert 10.0 <= seconds < 10.1


def test_a_reader_that_has_not_started_fills_the_write_buffer(sim):
    """Pending grows past the mark, writable turns false, and a reader makes it true again."""

    async def main():
        async with connection(make_network(), started=False) as (here, there, _, recorder):
            sent = SOCKET_BYTES + here.frame_bytes + 1
            here.send_soon([HELLO, Data(1, 0, bytes(sent))])
            stuck = (here.writable, here.pending > here.frame_bytes)
            await asyncio.sleep(100)
            still = here.pending
            there.start(recorder)
            await here.wait_writable()
            return stuck, still > here.frame_bytes, here.pending, here.writable

    assert sim(main) == ((False, True), True, 0, True)


def test_a_link_below_its_mark_is_writable_at_once(sim):
    """Waiting costs no turn of the loop."""

    async def main():
        async with connection(make_network()) as (here, _, _, _):
            await here.wait_writable()
            return here.writable, here.pending

    assert sim(main) == (True, 0)


def test_leased_memory_gets_the_payload(sim):
    """What landed is reported by position, not as data."""
    memory = bytearray(100 * KIB)

    async def main():
        async with connection(make_network(), started=False) as (here, there, _, _):
            recorder = Recorder(memory)
            there.start(recorder)
            here.send_soon([HELLO, Data(1, 0, b"\x07" * len(memory))])
            await asyncio.sleep(1)
            return recorder.frames

    frames = sim(main)
    assert sum(frame.length for frame in frames if isinstance(frame, Landed)) == len(memory)
    assert memory == b"\x07" * len(memory)


def test_abort_ends_both_ends_once(sim):
    """The other end learns it after what had left; each is told one time."""

    async def main():
        async with connection(make_network()) as (here, there, at_here, at_there):
            here.send_soon([HELLO])
            here.abort()
            here.abort()
            here.send_soon([Ping(1)])
            await asyncio.sleep(1)
            there.send_soon([Ping(2)])
            return at_here.lost_with, at_there.lost_with, at_there.frames, there.writable

    assert sim(main) == ([None], [None], [HELLO], False)


def test_abort_inside_a_frame_is_a_truncated_stream(sim):
    """Half a frame is never taken for an orderly end."""

    async def main():
        async with connection(make_network(bandwidth=1e6)) as (here, _, _, there):
            here.send_soon([HELLO, Data(1, 0, bytes(MIB))])
            await asyncio.sleep(0.1)
            here.abort()
            await asyncio.sleep(1)
            return there.lost_with

    (error,) = sim(main)
    assert isinstance(error, RemoteProtocolError)
    assert error.reason == "truncated"


def test_aclose_sends_what_is_pending_first(sim):
    """An orderly end loses nothing."""

    async def main():
        async with connection(make_network(bandwidth=1e6)) as (here, _, _, there):
            here.send_soon([HELLO, Data(1, 0, bytes(MIB))])
            await here.aclose()
            await asyncio.sleep(1)
            return len(there.payload), there.lost_with

    assert sim(main) == (MIB, [None])


def test_cancelling_aclose_aborts(sim):
    """A close that is bounded by its caller ends the link in any case."""

    async def main():
        async with connection(make_network(), started=False) as (here, _, at_here, _):
            here.send_soon([HELLO, Data(1, 0, bytes(2 * MIB))])
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(5):
                    await here.aclose()
            return here.pending, here.closed, at_here.lost_with

    assert sim(main) == (0, True, [None])


def test_a_waiter_for_room_is_woken_when_the_other_end_closes(sim):
    """Nobody waits for a link that has ended."""

    async def main():
        network = make_network()
        async with connection(network, started=False) as (here, there, _, _):
            here.send_soon([HELLO, Data(1, 0, bytes(2 * MIB))])
            asyncio.get_running_loop().call_later(3, there.abort)
            await here.wait_writable()
            return asyncio.get_running_loop().time() >= 3, here.pending

    assert sim(main) == (True, 0)


def test_a_waiter_that_does_not_read_is_woken_too(sim):
    """A link that has not started cannot hear of the end, but what it sends is dropped."""

    async def main():
        network = make_network()
        listener = await network.listen("sim://server")
        here = await network.connect("sim://server")
        here.send_soon([HELLO, Data(1, 0, bytes(2 * MIB))])
        asyncio.get_running_loop().call_later(3, (await anext(listener)).abort)
        await here.wait_writable()
        here.send_soon([Data(1, 2 * MIB, bytes(2 * MIB))])
        return asyncio.get_running_loop().time() >= 3, here.pending

    assert sim(main) == (True, 0)


def test_room_is_given_below_a_quarter_of_the_mark(sim):
    """A waiter is woken for a batch, not for every chunk that leaves."""

    async def main():
        async with connection(make_network(bandwidth=1e6)) as (here, _, _, _):
            here.send_soon([HELLO, Data(1, 0, bytes(MIB))])
            await here.wait_writable()
            return here.frame_bytes // 4 - here.pending

    assert 0 <= sim(main) < 10_000


def test_a_cut_loses_what_is_on_the_way_and_tells_both_ends(sim):
    """Both get a typed error that names the other."""

    async def main():
        network = make_network()
        async with connection(network) as (here, _, at_here, at_there):
            here.send_soon([HELLO])
            (link,) = network.links
            link.cut()
            await asyncio.sleep(1)
            return at_here.lost_with, at_there.lost_with, at_there.frames, network.links

    mine, theirs, frames, links = sim(main)
    assert [type(error) for error in mine + theirs] == [LinkLost, LinkLost]
    assert str(mine[0]) == "sim://server: the connection was cut"
    assert (frames, links) == ([], [])


def test_a_link_that_ended_before_start_says_so_at_once(sim):
    """A session that starts too late is told why."""

    async def main():
        async with connection(make_network(), started=False) as (here, there, _, recorder):
            here.cut()
            await asyncio.sleep(1)
            there.start(recorder)
            return [str(error) for error in recorder.lost_with]

    (message,) = sim(main)
    assert message.endswith("the connection was cut")


def test_garbage_is_a_typed_error_and_the_receiver_may_answer(sim):
    """The session is told before the link closes, and its last frame still leaves."""

    class Answering(Recorder):
        def lost(self, error):
            super().lost(error)
            self.link.send_soon([HELLO])

    async def main():
        async with connection(make_network(), started=False) as (here, there, at_here, _):
            recorder = Answering()
            recorder.link = there
            there.start(recorder)
            here._pipe.write([b"GET / HTTP/1.1\r\n\r\n" + bytes(100)])
            await asyncio.sleep(1)
            return recorder.lost_with, at_here.frames, at_here.lost_with

    (error,), frames, lost = sim(main)
    assert (error.reason, frames, lost) == ("not_flare", [HELLO], [None])


def test_nobody_listens(sim):
    """A refusal takes a latency and names the address."""

    async def main():
        network = make_network()
        with pytest.raises(ConnectFailed, match="sim://nowhere: nobody listens"):
            await network.connect("sim://nowhere")
        return asyncio.get_running_loop().time() > 0

    assert sim(main)


def test_a_name_has_one_listener_until_it_closes(sim):
    """Closing frees the name and refuses those who wait to be accepted."""

    async def main():
        network = make_network()
        listener = await network.listen("sim://server")
        with pytest.raises(ConnectFailed, match="already"):
            await network.listen("sim://server")
        link, recorder = await network.connect("sim://server"), Recorder()
        link.start(recorder)
        await listener.aclose()
        await asyncio.sleep(1)
        await network.listen("sim://server")
        return recorder.lost_with

    assert sim(main) == [None]


def test_a_connect_that_is_cancelled_leaves_no_link(sim):
    """The listener's end learns that nobody is there."""

    async def main():
        network, recorder = make_network(latency=(1.0, 1.0)), Recorder()
        listener = await network.listen("sim://server")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await network.connect("sim://server")
        link = await anext(listener)
        link.start(recorder)
        await asyncio.sleep(5)
        return recorder.lost_with, network.links

    assert sim(main) == ([None], [])


@pytest.mark.parametrize("address", ["tcp://server:1", "sim://", "server"])
def test_other_addresses_are_refused(sim, address):
    """Nothing of the real world is reached by mistake."""

    async def main():
        for call in (make_network().connect, make_network().listen):
            with pytest.raises(ConfigError, match="sim://name"):
                await call(address)
        return True

    assert sim(main)


@pytest.mark.parametrize(
    "options", [{"latency": (2.0, 1.0)}, {"latency": (-1.0, 1.0)}, {"bandwidth": 0.0}]
)
def test_impossible_networks_are_refused(sim, options):
    """The numbers are checked when the network is made."""

    async def main():
        with pytest.raises(ConfigError):
            make_network(**options)
        return True

    assert sim(main)
