"""Hypothesis strategies for frames, and the checksummed head of a forged one."""

from __future__ import annotations

import struct
from zlib import crc32

from hypothesis import strategies as st

from flare_async.wire.fields import is_message, is_name
from flare_async.wire.frames import (
    Ack,
    Data,
    Frame,
    Goodbye,
    Hello,
    Open,
    Ping,
    Pong,
    Position,
    Reset,
    Resume,
)
from flare_async.wire.head import FLAG_END, Kind

CHANNELS = st.integers(1, 2**32 - 1)
OFFSETS = st.integers(0, 2**62)
NAMES = st.text(min_size=1, max_size=40).filter(is_name)
MESSAGES = st.text(max_size=40).filter(is_message)
CODES = st.integers(0, 0xFFFF)

HELLOS = st.builds(
    Hello,
    version=CODES,
    peer=NAMES,
    session=st.binary(min_size=16, max_size=16),
    epoch=OFFSETS,
    token=st.binary(max_size=100),
    role=NAMES,
    window=OFFSETS,
    frame_bytes=st.integers(1024, 2**32 - 1),
)
OPENS = st.builds(
    Open,
    CHANNELS,
    NAMES,
    st.binary(max_size=100),
    OFFSETS,
    st.booleans(),
    st.booleans(),
    st.just("") | NAMES,
    st.integers(0, 255),
)
PAYLOADS = st.builds(Data, CHANNELS, OFFSETS, st.binary(min_size=1, max_size=300))
ENDS = st.builds(
    Data, CHANNELS, OFFSETS, st.just(b""), st.just(value=True), st.binary(max_size=1024)
)
POSITIONS = st.lists(
    st.builds(Position, CHANNELS, OFFSETS, st.booleans()),
    max_size=10,
    unique_by=lambda position: position.channel,
).map(lambda found: tuple(sorted(found, key=lambda position: position.channel)))
RESUMES = st.builds(Resume, st.integers(1, 2**32 + 1), st.integers(1, 2**32 + 1), POSITIONS)
SMALL: st.SearchStrategy[Frame] = st.one_of(
    OPENS,
    PAYLOADS,
    ENDS,
    st.builds(Ack, CHANNELS, OFFSETS, OFFSETS),
    st.builds(Reset, CHANNELS, CODES, MESSAGES),
    st.builds(Ping, st.integers(0, 2**64 - 1)),
    st.builds(Pong, st.integers(0, 2**64 - 1)),
    st.builds(Goodbye, CODES, MESSAGES),
    RESUMES,
)
A_HELLO = Hello(1, "site-1", b"s" * 16, 0, b"token", "client", 65536, 2**20)


def forged(
    kind: int, body: bytes = b"", *, flags: int = 0, extra: int = 0, place: tuple[int, int] = (0, 0)
) -> bytes:
    """Return a frame whose checksums are right, whatever its fields say."""
    if not body or (kind == Kind.DATA and not flags & FLAG_END):
        return forged_head(len(body), kind, flags=flags, extra=extra, place=place) + body
    return sealed(forged_head(len(body) + 4, kind, flags=flags, extra=extra, place=place) + body)


def sealed(frame: bytes) -> bytes:
    """Return a frame with the checksum behind its body that a decoder expects there."""
    return frame + crc32(frame[:20] + frame[24:]).to_bytes(4)


def forged_head(
    length: int, kind: int, *, flags: int = 0, extra: int = 0, place: tuple[int, int] = (0, 0)
) -> bytes:
    """Return only the head; ``place`` is channel and offset."""
    checked = struct.pack(">IBBHIQ", length, kind, flags, extra, *place)
    return checked + struct.pack(">I", crc32(checked))
