"""A link over TLS: our own engine between the socket and the decoder, with shared read memory.

All links of a transport read ciphertext into one scratch buffer, which is empty again before the
loop reads anything else; it is decrypted straight into the destination tensor. What is sent stays
where it is, as references, until the socket takes more: only then a small piece is encrypted, so
that a peer who does not read costs a few dozen KiB and not a frame.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import Final

from flare_async.errors import FlareError, LinkLost, RemoteProtocolError
from flare_async.limits import KIB, Limits
from flare_async.net.link import LinkReceiver
from flare_async.transports.byte_link import ByteLink
from flare_async.transports.tls_engine import PIECE_BYTES, TlsEngine
from flare_async.transports.tls_words import refusal
from flare_async.wire.codec import encode
from flare_async.wire.frames import Frame

__all__ = ["SMALL_READ", "TlsLink"]

SMALL_READ: Final = 4 * KIB  # before a session listens
SMALL_PARTS: Final = 16 * KIB  # joining costs less than one more record
UNHEARD: Final = "it said nothing: is it full, or is there no site's name in our certificate?"
UNREAD_ANSWERS: Final = 256 * KIB  # far more than the write buffer ever holds of our own


class TlsLink(ByteLink):
    """Frames over one TLS connection whose handshake is done."""

    def __init__(
        self, limits: Limits, frame_bytes: int, engine: TlsEngine, scratch: memoryview
    ) -> None:
        super().__init__(limits, frame_bytes)
        self._engine = engine
        self._scratch = scratch
        self._eof = False
        self._heard = False

    def attach(self, transport: asyncio.Transport) -> None:
        """Take over a transport from the handshake."""
        self._transport = transport
        transport.set_write_buffer_limits(high=PIECE_BYTES, low=PIECE_BYTES // 4)
        transport.set_protocol(self)
        if not (self._engine.undecrypted or transport.is_reading()):
            transport.resume_reading()

    # What asyncio tells

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the shared scratch, or little of it while nobody listens."""
        return self._scratch[:SMALL_READ] if self._receiver is None else self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        """Decrypt and decode what was read and push the frames into the session."""
        if self._receiver is not None:
            self._read(self._scratch[:nbytes])
        elif self._transport is not None and not self._lost:
            self._engine.feed(self._scratch[:nbytes])
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Take the end of the stream; True keeps our direction open."""
        self._eof = True
        return self._receiver is None or self._stays_open()

    def resume_writing(self) -> None:
        """Encrypt more, now that the write buffer has room."""
        self._paused = False
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the session, once."""
        if exc is not None:
            self._leave(LinkLost(self.address, str(exc) or type(exc).__name__))
        else:
            self._leave(None if self._engine.ended else self._truncated())

    # What a session asks

    @property
    def writable(self) -> bool:
        """Whether everything is encrypted and the write buffer is below its mark."""
        return not (self._paused or self._lost or self._engine.queued)

    @property
    def pending(self) -> int:
        """Bytes that wait to be encrypted, and those in the write buffer."""
        transport = self._transport
        if transport is None or self._lost:
            return 0
        return self._engine.queued + transport.get_write_buffer_size()

    def start(self, receiver: LinkReceiver) -> None:
        """Begin to read."""
        if self._lost or self._transport is None:
            receiver.lost(self._error)
            return
        self._receiver = receiver
        if self._engine.undecrypted:
            self._read(memoryview(b""))
        self._resume(self._transport)

    def send_soon(self, frames: Sequence[Frame]) -> None:
        """Queue the frames and encrypt what the socket takes; dropped when the link has ended."""
        if self._lost or self._closing:
            return
        small: list[bytes | memoryview] = []
        for frame in frames:
            head, payload = encode(frame)
            small.append(head)
            if len(payload) > SMALL_PARTS:
                self._engine.queue(b"".join(small))
                self._engine.queue(payload)
                small = []
            elif payload:
                small.append(payload)
        if small:
            self._engine.queue(b"".join(small))
        self._send()

    # Internals

    def _read(self, data: memoryview) -> None:
        engine = self._engine
        engine.offer(data)
        try:
            self._decrypt()
            engine.check()
            if engine.ended and not self._lost:
                self._decoder.eof()
        except RemoteProtocolError as exc:
            self._end(exc)
        except ssl.SSLError as exc:
            engine.forget()
            self._end(LinkLost(self.address, *refusal(exc)))
        else:
            self._answer()

    def _decrypt(self) -> None:
        told = False
        while (receiver := self._receiver) is not None:
            room = self._decoder.buffer()
            count = self._engine.read_into(room)
            self._heard = self._heard or count > 0
            frames = self._decoder.advance(count)
            if frames or not (told or count == len(room)):
                receiver.receive(frames)
                told = True
            if count < len(room):
                return

    def _answer(self) -> None:
        """Send what TLS itself has to say after a read: new keys, or the end after the peer's."""
        transport, engine = self._transport, self._engine
        if transport is None or self._lost:
            return
        said = engine.take()
        if said and not engine.sealed:
            transport.write(said)
            if transport.get_write_buffer_size() > UNREAD_ANSWERS:
                self._end(LinkLost(self.address, "asks for answers and reads none"))
        if engine.ended:
            self._closing = True
            self._send()

    def _send(self) -> None:
        transport, engine = self._transport, self._engine
        if transport is None or self._lost:
            return
        while engine.queued and not self._paused:
            transport.write(engine.encrypt())
        if engine.queued:
            return
        if self._closing:
            self._seal(transport)
        self._wake()

    def _seal(self, transport: asyncio.Transport) -> None:
        if not self._engine.sealed:
            transport.write(self._engine.seal())
        if self._receiver is None or self._engine.ended:
            transport.close()

    def _half_close(self, transport: asyncio.Transport) -> None:
        self._closing = True
        self._send()

    def _resume(self, transport: asyncio.Transport) -> None:
        if self._eof and not self._stays_open():
            transport.close()
        elif not (self._lost or transport.is_reading()):
            transport.resume_reading()

    def _stays_open(self) -> bool:
        if not self._engine.ended:
            self._end(self._truncated())
        return not (self._lost or self._engine.sealed)

    def _truncated(self) -> LinkLost:
        problem = "was cut off: the connection ended without TLS's own end"
        return LinkLost(self.address, problem, "" if self._heard else UNHEARD)

    def _end(self, error: FlareError | None) -> None:
        super()._end(error)
        self._engine.forget()

    def _close_transport(self, transport: asyncio.Transport) -> None:
        """Send the session's last words, however full the buffer is, and close."""
        engine = self._engine
        if not (self._gone or transport.is_closing()):
            while engine.queued:
                transport.write(engine.encrypt())
            transport.write(engine.seal())
        transport.close()
