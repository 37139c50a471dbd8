"""The bodies of frames other than payload: closed, typed, checked both ways."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import fields
from typing import Final, TypeAlias

from flare_async.errors import LocalProtocolError, RemoteProtocolError
from flare_async.wire.fields import is_message, is_name
from flare_async.wire.frames import (
    Ack,
    Frame,
    Goodbye,
    Hello,
    Open,
    Ping,
    Pong,
    Reset,
    Skipped,
)
from flare_async.wire.head import OFFSET_LIMIT, Kind
from flare_async.wire.packing import pack, unpack
from flare_async.wire.positions import unpack_resume
from flare_async.wire.scan import scan

__all__ = ["FRAME_FLOOR", "LIMIT", "pack_body", "unpack_frame"]

LIMIT: Final = struct.Struct(">Q")  # the body of an Ack
FRAME_FLOOR: Final = 1024  # a peer that asks for shorter frames makes its data too costly to send

BodyFrame: TypeAlias = Hello | Open | Reset | Goodbye
Check: TypeAlias = Callable[[object], bool]


def _whole(low: int, high: int) -> Check:
    def check(value: object) -> bool:
        return type(value) is int and low <= value <= high

    return check


def _name(value: object) -> bool:
    return type(value) is str and is_name(value)


def _name_or_empty(value: object) -> bool:
    return type(value) is str and (not value or is_name(value))


def _message(value: object) -> bool:
    return type(value) is str and is_message(value)


def _flag(value: object) -> bool:
    return type(value) is bool


def _blob(value: object) -> bool:
    return type(value) is bytes


def _session_id(value: object) -> bool:
    return type(value) is bytes and len(value) == 16


_CODE: Final = _whole(0, 0xFFFF)
_CREDIT: Final = _whole(0, OFFSET_LIMIT)
_CARRY: Final = _whole(0, 2**32 - 1)
_CHECKS: Final[dict[type[BodyFrame], dict[str, Check]]] = {
    Hello: {
        "version": _CODE,
        "peer": _name,
        "session": _session_id,
        "epoch": _CREDIT,
        "token": _blob,
        "role": _name,
        "window": _CREDIT,
        "frame_bytes": _whole(FRAME_FLOOR, 2**32 - 1),
        "carry": _CARRY,
    },
    Open: {
        "topic": _name,
        "header": _blob,
        "window": _CREDIT,
        "end": _flag,
        "urgent": _flag,
        "destination": _name_or_empty,
        "hops": _whole(0, 255),
    },
    Reset: {"code": _CODE, "message": _message},
    Goodbye: {"code": _CODE, "message": _message},
}
_TYPES: Final[dict[int, type[BodyFrame]]] = {
    Kind.HELLO: Hello,
    Kind.OPEN: Open,
    Kind.RESET: Reset,
    Kind.GOODBYE: Goodbye,
}


def pack_body(frame: BodyFrame) -> bytes:
    """Return the body of a frame.

    Raises:
        LocalProtocolError: a field has a value that the peer would refuse.
    """
    values = []
    for name, check in _CHECKS[type(frame)].items():
        value = getattr(frame, name)
        if not check(value):
            raise LocalProtocolError(f"{type(frame).__name__}.{name} cannot be {_shown(value)}")
        values.append(value)
    return pack(values)


def unpack_frame(kind: int, channel: int, offset: int, body: bytes) -> Frame:
    """Return the frame of a checked head and its body.

    Raises:
        RemoteProtocolError: the body is not exactly the fields of its type.
    """
    if kind == Kind.ACK:
        return Ack(channel, offset, LIMIT.unpack(body)[0])
    if kind == Kind.PING:
        return Ping(offset)
    if kind == Kind.PONG:
        return Pong(offset)
    if kind == Kind.RESUME:
        return unpack_resume(body)
    return _unpack_body(kind, channel, body) if kind in _TYPES else Skipped(kind)


def _unpack_body(kind: int, channel: int, body: bytes) -> BodyFrame:
    made = _TYPES[kind]
    checks = _CHECKS[made]
    scan(body, len(checks) + 1, 1)
    values = unpack(body)
    if type(values) is not list or len(values) != len(checks):
        raise RemoteProtocolError("bad_body", f"{made.__name__} is not {len(checks)} fields")
    for value, (name, check) in zip(values, checks.items(), strict=True):
        if not check(value):
            raise RemoteProtocolError("bad_body", f"{made.__name__}.{name} is {_shown(value)}")
    return made(*values) if len(checks) == len(fields(made)) else made(channel, *values)


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
