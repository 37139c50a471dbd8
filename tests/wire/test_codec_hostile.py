"""Bytes that are not what they should be: only typed errors, and before anything is allocated."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async.errors import RemoteProtocolError
from flare_async.limits import Limits
from flare_async.wire.codec import HEAD_BYTES, PREAMBLE, Decoder, encode
from flare_async.wire.frames import (
    Ack,
    Data,
    Frame,
    Goodbye,
    Open,
    Ping,
    Position,
    Reset,
    Resume,
    Skipped,
)
from flare_async.wire.head import Kind
from tests.wire.strategies import A_HELLO, SMALL, forged, forged_head, sealed

LIMITS = Limits()
GREETING = encode(A_HELLO)[0]
OPEN_FIELDS = ["topic", b"", 0, False, False, "", 0]


def refused(*data: bytes, preamble: bool = False) -> RemoteProtocolError:
    """Return the error for data, in as many reads."""
    decoder = Decoder(limits=LIMITS, preamble=preamble)

    def feed() -> None:
        for piece in data:
            decoder.feed(piece)

    with pytest.raises(RemoteProtocolError) as caught:
        feed()
    return caught.value


@given(st.binary(max_size=300), st.booleans())
def test_garbage_raises_only_remote_protocol_errors(data: bytes, preamble: bool) -> None:
    """With and without a valid greeting before it."""
    decoder = Decoder(limits=LIMITS, preamble=preamble)
    with suppress(RemoteProtocolError):
        decoder.feed(GREETING + data if preamble else data)
        decoder.eof()


@given(SMALL, st.data())
def test_a_flipped_bit_of_a_head_is_detected(frame: Frame, data: st.DataObject) -> None:
    """The checksum covers all of the head."""
    raw = bytearray(b"".join(encode(frame)))
    bit = data.draw(st.integers(0, HEAD_BYTES * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    assert refused(bytes(raw)).reason == "bad_head"


@given(SMALL, st.binary(min_size=1, max_size=8), st.integers(0, 400))
def test_a_mutated_body_is_a_frame_or_a_typed_error(frame: Frame, noise: bytes, where: int) -> None:
    """With the right checksum bodies are still parsed strictly."""
    raw = bytearray(b"".join(encode(frame)))
    if not isinstance(frame, Data) or frame.end:
        del raw[max(HEAD_BYTES, len(raw) - 4) :]
    where = HEAD_BYTES + where % max(1, len(raw) - HEAD_BYTES)
    raw[where : where + len(noise)] = noise
    with suppress(RemoteProtocolError):
        Decoder(limits=LIMITS, preamble=False).feed(sealed(bytes(raw)))


@pytest.mark.parametrize(
    "frame",
    [
        A_HELLO,
        Open(1, "topic", b"header", 100),
        Ack(1, 100, 200),
        Reset(1, 2, "why"),
        Goodbye(1, "bye"),
        Resume(3, 4, (Position(1, 100, ended=False), Position(2, 5, ended=True))),
        Data(1, 100, b"", end=True, trailer=b"digest"),
    ],
    ids=lambda frame: type(frame).__name__,
)
def test_every_flipped_bit_of_a_body_is_detected(frame: Frame) -> None:
    """Before anything of it is parsed: whole or in two reads, each bit gives the same reason."""
    raw = b"".join(encode(frame))
    start = HEAD_BYTES + (len(PREAMBLE) if frame is A_HELLO else 0)
    for bit in range(start * 8, len(raw) * 8):
        data = bytearray(raw)
        data[bit // 8] ^= 1 << bit % 8
        for cut in (len(data), start + 1):
            pieces = (bytes(data[:cut]), bytes(data[cut:]))
            assert refused(*pieces, preamble=frame is A_HELLO).reason == "bad_checksum"


def test_the_body_of_another_frame_is_detected() -> None:
    """Lost bytes that leave a head before a body of the same length: it is no body of its own."""
    one, other = encode(Ack(1, 100, 200))[0], encode(Ack(1, 200, 300))[0]
    assert refused(one[:HEAD_BYTES] + other[HEAD_BYTES:]).reason == "bad_checksum"


def test_payload_has_no_checksum_here() -> None:
    """Digests cover it; the frame costs its head."""
    head, payload = encode(Data(1, 0, b"payload"))
    assert len(head) == HEAD_BYTES
    found = Decoder(limits=LIMITS, preamble=False).feed(head + bytes(payload)[::-1])
    assert found == [Data(1, 0, b"daolyap")]


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", PREAMBLE[:5] + b"?", b"\x00"]
)
def test_another_protocol_is_told_what_this_port_is(data: bytes) -> None:
    """The first wrong byte suffices."""
    error = refused(data, preamble=True)
    assert error.reason == "not_flare"
    assert "this is a flare_async port" in str(error)


def test_the_first_frame_must_be_a_hello() -> None:
    """Nothing else is decoded before it."""
    assert refused(PREAMBLE + encode(Ping(1))[0], preamble=True).reason == "not_flare"


def test_an_error_is_raised_again_by_every_later_call() -> None:
    """A broken stream stays broken."""
    decoder = Decoder(limits=LIMITS)
    with pytest.raises(RemoteProtocolError) as first:
        decoder.feed(b"nonsense")
    for call in (decoder.buffer, lambda: decoder.advance(0), decoder.eof):
        with pytest.raises(RemoteProtocolError) as again:
            call()
        assert again.value is first.value


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (forged(10), "unknown_frame"),
        (forged(Kind.RESUME, bytes(16), place=(1, 0)), "bad_head"),
        (forged(Kind.RESUME, bytes(16), place=(0, 1)), "bad_head"),
        (forged_head(LIMITS.control_bytes + 5, Kind.RESUME), "bad_length"),
        (forged(0), "unknown_frame"),
        (forged(Kind.PING, flags=0x80), "bad_flags"),
        (forged(Kind.DATA, b"x", flags=2, place=(1, 0)), "bad_flags"),
        (forged(Kind.DATA, b"x"), "bad_head"),
        (forged(Kind.DATA, b"x", place=(1, 2**63)), "bad_head"),
        (forged(Kind.DATA, place=(1, 0)), "bad_length"),
        (forged(Kind.DATA, b"x", extra=1, place=(1, 0)), "bad_length"),
        (forged_head(4, Kind.DATA, flags=1, extra=1, place=(1, 0)), "bad_length"),
        (forged_head(LIMITS.frame_bytes + 6, Kind.DATA, flags=1, extra=1), "bad_head"),
        (forged(Kind.DATA, bytes(1025), flags=1, extra=1025, place=(1, 0)), "bad_length"),
        (forged_head(LIMITS.frame_bytes + 1, Kind.DATA, place=(1, 0)), "bad_length"),
        (forged_head(2**32 - 1, Kind.DATA, place=(1, 0)), "bad_length"),
        (forged_head(LIMITS.control_bytes + 5, Kind.OPEN, place=(1, 0)), "bad_length"),
        (forged_head(LIMITS.control_bytes + 5, 99, flags=0x80), "bad_length"),
        (forged_head(4101, Kind.HELLO), "bad_length"),
        (forged(Kind.ACK, bytes(7), place=(1, 0)), "bad_length"),
        (forged(Kind.PONG, b"x"), "bad_length"),
        *((forged_head(length, Kind.RESET, place=(1, 0)), "bad_length") for length in (1, 4)),
        (forged_head(LIMITS.frame_bytes + 1, Kind.DATA, flags=1, place=(1, 0)), "bad_length"),
        (forged_head(4, 77, flags=0x80), "bad_length"),
        (forged(Kind.ACK, bytes(8)), "bad_head"),
        (forged(Kind.ACK, bytes(8), place=(1, 2**63 + 1)), "bad_head"),
        (forged(Kind.PING, place=(1, 0)), "bad_head"),
        (forged(Kind.OPEN, b"x", extra=1, place=(1, 0)), "bad_head"),
        (forged(Kind.RESET, b"x", place=(1, 1)), "bad_head"),
    ],
)
def test_a_head_that_breaks_a_rule_is_refused(data: bytes, reason: str) -> None:
    """Each field has its range, and the checksum of these is right."""
    assert refused(data).reason == reason


def test_a_payload_of_exactly_frame_bytes_is_accepted() -> None:
    """The boundary belongs to the range."""
    decoder = Decoder(limits=LIMITS, preamble=False)
    assert decoder.feed(forged_head(LIMITS.frame_bytes, Kind.DATA, place=(1, 0))) == []


@pytest.mark.parametrize("size", [0, 10, 5000])
def test_an_unknown_optional_frame_is_skipped(size: int) -> None:
    """A later version may send what this one need not understand; only its type is told."""
    data = forged(77, bytes(size), flags=0x81, extra=3, place=(5, 6)) + encode(Ping(4))[0]
    assert Decoder(limits=LIMITS, preamble=False).feed(data) == [Skipped(77), Ping(4)]


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, ""),
        (0, "a\nb"),
        (0, "x" * 256),
        (0, b"topic"),
        (1, "text"),
        (2, True),
        (2, -1),
        (2, 2**63 + 1),
        (2, 1.0),
        (3, 1),
        (5, "\x1b[0m"),
        (6, 256),
        (6, None),
    ],
)
def test_a_field_of_another_type_or_range_is_refused_by_name(at: int, value: object) -> None:
    """Exact types: a bool is no number, bytes are no text."""
    fields = [*OPEN_FIELDS[:at], value, *OPEN_FIELDS[at + 1 :]]
    error = refused(forged(Kind.OPEN, msgpack.packb(fields), place=(1, 0)))
    names = ["topic", "header", "window", "end", "urgent", "destination", "hops"]
    assert error.reason == "bad_body"
    assert f"Open.{names[at]} is " in str(error)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc0",
        msgpack.packb(OPEN_FIELDS[:-1]),
        msgpack.packb([*OPEN_FIELDS, 0]),
        msgpack.packb(OPEN_FIELDS) + b"\x00",
        msgpack.packb(dict(enumerate(OPEN_FIELDS))),
        msgpack.packb([[], *OPEN_FIELDS[1:]]),
        msgpack.packb([msgpack.ExtType(5, b"x"), *OPEN_FIELDS[1:]]),
        b"\xdd\xff\xff\xff\xff",
        b"\x97\xa1\xff" + msgpack.packb(OPEN_FIELDS)[7:],
        b"\x91" * 60_000,
    ],
)
def test_a_body_that_is_not_the_fields_is_refused(body: bytes) -> None:
    """Bombs, ext types, missing and additional fields, bytes behind the end, bad UTF-8."""
    assert refused(forged(Kind.OPEN, body, place=(1, 0))).reason in {"bad_body", "bad_message"}


def test_the_end_of_the_stream_inside_a_frame_is_an_error() -> None:
    """Wherever it is cut; between frames it is none."""
    data = GREETING + b"".join(encode(Data(1, 0, bytes(9000)))) + encode(Ping(1))[0]
    whole = {len(GREETING), len(GREETING) + HEAD_BYTES + 9000, len(data), 0}
    for cut in [*range(0, len(data), 97), *whole, 8, len(PREAMBLE) + HEAD_BYTES]:
        decoder = Decoder(limits=LIMITS)
        decoder.feed(data[:cut])
        if cut in whole:
            decoder.eof()
            continue
        with pytest.raises(RemoteProtocolError, match="truncated"):
            decoder.eof()


def test_a_length_that_lies_costs_at_most_one_piece() -> None:
    """A frame of 512 MiB is announced and nothing follows."""
    limits = Limits(frame_bytes=2**29, window_bytes=2**29, link_bytes=2**29, process_bytes=2**29)
    decoder = Decoder(limits=limits, preamble=False)
    tracemalloc.start()
    try:
        decoder.feed(forged_head(2**29, Kind.DATA, place=(1, 0)))
        decoder.buffer()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 80_000
