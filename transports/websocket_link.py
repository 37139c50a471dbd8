"""A link over a WebSocket: HTTP makes the connection, then the socket is ours.

Theory of operation. An HTTP exchange opens the connection: aiohttp's server on the accepting side,
one request of ours (``websocket_dial``) on the connecting side. After the ``101`` the transport is
taken over (``set_protocol``), and this protocol speaks RFC 6455 itself. What that buys:

* A batch of our frames leaves as one binary message, but a message is never assembled on arrival:
  bytes go to the decoder as they come. So no message is too long, and one that announces 2 GiB
  costs nothing: our decoder bounds our frames, and credit bounds what may come at all.
* What a server sends is not masked: after a head the decoder names the memory, and the kernel
  writes into the leased tensor, as over tcp. The other direction is masked by the rules of
  WebSocket: it is read into one scratch buffer that all links of a transport share, unmasked there,
  and fed. Reads are not interleaved, so one buffer is enough; a head of which a part has come is
  kept in its link, at most 139 bytes.
* ``writable`` and ``pending`` tell the state of the real write buffer, whose mark is one frame.

A Close frame is the end of a stream: whoever receives it sends what is pending, answers and closes.
Until a session starts the link nothing is read, so nobody has to keep what comes early. Pings of
proxies are answered; liveness is the session's own heartbeat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from flare_async.errors import LinkLost, RemoteProtocolError
from flare_async.limits import KIB, Limits
from flare_async.net.link import LinkReceiver
from flare_async.transports.byte_link import ByteLink
from flare_async.transports.websocket_budget import FrameBudget
from flare_async.transports.websocket_frames import (
    FrameHead,
    FrameScanner,
    Opcode,
    apply_mask,
    pack_frame_head,
    unmasked,
)
from flare_async.wire.codec import encode
from flare_async.wire.frames import Frame, Landed

__all__ = ["SCRATCH_BYTES", "WebSocketLink", "Wiring"]

SCRATCH_BYTES: Final = 256 * KIB
HEAD_ROOM: Final = 4 * KIB  # what a read takes beyond the end of a frame
SMALL_PARTS: Final = 16 * KIB  # joining costs less than one more buffer for the kernel
NORMAL_END: Final = (1000).to_bytes(2, "big")
PROTOCOL_ERROR: Final = (1002).to_bytes(2, "big")


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a link needs beside its socket: who dialled, a scratch buffer, keys for masks."""

    dialled: bool
    scratch: memoryview
    new_key: Callable[[], bytes]


class WebSocketLink(ByteLink):
    """Frames over one WebSocket."""

    def __init__(self, limits: Limits, frame_bytes: int, wiring: Wiring) -> None:
        super().__init__(limits, frame_bytes)
        self._masks = wiring.dialled
        self._new_key = wiring.new_key
        self._scratch = self._room = wiring.scratch
        self._scanner = FrameScanner(masked=not wiring.dialled)
        self._budget = FrameBudget(asyncio.get_running_loop().time)
        self._before: asyncio.BaseProtocol | None = None
        self._gathers = False
        self._direct = False  # the last buffer was the decoder's
        self._carry = b""  # what came before start, then heads of which a part has come
        self._left = 0  # bytes of the current frame that have not come
        self._key = b""
        self._at = 0  # bytes of the current frame that have come

    def take_over(
        self, transport: asyncio.Transport, before: asyncio.BaseProtocol, early: bytes = b""
    ) -> None:
        """Take a transport from the protocol that has read up to ``early``.

        That one is told of the connection's end as well: it has an owner who waits for it.
        """
        # uvloop chooses how to read when reading starts, so it must start anew.
        transport.pause_reading()
        transport.set_protocol(self)
        self._transport = transport
        self._before = before
        self._carry = early
        # uvloop sends a list of buffers without joining them, asyncio before 3.12 joins.
        self._gathers = type(transport).__module__.startswith("uvloop")
        mark = max(256 * KIB, self.frame_bytes)
        transport.set_write_buffer_limits(high=mark, low=mark // 4)

    # What asyncio tells

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes belong; never empty."""
        self._direct = self._masks and self._left > 0
        if self._direct:
            return self._decoder.buffer()[: self._left]
        # Between messages a read is short: thousands of tiny ones would hold the loop for long.
        self._room = self._scratch[: self._left + HEAD_ROOM]
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        """Decode what was read and push the frames into the session."""
        try:
            if self._direct:
                frames = self._decoder.advance(nbytes)
                self._left -= nbytes
                self._deliver(frames)
            else:
                self._take(self._room[:nbytes])
        except RemoteProtocolError as exc:
            self._refuse(exc)

    def eof_received(self) -> None:
        """Take the end of the connection; asyncio closes the transport next."""
        if self._left or self._carry or self._scanner.inside:
            self._end(LinkLost(self.address, "the connection ended inside a message"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the session, once, and whoever owns the connection."""
        super().connection_lost(exc)
        before, self._before = self._before, None
        if before is not None:
            before.connection_lost(exc)

    # What a session asks

    @property
    def lost(self) -> bool:
        """Whether the link has ended, though its socket may still be closing."""
        return self._lost

    async def wait_gone(self) -> None:
        """Wait until the socket is closed, for as long as the link lives."""
        while not self._gone:
            await self._wake_up()

    def start(self, receiver: LinkReceiver) -> None:
        """Begin to read."""
        if self._lost:
            receiver.lost(self._error)
            return
        self._receiver = receiver
        early, self._carry = self._carry, b""
        if early:
            try:
                self._take(memoryview(early))
            except RemoteProtocolError as exc:
                self._refuse(exc)
        transport = self._transport
        if transport is None or transport.is_closing() or transport.is_reading():
            return
        transport.resume_reading()

    def send_soon(self, frames: Sequence[Frame]) -> None:
        """Hand the frames to the transport as one message; dropped when the link has ended."""
        if self._lost or self._closing or self._transport is None:
            return
        parts: list[bytes | memoryview] = []
        length = 0
        for frame in frames:
            head, payload = encode(frame)
            parts.append(head)
            length += len(head)
            if payload:
                parts.append(payload)
                length += len(payload)
        if length:
            self._send(self._transport, parts, length)

    # Internals

    def _take(self, view: memoryview) -> None:
        """Split what was read into frames; what is a part of a head stays for the next read."""
        data = memoryview(self._carry + bytes(view)) if self._carry else view
        self._carry = b""
        while data and not self._lost:
            if self._left:
                piece = data[: self._left]
                self._left -= len(piece)
                # Message by message: what came first is obeyed before the next one counts as here.
                self._deliver(self._decoder.feed(self._plain(piece)))
                data = data[len(piece) :]
                continue
            head = self._scanner.scan(data)
            if head is None or (head.is_control and len(data) < head.size + head.length):
                self._carry = bytes(data)
                break
            self._budget.spend(head)
            data = data[head.size :]
            if head.is_control:
                self._obey(head, data[: head.length])
                data = data[head.length :]
            else:
                self._left, self._key, self._at = head.length, head.key, 0

    def _plain(self, piece: memoryview) -> memoryview | bytearray:
        if not self._key:
            return piece
        plain = bytearray(piece)
        turn = self._at % len(self._key)
        apply_mask(self._key[turn:] + self._key[:turn], plain)
        self._at += len(piece)
        return plain

    def _deliver(self, frames: Sequence[Frame | Landed]) -> None:
        if self._receiver is not None:
            self._receiver.receive(frames)

    def _obey(self, head: FrameHead, body: memoryview) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if head.opcode is Opcode.CLOSE:
            self._say_close(transport, NORMAL_END)
            transport.close()
        elif head.opcode is Opcode.PING and not self._closing and self.writable:
            self._send_control(transport, Opcode.PONG, unmasked(head.key, body))

    def _half_close(self, transport: asyncio.Transport) -> None:
        self._say_close(transport, NORMAL_END)
        if self._receiver is None:
            transport.close()

    def _refuse(self, error: RemoteProtocolError) -> None:
        # The session's last words go first; ``_end`` then closes after what is pending.
        receiver, self._receiver = self._receiver, None
        if receiver is not None and not self._lost:
            receiver.lost(error)
        if self._transport is not None and not self._lost:
            self._say_close(self._transport, PROTOCOL_ERROR)
        self._end(error)

    def _say_close(self, transport: asyncio.Transport, reason: bytes) -> None:
        if not self._closing and not transport.is_closing():
            self._send_control(transport, Opcode.CLOSE, reason)
        self._closing = True

    def _send_control(self, transport: asyncio.Transport, opcode: Opcode, body: bytes) -> None:
        key = self._new_key() if self._masks else b""
        transport.write(pack_frame_head(opcode, len(body), key) + unmasked(key, body))

    def _send(
        self, transport: asyncio.Transport, parts: list[bytes | memoryview], length: int
    ) -> None:
        if self._masks:
            key = self._new_key()
            masked = bytearray().join(parts)
            apply_mask(key, masked)
            parts = [pack_frame_head(Opcode.BINARY, length, key), memoryview(masked)]
        else:
            parts = [pack_frame_head(Opcode.BINARY, length), *parts]
        if self._gathers:
            transport.writelines(parts)
            return
        small: list[bytes | memoryview] = []
        for part in parts:
            if len(part) <= SMALL_PARTS:
                small.append(part)
                continue
            transport.write(b"".join(small))
            small = []
            transport.write(part)
        if small:
            transport.write(b"".join(small))
