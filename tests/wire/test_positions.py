"""The body of a Resume: fixed, sorted, exact."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async.errors import LocalProtocolError, RemoteProtocolError
from flare_async.wire.frames import Position, Resume
from flare_async.wire.positions import POSITION_BYTES, RESUME_BYTES, pack_resume, unpack_resume
from tests.wire.strategies import RESUMES


@given(RESUMES)
def test_a_resume_survives_the_wire(frame: Resume) -> None:
    """Its length follows from the number of channels."""
    body = pack_resume(frame)
    assert len(body) == RESUME_BYTES + POSITION_BYTES * len(frame.positions)
    assert unpack_resume(body) == frame


@given(st.binary(max_size=100) | RESUMES.map(pack_resume), st.integers(0), st.integers(0, 255))
def test_garbage_is_refused_or_is_a_resume(body: bytes, at: int, value: int) -> None:
    """Nothing else comes out, and what is accepted packs to the same bytes."""
    raw = bytearray(body)
    if raw:
        raw[at % len(raw)] = value
    with suppress(RemoteProtocolError):
        assert pack_resume(unpack_resume(bytes(raw))) == raw


@pytest.mark.parametrize(
    ("opened", "expected", "positions", "problem"),
    [
        (0, 2, [], "the next ids 0 and 2"),
        (1, 2**32 + 2, [], "the next ids 1 and 4294967298"),
        (5, 2, [(0, 0, 0)], "channel 0 behind channel 0"),
        (5, 2, [(3, 0, 0), (3, 0, 0)], "channel 3 behind channel 3"),
        (5, 2, [(3, 0, 0), (1, 0, 0)], "channel 1 behind channel 3"),
        (5, 2, [(1, 2**63 + 1, 0)], "9223372036854775809 bytes received on channel 1"),
        (5, 2, [(1, 0, 2)], "an end flag of 2"),
    ],
)
def test_impossible_numbers_are_refused(
    opened: int, expected: int, positions: list[tuple[int, int, int]], problem: str
) -> None:
    """By the receiver; the sender's own mistakes do not leave."""
    body = struct.pack(">QQ", opened, expected)
    body += b"".join(struct.pack(">IQB", *one) for one in positions)
    with pytest.raises(RemoteProtocolError, match=problem):
        unpack_resume(body)
    if "flag" not in problem:
        found = tuple(Position(channel, at, bool(end)) for channel, at, end in positions)
        with pytest.raises(LocalProtocolError, match=problem):
            pack_resume(Resume(opened, expected, found))


@pytest.mark.parametrize("size", [0, 15, 17, 28])
def test_a_body_of_another_length_is_refused(size: int) -> None:
    """Nothing is missing and nothing follows."""
    with pytest.raises(RemoteProtocolError, match=f"a Resume of {size} bytes"):
        unpack_resume(bytes(size))
