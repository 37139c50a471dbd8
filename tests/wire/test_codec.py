"""Frames to bytes and back, whatever the bytes are split into and wherever payload lands."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.errors import LocalProtocolError
from flare_async.limits import Limits
from flare_async.wire.codec import HEAD_BYTES, PIECE_BYTES, PREAMBLE, Decoder, encode
from flare_async.wire.frames import Ack, Data, Frame, Goodbye, Hello, Landed, Open, Ping, Reset
from tests.wire.strategies import A_HELLO, HELLOS, SMALL

LIMITS = Limits()


def on_wire(*frames: Frame) -> bytes:
    """Return the bytes of frames."""
    return b"".join(bytes(part) for frame in frames for part in encode(frame))


def plain(frame: Frame | Landed) -> Frame | Landed:
    """Return a frame whose payload is bytes, to compare it."""
    if isinstance(frame, Data):
        return Data(frame.channel, frame.offset, bytes(frame.payload), frame.end, frame.trailer)
    return frame


def decoded(data: bytes, splits: list[int], decoder: Decoder) -> list[Frame | Landed]:
    """Feed data in parts that end at the positions of ``splits``."""
    found: list[Frame | Landed] = []
    positions = sorted({position % (len(data) + 1) for position in splits})
    for start, stop in zip([0, *positions], [*positions, len(data)], strict=True):
        found += decoder.feed(data[start:stop])
    decoder.eof()
    return [plain(frame) for frame in found]


@given(
    hello=HELLOS, frames=st.lists(SMALL, max_size=8), splits=st.lists(st.integers(0), max_size=8)
)
def test_frames_survive_the_wire_however_it_is_split(
    hello: Hello, frames: list[Frame], splits: list[int]
) -> None:
    """Round trip and split invariance of small frames."""
    data = on_wire(hello, *frames)
    assert decoded(data, splits, Decoder(limits=LIMITS)) == [hello, *frames]


@settings(max_examples=30)
@given(st.lists(SMALL, max_size=4))
def test_single_bytes_decode_as_one_read_does(frames: list[Frame]) -> None:
    """The extreme split."""
    data = on_wire(*frames)
    decoder = Decoder(limits=LIMITS, preamble=False)
    assert decoded(data, list(range(len(data))), decoder) == frames


def test_a_payload_is_never_copied_on_the_way_out() -> None:
    """The payload of ``encode`` is the object of the frame."""
    payload = memoryview(bytes(1000))
    head, out = encode(Data(1, 0, payload))
    assert out is payload
    assert len(head) == HEAD_BYTES


def test_a_hello_begins_with_the_preamble() -> None:
    """So that a port that is not ours is told at once."""
    assert encode(A_HELLO)[0].startswith(PREAMBLE)


@pytest.mark.parametrize(
    "frame",
    [
        Landed(1, 0, 5),
        Data(1, 0, b""),
        Data(1, 0, b"x", trailer=b"t"),
        Data(1, 0, b"x", done=True),
        Data(1, 0, b"", end=True, trailer=bytes(1025)),
        Data(2**32, 0, b"x"),
        Data(1, -1, b"x"),
        Ack(1, 0, 2**63 + 1),
        Ping(2**64),
        Reset(1, 1, "a\nb"),
        Goodbye(-1, ""),
        Open(1, ""),
        Open(1, "t", hops=256),
        Hello(1, "p", b"short", 0, b"", "r", 0, 4096),
        Hello(1, "p", bytes(16), 0, bytes(5000), "r", 0, 4096),
        Hello(1, "x" * 300, bytes(16), 0, b"", "r", 0, 4096),
    ],
)
def test_a_frame_that_the_peer_would_refuse_is_not_encoded(frame: Frame) -> None:
    """Our own mistakes are found on our side."""
    with pytest.raises(LocalProtocolError):
        encode(frame)


def leases(regions: list[tuple[int, int]], memory: memoryview):
    """Return a destination that leases the regions (start, stop) of a stream."""

    def destination(_: int, offset: int, length: int) -> memoryview | None:
        for start, stop in regions:
            if start <= offset < stop:
                return memory[offset : min(stop, offset + length)]
        return None

    return destination


SIZE = 3 * PIECE_BYTES + 1234
BYTES = bytes(range(251)) * (SIZE // 251 + 1)
POSITIONS = st.integers(0, SIZE)


@settings(max_examples=60)
@given(edges=st.lists(POSITIONS, max_size=6), splits=st.lists(POSITIONS, max_size=12))
def test_leased_and_unleased_parts_do_not_depend_on_the_split(
    edges: list[int], splits: list[int]
) -> None:
    """One ``Landed`` a leased run, ``Data`` elsewhere, the same for any split."""
    regions = list(zip(sorted(edges)[::2], sorted(edges)[1::2], strict=False))
    data = on_wire(Data(7, 0, BYTES[:SIZE]), Data(7, SIZE, b"", end=True, trailer=b"t"))
    results = []
    for cuts in ([], splits):
        memory = memoryview(bytearray(SIZE))
        decoder = Decoder(leases(regions, memory), limits=LIMITS, preamble=False)
        results.append((decoded(data, cuts, decoder), bytes(memory)))
    assert results[0] == results[1]
    assert content(*results[0]) == BYTES[:SIZE]


def content(frames: list[Frame | Landed], memory: bytes) -> bytes:
    """Put a stream together from what landed and what came as data."""
    parts = []
    for frame in frames:
        if isinstance(frame, Landed):
            parts.append(memory[frame.offset : frame.offset + frame.length])
        else:
            assert isinstance(frame, Data)
            parts.append(bytes(frame.payload))
    return b"".join(parts)


def test_a_leased_frame_lands_in_one_piece() -> None:
    """Normally one ``Landed`` a frame, and the bytes are where they belong."""
    memory = memoryview(bytearray(SIZE))
    decoder = Decoder(leases([(0, SIZE)], memory), limits=LIMITS, preamble=False)
    assert decoder.feed(on_wire(Data(3, 0, BYTES[:SIZE]))) == [Landed(3, 0, SIZE)]
    assert memory == BYTES[:SIZE]


def test_neighbouring_leases_are_one_run() -> None:
    """Views that are shorter than asked do not multiply what is reported."""
    memory = memoryview(bytearray(SIZE))
    regions = [(start, start + 1000) for start in range(0, SIZE, 1000)]
    decoder = Decoder(leases(regions, memory), limits=LIMITS, preamble=False)
    assert decoder.feed(on_wire(Data(3, 0, BYTES[:SIZE]))) == [Landed(3, 0, SIZE)]


def test_a_withdrawn_lease_sends_the_rest_to_scratch() -> None:
    """What landed before is reported, what comes after is data."""
    memory = memoryview(bytearray(SIZE))
    leased: list[memoryview] = [memory]
    decoder = Decoder(
        lambda _, offset, length: leased[0][offset : offset + length] if leased else None,
        limits=LIMITS,
        preamble=False,
    )
    data = on_wire(Data(3, 0, BYTES[:20_000]))
    assert decoder.feed(data[: HEAD_BYTES + 5000]) == []
    leased.clear()
    first, second = decoder.feed(data[HEAD_BYTES + 5000 :])
    assert first == Landed(3, 0, 5000)
    assert plain(second) == Data(3, 5000, BYTES[5000:20_000])
    assert bytes(memory[5000:20_000]) == bytes(15_000)


def test_a_lease_withdrawn_before_the_first_byte_reports_nothing_landed() -> None:
    """An empty run is no run."""
    answers = [memoryview(bytearray(10)), None]
    decoder = Decoder(lambda *_: answers.pop(0), limits=LIMITS, preamble=False)
    data = on_wire(Data(3, 0, b"0123456789"))
    decoder.feed(data[:HEAD_BYTES])
    assert len(decoder.buffer()) == 10
    assert [plain(frame) for frame in decoder.feed(data[HEAD_BYTES:])] == [
        Data(3, 0, b"0123456789")
    ]


def test_a_view_longer_than_asked_takes_only_the_frame() -> None:
    """The bytes behind the frame are not its payload."""
    memory = memoryview(bytearray(100))
    decoder = Decoder(lambda *_: memory, limits=LIMITS, preamble=False)
    data = on_wire(Data(3, 0, b"0123456789"), Ping(5))
    assert decoder.feed(data[:HEAD_BYTES]) == []
    assert decoder.feed(data[HEAD_BYTES:]) == [Landed(3, 0, 10), Ping(5)]
    assert bytes(memory) == b"0123456789" + bytes(90)


def test_unleased_payload_comes_in_pieces_that_are_read_in_place() -> None:
    """The buffer for a piece is the memory that is delivered, and at most 64 KiB of it."""
    decoder = Decoder(limits=LIMITS, preamble=False)
    data = on_wire(Data(3, 0, BYTES[:SIZE]))
    decoder.feed(data[:HEAD_BYTES])
    assert len(decoder.buffer()) == PIECE_BYTES
    pieces = decoder.feed(data[HEAD_BYTES:])
    assert [(piece.offset, len(piece.payload)) for piece in pieces if isinstance(piece, Data)] == [
        (0, PIECE_BYTES),
        (PIECE_BYTES, PIECE_BYTES),
        (2 * PIECE_BYTES, PIECE_BYTES),
        (3 * PIECE_BYTES, 1234),
    ]


def test_advancing_beyond_the_buffer_is_our_mistake() -> None:
    """A count that cannot be is refused."""
    decoder = Decoder(limits=LIMITS)
    with pytest.raises(LocalProtocolError, match="advanced by 5000 bytes in a buffer of 4096"):
        decoder.advance(len(decoder.buffer()) and 5000)
