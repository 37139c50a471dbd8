"""The 24-byte head of a frame on the wire: ``>IBBHIQI``.

Body length, type, flags, trailer length, channel, offset (a nonce for Ping and Pong, the consumed
offset for Ack), and the CRC-32 of the 20 bytes before it.

A body that is not payload ends with four bytes more, which its length counts: the CRC-32 of those
20 bytes and of the body. So a damaged length is found before a body of that length is waited for,
and nothing of a damaged body is parsed. Payload has digests instead. An end frame that brings the
last payload has its trailer, with that checksum, before it: the length counts both.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final
from zlib import crc32

from flare_async.errors import LocalProtocolError

__all__ = [
    "CHECKSUM",
    "FLAG_DONE",
    "FLAG_END",
    "FLAG_OPTIONAL",
    "HEAD",
    "HEAD_BYTES",
    "HELLO_BYTES",
    "LENGTH_LIMIT",
    "OFFSET_LIMIT",
    "PREAMBLE",
    "Kind",
    "body_bytes",
    "pack_frame",
    "pack_head",
]

PREAMBLE: Final = b"\x89FLARE\x00\x01"  # not ASCII first: no line protocol starts like this
HEAD: Final = struct.Struct(">IBBHIQI")
HEAD_BYTES: Final = HEAD.size
HELLO_BYTES: Final = 4096  # the longest body of a Hello
OFFSET_LIMIT: Final = 2**63
LENGTH_LIMIT: Final = 2**32 - 1  # of a body
FLAG_END: Final = 0x01
FLAG_DONE: Final = 0x02  # only with the end: what the other side sent was consumed, its end too
FLAG_OPTIONAL: Final = 0x80  # a receiver that does not know the type skips the frame

CHECKSUM: Final = struct.Struct(">I")

_CHECKED = struct.Struct(">IBBHIQ")


class Kind(IntEnum):
    """The type byte of a frame."""

    HELLO = 1
    OPEN = 2
    DATA = 3
    ACK = 4
    RESET = 5
    PING = 6
    PONG = 7
    GOODBYE = 8
    RESUME = 9


def body_bytes(size: int) -> int:
    """Return the length of a body of ``size`` bytes with its checksum; there is none of nothing."""
    return size + CHECKSUM.size if size else 0


def pack_head(kind: int, channel: int, offset: int, length: int) -> bytes:
    """Return the head of payload.

    Raises:
        LocalProtocolError: a number does not fit into its field.
    """
    try:
        checked = _CHECKED.pack(length, kind, 0, 0, channel, offset)
    except struct.error:
        raise _misfit(kind, channel, offset, length) from None
    return checked + CHECKSUM.pack(crc32(checked))


def pack_frame(
    kind: int, channel: int, offset: int, body: bytes = b"", *, flags: int = 0, payload: int = 0
) -> bytes:
    """Return a frame without its payload; with flags the body is the trailer of an end frame.

    Raises:
        LocalProtocolError: a number does not fit into its field.
    """
    size = len(body)
    extra = size if flags else 0
    try:
        checked = _CHECKED.pack(body_bytes(size) + payload, kind, flags, extra, channel, offset)
    except struct.error:
        raise _misfit(kind, channel, offset, size) from None
    checksum = crc32(checked)
    head = checked + CHECKSUM.pack(checksum)
    return head + body + CHECKSUM.pack(crc32(body, checksum)) if body else head


def _misfit(kind: int, channel: int, offset: int, length: int) -> LocalProtocolError:
    return LocalProtocolError(
        f"frame type {kind} does not fit: channel {channel}, offset {offset}, body {length}"
    )
