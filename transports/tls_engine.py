"""One TLS connection without a socket: ciphertext in, plaintext out, and back.

Memory decides the sizes here. OpenSSL's memory buffers grow to the largest amount that they ever
held and never shrink, so both directions go through them in small pieces; OpenSSL's own buffers are
released between records by Python's settings.
"""

from __future__ import annotations

import contextlib
import ssl
from collections import deque
from typing import Final, cast

from flare_async.limits import KIB

__all__ = ["PIECE_BYTES", "TlsEngine"]

RECORD_BYTES: Final = 16 * KIB  # the longest record that TLS has
PIECE_BYTES: Final = 2 * RECORD_BYTES  # what goes through a memory buffer at a time


class TlsEngine:
    """Handshake, decryption and encryption; every wait is the caller's."""

    __slots__ = (
        "_failure",
        "_fresh",
        "_incoming",
        "_object",
        "_outgoing",
        "_queue",
        "ended",
        "queued",
        "sealed",
    )

    def __init__(self, context: ssl.SSLContext, hostname: str | None) -> None:
        """Begin a connection: the server's side, unless there is a host to connect to."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=hostname is None,
            server_hostname=hostname,
        )
        self._queue: deque[memoryview] = deque()
        self._fresh = memoryview(b"")
        self._failure: ssl.SSLError | None = None
        self.queued = 0  # bytes of plaintext that wait to be encrypted
        self.ended = False  # the peer has said that nothing follows
        self.sealed = False  # we have

    @property
    def ssl_object(self) -> ssl.SSLObject:
        """The connection's state, for its certificate."""
        return self._object

    @property
    def undecrypted(self) -> int:
        """Bytes that were fed and not yet read."""
        return self._incoming.pending

    def feed(self, data: memoryview) -> None:
        """Keep ciphertext for later."""
        self._incoming.write(data)

    def offer(self, data: memoryview) -> None:
        """Lend ciphertext, which ``read_into`` takes piece by piece until it returns less."""
        self._fresh = data

    def shake(self) -> bool:
        """Go on with the handshake; True when it is complete on this side.

        Raises:
            ssl.SSLError: it failed; ``take`` has an alert for the peer.
        """
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def read_into(self, room: memoryview) -> int:
        """Decrypt into ``room`` what fits; return less when there is no more (see ``check``)."""
        filled, size = 0, len(room)
        while filled < size and not self.ended and self._failure is None:
            count = self._read(room[filled:])
            if not count and not self._refill():
                break
            filled += count
        return filled

    def check(self) -> None:
        """Say whether reading has failed.

        Raises:
            ssl.SSLError: a record that is not the peer's, or an alert.
        """
        if self._failure is not None:
            raise self._failure

    def queue(self, part: bytes | memoryview) -> None:
        """Add plaintext; it is referenced until ``encrypt`` has taken it."""
        self._queue.append(memoryview(part))
        self.queued += len(part)

    def encrypt(self) -> bytes:
        """Return the next piece of the queue as ciphertext, with whatever TLS itself has to say."""
        if self._failure is not None:  # nothing can be sent on a connection that has failed
            self.forget()
        room = PIECE_BYTES
        while self._queue and room >= RECORD_BYTES:
            part = self._queue.popleft()
            if len(part) > room:
                whole = room - room % RECORD_BYTES
                self._queue.appendleft(part[whole:])
                part = part[:whole]
            room -= self._write(part)
        return self._outgoing.read()

    def take(self) -> bytes:
        """Return what TLS itself has to say: handshake, alerts, new keys."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def seal(self) -> bytes:
        """Return the end of our stream (close_notify); what the peer sends can still be read."""
        if not self.sealed:
            self.sealed = True
            with contextlib.suppress(ssl.SSLError):  # it wants the peer's end as well
                self._object.unwrap()
        return self.take()

    def forget(self) -> None:
        """Drop what is queued and what was lent."""
        self._fresh = memoryview(b"")
        self._queue.clear()
        self.queued = 0

    def _read(self, room: memoryview) -> int:
        read, filled = self._object.read, 0
        try:
            while filled < len(room):
                # With a buffer it returns a count, which the stub does not say.
                count = cast("int", read(len(room) - filled, room[filled:]))
                if not count:
                    self.ended = True
                    break
                filled += count
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as exc:  # what came before it is good
            self._failure = exc
        return filled

    def _refill(self) -> bool:
        fresh = self._fresh
        if self.ended or not fresh:
            return False
        self._incoming.write(fresh[:PIECE_BYTES])
        self._fresh = fresh[PIECE_BYTES:]
        return True

    def _write(self, part: memoryview) -> int:
        # A memory buffer takes everything, so that a write is never partial.
        self._object.write(part)
        self.queued -= len(part)
        return len(part)
