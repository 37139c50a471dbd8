"""What the head of a frame may say, checked before anything is allocated for its body."""

from __future__ import annotations

from typing import Final, NoReturn, TypeAlias
from zlib import crc32

from flare_async.errors import RemoteProtocolError
from flare_async.limits import Limits
from flare_async.wire.frames import TRAILER_BYTES
from flare_async.wire.head import (
    CHECKSUM,
    FLAG_DONE,
    FLAG_END,
    FLAG_OPTIONAL,
    HELLO_BYTES,
    OFFSET_LIMIT,
    PREAMBLE,
    Kind,
    body_bytes,
)

__all__ = ["Head", "check_body", "check_control", "check_data", "not_flare", "not_ours"]

_CHANNEL_KINDS: Final = frozenset((Kind.OPEN, Kind.ACK, Kind.RESET))
_OFFSET_KINDS: Final = frozenset((Kind.ACK, Kind.PING, Kind.PONG))
_EXACT: Final[dict[int, int]] = {Kind.ACK: body_bytes(8), Kind.PING: 0, Kind.PONG: 0}
_KNOWN: Final = frozenset(Kind)
_DATA_FLAGS: Final = frozenset((0, FLAG_END, FLAG_END | FLAG_DONE))

# body length, type, flags, trailer length, channel, offset
Head: TypeAlias = tuple[int, int, int, int, int, int]


def not_ours(start: bytes) -> NoReturn:
    """Refuse a stream that does not begin with our preamble. Raises RemoteProtocolError."""
    if start[:-1] == PREAMBLE[:-1]:
        raise RemoteProtocolError(
            "version", f"the peer speaks format {start[-1]}, this side format {PREAMBLE[-1]}"
        )
    not_flare()


def not_flare() -> NoReturn:
    """Refuse a stream of another protocol. Raises RemoteProtocolError."""
    raise RemoteProtocolError(
        "not_flare", "this is a flare_async port, and the peer does not speak its protocol"
    )


def check_data(head: Head, most: int) -> int:
    """Check the head of a Data frame; return the length of its payload, at most ``most`` bytes.

    Raises:
        RemoteProtocolError: a field out of range.
    """
    length, _, flags, trailer, channel, offset = head
    if flags not in _DATA_FLAGS:
        raise RemoteProtocolError("bad_flags", f"data has the flags 0x{flags:02x}")
    if not channel or offset + length > OFFSET_LIMIT:
        raise RemoteProtocolError("bad_head", f"data of channel {channel} at offset {offset}")
    if flags:
        length -= body_bytes(trailer)
        fits = trailer <= TRAILER_BYTES and 0 <= length <= most
    else:
        fits = trailer == 0 < length <= most
    if not fits:
        raise RemoteProtocolError(
            "bad_length",
            f"data of {length} bytes, trailer of {trailer}; 1 to {most} are accepted, "
            f"and at the end a trailer of up to {TRAILER_BYTES}",
        )
    return length


def check_control(head: Head, limits: Limits) -> None:
    """Check length, type, flags, trailer length, channel and offset of a head.

    Raises:
        RemoteProtocolError: a type that must be understood and is not, or a field out of range.
    """
    length, kind, flags, extra, channel, offset = head
    if kind not in _KNOWN:
        if not flags & FLAG_OPTIONAL:
            raise RemoteProtocolError("unknown_frame", f"frame type {kind}")
    elif flags:
        raise RemoteProtocolError("bad_flags", f"frame type {kind} has the flags 0x{flags:02x}")
    else:
        _check_fields(kind, extra, channel, offset)
    most = HELLO_BYTES if kind == Kind.HELLO else limits.control_bytes
    fits = not length or CHECKSUM.size < length <= body_bytes(most)
    if not fits or length != _EXACT.get(kind, length):
        raise RemoteProtocolError(
            "bad_length",
            f"frame type {kind} has {length} bytes of body and checksum, at most {most} of body",
        )


def check_body(body: bytes, checksum: int) -> bytes:
    """Return a body without the checksum at its end; ``checksum`` is that of the head.

    Raises:
        RemoteProtocolError: it does not match.
    """
    stop = len(body) - CHECKSUM.size
    content = body[:stop]
    if CHECKSUM.pack(crc32(content, checksum)) != body[stop:]:
        raise RemoteProtocolError(
            "bad_checksum", f"the checksum of a body of {stop} bytes does not match"
        )
    return content


def _check_fields(kind: int, extra: int, channel: int, offset: int) -> None:
    most = OFFSET_LIMIT if kind == Kind.ACK else 2**64 if kind in _OFFSET_KINDS else 0
    if extra or offset > most or (channel != 0) != (kind in _CHANNEL_KINDS):
        raise RemoteProtocolError(
            "bad_head",
            f"frame type {kind} has channel {channel}, offset {offset}, trailer length {extra}",
        )
