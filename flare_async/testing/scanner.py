"""Finds the frames in a stream of bytes from their heads alone; for taps, never for a session.

It trusts the stream, keeps at most one head and copies no payload, so it can follow gigabytes. What
does not begin like the protocol, such as TLS, is opaque: no frame is found in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from flare_async.wire.head import FLAG_END, HEAD_BYTES, PREAMBLE, Kind, body_bytes

__all__ = ["FrameMark", "FrameScanner"]

NEEDED = 8  # length, type, flags and trailer: enough to know a frame before its head is complete


@dataclass(frozen=True, slots=True)
class FrameMark:
    """A frame that has begun: where its head starts in the stream, and what it is.

    ``payload`` are the bytes of a channel, at the end of its ``length`` bytes.
    """

    start: int
    length: int
    kind: int
    end: bool
    payload: int

    @property
    def is_payload(self) -> bool:
        """Whether it brings bytes of a channel."""
        return self.payload > 0


class FrameScanner:
    """Follows one direction of one connection."""

    __slots__ = (
        "_body",
        "_head",
        "_load",
        "_marked",
        "_preamble",
        "opaque",
        "payload",
        "runs",
        "seen",
    )

    def __init__(self) -> None:
        self.seen = 0  # bytes of the stream
        self.payload = 0  # bytes of channels among them
        self.opaque = False
        self.runs: list[tuple[int, int]] = []  # (place, length) of payload in the last piece
        self._preamble = 0  # bytes of the preamble that were seen
        self._head = b""
        self._marked = False  # the frame of the head in progress is known
        self._body = 0  # bytes of the body that are due, before its payload
        self._load = 0  # bytes of payload that are due

    def feed(self, data: bytes | bytearray | memoryview) -> list[FrameMark]:
        """Follow the next bytes; return the frames that became known by them."""
        found: list[FrameMark] = []
        self.runs = []
        at, total = self._skip_preamble(data), len(data)
        while at < total and not self.opaque:
            if self._body:
                count = min(self._body, total - at)
                self._body -= count
            elif self._load:
                count = min(self._load, total - at)
                self._load -= count
                self.payload += count
                self.runs.append((at, count))
            else:
                count = min(HEAD_BYTES - len(self._head), total - at)
                self._head += bytes(data[at : at + count])
                self._note(self.seen + at + count - len(self._head), found)
            at += count
        self.seen += total
        return found

    def _skip_preamble(self, data: bytes | bytearray | memoryview) -> int:
        due = PREAMBLE[self._preamble : self._preamble + len(data)]
        if bytes(data[: len(due)]) != due:
            self.opaque = True
        self._preamble += len(due)
        return len(due)

    def _note(self, start: int, found: list[FrameMark]) -> None:
        head = self._head
        if len(head) < NEEDED:
            return
        length, end = int.from_bytes(head[:4]), bool(head[5] & FLAG_END)
        trailer = body_bytes(int.from_bytes(head[6:8])) if end else 0
        payload = length - trailer if head[4] == Kind.DATA else 0
        mark = FrameMark(start, length, head[4], end, payload)
        if not self._marked:
            self._marked = True
            found.append(mark)
        if len(head) == HEAD_BYTES:
            self._head, self._marked = b"", False
            self._body, self._load = mark.length - mark.payload, mark.payload
