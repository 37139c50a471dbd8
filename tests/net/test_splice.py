"""Two channels made one: order, ends, trailers, resets, credit, references."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.errors import (
    AckStalled,
    BelowMinRate,
    ChannelReset,
    LinkLost,
    RemoteProtocolError,
    ResourceLimit,
)
from flare_async.limits import KIB, Limits
from flare_async.net.splice import Splice, reset_of
from flare_async.testing import run_sim
from flare_async.testing.pair import connected
from flare_async.wire.frames import Ack, Data, Open, ResetCode
from flare_async.wire.session import OpenOptions
from tests.net.peers import memory_links, sim_links

WINDOW = 16 * KIB
LIMITS = Limits(window_bytes=WINDOW, frame_bytes=4 * KIB, control_bytes=4 * KIB, channels=100)
BOTH = pytest.mark.parametrize("links", [sim_links(), memory_links], ids=["bytes", "memory"])


class Joint:
    """Two pairs of sessions; what is opened at one far end goes on to the other."""

    def __init__(self, left, right):
        self.left, self.right = left, right
        self.ends, self.splices = [], []
        left.there.serve("t", self.go_on)

    def go_on(self, channel):
        """Open the other side and join both."""
        splice = Splice(channel, self.ends.append)
        options = OpenOptions(end=channel.ended_there, window=WINDOW, urgent=channel.urgent)
        splice.join(self.right.here.open("t", channel.header, options))
        self.splices.append(splice)


async def joined(body, links=None, options=None):
    """Run ``body(joint, near, far)`` with one channel from end to end."""
    make = links or sim_links()
    async with connected(make, LIMITS) as left, connected(make, LIMITS) as right:
        joint = Joint(left, right)
        near = left.here.open("t", b"header", options)
        far = await anext(right.there)
        return await body(joint, near, far)


async def everything(channel):
    """Return all bytes until the end."""
    data = bytearray()
    try:
        while True:
            data += await channel.receive()
    except anyio.EndOfStream:
        return bytes(data)


@BOTH
def test_what_goes_in_on_one_side_comes_out_on_the_other(sim, links):
    """Both ways, with header and trailers; afterwards nothing is open anywhere."""

    async def body(joint, near, far):
        near.send_soon(b"up" * 30_000)
        near.end(b"trailer up")
        far.send_soon(b"down" * 9_000)
        far.end(b"trailer down")
        up, down = await everything(far), await everything(near)
        await anyio.sleep(1)
        sessions = (joint.left.here, joint.left.there, joint.right.here, joint.right.there)
        left = [len(session.channels) for session in sessions]
        return far.header, up, down, far.trailer, near.trailer, joint.ends, left

    header, up, down, there, here, ends, left = sim(lambda: joined(body, links))
    assert (header, up, down) == (b"header", b"up" * 30_000, b"down" * 9_000)
    assert (there, here, ends, left) == (b"trailer up", b"trailer down", [None], [0] * 4)


@BOTH
def test_the_last_bytes_and_their_end_go_on_in_one_frame(sim, links):
    """Of an answer it says besides that the question was read, as it did when it came."""

    async def body(joint, near, far):
        near.send_last(b"question")
        asked = await everything(far)
        far.send_last(b"answer", b"trailer")
        answer = await everything(near)
        await anyio.sleep(1)
        passed = [joint.right.near.sent(), joint.left.far.sent()]
        kinds = [[frame.kind for frame in sent if frame.channel == near.id] for sent in passed]
        return asked, answer, near.trailer, *kinds, joint.ends

    asked, answer, trailer, up, down, ends = sim(
        lambda: joined(body, links, OpenOptions(urgent=True))
    )
    assert (asked, answer, trailer, ends) == (b"question", b"answer", b"trailer", [None])
    assert (up, down) == ([Open, Data, Ack], [Data])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=5000), max_size=8), st.booleans())
def test_any_chunks_arrive_in_order(chunks, pauses):
    """Whatever their borders, and however they come."""

    async def body(joint, near, far):
        for chunk in chunks:
            near.send_soon(chunk)
            if pauses:
                await anyio.sleep(0.05)
        near.end()
        return await everything(far)

    assert run_sim(lambda: joined(body)) == b"".join(chunks)


def test_a_reader_that_does_not_read_holds_the_writer_and_no_more_than_the_window(sim):
    """The middle has granted one window, and keeps it until the far reader acknowledges."""

    async def body(joint, near, far):
        near.send_soon(bytes(50 * WINDOW))
        await anyio.sleep(30)
        there = joint.splices[0].here.statistics()
        return near.statistics().sent, there.received - there.consumed

    sent, held = sim(lambda: joined(body))
    assert held <= WINDOW
    assert sent <= 2 * WINDOW


def test_a_reader_that_stalls_fails_both_sides_within_its_patience(sim):
    """The splice is told who was to blame, the writer gets a reset that says so."""

    async def body(joint, near, far):
        near.send_soon(bytes(50 * WINDOW))
        with pytest.raises((AckStalled, ChannelReset)):
            await near.drained()
        await anyio.sleep(1)
        return [type(error) for error in joint.ends], anyio.current_time()

    kinds, ended = sim(lambda: joined(body))
    assert kinds in ([AckStalled], [ChannelReset])
    assert ended <= 2 * LIMITS.stall_timeout + 2


@BOTH
@pytest.mark.parametrize("side", ["near", "far"])
def test_a_reset_passes_with_code_and_message(sim, links, side):
    """From either side, and the splice ends once."""

    async def body(joint, near, far):
        one, other = (near, far) if side == "near" else (far, near)
        one.reset(ResetCode.GONE, "the offer has ended")
        with pytest.raises(ChannelReset) as caught:
            await other.receive()
        return caught.value.reset_code, caught.value.message, len(joint.ends)

    assert sim(lambda: joined(body, links)) == (ResetCode.GONE, "the offer has ended", 1)


def test_a_session_that_ends_is_unreachable_for_the_other_side(sim):
    """The code tells a lost peer from one that gave up."""

    async def body(joint, near, far):
        joint.right.here.end(LinkLost("right", "gone"))
        with pytest.raises(ChannelReset) as caught:
            await near.receive()
        return caught.value.reset_code, caught.value.message

    assert sim(lambda: joined(body)) == (ResetCode.UNREACHABLE, "right: gone")


def test_one_chunk_in_memory_is_the_very_object_at_the_other_end(sim):
    """References pass: nothing is copied, whatever the length."""
    data = memoryview(bytearray(100 * WINDOW))
    options = OpenOptions(end=True, leased=True, window=len(data))

    async def body():
        async with connected(memory_links) as left, connected(memory_links) as right:

            def go_on(channel):
                credit = channel.statistics().limit
                there = right.here.open("t", b"", OpenOptions(end=True, leased=True, window=credit))
                Splice(channel).join(there, leased=True)

            left.there.serve("t", go_on)
            near = left.here.open("t", b"", options)
            near.collect(len(data))
            far = await anext(right.there)
            far.send_soon(data)
            far.end()
            await near.landed()
            return near.collected()

    (chunk,) = sim(body)
    assert chunk.obj is data.obj


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ChannelReset("p", "t", 5, "x"), ResetCode.GONE),
        (ChannelReset("p", "t", 4711, "x"), ResetCode.INTERNAL),
        (AckStalled("p", "t", 1, 0, 9.0), ResetCode.STALLED),
        (BelowMinRate("p", "t", 1.0, 2, 3.0), ResetCode.TOO_SLOW),
        (RemoteProtocolError("bad"), ResetCode.PROTOCOL),
        (LinkLost("p", "x"), ResetCode.UNREACHABLE),
        (ResourceLimit("channels", 2, 1), ResetCode.INTERNAL),
    ],
)
def test_every_error_has_a_code_for_the_far_side(error, code):
    """A code that nobody knows is not passed on."""
    assert reset_of(error)[0] == code
