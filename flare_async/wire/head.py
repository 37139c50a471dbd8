"""The 24-byte head of a frame on the wire: ``>IBBHIQI``.

Body length, type, flags, trailer length, channel, offset (a nonce for Ping and Pong, the consumed
offset for Ack), and the CRC-32 of the 20 bytes before it.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final
from zlib import crc32

from flare_async.errors import LocalProtocolError

__all__ = [
    "FLAG_END",
    "FLAG_OPTIONAL",
    "HEAD",
    "HEAD_BYTES",
    "HELLO_BYTES",
    "LENGTH_LIMIT",
    "OFFSET_LIMIT",
    "PREAMBLE",
    "Kind",
    "pack_head",
]

PREAMBLE: Final = b"\x89FLARE\x00\x01"  # not ASCII first: no line protocol starts like this
HEAD: Final = struct.Struct(">IBBHIQI")
HEAD_BYTES: Final = HEAD.size
HELLO_BYTES: Final = 4096  # the longest body of a Hello
OFFSET_LIMIT: Final = 2**63
LENGTH_LIMIT: Final = 2**32 - 1  # of a body
FLAG_END: Final = 0x01
FLAG_OPTIONAL: Final = 0x80  # a receiver that does not know the type skips the frame

_CHECKED = struct.Struct(">IBBHIQ")
_CHECKSUM = struct.Struct(">I")


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


def pack_head(kind: int, channel: int, offset: int, length: int, end: int = -1) -> bytes:
    """Return a head; ``end`` is the trailer's length of an end frame, or negative.

    Raises:
        LocalProtocolError: a number does not fit into its field.
    """
    flags, extra = (FLAG_END, end) if end >= 0 else (0, 0)
    try:
        checked = _CHECKED.pack(length, kind, flags, extra, channel, offset)
    except struct.error:
        raise LocalProtocolError(
            f"frame type {kind} does not fit: channel {channel}, offset {offset}, body {length}"
        ) from None
    return checked + _CHECKSUM.pack(crc32(checked))
