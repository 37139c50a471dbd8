"""Mutations of recorded links: of one frame's bytes, or of the order in which frames come."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random
from typing import Final
from zlib import crc32

import msgpack

from flare_async.wire.head import FLAG_END, HEAD, HEAD_BYTES, PREAMBLE, Kind

__all__ = ["BOUNDARIES", "forged_frame", "mutate_body", "mutate_link", "mutate_value"]

CHECKED: Final = struct.Struct(">IBBHIQ")
FIELD_BITS: Final = (32, 8, 8, 16, 32, 64)  # length, kind, flags, trailer, channel, offset
BOUNDARIES: Final = (
    *(0, 1, 2, 3, 9, 23, 24, 127, 128, 255, 256, 1023, 1024, 1025, 4096, 4097, 16_384, 16_385),
    *(2**15, 2**16 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1),
    *(2**63, 2**63 + 1, 2**64 - 1),
)
VALUES: Final = (
    *(None, True, False, 0.5, float("nan"), float("inf"), 1e308, -0.0, -1, -(2**31), -(2**63)),
    *("", "x", "\x1b[31m", "a\nb", "\u202e", "x" * 256, "x" * 3000, b"", b"\0" * 16, b"x" * 3000),
    *([], [0], [[[[0]]]], {}, {"a": 1}, {"a": {"a": []}}, msgpack.ExtType(5, b"x")),
)
MSGPACK_KINDS: Final = frozenset({Kind.HELLO, Kind.OPEN, Kind.RESET, Kind.GOODBYE})
CHECKSUM_SHARE: Final = 0.9  # else the checksums would catch nearly all


def mutate_link(dice: Random, link: list[bytes], others: list[bytes]) -> list[bytes]:
    """Return the frames of a link with one mutation; ``others`` are frames to splice in."""
    if not link:
        return [dice.choice(others)]
    if dice.random() < 0.65:
        at = dice.randrange(len(link))
        return [*link[:at], mutate_frame(dice, link[at]), *link[at + 1 :]]
    return dice.choice(ORDERS)(dice, link, others)


def mutate_frame(dice: Random, data: bytes) -> bytes:
    """Return a frame with another bit, field or body; mostly with the right checksum."""
    greeting, frame = (PREAMBLE, data[8:]) if data.startswith(PREAMBLE) else (b"", data)
    if len(frame) < HEAD_BYTES or (greeting and dice.random() < 0.1):
        return flip_bit(dice, data)
    return greeting + dice.choice(EDITS)(dice, frame)


def flip_bit(dice: Random, data: bytes) -> bytes:
    """Return bytes with another bit."""
    if not data:
        return b"\0"
    changed, bit = bytearray(data), dice.randrange(len(data) * 8)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _flip(dice: Random, frame: bytes) -> bytes:
    return _checked(dice, flip_bit(dice, frame))


def _field(dice: Random, frame: bytes) -> bytes:
    fields = list(HEAD.unpack_from(frame)[:6])
    at = dice.choice((0, 1, 2, 3, 4, 4, 4, 5, 5, 5))
    value = dice.choice(BOUNDARIES) if dice.random() < 0.5 else fields[at] + _step(dice)
    fields[at] = value % 2 ** FIELD_BITS[at]
    body = frame[HEAD_BYTES:]
    if at == 0 and dice.random() < 0.5:  # an honest length, of a body of another size
        body = (body + bytes(max(0, min(fields[0], 20_000) - len(body))))[: fields[0]]
    return _checked(dice, CHECKED.pack(*fields) + bytes(4) + body)


def _step(dice: Random) -> int:
    return dice.choice((-2, -1, 1, 2, 4, dice.randint(-5000, 5000)))


def _body(dice: Random, frame: bytes) -> bytes:
    length, kind, *rest = HEAD.unpack_from(frame)
    sealed = _is_sealed(kind, rest[0])
    body = frame[HEAD_BYTES : HEAD_BYTES + length]
    body = body[:-4] if sealed else body
    if kind in MSGPACK_KINDS and dice.random() < 0.8:
        body = mutate_body(dice, body)
    elif len(body) >= 8:
        at = dice.choice((0, 8, dice.randrange(len(body) - 7)))
        at = min(at, len(body) - 8)
        number = int.from_bytes(body[at : at + 8], "big") + _step(dice)
        number = dice.choice((number, number, dice.choice(BOUNDARIES))) % 2**64
        body = body[:at] + number.to_bytes(8, "big") + body[at + 8 :]
    else:
        body = flip_bit(dice, body)
    body += bytes(4) if sealed and body else b""
    return _checked(dice, CHECKED.pack(len(body), kind, *rest[:4]) + bytes(4) + body)


def _checked(dice: Random, frame: bytes) -> bytes:
    if dice.random() >= CHECKSUM_SHARE:
        return frame
    length, kind, flags = HEAD.unpack_from(frame)[:3]
    return _sealed(frame[:20], frame[HEAD_BYTES:], length if _is_sealed(kind, flags) else 0)


def _is_sealed(kind: int, flags: int) -> bool:
    """Tell whether a body ends with its checksum: payload does not."""
    return kind != Kind.DATA or bool(flags & FLAG_END)


def _sealed(checked: bytes, body: bytes, length: int) -> bytes:
    """Put the right checksums into a frame whose head says ``length``; 0 leaves its body alone."""
    if 4 < length <= len(body):
        content = body[: length - 4]
        body = content + crc32(checked + content).to_bytes(4) + body[length:]
    return checked + crc32(checked).to_bytes(4) + body


def _drop(dice: Random, link: list[bytes], _: list[bytes]) -> list[bytes]:
    at = dice.randrange(len(link))
    return link[:at] + link[at + 1 :]


def _twice(dice: Random, link: list[bytes], _: list[bytes]) -> list[bytes]:
    at, count = dice.randrange(len(link)), dice.choice((1, 1, 1, 1, 5, 40, 400))
    return link[:at] + [link[at]] * count + link[at:]


def _swap(dice: Random, link: list[bytes], _: list[bytes]) -> list[bytes]:
    one, other = dice.randrange(len(link)), dice.randrange(len(link))
    changed = list(link)
    changed[one], changed[other] = changed[other], changed[one]
    return changed


def _splice(dice: Random, link: list[bytes], others: list[bytes]) -> list[bytes]:
    at = dice.randrange(len(link) + 1)
    return [*link[:at], dice.choice(others), *link[at:]]


def _truncate(dice: Random, link: list[bytes], _: list[bytes]) -> list[bytes]:
    at = dice.randrange(len(link))
    return [*link[:at], link[at][: dice.randrange(len(link[at]) + 1)]]


def _insert(dice: Random, link: list[bytes], _: list[bytes]) -> list[bytes]:
    at = dice.randrange(len(link) + 1)
    return [*link[:at], forged_frame(dice), *link[at:]]


def forged_frame(dice: Random) -> bytes:
    """Return a frame of boundary values with the right checksum, or noise."""
    if dice.random() < 0.1:
        return dice.randbytes(dice.randrange(1, 60))
    kind = dice.choice((*Kind, dice.randrange(256)))
    flags = dice.choice((0, 0, 0, 1, 0x80, dice.randrange(256)))
    body = dice.randbytes(dice.choice((0, 0, 8, 30)))
    if kind in MSGPACK_KINDS:
        body = msgpack.packb([dice.choice(VALUES) for _ in range(dice.choice((2, 7, 8)))])
    extra = len(body) if flags == 1 else dice.choice((0, 0, 0, 7))
    channel, offset = dice.choice(BOUNDARIES[:8]), dice.choice((0, 0, *BOUNDARIES)) % 2**64
    body += bytes(4) if body and _is_sealed(kind, flags) else b""
    checked = CHECKED.pack(len(body), kind, flags, extra, channel, offset)
    return _sealed(checked, body, len(body) if _is_sealed(kind, flags) else 0)


def mutate_body(dice: Random, body: bytes) -> bytes:
    """Return msgpack with one value changed, added or removed, or with other bytes."""
    if dice.random() < 0.3:
        return flip_bit(dice, body)
    try:
        value = msgpack.unpackb(body, strict_map_key=False)
    except (ValueError, msgpack.UnpackException, TypeError):
        return flip_bit(dice, body)
    changed: bytes = msgpack.packb(mutate_value(dice, value))
    return changed + dice.choice((b"", b"", b"", b"", b"\0", b"\xc1"))


def mutate_value(dice: Random, value: object) -> object:
    """Return a value with one change somewhere inside."""
    if isinstance(value, list) and value and dice.random() < 0.85:
        at = dice.randrange(len(value))
        draw = dice.random()
        if draw < 0.2:
            return [*value[:at], *([value[at]] * dice.choice((0, 2))), *value[at + 1 :]]
        return [*value[:at], mutate_value(dice, value[at]), *value[at + 1 :]]
    if isinstance(value, dict) and value and dice.random() < 0.7:
        key = dice.choice(list(value))
        return {**value, dice.choice((key, key, "x", 7)): mutate_value(dice, value[key])}
    if type(value) is int and dice.random() < 0.5:
        return min(max(value + _step(dice), -(2**63)), 2**64 - 1)
    if dice.random() < 0.1:
        return _nested(dice.choice((3, 31, 33, 400)))
    return dice.choice((*VALUES, *BOUNDARIES))


def _nested(levels: int) -> object:
    value: object = 0
    for _ in range(levels):
        value = [value]
    return value


EDITS: Final[tuple[Callable[[Random, bytes], bytes], ...]] = (_flip, _field, _field, _body, _body)
ORDERS: Final[tuple[Callable[[Random, list[bytes], list[bytes]], list[bytes]], ...]] = (
    *(_drop, _twice, _swap, _splice, _truncate, _insert),
)
