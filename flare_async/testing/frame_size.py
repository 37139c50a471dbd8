"""The bytes that a frame has on the wire, computed where it need not be encoded to know them.

A simulated network that hands frames over as objects asks for nothing else, a million times.
"""

from __future__ import annotations

from typing import Final

from flare_async.wire.codec import encode
from flare_async.wire.frames import Ack, Data, Frame, Open, Ping, Pong
from flare_async.wire.head import HEAD_BYTES, body_bytes

__all__ = ["frame_size"]

ACK_BYTES: Final = len(encode(Ack(1, 0, 0))[0])
FLAGS: Final = 2  # of an Open: its end and its urgency are a byte each


def frame_size(frame: Frame) -> int:
    """Return the bytes that a frame has on the wire."""
    if type(frame) is Data:
        return HEAD_BYTES + body_bytes(len(frame.trailer)) + len(frame.payload)
    if type(frame) is Ack:
        return ACK_BYTES
    if type(frame) is Open:
        return HEAD_BYTES + body_bytes(open_size(frame))
    if type(frame) is Ping or type(frame) is Pong:
        return HEAD_BYTES
    head, payload = encode(frame)
    return len(head) + len(payload)


def open_size(frame: Open) -> int:
    """Return the length of an Open's body: a short array of msgpack."""
    texts = text_size(frame.topic) + text_size(frame.destination)
    numbers = number_size(frame.window) + number_size(frame.hops)
    size = len(frame.header)
    header = size + (2 if size < 1 << 8 else 3 if size < 1 << 16 else 5)
    return 1 + texts + numbers + header + FLAGS


def text_size(text: str) -> int:
    """Return how many bytes msgpack has for a text."""
    size = len(text) if text.isascii() else len(text.encode())
    if size < 32:
        return 1 + size
    return size + (2 if size < 1 << 8 else 3 if size < 1 << 16 else 5)


def number_size(number: int) -> int:
    """Return how many bytes msgpack has for a whole number from 0 on."""
    if number < 1 << 7:
        return 1
    if number < 1 << 16:
        return 2 if number < 1 << 8 else 3
    return 5 if number < 1 << 32 else 9
