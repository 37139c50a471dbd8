"""What a trainer prints: always drained, forwarded up to a rate, its end remembered."""

from __future__ import annotations

import codecs
import re
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeAlias

from flare_async.limits import KIB, MIB

__all__ = ["Forwarder", "Print", "Tail", "print_line"]

RATE: Final = 256 * KIB  # bytes a second of one trainer that are forwarded
BURST: Final = 1 * MIB
LINE: Final = 8 * KIB  # what has no end by then is shown as a line
TAIL_BYTES: Final = 64 * KIB
TAIL_LINES: Final = 50
MAX_LINE: Final = 500
ENDS: Final = re.compile(r"\r\n|\n|\r")

Print: TypeAlias = Callable[[int, str], None]


def print_line(stream: int, line: str) -> None:
    """Print a line on our own stream of that number; nobody may be reading it."""
    out = sys.stderr if stream == 2 else sys.stdout
    with suppress(OSError, ValueError):
        if out is not None:
            out.write(f"{line}\n")


class Tail:
    """The last bytes of a stream, kept as they came."""

    __slots__ = ("_parts", "_size")

    def __init__(self) -> None:
        self._parts: deque[bytes] = deque()
        self._size = 0

    def add(self, data: bytes) -> None:
        """Take more of the stream."""
        self._parts.append(data)
        self._size += len(data)
        while self._size - len(self._parts[0]) >= TAIL_BYTES:
            self._size -= len(self._parts.popleft())

    def lines(self) -> list[str]:
        """Return the last lines, long ones cut."""
        text = b"".join(self._parts)[-TAIL_BYTES:].decode(errors="replace")
        lines = [line[:MAX_LINE] for line in ENDS.split(text) if line.strip()]
        return lines[-TAIL_LINES:]


class Forwarder:
    """Passes the lines of one trainer's two streams on, with its site's name before each.

    More than ``RATE`` bytes a second, above a first ``BURST``, is dropped and counted; the next
    line that finds room is preceded by a line that says how much.
    """

    def __init__(self, site: str, now: Callable[[], float], show: Print = print_line) -> None:
        self._site = site
        self._now = now
        self._show = show
        self._room = float(BURST)
        self._at = now()
        self._dropped = 0
        self._streams: dict[int, _Stream] = {}
        self.received = 0

    @property
    def dropped(self) -> int:
        """The bytes that were not forwarded and not told of yet."""
        return self._dropped

    def add(self, stream: int, data: bytes) -> None:
        """Take what was printed on standard output (1) or standard error (2)."""
        self.received += len(data)
        now = self._now()
        self._room = min(BURST, self._room + RATE * (now - self._at))
        self._at = now
        known = self._streams.setdefault(stream, _Stream())
        known.tail.add(data)
        if len(data) > self._room:
            self._dropped += len(data)
            known.partial = ""
            return
        self._room -= len(data)
        self._tell_dropped(stream)
        for line in known.cut(data):
            self._show(stream, f"[{self._site}] {line}")

    def close(self) -> None:
        """Forward what has no end yet, and say what was dropped at last."""
        for stream, known in self._streams.items():
            if known.partial:
                self._show(stream, f"[{self._site}] {known.partial}")
                known.partial = ""
        self._tell_dropped(2)

    def last_lines(self) -> list[str]:
        """Return the end of standard error, or of standard output where that is empty."""
        for stream in (2, 1):
            known = self._streams.get(stream)
            lines = [] if known is None else known.tail.lines()
            if lines:
                return lines
        return []

    def _tell_dropped(self, stream: int) -> None:
        if self._dropped:
            size = f"{self._dropped / 1e6:.1f} MB"
            self._dropped = 0
            self._show(stream, f"[{self._site}] ... dropped {size} of output")


class _Stream:
    """One stream on its way: what has no end yet, and the end of all."""

    __slots__ = ("_decoder", "partial", "tail")

    def __init__(self) -> None:
        self.tail = Tail()
        self.partial = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def cut(self, data: bytes) -> list[str]:
        """Return the lines that have ended, or grown too long; progress bars end with "\\r"."""
        *lines, self.partial = ENDS.split(self.partial + self._decoder.decode(data))
        if len(self.partial) > LINE:
            lines.append(self.partial)
            self.partial = ""
        return [line for line in lines if line]
