"""The body of a Resume: two channel ids, then 13 bytes for each open channel."""

from __future__ import annotations

import struct
from typing import Final

from flare_async.errors import LocalProtocolError, RemoteProtocolError
from flare_async.wire.frames import Position, Resume
from flare_async.wire.head import OFFSET_LIMIT

__all__ = ["POSITION_BYTES", "RESUME_BYTES", "pack_resume", "unpack_resume"]

_IDS = struct.Struct(">QQ")  # the id behind the last one does not fit into a head's four bytes
_POSITION = struct.Struct(">IQB")
RESUME_BYTES: Final = _IDS.size
POSITION_BYTES: Final = _POSITION.size
_BEHIND_THE_LAST: Final = 2**32 + 1


def pack_resume(frame: Resume) -> bytes:
    """Return the body of a Resume.

    Raises:
        LocalProtocolError: a number that the peer would refuse.
    """
    problem = _problem(frame)
    if problem:
        raise LocalProtocolError(f"a Resume with {problem}")
    parts = [_IDS.pack(frame.opened, frame.expected)]
    parts += [_POSITION.pack(one.channel, one.received, one.ended) for one in frame.positions]
    return b"".join(parts)


def unpack_resume(body: bytes) -> Resume:
    """Return the Resume of a body.

    Raises:
        RemoteProtocolError: its length or a number in it is impossible.
    """
    if len(body) < RESUME_BYTES or (len(body) - RESUME_BYTES) % POSITION_BYTES:
        raise RemoteProtocolError("bad_body", f"a Resume of {len(body)} bytes")
    opened, expected = _IDS.unpack_from(body)
    positions = []
    for channel, received, ended in _POSITION.iter_unpack(memoryview(body)[RESUME_BYTES:]):
        if ended > 1:
            raise RemoteProtocolError("bad_body", f"a Resume with an end flag of {ended}")
        positions.append(Position(channel, received, ended == 1))
    frame = Resume(opened, expected, tuple(positions))
    problem = _problem(frame)
    if problem:
        raise RemoteProtocolError("bad_body", f"a Resume with {problem}")
    return frame


def _problem(frame: Resume) -> str:
    if not (0 < frame.opened <= _BEHIND_THE_LAST and 0 < frame.expected <= _BEHIND_THE_LAST):
        return f"the next ids {frame.opened} and {frame.expected}"
    last = 0
    for one in frame.positions:
        if not last < one.channel < _BEHIND_THE_LAST - 1:
            return f"channel {one.channel} behind channel {last}"
        if not 0 <= one.received <= OFFSET_LIMIT:
            return f"{one.received} bytes received on channel {one.channel}"
        last = one.channel
    return ""
