"""The beginning of a TLS connection: it becomes a link, or one that is refused with a reason."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

from flare_async.limits import KIB, Limits
from flare_async.net.credentials import peer_name
from flare_async.transports.byte_link import shown_address
from flare_async.transports.handshakes import Handshakes, Turns
from flare_async.transports.refused_link import RefusedLink
from flare_async.transports.tls_engine import TlsEngine
from flare_async.transports.tls_link import SMALL_READ, TlsLink
from flare_async.transports.tls_words import refusal

__all__ = ["Plan", "Shared", "TlsHandshake"]

SCRATCH_BYTES: Final = 128 * KIB


@dataclass(frozen=True, slots=True)
class Shared:
    """What all links of one transport share; nothing stays in the scratch after a callback.

    So its loop must read into a buffer only when there is something to read, as selector loops and
    uvloop do.
    """

    limits: Limits
    turns: Turns = field(default_factory=Turns)
    scratch: memoryview = field(default_factory=lambda: memoryview(bytearray(SCRATCH_BYTES)))


@dataclass(frozen=True, slots=True)
class Plan:
    """How connections of one listener, or the one of a connecting side, are to begin.

    ``made`` gets the result, once. ``hostname`` is whom to connect to, ``handshakes`` counts and
    times those of a listener.
    """

    context: ssl.SSLContext
    frame_bytes: int
    made: Callable[[TlsLink | RefusedLink], None]
    hostname: str | None = None
    handshakes: Handshakes | None = None


class TlsHandshake(asyncio.BufferedProtocol):
    """Reads and writes until both sides believe each other."""

    def __init__(self, shared: Shared, plan: Plan) -> None:
        self._shared = shared
        self._plan = plan
        self._engine = TlsEngine(plan.context, plan.hostname)
        self._transport: asyncio.Transport | None = None
        self._address = "unknown"
        self._heard = 0
        self._waits = False  # for its turn; nothing is read meanwhile
        self._done = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport; the connecting side speaks first."""
        self._transport = stream = cast("asyncio.Transport", transport)
        self._address = shown_address(stream.get_extra_info("peername"), "tls")
        handshakes = self._plan.handshakes
        if handshakes is None:
            self._take_turn()
        elif not handshakes.admit(self):
            self.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return a small part of the shared scratch."""
        return self._shared.scratch[:SMALL_READ]

    def buffer_updated(self, nbytes: int) -> None:
        """Keep what was read, and read no more until there was a turn."""
        if self._transport is not None and not self._done:
            self._heard += nbytes
            self._engine.feed(self._shared.scratch[:nbytes])
            self._transport.pause_reading()
            self._take_turn()

    def eof_received(self) -> None:
        """Give up: the peer has left, and everything before that was looked at."""
        self._left()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up: the peer has gone."""
        self._left(f": {exc}" if exc is not None and str(exc) else "")

    def too_late(self) -> None:
        """Give up: the time for the handshake is over."""
        if not self._done:
            seconds = self._shared.limits.handshake_timeout
            self._refuse(f"completed no TLS handshake within {seconds:g} s")
            self.abort()

    def abort(self) -> None:
        """End the connection now; nobody is told."""
        self._finish()
        if self._transport is not None:
            self._transport.abort()

    def _take_turn(self) -> None:
        if not self._waits:
            self._waits = True
            if self._plan.handshakes is not None:
                self._plan.handshakes.heard(self)
            self._shared.turns.take(self._step)

    def _step(self) -> None:
        self._waits = False
        transport, engine = self._transport, self._engine
        if self._done or transport is None:
            return
        try:
            complete = engine.shake()
        except ssl.SSLError as exc:
            transport.write(engine.take())
            self._refuse(*refusal(exc))
            return
        if said := engine.take():
            transport.write(said)
        if complete:
            self._succeed(transport)
            return
        if self._plan.handshakes is not None:
            self._plan.handshakes.answered(self)
        if not transport.is_reading():
            transport.resume_reading()

    def _succeed(self, transport: asyncio.Transport) -> None:
        plan, shared, engine = self._plan, self._shared, self._engine
        name = peer_name(engine.ssl_object)
        if plan.hostname is None and plan.context.verify_mode != ssl.CERT_NONE and name is None:
            self._refuse("its certificate names no site, neither as alternative nor common name")
            return
        self._finish()
        link = TlsLink(shared.limits, plan.frame_bytes, engine, shared.scratch)
        link.identity, link.address = name, self._address
        link.attach(transport)
        plan.made(link)

    def _left(self, why: str = "") -> None:
        if self._heard or self._plan.hostname is not None:
            hint = "" if self._heard else "does it speak TLS?"
            self._refuse(f"left in the middle of the TLS handshake{why}", hint)
        self._finish()  # a probe that connects and leaves is nobody's business

    def _refuse(self, problem: str, hint: str = "") -> None:
        transport = self._transport
        if self._done or transport is None:
            return
        self._finish()
        link = RefusedLink(self._shared.limits, self._address, (problem, hint), transport)
        if not transport.is_closing():
            transport.set_protocol(link)
            if self._plan.hostname is None and transport.can_write_eof():
                link.linger(transport)
            else:
                transport.close()
        self._plan.made(link)

    def _finish(self) -> None:
        self._done = True
        if self._plan.handshakes is not None:
            self._plan.handshakes.done(self)
