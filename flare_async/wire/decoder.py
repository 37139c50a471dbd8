"""Bytes to frames, without a copy where the application has leased memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias
from zlib import crc32

from flare_async.errors import LocalProtocolError, RemoteProtocolError
from flare_async.limits import KIB, Limits
from flare_async.wire.bodies import unpack_frame
from flare_async.wire.checks import check_body, check_control, check_data, not_flare, not_ours
from flare_async.wire.frames import Data, Frame, Landed
from flare_async.wire.head import CHECKSUM, FLAG_DONE, HEAD, HEAD_BYTES, PREAMBLE, Kind

__all__ = ["PIECE_BYTES", "Decoder", "Destination"]

PIECE_BYTES: Final = 64 * KIB
_SCRATCH_BYTES: Final = 4 * KIB
_CHECKED_BYTES: Final = HEAD_BYTES - CHECKSUM.size

Destination: TypeAlias = Callable[[int, int, int], memoryview | None]
Decoded: TypeAlias = Frame | Landed


class Decoder:
    """Turns what a link reads into frames.

    Read into ``buffer()``, then call ``advance(n)``; ``feed`` does both. ``destination(channel,
    offset, length)`` names memory for payload bytes (a writable, contiguous view of bytes, possibly
    shorter) or None; it is asked again at each ``buffer()``, so a lease that is withdrawn sends
    the rest of the frame to memory of the decoder. Leased bytes are reported as ``Landed``, one a
    contiguous run of a frame; the others as ``Data`` in pieces that end at multiples of 64 KiB
    within the frame, so that a length that lies costs at most one piece; the last brings the end.
    """

    __slots__ = (
        "_body",
        "_channel",
        "_checksum",
        "_destination",
        "_done",
        "_end",
        "_error",
        "_have",
        "_hello",
        "_kind",
        "_length",
        "_limits",
        "_offset",
        "_out",
        "_piece",
        "_position",
        "_preamble",
        "_rest",
        "_room",
        "_run",
        "_scratch",
        "_trailer",
    )

    def __init__(
        self, destination: Destination | None = None, *, limits: Limits, preamble: bool = True
    ) -> None:
        self._destination = destination
        self._limits = limits
        self._preamble = preamble  # the preamble is still due
        self._hello = preamble  # the first frame must be a Hello
        self._scratch: memoryview | None = None  # there only while something is being read
        self._rest = b""  # the beginning of a head
        self._out: list[Decoded] = []
        self._error: RemoteProtocolError | None = None
        self._room = 0  # what the last buffer() offered
        self._kind = self._channel = self._offset = 0  # of the frame in progress
        self._body = self._checksum = 0  # of the control body in progress; of its head
        self._length = self._position = 0  # payload in progress: 0 is none
        self._end: int | None = None  # bytes of trailer in the end frame in progress
        self._done = False
        self._trailer = b""
        self._run = -1  # where the leased run began, as a position in the frame
        self._piece: memoryview | None = None  # collects a control body or unleased payload
        self._have = 0

    def buffer(self) -> memoryview:
        """Return where the next bytes go; never empty.

        Raises:
            RemoteProtocolError: the stream is broken since an earlier call.
        """
        if self._error is not None:
            raise self._error
        if self._piece is not None:
            room = self._piece[self._have :]
        elif self._length:
            room = self._lease() or self._collect(self._piece_size(), b"")
        else:
            room = self._open_scratch()[len(self._rest) :]
        self._room = len(room)
        return room

    def advance(self, nbytes: int) -> list[Frame | Landed]:
        """Take note that ``nbytes`` were written into ``buffer()``; return what is complete.

        Raises:
            RemoteProtocolError: the peer broke the protocol; every later call raises it again.
            LocalProtocolError: more bytes than the buffer had.
        """
        if self._error is not None:
            raise self._error
        if not 0 <= nbytes <= self._room:
            raise LocalProtocolError(f"advanced by {nbytes} bytes in a buffer of {self._room}")
        self._room = 0
        try:
            if self._piece is not None:
                self._have += nbytes
                if self._have == len(self._piece):
                    self._finish_piece(self._piece)
            elif self._length:
                self._position += nbytes
                self._finish_payload()
            else:
                self._parse(self._open_scratch()[: len(self._rest) + nbytes])
        except RemoteProtocolError as error:
            self._error = error
            raise
        out, self._out = self._out, []
        return out

    def feed(self, data: bytes | bytearray | memoryview) -> list[Frame | Landed]:
        """Decode data; a loop over ``buffer`` and ``advance`` that copies.

        Raises:
            RemoteProtocolError: as ``advance``.
        """
        found: list[Decoded] = []
        rest = memoryview(data)
        while rest:
            room = self.buffer()
            count = min(len(room), len(rest))
            room[:count] = rest[:count]
            found += self.advance(count)
            rest = rest[count:]
        return found

    def eof(self) -> None:
        """Take note of the end of the stream.

        Raises:
            RemoteProtocolError: it came in the middle of a frame (``truncated``).
        """
        if self._error is None:
            begun = self._hello and not self._preamble
            if self._piece is None and not (self._length or self._rest or begun):
                return
            self._error = RemoteProtocolError("truncated", "the stream ended inside a frame")
        raise self._error

    def _open_scratch(self) -> memoryview:
        # An idle connection holds none of it: there are thousands of them.
        if self._scratch is None:
            self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
            self._scratch[: len(self._rest)] = self._rest
        return self._scratch

    def _parse(self, data: memoryview) -> None:
        self._scratch = None
        end = len(data)
        start = self._skip_preamble(data)
        while True:
            if self._length:
                start = self._absorb(data, start)
            if self._piece is not None or self._length or end - start < HEAD_BYTES:
                break
            self._parse_head(data, start)
            start += HEAD_BYTES
            if not self._length:
                start = self._take_body(data, start)
        self._rest = bytes(data[start:])

    def _skip_preamble(self, data: memoryview) -> int:
        if not self._preamble:
            return 0
        count = min(len(data), len(PREAMBLE))
        if data[:count] != PREAMBLE[:count]:
            not_ours(bytes(data[:count]))
        if count < len(PREAMBLE):
            return 0
        self._preamble = False
        return count

    def _parse_head(self, data: memoryview, start: int) -> None:
        length, kind, flags, extra, channel, offset, crc = HEAD.unpack_from(data, start)
        if crc32(data[start : start + _CHECKED_BYTES]) != crc:
            raise RemoteProtocolError("bad_head", "the checksum of a frame head does not match")
        if self._hello and kind != Kind.HELLO:
            not_flare()
        self._hello = False
        self._kind, self._channel, self._offset = kind, channel, offset
        self._body, self._checksum = length, crc
        head = (length, kind, flags, extra, channel, offset)
        if kind != Kind.DATA:
            check_control(head, self._limits)
            return
        payload = check_data(head, self._limits.frame_bytes)
        if flags:
            self._end, self._done, self._body = payload, bool(flags & FLAG_DONE), length - payload
        else:
            self._length, self._position = length, 0

    def _take_body(self, data: memoryview, start: int) -> int:
        """Complete a control frame from the data, or begin to collect its body."""
        if len(data) - start >= self._body:
            stop = start + self._body
            self._finish_body(bytes(data[start:stop]))
            return stop
        self._collect(self._body, data[start:])
        return len(data)

    def _collect(self, size: int, there: bytes | memoryview) -> memoryview:
        """Begin a piece with the bytes that are there already."""
        piece = self._piece = memoryview(bytearray(size))
        self._have = len(there)
        piece[: self._have] = there
        return piece

    def _absorb(self, data: memoryview, start: int) -> int:
        """Move payload bytes from the data to where they belong; return how far."""
        end = len(data)
        while start < end and self._length:
            lease = self._lease()
            if lease is not None:
                count = min(len(lease), end - start)
                lease[:count] = data[start : start + count]
                start += count
                self._position += count
                self._finish_payload()
                continue
            size = self._piece_size()
            if end - start < size:
                self._collect(size, data[start:])
                return end
            self._deliver(bytes(data[start : start + size]))
            start += size
        return start

    def _lease(self) -> memoryview | None:
        """Ask for memory for the rest of the payload; None ends the leased run."""
        if self._destination is None:
            return None
        position = self._position
        left = self._length - position
        view = self._destination(self._channel, self._offset + position, left)
        if not view:
            self._end_run()
            return None
        if self._run < 0:
            self._run = position
        return view[:left] if len(view) > left else view

    def _end_run(self) -> None:
        if 0 <= self._run < self._position:
            self._out.append(
                Landed(self._channel, self._offset + self._run, self._position - self._run)
            )
        self._run = -1

    def _piece_size(self) -> int:
        stop = (self._position // PIECE_BYTES + 1) * PIECE_BYTES
        return min(stop, self._length) - self._position

    def _deliver(self, payload: bytes | memoryview) -> None:
        if self._end is None or self._position + len(payload) < self._length:
            self._out.append(Data(self._channel, self._offset + self._position, payload))
            self._position += len(payload)
            payload = b""
        self._finish_payload(payload)

    def _finish_payload(self, last: bytes | memoryview = b"") -> None:
        if self._position + len(last) == self._length:
            self._end_run()
            if self._end is not None:
                offset, self._end = self._offset + self._position, None
                self._out.append(Data(self._channel, offset, last, True, self._trailer, self._done))
            self._length = 0

    def _finish_piece(self, piece: memoryview) -> None:
        self._piece = None
        if self._length:
            self._deliver(piece.toreadonly())
        else:
            self._finish_body(bytes(piece))

    def _finish_body(self, body: bytes) -> None:
        body = check_body(body, self._checksum) if body else body
        if self._end is None:
            self._out.append(unpack_frame(self._kind, self._channel, self._offset, body))
            return
        self._trailer = body
        self._length, self._position = self._end, 0
        self._finish_payload()
