"""The frames of RFC 6455: heads to bytes and back, masking, and what may follow what."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from flare_async.errors import RemoteProtocolError

__all__ = [
    "CONTROL_BYTES",
    "FrameHead",
    "FrameScanner",
    "Opcode",
    "apply_mask",
    "mask_slowly",
    "pack_frame_head",
    "unmasked",
]

CONTROL_BYTES: Final = 125  # the longest body of a ping, pong or close
KEY_BYTES: Final = 4
LENGTH_LIMIT: Final = 2**63
_FIN: Final = 0x80
_MASKED: Final = 0x80
_RESERVED: Final = 0x70
_SHORT: Final = struct.Struct(">BB")
_MEDIUM: Final = struct.Struct(">BBH")
_LONG: Final = struct.Struct(">BBQ")


class Opcode(IntEnum):
    """What a frame carries."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


@dataclass(frozen=True, slots=True)
class FrameHead:
    """A frame's head: ``size`` bytes long, before ``length`` bytes that ``key`` masks, if any."""

    opcode: Opcode
    length: int
    key: bytes
    size: int

    @property
    def is_control(self) -> bool:
        """Whether it may stand between the parts of a message."""
        return self.opcode >= Opcode.CLOSE


def pack_frame_head(opcode: Opcode, length: int, key: bytes = b"") -> bytes:
    """Return the head of an unfragmented frame; with a key its body is to be masked."""
    masked = _MASKED if key else 0
    if length <= CONTROL_BYTES:
        return _SHORT.pack(_FIN | opcode, masked | length) + key
    if length < 1 << 16:
        return _MEDIUM.pack(_FIN | opcode, masked | 126, length) + key
    return _LONG.pack(_FIN | opcode, masked | 127, length) + key


class FrameScanner:
    """Reads one side's frame heads and holds them to the rules; ``masked`` is that side's duty.

    A first head that breaks the rules is the work of a peer that has others: ``bad_websocket``.
    Behind a good one it is ``bad_head``, as a damaged head of our own frames is: the peer knows the
    rules, and one flipped bit explains every breach. It makes another opcode or length at once, and
    after a wrong length payload is read as heads, which may break any rule. So kinds of breaches
    tell nothing about their cause; and who breaks the rules on purpose gains no more by a session
    that may resume than by cutting the connection.
    """

    __slots__ = ("_begun", "_inside", "_masked")

    def __init__(self, *, masked: bool) -> None:
        self._masked = masked
        self._begun = False  # there was a good head
        self._inside = False  # a binary message has begun and not ended

    @property
    def inside(self) -> bool:
        """Whether a message waits for more frames."""
        return self._inside

    def scan(self, data: bytes | memoryview) -> FrameHead | None:
        """Return the head at the start of ``data``, or None if that is only a part of it.

        Raises:
            RemoteProtocolError: it breaks RFC 6455, or is of a kind that this protocol has not.
        """
        if len(data) < _SHORT.size:
            return None
        first, second = data[0], data[1]
        opcode = self._opcode(first)
        if bool(second & _MASKED) != self._masked:
            raise self._broken("a masked frame" if second & _MASKED else "an unmasked frame")
        length, size = second & 0x7F, _SHORT.size
        if length > CONTROL_BYTES:
            form = _MEDIUM if length == 126 else _LONG
            if len(data) < form.size:
                return None
            length, size = form.unpack_from(data)[2], form.size
        end = size + (KEY_BYTES if self._masked else 0)
        if len(data) < end:
            return None
        head = FrameHead(opcode, length, bytes(data[size:end]), end)
        self._judge(head, final=bool(first & _FIN))
        self._begun = True
        return head

    def _judge(self, head: FrameHead, *, final: bool) -> None:
        if head.length >= LENGTH_LIMIT:
            raise self._broken(f"a frame of {head.length} bytes")
        if head.is_control:
            if not final or head.length > CONTROL_BYTES:
                raise self._broken(f"a control frame of {head.length} bytes, final: {final}")
            return
        if head.opcode is Opcode.TEXT:
            raise self._broken("a text message")
        if self._inside != (head.opcode is Opcode.CONTINUATION):
            raise self._broken("a continuation of nothing, or none where one was due")
        self._inside = not final

    def _opcode(self, first: int) -> Opcode:
        try:
            opcode = Opcode(first & 0x0F)
        except ValueError:
            raise self._broken(f"opcode {first & 0x0F}") from None
        if first & _RESERVED:
            raise self._broken("an extension that was not agreed on")
        return opcode

    def _broken(self, what: str) -> RemoteProtocolError:
        return RemoteProtocolError("bad_head" if self._begun else "bad_websocket", what)


def mask_slowly(key: bytes, data: bytearray) -> None:
    """Mask or unmask in place, without help from compiled code."""
    count = len(data)
    keys = int.from_bytes((key * (count // KEY_BYTES + 1))[:count], "little")
    data[:] = (int.from_bytes(data, "little") ^ keys).to_bytes(count, "little")


apply_mask: Callable[[bytes, bytearray], None]
try:
    # aiohttp's own compiled routine: 30 GB/s, where the arithmetic above does 0.4.
    from aiohttp._websocket.helpers import websocket_mask as apply_mask
except ImportError:
    apply_mask = mask_slowly


def unmasked(key: bytes, body: bytes | memoryview) -> bytes:
    """Return a short body without its mask, or with it."""
    if not key:
        return bytes(body)
    plain = bytearray(body)
    apply_mask(key, plain)
    return bytes(plain)
