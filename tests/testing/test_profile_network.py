"""Frames over a network with a profile: seconds that can be computed, and a link's manners."""

from __future__ import annotations

import asyncio
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async.errors import ConfigError, ConnectFailed
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SeededRandom
from flare_async.net.zeros import zeros
from flare_async.testing.frame_size import frame_size
from flare_async.testing.profile import Line, Profile
from flare_async.testing.profile_network import ProfileNetwork
from flare_async.testing.spread import Spread
from flare_async.wire.codec import encode
from flare_async.wire.frames import Ack, Data, Goodbye, Open, Ping

SIZE = 100_000


class Receiver:
    """Notes what arrives, and when."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, object]] = []

    def receive(self, frames) -> None:
        """Take frames."""
        now = asyncio.get_running_loop().time()
        self.seen += [(now, frame) for frame in frames]

    def destination(self, channel, offset, length) -> None:
        """Offer no memory."""

    def lost(self, error) -> None:
        """Note the end."""
        self.seen.append((asyncio.get_running_loop().time(), "lost"))


def network(latency: float = 0.0, rate: float | None = None, **given) -> ProfileNetwork:
    """Return a network of which every line is the same."""
    bandwidth = None if rate is None else Spread.constant(rate)
    line = Line(Spread.constant(latency), bandwidth)
    profile = Profile("line", line, line)
    return ProfileNetwork(LoopClock(), SeededRandom(1), lambda host: profile, **given)


async def linked(made: ProfileNetwork, host: str = "site"):
    """Return both ends of a new link."""
    listener = (
        await made.listen("sim://server") if host == "site" else made._listeners["sim://server"]
    )
    here = await made.of(host).connect("sim://server")
    return here, await anext(listener)


def data(offset: int = 0) -> Data:
    """Return a frame that is SIZE long with its head."""
    return Data(1, offset, zeros(SIZE - 24))


def test_connecting_takes_a_round_trip_and_a_frame_its_bytes_and_a_latency(sim):
    """0.5 s each way; 100 KB at 100 KB/s is a second; the second frame waits for the first."""

    async def main():
        here, there = await linked(network(0.5, SIZE))
        connected, receiver = asyncio.get_running_loop().time(), Receiver()
        there.start(receiver)
        here.send_soon([data(), data(SIZE)])
        await asyncio.sleep(10)
        return connected, [when for when, _ in receiver.seen]

    assert sim(main) == (1.0, [2.5, 3.5])


def test_payloads_arrive_as_the_very_objects_that_were_sent(sim):
    """Nothing is encoded, so nothing is copied."""

    async def main():
        here, there = await linked(network())
        receiver, frame = Receiver(), data()
        there.start(receiver)
        here.send_soon([frame])
        await asyncio.sleep(0.1)
        return receiver.seen[0][1] is frame

    assert sim(main)


def test_all_links_of_a_host_share_its_port(sim):
    """Ten sites send 100 KB each to a port of 100 KB/s: the last arrives after nine seconds."""

    async def main():
        made = network(rate_of=lambda host: SIZE if host == "server" else inf)
        links = [await linked(made, "site" if not at else f"site-{at}") for at in range(10)]
        receiver = Receiver()
        for here, there in links:
            there.start(receiver)
            here.send_soon([data()])
        await asyncio.sleep(60)
        return [when for when, _ in receiver.seen]

    assert sim(main) == [float(at) for at in range(10)]


def test_what_has_not_left_makes_a_link_unwritable_until_half_of_it_has(sim):
    """Beyond a MiB a session waits; then it is woken once."""

    async def main():
        here, _ = await linked(network(rate=SIZE))
        here.send_soon([data(at * SIZE) for at in range(15)])
        full = here.writable
        await here.wait_writable()
        return full, here.pending, asyncio.get_running_loop().time()

    assert sim(main) == (False, 500_000, 10.0)


def test_the_end_arrives_behind_what_was_sent(sim):
    """An orderly end loses nothing, and an abort does not overtake."""

    async def main():
        here, there = await linked(network(0.5, SIZE))
        receiver = Receiver()
        there.start(receiver)
        here.send_soon([data()])
        here.abort()
        await asyncio.sleep(10)
        return [kind if kind == "lost" else "frame" for _, kind in receiver.seen], there.closed

    assert sim(main) == (["frame", "lost"], True)


def test_nobody_listens_and_too_far_away_are_failures(sim):
    """As with every transport, the error names the address."""

    async def main():
        with pytest.raises(ConnectFailed, match="nobody listens"):
            await network(0.5).of("site").connect("sim://server")
        with pytest.raises(ConnectFailed, match="no answer within 5 s"):
            await network(3.0).of("site").connect("sim://server")
        with pytest.raises(ConfigError, match="sim://name"):
            await network().of("site").connect("tcp://server")
        return asyncio.get_running_loop().time()

    assert sim(main) == 6.0


@pytest.mark.parametrize(
    "frame",
    [Ack(1, 5, 9), data(), Data(1, 0, b"", True, b"x" * 32), Open(1, "pull", b"header"), Ping(1)],
)
def test_the_size_of_a_frame_is_what_it_has_on_the_wire(frame):
    """Without being encoded, where there are many."""
    head, payload = encode(frame)
    assert frame_size(frame) == len(head) + len(payload)


@given(
    st.text(st.characters(categories=["L"]), min_size=1, max_size=60),
    st.sampled_from([0, 1, 31, 32, 255, 256, 65535, 65536, 70000]),
    st.sampled_from([0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**62]),
    st.tuples(st.booleans(), st.booleans(), st.integers(0, 255)),
)
def test_the_size_of_an_open_is_computed(name, header, window, others):
    """For texts, bytes and numbers of any length, as msgpack packs them."""
    end, urgent, hops = others
    frame = Open(3, name, bytes(header), window, end, urgent, name * (hops % 3), hops)
    assert frame_size(frame) == len(encode(frame)[0])


def test_hosts_count_what_has_passed(sim):
    """Frames, bytes, and payload by itself; each byte out of one host is in at another."""

    async def main():
        made = network()
        here, there = await linked(made)
        there.start(Receiver())
        here.send_soon([data(), Goodbye(0, "done")])
        await asyncio.sleep(1)
        return made.hosts

    hosts = sim(main)
    assert (hosts["site"].frames_out, hosts["site"].payload_out) == (2, SIZE - 24)
    assert hosts["site"].bytes_out == hosts["server"].bytes_in
