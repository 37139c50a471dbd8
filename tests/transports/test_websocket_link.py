"""What a WebSocket link makes of bytes: any split, any message boundaries, any garbage."""

from __future__ import annotations

import asyncio
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.errors import FlareError, LinkLost, RemoteProtocolError
from flare_async.limits import KIB, MIB, Limits
from flare_async.testing.link_checks import HELLO, sample
from flare_async.testing.recorder import Recorder
from flare_async.transports.websocket_frames import Opcode, apply_mask, pack_frame_head
from flare_async.transports.websocket_link import WebSocketLink, Wiring
from flare_async.wire.codec import encode
from flare_async.wire.frames import Data, Goodbye, Landed, Open, Ping

KEY = b"\x01\x7f\xaa\xff"


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self):
        super().__init__()
        self.written, self.closed, self.paused = bytearray(), False, False

    def write(self, data):
        """Keep it."""
        self.written += data

    def close(self):
        """Take note."""
        self.closed = True

    abort = close

    def is_closing(self):
        """Return whether it was closed."""
        return self.closed

    def pause_reading(self):
        """Take note."""
        self.paused = True

    def resume_reading(self):
        """Take note."""
        self.paused = False

    def is_reading(self):
        """Return whether bytes are welcome."""
        return not self.paused

    def get_write_buffer_size(self):
        """Return 0: everything is gone at once."""
        return 0

    def set_write_buffer_limits(self, high=None, low=None):
        """Ignore it."""

    def set_protocol(self, protocol):
        """Ignore it: the test plays the loop."""


class End:
    """One end of a link with a wire and a recorder."""

    def __init__(self, *, dialled, early=b"", memory=None):
        wiring = Wiring(dialled, memoryview(bytearray(256 * KIB)), lambda: KEY)
        self.link = WebSocketLink(Limits(), 256 * KIB, wiring)
        self.wire, self.recorder = Wire(), Recorder(memory)
        self.link.take_over(self.wire, asyncio.Protocol(), early)
        self.link.start(self.recorder)

    def read(self, data):
        """Bring bytes as a loop does, until the link closes."""
        while data and not self.wire.closed:
            room = self.link.get_buffer(-1)
            count = min(len(room), len(data))
            room[:count] = data[:count]
            self.link.buffer_updated(count)
            data = data[count:]


def message(body, *, masked, opcode=Opcode.BINARY, final=True):
    """Return one frame of a WebSocket."""
    head = bytearray(pack_frame_head(opcode, len(body), KEY if masked else b""))
    if not final:
        head[0] &= 0x7F
    data = bytearray(body)
    if masked:
        apply_mask(KEY, data)
    return bytes(head + data)


def encoded(*frames):
    """Return frames as bytes."""
    return b"".join(part for frame in frames for part in encode(frame))


SAID = (HELLO, Open(1, "topic", b"header"), Data(1, 0, sample(9000)), Ping(3), Goodbye(0, "done"))
STREAM = encoded(*SAID)
CUTS = st.lists(st.integers(0, len(STREAM)), max_size=6).map(sorted)


def fragments(cuts, *, masked):
    """Return the stream as one message in parts, with pings between them."""
    bodies = [STREAM[a:b] for a, b in pairwise([0, *cuts, len(STREAM)])]
    parts = []
    for at, body in enumerate(bodies):
        kind = Opcode.CONTINUATION if at else Opcode.BINARY
        final = at == len(bodies) - 1
        parts.append(message(body, masked=masked, opcode=kind, final=final))
        parts.append(message(b"?", masked=masked, opcode=Opcode.PING))
    return b"".join(parts)


@given(cuts=CUTS, reads=st.lists(st.integers(1, 5000), min_size=1), dialled=st.booleans())
@settings(deadline=None, max_examples=60)
def test_frames_do_not_depend_on_messages_or_reads(cuts, reads, dialled):
    """Any fragments, any lengths of reads, masked or not: the same frames come out."""

    async def main():
        end = End(dialled=dialled)
        data, at = fragments(cuts, masked=not dialled), 0
        while data:
            count = reads[at % len(reads)]
            end.read(data[:count])
            data, at = data[count:], at + 1
        return end.recorder.frames

    assert asyncio.run(main()) == list(SAID)


@given(data=st.binary(max_size=300), after=st.booleans(), dialled=st.booleans())
@settings(deadline=None, max_examples=100)
def test_garbage_ends_the_link_with_a_typed_error(data, after, dialled):
    """At the start or behind a hello; what is told is told once, and the socket is closed."""

    async def main():
        end = End(dialled=dialled)
        end.read((message(encoded(HELLO), masked=not dialled) if after else b"") + data)
        end.link.eof_received()
        end.link.connection_lost(None)
        return end.recorder.lost_with

    (error,) = asyncio.run(main())
    assert error is None or isinstance(error, FlareError)


@pytest.mark.parametrize("dialled", [False, True])
def test_a_message_of_two_gib_is_not_waited_for(dialled):
    """Frames inside it come out at once, and what it announces takes no memory."""

    async def main():
        end = End(dialled=dialled)
        head = pack_frame_head(Opcode.BINARY, 2**31, b"" if dialled else b"\0\0\0\0")
        tracemalloc.start()
        end.read(head + encoded(HELLO, Open(1, "topic")))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return end.recorder.frames, peak

    frames, peak = asyncio.run(main())
    assert frames == [HELLO, Open(1, "topic")]
    assert peak < MIB


def test_payload_of_a_server_lands_without_scratch():
    """Behind the head every read goes to the leased memory itself."""
    data = sample(100_000)

    async def main():
        end = End(dialled=True, memory=bytearray(len(data)))
        end.read(message(encoded(HELLO, Data(1, 0, data)), masked=False)[: 8 * KIB])
        room = end.link.get_buffer(-1)
        return end.recorder, len(room), room.obj is end.recorder._memory

    recorder, room, lent = asyncio.run(main())
    assert (lent, room + 8 * KIB > 90_000) == (True, True)
    assert recorder.frames == [HELLO]


def test_a_frame_that_breaks_the_rules_is_answered_with_a_close():
    """The session may say why first; then comes Close 1002, and the socket is closed."""

    async def main():
        end = End(dialled=False)
        end.read(message(encoded(HELLO), masked=False))
        return end

    end = asyncio.run(main())
    (error,) = end.recorder.lost_with
    assert isinstance(error, RemoteProtocolError)
    assert bytes(end.wire.written) == b"\x88\x02\x03\xea"
    assert end.wire.closed


def test_a_close_is_answered_and_ends_in_order():
    """Close 1000 goes back, the socket is closed, and the session hears of no error."""

    async def main():
        end = End(dialled=True)
        end.read(message(b"\x03\xe8", masked=False, opcode=Opcode.CLOSE))
        end.link.connection_lost(None)
        return end

    end = asyncio.run(main())
    assert end.recorder.lost_with == [None]
    assert bytes(end.wire.written) == message(b"\x03\xe8", masked=True, opcode=Opcode.CLOSE)


def test_a_ping_is_answered_with_its_body():
    """Masked, because this end has dialled."""

    async def main():
        end = End(dialled=True)
        end.read(message(b"balancer", masked=False, opcode=Opcode.PING))
        return bytes(end.wire.written)

    assert asyncio.run(main()) == message(b"balancer", masked=True, opcode=Opcode.PONG)


def test_a_connection_that_ends_inside_a_message_is_lost():
    """A balancer that gave up is no orderly end."""

    async def main():
        end = End(dialled=True)
        end.read(message(encoded(HELLO), masked=False)[:-1])
        end.link.eof_received()
        end.link.connection_lost(None)
        return end.recorder.lost_with

    (error,) = asyncio.run(main())
    assert isinstance(error, LinkLost)


def test_what_came_with_the_answer_is_delivered_at_the_start():
    """Nothing is read before, so nothing else has to be kept."""

    async def main():
        early = message(encoded(HELLO), masked=False)
        end = End(dialled=True, early=early)
        return end.recorder.frames, end.wire.paused

    assert asyncio.run(main()) == ([HELLO], False)


def test_a_batch_leaves_as_one_masked_message():
    """Head, mask and all frames; what the key undoes is what was encoded."""

    async def main():
        end = End(dialled=True)
        end.link.send_soon(SAID)
        return bytes(end.wire.written)

    assert asyncio.run(main()) == message(STREAM, masked=True)


def test_landed_is_told_for_masked_bytes_too():
    """They pass through scratch, and end in the leased memory."""
    data = sample(70_000)

    async def main():
        end = End(dialled=False, memory=bytearray(len(data)))
        end.read(message(encoded(HELLO, Data(1, 0, data)), masked=True))
        return end.recorder

    recorder = asyncio.run(main())
    assert recorder.frames[1:] == [Landed(1, 0, len(data))]
    assert recorder._memory == data


def test_a_flood_of_tiny_messages_is_read_in_small_steps():
    """Between messages a read takes 4 KiB, inside one no more than 4 KiB beyond its end."""

    async def main():
        end = End(dialled=False)
        rooms = [len(end.link.get_buffer(-1))]
        end.read(message(encoded(HELLO, Data(1, 0, bytes(100_000))), masked=True)[:-60_000])
        rooms.append(len(end.link.get_buffer(-1)))
        return rooms

    assert asyncio.run(main()) == [4 * KIB, 60_000 + 4 * KIB]
