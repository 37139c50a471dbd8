"""Frames to bytes; the way back is ``Decoder``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from flare_async.errors import LocalProtocolError
from flare_async.wire.bodies import LIMIT, pack_body
from flare_async.wire.decoder import PIECE_BYTES, Decoder
from flare_async.wire.frames import (
    TRAILER_BYTES,
    Ack,
    Data,
    Frame,
    Goodbye,
    Hello,
    Open,
    Ping,
    Pong,
    Reset,
    Resume,
)
from flare_async.wire.head import (
    FLAG_DONE,
    FLAG_END,
    HEAD_BYTES,
    HELLO_BYTES,
    OFFSET_LIMIT,
    PREAMBLE,
    Kind,
    pack_frame,
    pack_head,
)
from flare_async.wire.positions import pack_resume

__all__ = ["HEAD_BYTES", "PIECE_BYTES", "PREAMBLE", "Decoder", "encode"]

Encoded: TypeAlias = tuple[bytes, bytes | memoryview]


def encode(frame: Frame) -> tuple[bytes, bytes | memoryview]:
    """Return the head (with a small body, and the preamble before a Hello) and the payload.

    The payload is the very object in the frame, never a copy; it is empty where there is none.

    Raises:
        LocalProtocolError: the frame breaks the protocol or cannot travel.
    """
    encoder = _ENCODERS.get(type(frame))
    if encoder is None:
        raise LocalProtocolError(f"{type(frame).__name__} is not a frame of the wire")
    return encoder(frame)


def _data(frame: Data) -> Encoded:
    payload = frame.payload
    length = payload.nbytes if isinstance(payload, memoryview) else len(payload)
    if frame.end:
        trailer = frame.trailer
        if len(trailer) > TRAILER_BYTES:
            raise LocalProtocolError(f"an end frame has {len(trailer)} bytes of trailer")
        flags = FLAG_END | FLAG_DONE if frame.done else FLAG_END
        channel, offset = frame.channel, frame.offset
        head = pack_frame(Kind.DATA, channel, offset, trailer, flags=flags, payload=length)
        return head, payload
    if not length or frame.trailer or frame.done:
        raise LocalProtocolError(
            f"a data frame has {length} bytes of payload, {len(frame.trailer)} of trailer"
        )
    return pack_head(Kind.DATA, frame.channel, frame.offset, length), payload


def _ack(frame: Ack) -> Encoded:
    if not 0 <= frame.limit <= OFFSET_LIMIT:
        raise LocalProtocolError(f"an ack has the limit {frame.limit}")
    return pack_frame(Kind.ACK, frame.channel, frame.consumed, LIMIT.pack(frame.limit)), b""


def _hello(frame: Hello) -> Encoded:
    body = pack_body(frame)
    if len(body) > HELLO_BYTES:
        raise LocalProtocolError(f"a hello has {len(body)} bytes, at most {HELLO_BYTES} may be")
    return PREAMBLE + pack_frame(Kind.HELLO, 0, 0, body), b""


def _open(frame: Open) -> Encoded:
    return pack_frame(Kind.OPEN, frame.channel, 0, pack_body(frame)), b""


def _reset(frame: Reset) -> Encoded:
    return pack_frame(Kind.RESET, frame.channel, 0, pack_body(frame)), b""


def _goodbye(frame: Goodbye) -> Encoded:
    return pack_frame(Kind.GOODBYE, 0, 0, pack_body(frame)), b""


def _ping(frame: Ping) -> Encoded:
    return pack_frame(Kind.PING, 0, frame.nonce), b""


def _pong(frame: Pong) -> Encoded:
    return pack_frame(Kind.PONG, 0, frame.nonce), b""


def _resume(frame: Resume) -> Encoded:
    return pack_frame(Kind.RESUME, 0, 0, pack_resume(frame)), b""


# The table pairs each type with its own function, which no annotation of a dict can say.
_ENCODERS: Final[dict[type, Callable[..., Encoded]]] = {
    Data: _data,
    Ack: _ack,
    Hello: _hello,
    Open: _open,
    Reset: _reset,
    Goodbye: _goodbye,
    Ping: _ping,
    Pong: _pong,
    Resume: _resume,
}
